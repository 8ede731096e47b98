//! A tenant's private network: a block of addresses that nobody else's can clash with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::net::{Address, Cidr};
use crate::print::space;
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// DNS servers of one network.
const DNS_SERVERS_MAX: usize = 8;

/// A VPC.
#[derive(Debug)]
pub enum Vpc {}

/// What an administrator decided about a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    /// In use.
    #[default]
    Active,
    /// Takes nothing new.
    Disabled,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its block of addresses; stays. Networks may have the same one: each is a scope of its own.
    pub cidr: Cidr,
    /// The data centre it lies in; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_center_id: Option<ObjectId>,
    /// VLAN that carries it, 1 to 4094, of no other network. Not together with a VNI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// VXLAN network identifier that carries it, 1 to 16777215, of no other network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// Whether machines in it are given name servers.
    #[serde(default = "yes")]
    pub dns_enabled: bool,
    /// Those name servers, at most 8; empty: the cloud's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<Address>,
    /// Administrative state.
    #[serde(default)]
    pub state: NetworkState,
}

pub(super) const fn yes() -> bool {
    true
}

impl Resource for Vpc {
    const KIND: Kind = Kind::Vpc;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::to("data_center", Kind::DataCenter)],
        ..Rules::plain("A tenant's private network")
    };
    type Spec = VpcSpec;
    type Status = Recorded;

    fn example() -> VpcSpec {
        VpcSpec {
            description: "Acme's own".into(),
            cidr: Cidr::v4([10, 1, 0, 0], 16),
            data_center_id: None,
            vlan_id: None,
            vni: Some(5001),
            dns_enabled: true,
            dns_servers: Vec::new(),
            state: NetworkState::Active,
        }
    }

    fn validate(spec: &VpcSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        if let Some(vlan) = spec.vlan_id {
            Invalid::outside("vlan_id", u64::from(vlan), 1, 4094)?;
        }
        if let Some(vni) = spec.vni {
            Invalid::outside("vni", u64::from(vni), 1, 0xff_ffff)?;
        }
        if spec.vlan_id.is_some() && spec.vni.is_some() {
            return Err(Invalid::new("vni", "a network is carried by a VLAN or by a VNI, not by both"));
        }
        if spec.dns_servers.len() > DNS_SERVERS_MAX {
            return Err(Invalid::new(
                "dns_servers",
                format!("at most {DNS_SERVERS_MAX} are allowed, not {}", spec.dns_servers.len()),
            ));
        }
        Ok(())
    }

    fn validate_update(old: &VpcSpec, new: &VpcSpec) -> Result<(), Invalid> {
        if old.cidr != new.cidr {
            return Err(Invalid::new(
                "cidr",
                format!("stays {}: its subnets lie within it; make another VPC", old.cidr),
            ));
        }
        Self::validate(new)
    }

    fn print(_: &Meta, spec: &VpcSpec, _: &Recorded, print: &mut Print) {
        print.link(spec.data_center_id);
        if let Some(vlan) = spec.vlan_id {
            print.claim(space::VPC_VLAN, vlan.to_be_bytes());
        }
        if let Some(vni) = spec.vni {
            print.claim(space::VNI, vni.to_be_bytes());
        }
    }
}
