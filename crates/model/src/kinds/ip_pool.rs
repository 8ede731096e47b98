//! A range of addresses that are given to VMs, one by one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::net::Address;
use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// Addresses of one pool: what is walked over to find a free one.
pub const IP_POOL_ADDRESSES_MAX: u128 = 65_536;

/// A pool of addresses. Its parent is its data centre.
#[derive(Debug)]
pub enum IpPool {}

/// What an administrator decided about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// Gives.
    #[default]
    Active,
    /// Gives nothing for now.
    Maintenance,
    /// Gives nothing.
    Disabled,
}

impl PoolState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Maintenance => "maintenance",
            Self::Disabled => "disabled",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpPoolSpec {
    /// The data centre it is for; stays.
    pub data_center_id: ObjectId,
    /// The subnet whose addresses it gives, whose tenant's it is then and which has no other pool; stays. Absent: public addresses, for
    /// every tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<ObjectId>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The lowest address. A pool has at most 65536, none of them another pool's, and may grow.
    pub first_address: Address,
    /// The highest address, itself included.
    pub last_address: Address,
    /// Administrative state.
    #[serde(default)]
    pub state: PoolState,
}

impl IpPoolSpec {
    /// How many addresses it spans.
    pub fn size(&self) -> u128 {
        let (first, last) = (self.first_address.number(), self.last_address.number());
        last.saturating_sub(first).saturating_add(1)
    }
    /// True if the address is one of its own.
    pub fn contains(&self, address: Address) -> bool {
        (self.first_address..=self.last_address).contains(&address)
    }
}

/// What followed from its making.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IpPoolStatus {
    /// The VPC in which its addresses are unique; absent: in the whole cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_scope_id: Option<ObjectId>,
}

impl Resource for IpPool {
    const KIND: Kind = Kind::IpPool;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("data_center", Kind::DataCenter),
            Reference::within("subnet", Kind::Subnet),
        ],
        create: ByPeople::ByVerb,
        ..Rules::plain("A range of addresses that are given to VMs, one by one")
    };
    type Spec = IpPoolSpec;
    type Status = IpPoolStatus;

    fn example() -> IpPoolSpec {
        IpPoolSpec {
            data_center_id: ObjectId::from_u128(1),
            subnet_id: None,
            description: String::new(),
            first_address: Address::v4([203, 0, 113, 10]),
            last_address: Address::v4([203, 0, 113, 99]),
            state: PoolState::Active,
        }
    }

    fn validate(spec: &IpPoolSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        let (first, last) = (spec.first_address, spec.last_address);
        if first.is_v4() != last.is_v4() {
            return Err(Invalid::new("last_address", format!("{last} is not of the family of {first}")));
        }
        if first > last {
            return Err(Invalid::new("last_address", format!("{last} is lower than the first, {first}")));
        }
        if spec.size() > IP_POOL_ADDRESSES_MAX {
            return Err(Invalid::new(
                "last_address",
                format!("a pool has at most {IP_POOL_ADDRESSES_MAX} addresses, not {}", spec.size()),
            ));
        }
        Ok(())
    }

    /// It only grows, so that its addresses stay within it without being looked at.
    fn validate_update(old: &IpPoolSpec, new: &IpPoolSpec) -> Result<(), Invalid> {
        if old.subnet_id != new.subnet_id {
            return Err(Invalid::new("subnet_id", "stays: make another pool there"));
        }
        if new.first_address > old.first_address {
            return Err(Invalid::new(
                "first_address",
                format!("a pool only grows: at most {}", old.first_address),
            ));
        }
        if new.last_address < old.last_address {
            return Err(Invalid::new(
                "last_address",
                format!("a pool only grows: at least {}", old.last_address),
            ));
        }
        Self::validate(new)
    }

    /// Of a data centre and a tenant: what one tenant calls its pools is no business of another's.
    fn name_space(meta: &Meta, _: &Self::Spec) -> String {
        let of_center = space::names(Kind::IpPool, meta.parent);
        space::within(&of_center, meta.tenant)
    }

    fn print(_: &Meta, spec: &IpPoolSpec, status: &IpPoolStatus, print: &mut Print) {
        if let Some(subnet) = spec.subnet_id {
            print.claim(space::POOL_SUBNET, subnet.as_bytes());
        }
        print.link(spec.subnet_id).claim_range(
            space::ip_pools(status.address_scope_id),
            spec.first_address.bytes(),
            spec.last_address.bytes(),
        );
    }
}
