//! Who asks, when, from where, and whether they still may.

use std::sync::Arc;

use virtflow_model::kinds::user::UserState;
use virtflow_model::kinds::{ApiToken, Session, User};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::read::named;
use crate::seal::Seal;
use crate::typed::decoded;

/// What a decision knows besides the state.
#[derive(Debug, Clone)]
pub struct Cx {
    /// The request.
    pub request_id: RequestId,
    /// The leader's clock.
    pub now: Timestamp,
    /// Who asks.
    pub principal: Principal,
    /// The address it came from.
    pub source: String,
    /// What the client calls itself, as far as the audit keeps it; empty if it says nothing.
    pub user_agent: String,
    /// The client's own key for this request.
    pub idempotency: Option<Idempotency>,
    /// What the client saw.
    pub if_match: Option<IfMatch>,
    /// Seals what is secret in what is asked for; a loop's own decisions have nothing to seal.
    pub seal: Option<Arc<dyn Seal>>,
}

/// What a client saw of an object before it asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch {
    /// Which object that was, if the client told.
    pub object: Option<ObjectId>,
    /// Its generation.
    pub generation: u64,
}

impl IfMatch {
    /// A generation of the object that is asked about, whichever that is.
    pub const fn generation(generation: u64) -> Self {
        Self {
            object: None,
            generation,
        }
    }
}

/// A client's key for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Its text, at most [`virtflow_types::IDEMPOTENCY_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Hash of method, path and body, hexadecimal.
    pub request_hash: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A controller's own loop.
    System,
    /// A user.
    User {
        /// The user.
        user_id: ObjectId,
        /// What it showed.
        via: Via,
    },
}

/// What a user showed to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// An access token that names this session.
    Session(ObjectId),
    /// An API token.
    Token(ObjectId),
    /// A client certificate.
    Certificate,
    /// A password, just now.
    Password,
}

impl Cx {
    /// The context of a controller's own decision.
    pub fn system(request_id: RequestId, now: Timestamp) -> Self {
        Self {
            request_id,
            now,
            principal: Principal::System,
            source: String::new(),
            user_agent: String::new(),
            idempotency: None,
            if_match: None,
            seal: None,
        }
    }

    /// A user's id, or `system`.
    pub fn actor(&self) -> String {
        match &self.principal {
            Principal::System => "system".into(),
            Principal::User { user_id, .. } => user_id.to_string(),
        }
    }

    /// The user who asks.
    pub fn user_id(&self) -> Option<ObjectId> {
        match &self.principal {
            Principal::System => None,
            Principal::User { user_id, .. } => Some(*user_id),
        }
    }
}

/// The principal behind an access token that names this session.
pub fn authenticate_session(
    state: &State,
    now: Timestamp,
    session_id: ObjectId,
) -> Result<Principal, Error> {
    let session = state.get(session_id).ok_or_else(logged_out)?;
    let user_id = session.parent.ok_or_else(logged_out)?;
    let principal = Principal::User {
        user_id,
        via: Via::Session(session_id),
    };
    check_principal(state, now, &principal)?;
    Ok(principal)
}

/// The principal behind an API token: `secret_hash` is the hash of the secret that was shown, hexadecimal.
pub fn authenticate_token(
    state: &State,
    now: Timestamp,
    token_id: ObjectId,
    secret_hash: &str,
) -> Result<Principal, Error> {
    let refused = || unauthenticated("the API token is not valid, or not any more");
    let token = state.get(token_id).ok_or_else(refused)?;
    let typed = decoded::<ApiToken>(token).map_err(|_| refused())?;
    if !same_secret(&typed.status.secret_hash, secret_hash) {
        return Err(refused());
    }
    let principal = Principal::User {
        user_id: token.parent.ok_or_else(refused)?,
        via: Via::Token(token_id),
    };
    check_principal(state, now, &principal)?;
    Ok(principal)
}

/// The principal behind a client certificate that names this user.
pub fn authenticate_certificate(
    state: &State,
    now: Timestamp,
    user_id: ObjectId,
) -> Result<Principal, Error> {
    let principal = Principal::User {
        user_id,
        via: Via::Certificate,
    };
    check_principal(state, now, &principal)?;
    Ok(principal)
}

/// What a login needs before the password is looked at.
#[derive(Debug, Clone)]
pub struct LoginCandidate {
    /// The user, if there is one of that name.
    pub user_id: Option<ObjectId>,
    /// Its password hash; `None`: verify against a dummy, so that the answer takes as long.
    pub password_hash: Option<String>,
    /// Why it may not log in even with the right password. Told only after the password was right.
    pub refused: Option<Error>,
}

/// Looks up who tries to log in.
pub fn login_candidate(state: &State, now: Timestamp, user_name: &str) -> LoginCandidate {
    let nobody = LoginCandidate {
        user_id: None,
        password_hash: None,
        refused: None,
    };
    let Some(user) = named(state, virtflow_model::Kind::User, None, user_name) else {
        return nobody;
    };
    let Ok(typed) = decoded::<User>(&user) else {
        return nobody;
    };
    let hash = &typed.status.password_hash;
    let locked = typed.status.locked_until.filter(|until| *until > now);
    let refused = match locked {
        Some(until) => Some(unauthenticated("too many failed logins").advise(format!(
            "wait until {until} or ask an administrator to set the password"
        ))),
        None => usable(&typed.spec.state, typed.status.deleting).err(),
    };
    LoginCandidate {
        user_id: Some(user.id),
        password_hash: (!hash.is_empty()).then(|| hash.clone()),
        refused,
    }
}

/// Checks on this very state that the principal still is who it was: its user active, its session or
/// token there and not expired.
pub(crate) fn check_principal(
    state: &State,
    now: Timestamp,
    principal: &Principal,
) -> Result<(), Error> {
    let Principal::User { user_id, via } = principal else {
        return Ok(());
    };
    let user = state
        .get(*user_id)
        .ok_or_else(|| unauthenticated("the user does not exist any more"))?;
    let typed = decoded::<User>(user).map_err(|_| unauthenticated("no such user"))?;
    usable(&typed.spec.state, typed.status.deleting)?;
    let belongs = |object: &Object| object.parent == Some(*user_id);
    match via {
        Via::Session(id) => {
            let session = state
                .get(*id)
                .filter(|o| belongs(o))
                .ok_or_else(logged_out)?;
            let session = decoded::<Session>(session).map_err(|_| logged_out())?;
            if session.spec.expires_at <= now {
                return Err(logged_out());
            }
        }
        Via::Token(id) => {
            let refused = || unauthenticated("the API token is not valid, or not any more");
            let token = state.get(*id).filter(|o| belongs(o)).ok_or_else(refused)?;
            let token = decoded::<ApiToken>(token).map_err(|_| refused())?;
            if token.spec.expires_at.is_some_and(|at| at <= now) {
                return Err(refused());
            }
        }
        Via::Certificate | Via::Password => {}
    }
    Ok(())
}

/// Compares hashes of secrets; they are hashes, so how long it takes tells nothing of the secret.
pub(crate) fn same_secret(kept: &str, shown: &str) -> bool {
    !kept.is_empty() && kept.eq_ignore_ascii_case(shown)
}

fn usable(state: &UserState, deleting: bool) -> Result<(), Error> {
    let word = match state {
        UserState::Active if !deleting => return Ok(()),
        UserState::Active => "being deleted",
        UserState::Inactive => "inactive",
        UserState::Suspended => "suspended",
        UserState::Pending => "waiting for a first password",
    };
    Err(unauthenticated(&format!("the user is {word}"))
        .advise("ask an administrator of your tenant"))
}

fn logged_out() -> Error {
    unauthenticated("the session has ended").advise("log in again: `virtflow login`")
}

pub(crate) fn unauthenticated(message: &str) -> Error {
    Error::new(ErrorCode::Unauthenticated, message)
}
