//! The agent's side of joining, sessions and certificates, against a controller played by the test.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use virtflow_agent::config::{Config, StatusConfig};
use virtflow_agent::hypervisor::simulated::SimulatedMachine;
use virtflow_agent::identity::{self, HostIdentity};
use virtflow_agent::inventory::ThisMachine;
use virtflow_agent::{Agent, xml};
use virtflow_pki::{
    Alpn, Anchor, CaFingerprint, ExpiredPeers, KeyPair, Role, ServerExpectation, TlsConnector,
    client_config,
};
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::Phase;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::controller_message::Body as Tell;
use virtflow_types::ObjectId;

struct Joined {
    folder: tempfile::TempDir,
    cluster: Cluster,
    controller: Controller,
    machine: SimulatedMachine,
    config: Config,
}

impl Joined {
    async fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::new();
        let controller = cluster.controller().await;
        let config = config(folder.path(), more);
        join(&config, &cluster, &controller).await;
        Self {
            folder,
            cluster,
            controller,
            machine: SimulatedMachine::new(),
            config,
        }
    }

    async fn agent(&self) -> Agent {
        let hypervisor = self.machine.hypervisor();
        Agent::start_with(self.config.clone(), hypervisor, Arc::new(ThisMachine))
            .await
            .unwrap()
    }
}

fn phase(number: u128, phase: Phase) -> impl Fn(&Said) -> Option<v1::ObservedVm> {
    let id = ObjectId::from_u128(number);
    move |said| match said {
        Said::Observed(observed) => observed
            .vms
            .iter()
            .find(|vm| vm.vm_id == id.as_bytes() && vm.phase() == phase && vm.carried_out)
            .cloned(),
        _ => None,
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn joining_pins_the_authority_and_may_be_repeated_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    let controller = cluster.controller().await;
    let config = config(folder.path(), "");
    let addresses = [format!("https://{}", controller.api_address)];
    let fails = async |fingerprint: CaFingerprint, token: &str, expected: &str| {
        let error = identity::join(&config, &addresses, &fingerprint, token)
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(expected), "{error}");
        assert!(HostIdentity::load(&config).unwrap().is_none());
    };
    let stranger = Cluster::new().fingerprint();
    fails(stranger, TOKEN, "joining at https://127.0.0.1").await;
    fails(cluster.fingerprint(), "another", "the token is not known").await;
    let key = KeyPair::load(&config.identity_dir().join("key.pem"))
        .unwrap()
        .fingerprint();

    for _ in 0..2 {
        join(&config, &cluster, &controller).await;
        let identity = HostIdentity::load(&config).unwrap().unwrap();
        assert_eq!(
            identity.certificates().key_fingerprint(),
            key,
            "the key stays"
        );
        let membership = identity.membership();
        assert_eq!((membership.host_id, membership.cluster_id), (HOST, CLUSTER));
        assert_eq!(
            membership.agent_endpoints,
            [controller.agent_address.to_string()]
        );
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &str| {
        let metadata = std::fs::metadata(config.identity_dir().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("key.pem"), mode("")), (0o600, 0o700));
}

#[tokio::test]
async fn an_agent_that_has_not_joined_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Agent::start(config(folder.path(), ""))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("virtflow-agent join"), "{error}");
}

#[tokio::test]
async fn two_agents_never_share_a_folder() {
    let joined = Joined::new("").await;
    let first = joined.agent().await;
    let second = Agent::start_with(
        joined.config.clone(),
        joined.machine.hypervisor(),
        Arc::new(ThisMachine),
    )
    .await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another agent runs"), "{error}");
    drop(first);
    joined.agent().await;
}

#[tokio::test]
async fn a_session_tells_orders_obeys_and_reports() {
    let joined = Joined::new("").await;
    let agent = joined.agent().await;
    let (mut session, hello) = joined.controller.welcome(3).await;
    assert_eq!(
        (hello.serial_number.as_str(), hello.hostname.as_str()),
        ("test-1", "host-1")
    );
    assert_eq!(
        (hello.serial_source.as_str(), hello.protocol),
        ("configured", 1)
    );
    assert_eq!((hello.boot_id.len(), hello.highest), (36, None));
    assert!(hello.inventory.unwrap().threads > 0);

    // The level at once, before any order.
    let first = session.until("the level", |said| match said {
        Said::Observed(observed) => Some(observed.clone()),
        _ => None,
    });
    let first = first.await;
    assert!(first.complete && first.vms.is_empty());
    assert_eq!((first.session, first.host_epoch, first.sequence), (7, 3, 1));

    session.tell(desired(10, 3, vec![vm(1)])).await;
    let seen = session.until("running", phase(1, Phase::Running)).await;
    assert_eq!((seen.placement_epoch, seen.power_serial), (1, 1));
    assert!(
        joined
            .machine
            .domain(ObjectId::from_u128(1))
            .unwrap()
            .run_id
            .is_some()
    );

    // Heartbeats carry the hash of the level that was told last.
    session
        .tell(Tell::ReportRequest(v1::ReportRequest { request: 1 }))
        .await;
    let level = session.until("the level again", |said| match said {
        Said::Observed(observed) if observed.complete => Some(observed.clone()),
        _ => None,
    });
    let level = level.await;
    assert_eq!(level.acted_on, stamp(10));
    let mut sequence = 0;
    for _ in 0..3 {
        let beat = session.until("a heartbeat", |said| match said {
            Said::Heartbeat(beat) => Some(beat.clone()),
            _ => None,
        });
        let beat = beat.await;
        assert_eq!((beat.session, beat.host_epoch), (7, 3));
        assert_eq!(beat.observed_hash, level.hash);
        assert!(
            sequence == 0 || beat.sequence == sequence + 1,
            "{}",
            beat.sequence
        );
        sequence = beat.sequence;
    }

    // A guest's console, bounded by what was asked for.
    let guests = &joined.config.guests.guests_dir;
    let log = xml::guest_dir(guests, ObjectId::from_u128(1)).join("console.log");
    std::fs::write(log, b"login: hello").unwrap();
    for (vm, epoch, data, total, error) in [
        (1, 1, &b"hello"[..], 12, ""),
        (1, 2, b"", 0, "is here in placement epoch 1, not 2"),
        (2, 1, b"", 0, "is not on this host"),
    ] {
        session
            .tell(Tell::Console(v1::ConsoleRequest {
                request: 41,
                vm_id: ObjectId::from_u128(vm).as_bytes().to_vec(),
                placement_epoch: epoch,
                max_bytes: 5,
            }))
            .await;
        let reply = session.until("a console", |said| match said {
            Said::Console(reply) => Some(reply.clone()),
            _ => None,
        });
        let reply = reply.await;
        assert_eq!((reply.request, reply.total_bytes), (41, total));
        assert_eq!(reply.data, data);
        assert!(reply.error.contains(error), "{}", reply.error);
    }

    // An edge at once: the guest dies.
    let died = Instant::now();
    joined.machine.kill_guest(ObjectId::from_u128(1));
    let reason = session.until("the death", |said| match said {
        Said::Observed(observed) => observed
            .vms
            .iter()
            .find(|vm| vm.reason == "guest_crashed")
            .cloned(),
        _ => None,
    });
    let seen = reason.await;
    assert!(!seen.carried_out);
    assert!(died.elapsed() < Duration::from_secs(1));
    drop(agent);
}

#[tokio::test]
async fn orders_of_another_host_epoch_or_an_older_stamp_end_the_session() {
    let joined = Joined::new("").await;
    let _agent = joined.agent().await;
    let (mut session, _) = joined.controller.welcome(3).await;
    session.tell(desired(10, 2, vec![vm(1)])).await;
    session.ends().await;
    let (mut session, hello) = joined.controller.welcome(3).await;
    assert_eq!(hello.highest, None, "nothing was obeyed");
    session.tell(desired(10, 3, vec![vm(1)])).await;
    session.until("running", phase(1, Phase::Running)).await;
    session.tell(desired(9, 3, vec![])).await;
    session.ends().await;
    let (_session, hello) = joined.controller.welcome(3).await;
    assert_eq!(hello.highest, stamp(10));
    assert!(
        joined
            .machine
            .domain(ObjectId::from_u128(1))
            .unwrap()
            .run_id
            .is_some()
    );
}

#[tokio::test]
async fn nonsense_is_not_obeyed() {
    let joined = Joined::new("").await;
    let _agent = joined.agent().await;
    let mut nonsense = [vm(1), vm(1), vm(1), vm(1), vm(1)];
    nonsense[0].vm_id = vec![1, 2, 3];
    nonsense[1].name = "../../etc".to_owned();
    nonsense[2].memory_mib = 0;
    nonsense[3].power = 0;
    nonsense[4].cpu_cores = u32::MAX;
    for bad in nonsense {
        let (mut session, _) = joined.controller.welcome(3).await;
        session.tell(desired(10, 3, vec![vm(2), bad])).await;
        session.ends().await;
    }
    assert_eq!(
        joined.machine.domain(ObjectId::from_u128(2)),
        None,
        "not even its good half"
    );
}

#[tokio::test]
async fn a_controller_that_falls_silent_is_left_for_another() {
    let joined = Joined::new("").await;
    let other = joined.cluster.controller().await;
    let _agent = joined.agent().await;
    let (mut session, _) = joined.controller.welcome(3).await;
    session
        .tell(Tell::Endpoints(v1::Endpoints {
            agent_endpoints: vec![
                joined.controller.agent_address.to_string(),
                other.agent_address.to_string(),
                "not an address".to_owned(),
            ],
            api_endpoints: vec![],
        }))
        .await;
    let began = Instant::now();
    // The session is held all the while, and nothing said in it.
    other.welcome(3).await;
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    session.ends().await;
}

#[tokio::test]
async fn a_goodbye_says_whom_to_try_and_survives_a_restart() {
    let joined = Joined::new("").await;
    let other = joined.cluster.controller().await;
    let agent = joined.agent().await;
    let (session, _) = joined.controller.welcome(3).await;
    session.tell(desired(10, 3, vec![vm(1)])).await;
    eventually("running", || {
        joined.machine.domain(ObjectId::from_u128(1)).is_some()
    })
    .await;
    let endpoints = [&joined.controller, &other].map(|c| c.agent_address.to_string());
    session
        .tell(Tell::Endpoints(v1::Endpoints {
            agent_endpoints: endpoints.to_vec(),
            api_endpoints: vec![],
        }))
        .await;
    session
        .tell(Tell::Goodbye(v1::Goodbye {
            reason: "stopping".to_owned(),
            removed: false,
            r#try: vec![other.agent_address.to_string()],
        }))
        .await;
    let (mut session, hello) = other.welcome(4).await;
    assert_eq!(hello.highest, stamp(10));
    session.until("the level", phase(1, Phase::Running)).await;
    drop(agent);
    // Another agent on the same machine knows both and adopts the guest.
    let stored = HostIdentity::load(&joined.config).unwrap().unwrap();
    assert_eq!(stored.membership().agent_endpoints, endpoints);
    let run = joined
        .machine
        .domain(ObjectId::from_u128(1))
        .unwrap()
        .run_id;
    let _agent = joined.agent().await;
    let (mut session, _) = tokio::select! {
        session = joined.controller.welcome(5) => session,
        session = other.welcome(5) => session,
    };
    session.until("the level", phase(1, Phase::Running)).await;
    assert_eq!(
        joined
            .machine
            .domain(ObjectId::from_u128(1))
            .unwrap()
            .run_id,
        run
    );
}

#[tokio::test]
async fn a_certificate_is_renewed_in_the_session_and_after_it_expired() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    cluster.certificate_life_s.store(6, Ordering::SeqCst);
    let controller = cluster.controller().await;
    let config = config(folder.path(), "");
    join(&config, &cluster, &controller).await;
    let machine = SimulatedMachine::new();
    let agent = Agent::start_with(config.clone(), machine.hypervisor(), Arc::new(ThisMachine))
        .await
        .unwrap();
    let (session, _) = controller.welcome(3).await;
    let expires = |config: &Config| {
        let identity = HostIdentity::load(config).unwrap().unwrap();
        identity
            .certificates()
            .certificate()
            .validity()
            .not_after_ms
    };
    let first = expires(&config);
    eventually("renewed", || cluster.renewals.load(Ordering::SeqCst) >= 2).await;
    eventually("stored", || expires(&config) > first).await;
    drop((agent, session));
    assert_eq!(cluster.reenrolments.load(Ordering::SeqCst), 0);

    // Dark until the certificate is dead; then the key on record gets another.
    let dead = expires(&config);
    eventually("expired", || {
        virtflow_types::Timestamp::now().ms() > dead + 1000
    })
    .await;
    let _agent = Agent::start_with(config.clone(), machine.hypervisor(), Arc::new(ThisMachine))
        .await
        .unwrap();
    controller.welcome(3).await;
    assert_eq!(cluster.reenrolments.load(Ordering::SeqCst), 1);
    assert!(expires(&config) > dead);
}

#[tokio::test]
async fn the_status_listener_tells_and_takes_no_harm() {
    let joined = Joined::new("").await;
    let mut agent = joined.agent().await;
    let address = agent.status_address();
    let ask = async |request: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("an end").ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        ask(request.as_bytes()).await
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = get("/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
    assert!(
        waiting.contains("no controller holds a session"),
        "{waiting}"
    );

    let (mut session, _) = joined.controller.welcome(3).await;
    session.tell(desired(10, 3, vec![vm(1)])).await;
    session.until("running", phase(1, Phase::Running)).await;
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let status = get("/status").await;
    let (_, body) = status.split_once("\r\n\r\n").unwrap();
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(status["vms"][0]["phase"], "running");
    assert_eq!(status["session"]["number"], 7);
    assert_eq!(status["stamp"]["index"], 10);
    let metrics = get("/metrics").await;
    for line in [
        "virtflow_agent_vms{phase=\"running\"} 1",
        "virtflow_agent_vm_phase{vm=\"00000000-0000-0000-0000-000000000001\",phase=\"running\"} 1",
        "virtflow_agent_vms_untold 0",
        "virtflow_agent_session_open 1",
        "virtflow_agent_hypervisor_up 1",
        "virtflow_agent_orders_total{outcome=\"Accepted\"} 1",
        "virtflow_agent_step_seconds_count{step=\"create\",outcome=\"Done\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    let mut garbage: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"POST /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
    ];
    garbage.push([&b"GET /"[..], &vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat());
    for request in &garbage {
        let answer = ask(request).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(agent.is_alive());
    drop(joined.folder);
}

/// One request over TLS to an agent of the cluster, as monitoring makes it.
async fn scrape(joined: &Joined, agent: &Agent, path: &str, token: &str) -> String {
    let expected = ServerExpectation {
        anchor: Anchor::PinnedCa(joined.cluster.fingerprint()),
        role: Role::Agent,
        subject_id: Some(HOST.uuid()),
        expired: ExpiredPeers::Refuse,
    };
    let tls = client_config(None, expected, Alpn::None).unwrap();
    let port = agent.status_address().port();
    let mut stream = TlsConnector::new(tls)
        .connect("127.0.0.1", port)
        .await
        .unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an end").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn beyond_the_loopback_the_status_is_told_over_tls_to_who_has_the_token() {
    let mut joined = Joined::new("").await;
    let token = joined.folder.path().join("token");
    std::fs::write(&token, "what-monitoring-sends\n").unwrap();
    joined.config.status = StatusConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        advertise: Some("h1.example:9441".into()),
        token_file: Some(token.clone()),
    };
    let agent = joined.agent().await;
    let (_session, hello) = joined.controller.welcome(3).await;
    assert_eq!(hello.inventory.unwrap().status_address, "h1.example:9441");

    let told = scrape(&joined, &agent, "/metrics", "what-monitoring-sends").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(
        told.contains("\nvirtflow_agent_hypervisor_up 1\n"),
        "{told}"
    );
    for (path, token) in [
        ("/metrics", ""),
        ("/metrics", "what-monitoring-send"),
        ("/status", "what-monitoring-sendS"),
        ("/readyz", "guessed"),
    ] {
        let refused = scrape(&joined, &agent, path, token).await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        assert!(!refused.contains("virtflow_agent"), "{refused}");
    }
    let lives = scrape(&joined, &agent, "/healthz", "").await;
    assert!(lives.starts_with("HTTP/1.1 200"), "{lives}");

    // Changed without a restart; gone, it is nobody's.
    std::fs::write(&token, "what-monitoring-sends-now").unwrap();
    let told = scrape(&joined, &agent, "/status", "what-monitoring-sends-now").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    std::fs::remove_file(&token).unwrap();
    let refused = scrape(&joined, &agent, "/status", "").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");

    // Nothing is told in clear.
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", agent.status_address().port()))
        .await
        .unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await;
    read.expect("an end").ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
