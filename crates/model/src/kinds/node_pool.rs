//! A pool of equal nodes of a Kubernetes cluster. Recorded as pending, as its cluster is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// A pool.
#[derive(Debug)]
pub enum NodePool {}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaintEffect {
    /// No new ones.
    NoSchedule,
    /// New ones only if there is no other place.
    PreferNoSchedule,
    /// None at all.
    NoExecute,
}

/// What keeps pods away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodePoolSpec {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// The size of its nodes.
    pub specification_id: ObjectId,
    /// Nodes wanted, from `min_nodes` to `max_nodes`.
    pub node_count: u32,
    /// Fewest nodes.
    #[serde(default)]
    pub min_nodes: u32,
    /// Most nodes, up to 1000.
    pub max_nodes: u32,
    /// Disk of each node, GiB; absent: what the specification says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_gib: Option<u64>,
    /// Labels of its nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of its nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

impl Resource for NodePool {
    const KIND: Kind = Kind::NodePool;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("cluster", Kind::K8sCluster),
            Reference::to("specification", Kind::VirtualMachineSpecification),
        ],
        cascades: true,
        ..Rules::plain("Equal nodes of a Kubernetes cluster; recorded, not made yet")
    };
    type Spec = NodePoolSpec;
    type Status = Recorded;

    fn example() -> NodePoolSpec {
        NodePoolSpec {
            cluster_id: ObjectId::from_u128(1),
            specification_id: ObjectId::from_u128(2),
            node_count: 3,
            min_nodes: 1,
            max_nodes: 5,
            disk_gib: Some(40),
            labels: BTreeMap::new(),
            taints: vec![Taint {
                key: "gpu".into(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            }],
        }
    }
    fn validate(spec: &NodePoolSpec) -> Result<(), Invalid> {
        Invalid::outside("max_nodes", u64::from(spec.max_nodes), 1, 1000)?;
        let most = u64::from(spec.max_nodes);
        Invalid::outside("min_nodes", u64::from(spec.min_nodes), 0, most)?;
        let least = u64::from(spec.min_nodes);
        Invalid::outside("node_count", u64::from(spec.node_count), least, most)?;
        if let Some(disk) = spec.disk_gib {
            Invalid::outside("disk_gib", disk, 1, 1024 * 1024)?;
        }
        checks::marks("labels", &spec.labels, 63)?;
        if spec.taints.len() > 32 {
            let problem = format!("has {}, at most 32 are allowed", spec.taints.len());
            return Err(Invalid::new("taints", problem));
        }
        let taints = spec.taints.iter();
        taints.map(|taint| (taint.key.clone(), taint.value.clone())).try_for_each(|pair| {
            checks::marks("taints", &BTreeMap::from([pair]), 63)
        })
    }
    fn print(_: &Meta, spec: &NodePoolSpec, _: &Recorded, print: &mut Print) {
        print.link(spec.specification_id);
    }
}
