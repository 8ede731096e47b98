use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::hypervisor::{DiskSource, Obstacle};

pub(super) fn spec() -> DomainSpec {
    DomainSpec {
        vm_id: "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11".parse().unwrap(),
        vm_name: Name::new("web-1").unwrap(),
        stamp: DomainStamp {
            placement_epoch: 3,
            incarnation: "6f1c7c2e-8a50-4a55-9d5e-4a8a2f1f0b11".parse().unwrap(),
            index: 41_734,
        },
        acceleration: Acceleration::Qemu,
        machine: Machine::Q35,
        emulator: None,
        vcpus: 2,
        memory_mib: 512,
        boot: Boot::Kernel {
            kernel: path("/boot/vmlinuz"),
            initrd: Some(path("/boot/initrd.img")),
            arguments: KernelArguments::new("console=ttyS0 virtflow.vm=web-1").unwrap(),
        },
        disks: vec![Disk {
            path: path("/var/lib/virtflow/guests/x/disk.raw"),
            format: DiskFormat::Raw,
        }],
        nics: vec![Nic {
            bridge: BridgeName::new("br0").unwrap(),
            mac: MacAddress::new("52:54:00:12:34:56").unwrap(),
        }],
        gpus: Gpus::default(),
        console: path("/var/lib/virtflow/guests/x/console.log"),
        unlabelled: false,
    }
}

fn path(text: &str) -> HostPath {
    HostPath::new(Path::new(text)).unwrap()
}

#[test]
fn a_definition_reads_like_this() {
    let expected = r#"<domain type="qemu">
  <name>web-1-5b0e3f4d2c11</name>
  <uuid>0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11</uuid>
  <title>web-1</title>
  <metadata>
    <virtflow:vm xmlns:virtflow="https://virtflow.example/xmlns/domain/1" id="0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11" name="web-1" placement_epoch="3" incarnation="6f1c7c2e-8a50-4a55-9d5e-4a8a2f1f0b11" index="41734"/>
  </metadata>
  <memory unit="MiB">512</memory>
  <vcpu placement="static">2</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>/boot/vmlinuz</kernel>
    <initrd>/boot/initrd.img</initrd>
    <cmdline>console=ttyS0 virtflow.vm=web-1</cmdline>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw" discard="unmap"/>
      <source file="/var/lib/virtflow/guests/x/disk.raw"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <interface type="bridge">
      <mac address="52:54:00:12:34:56"/>
      <source bridge="br0"/>
      <model type="virtio"/>
    </interface>
    <serial type="file">
      <source path="/var/lib/virtflow/guests/x/console.log" append="on"/>
      <target port="0"/>
    </serial>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
    <rng model="virtio">
      <backend model="random">/dev/urandom</backend>
    </rng>
  </devices>
</domain>"#;
    let written = spec().to_xml(&[]).unwrap();
    assert_eq!(
        written,
        expected.replace("x86_64", std::env::consts::ARCH),
        "{written}"
    );
}

#[test]
fn kvm_passes_the_processor_on_and_no_driver_means_no_label() {
    let mut kvm = spec();
    kvm.acceleration = Acceleration::Kvm;
    kvm.unlabelled = true;
    kvm.boot = Boot::Disk;
    let xml = kvm.to_xml(&[]).unwrap();
    for part in [
        r#"<domain type="kvm">"#,
        r#"<cpu mode="host-model"/>"#,
        r#"<seclabel type="none"/>"#,
        r#"<boot dev="hd"/>"#,
    ] {
        assert!(xml.contains(part), "{part} is missing in {xml}");
    }
}

fn pci(text: &str) -> PciAddress {
    PciAddress::new(text).unwrap()
}

#[test]
fn a_gpu_is_passed_as_a_managed_device() {
    let passed = [pci("0000:65:00.0"), pci("0001:af:1f.7")];
    let xml = spec().to_xml(&passed).unwrap();
    let first = r#"    <hostdev mode="subsystem" type="pci" managed="yes">
      <source>
        <address domain="0x0000" bus="0x65" slot="0x00" function="0x0"/>
      </source>
    </hostdev>
"#;
    let second = r#"<address domain="0x0001" bus="0xaf" slot="0x1f" function="0x7"/>"#;
    assert!(xml.contains(first) && xml.contains(second), "{xml}");
    assert_eq!(read_passed(&xml).unwrap(), passed);
}

#[test]
fn which_gpus_a_definition_has() {
    let [a, b, c, gone] = [
        "0000:0a:00.0",
        "0000:65:00.0",
        "0001:02:00.0",
        "0000:07:00.0",
    ]
    .map(pci);
    let choose = |count, own: &[PciAddress], runs, taken: &[PciAddress]| {
        let gpus = Gpus {
            count,
            handed_out: vec![c, a, b],
        };
        gpus.choose(own, runs, &taken.iter().copied().collect())
    };
    assert_eq!(choose(1, &[], false, &[]), Ok(vec![a]));
    assert_eq!(choose(2, &[], false, &[a]), Ok(vec![b, c]));
    assert_eq!(choose(3, &[], false, &[b]), Err(2));
    // What it has it keeps, however low another is.
    assert_eq!(choose(1, &[c], false, &[]), Ok(vec![c]));
    assert_eq!(choose(2, &[c], false, &[]), Ok(vec![a, c]));
    // But for what it could not start with.
    assert_eq!(choose(1, &[gone], false, &[]), Ok(vec![a]));
    assert_eq!(choose(1, &[b], false, &[a, b]), Ok(vec![c]));
    for taken in [&[][..], &[gone]] {
        assert_eq!(choose(1, &[gone], true, taken), Ok(vec![gone]));
    }
    assert_eq!(choose(0, &[], false, &[a, b, c]), Ok(vec![]));
}

#[test]
fn devices_that_any_definition_has() {
    let devices = |text: &str| {
        let xml = format!("<domain><devices>{text}</devices></domain>");
        read_passed(&xml).unwrap()
    };
    let address = |kind: &str, bus: &str| {
        format!(
            "<source><address {kind} domain='0x0000' bus='{bus}' slot='0x00' function='0x0'/></source>"
        )
    };
    let (old, new) = (address("", "0x65"), address("type='pci'", "102"));
    assert_eq!(
        devices(&format!(
            "<hostdev mode='subsystem' type='pci'>{old}<address type='pci' domain='0' bus='9' slot='0' function='0'/></hostdev>\
             <interface type='hostdev'>{new}</interface>"
        )),
        [pci("0000:65:00.0"), pci("0000:66:00.0")]
    );
    for none in [
        "",
        "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>",
        "<hostdev type='pci'/>",
        "<hostdev type='pci'><source><address bus='0x65' slot='0x00' function='0x0'/></source></hostdev>",
        "<hostdev type='pci'><source><address domain='0' bus='300' slot='0' function='0'/></source></hostdev>",
    ] {
        assert_eq!(devices(none), [], "{none}");
    }
    assert!(read_passed("<domain").is_err());
}

/// As libvirt gives back what it was told to put into a definition.
fn adopted(vm_id: &str, domain_id: &str) -> String {
    let adoption = Adoption {
        domain_id: domain_id.parse().unwrap(),
        vm_id: vm_id.parse().unwrap(),
        vm_name: Name::new("web-1").unwrap(),
        stamp: spec().stamp,
    };
    let written = adoption.to_xml().unwrap();
    let marked = written.replace(
        "<vm ",
        &format!("<virtflow:vm xmlns:virtflow=\"{NAMESPACE}\" "),
    );
    format!(
        "<domain type='kvm'><name>old</name><uuid>{domain_id}</uuid><metadata>{marked}</metadata>\
         <memory unit='KiB'>524288</memory><vcpu>2</vcpu><devices/></domain>"
    )
}

#[test]
fn an_adopted_domain_is_the_vms_by_both_ids() {
    const VM: &str = "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11";
    const DOMAIN: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
    let xml = adopted(VM, DOMAIN);
    let facts = read_domain(&xml).unwrap();
    let mark = facts.mark.unwrap();
    assert_eq!(mark.vm_id, VM.parse().unwrap());
    assert_eq!(mark.stamp, spec().stamp);
    assert_eq!(facts.domain_id, DOMAIN.parse().unwrap());
    // Copied to another domain, with one of the ids or none changed, it is nobody's.
    for copied in [
        xml.replace("<uuid>4dea22b3", "<uuid>5dea22b3"),
        xml.replace("adopted_domain=\"4dea22b3", "adopted_domain=\"5dea22b3"),
        xml.replace("adopted_domain=\"4dea22b3", "adopted_domain=\"zdea22b3"),
        xml.replace("adopted_domain", "adopted"),
    ] {
        assert_eq!(read_domain(&copied).unwrap().mark, None, "{copied}");
    }
}

#[test]
fn what_somebody_elses_definition_says() {
    let domain_id: ObjectId = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0".parse().unwrap();
    let read = |devices: &str, kind: &str| {
        let xml = format!(
            "<domain type='{kind}'><name>old</name><uuid>{domain_id}</uuid><memory unit='KiB'>524288</memory>\
             <vcpu current='1'>2</vcpu><devices>{devices}</devices></domain>"
        );
        read_foreign(&xml, domain_id, "old")
    };
    let all = read(
        "<disk type='file' device='disk'><source file='/images/a.qcow2'/><target dev='vda'/></disk>\
         <disk type='file' device='cdrom'><target dev='sda'/></disk>\
         <disk type='block'><source dev='/dev/vg/a'/><target dev='vdb'/></disk>\
         <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdc'/></disk>",
        "kvm",
    );
    let disks: Vec<_> = all.disks.iter().map(|d| (&*d.target, &d.source)).collect();
    assert_eq!(
        disks,
        [
            ("vda", &DiskSource::File("/images/a.qcow2".into())),
            ("vdb", &DiskSource::Device),
            ("vdc", &DiskSource::Unknown),
        ]
    );
    assert_eq!((all.vcpus, all.memory_mib), (2, 512));
    assert_eq!(all.obstacles, []);
    for passed in [
        "<hostdev mode='subsystem' type='pci'/>",
        "<interface type='hostdev'/>",
    ] {
        let obstacles = read(passed, "qemu").obstacles;
        assert_eq!(obstacles, [Obstacle::Passthrough], "{passed}");
    }
    assert_eq!(read("", "lxc").obstacles, [Obstacle::OtherHypervisor]);
    let broken = read_foreign("<domain>", domain_id, "odd");
    assert_eq!(broken.obstacles, [Obstacle::Unreadable]);
    assert_eq!((broken.name.as_str(), broken.vcpus), ("odd", 0));
}

#[test]
fn whose_domain_it_is() {
    let xml = spec().to_xml(&[]).unwrap();
    let mark = read_domain(&xml).unwrap().mark.unwrap();
    assert_eq!(mark.vm_name.as_str(), "web-1");
    assert_eq!(mark.stamp, spec().stamp);

    let foreign = [
        // Copied by hand: another UUID over our mark.
        xml.replace("<uuid>0190d3b2", "<uuid>1190d3b2"),
        xml.replace("domain/1\"", "domain/2\""),
        xml.replace("placement_epoch=\"3\"", "placement_epoch=\"-3\""),
        xml.replace("placement_epoch=\"3\"", ""),
        xml.replace("incarnation=\"6f1c7c2e", "incarnation=\"zzzzzzzz"),
        xml.replace("name=\"web-1\"", "name=\"Web 1\""),
        xml.replace("virtflow:vm", "other:vm"),
    ];
    for xml in foreign {
        assert_eq!(read_domain(&xml).unwrap().mark, None, "{xml}");
    }
}

#[test]
fn memory_units_as_libvirt_prints_them() {
    let xml = spec().to_xml(&[]).unwrap();
    let memory = |written: &str| {
        read_domain(&xml.replace("<memory unit=\"MiB\">512</memory>", written))
            .map(|facts| facts.memory_mib)
            .ok()
    };
    assert_eq!(memory("<memory unit='KiB'>524288</memory>"), Some(512));
    assert_eq!(memory("<memory>524288</memory>"), Some(512));
    assert_eq!(memory("<memory unit='GiB'>2</memory>"), Some(2048));
    assert_eq!(memory("<memory unit='bytes'>1048576</memory>"), Some(1));
    assert_eq!(memory("<memory unit='furlong'>1</memory>"), None);
    assert_eq!(memory("<memory unit='KiB'>-1</memory>"), None);
}

/// Text that tries to leave its place in XML, in QEMU's options, in a path or in a shell.
const HOSTILE: &[&str] = &[
    "<",
    ">",
    "&",
    "'",
    "\"",
    "]]>",
    "<![CDATA[",
    "-->",
    "<!--",
    "<?pi?>",
    "&lt;",
    "&#60;",
    "&entity;",
    "'/><disk/>",
    "\"/><disk/>",
    "</name><name>",
    "</metadata><devices>",
    "x,readonly=off",
    "x;id",
    "$(id)",
    "`id`",
    "|id",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\0b",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "ａ",
    "é",
    "\u{202e}",
    "%00",
    "..\\..",
    "\\",
    "{}",
    "${x}",
    "{{x}}",
    "[x]",
    "*",
    "?",
    "~",
    "!",
    "^",
    "=\u{0}",
    " ",
    "x y",
    "\u{fffe}",
    "</domain>",
    "<domain>",
    "<!DOCTYPE a>",
    "<!ENTITY a 'b'>",
    "xmlns=''",
];

#[test]
fn hostile_text_reaches_no_field() {
    for hostile in HOSTILE {
        for around in ["", "a", "/a/"] {
            let text = format!("{around}{hostile}a");
            assert!(Name::new(&text).is_err(), "name {text:?}");
            assert!(BridgeName::new(&text).is_err(), "bridge {text:?}");
            assert!(MacAddress::new(&text).is_err(), "mac {text:?}");
            let path = HostPath::new(Path::new(&format!("/{text}")));
            assert!(path.is_err(), "path {text:?}");
            // Arguments may hold these; they are one text of one element, and one word of QEMU's.
            if !matches!(*hostile, " " | "x y" | "%00" | "x,readonly=off") {
                assert!(KernelArguments::new(&text).is_err(), "arguments {text:?}");
            }
        }
    }
}

/// The writer is the second wall: even text that the value types refuse stays one text.
#[test]
fn the_writer_escapes_whatever_it_is_given() {
    let writable = HOSTILE
        .iter()
        .filter(|text| !text.chars().any(|c| c.is_control() || c == '\u{fffe}'));
    for hostile in writable {
        let mut writer = quick_xml::Writer::new(Vec::new());
        writer
            .create_element("a")
            .with_attribute(("b", *hostile))
            .write_text_content(quick_xml::events::BytesText::new(hostile))
            .unwrap();
        let xml = String::from_utf8(writer.into_inner()).unwrap();
        let root = Element::parse(&xml).unwrap();
        assert_eq!(root.attribute("b"), Some(*hostile), "{xml}");
        assert_eq!(root.text, *hostile, "{xml}");
        assert!(root.children.is_empty(), "{xml}");
    }
}

proptest! {
    #[test]
    fn whatever_may_be_written_reads_back(
        name in "[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?",
        id in any::<u128>(),
        incarnation in any::<u128>(),
        epoch in any::<u64>(),
        index in any::<u64>(),
        vcpus in 1u32..1024,
        memory_mib in 1u64..(1 << 30),
        kernel in "/[a-zA-Z0-9_+@-]{1,40}",
        arguments in "[a-zA-Z0-9=.,:/_+@%-]{1,40}( [a-zA-Z0-9=.,:/_+@%-]{1,40}){0,5}",
        disks in 0usize..4,
        nics in 0usize..4,
        gpus in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..32, 0u8..8), 0..4),
    ) {
        let mut spec = spec();
        spec.vm_id = ObjectId::from_u128(id);
        spec.vm_name = Name::new(&name).unwrap();
        spec.stamp = DomainStamp {
            placement_epoch: epoch,
            incarnation: Incarnation::from_u128(incarnation),
            index,
        };
        spec.vcpus = vcpus;
        spec.memory_mib = memory_mib;
        spec.boot = Boot::Kernel {
            kernel: path(&kernel),
            initrd: None,
            arguments: KernelArguments::new(&arguments).unwrap(),
        };
        spec.disks = vec![spec.disks[0].clone(); disks];
        spec.nics = vec![spec.nics[0].clone(); nics];
        let gpus: Vec<_> = gpus
            .iter()
            .map(|(domain, bus, slot, function)| pci(&format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}")))
            .collect();
        // `to_xml` reads back what it wrote and compares all of it.
        let facts = read_domain(&spec.to_xml(&gpus).unwrap()).unwrap();
        prop_assert_eq!(&facts.passed, &gpus);
        prop_assert_eq!(facts.mark.unwrap().stamp, spec.stamp);
        prop_assert_eq!(facts.domain_name, format!("{name}-{}", &format!("{id:032x}")[20..]));
        prop_assert_eq!(facts.memory_mib, memory_mib);
        prop_assert_eq!(facts.kernel[2].as_deref(), Some(arguments.as_str()));
        prop_assert_eq!((facts.disks.len(), facts.nics.len()), (disks, nics));
    }

    #[test]
    fn reading_anything_never_panics(text in "\\PC{0,200}") {
        let _ = read_domain(&text);
    }

    #[test]
    fn reading_a_damaged_definition_never_panics(at in 0usize..1500, byte in any::<u8>()) {
        let mut xml = spec().to_xml(&[]).unwrap().into_bytes();
        let at = at % xml.len();
        xml[at] = byte;
        if let Ok(text) = String::from_utf8(xml) {
            let _ = read_domain(&text);
        }
    }
}
