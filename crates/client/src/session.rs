//! A login's session, and keeping it where several processes share it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a login leaves: a short token that works, and one that fetches the next pair.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Sent with each request; good for minutes.
    pub access_token: String,
    /// Good once: its use makes a new pair.
    pub refresh_token: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session { .. }")
    }
}

impl Session {
    /// From the data of a login or a refresh.
    pub(crate) fn of(data: &Value) -> Option<Self> {
        let text = |name: &str| Some(data.get(name)?.as_str()?.to_owned());
        Some(Self {
            access_token: text("access_token")?,
            refresh_token: text("refresh_token")?,
        })
    }
}

/// Where a session is kept. Refresh tokens rotate, and using one twice ends the session, so one
/// process at a time renews: under the lock it looks again, and only then asks.
pub trait SessionKeeper: Send + Sync + fmt::Debug {
    /// The session as it is kept now.
    fn load(&self) -> io::Result<Session>;
    /// Takes the lock if it is free; it is let go when the value is dropped.
    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>>;
    /// Keeps the session, durably, before the token is used for anything.
    fn save(&self, session: &Session) -> io::Result<()>;
}
