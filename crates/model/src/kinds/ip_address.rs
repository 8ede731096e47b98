//! One address of a pool, and who has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::net::Address;
use crate::print::{dimension, key, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// An address. Its parent is its pool; its name for people is the address itself.
#[derive(Debug)]
pub enum IpAddress {}

/// Whether it can be had. Changed by verbs, never by writing it.
///
/// ```text
///  available ──allocate──▶ allocated ──release, or its lease ends──▶ available
///  available ──reserve───▶ reserved ──allocate by address──▶ allocated, ──release──▶ available
///  any but frozen ──freeze──▶ frozen ──unfreeze──▶ what it was
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddressState {
    /// The next that asks may get it.
    #[default]
    Available,
    /// Its owner has it.
    Allocated,
    /// Kept for who asks for this very one.
    Reserved,
    /// Nobody gets it, and who has it keeps it, until it is unfrozen.
    Frozen,
}

impl AddressState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Allocated => "allocated",
            Self::Reserved => "reserved",
            Self::Frozen => "frozen",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpAddressSpec {
    /// The pool it belongs to; stays.
    pub ip_pool_id: ObjectId,
    /// The address; stays.
    pub address: Address,
    /// The MAC address of the card that is to have it, as `52:54:00:12:34:56`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// What the verbs made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IpAddressStatus {
    /// Whether it can be had.
    #[serde(default)]
    pub state: AddressState,
    /// The VM that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<ObjectId>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_at: Option<Timestamp>,
    /// After which it goes back to its pool by itself; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<Timestamp>,
    /// What it was when it was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_before_freeze: Option<AddressState>,
    /// The first address of the range that it was given with, which goes back as a whole; absent: it was given alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_start: Option<Address>,
    /// How many addresses that range has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_size: Option<u32>,
    /// The user group whose quota it takes, with that of all groups above: that of the VM that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_group_id: Option<ObjectId>,
    /// Whose user quota it takes: that of the VM that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_user_id: Option<ObjectId>,
    /// The VPC in which it is unique; absent: in the whole cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_scope_id: Option<ObjectId>,
    /// The subnet it lies in, if its pool has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<ObjectId>,
}

impl IpAddressStatus {
    /// Whether it counts in quotas: while somebody has it or keeps it, frozen or not.
    fn is_taken(&self) -> bool {
        let state = match self.state {
            AddressState::Frozen => self.state_before_freeze.unwrap_or_default(),
            state => state,
        };
        matches!(state, AddressState::Allocated | AddressState::Reserved)
    }
}

/// Value of the index keys of a pool's addresses: they sort by address within it.
pub fn in_pool(pool: ObjectId, address: Address) -> String {
    format!("{pool}/{:032x}", address.number())
}

impl Resource for IpAddress {
    const KIND: Kind = Kind::IpAddress;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::under("ip_pool", Kind::IpPool)],
        create: ByPeople::ByVerb,
        ..Rules::plain("One address of a pool, and who has it")
    };
    type Spec = IpAddressSpec;
    type Status = IpAddressStatus;

    fn example() -> IpAddressSpec {
        IpAddressSpec {
            ip_pool_id: ObjectId::from_u128(1),
            address: Address::v4([203, 0, 113, 10]),
            mac_address: Some("52:54:00:12:34:56".into()),
            tags: vec!["web".into()],
            description: String::new(),
        }
    }

    fn validate(spec: &IpAddressSpec) -> Result<(), Invalid> {
        if let Some(mac) = &spec.mac_address {
            checks::mac("mac_address", mac)?;
        }
        Invalid::tags("tags", &spec.tags)?;
        Invalid::text("description", &spec.description, 1024)
    }

    fn validate_update(old: &IpAddressSpec, new: &IpAddressSpec) -> Result<(), Invalid> {
        if old.address != new.address {
            return Err(Invalid::new("address", format!("stays {}: it is what it is", old.address)));
        }
        Self::validate(new)
    }

    /// One that is taken is charged to the user and the user group of the VM that has it, without a group to
    /// the tenant whose it is. What the cloud keeps for itself is nobody's quota.
    fn print(meta: &Meta, spec: &IpAddressSpec, status: &IpAddressStatus, print: &mut Print) {
        if status.is_taken() {
            let shared = status.charged_group_id.or(meta.tenant);
            for owner in [shared, status.charged_user_id].into_iter().flatten() {
                print.charge(owner, dimension::ADDRESSES, 1);
            }
        }
        let space = space::addresses(status.address_scope_id);
        let in_pool = in_pool(spec.ip_pool_id, spec.address);
        print.claim(space, spec.address.bytes());
        print.link(status.subnet_id).link(status.owner_id);
        print.key(key::NAME, format!("ip_address/{}", spec.address));
        if let Some(owner) = status.owner_id {
            print.key(key::IP_OWNER, owner.to_string());
        }
        if let Some(subnet) = status.subnet_id {
            print.key(key::IP_SUBNET, subnet.to_string());
        }
        if status.state == AddressState::Available {
            print.key(key::IP_AVAILABLE, in_pool.as_str());
        }
        print.key(key::IP_POOL, in_pool);
        if let (AddressState::Allocated, Some(at)) = (status.state, status.leased_until) {
            print.expires(at);
        }
    }
}
