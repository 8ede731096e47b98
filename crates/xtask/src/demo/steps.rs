//! The demo's steps, one file each, and what they share.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use virtflow_testkit::cloud::json::{phase_of, text};
use virtflow_testkit::cloud::{Api, Cluster, Person, Place};
use virtflow_testkit::poll;
use virtflow_testkit::rig::Process;

pub(crate) mod end;
pub(crate) mod guests;
pub(crate) mod kills;
pub(crate) mod limits;
pub(crate) mod people;
pub(crate) mod start;

/// How long a guest may take from being asked for until it runs; under emulation, on a machine
/// that is busy with four more.
pub(crate) const RUNNING_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything the steps work on.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) place: Place,
    pub(crate) cluster: Cluster,
    /// The CA's certificate, as PEM.
    pub(crate) ca_pem: String,
    pub(crate) operator: Person,
    pub(crate) user: Person,
}

impl Demo {
    pub(crate) fn directory(&self) -> &Path {
        self.place.rig.directory()
    }

    /// The virtual machine of that name, as the user sees it.
    pub(crate) fn vm(&self, name: &str) -> Result<Value> {
        self.user.json(&["vm", "get", name])
    }

    /// The user with curl instead of the tool, to ask one chosen controller.
    pub(crate) fn user_api(&self, token_name: &str) -> Result<Api> {
        let token = self.user.json(&["token", "create", token_name])?;
        Api::new(
            self.place.rig.lan().init_pid(),
            &self.place.people().join(token_name),
            &self.ca_pem,
            text(&token, "/token")?,
        )
    }

    /// Waits until a virtual machine is in `phase`.
    pub(crate) fn wait_phase(&self, name: &str, phase: &str, limit: Duration) -> Result<Value> {
        let mut last = Value::Null;
        poll::until(format_args!("VM {name} to be {phase}"), limit, || {
            last = self.vm(name)?;
            Ok((phase_of(&last)? == phase).then(|| last.clone()))
        })
        .with_context(|| format!("it was last seen as {}", last["status"]))
    }

    /// The QEMU process of a virtual machine, and the name of the host it runs on. Looked up in
    /// the process table, not in what VirtFlow says.
    pub(crate) fn qemu(&self, vm: &Value) -> Result<Option<(String, Process)>> {
        let id = text(vm, "/id")?;
        let mut found = Vec::new();
        for name in self.place.hosts() {
            if let Some(process) = self.place.node(&name)?.qemu_mentioning(id)? {
                found.push((name, process));
            }
        }
        if found.len() > 1 {
            bail!("VM {id} runs on two hosts at once: {found:?}");
        }
        Ok(found.pop())
    }
}
