//! A part of a VPC's addresses, with one gateway.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::vpc::{NetworkState, yes};
use crate::net::{Address, Cidr};
use crate::print::space;
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A subnet.
#[derive(Debug)]
pub enum Subnet {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// The VPC it lies in; stays.
    pub vpc_id: ObjectId,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its block of addresses, within the VPC's, apart from those of its other subnets; stays.
    pub cidr: Cidr,
    /// The address of its router, which no machine gets. Stays while there are addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Address>,
    /// True if its addresses count in the whole cloud and not in its VPC alone; stays. Needs the right to
    /// manage subnets everywhere.
    #[serde(default)]
    pub public: bool,
    /// Whether a machine in it gets an address without asking for one.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// The availability zone it is for.
    #[serde(default)]
    pub availability_zone: String,
    /// VLAN that carries it within its VPC, 1 to 4094.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Administrative state.
    #[serde(default)]
    pub state: NetworkState,
}

impl SubnetSpec {
    /// Where its addresses are unique: its VPC, or nothing for the whole cloud.
    pub fn address_scope(&self) -> Option<ObjectId> {
        (!self.public).then_some(self.vpc_id)
    }
    /// The addresses in it that no machine may have, in order.
    pub fn special(&self) -> Vec<Address> {
        let mut special = self.cidr.special();
        special.extend(self.gateway);
        special.sort();
        special.dedup();
        special
    }
}

impl Resource for Subnet {
    const KIND: Kind = Kind::Subnet;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::under("vpc", Kind::Vpc)],
        ..Rules::plain("A part of a VPC's addresses, with one gateway")
    };
    type Spec = SubnetSpec;
    type Status = Recorded;

    fn example() -> SubnetSpec {
        SubnetSpec {
            vpc_id: ObjectId::from_u128(1),
            description: String::new(),
            cidr: Cidr::v4([10, 1, 2, 0], 24),
            gateway: Some(Address::v4([10, 1, 2, 1])),
            public: false,
            auto_assign: true,
            availability_zone: String::new(),
            vlan_id: None,
            state: NetworkState::Active,
        }
    }

    fn validate(spec: &SubnetSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::text("availability_zone", &spec.availability_zone, 63)?;
        if let Some(vlan) = spec.vlan_id {
            Invalid::outside("vlan_id", u64::from(vlan), 1, 4094)?;
        }
        let Some(gateway) = spec.gateway else {
            return Ok(());
        };
        if !spec.cidr.contains(gateway) {
            return Err(Invalid::new("gateway", format!("{gateway} does not lie within {}", spec.cidr)));
        }
        if spec.cidr.special().contains(&gateway) {
            return Err(Invalid::new(
                "gateway",
                format!("{gateway} is the address of {} itself or the one for all of its machines", spec.cidr),
            ));
        }
        Ok(())
    }

    fn validate_update(old: &SubnetSpec, new: &SubnetSpec) -> Result<(), Invalid> {
        if old.cidr != new.cidr {
            return Err(Invalid::new("cidr", format!("stays {}: make another subnet", old.cidr)));
        }
        if old.public != new.public {
            return Err(Invalid::new("public", "stays: its addresses would change their scope"));
        }
        Self::validate(new)
    }

    /// What no machine may have is held by the subnet among the addresses, so that no machine gets it.
    fn print(_: &Meta, spec: &SubnetSpec, _: &Recorded, print: &mut Print) {
        let (first, last) = (spec.cidr.first().bytes(), spec.cidr.last().bytes());
        print.claim_range(space::subnets(Some(spec.vpc_id)), first, last);
        if spec.public {
            print.claim_range(space::subnets(None), first, last);
        }
        for address in spec.special() {
            print.claim(space::addresses(spec.address_scope()), address.bytes());
        }
    }
}
