//! Whatever an agent, or who has its key, says.

use prost::Message as _;
use prost::bytes::Bytes;
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::agent_message::Body;
use virtflow_proto::bounded;
use virtflow_testkit::fuzz::{Format, Target, memory};

use super::{inventory_of, report_of};

fn message(body: Body) -> Vec<u8> {
    v1::AgentMessage { body: Some(body) }.encode_to_vec()
}

fn inventory() -> v1::Inventory {
    v1::Inventory {
        sockets: 2,
        cores: 32,
        memory_mib: 1 << 18,
        numa: vec![v1::NumaNode {
            id: 0,
            memory_mib: 1 << 17,
            cpus: vec![0, 1, 2],
        }],
        hugepages: vec![v1::HugePages {
            size_kib: 2048,
            total: 10,
            free: 5,
        }],
        filesystems: vec![v1::Filesystem {
            mount: "/".into(),
            ..v1::Filesystem::default()
        }],
        nics: vec![v1::Nic {
            name: "eth0".into(),
            ..v1::Nic::default()
        }],
        foreign: Some(v1::ForeignDomains {
            domains: vec![v1::ForeignDomain {
                domain_id: vec![1; 16],
                name: "old".into(),
                disks: vec![v1::ForeignDisk::default()],
                obstacles: vec!["transient".into()],
                ..v1::ForeignDomain::default()
            }],
            ..v1::ForeignDomains::default()
        }),
        gpus: vec!["none".into()],
        ..v1::Inventory::default()
    }
}

#[test]
fn agent_message() {
    let observed = v1::ObservedState {
        session: 1,
        sequence: 2,
        host_epoch: 3,
        boot_id: "boot".into(),
        complete: true,
        hash: vec![1; 32],
        acted_on: Some(v1::Stamp {
            incarnation: vec![5; 16],
            index: 7,
        }),
        vms: vec![v1::ObservedVm {
            vm_id: vec![1; 16],
            placement_epoch: 1,
            phase: v1::Phase::Running.into(),
            reason: "created".into(),
            ..v1::ObservedVm::default()
        }],
        confirmed: vec![v1::Tombstone {
            vm_id: vec![2; 16],
            placement_epoch: 4,
            keep_files: false,
        }],
    };
    let beat = v1::Heartbeat {
        session: 1,
        load: Some(v1::Load {
            guests: vec![v1::GuestLoad {
                vm_id: vec![1; 16],
                ..v1::GuestLoad::default()
            }],
            ..v1::Load::default()
        }),
        ..v1::Heartbeat::default()
    };
    let hello = v1::Hello {
        boot_id: "boot".into(),
        hostname: "h1".into(),
        inventory: Some(inventory()),
        protocol: 1,
        ..v1::Hello::default()
    };
    Target::new("agent_message", Format::Proto)
        .seed(message(Body::Observed(observed)))
        .seed(message(Body::Heartbeat(beat)))
        .seed(message(Body::Hello(hello)))
        .seed(message(Body::Inventory(inventory())))
        .words(&["boot", "0123456789abcdef"])
        .iterations(2000)
        .sizes(4096, 256 * 1024)
        .memory(16, 32 * 1024 * 1024)
        .run(|input| {
            let read: v1::AgentMessage =
                bounded::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            let written = Bytes::from(read.encode_to_vec());
            assert_eq!(bounded::decode(written).as_ref(), Ok(&read));
            match &read.body {
                Some(Body::Observed(observed)) => {
                    let report = report_of(observed);
                    assert!(report.vms.len() <= observed.vms.len());
                    assert!(report.confirmed.len() <= observed.confirmed.len());
                }
                Some(Body::Inventory(inventory)) => {
                    let facts = inventory_of(inventory).facts;
                    assert_eq!(serde_json::from_str(&facts.to_string()).ok(), Some(facts));
                }
                Some(Body::Hello(hello)) => {
                    inventory_of(
                        hello
                            .inventory
                            .as_ref()
                            .unwrap_or(&v1::Inventory::default()),
                    );
                }
                _ => {}
            }
            Ok(())
        });
}

#[test]
fn enrol_request() {
    let request = v1::EnrolRequest {
        token: "vfj1.0190d3b27c1e7e6ab1a15b0e3f4d2c11.AAEC".into(),
        csr_der: vec![0x30; 100],
        serial_number: "S1".into(),
        hostname: "h1".into(),
        agent_version: "0.1.0".into(),
    };
    // Anyone may send this.
    Target::new("enrol_request", Format::Proto)
        .seed(request.encode_to_vec())
        .iterations(2000)
        .sizes(8192, 256 * 1024)
        .memory(4, 64 * 1024)
        .run(|input| {
            let read: v1::EnrolRequest =
                bounded::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            assert_eq!(v1::EnrolRequest::decode(&*read.encode_to_vec()), Ok(read));
            Ok(())
        });
}

#[test]
fn endless_lists_of_facts_take_no_more_memory_than_a_host_could_need() {
    let parts = bounded::PARTS_MAX - 1;
    let pages = v1::Inventory {
        hugepages: vec![v1::HugePages::default(); parts],
        ..v1::Inventory::default()
    };
    let cpus = v1::Inventory {
        numa: vec![v1::NumaNode {
            cpus: vec![0; 4 * 1024 * 1024],
            ..v1::NumaNode::default()
        }],
        ..v1::Inventory::default()
    };
    let domain = v1::ForeignDomain {
        domain_id: vec![1; 16],
        ..v1::ForeignDomain::default()
    };
    let of = |domains| v1::Inventory {
        foreign: Some(v1::ForeignDomains {
            domains,
            ..v1::ForeignDomains::default()
        }),
        ..v1::Inventory::default()
    };
    let domains = of(vec![domain.clone(); parts]);
    let disks = of(vec![v1::ForeignDomain {
        disks: vec![v1::ForeignDisk::default(); parts],
        obstacles: vec![String::new(); parts],
        ..domain
    }]);
    for inventory in [pages, cpus, domains, disks] {
        let (facts, peak) = memory::peak_of(|| inventory_of(&inventory));
        assert!(peak < 8 * 1024 * 1024, "{peak} bytes");
        assert!(facts.facts.is_object());
    }
}
