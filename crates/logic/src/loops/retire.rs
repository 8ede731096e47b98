use virtflow_model::Kind;
use virtflow_model::kinds::{JoinToken, Operation};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::Timestamp;

use super::{expired, packed};
use crate::limits::{JOIN_TOKEN_KEPT, Limits};
use crate::typed::decoded;

/// Removes what has outlived its purpose: idempotency keys, finished operations, sessions, join tokens
/// API tokens and notifications past their time, and alerts that are long over.
pub fn retire(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let expired = expired(state, now, limits, |object| may_go(object, now));
    packed(state, now, limits, expired, |draft, id| {
        draft.delete(id);
        Ok(())
    })
}

fn may_go(object: &Object, now: Timestamp) -> bool {
    match Kind::of_name(&object.kind) {
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
