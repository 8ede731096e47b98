//! Any order of requests, reports, passes, losses and time: after each step every index, ledger and limit
//! holds, nothing can be applied twice, and in the end everything can be cleaned up.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use virtflow_logic::{
    Create, Delete, HostAct, HostVerb, Idempotency, ObservedPhase, ObservedVm, Power, Request,
    desired_of,
};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::ErrorCode;

use crate::world::{Host, World, one, seen};

#[derive(Debug, Clone)]
enum Step {
    Create {
        user: usize,
        name: u8,
        cpu: u32,
        memory: u64,
        key: Option<u8>,
    },
    Delete {
        user: usize,
        name: u8,
    },
    Power {
        user: usize,
        name: u8,
        act: PowerAct,
    },
    Place,
    Settle {
        host: usize,
    },
    Report {
        host: usize,
        name: u8,
        phase: ObservedPhase,
        carried_out: bool,
        epoch: u64,
    },
    Offline {
        host: usize,
    },
    Online {
        host: usize,
        boot: u8,
        memory: u64,
    },
    Cordon {
        host: usize,
        cordon: bool,
    },
    Loops,
    Wait {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        Just(PowerAct::Start),
        Just(PowerAct::Stop),
        Just(PowerAct::ForceStop),
        Just(PowerAct::Reboot)
    ];
    let phase = prop_oneof![
        Just(ObservedPhase::Creating),
        Just(ObservedPhase::Running),
        Just(ObservedPhase::Stopped),
        Just(ObservedPhase::Restarting),
        Just(ObservedPhase::Error),
        Just(ObservedPhase::Orphan)
    ];
    let memory = prop_oneof![Just(128u64), 500u64..2500];
    prop_oneof![
        6 => (0usize..2, 0u8..4, 1u32..5, memory, prop::option::of(0u8..3))
            .prop_map(|(user, name, cpu, memory, key)| Step::Create { user, name, cpu, memory, key }),
        3 => (0usize..2, 0u8..4).prop_map(|(user, name)| Step::Delete { user, name }),
        3 => (0usize..2, 0u8..4, act).prop_map(|(user, name, act)| Step::Power { user, name, act }),
        4 => Just(Step::Place),
        4 => (0usize..2).prop_map(|host| Step::Settle { host }),
        3 => (0usize..2, 0u8..4, phase, any::<bool>(), 0u64..3)
            .prop_map(|(host, name, phase, carried_out, epoch)| Step::Report { host, name, phase, carried_out, epoch }),
        1 => (0usize..2).prop_map(|host| Step::Offline { host }),
        2 => (0usize..2, 0u8..3, 4096u64..9000).prop_map(|(host, boot, memory)| Step::Online { host, boot, memory }),
        1 => (0usize..2, any::<bool>()).prop_map(|(host, cordon)| Step::Cordon { host, cordon }),
        2 => Just(Step::Loops),
        1 => (1u64..400).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

struct Run {
    world: World,
    users: [virtflow_types::ObjectId; 2],
    hosts: [Host; 2],
}

impl Run {
    fn new() -> Self {
        let (mut world, first) = World::furnished();
        world.tenant("globex", "bob");
        let second = world.host("SN-2", 4000, 8192, 100);
        let users = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
        Self {
            world,
            users,
            hosts: [first, second],
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create {
                user,
                name,
                cpu,
                memory,
                key,
            } => {
                let spec = json!({"cpu_cores": cpu, "memory_mib": memory, "storage_gib": 5});
                let request = Request::Create(Create::new(
                    Kind::VirtualMachine,
                    &format!("vm-{name}"),
                    spec,
                ));
                let mut cx = self.world.cx(self.users[*user]);
                cx.idempotency = key.map(|key| Idempotency {
                    key: format!("key-{key}"),
                    request_hash: format!("{name} {cpu} {memory}"),
                });
                self.expect(&cx, &request);
            }
            Step::Delete { user, name } => {
                let delete = Delete {
                    kind: Kind::VirtualMachine,
                    target: format!("vm-{name}"),
                    tenant: None,
                    force: false,
                };
                let cx = self.world.cx(self.users[*user]);
                self.expect(&cx, &Request::Delete(delete));
            }
            Step::Power { user, name, act } => {
                let power = Power {
                    target: format!("vm-{name}"),
                    tenant: None,
                    act: *act,
                };
                let cx = self.world.cx(self.users[*user]);
                self.expect(&cx, &Request::Power(power));
            }
            Step::Place => self.world.place(),
            Step::Settle { host } => self.world.settle(&self.hosts[*host]),
            Step::Report {
                host,
                name,
                phase,
                carried_out,
                epoch,
            } => {
                let host = &self.hosts[*host];
                let name = format!("vm-{name}");
                let desired = desired_of(&self.world.state, host.id);
                let known = desired.vms.iter().find(|vm| vm.name == name.as_str());
                let vm_id = known.map_or_else(virtflow_types::ObjectId::generate, |vm| vm.vm_id);
                let report = ObservedVm {
                    carried_out: *carried_out,
                    power_serial: known.map_or(0, |vm| vm.power_serial.saturating_sub(epoch % 2)),
                    ..seen(vm_id, *epoch, *phase)
                };
                self.world.report(host, &one(report));
            }
            Step::Offline { host } => self.world.offline(&self.hosts[*host]),
            Step::Online { host, boot, memory } => {
                // Never less than what is placed: a smaller machine is another story.
                let used = self.world.used(self.hosts[*host].id, "memory_mib");
                let boot = format!("boot-{boot}");
                let capacity = [4000, (*memory).max(used), 100];
                self.world.online(&mut self.hosts[*host], &boot, capacity);
            }
            Step::Cordon { host, cordon } => {
                let act = if *cordon {
                    HostVerb::Cordon
                } else {
                    HostVerb::Uncordon
                };
                let target = self.hosts[*host].id.to_string();
                let cx = self.world.cx(self.world.admin);
                self.expect(&cx, &Request::Host(HostAct { target, act }));
            }
            Step::Loops => self.world.loops(),
            Step::Wait { seconds } => self.world.wait(Duration::from_secs(*seconds)),
        }
    }

    /// A request may be refused, but never for a reason of ours.
    fn expect(&mut self, cx: &virtflow_logic::Cx, request: &Request) {
        if let Err(error) = self.world.ask_with(cx, request) {
            assert_ne!(error.code, ErrorCode::Internal, "{request:?}: {error}");
        }
    }

    /// Everything is deleted, hosts confirm, time passes: nothing is left of it in any ledger.
    fn clean_up(&mut self) {
        for user in self.users {
            for n in 0..4 {
                let delete = Delete {
                    kind: Kind::VirtualMachine,
                    target: format!("vm-{n}"),
                    tenant: None,
                    force: false,
                };
                let cx = self.world.cx(user);
                self.expect(&cx, &Request::Delete(delete));
            }
        }
        for at in 0..2 {
            self.take(&Step::Online {
                host: at,
                boot: 9,
                memory: 8192,
            });
            self.take(&Step::Settle { host: at });
        }
        self.world.wait(Duration::from_secs(30 * 3600));
        self.world.loops();
        assert_eq!(
            self.world
                .state
                .of_kind(Kind::VirtualMachine.name(), None)
                .count(),
            0
        );
        assert_eq!(
            self.world.state.of_kind(Kind::Residue.name(), None).count(),
            0
        );
        assert_eq!(
            self.world
                .state
                .of_kind(Kind::Operation.name(), None)
                .count(),
            0
        );
        self.world.assert_ledgers_zero();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn nothing_breaks_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
        run.clean_up();
    }
}
