//! Something a user is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::{
    Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope,
};

/// A notification.
#[derive(Debug)]
pub enum Notification {}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// An alert about something of the user's.
    Alert,
}

/// What a user is told. Only `read` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationSpec {
    /// The user.
    pub user_id: ObjectId,
    /// What it is about.
    #[serde(rename = "type")]
    pub topic: Topic,
    /// One sentence.
    pub message: String,
    /// Whether the user has read it.
    #[serde(default)]
    pub read: bool,
}

/// How long it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NotificationStatus {
    /// When it goes by itself.
    #[serde(default)]
    pub retire_at: Timestamp,
}

impl Resource for Notification {
    const KIND: Kind = Kind::Notification;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::under("user", Kind::User)],
        create: ByPeople::Never("the system writes these"),
        owner: Owner::Parent,
        own: &[Action::Read, Action::Update, Action::Delete],
        cascades: true,
        ..Rules::plain("Something a user is told")
    };
    type Spec = NotificationSpec;
    type Status = NotificationStatus;

    fn example() -> NotificationSpec {
        NotificationSpec {
            user_id: ObjectId::from_u128(1),
            topic: Topic::Alert,
            message: "host `host-1` is silent".into(),
            read: false,
        }
    }
    fn validate(spec: &NotificationSpec) -> Result<(), Invalid> {
        Invalid::text("message", &spec.message, 512)
    }
    fn validate_update(old: &NotificationSpec, new: &NotificationSpec) -> Result<(), Invalid> {
        if (NotificationSpec { read: new.read, ..old.clone() }) == *new {
            Ok(())
        } else {
            Err(Invalid::new("message", "of a notification, only `read` changes"))
        }
    }
    fn print(_: &Meta, _: &NotificationSpec, status: &NotificationStatus, print: &mut Print) {
        print.expires(status.retire_at);
    }
}
