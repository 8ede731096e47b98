//! When tokens and sessions were used: kept in memory and written once in a while, so that no request waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use virtflow_logic::{Principal, Via, is_use_news};
use virtflow_state::State;
use virtflow_types::{ObjectId, Timestamp};

/// Credentials whose use is kept until it is told; that of others is noted when they are used again.
const USES_MAX: usize = 10_000;

/// What was used since it was last told.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<BTreeMap<ObjectId, Timestamp>>);

impl Uses {
    /// Notes a use, if what the state says of the last one is some minutes old.
    pub(crate) fn note(&self, image: &State, principal: &Principal, now: Timestamp) {
        let Principal::User { via, .. } = principal else {
            return;
        };
        let (Via::Token(id) | Via::Session(id)) = via else {
            return;
        };
        if !is_use_news(image, *id, now) {
            return;
        }
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < USES_MAX || uses.contains_key(id) {
            uses.insert(*id, now);
        }
    }

    /// Takes what was noted.
    pub(crate) fn take(&self) -> Vec<(ObjectId, Timestamp)> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *uses).into_iter().collect()
    }
}
