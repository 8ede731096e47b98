//! VMs with GPUs: which they get, that they keep them, and what is told when there are none.

use super::*;
use crate::hypervisor::ForeignDomain;
use crate::hypervisor::simulated::small_foreign;
use crate::inventory::Devices;
use crate::xml::PciAddress;

const OTHER: ObjectId = ObjectId::from_u128(2);
const LOW: &str = "0000:17:00.0";
const HIGH: &str = "0000:65:00.0";

/// A host that hands out two GPUs, and where it is told of them.
fn with_two() -> (Host, Devices) {
    let devices = Devices::new();
    for (at, group) in [(LOW, 1), (HIGH, 2)] {
        devices.put(at, "0x030000", Some(group), None);
    }
    let mut host = Host::new();
    host.gpus = devices.list(&[HIGH, LOW]);
    host.kill_agent();
    host.start_agent(true);
    (host, devices)
}

fn asks(vm_id: ObjectId, gpu_count: u32) -> DesiredVm {
    DesiredVm {
        vm_id,
        gpu_count,
        ..vm()
    }
}

fn passed(host: &Host, vm_id: ObjectId) -> Vec<String> {
    let passed = host.machine.passed(vm_id);
    passed.iter().map(PciAddress::to_string).collect()
}

#[tokio::test]
async fn each_gpu_is_one_vms_and_stays_with_it() {
    let (mut host, _devices) = with_two();
    host.want(asks(OTHER, 1)).await;
    host.eventually("made", |host| host.machine.domain(OTHER).is_some())
        .await;
    assert_eq!(passed(&host, OTHER), [LOW]);
    host.want(asks(VM, 1)).await;
    host.running().await;
    assert_eq!(passed(&host, VM), [HIGH]);

    // The lower one is free again; a VM that is started anew keeps its own.
    host.index += 1;
    let gone = Tombstone {
        vm_id: OTHER,
        ..tombstone(5)
    };
    let order = host.order(false, vec![], vec![gone]);
    host.agent().obey(&order).await.unwrap();
    host.eventually("removed", |host| host.machine.domain(OTHER).is_none())
        .await;
    let defined = |host: &Host| {
        let deeds = host.machine.deeds(VM).into_iter();
        deeds.filter(|deed| *deed == Deed::Defined).count()
    };
    let before = defined(&host);
    let mut stopped = asks(VM, 1);
    (stopped.power, stopped.power_serial) = (Power::Stopped, 2);
    host.want(stopped).await;
    host.until("stopped", |s| s.phase() == Phase::Stopped && s.carried_out)
        .await;
    let mut started = asks(VM, 1);
    started.power_serial = 3;
    host.want(started).await;
    host.until("started", |s| s.power_serial == 3 && s.carried_out)
        .await;
    assert!(defined(&host) > before, "it was defined anew");
    assert_eq!(passed(&host, VM), [HIGH]);
}

#[tokio::test]
async fn without_a_free_gpu_it_is_an_error_until_there_is_one() {
    let (mut host, devices) = with_two();
    let stranger = ForeignDomain {
        passed: vec![PciAddress::new(LOW).unwrap()],
        ..small_foreign(ObjectId::from_u128(77))
    };
    host.machine.put_foreign(stranger.clone());
    host.want(asks(VM, 2)).await;
    let seen = host
        .until("refused", |seen| seen.phase() == Phase::Error)
        .await;
    assert_eq!(seen.reason, "gpu_missing");
    assert!(
        seen.message.contains("asks for 2 GPUs, and 1 of those"),
        "{}",
        seen.message
    );
    assert_eq!(host.machine.deeds(VM), []);
    host.machine.take_foreign(stranger.domain_id);
    host.running().await;
    assert_eq!(passed(&host, VM), [LOW, HIGH]);
    drop(devices);
}

#[tokio::test]
async fn what_is_not_there_is_not_passed() {
    let (mut host, devices) = with_two();
    std::fs::remove_dir_all(devices.path().join(LOW)).unwrap();
    host.want(asks(VM, 1)).await;
    host.running().await;
    assert_eq!(passed(&host, VM), [HIGH]);
}
