//! What a VM leaves on a host that has not confirmed that it is gone: capacity there, and the order to
//! remove it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{dimension, key};
use crate::{Amounts, ByPeople, Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A residue.
#[derive(Debug)]
pub enum Residue {}

/// What is left, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidueSpec {
    /// The host that still has it.
    pub host_id: ObjectId,
    /// The VM that was.
    pub vm_id: ObjectId,
    /// Its name.
    pub vm_name: String,
    /// The binding that ended: the tombstone names it.
    pub placement_epoch: u64,
    /// What it takes on the host.
    pub amounts: Amounts,
}

/// Nothing is observed: when the host confirms, the residue goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResidueStatus {}

impl Resource for Residue {
    const KIND: Kind = Kind::Residue;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::Never("the system makes these"),
        update: ByPeople::Never("it goes when its host confirms that nothing is left"),
        ..Rules::plain("What a silent host may still have of a VM that was given up")
    };
    type Spec = ResidueSpec;
    type Status = ResidueStatus;

    fn example() -> ResidueSpec {
        ResidueSpec {
            host_id: ObjectId::from_u128(1),
            vm_id: ObjectId::from_u128(2),
            vm_name: "web-1".into(),
            placement_epoch: 1,
            amounts: Amounts {
                cpu_cores: 2,
                memory_mib: 2048,
                storage_gib: 20,
                gpus: 0,
            },
        }
    }
    fn validate(_: &ResidueSpec) -> Result<(), Invalid> {
        Ok(())
    }
    /// No link: a cordoned host takes no new ones, yet what lies there stays there. The charges keep the
    /// host from going as well as a link would.
    fn print(_: &Meta, spec: &ResidueSpec, _: &ResidueStatus, print: &mut Print) {
        let host = spec.host_id;
        print
            .claim(
                crate::space::PAIR,
                format!("residue/{}/{}", spec.vm_id, spec.placement_epoch),
            )
            .charge(host, dimension::CPU_MILLI, spec.amounts.cpu_cores * 1000)
            .charge(host, dimension::MEMORY_MIB, spec.amounts.memory_mib)
            .charge(host, dimension::STORAGE_GIB, spec.amounts.storage_gib)
            .charge(host, dimension::GPUS, spec.amounts.gpus)
            .key(key::RESIDUE_HOST, host.to_string());
    }
}
