//! What was refused: counted in memory, proposed as a summary.
//!
//! A flood of refused requests must not become a flood of log entries, so what is alike is counted
//! together and recorded every [`PROPOSE_EVERY`] by the controller that leads, which the others tell. What could not be told
//! stays where it was refused until it can be, and stands in the log there in any case.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use virtflow_logic::{Principal, Refusal};
use virtflow_types::{ErrorCode, ObjectId, Timestamp};

use super::envelope::Failure;
use super::request::Call;
use super::uses::Uses;
use crate::app::App;
use crate::noted::{NotWritten, Noted};

/// How often a summary is proposed.
const PROPOSE_EVERY: Duration = Duration::from_secs(10);
/// Different refusals counted between two summaries, with room for the rest, counted together, in
/// what one summary may hold.
const REFUSALS_MAX: usize = virtflow_logic::REFUSALS_MAX - 2;
/// Users whose failed logins are counted.
const FAILING_USERS_MAX: usize = 10_000;
/// Failed logins after which a user is locked.
const FAILURES_MAX: u64 = 10;
/// Failures count together while they are not further apart than this.
const FAILURES_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long a user is locked.
const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);

/// What is alike in refusals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Key {
    actor: String,
    action: String,
    object: String,
    source: String,
    code: Option<ErrorCode>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    failures: u64,
    last: Timestamp,
}

/// A user who is to be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) user_id: ObjectId,
    pub(crate) until: Timestamp,
    pub(crate) failures: u64,
}

/// Counts of refusals and of failed logins.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: Mutex<BTreeMap<Key, Count>>,
    failing: Mutex<BTreeMap<ObjectId, Failing>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusals {
    /// Counts a failure, if it is a refusal for lack of rights or credentials.
    pub(crate) fn note(&self, call: &Call, action: &str, failure: &Failure) {
        let Failure::Error(error, _) = failure else {
            return;
        };
        if !matches!(
            error.code,
            ErrorCode::Forbidden | ErrorCode::Unauthenticated
        ) {
            return;
        }
        let actor = match call.signed().map(|signed| &signed.principal) {
            Ok(Principal::User { user_id, .. }) => user_id.to_string(),
            Ok(Principal::System) => "system".into(),
            Err(_) => "anonymous".into(),
        };
        let key = Key {
            actor,
            action: format!("{} {action}", call.method),
            object: call.uri.path().chars().take(256).collect(),
            source: source(call),
            code: Some(error.code),
        };
        self.count(key, Timestamp::now());
    }

    /// Counts a failed login. The name that was tried is not kept: it may be a password.
    pub(crate) fn failed_login(
        &self,
        call: &Call,
        user_id: Option<ObjectId>,
        now: Timestamp,
    ) -> Option<Lock> {
        let who = user_id.map_or_else(|| "anonymous".to_owned(), |id| id.to_string());
        let key = Key {
            actor: who.clone(),
            action: "login".into(),
            object: who,
            source: source(call),
            code: Some(ErrorCode::Unauthenticated),
        };
        self.count(key, now);
        self.failed(user_id?, now)
    }

    fn failed(&self, user_id: ObjectId, now: Timestamp) -> Option<Lock> {
        let mut failing = lock(&self.failing);
        if failing.len() >= FAILING_USERS_MAX {
            failing.retain(|_, entry| now.since(entry.last) < FAILURES_WITHIN);
            if failing.len() >= FAILING_USERS_MAX {
                failing.clear();
            }
        }
        let fresh = Failing {
            failures: 0,
            last: now,
        };
        let entry = failing.entry(user_id).or_insert(fresh);
        if now.since(entry.last) >= FAILURES_WITHIN {
            *entry = fresh;
        }
        entry.failures += 1;
        entry.last = now;
        (entry.failures >= FAILURES_MAX).then(|| Lock {
            user_id,
            until: now.plus(LOCKED_FOR),
            failures: entry.failures,
        })
    }

    /// A login that succeeded ends the count.
    pub(crate) fn forgive(&self, user_id: ObjectId) {
        lock(&self.failing).remove(&user_id);
    }

    fn count(&self, key: Key, now: Timestamp) {
        let mut counts = lock(&self.counts);
        let known = counts.contains_key(&key);
        let key = if known || counts.len() < REFUSALS_MAX {
            key
        } else {
            Key {
                actor: "various".into(),
                action: "various".into(),
                code: key.code,
                ..Key::default()
            }
        };
        match counts.entry(key) {
            Entry::Occupied(mut entry) => {
                let count = entry.get_mut();
                count.count += 1;
                count.last = now;
            }
            Entry::Vacant(entry) => {
                entry.insert(Count {
                    count: 1,
                    first: now,
                    last: now,
                });
            }
        }
    }

    /// Takes what was counted.
    fn take(&self) -> BTreeMap<Key, Count> {
        std::mem::take(&mut lock(&self.counts))
    }

    /// Puts back what could not be proposed, beside what was counted since.
    fn put_back(&self, taken: BTreeMap<Key, Count>) {
        let mut counts = lock(&self.counts);
        for (key, earlier) in taken {
            counts
                .entry(key)
                .and_modify(|count| {
                    count.count += earlier.count;
                    count.first = earlier.first;
                })
                .or_insert(earlier);
        }
    }
}

fn source(call: &Call) -> String {
    super::request::address_of(&call.caller).to_string()
}

fn rows(counts: &BTreeMap<Key, Count>) -> Vec<Refusal> {
    counts
        .iter()
        .map(|(key, count)| Refusal {
            actor: key.actor.clone(),
            action: key.action.clone(),
            object: key.object.clone(),
            source: key.source.clone(),
            code: key.code.unwrap_or(ErrorCode::Forbidden),
            count: count.count,
            first: count.first,
            last: count.last,
        })
        .collect()
}

/// Tells the leader what was counted here, or writes it while this controller leads, until it stops.
pub(crate) async fn propose(app: App, refusals: Arc<Refusals>, uses: Arc<Uses>) {
    let stopping = app.stopping().clone();
    let mut every = tokio::time::interval(PROPOSE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        propose_once(&app, &refusals, &uses).await;
    }
}

async fn propose_once(app: &App, refusals: &Refusals, uses: &Uses) {
    let taken = refusals.take();
    let noted = Noted {
        refusals: rows(&taken),
        uses: uses.take(),
    };
    if noted.is_empty() {
        return;
    }
    if let Err(NotWritten(error)) = noted.deliver(app).await {
        tracing::debug!(%error, "what was refused is not recorded yet");
        refusals.put_back(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key {
            actor: n.to_string(),
            code: Some(ErrorCode::Forbidden),
            ..Key::default()
        }
    }

    #[test]
    fn alike_counts_together_and_the_number_of_kinds_is_bounded() {
        let refusals = Refusals::default();
        let at = Timestamp::from_ms;
        refusals.count(key(0), at(5));
        refusals.count(key(0), at(9));
        for n in 1..REFUSALS_MAX + 50 {
            refusals.count(key(n), at(10));
        }
        let taken = refusals.take();
        assert_eq!(taken.len(), REFUSALS_MAX + 1);
        let first = &taken[&key(0)];
        assert_eq!((first.count, first.first, first.last), (2, at(5), at(9)));
        let various = taken
            .iter()
            .find(|(key, _)| key.actor == "various")
            .unwrap();
        assert_eq!(various.1.count, 50);
        refusals.count(key(0), at(20));
        refusals.put_back(taken);
        let again = &refusals.take()[&key(0)];
        assert_eq!((again.count, again.first, again.last), (3, at(5), at(20)));
    }

    #[test]
    fn a_user_is_locked_after_ten_failures_close_together() {
        let refusals = Refusals::default();
        let user = ObjectId::from_u128(1);
        let start = Timestamp::from_ms(1_000_000_000);
        for n in 1..FAILURES_MAX {
            assert_eq!(
                refusals.failed(user, start.plus(Duration::from_secs(n))),
                None
            );
        }
        let now = start.plus(Duration::from_secs(10));
        let lock = refusals.failed(user, now).unwrap();
        assert_eq!(
            (lock.failures, lock.until),
            (FAILURES_MAX, now.plus(LOCKED_FOR))
        );
        let later = now.plus(FAILURES_WITHIN);
        assert_eq!(refusals.failed(user, later), None, "too far apart");
        refusals.forgive(user);
        assert_eq!(refusals.failed(user, later), None);
    }

    #[tokio::test]
    async fn what_was_counted_is_recorded_once() {
        let dir = tempfile::tempdir().unwrap();
        let app = crate::testing::single_node(dir.path(), |_| {})
            .await
            .unwrap();
        let refusals = Refusals::default();
        let denied = Key {
            actor: "mallory".into(),
            action: "GET /api/v1/audit".into(),
            ..key(1)
        };
        refusals.count(denied.clone(), Timestamp::from_ms(7));
        refusals.count(denied, Timestamp::from_ms(9));
        let uses = Uses::default();
        propose_once(&app, &refusals, &uses).await;
        propose_once(&app, &refusals, &uses).await;
        let shadow = app.shadow();
        shadow
            .wait_written(app.node().image().index())
            .await
            .unwrap();
        let query = virtflow_shadow::AuditQuery {
            stream: "audit".into(),
            actor: Some("mallory".into()),
            limit: 10,
            ..Default::default()
        };
        let page = shadow.audit(&query).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        let record: serde_json::Value = serde_json::from_slice(&page.rows[0].body).unwrap();
        assert_eq!(record["outcome"], "denied");
        assert_eq!(record["count"], 2);
    }
}
