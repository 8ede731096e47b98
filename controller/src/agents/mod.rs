//! Hosts as their agents show them: enrolment, and the sessions that this controller holds.
//!
//! A session is held by any controller; what its agent says goes to the leader, what its agent is told
//! comes from the replicated state as this controller has applied it. Nothing is told that was not
//! confirmed by a quorum after the session began.

pub mod console;
pub mod enrolment;
mod feed;
#[cfg(test)]
mod fuzz;
mod leader_link;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use virtflow_pki::KeyFingerprint;
use virtflow_types::{Error, ObjectId};

use crate::app::Console;

pub use feed::run as feed;
pub use session::SessionService;
pub use wire::{inventory_of, report_of};

/// Commands waiting in one session.
const COMMANDS_MAX: usize = 16;

/// Something a session is asked to do besides its own work.
#[derive(Debug)]
enum Command {
    /// Read the end of a console.
    Console {
        vm: ObjectId,
        placement_epoch: u64,
        max_bytes: u64,
        answer: oneshot::Sender<Result<Console, Error>>,
    },
    /// End: the host is not wanted any more.
    Removed,
    /// End: the same host has a newer session.
    Superseded,
}

/// A session as others see it.
#[derive(Debug)]
struct Handle {
    number: u64,
    key: KeyFingerprint,
    commands: mpsc::Sender<Command>,
    /// Its desired state may have changed.
    touched: Notify,
}

/// The sessions held here, one a host.
#[derive(Debug, Default)]
pub struct Agents {
    sessions: Mutex<BTreeMap<ObjectId, Arc<Handle>>>,
}

impl Agents {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Arc<Handle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, host: ObjectId) -> Option<Arc<Handle>> {
        self.lock().get(&host).cloned()
    }

    /// Puts a session in the place of an older one of the same host.
    fn insert(&self, host: ObjectId, handle: Arc<Handle>) {
        if let Some(older) = self.lock().insert(host, handle) {
            // A full queue means a session that is stuck: dropping its handle ends it too.
            let _ = older.commands.try_send(Command::Superseded);
        }
    }

    /// Takes a session away, unless a newer one took its place.
    fn remove(&self, host: ObjectId, number: u64) {
        let mut sessions = self.lock();
        if sessions
            .get(&host)
            .is_some_and(|handle| handle.number == number)
        {
            sessions.remove(&host);
        }
    }

    /// How many sessions are held here.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Wakes the sessions of these hosts.
    fn touch(&self, hosts: impl IntoIterator<Item = ObjectId>) {
        let sessions = self.lock();
        for host in hosts {
            if let Some(handle) = sessions.get(&host) {
                handle.touched.notify_one();
            }
        }
    }

    /// Wakes all sessions.
    fn touch_all(&self) {
        for handle in self.lock().values() {
            handle.touched.notify_one();
        }
    }

    /// Hosts with sessions and the keys they were begun with.
    fn keys(&self) -> Vec<(ObjectId, KeyFingerprint)> {
        self.lock()
            .iter()
            .map(|(host, handle)| (*host, handle.key))
            .collect()
    }

    /// Ends the session of a host that is not wanted any more.
    fn remove_host(&self, host: ObjectId) {
        if let Some(handle) = self.get(host) {
            let _ = handle.commands.try_send(Command::Removed);
        }
    }
}
