//! A cloud box: a small machine at a user's place, through which a VM is used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use virtflow_types::{ObjectId, Timestamp};

use super::virtual_machine::validate_labels;
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

/// Whether it is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudBoxPhase {
    /// It never reported.
    #[default]
    #[serde(alias = "pending")]
    Initializing,
    /// It reports.
    Online,
    /// It was silent for three times as long as it should be at most.
    Offline,
    /// It reports that something is wrong with it.
    Error,
}

/// What a box tells of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudBoxReport {
    /// The firmware it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_version: Option<String>,
    /// The address it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The address of its network card, `52:54:00:ab:cd:ef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// CPU in use, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_used_percent: Option<f64>,
    /// Memory in use, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_percent: Option<f64>,
    /// Storage in use, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_used_percent: Option<f64>,
    /// Temperature, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f64>,
    /// Seconds since it was switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// What is wrong with it, in one sentence; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl CloudBoxReport {
    /// Refuses what no box can mean.
    pub fn validate(&self) -> Result<(), Invalid> {
        let within = |field: &str, value: Option<f64>, least: f64, most: f64| match value {
            Some(value) if !(least..=most).contains(&value) => Err(Invalid::new(
                field,
                format!("must be {least} to {most}, not {value}"),
            )),
            _ => Ok(()),
        };
        within("cpu_used_percent", self.cpu_used_percent, 0.0, 100.0)?;
        within("memory_used_percent", self.memory_used_percent, 0.0, 100.0)?;
        within("storage_used_percent", self.storage_used_percent, 0.0, 100.0)?;
        within("temperature_celsius", self.temperature_celsius, -100.0, 200.0)?;
        Invalid::outside("uptime_s", self.uptime_s.unwrap_or(0), 0, 1 << 32)?;
        for (field, text, most) in [
            ("firmware_version", &self.firmware_version, 64),
            ("error", &self.error, 256),
        ] {
            Invalid::text(field, text.as_deref().unwrap_or_default(), most)?;
        }
        self.mac.as_deref().map_or(Ok(()), |mac| checks::mac("mac", mac))
    }

    /// What is told at once when it changes; the rest are figures that move all the time.
    pub fn stands(&self) -> impl PartialEq {
        (
            self.firmware_version.clone(),
            self.address,
            self.mac.clone(),
            self.error.clone(),
        )
    }
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CloudBoxStatus {
    /// Whether it is heard.
    pub phase: CloudBoxPhase,
    /// When that last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_since: Option<Timestamp>,
    /// When it last started, as far as its uptime tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<Timestamp>,
    /// What it told; while it is heard at most a quarter of an hour old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<CloudBoxReport>,
    /// When it told that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Timestamp>,
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
    type Status = CloudBoxStatus;

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
    fn print(_: &Meta, spec: &CloudBoxSpec, _: &CloudBoxStatus, print: &mut Print) {
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
