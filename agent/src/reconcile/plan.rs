//! From a VM as it shall be to the definition of its domain on this host.

use std::path::PathBuf;

use crate::hypervisor::Capabilities;
use crate::inventory::ListedGpus;
use crate::local::StoredVm;
use crate::xml::{
    Acceleration, Boot, BridgeName, Disk, DiskFormat, DomainSpec, Gpus, HostPath, KernelArguments,
    MacAddress, Machine, Nic, ValueError, guest_dir,
};

/// Name of a guest's disk image in its folder.
pub const DISK_FILE: &str = "disk.raw";
/// Name of a guest's console log in its folder.
pub const CONSOLE_FILE: &str = "console.log";

/// Which acceleration the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelerationChoice {
    /// KVM where the host has it, else emulation.
    #[default]
    Auto,
    /// KVM only.
    Kvm,
    /// Emulation only.
    Qemu,
}

/// A kernel on the host that guests boot directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBoot {
    /// The kernel image.
    pub kernel: HostPath,
    /// Its RAM disk.
    pub initrd: Option<HostPath>,
    /// Its arguments, to which `virtflow.vm=<name>` is added.
    pub arguments: Option<KernelArguments>,
}

/// How guests are made on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSettings {
    /// Folder that holds one folder per VM.
    pub guests_dir: PathBuf,
    /// Acceleration.
    pub acceleration: AccelerationChoice,
    /// The board.
    pub machine: Machine,
    /// The emulator; `None` leaves it to libvirt.
    pub emulator: Option<HostPath>,
    /// What guests boot; `None` boots their disk.
    pub kernel: Option<KernelBoot>,
    /// Bridge for network cards that name none; without one such cards are left out.
    pub bridge: Option<BridgeName>,
    /// GPUs that guests may be passed.
    pub gpus: ListedGpus,
}

/// Why a VM can't be made on this host.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A value may not stand in a definition.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The host can't run guests the way it is told to.
    #[error("this host cannot run guests under {0}; see `virtflow-agent check`")]
    Acceleration(&'static str),
}

impl GuestSettings {
    /// How guest code is executed, given what the hypervisor can.
    ///
    /// # Errors
    /// If the configuration demands what it can't.
    pub fn resolve(&self, can: &Capabilities) -> Result<Acceleration, PlanError> {
        match self.acceleration {
            AccelerationChoice::Auto | AccelerationChoice::Kvm if can.kvm => Ok(Acceleration::Kvm),
            AccelerationChoice::Auto | AccelerationChoice::Qemu if can.emulation => {
                Ok(Acceleration::Qemu)
            }
            AccelerationChoice::Auto => Err(PlanError::Acceleration("kvm or qemu")),
            AccelerationChoice::Kvm => Err(PlanError::Acceleration("kvm")),
            AccelerationChoice::Qemu => Err(PlanError::Acceleration("qemu")),
        }
    }

    /// The definition of a VM's domain.
    ///
    /// # Errors
    /// If a value may not stand in one, or the host can't run guests as configured.
    pub fn plan(&self, vm: &StoredVm, can: &Capabilities) -> Result<DomainSpec, PlanError> {
        let desired = &vm.desired;
        let folder = guest_dir(&self.guests_dir, desired.vm_id);
        let disks = if desired.storage_gib == 0 {
            Vec::new()
        } else {
            vec![Disk {
                path: HostPath::new(&folder.join(DISK_FILE))?,
                format: DiskFormat::Raw,
            }]
        };
        let mut nics = Vec::new();
        for nic in &desired.nics {
            let bridge = match (nic.bridge.as_str(), &self.bridge) {
                ("", None) => continue,
                ("", Some(bridge)) => bridge.clone(),
                (named, _) => BridgeName::new(named)?,
            };
            nics.push(Nic {
                bridge,
                mac: MacAddress::new(&nic.mac)?,
            });
        }
        Ok(DomainSpec {
            vm_id: desired.vm_id,
            vm_name: desired.name.clone(),
            stamp: vm.domain_stamp(),
            acceleration: self.resolve(can)?,
            machine: self.machine,
            emulator: self.emulator.clone(),
            vcpus: desired.vcpus,
            memory_mib: desired.memory_mib,
            boot: self.boot(&desired.name)?,
            disks,
            nics,
            gpus: self.gpus(desired.gpu_count, can),
            console: HostPath::new(&folder.join(CONSOLE_FILE))?,
            unlabelled: !can.security_labels,
        })
    }

    /// Of simulated guests' GPUs there is a number and nothing else, unless some are listed.
    fn gpus(&self, count: u32, can: &Capabilities) -> Gpus {
        let handed_out = match count {
            0 => Vec::new(),
            _ => self.gpus.usable(),
        };
        if can.driver == "simulated" && self.gpus == ListedGpus::default() {
            return Gpus::default();
        }
        Gpus { count, handed_out }
    }

    fn boot(&self, name: &str) -> Result<Boot, ValueError> {
        let Some(boot) = &self.kernel else {
            return Ok(Boot::Disk);
        };
        let mark = ["virtflow.vm=", name].concat();
        let arguments = match &boot.arguments {
            Some(arguments) => [arguments.as_str(), &mark].join(" "),
            None => mark,
        };
        Ok(Boot::Kernel {
            kernel: boot.kernel.clone(),
            initrd: boot.initrd.clone(),
            arguments: KernelArguments::new(&arguments)?,
        })
    }
}
