//! A data centre.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Capacity, Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// A data centre. Its totals are derived from its hosts.
#[derive(Debug)]
pub enum DataCenter {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataCenterState {
    /// In use.
    #[default]
    Active,
    /// No new VMs.
    Maintenance,
    /// Switched off.
    Offline,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataCenterSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Region it lies in.
    #[serde(default)]
    pub region: String,
    /// Where it stands.
    #[serde(default)]
    pub location: String,
    /// Administrative state.
    #[serde(default)]
    pub state: DataCenterState,
    /// Anything about its network, for people and other programs, up to 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub network_config: Map<String, Value>,
}

/// Nothing is observed of it directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DataCenterStatus {
    /// What its hosts have together, for who may read all groups of hosts as its operator; never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

impl Resource for DataCenter {
    const KIND: Kind = Kind::DataCenter;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        shared: true,
        ..Rules::plain("A place with racks")
    };
    type Spec = DataCenterSpec;
    type Status = DataCenterStatus;

    fn example() -> DataCenterSpec {
        DataCenterSpec {
            region: "eu-north".into(),
            location: "Lulea".into(),
            ..DataCenterSpec::default()
        }
    }
    fn validate(spec: &DataCenterSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::text("region", &spec.region, 128)?;
        Invalid::text("location", &spec.location, 256)?;
        checks::json("network_config", &spec.network_config)
    }
    fn print(_: &Meta, _: &DataCenterSpec, _: &DataCenterStatus, _: &mut Print) {}
}
