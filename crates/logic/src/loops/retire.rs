use virtflow_model::kinds::{JoinToken, Operation};
use virtflow_model::{Kind, key};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::{ObjectId, Timestamp};

use super::packed;
use crate::limits::{JOIN_TOKEN_KEPT, Limits};
use crate::typed::decoded;

/// Removes what has outlived its purpose: idempotency keys, finished operations, sessions, join tokens
/// API tokens and notifications past their time, and alerts that are long over.
pub fn retire(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let most = limits.objects_per_changeset * limits.changesets_per_pass;
    let expired = state
        .key_values(key::EXPIRES, "")
        .take_while(|(at, _)| at.parse::<u64>().is_ok_and(|at| at <= now.ms()))
        .filter(|(_, object)| may_go(object, now))
        .map(|(_, object)| object.id)
        .take(most)
        .collect::<Vec<ObjectId>>();
    packed(state, now, limits, expired, |draft, id| {
        draft.delete(id);
        Ok(())
    })
}

fn may_go(object: &Object, now: Timestamp) -> bool {
    match Kind::parse(&object.kind) {
        Some(
            Kind::IdempotencyKey
            | Kind::Session
            | Kind::ApiToken
            | Kind::Alert
            | Kind::Notification,
        ) => true,
        Some(Kind::Operation) => {
            decoded::<Operation>(object).is_ok_and(|it| it.status.state.is_final())
        }
        // The machine that used it may come again for its certificate; nobody else will.
        Some(Kind::JoinToken) => decoded::<JoinToken>(object).is_ok_and(|token| {
            token.status.used_by_key.is_empty()
                || now.since(token.spec.expires_at) >= JOIN_TOKEN_KEPT
        }),
        _ => false,
    }
}
