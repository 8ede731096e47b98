//! The rig itself: machines that are apart, a libvirtd each, a guest that boots, and nothing left.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use virtflow_testkit::rig::{self, NodeSpec, Rig, lan};
use virtflow_testkit::{guest, packages, poll};

/// Where the guest image is kept between runs.
const IMAGE_FOLDER: &str = "/var/tmp/virtflow-guest-image";
/// A busy machine takes many times as long as an idle one to boot a guest.
const GUEST_TIMEOUT: Duration = Duration::from_secs(180);

fn host(name: &str, last: u8) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        address: lan::address(last),
        hypervisor: true,
    }
}

fn domain(image: &guest::Image) -> String {
    format!(
        "<domain type='qemu'><name>probe</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd>
         <cmdline>{} virtflow.vm=probe</cmdline></os><features><acpi/></features>
         <devices><serial type='file'><source path='/var/lib/probe.log'/></serial>
         <memballoon model='none'/></devices></domain>",
        image.kernel.display(),
        image.initramfs.display(),
        guest::COMMAND_LINE,
    )
}

fn reaches(from: &rig::Node, to: &rig::Node) -> bool {
    from.call(
        "busybox",
        &["ping", "-c1", "-W1", &to.address().to_string()],
    )
    .is_ok()
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn hosts_are_machines_of_their_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rig = Rig::start(folder.path())?;
    let first_boot = rig.add(host("h1", 21))?.boot_id()?;
    rig.add(host("h2", 22))?;
    let (h1, h2) = (rig.node("h1")?, rig.node("h2")?);

    for node in [h1, h2] {
        assert_eq!(node.call("hostname", &[])?.trim(), node.name());
        let seen = node.call("cat", &["/proc/sys/kernel/random/boot_id"])?;
        assert_eq!(seen.trim(), node.boot_id()?);
    }
    assert_ne!(h1.boot_id()?, h2.boot_id()?);
    let ids = [h1, h2].map(|node| node.call("cat", &["/etc/machine-id"]).unwrap());
    assert_ne!(ids[0], ids[1]);

    assert!(reaches(h1, h2));
    lan::set_connected(rig.lan(), h2, false)?;
    assert!(!reaches(h1, h2));
    lan::set_connected(rig.lan(), h2, true)?;
    // That the address could not be resolved is remembered for a moment.
    poll::until("h2 to be reached again", Duration::from_secs(10), || {
        Ok(reaches(h1, h2).then_some(()))
    })?;
    assert_eq!(h1.call("ip", &["route", "show", "default"])?, "");

    let killed = h1.service_process("libvirtd")?;
    killed.kill()?;
    poll::until("libvirtd to come back", Duration::from_secs(30), || {
        Ok(h1.virsh(&["list"]).is_ok().then_some(()))
    })?;
    let status = h1.service("libvirtd")?;
    assert_eq!(status.last_end.as_deref(), Some("killed by signal 9"));
    assert_eq!(status.starts, 2);

    let again = rig.power_cycle("h1")?;
    assert_ne!(again.boot_id()?, first_boot);
    assert!(!rig::is_alive(killed.pid));
    rig.end()
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn a_guest_boots_talks_and_obeys() -> Result<()> {
    let image = guest::build(Path::new(IMAGE_FOLDER))?;
    let folder = tempfile::tempdir()?;
    let mut rig = Rig::start(folder.path())?;
    let node = rig.add(host("h1", 21))?;
    let definition = node.directory().join("probe.xml");
    fs::write(&definition, domain(&image))?;
    let definition = definition.to_string_lossy().into_owned();
    let console = node.directory().join("var/lib/probe.log");
    let said = || fs::read_to_string(&console).unwrap_or_default();
    let says = |what: &str| {
        poll::until(
            format_args!("`{what}` on the console"),
            GUEST_TIMEOUT,
            || Ok(said().contains(what).then_some(())),
        )
    };

    node.virsh(&["create", &definition])?;
    assert!(node.qemu_mentioning("guest=probe,")?.is_some());
    assert!(node.qemu_mentioning("guest=prob,")?.is_none());
    says("virtflow guest probe: up, Linux 6.")?;
    let counted_beyond = |seconds: f64| {
        poll::until("the guest to count seconds", GUEST_TIMEOUT, || {
            Ok(guest::uptime(&said()).filter(|uptime| *uptime > seconds))
        })
    };
    counted_beyond(counted_beyond(0.0)?)?;
    node.virsh(&["shutdown", "probe"])?;
    says("virtflow guest probe: power button pressed")?;
    poll::until("the guest to go down", Duration::from_secs(20), || {
        let running = node.virsh(&["list", "--all", "--name"])?;
        Ok(running.trim().is_empty().then_some(()))
    })?;
    assert!(node.qemu_mentioning("guest=probe,")?.is_none());

    // The machine's init reaps at once: else libvirt waits more than a second for each dead QEMU.
    node.virsh(&["create", &definition])?;
    let qemu = node.qemu_mentioning("guest=probe,")?.unwrap();
    node.virsh(&["destroy", "probe"])?;
    assert!(!Path::new(&format!("/proc/{}", qemu.pid)).exists());

    node.virsh(&["create", &definition])?;
    let qemu = node.qemu_mentioning("guest=probe,")?.unwrap();
    rig.end()?;
    assert!(!rig::is_alive(qemu.pid));
    assert!(!folder.path().join("nodes").exists());
    Ok(())
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn hosts_die_with_a_rig_that_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut holder = Command::new(packages::own_binary("xtask")?)
        .args(["rig", "--hosts", "1", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let socket = folder.path().join("nodes/h1/run/libvirt/libvirt-sock");
    poll::until("libvirtd to listen", Duration::from_secs(30), || {
        Ok(socket.exists().then_some(()))
    })?;
    assert!(rig::is_running(folder.path())?);
    let refused = Rig::start(folder.path()).unwrap_err().to_string();
    assert!(refused.starts_with("another rig is at work"), "{refused}");

    holder.kill()?;
    holder.wait()?;
    poll::until("all nodes to end", Duration::from_secs(5), || {
        Ok((!rig::is_running(folder.path())?).then_some(()))
    })?;
    // What it left behind is no hindrance.
    Rig::start(folder.path())?.end()
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn a_kept_rig_goes_on_until_it_is_ended() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rig = Rig::start(folder.path())?;
    let init = rig.add(host("h1", 21))?.init_pid();
    rig.keep()?;
    std::thread::sleep(Duration::from_millis(200));
    assert!(rig::is_alive(init));
    assert!(rig::end_remains(folder.path())? >= 2);
    assert!(!rig::is_alive(init));
    Ok(())
}
