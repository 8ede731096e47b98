//! XML to facts: what a definition says, whether we wrote it or libvirt gave it back.

use virtflow_types::{Incarnation, Name, ObjectId};

use crate::hypervisor::{DiskSource, ForeignDisk, ForeignDomain, Obstacle, OffReason, PowerState};

use super::{Boot, DomainSpec, DomainStamp, Element, NAMESPACE, PciAddress, XmlError};

/// Our mark on a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The VM; another id than the domain's own says that the domain was adopted.
    pub vm_id: ObjectId,
    /// The VM's name.
    pub vm_name: Name,
    /// What ordered the domain.
    pub stamp: DomainStamp,
}

/// What a definition says, as far as the agent cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    /// The domain's UUID.
    pub domain_id: ObjectId,
    /// The domain's name.
    pub domain_name: String,
    /// Our mark; `None` if the domain isn't ours: no mark, an unreadable one, or that of another
    /// domain (a definition copied by hand).
    pub mark: Option<Mark>,
    /// `kvm`, `qemu` …
    pub domain_type: String,
    /// The board; libvirt makes a version of it (`pc-q35-10.0`).
    pub machine: String,
    /// The emulator.
    pub emulator: Option<String>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, rounded down.
    pub memory_mib: u64,
    /// Directly loaded kernel, its RAM disk and arguments.
    pub kernel: [Option<String>; 3],
    /// Disks: image and format.
    pub disks: Vec<(String, String)>,
    /// Network cards: bridge and address.
    pub nics: Vec<(String, String)>,
    /// Devices of the host that it has for itself.
    pub passed: Vec<PciAddress>,
    /// Files that serial ports write to.
    pub consoles: Vec<String>,
    /// Whether the guest goes without a security label.
    pub unlabelled: bool,
    /// Names of all elements among the devices, in order.
    pub devices: Vec<String>,
}

impl DomainFacts {
    /// What the XML of `spec` must say.
    #[must_use]
    pub(super) fn of(spec: &DomainSpec, passed: &[PciAddress]) -> Self {
        let kernel = match &spec.boot {
            Boot::Disk => [None, None, None],
            Boot::Kernel {
                kernel,
                initrd,
                arguments,
            } => [
                Some(kernel.as_str().to_owned()),
                initrd.as_ref().map(|path| path.as_str().to_owned()),
                Some(arguments.as_str().to_owned()),
            ],
        };
        let devices = spec
            .emulator
            .iter()
            .map(|_| "emulator")
            .chain(spec.disks.iter().map(|_| "disk"))
            .chain(spec.nics.iter().map(|_| "interface"))
            .chain(passed.iter().map(|_| "hostdev"))
            .chain(["serial", "controller", "memballoon", "rng"]);
        Self {
            domain_id: spec.vm_id,
            domain_name: spec.domain_name(),
            mark: Some(Mark {
                vm_id: spec.vm_id,
                vm_name: spec.vm_name.clone(),
                stamp: spec.stamp,
            }),
            domain_type: spec.acceleration.domain_type().to_owned(),
            machine: spec.machine.as_str().to_owned(),
            emulator: spec.emulator.as_ref().map(|path| path.as_str().to_owned()),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            kernel,
            disks: spec
                .disks
                .iter()
                .map(|disk| (disk.path.as_str().into(), disk.format.as_str().into()))
                .collect(),
            nics: spec
                .nics
                .iter()
                .map(|nic| (nic.bridge.as_str().into(), nic.mac.to_string()))
                .collect(),
            passed: passed.to_vec(),
            consoles: vec![spec.console.as_str().to_owned()],
            unlabelled: spec.unlabelled,
            devices: devices.map(str::to_owned).collect(),
        }
    }
}

/// Reads a definition.
///
/// # Errors
/// If it is not well-formed, or lacks what every definition has.
pub fn read_domain(xml: &str) -> Result<DomainFacts, XmlError> {
    let root = Element::parse(xml)?;
    if root.name != "domain" {
        return Err(XmlError::Missing("domain"));
    }
    let domain_id = root
        .child_text("uuid")
        .and_then(|text| text.trim().parse().ok())
        .ok_or(XmlError::Missing("uuid"))?;
    let devices = root.child("devices").ok_or(XmlError::Missing("devices"))?;
    let os = root.child("os");
    let kernel = |part| os.and_then(|os| os.child_text(part)).map(str::to_owned);
    Ok(DomainFacts {
        domain_id,
        domain_name: root
            .child_text("name")
            .ok_or(XmlError::Missing("name"))?
            .to_owned(),
        mark: root.child("metadata").and_then(|m| mark(m, domain_id)),
        domain_type: root.attribute("type").unwrap_or_default().to_owned(),
        machine: os
            .and_then(|os| os.child("type"))
            .and_then(|kind| kind.attribute("machine"))
            .unwrap_or_default()
            .to_owned(),
        emulator: devices.child_text("emulator").map(str::to_owned),
        vcpus: root
            .child_text("vcpu")
            .and_then(|text| text.trim().parse().ok())
            .ok_or(XmlError::Missing("vcpu"))?,
        memory_mib: root
            .child("memory")
            .and_then(memory_mib)
            .ok_or(XmlError::Missing("memory"))?,
        kernel: [kernel("kernel"), kernel("initrd"), kernel("cmdline")],
        disks: devices
            .children("disk")
            .map(|disk| {
                (
                    within(disk, "source", "file"),
                    within(disk, "driver", "type"),
                )
            })
            .collect(),
        nics: devices
            .children("interface")
            .map(|nic| {
                (
                    within(nic, "source", "bridge"),
                    within(nic, "mac", "address"),
                )
            })
            .collect(),
        passed: passed(devices),
        consoles: devices
            .children("serial")
            .map(|serial| within(serial, "source", "path"))
            .collect(),
        unlabelled: root
            .children("seclabel")
            .any(|label| label.attribute("type") == Some("none")),
        devices: devices.children.iter().map(|d| d.name.clone()).collect(),
    })
}

/// Devices of the host that any definition has for itself, without looking at the rest of it.
///
/// # Errors
/// If it is not well-formed.
pub fn read_passed(xml: &str) -> Result<Vec<PciAddress>, XmlError> {
    let root = Element::parse(xml)?;
    Ok(root.child("devices").map(passed).unwrap_or_default())
}

/// PCI devices that are passed on as they are, or as a network card.
fn passed(devices: &Element) -> Vec<PciAddress> {
    let devices = devices.children.iter();
    let sources = devices.filter_map(|device| match device.name.as_str() {
        "hostdev" if device.attribute("type") == Some("pci") => device.child("source"),
        "interface" if device.attribute("type") == Some("hostdev") => device.child("source"),
        _ => None,
    });
    let addresses = sources.filter_map(|source| source.child("address"));
    addresses
        .filter_map(|address| {
            let parts = ["domain", "bus", "slot", "function"];
            PciAddress::of_attributes(parts.map(|part| address.attribute(part)))
        })
        .collect()
}

/// What the definition of a domain that isn't ours says, without what is no part of it.
///
/// Whatever is in it, something is told: one that can't be read has that as its obstacle.
#[must_use]
pub fn read_foreign(xml: &str, domain_id: ObjectId, name: &str) -> ForeignDomain {
    let mut domain = ForeignDomain {
        domain_id,
        name: name.to_owned(),
        power: PowerState::Off(OffReason::Unknown),
        autostart: false,
        vcpus: 0,
        memory_mib: 0,
        disks: Vec::new(),
        passed: Vec::new(),
        obstacles: Vec::new(),
    };
    let (Ok(facts), Ok(root)) = (read_domain(xml), Element::parse(xml)) else {
        domain.obstacles.push(Obstacle::Unreadable);
        return domain;
    };
    domain.vcpus = facts.vcpus;
    domain.memory_mib = facts.memory_mib;
    domain.passed = facts.passed;
    if !matches!(facts.domain_type.as_str(), "kvm" | "qemu") {
        domain.obstacles.push(Obstacle::OtherHypervisor);
    }
    let devices = root.child("devices").map(|devices| &devices.children);
    for device in devices.into_iter().flatten() {
        match device.name.as_str() {
            "disk" => {
                let is_disk = |kind| matches!(kind, "disk" | "lun");
                if device.attribute("device").is_none_or(is_disk) {
                    domain.disks.push(foreign_disk(device));
                }
            }
            "hostdev" => domain.obstacles.push(Obstacle::Passthrough),
            "interface" if device.attribute("type") == Some("hostdev") => {
                domain.obstacles.push(Obstacle::Passthrough);
            }
            _ => {}
        }
    }
    domain.obstacles.dedup();
    domain
}

fn foreign_disk(disk: &Element) -> ForeignDisk {
    let source = match disk.attribute("type").unwrap_or("file") {
        "file" => match within(disk, "source", "file") {
            path if path.is_empty() => DiskSource::Unknown,
            path => DiskSource::File(path.into()),
        },
        "block" | "network" | "nvme" => DiskSource::Device,
        _ => DiskSource::Unknown,
    };
    ForeignDisk {
        target: within(disk, "target", "dev"),
        source,
    }
}

fn within(element: &Element, child: &str, attribute: &str) -> String {
    element
        .child(child)
        .and_then(|child| child.attribute(attribute))
        .unwrap_or_default()
        .to_owned()
}

fn mark(metadata: &Element, domain_id: ObjectId) -> Option<Mark> {
    let vm = metadata.child("virtflow:vm")?;
    if vm.attribute("xmlns:virtflow") != Some(NAMESPACE) {
        return None;
    }
    let vm_id: ObjectId = vm.attribute("id")?.parse().ok()?;
    let written_on: ObjectId = match vm.attribute("adopted_domain") {
        Some(adopted) => adopted.parse().ok()?,
        None => vm_id,
    };
    if written_on != domain_id {
        return None;
    }
    Some(Mark {
        vm_id,
        vm_name: Name::new(vm.attribute("name")?).ok()?,
        stamp: DomainStamp {
            placement_epoch: vm.attribute("placement_epoch")?.parse().ok()?,
            incarnation: vm.attribute("incarnation")?.parse::<Incarnation>().ok()?,
            index: vm.attribute("index")?.parse().ok()?,
        },
    })
}

fn memory_mib(memory: &Element) -> Option<u64> {
    let amount: u64 = memory.text.trim().parse().ok()?;
    match memory.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => Some(amount >> 20),
        "KiB" | "k" => Some(amount >> 10),
        "MiB" | "M" => Some(amount),
        "GiB" | "G" => amount.checked_mul(1024),
        _ => None,
    }
}
