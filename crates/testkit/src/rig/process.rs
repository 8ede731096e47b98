//! What the kernel says about the processes of a node, seen from outside it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// One process of a node.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id on the machine.
    pub pid: i32,
    /// Its id inside the node.
    pub inner_pid: i32,
    /// The file it runs, without folders.
    pub program: String,
    /// Its arguments, the program's name first.
    pub arguments: Vec<String>,
}

impl Process {
    /// Kills it with SIGKILL; no harm if it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        kill(self.pid)
    }
}

/// Whether a process of that id exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name in parentheses may hold anything, so look behind the last one.
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .is_some_and(|state| state != "Z" && state != "X")
    })
}

pub(crate) fn kill(pid: i32) -> Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("killing process {pid:?}")),
    }
}

/// The processes that share `init`'s pid namespace, `init` included.
pub(super) fn in_namespace_of(init: i32) -> Result<Vec<Process>> {
    let namespace = fs::read_link(format!("/proc/{init}/ns/pid"))
        .with_context(|| format!("looking for the namespace of process {init}"))?;
    let mut processes = Vec::new();
    for pid in all_pids()? {
        // A process may end while it is looked at: then it is not in the list.
        let Ok(link) = fs::read_link(format!("/proc/{pid}/ns/pid")) else {
            continue;
        };
        if link == namespace
            && is_alive(pid)
            && let Some(process) = read(pid)
        {
            processes.push(process);
        }
    }
    Ok(processes)
}

/// The inits of nodes whose layout file lies below `directory`, told by their command line, and
/// the processes that wait for them.
pub(super) fn inits_below(directory: &Path) -> Result<Vec<i32>> {
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned())
        .join("nodes");
    Ok(all_pids()?
        .into_iter()
        .filter(|pid| is_alive(*pid))
        .filter(|pid| {
            let arguments = arguments(*pid);
            let program = arguments.iter().position(|argument| {
                Path::new(argument)
                    .file_name()
                    .is_some_and(|n| n == super::node::INIT_PROGRAM)
            });
            program
                .and_then(|index| arguments.get(index + 1))
                .is_some_and(|layout| Path::new(layout).starts_with(&directory))
        })
        .collect())
}

fn all_pids() -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("reading the process table")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

fn read(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let inner_pid = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?
        .split_whitespace()
        .last()?
        .parse()
        .ok()?;
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    Some(Process {
        pid,
        inner_pid,
        program: program_name(executable),
        arguments: arguments(pid)
            .into_iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
    })
}

/// The kernel marks a file that was replaced since, as a new build does.
fn program_name(executable: PathBuf) -> String {
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

fn arguments(pid: i32) -> Vec<OsString> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_living_process_of_its_own_namespace() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(me));
        let found = in_namespace_of(me).unwrap();
        let this = found.iter().find(|process| process.pid == me).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(this.program, exe.file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn a_replaced_program_keeps_its_name() {
        assert_eq!(program_name("/x/agent (deleted)".into()), "agent");
    }
}
