//! Clients: what they ask for and what they were told, to be judged afterwards.
//!
//! Registers are racks whose description is a serial that nobody else writes: created, changed on the
//! generation that was seen, deleted, read on every member. VMs are created under idempotency keys, repeated
//! to other members, started, stopped and deleted, with names and quotas that the clients race for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_types::chance;

use super::api::{Answer, Api, Call, Reply};
use super::catalogue::Told;
use super::controller::{Invitations, Shared, lock};
use super::{clock, trace};

/// Registers that clients share.
const REGISTERS: u64 = 4;

/// How much of everything there is to race for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Names of VMs that clients share.
    pub(crate) vm_names: u64,
    /// VMs that the tenant may have: fewer.
    pub(crate) tenant_vms: u64,
}

impl Size {
    /// For so many hosts.
    pub(crate) fn of(hosts: usize) -> Self {
        let more = (hosts as u64).saturating_sub(7) * 3 / 2;
        Self {
            vm_names: 12 + more,
            tenant_vms: 8 + more * 2 / 3,
        }
    }
}

/// What an operation was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Create {
        value: String,
    },
    /// If it still is what was seen.
    Change {
        seen: String,
        value: String,
    },
    Delete {
        seen: String,
    },
    Read,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Done, or read; `value` is what there is, `None` if nothing.
    Done {
        index: Option<u64>,
        value: Option<String>,
    },
    Refused {
        code: String,
    },
    Unknown,
    NotSent,
}

/// A register as it was read.
struct Register {
    id: String,
    generation: u64,
    value: String,
}

/// One operation on a register.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) client: String,
    pub(crate) key: String,
    pub(crate) act: Act,
    pub(crate) called_us: u64,
    pub(crate) returned_us: u64,
    pub(crate) end: End,
}

/// A VM that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) key: String,
    pub(crate) name: String,
    /// Ids that answers named.
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) steps: Vec<Step>,
    pub(crate) orders: Vec<Ordered>,
    /// Objects of other kinds.
    pub(crate) told: Vec<Told>,
    /// Requests that have no answer yet.
    pub(crate) waiting: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) not_sent: u64,
    /// Answers that must never be given.
    pub(crate) wrong: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) controllers: Vec<String>,
    pub(crate) invitations: Shared<Invitations>,
    pub(crate) notes: Shared<Notes>,
    pub(crate) open: Arc<AtomicBool>,
    pub(crate) size: Size,
}

fn now_us() -> u64 {
    u64::try_from(clock::elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn pick<T: Clone>(among: &[T]) -> Option<T> {
    let at = chance::number() % (among.len().max(1) as u64);
    among.get(usize::try_from(at).ok()?).cloned()
}

impl Client {
    /// Asks until the run is told to come to rest.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        while !self.open.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mut api = self.api()?;
        let mut serial = 0;
        while self.open.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20 + chance::number() % 300)).await;
            serial += 1;
            match chance::number() % 16 {
                0..8 => self.register(&mut api, serial).await,
                8 | 9 => self.order(&mut api, serial).await,
                10 => self.order_without_key(&mut api, serial).await,
                11..14 => self.handle_vm(&mut api).await,
                _ => self.manage(&mut api, serial).await,
            }
        }
        trace::note("client rests");
        std::future::pending().await
    }

    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        let invitations = lock(&self.invitations);
        let ca = invitations
            .ca
            .ok_or_else(|| anyhow::anyhow!("no cluster yet"))?;
        Api::new(ca, invitations.admin_token.as_deref().unwrap_or_default())
    }

    fn count(&self, reply: &Reply) {
        let mut notes = lock(&self.notes);
        match reply {
            Reply::Answered(answer) if answer.is_ok() => notes.answered += 1,
            Reply::Answered(answer) => {
                notes.refused += 1;
                if answer.status >= 500 && answer.status != 503 {
                    let what = format!("status {}: {}", answer.status, answer.body);
                    notes.wrong.push(what);
                }
            }
            Reply::Unknown => notes.unknown += 1,
            Reply::NotSent => notes.not_sent += 1,
        }
    }

    pub(crate) fn any_controller(&self) -> String {
        pick(&self.controllers).unwrap_or_default()
    }

    pub(crate) async fn ask(&self, api: &mut Api, call: Call<'_>) -> Reply {
        let controller = self.any_controller();
        let line = format!("{} {} at {controller}", call.method, call.path);
        lock(&self.notes).waiting += 1;
        let reply = api.call(&controller, call).await;
        lock(&self.notes).waiting -= 1;
        match &reply {
            Reply::Answered(answer) => trace::note(format!(
                "{line}: {} {:?} {}",
                answer.status,
                answer.index(),
                answer.code()
            )),
            Reply::Unknown => trace::note(format!("{line}: unknown")),
            Reply::NotSent => trace::note(format!("{line}: not sent")),
        }
        self.count(&reply);
        reply
    }

    async fn read(&self, api: &mut Api, key: &str) -> Option<Register> {
        let called_us = now_us();
        let path = format!("/racks/{key}");
        let call = Call {
            method: "GET",
            path: &path,
            headers: &[],
            body: None,
        };
        let reply = self.ask(api, call).await;
        let (end, seen) = match &reply {
            Reply::Answered(answer) if answer.is_ok() => {
                let register = Register {
                    id: text(answer, "/id"),
                    generation: answer.data()["generation"].as_u64().unwrap_or(0),
                    value: text(answer, "/spec/description"),
                };
                let end = End::Done {
                    index: answer.index(),
                    value: Some(register.value.clone()),
                };
                (end, Some(register))
            }
            Reply::Answered(answer) if answer.status == 404 => {
                let end = End::Done {
                    index: None,
                    value: None,
                };
                (end, None)
            }
            other => (ended(other), None),
        };
        self.note(key, Act::Read, called_us, end);
        seen
    }

    fn note(&self, key: &str, act: Act, called_us: u64, end: End) {
        lock(&self.notes).steps.push(Step {
            client: self.name.clone(),
            key: key.to_owned(),
            act,
            called_us,
            returned_us: now_us(),
            end,
        });
    }

    async fn register(&self, api: &mut Api, serial: u64) {
        let key = format!("reg-{}", chance::number() % REGISTERS);
        let seen = self.read(api, &key).await;
        let value = format!("{}-{serial}", self.name);
        let called_us = now_us();
        let (act, reply) = match seen {
            None => {
                let body = json!({"name": key, "spec": {"description": value}});
                let call = Call {
                    method: "POST",
                    path: "/racks",
                    headers: &[],
                    body: Some(&body),
                };
                (Act::Create { value }, self.ask(api, call).await)
            }
            Some(seen) => {
                // By its id: a name may meanwhile be another's, whose generations begin anew.
                let path = format!("/racks/{}", seen.id);
                let headers = [("if-match", format!("\"{}\"", seen.generation))];
                let deletes = chance::number().is_multiple_of(12);
                let body = json!({"spec": {"description": value}});
                let call = Call {
                    method: if deletes { "DELETE" } else { "PATCH" },
                    path: &path,
                    headers: &headers,
                    body: (!deletes).then_some(&body),
                };
                let seen = seen.value;
                let act = match deletes {
                    true => Act::Delete { seen },
                    false => Act::Change { seen, value },
                };
                (act, self.ask(api, call).await)
            }
        };
        let end = ended(&reply);
        self.note(&key, act, called_us, end);
        if chance::number().is_multiple_of(3) {
            self.read(api, &key).await;
        }
    }

    /// Orders a VM, sometimes more than once under one key, on several members at a time.
    async fn order(&self, api: &mut Api, serial: u64) {
        let key = format!("{}-{serial}", self.name);
        let name = format!("vm-{}", chance::number() % self.size.vm_names);
        let body = json!({"name": name, "tenant": "acme", "spec": {"specification": "small"}});
        let times = 1 + chance::number() % 3;
        let mut ids = Vec::new();
        for _ in 0..times {
            let headers = [("idempotency-key", key.clone())];
            let call = Call {
                method: "POST",
                path: "/vms",
                headers: &headers,
                body: Some(&body),
            };
            let Reply::Answered(answer) = self.ask(api, call).await else {
                continue;
            };
            if answer.is_ok() {
                let id = text(&answer, "/operation/spec/target_id");
                if !ids.contains(&id) {
                    ids.push(id);
                }
            } else if !ids.is_empty() && !matches!(answer.status, 429 | 503) {
                // It was done; to say now that it cannot be done is another answer.
                let what = format!("key {key} was answered, then {}", answer.code());
                lock(&self.notes).wrong.push(what);
            }
        }
        lock(&self.notes).orders.push(Ordered { key, name, ids });
    }

    /// Orders one without a key, and again elsewhere while nobody says what became of it: each of these may
    /// have made one, and only one may have that name.
    async fn order_without_key(&self, api: &mut Api, serial: u64) {
        let name = format!("vm-{}", chance::number() % self.size.vm_names);
        let body = json!({"name": name, "tenant": "acme", "spec": {"specification": "small"}});
        for attempt in 0..3 {
            let call = Call {
                method: "POST",
                path: "/vms",
                headers: &[],
                body: Some(&body),
            };
            match self.ask(api, call).await {
                Reply::Answered(answer) => {
                    if answer.is_ok() {
                        lock(&self.notes).orders.push(Ordered {
                            key: format!("{}-{serial}, attempt {attempt} without a key", self.name),
                            name,
                            ids: vec![text(&answer, "/operation/spec/target_id")],
                        });
                    }
                    return;
                }
                Reply::Unknown | Reply::NotSent => {}
            }
        }
    }

    async fn handle_vm(&self, api: &mut Api) {
        let name = format!("vm-{}", chance::number() % self.size.vm_names);
        let (method, path) = match chance::number() % 6 {
            0 => ("POST", format!("/vms/{name}/start")),
            1 => ("POST", format!("/vms/{name}/stop")),
            2 => ("POST", format!("/vms/{name}/reboot")),
            3 | 4 => ("DELETE", format!("/vms/{name}")),
            _ => ("GET", "/vms?limit=50".to_owned()),
        };
        let path = match path.contains('?') {
            true => format!("{path}&tenant=acme"),
            false => format!("{path}?tenant=acme"),
        };
        let call = Call {
            method,
            path: &path,
            headers: &[],
            body: None,
        };
        self.ask(api, call).await;
    }
}

pub(crate) fn text(answer: &Answer, pointer: &str) -> String {
    let found = answer.data().pointer(pointer);
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn ended(reply: &Reply) -> End {
    match reply {
        Reply::Answered(answer) if answer.is_ok() => End::Done {
            index: answer.index(),
            value: None,
        },
        // Nothing was done.
        Reply::Answered(answer) => End::Refused {
            code: answer.code().to_owned(),
        },
        Reply::Unknown => End::Unknown,
        Reply::NotSent => End::NotSent,
    }
}
