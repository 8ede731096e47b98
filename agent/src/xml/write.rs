//! Fields to XML, element by element.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

use super::{Acceleration, Boot, DomainSpec, NAMESPACE, PciAddress};
use crate::hypervisor::Adoption;

/// One element: its name and its attributes. The writer escapes the values.
type Attributes<'a> = &'a [(&'a str, &'a str)];

/// Writes elements; closing is the only thing one can forget, so blocks are closures.
struct Xml {
    writer: Writer<Vec<u8>>,
}

impl Xml {
    fn block(
        &mut self,
        name: &str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.writer
            .write_event(Event::Start(start(name, attributes)))?;
        inside(self)?;
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }

    fn empty(&mut self, name: &str, attributes: Attributes<'_>) -> io::Result<()> {
        self.writer
            .write_event(Event::Empty(start(name, attributes)))
    }

    fn text(&mut self, name: &str, attributes: Attributes<'_>, text: &str) -> io::Result<()> {
        self.block(name, attributes, |xml| {
            xml.writer.write_event(Event::Text(BytesText::new(text)))
        })
    }
}

fn start<'a>(name: &'a str, attributes: Attributes<'a>) -> BytesStart<'a> {
    BytesStart::new(name).with_attributes(attributes.iter().copied())
}

/// The definition as XML, unchecked.
pub(super) fn domain_xml(spec: &DomainSpec, passed: &[PciAddress]) -> io::Result<String> {
    let mut xml = Xml {
        writer: Writer::new_with_indent(Vec::new(), b' ', 2),
    };
    xml.block(
        "domain",
        &[("type", spec.acceleration.domain_type())],
        |xml| {
            xml.text("name", &[], &spec.domain_name())?;
            xml.text("uuid", &[], &spec.vm_id.to_string())?;
            xml.text("title", &[], &spec.vm_name)?;
            metadata(xml, spec)?;
            xml.text("memory", &[("unit", "MiB")], &spec.memory_mib.to_string())?;
            xml.text("vcpu", &[("placement", "static")], &spec.vcpus.to_string())?;
            boot(xml, spec)?;
            xml.block("features", &[], |xml| {
                xml.empty("acpi", &[])?;
                xml.empty("apic", &[])
            })?;
            if spec.acceleration == Acceleration::Kvm {
                xml.empty("cpu", &[("mode", "host-model")])?;
            }
            xml.empty("clock", &[("offset", "utc")])?;
            xml.text("on_poweroff", &[], "destroy")?;
            xml.text("on_reboot", &[], "restart")?;
            xml.text("on_crash", &[], "destroy")?;
            devices(xml, spec, passed)?;
            if spec.unlabelled {
                xml.empty("seclabel", &[("type", "none")])?;
            }
            Ok(())
        },
    )?;
    String::from_utf8(xml.writer.into_inner()).map_err(io::Error::other)
}

/// Our mark as libvirt takes it for a domain that is there: it adds prefix and namespace itself.
pub(super) fn adoption_xml(adoption: &Adoption) -> io::Result<String> {
    let mut xml = Xml {
        writer: Writer::new(Vec::new()),
    };
    let stamp = adoption.stamp;
    xml.empty(
        "vm",
        &[
            ("id", &adoption.vm_id.to_string()),
            ("name", &adoption.vm_name),
            ("placement_epoch", &stamp.placement_epoch.to_string()),
            ("incarnation", &stamp.incarnation.to_string()),
            ("index", &stamp.index.to_string()),
            ("adopted_domain", &adoption.domain_id.to_string()),
        ],
    )?;
    String::from_utf8(xml.writer.into_inner()).map_err(io::Error::other)
}

fn metadata(xml: &mut Xml, spec: &DomainSpec) -> io::Result<()> {
    xml.block("metadata", &[], |xml| {
        xml.empty(
            "virtflow:vm",
            &[
                ("xmlns:virtflow", NAMESPACE),
                ("id", &spec.vm_id.to_string()),
                ("name", &spec.vm_name),
                ("placement_epoch", &spec.stamp.placement_epoch.to_string()),
                ("incarnation", &spec.stamp.incarnation.to_string()),
                ("index", &spec.stamp.index.to_string()),
            ],
        )
    })
}

fn boot(xml: &mut Xml, spec: &DomainSpec) -> io::Result<()> {
    xml.block("os", &[], |xml| {
        let machine = [
            ("arch", std::env::consts::ARCH),
            ("machine", spec.machine.as_str()),
        ];
        xml.text("type", &machine, "hvm")?;
        match &spec.boot {
            Boot::Disk => xml.empty("boot", &[("dev", "hd")]),
            Boot::Kernel {
                kernel,
                initrd,
                arguments,
            } => {
                xml.text("kernel", &[], kernel.as_str())?;
                if let Some(initrd) = initrd {
                    xml.text("initrd", &[], initrd.as_str())?;
                }
                xml.text("cmdline", &[], arguments.as_str())
            }
        }
    })
}

fn devices(xml: &mut Xml, spec: &DomainSpec, passed: &[PciAddress]) -> io::Result<()> {
    xml.block("devices", &[], |xml| {
        if let Some(emulator) = &spec.emulator {
            xml.text("emulator", &[], emulator.as_str())?;
        }
        for (disk, letter) in spec.disks.iter().zip('a'..='z') {
            xml.block("disk", &[("type", "file"), ("device", "disk")], |xml| {
                // What the guest discards goes back to the host: images are sparse.
                let driver = [
                    ("name", "qemu"),
                    ("type", disk.format.as_str()),
                    ("discard", "unmap"),
                ];
                xml.empty("driver", &driver)?;
                xml.empty("source", &[("file", disk.path.as_str())])?;
                let device = format!("vd{letter}");
                xml.empty("target", &[("dev", &device), ("bus", "virtio")])
            })?;
        }
        for nic in &spec.nics {
            xml.block("interface", &[("type", "bridge")], |xml| {
                xml.empty("mac", &[("address", &nic.mac.to_string())])?;
                xml.empty("source", &[("bridge", nic.bridge.as_str())])?;
                xml.empty("model", &[("type", "virtio")])
            })?;
        }
        for device in passed {
            // Managed: libvirt takes it from its driver before the guest starts, and gives it back.
            let how = [("mode", "subsystem"), ("type", "pci"), ("managed", "yes")];
            xml.block("hostdev", &how, |xml| {
                xml.block("source", &[], |xml| {
                    let parts = device.attributes();
                    let parts = parts
                        .each_ref()
                        .map(|(name, value)| (*name, value.as_str()));
                    xml.empty("address", &parts)
                })
            })?;
        }
        // A file and not a pty: what the guest wrote stays readable after it is gone, and across
        // restarts of the agent and of libvirt. Appending lets the agent cut the file's head off
        // while QEMU holds it open.
        xml.block("serial", &[("type", "file")], |xml| {
            xml.empty(
                "source",
                &[("path", spec.console.as_str()), ("append", "on")],
            )?;
            xml.empty("target", &[("port", "0")])
        })?;
        xml.empty("controller", &[("type", "usb"), ("model", "none")])?;
        xml.empty("memballoon", &[("model", "none")])?;
        xml.block("rng", &[("model", "virtio")], |xml| {
            xml.text("backend", &[("model", "random")], "/dev/urandom")
        })
    })
}
