//! A cloud box: a small machine at a user's place, through which a VM is used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use virtflow_types::{ObjectId, Timestamp};

use super::virtual_machine::validate_labels;
use crate::recorded::Recorded;
use crate::print::{key, space};
use crate::{Action, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope, checks};

/// A cloud box.
#[derive(Debug)]
pub enum CloudBox {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudBoxState {
    /// In use.
    #[default]
    Active,
    /// Being worked on.
    Maintenance,
    /// Not to be used.
    Disabled,
}

/// How it gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// From the network it stands in.
    #[default]
    Dhcp,
    /// From here.
    Static,
}

/// The network settings it should have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudBoxNetwork {
    /// How it gets its address.
    pub mode: NetworkMode,
    /// Its address, in static mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Bits of the address that name its network, in static mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<u8>,
    /// Where it sends what is not for its own network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name servers, at most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<IpAddr>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudBoxSpec {
    /// The number its maker gave it, unique.
    pub serial_number: String,
    /// The data centre that serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_center_id: Option<ObjectId>,
    /// Administrative state.
    #[serde(default)]
    pub state: CloudBoxState,
    /// Who made it.
    #[serde(default)]
    pub manufacturer: String,
    /// What its maker calls it.
    #[serde(default)]
    pub model: String,
    /// Where it stands.
    #[serde(default)]
    pub location: String,
    /// The firmware it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_version: Option<String>,
    /// Anything about its parts, for people and other programs, up to 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub hardware_config: Map<String, Value>,
    /// Its network settings.
    #[serde(default)]
    pub network: CloudBoxNetwork,
    /// The user it was given to, who may read it; let go when the user goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_user_id: Option<ObjectId>,
    /// The VM that is used through it for a while; a VM is bound to one box at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_vm_id: Option<ObjectId>,
    /// When that binding ends by itself; at most 30 days ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_until: Option<Timestamp>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl CloudBoxNetwork {
    fn validate(&self) -> Result<(), Invalid> {
        let widest = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        match (self.mode, self.address, self.prefix_length) {
            (NetworkMode::Static, Some(address), Some(length)) => Invalid::outside(
                "network.prefix_length",
                u64::from(length),
                1,
                widest(address),
            )?,
            (NetworkMode::Static, None, _) => {
                return Err(Invalid::new(
                    "network.address",
                    "is missing: in static mode the box has no other address",
                ));
            }
            (NetworkMode::Static, Some(_), None) => {
                return Err(Invalid::new(
                    "network.prefix_length",
                    "is missing: how many bits of the address name its network?",
                ));
            }
            (NetworkMode::Dhcp, Some(_), _) | (NetworkMode::Dhcp, None, Some(_)) => {
                return Err(Invalid::new(
                    "network.mode",
                    "must be `static` if the address is given",
                ));
            }
            (NetworkMode::Dhcp, None, None) => {}
        }
        if self.dns_servers.len() > 8 {
            return Err(Invalid::new(
                "network.dns_servers",
                "at most 8 are allowed",
            ));
        }
        Ok(())
    }
}

impl Resource for CloudBox {
    const KIND: Kind = Kind::CloudBox;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("data_center", Kind::DataCenter),
            Reference::to("assigned_user", Kind::User),
            Reference::to("bound_vm", Kind::VirtualMachine),
        ],
        owner: Owner::Named("assigned_user_id"),
        own: &[Action::Read],
        ..Rules::plain("A small machine at a user's place, through which a VM is used")
    };
    type Spec = CloudBoxSpec;
    type Status = Recorded;

    fn example() -> CloudBoxSpec {
        CloudBoxSpec {
            serial_number: "CB-2001".into(),
            manufacturer: "Example Works".into(),
            model: "T1".into(),
            location: "Room 4".into(),
            ..CloudBoxSpec::default()
        }
    }

    fn validate(spec: &CloudBoxSpec) -> Result<(), Invalid> {
        Invalid::text("serial_number", &spec.serial_number, 128)?;
        if spec.serial_number.trim().is_empty() {
            return Err(Invalid::new("serial_number", "must not be empty"));
        }
        for (field, text, most) in [
            ("manufacturer", spec.manufacturer.as_str(), 128),
            ("model", &spec.model, 128),
            ("location", &spec.location, 256),
            (
                "firmware_version",
                spec.firmware_version.as_deref().unwrap_or_default(),
                64,
            ),
        ] {
            Invalid::text(field, text, most)?;
        }
        checks::json("hardware_config", &spec.hardware_config)?;
        spec.network.validate()?;
        if spec.bound_vm_id.is_some() != spec.bound_until.is_some() {
            return Err(Invalid::new(
                "bound_until",
                "goes with `bound_vm_id`: a binding has both a VM and an end, or neither",
            ));
        }
        validate_labels(&spec.labels)
    }

    fn name_space(meta: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::CloudBox, meta.tenant)
    }

    /// Neither the user nor the VM is linked: a box must not keep them from going.
    fn print(_: &Meta, spec: &CloudBoxSpec, _: &Recorded, print: &mut Print) {
        print.claim(space::CLOUD_BOX_SERIAL, &spec.serial_number);
        print.link(spec.data_center_id);
        for id in [spec.assigned_user_id, spec.bound_vm_id]
            .into_iter()
            .flatten()
        {
            print.key(key::CLOUD_BOX_REFERS, id.to_string());
        }
        if let (Some(vm), Some(until)) = (spec.bound_vm_id, spec.bound_until) {
            print
                .claim(space::CLOUD_BOX_VM, vm.to_string())
                .expires(until);
        }
        for (label, value) in &spec.labels {
            print.key(key::LABEL, format!("cloud_box/{label}={value}"));
        }
    }
}
