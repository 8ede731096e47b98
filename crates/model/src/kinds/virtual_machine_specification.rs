//! A size of VM that people choose by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A VM specification.
#[derive(Debug)]
pub enum VirtualMachineSpecification {}

/// Whether it may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecificationState {
    /// May be chosen.
    #[default]
    Active,
    /// VMs that have it keep it; no new ones.
    Deprecated,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualMachineSpecificationSpec {
    /// Whole vCPUs.
    pub cpu_cores: u32,
    /// MiB.
    pub memory_mib: u64,
    /// GiB.
    pub storage_gib: u64,
    /// Number of GPUs.
    #[serde(default)]
    pub gpu_count: u32,
    /// Which generation of hardware it is for. Specifications of one name are told apart by it: `small/gen2`.
    #[serde(default)]
    pub hardware_generation: String,
    /// Whether it may be chosen.
    #[serde(default)]
    pub state: SpecificationState,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineSpecificationStatus {}

impl Resource for VirtualMachineSpecification {
    const KIND: Kind = Kind::VirtualMachineSpecification;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        shared: true,
        told_apart: Some("hardware_generation"),
        ..Rules::plain("A size that VMs are made in")
    };
    const NAMED: bool = true;
    type Spec = VirtualMachineSpecificationSpec;
    type Status = VirtualMachineSpecificationStatus;

    fn example() -> Self::Spec {
        VirtualMachineSpecificationSpec {
            cpu_cores: 2,
            memory_mib: 4096,
            storage_gib: 40,
            ..Default::default()
        }
    }
    fn validate(spec: &Self::Spec) -> Result<(), Invalid> {
        super::virtual_machine::validate_size(spec.cpu_cores, spec.memory_mib, spec.storage_gib)?;
        super::virtual_machine::validate_gpus(spec.gpu_count)?;
        Invalid::text("hardware_generation", &spec.hardware_generation, 63)?;
        if spec.hardware_generation.contains(char::is_whitespace) || spec.hardware_generation.contains('/') {
            return Err(Invalid::new(
                "hardware_generation",
                "must have no blanks and no slashes: it is written behind the name, `small/gen2`",
            ));
        }
        Ok(())
    }
    fn validate_update(old: &Self::Spec, new: &Self::Spec) -> Result<(), Invalid> {
        let size = |s: &Self::Spec| (s.cpu_cores, s.memory_mib, s.storage_gib, s.gpu_count);
        if size(old) == size(new) {
            Self::validate(new)
        } else {
            Err(Invalid::new(
                "cpu_cores",
                "the size of a specification does not change; make another and deprecate this one",
            ))
        }
    }
    /// A name is there once for each generation of hardware.
    fn name_space(_: &Meta, spec: &Self::Spec) -> String {
        space::names_told_apart(Self::KIND, &spec.hardware_generation)
    }
    fn print(_: &Meta, _: &Self::Spec, _: &Self::Status, _: &mut Print) {}
}
