//! What must hold of every decision, whatever is wanted, there, and tried.

use proptest::prelude::*;
use virtflow_types::{Name, ObjectId};

use super::*;
use crate::desired::Stamp;
use crate::hypervisor::Obstacle;
use crate::local::Progress;
use crate::xml::DomainStamp;

const VM: ObjectId = ObjectId::from_u128(1);
const DOMAIN: ObjectId = ObjectId::from_u128(77);
const THIS_LIFE: Incarnation = Incarnation::from_u128(1);
const OTHER_LIFE: Incarnation = Incarnation::from_u128(2);

fn power_states() -> impl Strategy<Value = PowerState> {
    prop_oneof![
        Just(PowerState::Running),
        Just(PowerState::Paused),
        Just(PowerState::ShuttingDown),
        prop_oneof![
            Just(OffReason::Unknown),
            Just(OffReason::Shutdown),
            Just(OffReason::Destroyed),
            Just(OffReason::Crashed),
            Just(OffReason::Failed),
        ]
        .prop_map(PowerState::Off),
    ]
}

prop_compose! {
    fn domains()(
        power in power_states(),
        placement_epoch in 1..4_u64,
        this_life in any::<bool>(),
        run in 1..3_u32,
        adopted in any::<bool>(),
    ) -> Domain {
        Domain {
            vm_id: VM,
            adopted: adopted.then_some(DOMAIN),
            vm_name: Name::new("a").unwrap(),
            stamp: DomainStamp {
                placement_epoch,
                incarnation: if this_life { THIS_LIFE } else { OTHER_LIFE },
                index: 1,
            },
            power,
            run_id: power.is_active().then_some(run),
            process_id: None,
            vcpus: 1,
            memory_mib: 1,
        }
    }
}

prop_compose! {
    fn orders()(
        placement_epoch in 1..4_u64,
        running in any::<bool>(),
        power_serial in 1..3_u64,
        reboot in any::<bool>(),
        force in any::<bool>(),
        grace_s in 0..3_u32,
        restart in prop_oneof![
            Just(RestartPolicy::Never),
            Just(RestartPolicy::OnFailure),
            Just(RestartPolicy::Always),
        ],
        done_serial in proptest::option::of(1..3_u64),
        acting in proptest::option::of((1..3_u64, proptest::option::of(1..3_u32))),
        adopts in any::<bool>(),
    ) -> StoredVm {
        StoredVm {
            desired: DesiredVm {
                vm_id: VM,
                placement_epoch,
                generation: 1,
                name: Name::new("a").unwrap(),
                vcpus: 1,
                memory_mib: 1,
                storage_gib: 0,
                gpu_count: 0,
                power: if running { Power::Running } else { Power::Stopped },
                power_serial,
                reboot,
                force,
                grace_s,
                restart,
                nics: Vec::new(),
                adopted_domain: adopts.then_some(DOMAIN),
            },
            stamp: Stamp { incarnation: THIS_LIFE, index: 2 },
            progress: Progress {
                done_serial,
                acting: acting.map(|(power_serial, old_run_id)| Acting {
                    power_serial,
                    old_run_id,
                }),
                restarts: 0,
            },
        }
    }
}

prop_compose! {
    fn foreign_domains()(
        power in power_states(),
        vcpus in 1..3_u32,
        memory_mib in 1..3_u64,
        transient in any::<bool>(),
    ) -> ForeignDomain {
        ForeignDomain {
            domain_id: DOMAIN,
            name: "old".into(),
            power,
            autostart: false,
            vcpus,
            memory_mib,
            disks: Vec::new(),
            passed: Vec::new(),
            obstacles: if transient { vec![Obstacle::Transient] } else { Vec::new() },
        }
    }
}

/// Seconds from now, some in the past.
type Seconds = Option<i64>;

fn at(now: Instant, seconds: i64) -> Instant {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { now - span } else { now + span }
}

fn volatile(now: Instant, [stopping, failure, restart]: [Seconds; 3]) -> Volatile {
    Volatile {
        stopping: stopping.map(|seconds| Stopping {
            since: at(now, seconds.min(0)),
            asked_at: at(now, seconds.min(0)),
        }),
        failure: failure.map(|seconds| Failure {
            reason: "start_failed",
            message: String::new(),
            count: 1,
            retry_at: at(now, seconds),
        }),
        quick_ends: 0,
        restart_at: restart.map(|seconds| at(now, seconds)),
        restamp_at: None,
    }
}

fn seconds() -> impl Strategy<Value = Seconds> {
    proptest::option::of(-10..10_i64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_decision_breaks_a_rule(
        wanted in proptest::option::of(orders()),
        domain in proptest::option::of(domains()),
        foreign in proptest::option::of(foreign_domains()),
        tombstone in proptest::option::of(1..4_u64),
        session in any::<bool>(),
        times in [seconds(), seconds(), seconds()],
    ) {
        let now = Instant::now() + Duration::from_secs(3600);
        let volatile = volatile(now, times);
        let tombstone = tombstone.map(|placement_epoch| Tombstone {
            vm_id: VM,
            placement_epoch,
            keep_files: false,
        });
        let view = View {
            wanted: wanted.as_ref(),
            tombstone,
            incarnation: Some(THIS_LIFE),
            domain: domain.as_ref(),
            foreign: foreign.as_ref(),
            volatile: &volatile,
            session,
            now,
        };
        let decision = decide(&view);
        let epoch = domain.as_ref().map(|d| d.stamp.placement_epoch);
        let buried = tombstone.is_some_and(|t| epoch.is_none_or(|e| e <= t.placement_epoch));
        let stale = matches!((&wanted, &domain), (Some(w), Some(d))
            if d.stamp.incarnation == THIS_LIFE
                && w.desired.placement_epoch < d.stamp.placement_epoch);

        match decision.step {
            // Definition and files go for a tombstone of this or a later placement alone.
            Step::Undefine | Step::Bury(_) => prop_assert!(buried),
            // A guest is ended for one, or because an order that isn't stale says so.
            Step::Destroy | Step::Shutdown => {
                let ordered = wanted.as_ref().is_some_and(|w| {
                    !stale && (w.desired.power == Power::Stopped || w.desired.reboot)
                });
                prop_assert!(buried || ordered);
            }
            Step::Create => {
                let w = wanted.as_ref().unwrap();
                prop_assert!(w.desired.power == Power::Running && !stale);
                prop_assert!(domain.as_ref().is_none_or(|d| !d.power.is_active()));
                let begun = w.progress.acting.is_some_and(|a| a.power_serial == w.desired.power_serial);
                prop_assert!(session || begun, "nothing new without a session");
                prop_assert!(domain.is_some() || w.desired.adopted_domain.is_none(), "made in its place");
            }
            // Somebody's domain is touched for an order that names it, and only as it was decided.
            Step::Adopt => {
                let w = wanted.as_ref().unwrap();
                let f = foreign.as_ref().unwrap();
                prop_assert!(domain.is_none() && tombstone.is_none());
                prop_assert_eq!(w.desired.adopted_domain, Some(f.domain_id));
                prop_assert_eq!((f.vcpus, f.memory_mib), (1, 1));
                prop_assert_eq!(f.power.is_active(), w.desired.power == Power::Running);
                prop_assert!(f.obstacles.is_empty());
            }
            Step::Restart => {
                let w = wanted.as_ref().unwrap();
                prop_assert!(w.desired.restart != RestartPolicy::Never && !stale);
                prop_assert_eq!(w.progress.done_serial, Some(w.desired.power_serial));
                prop_assert!(domain.as_ref().is_none_or(|d| !d.power.is_active()));
                prop_assert!(domain.is_some() || w.desired.adopted_domain.is_none(), "made in its place");
            }
            Step::Forget => prop_assert!(wanted.is_none() && domain.is_none()),
            // A wait has an end that lies ahead; nothing waits for ever but at rest.
            Step::WaitUntil(until) => prop_assert!(until > now),
            Step::Done(serial) => {
                prop_assert_eq!(Some(serial), wanted.as_ref().map(|w| w.desired.power_serial));
            }
            Step::Confirm(_) => prop_assert!(!buried && domain.is_some()),
            Step::Rest | Step::Begin(_) | Step::Restamp => {}
        }
        if decision.carried_out {
            let w = wanted.as_ref().unwrap();
            let runs = domain.as_ref().is_some_and(|d| d.power.is_active());
            prop_assert_eq!(runs, w.desired.power == Power::Running);
            prop_assert_eq!(w.progress.done_serial, Some(w.desired.power_serial));
        }
        if wanted.is_none() && tombstone.is_none() && domain.is_some() {
            prop_assert_eq!((decision.step, decision.phase), (Step::Rest, Phase::Orphan));
        }
        if decision.phase == Phase::Error {
            prop_assert!(!decision.reason.is_empty() && !decision.message.is_empty() || volatile.failure.is_some());
        }
    }
}
