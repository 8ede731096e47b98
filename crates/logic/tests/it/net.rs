//! A tenant's network with a pool of addresses.

use serde_json::{Value, json};
use virtflow_logic::{AddressAct, AddressVerb, AllocateAddress, Create, Reply, Request};
use virtflow_model::Kind;
use virtflow_types::{Error, ObjectId};

use crate::world::{Host, World};

/// A tenant's subnet with a pool, and its developer's VMs `web-1` and `web-2`.
pub(crate) struct Net {
    pub(crate) world: World,
    pub(crate) host: Host,
    pub(crate) alice: ObjectId,
    pub(crate) admin: ObjectId,
    pub(crate) vpc: ObjectId,
    pub(crate) subnet: ObjectId,
    pub(crate) pool: ObjectId,
}

impl Net {
    pub(crate) fn new(first: &str, last: &str) -> Self {
        let (mut world, host) = World::furnished();
        world.tenant("globex", "bob");
        let [alice, bob] = ["alice", "bob"].map(|name| world.named(Kind::User, name).id);
        for (user, name) in [(alice, "web-1"), (alice, "web-2"), (bob, "other-1")] {
            world
                .vm(user, name, json!({"specification": "small"}))
                .unwrap();
        }
        let mut create = Create::new(Kind::Vpc, "v1", json!({"cidr": "10.0.0.0/16"}));
        create.tenant = Some("acme".into());
        let admin = world.admin;
        let vpc = world.ask(admin, &Request::Create(create)).unwrap();
        let vpc = vpc.object_id.unwrap();
        let spec = json!({"vpc": vpc, "cidr": "10.0.2.0/24", "gateway": "10.0.2.1"});
        let subnet = world.create(Kind::Subnet, "s1", spec);
        let range = json!({"data_center": "dc1", "subnet": subnet, "first_address": first, "last_address": last});
        let pool = world.create(Kind::IpPool, "p1", range);
        Self {
            world,
            host,
            alice,
            admin,
            vpc,
            subnet,
            pool,
        }
    }

    pub(crate) fn pool(&mut self, name: &str, first: &str, last: &str) -> Result<ObjectId, Error> {
        let spec = json!({"data_center": "dc1", "subnet": self.subnet, "first_address": first, "last_address": last});
        self.world.create_as(self.admin, Kind::IpPool, name, spec)
    }

    pub(crate) fn allocate(&mut self, vm: &str) -> Result<Reply, Error> {
        self.world.ask(self.alice, &asking("p1", vm))
    }

    pub(crate) fn act(
        &mut self,
        user: ObjectId,
        target: &str,
        act: AddressVerb,
    ) -> Result<Reply, Error> {
        let target = target.to_owned();
        let act = AddressAct {
            target,
            tenant: None,
            act,
        };
        self.world.ask(user, &Request::Address(act))
    }
}

pub(crate) fn asking(pool: &str, vm: &str) -> Request {
    Request::AllocateAddress(allocating(pool, vm))
}

pub(crate) fn allocating(pool: &str, vm: &str) -> AllocateAddress {
    AllocateAddress {
        count: 1,
        pool: pool.into(),
        vm: vm.into(),
        tenant: None,
        address: None,
        leased_until: None,
    }
}

pub(crate) fn address(reply: &Reply) -> String {
    let spec = &reply.object.as_ref().unwrap()["spec"];
    spec["address"].as_str().unwrap().to_owned()
}

pub(crate) fn status(reply: &Reply) -> Value {
    reply.object.as_ref().unwrap()["status"].clone()
}
