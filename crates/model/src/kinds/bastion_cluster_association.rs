//! A VM through which a cluster is reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A bastion of a cluster.
#[derive(Debug)]
pub enum BastionClusterAssociation {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BastionClusterAssociationSpec {
    /// The cluster.
    pub cluster_id: ObjectId,
    /// The bastion, a VM of the cluster's tenant.
    pub vm_id: ObjectId,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BastionClusterAssociationStatus {}

impl Resource for BastionClusterAssociation {
    const KIND: Kind = Kind::BastionClusterAssociation;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("cluster", Kind::K8sCluster),
            Reference::to("vm", Kind::VirtualMachine),
        ],
        update: ByPeople::Never("delete it and make another"),
        cascades: true,
        ..Rules::plain("A VM through which a cluster is reached")
    };
    type Spec = BastionClusterAssociationSpec;
    type Status = BastionClusterAssociationStatus;

    fn example() -> Self::Spec {
        BastionClusterAssociationSpec {
            cluster_id: ObjectId::from_u128(1),
            vm_id: ObjectId::from_u128(2),
        }
    }
    fn validate(_: &Self::Spec) -> Result<(), Invalid> {
        Ok(())
    }
    fn print(_: &Meta, spec: &Self::Spec, _: &Self::Status, print: &mut Print) {
        let pair = format!("bastion/{}/{}", spec.vm_id, spec.cluster_id);
        print.claim(space::PAIR, pair).link(spec.vm_id);
    }
}
