//! A plugin of a Kubernetes cluster. Recorded as pending, as its cluster is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use virtflow_types::ObjectId;

use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// A plugin.
#[derive(Debug)]
pub enum K8sClusterPlugin {}

/// Whether it should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// It should.
    #[default]
    Active,
    /// It should not.
    Inactive,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sClusterPluginSpec {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// Version of the plugin, semantic.
    pub version: String,
    /// Whether it should run.
    #[serde(default)]
    pub state: PluginState,
    /// Anything else about it, up to 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub additional_info: Map<String, Value>,
}

impl Resource for K8sClusterPlugin {
    const KIND: Kind = Kind::K8sClusterPlugin;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::under("cluster", Kind::K8sCluster)],
        cascades: true,
        ..Rules::plain("A plugin of a Kubernetes cluster; recorded, not installed yet")
    };
    type Spec = K8sClusterPluginSpec;
    type Status = Recorded;

    fn example() -> K8sClusterPluginSpec {
        K8sClusterPluginSpec {
            cluster_id: ObjectId::from_u128(1),
            version: "0.7.2".into(),
            state: PluginState::Active,
            additional_info: Map::new(),
        }
    }
    fn validate(spec: &K8sClusterPluginSpec) -> Result<(), Invalid> {
        checks::version("version", &spec.version)?;
        checks::json("additional_info", &spec.additional_info)
    }
    fn print(_: &Meta, _: &K8sClusterPluginSpec, _: &Recorded, _: &mut Print) {}
}
