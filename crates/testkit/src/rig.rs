//! A small data centre on one machine.
//!
//! A rig is a private network with machines on it. Each machine ([`Node`]) is a network, mount,
//! pid, UTS and IPC namespace with process 1 of its own ([`init`]), its own `/run`, `/var/lib`,
//! `/var/log`, `/var/cache`, machine id and boot id; a *hypervisor* has its own libvirtd too. The
//! nodes' network cards (veth) meet in a bridge which lives in one more namespace, the *lan*.
//! That is also where an operator sits.
//!
//! Nothing of it has a global name: no bridge, address, mount or named namespace appears on the
//! machine itself, no route leads out of the rig, and several rigs can run side by side in
//! different folders. When a rig's process ends, however it ends, its nodes are gone with all that
//! runs in them ([`init`] says how), so the only remains are files in the rig's folder.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::poll;

pub mod control;
pub mod hypervisor;
pub mod init;
pub mod lan;
mod node;
mod process;

pub use node::{Node, NodeSpec};
pub(crate) use process::kill;
pub use process::{Process, is_alive};

/// Folders that every node has of its own; a rig's folder cannot lie in one of them.
const PRIVATE_FOLDERS: [&str; 4] = ["/run", "/var/lib", "/var/log", "/var/cache"];

/// How long killed processes may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How many characters a rig's folder may have: the path of a socket ends at 107.
const DIRECTORY_LIMIT: usize = 50;

/// Held locked by the rig at work in a folder; also the mark of a folder that a rig may clear.
const LOCK_FILE: &str = "rig.lock";

/// A running rig.
#[derive(Debug)]
pub struct Rig {
    directory: PathBuf,
    lan: Node,
    nodes: BTreeMap<String, Node>,
    _lock: File,
}

impl Rig {
    /// Starts an empty rig in `directory`, which is created if need be. What an earlier rig left
    /// there is ended and removed first.
    ///
    /// # Errors
    /// When not run as root, when another living rig holds the folder, or when the lan cannot be
    /// set up.
    pub fn start(directory: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("namespaces and network cards need root: run this as root or with sudo");
        }
        let directory = prepare_directory(directory)?;
        let lock = lock(&directory)?;
        end_remains(&directory)?;
        remove_if_there(&directory.join("nodes"))?;
        let lan = lan::start(&directory)?;
        Ok(Self {
            directory,
            lan,
            nodes: BTreeMap::new(),
            _lock: lock,
        })
    }

    /// The rig's folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The node in which the bridge is and an operator sits.
    pub fn lan(&self) -> &Node {
        &self.lan
    }

    /// Starts a machine and connects it.
    ///
    /// # Errors
    /// When there is one of that name, or when a part of it cannot be set up.
    pub fn add(&mut self, spec: NodeSpec) -> Result<&Node> {
        if self.nodes.contains_key(&spec.name) {
            bail!("the rig has a node {} already", spec.name);
        }
        let name = spec.name.clone();
        let node = Node::start(&self.directory, spec)?;
        lan::connect(&self.lan, &node)?;
        Ok(self.nodes.entry(name).or_insert(node))
    }

    /// The node of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .get(name)
            .with_context(|| format!("the rig has no node {name}"))
    }

    /// All machines, by name; the lan is not among them.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Pulls the plug of a machine and starts it again: everything that ran in it dies at once,
    /// its files stay, its boot id is a new one. Its services are for the caller to start.
    ///
    /// # Errors
    /// When there is no such node or it doesn't come up.
    pub fn power_cycle(&mut self, name: &str) -> Result<&Node> {
        let node = self
            .nodes
            .remove(name)
            .with_context(|| format!("the rig has no node {name}"))?;
        let spec = node.spec().clone();
        node.end()?;
        self.add(spec)
    }

    /// Leaves everything running after this process has ended. [`end_remains`] ends it.
    ///
    /// # Errors
    /// When a node's init does not answer.
    pub fn keep(self) -> Result<()> {
        for node in self.nodes.into_values().chain([self.lan]) {
            node.keep()?;
        }
        Ok(())
    }

    /// Ends every node and removes their folders.
    ///
    /// # Errors
    /// When a node can't be killed or a folder can't be removed.
    pub fn end(self) -> Result<()> {
        for node in self.nodes.into_values().chain([self.lan]) {
            node.end()?;
        }
        remove_if_there(&self.directory.join("nodes"))
    }
}

/// Ends the nodes that an earlier rig left running in `directory` (one that was kept) and says how
/// many there were. Files stay.
///
/// # Errors
/// When they do not die.
pub fn end_remains(directory: &Path) -> Result<usize> {
    let inits = process::inits_below(directory)?;
    for init in &inits {
        process::kill(*init)?;
    }
    poll::until("the earlier rig's nodes to end", KILL_TIMEOUT, || {
        // An init on its way out has lost its command line already, but not its node.
        Ok((!inits.iter().any(|init| is_alive(*init))).then_some(()))
    })?;
    Ok(inits.len())
}

/// Whether a rig is running, or was left running, in `directory`.
///
/// # Errors
/// When the process table cannot be read.
pub fn is_running(directory: &Path) -> Result<bool> {
    Ok(!process::inits_below(directory)?.is_empty())
}

fn prepare_directory(directory: &Path) -> Result<PathBuf> {
    if !directory.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let directory = directory
        .canonicalize()
        .with_context(|| format!("resolving {}", directory.display()))?;
    if let Some(private) = PRIVATE_FOLDERS.iter().find(|p| directory.starts_with(p)) {
        bail!(
            "a rig cannot live in {}: every node has a {private} of its own; choose a folder elsewhere",
            directory.display()
        );
    }
    let is_empty = fs::read_dir(&directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .next()
        .is_none();
    if !is_empty && !is_rig_folder(&directory) {
        bail!(
            "{} holds files that no rig made: choose an empty or a new folder",
            directory.display()
        );
    }
    if directory.as_os_str().len() > DIRECTORY_LIMIT {
        bail!(
            "{} is longer than {DIRECTORY_LIMIT} characters, too long for the paths of sockets in it; choose a shorter one",
            directory.display()
        );
    }
    // Keys and tokens lie in it.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("closing {} to other users", directory.display()))?;
    Ok(directory)
}

/// Whether a rig has used `directory` before.
pub fn is_rig_folder(directory: &Path) -> bool {
    directory.join(LOCK_FILE).is_file()
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another rig is at work in {}: end it, or choose another folder",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

fn remove_if_there(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rig_refuses_a_folder_that_its_nodes_would_not_see() {
        let error = prepare_directory(Path::new("/run")).unwrap_err();
        assert!(error.to_string().contains("choose a folder elsewhere"));
    }

    #[test]
    fn a_rig_leaves_the_files_of_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "").unwrap();
        let error = prepare_directory(folder.path()).unwrap_err();
        assert!(error.to_string().contains("holds files that no rig made"));
    }

    #[test]
    fn one_folder_serves_one_rig_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let error = lock(folder.path()).unwrap_err();
        assert!(error.to_string().starts_with("another rig is at work"));
        drop(held);
        lock(folder.path()).unwrap();
    }
}
