//! Domains that were there before: taken over once, run, and never made.

use super::*;
use crate::hypervisor::simulated::small_foreign;
use crate::hypervisor::{ForeignDomain, Obstacle};

/// A domain that was there before.
const DOMAIN: ObjectId = ObjectId::from_u128(77);
/// Another one, which nobody adopts.
const OTHER: ObjectId = ObjectId::from_u128(78);

/// The order to adopt the domain that [`SimulatedMachine::add_foreign`] puts there.
fn to_adopt() -> DesiredVm {
    DesiredVm {
        adopted_domain: Some(DOMAIN),
        ..vm()
    }
}

fn old(change: impl FnOnce(&mut ForeignDomain)) -> ForeignDomain {
    let mut domain = ForeignDomain {
        name: "old".to_owned(),
        ..small_foreign(DOMAIN)
    };
    change(&mut domain);
    domain
}

#[tokio::test]
async fn a_domain_is_adopted_once_and_no_guest_notices() {
    let mut host = Host::new();
    host.machine.add_foreign(DOMAIN);
    host.machine.add_foreign(OTHER);
    host.want(to_adopt()).await;
    host.running().await;
    let domain = host.machine.domain(VM).unwrap();
    assert_eq!(domain.adopted, Some(DOMAIN));
    assert_eq!(domain.stamp.placement_epoch, 5);
    for lose_memory in [false, true] {
        host.kill_agent();
        if lose_memory {
            std::fs::write(host.folder.path().join("state.json"), b"rubbish").unwrap();
        }
        host.start_agent(true);
        host.want(to_adopt()).await;
        host.running().await;
    }
    assert_eq!(host.machine.deeds(VM), [Deed::Adopted]);
    assert_eq!(host.run_id(), domain.run_id);
    assert!(host.machine.has_foreign(OTHER));
    assert!(!host.guests().exists(), "no files are made");
}

#[tokio::test]
async fn adoption_survives_every_fault_and_the_end_of_the_agent() {
    let faults = [Fault::Error, Fault::ErrorAfterwards, Fault::Hang];
    for call in [Call::Inspect, Call::InspectForeign, Call::Adopt] {
        for fault in faults {
            let mut host = Host::new();
            host.machine.add_foreign(DOMAIN);
            host.machine.inject(call, fault);
            host.want(to_adopt()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            host.kill_agent();
            host.start_agent(true);
            host.running().await;
            assert_eq!(
                host.machine.deeds(VM),
                [Deed::Adopted],
                "{call:?} {fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_domain_that_is_not_as_it_was_decided_is_left_alone() {
    let other_ways: [fn(&mut ForeignDomain); 4] = [
        |d| d.vcpus = 2,
        |d| d.memory_mib = 64,
        |d| d.power = PowerState::Off(OffReason::Shutdown),
        |d| d.obstacles = vec![Obstacle::Passthrough],
    ];
    for (number, change) in other_ways.into_iter().enumerate() {
        let mut host = Host::new();
        host.machine.put_foreign(old(change));
        host.want(to_adopt()).await;
        let refused = |s: &ObservedVm| s.reason == "adoption_refused";
        host.until("refused", refused).await;
        a_while().await;
        assert!(host.machine.has_foreign(DOMAIN), "{number}");
        assert_eq!(host.machine.deeds(VM), [], "{number}");
        // It is looked at again: what was changed can be changed back.
        host.machine.put_foreign(old(|_| {}));
        host.running().await;
        assert_eq!(host.machine.deeds(VM), [Deed::Adopted], "{number}");
    }
    // Nothing is made in the place of one that is gone, and one that was off is not stopped.
    let mut host = Host::new();
    host.want(to_adopt()).await;
    let missing = |s: &ObservedVm| s.phase() == Phase::Error && s.reason == "domain_missing";
    host.until("missing", missing).await;
    host.machine.put_foreign(old(|_| {}));
    let mut off = to_adopt();
    off.power = Power::Stopped;
    host.want(off).await;
    host.until("refused", |s| s.reason == "adoption_refused")
        .await;
    a_while().await;
    assert_eq!(host.machine.deeds(VM), []);
    assert!(host.machine.has_foreign(DOMAIN) && !host.guests().exists());
}

#[tokio::test]
async fn an_adopted_domain_is_run_and_never_made() {
    let mut host = Host::new();
    host.machine.add_foreign(DOMAIN);
    host.machine.add_foreign(OTHER);
    host.want(to_adopt()).await;
    host.running().await;
    let mut next = to_adopt();
    next.power = Power::Stopped;
    next.power_serial = 2;
    host.want(next.clone()).await;
    host.until("stopped", |s| s.phase() == Phase::Stopped && s.carried_out)
        .await;
    // A later binding, started again: the mark is renewed and the definition is not.
    next.placement_epoch = 6;
    next.power = Power::Running;
    next.power_serial = 3;
    next.restart = RestartPolicy::Always;
    host.want(next.clone()).await;
    host.until("running again", |s| {
        s.phase() == Phase::Running && s.power_serial == 3
    })
    .await;
    host.eventually("marked", |h| {
        h.machine
            .domain(VM)
            .is_some_and(|d| d.stamp.placement_epoch == 6)
    })
    .await;
    host.machine.kill_guest(VM);
    host.until("restarted", |s| {
        s.phase() == Phase::Running && s.restarts == 1
    })
    .await;
    // An order that has forgotten about the adoption makes nothing either.
    next.adopted_domain = None;
    next.placement_epoch = 7;
    next.power_serial = 4;
    next.reboot = true;
    next.force = true;
    host.want(next).await;
    host.until("rebooted", |s| {
        s.phase() == Phase::Running && s.power_serial == 4
    })
    .await;
    host.bury(7).await;
    host.eventually("buried", Host::confirmed).await;
    assert!(!host.machine.has_domain(DOMAIN));
    assert!(host.machine.has_foreign(OTHER));
    let deeds = host.machine.deeds(VM);
    assert!(!deeds.contains(&Deed::Defined), "{deeds:?}");
    assert_eq!(deeds.first(), Some(&Deed::Adopted));
    assert_eq!(deeds.last(), Some(&Deed::Undefined));
    assert!(!host.guests().exists(), "no files were made");
}

#[tokio::test]
async fn a_vm_that_goes_before_its_domain_was_adopted_leaves_it_alone() {
    let mut host = Host::new();
    host.machine.put_foreign(old(|d| d.vcpus = 2));
    host.want(to_adopt()).await;
    host.until("refused", |s| s.reason == "adoption_refused")
        .await;
    host.bury(5).await;
    host.eventually("confirmed", Host::confirmed).await;
    a_while().await;
    assert!(host.machine.has_foreign(DOMAIN));
    assert_eq!(host.machine.deeds(VM), []);
}
