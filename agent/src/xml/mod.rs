//! Domain definitions: typed fields in, XML out, and back.
//!
//! XML is only ever made by [`DomainSpec::to_xml`], an XML writer fed with values whose types admit
//! nothing but an allow-list of characters; no text is pasted together. What was written is parsed
//! back and compared with the fields ([`DomainSpec::to_xml`] refuses to return anything else), so
//! a flaw in either half shows as an error and not as a guest with a device nobody asked for.
//!
//! Every definition is stamped, in `<metadata>` under [`NAMESPACE`], with the VM's id and name, its
//! placement epoch, and the (incarnation, index) that ordered it: from libvirt alone the agent can
//! tell what it owns. A domain that was there before its VM has another UUID than the VM's id; it is
//! stamped with both, and its definition is never written.

mod element;
#[cfg(test)]
mod fuzz;
mod read;
mod values;
mod write;

use std::collections::BTreeSet;
use std::path::PathBuf;

use virtflow_types::{Incarnation, Name, ObjectId};

use crate::hypervisor::Adoption;

pub use element::{Element, XML_ATTRIBUTES_MAX, XML_BYTES_MAX, XML_DEPTH_MAX, XML_ELEMENTS_MAX};
pub use read::{DomainFacts, Mark, read_domain, read_foreign, read_passed};
pub use values::{BridgeName, HostPath, KernelArguments, MacAddress, PciAddress, ValueError};

/// Prefix of our element in `<metadata>`.
pub const PREFIX: &str = "virtflow";
/// Namespace of our element in `<metadata>`. Its last part is the format's version.
pub const NAMESPACE: &str = "https://virtflow.example/xmlns/domain/1";

/// What ordered a domain into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainStamp {
    /// Grows each time the VM is bound to a host; an older one never acts on a newer domain.
    pub placement_epoch: u64,
    /// The life of the store that ordered it.
    pub incarnation: Incarnation,
    /// Applied index of the order.
    pub index: u64,
}

/// How guest code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// By the processor.
    Kvm,
    /// By emulation (TCG).
    Qemu,
}

impl Acceleration {
    /// libvirt's word for it.
    #[must_use]
    pub fn domain_type(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }
}

/// The board that is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// PCI Express.
    #[default]
    Q35,
    /// PCI, for old guests.
    Pc,
}

impl Machine {
    /// QEMU's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Pc => "pc",
        }
    }
}

/// What the guest boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Its first disk.
    Disk,
    /// A kernel on the host, loaded directly.
    Kernel {
        /// The kernel image.
        kernel: HostPath,
        /// The initial RAM disk.
        initrd: Option<HostPath>,
        /// The kernel's arguments.
        arguments: KernelArguments,
    },
}

/// How a disk image is laid out. Given, never probed: a guest can write any header it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// Byte for byte.
    Raw,
}

impl DiskFormat {
    /// QEMU's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
        }
    }
}

/// One disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: HostPath,
    /// How it is laid out.
    pub format: DiskFormat,
}

/// One network card of a guest, plugged into a bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The bridge.
    pub bridge: BridgeName,
    /// The card's address.
    pub mac: MacAddress,
}

/// GPUs that a guest shall have for itself. Which ones is chosen where all definitions are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpus {
    /// How many.
    pub count: u32,
    /// Those that the host hands out.
    pub handed_out: Vec<PciAddress>,
}

impl Gpus {
    /// Which ones it is: those that its definition has, then the lowest that no other has.
    ///
    /// What it has and the host does not hand out any more, or another domain has, too, stays with it only while it
    /// `runs`.
    ///
    /// # Errors
    /// If there are too few: how many there are for it.
    pub fn choose(
        &self,
        own: &[PciAddress],
        runs: bool,
        taken: &BTreeSet<PciAddress>,
    ) -> Result<Vec<PciAddress>, usize> {
        let is_free = |at: &PciAddress| self.handed_out.contains(at) && !taken.contains(at);
        let own: BTreeSet<_> = own.iter().filter(|at| runs || is_free(at)).collect();
        let free: BTreeSet<_> = self.handed_out.iter().filter(|at| is_free(at)).collect();
        let others = free.difference(&own);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let mut chosen: Vec<_> = own
            .iter()
            .chain(others)
            .take(count)
            .map(|at| **at)
            .collect();
        if chosen.len() < count {
            return Err(chosen.len());
        }
        chosen.sort_unstable();
        Ok(chosen)
    }
}

/// Everything a definition is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// The VM; becomes the domain's UUID.
    pub vm_id: ObjectId,
    /// The VM's name; with the end of the id it becomes the domain's name.
    pub vm_name: Name,
    /// What orders it.
    pub stamp: DomainStamp,
    /// How guest code is executed.
    pub acceleration: Acceleration,
    /// The board.
    pub machine: Machine,
    /// The emulator; `None` leaves the choice to libvirt.
    pub emulator: Option<HostPath>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// What it boots from.
    pub boot: Boot,
    /// Disks, first the one it boots from.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// GPUs of the host.
    pub gpus: Gpus,
    /// File that the serial console is appended to.
    pub console: HostPath,
    /// Leaves the guest without a security label; only where libvirt has no security driver.
    pub unlabelled: bool,
}

impl DomainSpec {
    /// The domain's name: the VM's, and the end of its id since names repeat between tenants.
    #[must_use]
    pub fn domain_name(&self) -> String {
        let id = self.vm_id.uuid().simple().to_string();
        format!("{}-{}", self.vm_name, &id[20..])
    }

    /// The definition as XML with the devices that were chosen for it, parsed back and found to say exactly this.
    ///
    /// # Errors
    /// If writing or reading back fails, or the two differ: a fault of this program.
    pub fn to_xml(&self, passed: &[PciAddress]) -> Result<String, XmlError> {
        let xml = write::domain_xml(self, passed)?;
        let written = read_domain(&xml)?;
        let wanted = DomainFacts::of(self, passed);
        if written != wanted {
            return Err(XmlError::Differs {
                wanted: Box::new(wanted),
                written: Box::new(written),
            });
        }
        Ok(xml)
    }
}

impl Adoption {
    /// The mark of an adopted domain, as libvirt takes it under [`PREFIX`] and [`NAMESPACE`].
    ///
    /// # Errors
    /// If writing fails: a fault of this program.
    pub fn to_xml(&self) -> Result<String, XmlError> {
        Ok(write::adoption_xml(self)?)
    }
}

/// Why a definition could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed.
    #[error("the domain definition is not well-formed XML: {0}")]
    Malformed(String),
    /// Larger or deeper than any definition we deal with.
    #[error(
        "the domain definition is beyond {XML_BYTES_MAX} bytes, {XML_DEPTH_MAX} levels, {XML_ELEMENTS_MAX} \
         elements or {XML_ATTRIBUTES_MAX} attributes of one"
    )]
    TooLarge,
    /// Something that every definition has is missing or makes no sense.
    #[error("the domain definition has no usable `{0}`")]
    Missing(&'static str),
    /// What was written doesn't read as what was asked for.
    #[error(
        "the domain definition as written differs from what was asked: {written:?} against {wanted:?}"
    )]
    Differs {
        /// What was asked for.
        wanted: Box<DomainFacts>,
        /// What the XML says.
        written: Box<DomainFacts>,
    },
    /// The writer failed.
    #[error("cannot write the domain definition: {0}")]
    Write(#[from] std::io::Error),
}

/// Files of one guest below the guests' folder, `<folder>/<vm id>/…`.
#[must_use]
pub fn guest_dir(guests_dir: &std::path::Path, vm_id: ObjectId) -> PathBuf {
    guests_dir.join(vm_id.to_string())
}

#[cfg(test)]
mod tests;
