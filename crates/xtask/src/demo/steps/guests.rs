//! Virtual machines: placed, started by libvirt, booted, heard.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::cloud::json::{phase_of, text};
use virtflow_testkit::poll;
use virtflow_testkit::rig::Node;

use super::people::SMALL;
use super::{Demo, RUNNING_TIMEOUT};
use crate::demo::report::Report;

/// Name and restart policy of the first virtual machines.
pub(crate) const VMS: [(&str, &str); 3] =
    [("web-1", "always"), ("web-2", "never"), ("web-3", "never")];

/// How long a guest's kernel may take to say its first word, under emulation.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn create(demo: &Demo, report: &Report) -> Result<()> {
    for (name, restart) in VMS {
        let arguments = [
            "vm",
            "create",
            name,
            "--spec",
            SMALL.0,
            "--restart",
            restart,
            "--no-wait",
        ];
        demo.user.json(&arguments)?;
        report.line(demo.user.shown(&arguments));
    }
    let mut hosts = BTreeSet::new();
    for (name, _) in VMS {
        let vm = demo.wait_phase(name, "running", RUNNING_TIMEOUT)?;
        let (host, qemu) = demo
            .qemu(&vm)?
            .with_context(|| format!("VM {name} counts as running, but there is no QEMU"))?;
        let state = libvirt_state(demo.place.node(&host)?, text(&vm, "/id")?)?;
        ensure!(
            state.contains("running") && state.contains(&(SMALL.1 * 1024).to_string()),
            "libvirt on {host} says of VM {name}: {state}"
        );
        report.line(format_args!(
            "{name}: running on {host}, QEMU is process {} there",
            qemu.inner_pid
        ));
        hosts.insert(host);
    }
    ensure!(
        hosts.len() == 2,
        "three virtual machines were all placed on {hosts:?}"
    );
    for (name, _) in VMS {
        console(demo, name)?;
    }
    let arguments = ["vm", "console", VMS[0].0, "--log"];
    report.line(demo.user.shown(&arguments));
    let log = demo.user.text(&arguments)?;
    let tail: Vec<&str> = log.lines().rev().take(8).collect();
    for line in tail.iter().rev() {
        report.quote(line);
    }
    Ok(())
}

/// Waits until the guest has said, on its own console, who it is.
pub(crate) fn console(demo: &Demo, name: &str) -> Result<()> {
    let expected = format!("virtflow guest {name}: up, Linux ");
    poll::until(
        format_args!("`{expected}` on the console of {name}"),
        BOOT_TIMEOUT,
        || {
            let log = demo.user.text(&["vm", "console", name, "--log"])?;
            Ok(log.contains(&expected).then_some(()))
        },
    )
}

/// What libvirt says of the domain of a virtual machine, which it knows by the same id.
pub(crate) fn libvirt_state(node: &Node, id: &str) -> Result<String> {
    node.virsh(&["dominfo", id])
}

/// Fails unless every virtual machine of `names` exists and runs.
pub(crate) fn all_running(demo: &Demo, names: &[&str]) -> Result<()> {
    for name in names {
        let vm = demo.vm(name)?;
        ensure!(
            phase_of(&vm)? == "running",
            "VM {name} should be running: {vm}"
        );
    }
    Ok(())
}
