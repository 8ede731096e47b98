//! The image that the rig's virtual machines boot: Debian's cloud kernel and an initramfs of
//! busybox, a few modules and one script. It boots in about two seconds under plain emulation,
//! says on its serial console who it is, counts the seconds, and goes down when the power button
//! is pressed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::packages::only_entry;
use crate::{command, packages};

mod cpio;

/// Debian's package that always depends on the newest cloud kernel.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

const BUSYBOX: &str = "/usr/bin/busybox";

/// In the order in which the guest loads them.
const MODULES: [&str; 11] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/acpi/button",
    "drivers/input/evdev",
];

const INIT_SCRIPT: &str = include_str!("guest/init.sh");

/// What a virtual machine boots from.
#[derive(Debug, Clone)]
pub struct Image {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
}

/// The kernel's command line; the agent adds the virtual machine's name as `virtflow.vm=NAME`.
pub const COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// Builds the image in `directory`, or takes what an earlier call left there. The kernel's package
/// is downloaded from the machine's Debian sources and unpacked, not installed.
///
/// # Errors
/// When the package can't be had or is not as expected, or busybox is missing.
pub fn build(directory: &Path) -> Result<Image> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the demo's guest image is for x86_64, this machine is {}",
            std::env::consts::ARCH
        );
    }
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let image = Image {
        kernel: directory.join("vmlinuz"),
        initramfs: directory.join("initramfs"),
    };
    let unpacked = packages::unpacked(directory, "kernel", kernel_package)?;
    let kernel = only_entry(&unpacked.join("boot"), "vmlinuz-")?;
    fs::copy(&kernel, &image.kernel).with_context(|| format!("copying {}", kernel.display()))?;
    fs::write(&image.initramfs, initramfs(&unpacked)?)
        .with_context(|| format!("writing {}", image.initramfs.display()))?;
    Ok(image)
}

/// Seconds that the guest of this image has counted since it came up, by the last whole line that it `said` on its console. The
/// first number depends on how long it took to boot.
pub fn uptime(said: &str) -> Option<f64> {
    said.lines().rev().find_map(|line| {
        let (_, counted) = line.trim().split_once(": up ")?;
        counted.strip_suffix(" s")?.parse().ok()
    })
}

/// The package of the newest cloud kernel.
fn kernel_package() -> Result<String> {
    let dependencies = command::call("apt-cache", ["depends", KERNEL_PACKAGE])?;
    let version = dependencies
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .with_context(|| {
            format!("Debian's package list knows no {KERNEL_PACKAGE}: run `apt-get update`")
        })?;
    Ok(format!("linux-image-{version}"))
}

fn initramfs(kernel: &Path) -> Result<Vec<u8>> {
    let modules = only_entry(&kernel.join("lib/modules"), "")?.join("kernel");
    let mut archive = cpio::Archive::default();
    for folder in ["bin", "dev", "lib", "lib/modules", "proc", "sys"] {
        archive.folder(folder);
    }
    // The kernel opens it for the first process before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, INIT_SCRIPT.as_bytes())?;
    archive.file(
        "bin/busybox",
        0o755,
        &fs::read(BUSYBOX)
            .with_context(|| format!("reading {BUSYBOX} (package busybox-static)"))?,
    )?;
    let mut order = String::new();
    for module in MODULES {
        let path = modules.join(format!("{module}.ko"));
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = module.rsplit('/').next().unwrap_or(module);
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, &content)?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes())?;
    Ok(archive.finish())
}
