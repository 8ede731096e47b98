//! A key under which a principal made a request: the same key again gets the same answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::print::{dimension, space};
use crate::{ByPeople, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope};

/// An idempotency key. Its parent is the principal's user.
#[derive(Debug)]
pub enum IdempotencyKey {}

/// What it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdempotencyKeySpec {
    /// The client's own text.
    pub key: String,
    /// Hash of method, path and body, hexadecimal: another request under the same key is refused.
    pub request_hash: String,
    /// The object that was made or changed.
    pub object_id: ObjectId,
    /// The operation that was begun, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<ObjectId>,
    /// The HTTP status of the first answer.
    pub http_status: u16,
    /// After which it may be used anew.
    pub expires_at: Timestamp,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IdempotencyKeyStatus {}

impl Resource for IdempotencyKey {
    const KIND: Kind = Kind::IdempotencyKey;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::Never("the system makes these"),
        update: ByPeople::Never("it goes by itself"),
        delete: ByPeople::Never("an idempotency key goes by itself"),
        owner: Owner::Parent,
        ..Rules::plain("A request that was sent with a key, and what it did")
    };
    type Spec = IdempotencyKeySpec;
    type Status = IdempotencyKeyStatus;

    fn example() -> IdempotencyKeySpec {
        IdempotencyKeySpec {
            key: "order-4711".into(),
            request_hash: "00".repeat(32),
            object_id: ObjectId::from_u128(1),
            operation_id: None,
            http_status: 202,
            expires_at: Timestamp::from_ms(1_795_456_800_000),
        }
    }
    fn validate(_: &IdempotencyKeySpec) -> Result<(), Invalid> {
        Ok(())
    }
    fn print(meta: &Meta, spec: &IdempotencyKeySpec, _: &IdempotencyKeyStatus, print: &mut Print) {
        if let Some(principal) = meta.parent {
            print.claim(space::idempotency(principal), &spec.key);
            print.charge(principal, dimension::IDEMPOTENCY_KEYS, 1);
        }
        print.expires(spec.expires_at);
    }
}
