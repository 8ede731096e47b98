//! Agents' sessions with real controllers: orders, reports, leases, removal, renewal, consoles.

use std::time::Duration;

use serde_json::json;
use virtflow_controller::app::App;
use virtflow_logic::{Create, Delete, HostAct, HostVerb, Request};
use virtflow_model::Kind;
use virtflow_pki::{Certificate, KeyPair};
use virtflow_proto::agent::v1::agent_message::Body as Say;
use virtflow_proto::agent::v1::controller_message::Body as Hear;
use virtflow_proto::agent::v1::*;
use virtflow_types::ObjectId;

use super::player::*;
use super::support::*;

/// A data centre, a group, a tenant with a quota there, and a token for hosts of the group.
pub(crate) async fn site(app: &App) -> String {
    act(app, create(Kind::DataCenter, "dc1", json!({"region": "r"})))
        .await
        .unwrap();
    act(
        app,
        create(Kind::BaremetalGroup, "g1", json!({"data_center": "dc1"})),
    )
    .await
    .unwrap();
    act(app, create(Kind::Tenant, "acme", json!({})))
        .await
        .unwrap();
    let quota = json!({
        "group": "g1", "tenant": "acme",
        "cpu_quota_percentage": 100, "memory_mib": 4096, "storage_gib": 100,
    });
    act(app, create(Kind::BaremetalGroupTenantQuota, "", quota))
        .await
        .unwrap();
    join_token(app, json!({"role": "agent", "group": "g1"})).await
}

fn vm(name: &str) -> Request {
    let spec = json!({"cpu_cores": 1, "memory_mib": 256, "storage_gib": 1, "group": "g1"});
    Request::Create(Create {
        kind: Kind::VirtualMachine,
        name: Some(name.into()),
        tenant: Some("acme".into()),
        parent: None,
        spec,
        secret: None,
        password_hash: None,
    })
}

fn delete(kind: Kind, target: &str, force: bool) -> Request {
    Request::Delete(Delete {
        kind,
        target: target.into(),
        tenant: (kind == Kind::VirtualMachine).then(|| "acme".into()),
        force,
    })
}

fn phase_of(app: &App, id: ObjectId) -> String {
    let image = app.node().image();
    let Some(object) = image.get(id) else {
        return "gone".into();
    };
    let vm = virtflow_logic::decoded::<virtflow_model::kinds::VirtualMachine>(object).unwrap();
    vm.status.phase.name().into()
}

fn liveness_of(app: &App, id: ObjectId) -> String {
    let image = app.node().image();
    let object = image.get(id).unwrap();
    let host = virtflow_logic::decoded::<virtflow_model::kinds::Baremetal>(object).unwrap();
    format!("{:?}", host.status.liveness).to_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_placed_told_to_its_agent_seen_running_and_deleted() {
    let first = Controller::first(|_| {}).await;
    let token = site(&first.app).await;
    let host = Host::enrol(&first, &token, "S1").await.unwrap();
    let stolen = Host::enrol(&first, &token, "S2").await;
    assert!(stolen.is_err(), "the token was used with another key");
    let mut session = host.session(&first.config.agent_address(), "boot-1").await;
    assert!(session.desired.vms.is_empty());
    let made = act(&first.app, vm("web-1")).await.unwrap();
    assert_eq!(made.http_status, 202);
    let id = made.object_id.unwrap();
    let desired = session.desired_with(1, 0).await;
    let told = &desired.vms[0];
    assert_eq!(told.vm_id, id.as_bytes());
    let operation = made.operation_id.unwrap();
    let image = first.app.node().image();
    let operation = image.get(operation).unwrap();
    let operation = virtflow_logic::decoded::<virtflow_model::kinds::Operation>(operation).unwrap();
    let request_id = operation.status.request_id.unwrap().to_string();
    let cause = Cause {
        vm_id: told.vm_id.clone(),
        request_id,
    };
    assert_eq!(desired.causes, [cause]);
    assert_eq!(
        (told.cpu_cores, told.memory_mib, told.placement_epoch),
        (1, 256, 1)
    );
    let running = ObservedState {
        session: session.number,
        sequence: 1,
        host_epoch: session.host_epoch,
        boot_id: "boot-1".into(),
        hash: vec![7],
        vms: vec![ObservedVm {
            vm_id: id.as_bytes().to_vec(),
            placement_epoch: 1,
            phase: Phase::Running.into(),
            pid: 4711,
            generation: told.generation,
            carried_out: true,
            power_serial: told.power_serial,
            ..ObservedVm::default()
        }],
        ..ObservedState::default()
    };
    let stale = ObservedState {
        host_epoch: session.host_epoch + 1,
        ..running.clone()
    };
    session.say(Say::Observed(stale)).await;
    session.say(Say::Observed(running)).await;
    until("the VM to run", || phase_of(&first.app, id) == "running").await;
    act(&first.app, delete(Kind::VirtualMachine, "web-1", false))
        .await
        .unwrap();
    let desired = session.desired_with(0, 1).await;
    let stone = desired.tombstones[0].clone();
    assert_eq!(
        (stone.vm_id.as_slice(), stone.placement_epoch),
        (&id.as_bytes()[..], 1)
    );
    let confirmed = ObservedState {
        session: session.number,
        sequence: 2,
        host_epoch: session.host_epoch,
        boot_id: "boot-1".into(),
        hash: vec![8],
        confirmed: vec![stone],
        ..ObservedState::default()
    };
    session.say(Say::Observed(confirmed)).await;
    until("the VM to be gone", || phase_of(&first.app, id) == "gone").await;
    let image = first.app.node().image();
    assert_eq!(virtflow_state::verify(&image), []);
    assert!(virtflow_logic::verify_footprints(&image).is_empty());
    assert!(
        image
            .accounts()
            .all(|(key, account)| account.used == 0 || key.dimension == "idempotency_keys")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_follower_works_and_outlives_the_leader() {
    let mut all = three(|_| {}).await;
    let token = site(&all[0].app).await;
    // Enrolled through a follower, which passes the token on to the leader.
    let host = Host::enrol(&all[1], &token, "S1").await.unwrap();
    let mut session = host.session(&all[1].config.agent_address(), "boot-1").await;
    session.beat().await;
    session
        .hear_until("an answer to the heartbeat", |heard| {
            matches!(heard, Hear::HeartbeatAck(_) | Hear::ReportRequest(_)).then_some(())
        })
        .await;
    let made = act(&all[0].app, vm("web-1")).await.unwrap();
    session.desired_with(1, 0).await;
    all.remove(0).kill().await;
    let leader = leader_of(&all).await;
    // The same session goes on: a heartbeat is answered by the new leader.
    let began = std::time::Instant::now();
    loop {
        session.beat().await;
        let answered = tokio::time::timeout(Duration::from_secs(2), session.hear()).await;
        if let Ok(Some(Hear::HeartbeatAck(_) | Hear::ReportRequest(_))) = answered {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no answer from the new leader");
    }
    assert_eq!(liveness_of(&leader.app, host.id), "online");
    assert_eq!(phase_of(&leader.app, made.object_id.unwrap()), "creating");
    let live = leader.app.live().await;
    assert_eq!(live[&host.id].memory_used_mib, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_no_session_begins_and_no_orders_are_given() {
    let mut all = three(|_| {}).await;
    let token = site(&all[0].app).await;
    let host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let last = all.pop().unwrap();
    let address = last.config.agent_address();
    // It knows the host, and its boot, as online.
    drop(host.session(&address, "boot-1").await);
    until("the last one to know of it", || {
        liveness_of(&last.app, host.id) == "online"
    })
    .await;
    for controller in all {
        controller.kill().await;
    }
    let refused = host.try_session(&address, "boot-1").await.err();
    let refused = refused.expect("a session began on what nobody confirmed");
    assert!(refused.contains("no quorum"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_host_goes_offline_and_comes_back_with_a_new_epoch() {
    let first = Controller::first(|config| {
        config.hosts.lease_s = 1;
        config.hosts.heartbeat_ms = 200;
    })
    .await;
    let token = site(&first.app).await;
    let host = Host::enrol(&first, &token, "S1").await.unwrap();
    let mut session = host.session(&first.config.agent_address(), "boot-1").await;
    assert_eq!(liveness_of(&first.app, host.id), "online");
    let epoch = session.host_epoch;
    until("the host to be offline", || {
        liveness_of(&first.app, host.id) == "offline"
    })
    .await;
    session.beat().await;
    let goodbye = session.goodbye().await;
    assert!(
        !goodbye.removed,
        "it may say hello again: {}",
        goodbye.reason
    );
    let session = host.session(&first.config.agent_address(), "boot-1").await;
    assert!(session.host_epoch > epoch, "a loss ends an epoch");
    assert_eq!(liveness_of(&first.app, host.id), "online");
}

/// A copied disk: two machines run with one key, each with a boot id of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_one_key_at_two_controllers_are_quarantined() {
    let all = three(|_| {}).await;
    let app = &all[0].app;
    let token = site(app).await;
    let host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let mut one = host.session(&all[1].config.agent_address(), "boot-1").await;
    let made = act(app, vm("web-1")).await.unwrap().object_id.unwrap();
    until("the VM to be placed", || phase_of(app, made) == "creating").await;
    let mut other = host.session(&all[2].config.agent_address(), "boot-2").await;
    // Each goes on in its own session, until the first is heard once too often.
    let began = std::time::Instant::now();
    while liveness_of(app, host.id) != "quarantined" {
        one.beat().await;
        other.beat().await;
        assert!(began.elapsed() < PATIENCE, "two machines go unnoticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(one.goodbye().await.reason.contains("quarantined"));
    assert_eq!(phase_of(app, made), "unknown");
    quarantine_lasts_until_it_is_released(&all, &host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_one_key_at_one_controller_are_quarantined() {
    let all = [Controller::first(|_| {}).await];
    let app = &all[0].app;
    let token = site(app).await;
    let host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let address = all[0].config.agent_address();
    let mut one = host.session(&address, "boot-1").await;
    let mut other = host.session(&address, "boot-2").await;
    other.beat().await;
    let parted = one.goodbye().await;
    assert!(parted.reason.contains("newer session"), "{}", parted.reason);
    // As an agent does that was sent away: it comes again.
    let began = std::time::Instant::now();
    while liveness_of(app, host.id) != "quarantined" {
        let refused = host.try_session(&address, "boot-1").await.err();
        assert!(refused.is_some(), "an earlier boot is taken for the host");
        assert!(began.elapsed() < PATIENCE, "two machines go unnoticed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    quarantine_lasts_until_it_is_released(&all, &host).await;
}

async fn quarantine_lasts_until_it_is_released(all: &[Controller], host: &Host) {
    let app = &all[0].app;
    for boot in ["boot-1", "boot-2", "boot-3"] {
        for controller in all {
            let address = controller.config.agent_address();
            let refused = host.try_session(&address, boot).await.err().unwrap();
            assert!(refused.contains("quarantined"), "{boot}: {refused}");
        }
    }
    assert_eq!(liveness_of(app, host.id), "quarantined");
    let release = Request::Host(HostAct {
        target: host.id.to_string(),
        act: HostVerb::ReleaseQuarantine,
    });
    act(app, release).await.unwrap();
    let address = all[0].config.agent_address();
    host.try_session(&address, "boot-2").await.unwrap();
    assert_eq!(liveness_of(app, host.id), "online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_host_is_told_so_at_once_and_its_key_is_worth_nothing() {
    let all = three(|_| {}).await;
    let token = site(&all[0].app).await;
    let host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let mut session = host.session(&all[2].config.agent_address(), "boot-1").await;
    let name = all[0]
        .app
        .node()
        .image()
        .get(host.id)
        .unwrap()
        .name
        .to_string();
    act(&all[0].app, delete(Kind::Baremetal, &name, true))
        .await
        .unwrap();
    assert!(session.goodbye().await.removed);
    for controller in &all {
        let index = all[0].app.node().read_index().await.unwrap();
        controller.app.node().wait_applied(index).await.unwrap();
        let mut client = host.connect_lazily(&controller.config.agent_address());
        let renewed = client
            .renew_certificate(RenewRequest {
                csr_der: host.key.csr().unwrap(),
            })
            .await;
        assert!(
            renewed.is_err(),
            "{} takes a removed host",
            controller.config.name
        );
    }
    let again = enrolment(&all[1])
        .await
        .reenrol(ReenrolRequest {
            csr_der: host.key.csr().unwrap(),
            serial_number: host.serial.clone(),
        })
        .await;
    assert!(again.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_and_replaced_by_their_key_alone() {
    let first = Controller::first(|_| {}).await;
    let token = site(&first.app).await;
    let host = Host::enrol(&first, &token, "S1").await.unwrap();
    let mut client = host.connect(&first.config.agent_address()).await;
    let csr_der = host.key.csr().unwrap();
    let renewed = client
        .renew_certificate(RenewRequest {
            csr_der: csr_der.clone(),
        })
        .await;
    let renewed = Certificate::from_der(renewed.unwrap().into_inner().certificate_der).unwrap();
    assert_eq!(renewed.key(), host.certificate.key());
    assert_ne!(renewed.serial_hex(), host.certificate.serial_hex());
    let other = KeyPair::generate().unwrap().csr().unwrap();
    assert!(
        client
            .renew_certificate(RenewRequest {
                csr_der: other.clone()
            })
            .await
            .is_err()
    );
    let mut enrolment = enrolment(&first).await;
    let mut reenrol = async |csr_der: Vec<u8>, serial: &str| {
        let request = ReenrolRequest {
            csr_der,
            serial_number: serial.into(),
        };
        enrolment.reenrol(request).await
    };
    assert!(reenrol(csr_der.clone(), "S1").await.is_ok());
    assert!(reenrol(csr_der, "S2").await.is_err(), "another machine");
    assert!(reenrol(other, "S1").await.is_err(), "another key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_is_read_through_any_controller() {
    let all = three(|_| {}).await;
    let token = site(&all[0].app).await;
    let host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let mut session = host.session(&all[1].config.agent_address(), "boot-1").await;
    let vm = ObjectId::generate();
    let app = all[2].app.clone();
    let id = host.id;
    let reading = tokio::spawn(async move { app.console(id, vm, 3, 100).await });
    let asked = session
        .hear_until("the request", |heard| match heard {
            Hear::Console(request) => Some(request.clone()),
            _ => None,
        })
        .await;
    assert_eq!((asked.placement_epoch, asked.max_bytes), (3, 100));
    let reply = ConsoleReply {
        request: asked.request,
        data: b"login:".to_vec(),
        total_bytes: 4096,
        error: String::new(),
    };
    session.say(Say::Console(reply)).await;
    let console = reading.await.unwrap().unwrap();
    assert_eq!(
        (&console.data[..], console.total_bytes),
        (&b"login:"[..], 4096)
    );
    let nobody = all[2].app.console(ObjectId::generate(), vm, 1, 10).await;
    assert!(nobody.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_a_host_fares_is_written_once_and_stays_when_it_falls_silent() {
    let first = Controller::first(|config| {
        config.hosts.lease_s = 5;
        config.hosts.heartbeat_ms = 200;
    })
    .await;
    let token = site(&first.app).await;
    let host = Host::enrol(&first, &token, "S1").await.unwrap();
    let mut session = host.session(&first.config.agent_address(), "boot-1").await;
    let status = || {
        let image = first.app.node().image();
        let object = image.get(host.id).unwrap().clone();
        let typed = virtflow_logic::decoded::<virtflow_model::kinds::Baremetal>(&object).unwrap();
        (object.version, typed.status.clone())
    };
    assert_eq!(status().1.health.name(), "unknown");
    let ill = Condition {
        orders_not_stored: true,
        ..Condition::default()
    };
    let began = std::time::Instant::now();
    while status().1.health.name() == "unknown" {
        assert!(began.elapsed() < PATIENCE, "nothing was written of it");
        session.beat_with(ill).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (version, told) = status();
    assert_eq!(told.health.name(), "critical");
    assert_eq!(told.health_reasons, ["orders_not_stored"]);
    // As before: nothing is written.
    for _ in 0..30 {
        session.beat_with(ill).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status().0, version);
    until("the host to be offline", || {
        liveness_of(&first.app, host.id) == "offline"
    })
    .await;
    assert_eq!(status().1.health.name(), "critical", "as it was last seen");
}
