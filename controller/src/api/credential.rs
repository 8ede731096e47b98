//! What a caller shows to say who it is: an access token, an API token or a client certificate.
//!
//! Nothing here is believed by itself: each names an object that is looked up on a confirmed image at
//! every request. All refusals read alike.

use virtflow_logic::{
    Principal, authenticate_certificate, authenticate_session, authenticate_token,
};
use virtflow_pki::{Role, Token, TokenPrefix};
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use super::access_token::AccessTokens;
use super::request::Call;

/// Longest `Authorization` header looked at, in bytes.
const HEADER_BYTES_MAX: usize = 2048;

/// What was shown, its form and signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// An access token that names this session.
    Session(ObjectId),
    /// An API token: its id and the hash of its secret.
    ApiToken(ObjectId, String),
    /// A client certificate of this user.
    Certificate(ObjectId),
}

/// The refusal of whatever was shown.
pub(crate) fn unauthenticated() -> Error {
    Error::new(
        ErrorCode::Unauthenticated,
        "no valid credentials: the token is missing, unknown, expired or revoked",
    )
    .advise("log in with `virtflow login`, or use a valid token")
}

/// Reads what a request shows. A token, if there is one, is what counts, also beside a certificate.
pub(crate) fn of(call: &Call, tokens: &AccessTokens) -> Result<Credential, Error> {
    let Some(header) = call.single("authorization")? else {
        let client = call.caller.client.as_ref();
        return match client.filter(|identity| identity.role == Role::Client) {
            Some(identity) => Ok(Credential::Certificate(ObjectId::from_uuid(
                identity.subject_id,
            ))),
            None => Err(unauthenticated()),
        };
    };
    if header.len() > HEADER_BYTES_MAX {
        return Err(unauthenticated());
    }
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated());
    }
    let token = token.trim();
    if let Ok(token) = Token::parse(token) {
        return if token.prefix() == TokenPrefix::Api {
            let id = ObjectId::from_uuid(token.id());
            Ok(Credential::ApiToken(id, token.hash().to_string()))
        } else {
            Err(unauthenticated())
        };
    }
    tokens
        .session(token, Timestamp::now())
        .map(Credential::Session)
        .ok_or_else(unauthenticated)
}

impl Credential {
    /// Who it stands for on that image.
    pub(crate) fn principal(&self, image: &State, now: Timestamp) -> Result<Principal, Error> {
        let principal = match self {
            Self::Session(id) => authenticate_session(image, now, *id),
            Self::ApiToken(id, hash) => authenticate_token(image, now, *id, hash),
            Self::Certificate(user) => authenticate_certificate(image, now, *user),
        };
        principal.map_err(|_| unauthenticated())
    }
}
