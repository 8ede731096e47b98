//! Any order of allocations, releases, reservations, freezes and lapses, against a model of sixteen cells:
//! an address never has two owners, and what is given is the lowest that can be had.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use virtflow_logic::{AddressAct, AddressVerb, AllocateAddress, Create, Request};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::world::World;

#[derive(Debug, Clone)]
enum Step {
    Allocate { vm: usize, lease_s: Option<u64> },
    AllocateNamed { vm: usize, at: u8 },
    Act { at: u8, verb: AddressVerb },
    Make { at: u8 },
    Delete { at: u8 },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0u8..16;
    let verb = prop_oneof![
        4 => Just(AddressVerb::Release),
        2 => Just(AddressVerb::Reserve),
        1 => Just(AddressVerb::Freeze),
        1 => Just(AddressVerb::Unfreeze),
    ];
    prop_oneof![
        8 => (0usize..2, prop::option::of(1u64..100)).prop_map(|(vm, lease_s)| Step::Allocate { vm, lease_s }),
        2 => (0usize..2, at.clone()).prop_map(|(vm, at)| Step::AllocateNamed { vm, at }),
        8 => (at.clone(), verb).prop_map(|(at, verb)| Step::Act { at, verb }),
        1 => at.clone().prop_map(|at| Step::Make { at }),
        1 => at.prop_map(|at| Step::Delete { at }),
        2 => (1u64..60).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What an address is, told without looking at the code under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Free,
    Had { vm: usize, until_s: Option<u64> },
    Kept,
}

/// The addresses 10.0.2.0 to 10.0.2.15 of a /28 whose gateway is 10.0.2.5.
#[derive(Debug)]
struct Model {
    /// With what it is, and whether it is frozen; only those that have been spoken of.
    cells: BTreeMap<u8, (Cell, bool)>,
    clock_s: u64,
}

/// The network's own, the gateway and the one for all.
fn is_special(at: u8) -> bool {
    matches!(at, 0 | 5 | 15)
}

impl Model {
    fn can_be_had(&self, at: u8) -> bool {
        !is_special(at) && matches!(self.cells.get(&at), None | Some((Cell::Free, false)))
    }
    fn lowest(&self) -> Option<u8> {
        (0..16).find(|at| self.can_be_had(*at))
    }
    fn lapse(&mut self) {
        for (cell, frozen) in self.cells.values_mut() {
            if let Cell::Had {
                until_s: Some(until),
                ..
            } = cell
                && *until <= self.clock_s
                && !*frozen
            {
                *cell = Cell::Free;
            }
        }
    }
    /// Does it, or not; tells which.
    fn act(&mut self, at: u8, verb: AddressVerb) -> bool {
        let Some((cell, frozen)) = self.cells.get_mut(&at) else {
            return false;
        };
        match (verb, *frozen) {
            (AddressVerb::Freeze, _) => *frozen = true,
            (AddressVerb::Unfreeze, true) => *frozen = false,
            (AddressVerb::Release, false) => *cell = Cell::Free,
            (AddressVerb::Reserve, false) if !matches!(cell, Cell::Had { .. }) => {
                *cell = Cell::Kept
            }
            _ => return false,
        }
        true
    }
}

struct Run {
    world: World,
    vms: [ObjectId; 2],
    pool: ObjectId,
    model: Model,
}

fn text(at: u8) -> String {
    format!("10.0.2.{at}")
}

impl Run {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        let alice = world.named(Kind::User, "alice").id;
        let vms = ["web-1", "web-2"].map(|name| {
            let reply = world.vm(alice, name, json!({"specification": "small"}));
            reply.unwrap().object_id.unwrap()
        });
        let create = Create::new(Kind::Vpc, "v1", json!({"cidr": "10.0.0.0/16"})).tenant("acme");
        world.ask(world.admin, &Request::Create(create)).unwrap();
        let spec = json!({"vpc": "v1", "cidr": "10.0.2.0/28", "gateway": "10.0.2.5"});
        let subnet = world.create(Kind::Subnet, "s1", spec);
        let spec = json!({"data_center": "dc1", "subnet": subnet, "first_address": text(0), "last_address": text(15)});
        let pool = world.create(Kind::IpPool, "p1", spec);
        Self {
            world,
            vms,
            pool,
            model: Model {
                cells: BTreeMap::new(),
                clock_s: 0,
            },
        }
    }

    fn allocate(&mut self, vm: usize, at: Option<u8>, lease_s: Option<u64>) {
        let asked = AllocateAddress {
            count: 1,
            pool: self.pool.to_string(),
            vm: self.vms[vm].to_string(),
            tenant: None,
            address: at.map(text),
            leased_until: lease_s.map(|s| self.world.now.plus(Duration::from_secs(s))),
        };
        let admin = self.world.admin;
        let got = self.world.ask(admin, &Request::AllocateAddress(asked));
        let expected = match at {
            None => self.model.lowest(),
            Some(at) => {
                let kept = self.model.cells.get(&at) == Some(&(Cell::Kept, false));
                Some(at).filter(|at| self.model.can_be_had(*at) || kept)
            }
        };
        match (got, expected) {
            (Ok(reply), Some(at)) => {
                assert_eq!(reply.object.unwrap()["spec"]["address"], text(at));
                let until_s = lease_s.map(|s| self.model.clock_s + s);
                self.model
                    .cells
                    .insert(at, (Cell::Had { vm, until_s }, false));
            }
            (Err(error), None) if at.is_none() => assert_eq!(error.code, ErrorCode::NoCapacity),
            (Err(error), None) => assert_ne!(error.code, ErrorCode::Internal, "{error}"),
            (got, expected) => panic!("{got:?}, where the model has {expected:?}"),
        }
    }

    fn take(&mut self, step: &Step) {
        let admin = self.world.admin;
        match *step {
            Step::Allocate { vm, lease_s } => self.allocate(vm, None, lease_s),
            Step::AllocateNamed { vm, at } => self.allocate(vm, Some(at), None),
            Step::Act { at, verb } => {
                let act = AddressAct {
                    target: text(at),
                    tenant: None,
                    act: verb,
                };
                let done = self.world.ask(admin, &Request::Address(act));
                assert_eq!(done.is_ok(), self.model.act(at, verb), "{done:?}");
            }
            Step::Make { at } => {
                let spec = json!({"ip_pool": self.pool, "address": text(at)});
                let made = self.world.create_as(admin, Kind::IpAddress, "", spec);
                let new = !is_special(at) && !self.model.cells.contains_key(&at);
                assert_eq!(made.is_ok(), new, "{made:?}");
                if new {
                    self.model.cells.insert(at, (Cell::Free, false));
                }
            }
            Step::Delete { at } => {
                let row =
                    self.world
                        .state
                        .by_key("name", &format!("ip_address/{}", text(at)), None);
                let Some(id) = row.map(|row| row.id).next() else {
                    return assert!(!self.model.cells.contains_key(&at));
                };
                let gone = self.world.delete(admin, Kind::IpAddress, id);
                let idle = matches!(self.model.cells[&at], (Cell::Free | Cell::Kept, false));
                assert_eq!(gone.is_ok(), idle, "{gone:?}");
                if idle {
                    self.model.cells.remove(&at);
                }
            }
            Step::Pass { seconds } => {
                self.world.wait(Duration::from_secs(seconds));
                self.world.loops();
                self.model.clock_s += seconds;
            }
        }
        // Leases that were over while something was frozen end with the next pass.
        self.world.loops();
        self.model.lapse();
        self.compare();
    }

    /// Every row is what the model has, and no address has two rows.
    fn compare(&self) {
        let mut seen = BTreeMap::new();
        for row in self.world.state.of_kind("ip_address", None) {
            let shown = virtflow_logic::public(&self.world.state, row);
            let at: u8 = shown["spec"]["address"].as_str().unwrap()[7..]
                .parse()
                .unwrap();
            let (state, owner) = (&shown["status"]["state"], &shown["status"]["owner_id"]);
            let told = (state.clone(), owner.clone());
            assert!(seen.insert(at, told).is_none(), "{} has two rows", text(at));
        }
        let model = self.model.cells.iter().map(|(at, (cell, frozen))| {
            let (state, owner) = match cell {
                Cell::Free => ("available", Value::Null),
                Cell::Kept => ("reserved", Value::Null),
                Cell::Had { vm, .. } => ("allocated", json!(self.vms[*vm])),
            };
            let state = if *frozen { "frozen" } else { state };
            (*at, (json!(state), owner))
        });
        assert_eq!(seen, model.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn an_address_has_one_owner_and_the_lowest_free_one_is_given(steps in prop::collection::vec(step(), 1..50)) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
    }
}
