//! A domain that somebody made by hand becomes a VM, and its guest does not notice.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtflow_testkit::cloud::json::{list, number, status, text};
use virtflow_testkit::cloud::{Cloud, Plan, TENANT};
use virtflow_testkit::rig::{Process, is_alive};
use virtflow_testkit::{guest, poll};

use crate::support::{self, IMAGE_FOLDER};

const HOST: &str = "h1";
const TOLD_TIMEOUT: Duration = Duration::from_secs(60);
const UPTIME_TIMEOUT: Duration = Duration::from_secs(60);
/// What is written on a disk that must not be made anew.
const WRITTEN: &[u8] = b"somebody's data";

/// A domain made by hand.
struct ByHand {
    name: &'static str,
    definition: PathBuf,
    disk: PathBuf,
    console: PathBuf,
}

impl ByHand {
    /// Its files in a folder of the host's; a disk of 1 GiB with something on it.
    fn new(folder: &Path, name: &'static str) -> Result<Self> {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let made = Self {
            name,
            definition: file("xml"),
            disk: file("raw"),
            console: file("log"),
        };
        let disk = File::create(&made.disk)?;
        disk.set_len(1 << 30)?;
        disk.write_all_at(WRITTEN, 4096)?;
        let image = Path::new(IMAGE_FOLDER);
        let definition = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
             <cmdline>console=ttyS0 panic=-1 virtflow.vm={name}</cmdline></os>
             <features><acpi/><apic/></features><on_poweroff>destroy</on_poweroff>
             <devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>
             <target dev='vda' bus='virtio'/></disk>
             <serial type='file'><source path='{console}' append='on'/></serial></devices>
             <seclabel type='none'/></domain>",
            kernel = image.join("vmlinuz").display(),
            initrd = image.join("initramfs").display(),
            disk = made.disk.display(),
            console = made.console.display(),
        );
        fs::write(&made.definition, definition)?;
        Ok(made)
    }

    /// Defined and started, as somebody would.
    fn run(&self, cloud: &Cloud) -> Result<Process> {
        let node = cloud.place.node(HOST)?;
        node.virsh(&["define", &self.definition.to_string_lossy()])?;
        node.virsh(&["start", self.name])?;
        self.qemu(cloud)?.context("it was started and has no QEMU")
    }

    fn qemu(&self, cloud: &Cloud) -> Result<Option<Process>> {
        let mark = format!("guest={},", self.name);
        cloud.place.node(HOST)?.qemu_mentioning(&mark)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    fn wait_uptime(&self, beyond: f64) -> Result<f64> {
        let what = format!("{} to have counted beyond {beyond} s", self.name);
        poll::until(what, UPTIME_TIMEOUT, || {
            Ok(guest::uptime(&self.said()).filter(|uptime| *uptime > beyond))
        })
    }

    fn boots(&self) -> usize {
        self.said().matches(": up, Linux ").count()
    }

    fn disk_is_as_it_was(&self, inode: u64) -> Result<()> {
        let disk = File::open(&self.disk)?;
        let mut bytes = vec![0; WRITTEN.len()];
        disk.read_exact_at(&mut bytes, 4096)?;
        ensure!(bytes == WRITTEN, "what was on the disk is gone");
        ensure!(disk.metadata()?.ino() == inode, "it is another file");
        Ok(())
    }
}

/// What the cloud knows of domains that are not its own.
fn foreign(cloud: &Cloud) -> Result<Value> {
    cloud.operator.json(&["host", "domains", HOST])
}

fn names(told: &Value) -> Result<Vec<String>> {
    let domains = list(&told["domains"])?.iter();
    let names = domains.map(|domain| Ok(text(domain, "/name")?.to_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn wait_told(cloud: &Cloud, expected: &[&str]) -> Result<Value> {
    poll::until(
        format_args!("{expected:?} to be told"),
        TOLD_TIMEOUT,
        || {
            let told = foreign(cloud)?;
            let domains = list(&told["domains"])?;
            // The sizes of disks come after their names, and that it runs after that it is there.
            let whole = |domain: &Value| domain["storage_gib"] == 1 && domain["state"] == "running";
            Ok((names(&told)? == expected && domains.iter().all(whole)).then_some(told))
        },
    )
}

fn act(cloud: &Cloud, verb: &str, name: &str) -> Result<()> {
    cloud
        .operator
        .json(&["vm", verb, name, "--tenant", TENANT, "--wait"])?;
    Ok(())
}

#[test]
#[ignore = "needs root, libvirt and QEMU; run by `cargo xtask ci`"]
fn a_domain_made_by_hand_is_adopted_and_its_guest_goes_on() -> Result<()> {
    let plan = Plan {
        controllers: 1,
        hosts: 1,
        ..Plan::default()
    };
    let (folder, cloud) = support::start(plan)?;
    let node = cloud.place.node(HOST)?;
    // One is there before the agent looks, the other comes while it runs.
    cloud.place.stop(HOST)?;
    let hand = ByHand::new(node.directory(), "hand")?;
    let other = ByHand::new(node.directory(), "other")?;
    let qemu = hand.run(&cloud)?;
    cloud.place.start(HOST)?;
    let others = other.run(&cloud)?;
    let inode = fs::metadata(&hand.disk)?.ino();
    let told = wait_told(&cloud, &["hand", "other"])?;
    ensure!(number(&told, "/take/memory_mib")? == 256, "{told}");

    // One without a definition would be gone once it stops.
    let fleeting = ByHand::new(node.directory(), "fleeting")?;
    node.virsh(&["create", &fleeting.definition.to_string_lossy()])?;
    wait_told(&cloud, &["fleeting", "hand", "other"])?;
    let refusal = cloud
        .operator
        .refused(&["vm", "adopt", HOST, "fleeting", "--tenant", TENANT])?;
    ensure!(
        refusal.message().contains("has no definition"),
        "{}",
        refusal.message()
    );
    node.virsh(&["destroy", "fleeting"])?;

    let before = hand.wait_uptime(0.0)?;
    cloud.operator.json(&[
        "vm", "adopt", HOST, "hand", "--tenant", TENANT, "--name", "web-9", "--wait",
    ])?;
    let vm = cloud
        .operator
        .json(&["vm", "get", "web-9", "--tenant", TENANT])?;
    ensure!(text(status(&vm), "/phase")? == "running", "{vm}");
    ensure!(number(&vm, "/spec/memory_mib")? == 128, "{vm}");
    ensure!(number(&vm, "/spec/storage_gib")? == 1, "{vm}");
    wait_told(&cloud, &["other"])?;
    let again = cloud
        .operator
        .refused(&["vm", "adopt", HOST, "hand", "--tenant", TENANT])?;
    ensure!(!again.message().is_empty());

    // An agent that forgets everything finds it by its mark.
    support::restart_forgetful(&cloud, HOST)?;
    cloud.wait_liveness(HOST, "online")?;
    hand.wait_uptime(before + 2.0)?;
    ensure!(hand.boots() == 1, "its guest was started again");
    let now = hand.qemu(&cloud)?.context("its QEMU is gone")?;
    ensure!(now.pid == qemu.pid && is_alive(qemu.pid), "{now:?}");

    act(&cloud, "stop", "web-9")?;
    ensure!(hand.qemu(&cloud)?.is_none(), "it is stopped and still runs");
    ensure!(hand.said().contains("power button pressed"), "not asked");
    act(&cloud, "start", "web-9")?;
    poll::until("the guest to come up again", UPTIME_TIMEOUT, || {
        Ok((hand.boots() == 2).then_some(()))
    })?;
    hand.disk_is_as_it_was(inode)?;
    act(&cloud, "delete", "web-9")?;
    ensure!(hand.qemu(&cloud)?.is_none(), "it is deleted and still runs");
    ensure!(
        node.virsh(&["list", "--all", "--name"])?.trim() == "other",
        "only the other domain should be left"
    );
    hand.disk_is_as_it_was(inode)?;

    // Nobody was told to do anything with the other one.
    wait_told(&cloud, &["other"])?;
    ensure!(is_alive(others.pid) && other.boots() == 1);
    ensure!(!node.virsh(&["dumpxml", "other"])?.contains("virtflow:vm"));
    support::end(folder, cloud)
}
