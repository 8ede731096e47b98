//! A whole cluster with its hosts and a tenant, for tests that begin where the demo has shown the way.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::json::{list, number, phase_of, status, text};
use super::{Api, Cluster, Person, Place, Plan};
use crate::poll;

/// The group that all hosts are in.
pub const GROUP: &str = "general";
/// The tenant that virtual machines belong to.
pub const TENANT: &str = "acme";
/// The specification of its virtual machines: one core, [`SMALL_MEMORY_MIB`], 1 GiB of disk.
pub const SPECIFICATION: &str = "small";
/// Memory of a virtual machine of [`SPECIFICATION`], in MiB.
pub const SMALL_MEMORY_MIB: u64 = 128;

const ADMINISTRATOR: &str = "admin";

const GROUP_TIMEOUT: Duration = Duration::from_secs(30);
const ONLINE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a write may be refused for want of a leader.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
const RUNNING_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything, up and running.
#[derive(Debug)]
pub struct Cloud {
    /// Its machines.
    pub place: Place,
    /// How to reach it.
    pub cluster: Cluster,
    /// The administrator, logged in.
    pub operator: Person,
    /// The administrator by a token, for requests to one chosen controller.
    pub api: Api,
}

impl Cloud {
    /// Starts what `plan` says in `directory`: all controllers vote, all hosts are online, and there
    /// is a tenant with quota and specification.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn start(directory: &Path, images: &Path, plan: Plan) -> Result<Self> {
        let mut place = Place::new(directory, images, plan)?;
        let operator = Person::new("operator", &place.people(), place.rig.lan().init_pid())?;
        let controllers = place.controllers();
        place.add_controller(&controllers[0])?;
        let cluster = place.make_cluster(&controllers[0], ADMINISTRATOR)?;
        let password = place.administrators_password(&controllers[0])?;
        operator.log_in(&cluster, ADMINISTRATOR, &password)?;
        let api = Self::api_of(&place, &operator)?;
        let mut cloud = Self {
            place,
            cluster,
            operator,
            api,
        };
        for name in &controllers[1..] {
            cloud.add_controller(name, &[])?;
        }
        cloud.wait_voters(controllers.len())?;
        // The tool knows by now only the controller that there was at first.
        cloud
            .operator
            .log_in(&cloud.cluster, ADMINISTRATOR, &password)?;
        cloud.furnish()?;
        for name in cloud.place.hosts() {
            cloud.add_host(&name)?;
        }
        for name in cloud.place.hosts() {
            cloud.wait_liveness(&name, "online")?;
        }
        Ok(cloud)
    }

    /// Ends all of it.
    ///
    /// # Errors
    /// When something can't be ended.
    pub fn end(self) -> Result<()> {
        self.place.rig.end()
    }

    /// Lets one more controller join; `more` is added to the invitation.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_controller(&mut self, name: &str, more: &[&str]) -> Result<()> {
        self.place.add_controller(name)?;
        let mut invite = vec!["invite", "create", "--role", "controller", "--name", name];
        invite.extend_from_slice(more);
        self.place
            .join(name, &self.operator, &self.cluster, &invite)?;
        Ok(())
    }

    fn add_host(&mut self, name: &str) -> Result<()> {
        self.place.add_host(name)?;
        let serial = Place::serial_number(name);
        let invite = [
            "invite", "create", "--group", GROUP, "--serial", &serial, "--name", name,
        ];
        self.place
            .join(name, &self.operator, &self.cluster, &invite)?;
        Ok(())
    }

    fn furnish(&self) -> Result<()> {
        let memory = format!("{SMALL_MEMORY_MIB}MiB");
        for arguments in [
            &["data-center", "create", "attic"][..],
            &[
                "group",
                "create",
                GROUP,
                "--data-center",
                "attic",
                "--cpu-overcommit",
                "800",
            ],
            &[
                "tenant",
                "create",
                TENANT,
                "--quota-cpu",
                "20",
                "--quota-memory",
                "8GiB",
                "--quota-storage",
                "100GiB",
                "--quota-vms",
                "20",
            ],
            &[
                "quota",
                "create",
                "--group",
                GROUP,
                "--tenant",
                TENANT,
                "--cpu-percent",
                "100",
                "--memory",
                "8GiB",
                "--storage",
                "100GiB",
            ],
            &[
                "spec",
                "create",
                SPECIFICATION,
                "--cpu",
                "1",
                "--memory",
                &memory,
                "--storage",
                "1GiB",
            ],
        ] {
            self.operator.json(arguments)?;
        }
        Ok(())
    }

    fn api_of(place: &Place, operator: &Person) -> Result<Api> {
        let token = operator.json(&["token", "create", "curl"])?;
        // An invitation shows the CA to who has none yet; this one is never used.
        let invitation = operator.json(&["invite", "create", "--role", "controller"])?;
        Api::new(
            place.rig.lan().init_pid(),
            &place.people().join("curl"),
            text(&invitation, "/ca_pem")?,
            text(&token, "/token")?,
        )
    }

    /// A caller of the API with another token.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn api_with(&self, name: &str, token: &str) -> Result<Api> {
        let ca = std::fs::read_to_string(self.api.ca())?;
        Api::new(
            self.place.rig.lan().init_pid(),
            &self.place.people().join(name),
            &ca,
            token,
        )
    }

    /// The address of a machine.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr> {
        Ok(self.place.node(name)?.address())
    }

    /// The name of the controller that leads, as any of them says.
    ///
    /// # Errors
    /// When none is known within 20 s.
    pub fn leader(&self) -> Result<String> {
        poll::until("a leader", WRITE_TIMEOUT, || {
            for name in self.place.controllers() {
                if let Ok(status) = self.place.status(&name)
                    && status["role"] == "leader"
                {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        })
    }

    /// The controllers that do not lead.
    ///
    /// # Errors
    /// As [`Cloud::leader`].
    pub fn followers(&self) -> Result<Vec<String>> {
        let leader = self.leader()?;
        let mut names = self.place.controllers();
        names.retain(|name| *name != leader);
        Ok(names)
    }

    /// Waits until so many controllers vote.
    ///
    /// # Errors
    /// When they don't.
    pub fn wait_voters(&self, count: usize) -> Result<()> {
        let what = format!("{count} voting controllers");
        poll::until(what, GROUP_TIMEOUT, || {
            Ok((self.members_with_role("voter")? == count).then_some(()))
        })
    }

    /// How many controllers have a role in the group.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn members_with_role(&self, role: &str) -> Result<usize> {
        let controllers = self.operator.json(&["controller", "list"])?;
        Ok(list(&controllers)?
            .iter()
            .filter(|controller| controller["member"]["role"] == role)
            .count())
    }

    /// Waits until a host is seen as `liveness`.
    ///
    /// # Errors
    /// When it isn't.
    pub fn wait_liveness(&self, host: &str, liveness: &str) -> Result<Value> {
        let mut last = Value::Null;
        poll::until(
            format_args!("host {host} to be {liveness}"),
            ONLINE_TIMEOUT,
            || {
                last = self.operator.json(&["host", "get", host])?;
                Ok((text(status(&last), "/liveness")? == liveness).then(|| last.clone()))
            },
        )
        .with_context(|| {
            format!(
                "last seen: {last}\n{}",
                self.place.end_of_log(host).unwrap_or_default()
            )
        })
    }

    /// Asks the controller at `address` for a virtual machine of [`SPECIFICATION`]; see
    /// [`Api::request`].
    ///
    /// # Errors
    /// As there.
    pub fn create_vm_body(name: &str) -> Value {
        json!({"name": name, "tenant": TENANT, "spec": {"specification": SPECIFICATION}})
    }

    /// Makes a virtual machine and returns its id. It may not be running yet.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_vm(&self, name: &str) -> Result<String> {
        let created = self.operator.json(&[
            "vm",
            "create",
            name,
            "--tenant",
            TENANT,
            "--spec",
            SPECIFICATION,
            "--no-wait",
        ])?;
        let id = created
            .pointer("/object/id")
            .or_else(|| created.pointer("/id"))
            .and_then(Value::as_str);
        id.map(str::to_owned)
            .with_context(|| format!("a new VM has no id: {created}"))
    }

    /// Waits until a virtual machine is in `phase`, as the controller at `address` says.
    ///
    /// # Errors
    /// When it isn't.
    pub fn wait_phase(&self, address: Ipv4Addr, id: &str, phase: &str) -> Result<Value> {
        let mut last = Value::Null;
        poll::until(
            format_args!("VM {id} to be {phase}"),
            RUNNING_TIMEOUT,
            || {
                let answer = self.api.get(address, &format!("/vms/{id}"))?;
                last = answer.body.clone();
                match answer.data() {
                    Ok(vm) if phase_of(vm)? == phase => Ok(Some(vm.clone())),
                    _ => Ok(None),
                }
            },
        )
        .with_context(|| format!("last seen: {last}"))
    }

    /// What the tenant uses now, by dimension, as the controller at `address` says.
    ///
    /// # Errors
    /// When it does not say.
    pub fn tenant_usage(&self, address: Ipv4Addr) -> Result<BTreeMap<String, u64>> {
        let answer = self.api.get(address, &format!("/tenants/{TENANT}/usage"))?;
        used_in(answer.data()?)
    }

    /// Waits until controller `name` has applied as much as the leader, and compares what they hold.
    ///
    /// # Errors
    /// When it doesn't catch up or holds something else.
    pub fn wait_caught_up(&self, name: &str, limit: Duration) -> Result<u64> {
        let leader = self.leader()?;
        let mut last = Value::Null;
        poll::until(
            format_args!("{name} to have what {leader} has"),
            limit,
            || {
                let Ok(mine) = self.place.status(name) else {
                    return Ok(None);
                };
                let theirs = self.place.status(&leader)?;
                last = json!([mine, theirs]);
                let index = number(&mine, "/applied_index")?;
                if index != number(&theirs, "/applied_index")? {
                    return Ok(None);
                }
                ensure!(
                    text(&mine, "/digest")? == text(&theirs, "/digest")?,
                    "{name} and {leader} hold different states at {index}"
                );
                Ok(Some(index))
            },
        )
        .with_context(|| {
            format!(
                "last seen: {last}\n{}",
                self.place.end_of_log(name).unwrap_or_default()
            )
        })
    }
}

/// What is used of each dimension that a virtual machine is charged for.
fn used_in(usage: &Value) -> Result<BTreeMap<String, u64>> {
    ["cpu_cores", "memory_mib", "storage_gib", "vms"]
        .into_iter()
        .map(|dimension| {
            let used = number(usage, &format!("/accounts/{dimension}/used"))?;
            Ok((dimension.to_owned(), used))
        })
        .collect()
}
