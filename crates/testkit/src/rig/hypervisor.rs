//! A libvirtd of its own for a node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Node;
use super::control::Service;
use crate::{command, poll};

/// How long libvirtd may take until it answers; it looks at QEMU first.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The name of libvirtd on a node's control socket.
pub const SERVICE: &str = "libvirtd";

const LIBVIRTD_CONF: &str = r#"# Only root, only by the socket in this node's /run.
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:/var/log/libvirtd.log"
"#;

const QEMU_CONF: &str = r#"# A node of the rig is a set of namespaces on a machine that it doesn't own: no security module, no
# control groups, no private /dev. Consoles go straight to their files: there is no virtlogd.
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"#;

/// Debian's libvirt looks these up even if told to use others; the package that makes them would
/// also start a libvirtd of the machine's, so the node gets its own list of users instead.
const USERS: [(&str, &str, &str); 2] = [
    (
        "passwd",
        "libvirt-qemu:",
        "libvirt-qemu:x:64055:64055:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin\n",
    ),
    ("group", "libvirt-qemu:", "libvirt-qemu:x:64055:\n"),
];

pub(super) fn write_files(directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let libvirt = directory.join("etc/libvirt");
    fs::create_dir_all(&libvirt)?;
    fs::write(libvirt.join("libvirtd.conf"), LIBVIRTD_CONF)?;
    fs::write(libvirt.join("qemu.conf"), QEMU_CONF)?;
    fs::write(libvirt.join("libvirt.conf"), "")?;
    let mut binds = vec![(libvirt, "/etc/libvirt".into())];
    for (file, prefix, line) in USERS {
        let machine = Path::new("/etc").join(file);
        let mut text = fs::read_to_string(&machine)
            .with_context(|| format!("reading {}", machine.display()))?;
        if !text.lines().any(|present| present.starts_with(prefix)) {
            text.push_str(line);
        }
        let own = directory.join("etc").join(file);
        fs::write(&own, text)?;
        binds.push((own, machine));
    }
    Ok(binds)
}

pub(super) fn start(node: &Node) -> Result<()> {
    node.start_service(Service {
        name: SERVICE.to_owned(),
        argv: vec!["libvirtd".to_owned()],
        environment: BTreeMap::new(),
        log: node.directory().join("libvirtd.out"),
        restart_after_ms: Some(500),
    })?;
    let what = format!("libvirtd on node {} to answer", node.name());
    poll::until(what, START_TIMEOUT, || {
        let answer = command::run(command::system("virsh").args([
            "--quiet",
            "--connect",
            &node.libvirt_uri(),
            "version",
        ]))?;
        Ok(answer.status.success().then_some(()))
    })
}
