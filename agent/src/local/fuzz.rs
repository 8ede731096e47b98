//! Whatever a controller orders, and whatever lies in the state file.

use prost::Message as _;
use prost::bytes::Bytes;
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::controller_message::Body;
use virtflow_proto::bounded;
use virtflow_testkit::fuzz::{Format, Target};

use super::{FORMAT, LocalState, LocalStore, file};
use crate::desired::Desired;

fn vm(id: u8) -> v1::DesiredVm {
    v1::DesiredVm {
        vm_id: vec![id; 16],
        placement_epoch: 3,
        generation: 2,
        name: "web-1".into(),
        tenant_id: vec![9; 16],
        cpu_cores: 2,
        memory_mib: 512,
        storage_gib: 4,
        gpu_count: 0,
        power: v1::Power::Running.into(),
        power_serial: 1,
        reboot: false,
        force: false,
        grace_s: 30,
        restart: v1::RestartPolicy::Always.into(),
        nics: vec![v1::NicSpec {
            mac: "52:54:00:12:34:56".into(),
            bridge: "br0".into(),
            address: String::new(),
        }],
        adopted_domain: vec![id; 16],
    }
}

fn order(index: u64) -> v1::Desired {
    v1::Desired {
        stamp: Some(v1::Stamp {
            incarnation: vec![5; 16],
            index,
        }),
        host_epoch: 1,
        complete: true,
        vms: vec![vm(1), vm(2)],
        tombstones: vec![v1::Tombstone {
            vm_id: vec![3; 16],
            placement_epoch: 1,
            keep_files: false,
        }],
        causes: vec![v1::Cause {
            vm_id: vec![1; 16],
            request_id: "00000000-0000-0000-0000-0000000000aa".into(),
        }],
    }
}

fn message(body: Body) -> Vec<u8> {
    v1::ControllerMessage { body: Some(body) }.encode_to_vec()
}

#[test]
fn controller_message() {
    let mut known = LocalState::default();
    known
        .accept(&Desired::from_wire(&order(10)).unwrap())
        .unwrap();
    let mut other_life = order(11);
    other_life.stamp = Some(v1::Stamp {
        incarnation: vec![6; 16],
        index: 1,
    });
    Target::new("controller_message", Format::Proto)
        .seed(message(Body::Desired(order(10))))
        .seed(message(Body::Desired(other_life)))
        .seed(message(Body::Welcome(v1::Welcome {
            session: 1,
            host_epoch: 2,
            heartbeat_interval_ms: 2000,
            stamp: order(1).stamp,
        })))
        .seed(message(Body::Goodbye(v1::Goodbye {
            reason: "stopping".into(),
            removed: false,
            r#try: vec!["c2:8444".into()],
        })))
        .words(&["web-1", "0123456789abcdef", "52:54:00:12:34:56"])
        .iterations(2000)
        .sizes(4096, 256 * 1024)
        .memory(16, 32 * 1024 * 1024)
        .run(|input| {
            let read: v1::ControllerMessage =
                bounded::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            let written = Bytes::from(read.encode_to_vec());
            assert_eq!(bounded::decode(written).as_ref(), Ok(&read));
            let Some(Body::Desired(desired)) = read.body else {
                return Ok(());
            };
            let order = Desired::from_wire(&desired).map_err(|error| error.to_string())?;
            let mut state = known.clone();
            let before: Vec<_> = state.tombstones.keys().copied().collect();
            if state.accept(&order).is_ok() {
                assert_eq!(state.highest, Some(order.stamp));
                // Nothing that must go is ever forgotten by an order.
                assert!(before.iter().all(|vm| state.tombstones.contains_key(vm)));
            } else {
                assert_eq!(state, known);
            }
            let stored = serde_json::to_vec(&state).unwrap();
            assert_eq!(
                serde_json::from_slice::<LocalState>(&stored).unwrap(),
                state
            );
            Ok(())
        });
}

#[test]
fn enrol_reply() {
    let reply = v1::EnrolReply {
        certificate_der: vec![1; 40],
        ca_der: vec![2; 40],
        host_id: "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11".into(),
        cluster_id: "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c22".into(),
        agent_endpoints: vec!["c1:8444".into()],
        api_endpoints: vec!["c1:8443".into()],
        sealed_ca: Vec::new(),
        wrapped_seal_key: Vec::new(),
        peer_endpoints: Vec::new(),
    };
    Target::new("enrol_reply", Format::Proto)
        .seed(reply.encode_to_vec())
        .iterations(2000)
        .sizes(8192, 128 * 1024)
        .memory(16, 16 * 1024 * 1024)
        .run(|input| {
            let read: v1::EnrolReply =
                bounded::decode(Bytes::copy_from_slice(input)).map_err(|e| e.to_string())?;
            let written = Bytes::from(read.encode_to_vec());
            assert_eq!(bounded::decode(written).as_ref(), Ok(&read));
            Ok(())
        });
}

#[test]
fn local_state() {
    let mut known = LocalState {
        format: FORMAT,
        ..LocalState::default()
    };
    known
        .accept(&Desired::from_wire(&order(10)).unwrap())
        .unwrap();
    let good = serde_json::to_vec(&known).unwrap();
    Target::new("local_state", Format::Text)
        .seed(good)
        .words(&[
            "null",
            "\"vms\"",
            "\"tombstones\"",
            "\"highest\"",
            "{}",
            "[]",
            ":",
            ",",
        ])
        .iterations(4000)
        .memory(64, 64 * 1024)
        .run(|input| {
            let read: LocalState = serde_json::from_slice(input).map_err(|e| e.to_string())?;
            let written = serde_json::to_vec(&read).unwrap();
            assert_eq!(
                serde_json::from_slice::<LocalState>(&written).unwrap(),
                read
            );
            Ok(())
        });
}

/// The whole file: with its checksum it is what was written, else it is set aside and never trusted.
#[test]
fn local_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let mut known = LocalState {
        format: FORMAT,
        ..LocalState::default()
    };
    known
        .accept(&Desired::from_wire(&order(10)).unwrap())
        .unwrap();
    file::write(&path, &serde_json::to_vec(&known).unwrap()).unwrap();
    let good = std::fs::read(&path).unwrap();
    Target::new("local_file", Format::Text)
        .seed(good.clone())
        .iterations(1000)
        .memory(64, 256 * 1024)
        .run(|input| {
            std::fs::write(&path, input).unwrap();
            let store = LocalStore::open(dir.path());
            let is_known = store.read(|state| *state == known);
            assert_eq!(is_known, input == good);
            if is_known {
                Ok(())
            } else {
                Err("set aside".to_owned())
            }
        });
}
