//! The reconciler over a simulated machine: stories with an order, a fault, and what must not happen.

mod adoption;
mod gpus;

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_proto::agent::v1::{ObservedVm, Phase};
use virtflow_types::{Incarnation, Name};

use super::plan::AccelerationChoice;
use super::*;
use crate::desired::{DesiredVm, Power, RestartPolicy, Stamp, Tombstone};
use crate::hypervisor::OffReason;
use crate::hypervisor::simulated::{Call, Deed, Fault, SimulatedMachine};
use crate::inventory::ListedGpus;
use crate::xml::{Machine, guest_dir};

const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_LIFE: Incarnation = Incarnation::from_u128(11);
const SECOND_LIFE: Incarnation = Incarnation::from_u128(12);
const VM: ObjectId = ObjectId::from_u128(1);

/// A machine, the agent's folder, and at most one agent at a time.
struct Host {
    machine: SimulatedMachine,
    folder: tempfile::TempDir,
    agent: Option<Reconciler>,
    index: u64,
    life: Incarnation,
    gpus: ListedGpus,
}

impl Host {
    fn new() -> Self {
        let mut host = Self {
            machine: SimulatedMachine::new(),
            folder: tempfile::tempdir().unwrap(),
            agent: None,
            index: 0,
            life: FIRST_LIFE,
            gpus: ListedGpus::default(),
        };
        host.start_agent(true);
        host
    }

    fn start_agent(&mut self, session: bool) {
        let agent = Reconciler::start(
            self.machine.hypervisor(),
            LocalStore::open(self.folder.path()),
            GuestSettings {
                guests_dir: self.guests(),
                acceleration: AccelerationChoice::Auto,
                machine: Machine::Q35,
                emulator: None,
                kernel: None,
                bridge: None,
                gpus: self.gpus.clone(),
            },
            Arc::default(),
        );
        agent.set_session(session);
        self.agent = Some(agent);
    }

    /// As SIGKILL would: nothing is closed, nothing said goodbye to.
    fn kill_agent(&mut self) {
        self.agent = None;
    }

    fn guests(&self) -> std::path::PathBuf {
        self.folder.path().join("guests")
    }

    fn agent(&self) -> &Reconciler {
        self.agent.as_ref().unwrap()
    }

    fn order(
        &mut self,
        complete: bool,
        vms: Vec<DesiredVm>,
        tombstones: Vec<Tombstone>,
    ) -> Desired {
        self.index += 1;
        Desired {
            stamp: Stamp {
                incarnation: self.life,
                index: self.index,
            },
            complete,
            vms,
            tombstones,
        }
    }

    async fn want(&mut self, vm: DesiredVm) {
        let order = self.order(false, vec![vm], vec![]);
        self.agent().obey(&order).await.unwrap();
    }

    async fn bury(&mut self, placement_epoch: u64) {
        let order = self.order(false, vec![], vec![tombstone(placement_epoch)]);
        self.agent().obey(&order).await.unwrap();
    }

    async fn until(&self, what: &str, holds: impl Fn(&ObservedVm) -> bool) -> ObservedVm {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.agent().observations().get(VM);
            if let Some(seen) = seen.as_ref().filter(|seen| holds(seen)) {
                return seen.clone();
            }
            assert!(Instant::now() < until, "never {what}; last seen {seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn running(&self) -> ObservedVm {
        let running = |seen: &ObservedVm| seen.phase() == Phase::Running && seen.carried_out;
        self.until("running", running).await
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "never {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn run_id(&self) -> Option<u32> {
        self.machine.domain(VM).and_then(|domain| domain.run_id)
    }

    fn confirmed(&self) -> bool {
        let report = self.agent().observations().report(None).unwrap();
        report.confirmed.iter().any(|t| t.vm_id == VM.as_bytes())
    }
}

fn vm() -> DesiredVm {
    DesiredVm {
        vm_id: VM,
        placement_epoch: 5,
        generation: 1,
        name: Name::new("web-1").unwrap(),
        vcpus: 1,
        memory_mib: 128,
        storage_gib: 1,
        gpu_count: 0,
        power: Power::Running,
        power_serial: 1,
        reboot: false,
        force: false,
        grace_s: 1,
        restart: RestartPolicy::Never,
        nics: Vec::new(),
        adopted_domain: None,
    }
}

fn tombstone(placement_epoch: u64) -> Tombstone {
    Tombstone {
        vm_id: VM,
        placement_epoch,
        keep_files: false,
    }
}

/// Long enough for several surveys: time for something that must not happen.
async fn a_while() {
    tokio::time::sleep(2 * SURVEY_INTERVAL + Duration::from_millis(500)).await;
}

fn disk_of(guests: &Path) -> std::path::PathBuf {
    guest_dir(guests, VM).join(plan::DISK_FILE)
}

#[tokio::test]
async fn a_vm_is_created_stopped_started_and_removed() {
    let mut host = Host::new();
    host.want(vm()).await;
    let seen = host.running().await;
    assert_eq!(
        (seen.placement_epoch, seen.power_serial, seen.generation),
        (5, 1, 1)
    );
    assert_eq!(host.machine.deeds(VM), [Deed::Defined, Deed::Started]);
    assert_eq!(
        std::fs::metadata(disk_of(&host.guests())).unwrap().len(),
        1 << 30
    );

    let mut stopped = vm();
    (stopped.power, stopped.power_serial, stopped.generation) = (Power::Stopped, 2, 2);
    host.want(stopped).await;
    let seen = host
        .until("stopped", |s| s.phase() == Phase::Stopped && s.carried_out)
        .await;
    assert_eq!((seen.power_serial, seen.generation), (2, 2));
    let power = host.machine.domain(VM).unwrap().power;
    assert_eq!(power, PowerState::Off(OffReason::Shutdown), "gracefully");

    let mut again = vm();
    (again.power_serial, again.memory_mib) = (3, 256);
    host.want(again).await;
    host.running().await;
    assert_eq!(
        host.machine.domain(VM).unwrap().memory_mib,
        256,
        "defined anew"
    );

    host.bury(5).await;
    host.eventually("buried", Host::confirmed).await;
    assert_eq!(host.machine.domain(VM), None);
    assert!(!guest_dir(&host.guests(), VM).exists());
    host.eventually("task ended", |h| h.agent().task_count() == 0)
        .await;
    // Said again, it is confirmed again.
    host.bury(5).await;
    assert!(host.confirmed());
}

#[tokio::test]
async fn a_guest_that_ignores_the_request_is_ended_after_its_grace_time() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    host.machine.behave(|b| b.shutdown_time = None);
    let mut stopped = vm();
    (stopped.power, stopped.power_serial, stopped.grace_s) = (Power::Stopped, 2, 2);
    let asked = Instant::now();
    host.want(stopped).await;
    host.until("stopping", |s| s.phase() == Phase::Stopping)
        .await;
    host.until("stopped", |s| s.phase() == Phase::Stopped).await;
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    let power = host.machine.domain(VM).unwrap().power;
    assert_eq!(power, PowerState::Off(OffReason::Destroyed));
}

#[tokio::test]
async fn force_grants_no_grace_even_in_the_middle_of_it() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    host.machine.behave(|b| b.shutdown_time = None);
    let mut stopped = vm();
    (stopped.power, stopped.power_serial, stopped.grace_s) = (Power::Stopped, 2, 3600);
    host.want(stopped.clone()).await;
    host.until("stopping", |s| s.phase() == Phase::Stopping)
        .await;
    (stopped.power_serial, stopped.force) = (3, true);
    host.want(stopped).await;
    host.until("stopped", |s| {
        s.phase() == Phase::Stopped && s.power_serial == 3
    })
    .await;
}

#[tokio::test]
async fn a_reboot_is_done_once() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let before = host.run_id();
    let mut reboot = vm();
    (reboot.power_serial, reboot.reboot) = (2, true);
    host.want(reboot.clone()).await;
    host.until("rebooted", |s| {
        s.phase() == Phase::Running && s.power_serial == 2
    })
    .await;
    let after = host.run_id();
    assert_ne!(after, before);
    // Told again, and by another agent, it is not done again.
    host.want(reboot.clone()).await;
    host.kill_agent();
    host.start_agent(true);
    host.want(reboot.clone()).await;
    host.running().await;
    assert_eq!(host.run_id(), after);
    // And not by one that lost its memory.
    host.kill_agent();
    std::fs::remove_file(host.folder.path().join("state.json")).unwrap();
    host.start_agent(true);
    host.want(reboot).await;
    host.running().await;
    assert_eq!(host.run_id(), after);
}

#[tokio::test]
async fn a_reboot_cut_short_by_the_end_of_the_agent_is_finished_by_the_next() {
    for call in [Call::Shutdown, Call::Define, Call::Start] {
        let mut host = Host::new();
        host.want(vm()).await;
        host.running().await;
        let before = host.run_id();
        host.machine.inject(call, Fault::Hang);
        let mut reboot = vm();
        (reboot.power_serial, reboot.reboot) = (2, true);
        host.want(reboot).await;
        host.until("restarting", |s| s.phase() == Phase::Restarting)
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        host.kill_agent();
        // Without any controller: the act had begun.
        host.start_agent(false);
        host.until("rebooted", |s| {
            s.phase() == Phase::Running && s.power_serial == 2
        })
        .await;
        assert_ne!(host.run_id(), before, "{call:?}");
        let starts = host
            .machine
            .deeds(VM)
            .iter()
            .filter(|d| **d == Deed::Started)
            .count();
        assert_eq!(starts, 2, "{call:?}");
    }
}

#[tokio::test]
async fn absence_is_never_an_order() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    let nothing = host.order(true, vec![], vec![]);
    host.agent().obey(&nothing).await.unwrap();
    let seen = host
        .until("an orphan", |s| s.phase() == Phase::Orphan)
        .await;
    assert_eq!(
        (seen.placement_epoch, seen.reason.as_str()),
        (5, "not_in_desired_state")
    );
    a_while().await;
    assert_eq!(host.run_id(), run);
    // Nor for a new agent without memory.
    host.kill_agent();
    std::fs::remove_file(host.folder.path().join("state.json")).unwrap();
    host.start_agent(true);
    host.until("an orphan", |s| s.phase() == Phase::Orphan)
        .await;
    assert_eq!(host.run_id(), run);
    // Named again, it is taken up as it is.
    host.want(vm()).await;
    host.running().await;
    assert_eq!(host.run_id(), run);
}

#[tokio::test]
async fn a_tombstone_of_an_earlier_binding_leaves_the_present_one() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    host.bury(4).await;
    host.eventually("confirmed", Host::confirmed).await;
    a_while().await;
    assert_eq!(host.run_id(), run);
    assert!(disk_of(&host.guests()).exists());
    host.running().await;
}

#[tokio::test]
async fn a_tombstone_of_another_life_of_the_store_leaves_a_later_binding() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    (host.life, host.index) = (SECOND_LIFE, 0);
    let order = host.order(true, vec![], vec![tombstone(4)]);
    host.agent().obey(&order).await.unwrap();
    host.until("an orphan", |s| s.phase() == Phase::Orphan)
        .await;
    a_while().await;
    assert_eq!(host.run_id(), run);
    assert!(!host.confirmed());
}

#[tokio::test]
async fn an_order_for_an_earlier_binding_is_not_obeyed() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    host.kill_agent();
    // The memory is gone, so only the domain's own mark says that this is old.
    std::fs::remove_file(host.folder.path().join("state.json")).unwrap();
    host.start_agent(true);
    let mut old = vm();
    (old.placement_epoch, old.power, old.power_serial) = (4, Power::Stopped, 9);
    host.want(old).await;
    host.until("refused", |s| s.reason == "stale_placement_epoch")
        .await;
    a_while().await;
    assert_eq!(host.run_id(), run);
}

#[tokio::test]
async fn an_older_stamp_is_refused_and_changes_nothing() {
    let mut host = Host::new();
    host.index = 10;
    host.want(vm()).await;
    host.running().await;
    host.index = 5;
    let old = host.order(true, vec![], vec![tombstone(5)]);
    let error = host.agent().obey(&old).await.unwrap_err();
    assert!(
        matches!(
            error,
            ObeyError::Refused(Refused::Older { told: 6, known: 11 })
        ),
        "{error}"
    );
    a_while().await;
    assert!(host.run_id().is_some());
}

#[tokio::test]
async fn a_binding_that_came_back_is_marked_anew_under_the_running_guest() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    let mut again = vm();
    again.placement_epoch = 8;
    host.want(again).await;
    host.eventually("marked", |h| {
        h.machine
            .domain(VM)
            .is_some_and(|d| d.stamp.placement_epoch == 8)
    })
    .await;
    let seen = host.running().await;
    assert_eq!(seen.placement_epoch, 8);
    assert_eq!(host.run_id(), run);
}

#[tokio::test]
async fn a_guest_that_died_is_reported_and_left_or_started_again_as_asked() {
    let killed = |machine: &SimulatedMachine| machine.kill_guest(VM);
    let shut_down = |machine: &SimulatedMachine| machine.guest_shuts_down(VM);
    type End = fn(&SimulatedMachine);
    type Stays = Option<(Phase, &'static str)>;
    let cases: [(RestartPolicy, End, Stays); 6] = [
        (
            RestartPolicy::Never,
            killed,
            Some((Phase::Error, "guest_crashed")),
        ),
        (
            RestartPolicy::Never,
            shut_down,
            Some((Phase::Stopped, "shutdown_by_guest")),
        ),
        (RestartPolicy::OnFailure, killed, None),
        (
            RestartPolicy::OnFailure,
            shut_down,
            Some((Phase::Stopped, "shutdown_by_guest")),
        ),
        (RestartPolicy::Always, killed, None),
        (RestartPolicy::Always, shut_down, None),
    ];
    for (restart, end, stays) in cases {
        let mut host = Host::new();
        host.want(DesiredVm { restart, ..vm() }).await;
        host.running().await;
        let run = host.run_id();
        let ended = Instant::now();
        end(&host.machine);
        match stays {
            Some((phase, reason)) => {
                let seen = host.until("ended", |s| s.phase() == phase).await;
                assert_eq!((seen.reason.as_str(), seen.carried_out), (reason, false));
                assert!(
                    ended.elapsed() < Duration::from_secs(1),
                    "the event tells at once"
                );
                assert_eq!(host.run_id(), None);
            }
            None => {
                host.until("restarting", |s| s.phase() == Phase::Restarting)
                    .await;
                assert!(
                    ended.elapsed() < Duration::from_secs(1),
                    "the event tells at once"
                );
                let seen = host.running().await;
                assert_eq!(seen.restarts, 1);
                assert_ne!(host.run_id(), run);
            }
        }
    }
}

#[tokio::test]
async fn a_guest_that_dies_again_and_again_is_started_ever_more_slowly() {
    let mut host = Host::new();
    let vm = DesiredVm {
        restart: RestartPolicy::Always,
        ..vm()
    };
    host.want(vm).await;
    let mut pauses = Vec::new();
    for restarts in 1..=3 {
        host.running().await;
        let died = Instant::now();
        host.machine.kill_guest(VM);
        let again = |s: &ObservedVm| s.phase() == Phase::Running && s.restarts == restarts;
        host.until("again", again).await;
        pauses.push(died.elapsed().as_secs());
    }
    assert_eq!(pauses, [1, 2, 4]);
}

#[tokio::test]
async fn a_lost_event_costs_an_interval() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    host.machine.behave(|b| b.events = false);
    let died = Instant::now();
    host.machine.kill_guest(VM);
    host.until("seen", |s| s.reason == "guest_crashed").await;
    assert!(died.elapsed() <= SURVEY_INTERVAL + Duration::from_secs(1));
}

#[tokio::test]
async fn without_a_session_what_is_owned_is_restarted_and_nothing_new_begins() {
    let mut host = Host::new();
    let vm = DesiredVm {
        restart: RestartPolicy::Always,
        ..vm()
    };
    host.want(vm.clone()).await;
    host.running().await;
    host.agent().set_session(false);
    host.machine.kill_guest(VM);
    host.until("restarted", |s| {
        s.restarts == 1 && s.phase() == Phase::Running
    })
    .await;

    // An order that arrived but wasn't begun when the session went.
    host.machine.behave(|b| b.reachable = false);
    let other = ObjectId::from_u128(2);
    let new = DesiredVm { vm_id: other, ..vm };
    host.want(new).await;
    host.machine.behave(|b| b.reachable = true);
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = host.agent().observations().get(other);
        if seen.is_some_and(|s| s.reason == "waiting_for_session") {
            break;
        }
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    a_while().await;
    assert_eq!(host.machine.domain(other), None);
    host.agent().set_session(true);
    host.eventually("started", |h| {
        h.machine.domain(other).is_some_and(|d| d.run_id.is_some())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_comes_back_adopts_what_runs() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let deeds = host.machine.deeds(VM);
    for lose_memory in [false, true] {
        host.kill_agent();
        if lose_memory {
            std::fs::write(host.folder.path().join("state.json"), b"rubbish").unwrap();
        }
        host.start_agent(true);
        host.want(vm()).await;
        host.running().await;
        assert_eq!(host.machine.deeds(VM), deeds, "no guest noticed");
    }
}

#[tokio::test]
async fn creation_survives_every_fault_at_every_step() {
    let faults = [
        Fault::Error,
        Fault::ErrorAfterwards,
        Fault::Slow(Duration::from_millis(50)),
    ];
    for call in [Call::Inspect, Call::Define, Call::Start] {
        for fault in faults {
            let mut host = Host::new();
            host.machine.inject(call, fault);
            host.want(vm()).await;
            host.running().await;
            let starts = host
                .machine
                .deeds(VM)
                .iter()
                .filter(|d| **d == Deed::Started)
                .count();
            assert_eq!(starts, 1, "{call:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_agent_killed_at_any_step_of_a_creation_leaves_one_guest_to_the_next() {
    for call in [Call::Inspect, Call::Define, Call::Start] {
        let mut host = Host::new();
        host.machine.inject(call, Fault::Hang);
        host.want(vm()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        host.kill_agent();
        host.start_agent(true);
        host.running().await;
        let starts = host
            .machine
            .deeds(VM)
            .iter()
            .filter(|d| **d == Deed::Started)
            .count();
        assert_eq!(starts, 1, "{call:?}");
    }
}

#[tokio::test]
async fn burial_survives_every_fault_and_the_end_of_the_agent() {
    for call in [Call::Inspect, Call::Destroy, Call::Undefine] {
        for fault in [Fault::Error, Fault::ErrorAfterwards, Fault::Hang] {
            let mut host = Host::new();
            host.want(vm()).await;
            host.running().await;
            host.machine.inject(call, fault);
            host.bury(5).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            host.kill_agent();
            // An explicit order holds without a controller too.
            host.start_agent(false);
            host.eventually("buried", Host::confirmed).await;
            assert_eq!(host.machine.domain(VM), None, "{call:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_step_that_keeps_failing_is_reported_and_tried_again() {
    let mut host = Host::new();
    for _ in 0..2 {
        host.machine.inject(Call::Start, Fault::Error);
    }
    host.want(vm()).await;
    let seen = host.until("failing", |s| s.phase() == Phase::Error).await;
    assert_eq!(seen.reason, "start_failed");
    assert!(seen.message.contains("injected fault"), "{}", seen.message);
    host.running().await;
}

#[tokio::test]
async fn a_hypervisor_that_is_away_takes_nothing_with_it() {
    let mut host = Host::new();
    host.want(vm()).await;
    host.running().await;
    let run = host.run_id();
    host.machine.behave(|b| b.reachable = false);
    host.eventually("noticed", |h| h.agent().survey_problem().is_some())
        .await;
    host.running().await;
    host.machine.behave(|b| b.reachable = true);
    host.eventually("back", |h| h.agent().survey_problem().is_none())
        .await;
    host.running().await;
    assert_eq!(host.run_id(), run);
}

#[tokio::test]
async fn foreign_domains_are_counted_and_never_touched() {
    let mut host = Host::new();
    let foreign = ObjectId::from_u128(99);
    host.machine.add_foreign(foreign);
    host.machine.add_foreign(VM);
    // Even if an order and a tombstone name its very id.
    host.want(vm()).await;
    host.until("refused", |s| s.reason == "domain_not_ours")
        .await;
    host.bury(5).await;
    a_while().await;
    assert!(host.machine.has_foreign(foreign) && host.machine.has_foreign(VM));
    assert!(!host.confirmed());
    assert_eq!(host.agent().last_survey().unwrap().survey.foreign.len(), 2);
}

#[tokio::test]
async fn orders_that_overtake_each_other_end_in_the_last_one() {
    let mut host = Host::new();
    host.machine
        .behave(|b| b.start_time = Duration::from_millis(20));
    for serial in 1..=40 {
        let mut next = vm();
        next.power_serial = serial;
        next.power = if serial % 2 == 0 {
            Power::Stopped
        } else {
            Power::Running
        };
        next.force = true;
        host.want(next).await;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let done = |s: &ObservedVm| s.phase() == Phase::Stopped && s.power_serial == 40;
    host.until("stopped at last", done).await;
    assert_eq!(host.run_id(), None);
    assert_eq!(host.agent().task_count(), 1);
}

#[tokio::test]
async fn surveys_are_one_call_an_interval_however_many_guests() {
    let mut host = Host::new();
    let many: Vec<_> = (1..=100_u128)
        .map(|number| DesiredVm {
            vm_id: ObjectId::from_u128(number),
            storage_gib: 0,
            ..vm()
        })
        .collect();
    let order = host.order(true, many, vec![]);
    host.agent().obey(&order).await.unwrap();
    host.eventually("all run", |h| {
        let all = h.agent().observations().all();
        all.len() == 100
            && all
                .iter()
                .all(|vm| vm.phase() == Phase::Running && vm.carried_out)
    })
    .await;
    // Every task is at rest: nothing but surveys from here on.
    tokio::time::sleep(SURVEY_INTERVAL).await;
    let before = host.machine.surveys();
    host.machine.inject(Call::Inspect, Fault::Error);
    tokio::time::sleep(3 * SURVEY_INTERVAL).await;
    let surveys = host.machine.surveys() - before;
    assert!((2..=4).contains(&surveys), "{surveys}");
    let all = host.agent().observations().all();
    assert!(all.iter().all(|vm| vm.phase() == Phase::Running));
}
