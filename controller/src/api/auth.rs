//! Logging in and out, who one is, what one may, and passwords.

use std::time::Duration;

use axum::extract::{Extension, Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use virtflow_logic::{
    self as logic, Login, NewSecret, Principal, Refresh, Request, SetPassword, Via, decoded,
};
use virtflow_model::Kind;
use virtflow_model::kinds::User;
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use super::envelope::{Answer, Failure};
use super::gate::network;
use super::kinds::{Answered, TheCall};
use super::request::{Call, address_of, too_many};
use super::write::{DRY_RUN, add, answer};
use super::{Api, access_token, json, password};

/// How long a session lasts, however often its tokens are refreshed.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a refresh token begins with.
const REFRESH_PREFIX: &str = "vfr1";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    username: String,
    password: String,
    /// The device's own name for itself.
    #[serde(default)]
    device: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshBody {
    refresh_token: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordBody {
    password: String,
    /// Needed for one's own.
    #[serde(default)]
    old_password: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CanBody {
    /// `virtual_machine.execute`
    permission: String,
    /// The permission's own, if it is said again.
    #[serde(default)]
    kind: Option<Kind>,
    /// Id or name; absent: anything of the kind.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    tenant: Option<String>,
}

/// One text for every reason not to let somebody in: which it was is nobody's business who cannot.
fn not_let_in() -> Error {
    Error::new(
        ErrorCode::Unauthenticated,
        "the user name or the password is wrong, or the user may not log in at present",
    )
    .advise("after repeated failures a user is locked for a while; an administrator can set the password anew")
}

/// `POST /auth/login`
pub(crate) async fn login(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let from = network(address_of(&call.caller));
    let logins = &api.gates().logins;
    logins.take(from, Instant::now()).map_err(too_many)?;
    let body: LoginBody = json::body(&call)?;
    let image = api.app().node().read().await;
    let image = image.map_err(|error| error.to_error())?;
    let now = Timestamp::now();
    let candidate = logic::login_candidate(&image, now, &body.username);
    let right = api.hashing().verify(body.password, candidate.password_hash);
    let right = right.await?;
    let Some(user_id) = candidate
        .user_id
        .filter(|_| right && candidate.refused.is_none())
    else {
        api.failed_login(&call, candidate.user_id).await;
        return Err(not_let_in().into());
    };
    api.refusals().forgive(user_id);

    let session_id = ObjectId::generate();
    let refresh = RefreshToken::generate(session_id);
    let request = Request::Login(Login {
        user_id,
        session: NewSecret {
            id: session_id,
            hash: refresh.hash(),
        },
        device: body.device,
        address: address_of(&call.caller).to_string(),
        expires_at: now.plus(SESSION_LIFETIME),
    });
    let via = Via::Password;
    let cx = call.cx_as(Principal::User { user_id, via });
    let committed = api.write_as(cx, request).await?;
    let tokens = api.tokens(user_id, &refresh, now);
    Ok(Answer::ok(committed.index, tokens))
}

/// `POST /auth/refresh`: a new pair of tokens for the old refresh token, which is void from then on.
/// Should it be shown again, somebody copied it: `logic` then ends the session.
pub(crate) async fn refresh(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let from = network(address_of(&call.caller));
    let logins = &api.gates().logins;
    logins.take(from, Instant::now()).map_err(too_many)?;
    let body: RefreshBody = json::body(&call)?;
    let refused = || {
        Error::new(
            ErrorCode::Unauthenticated,
            "the refresh token is not valid, or not any more",
        )
        .advise("log in again: `virtflow login`")
    };
    let presented = RefreshToken::parse(&body.refresh_token).ok_or_else(refused)?;
    let next = RefreshToken::generate(presented.session_id);
    let request = Request::Refresh(Refresh {
        session_id: presented.session_id,
        presented_hash: presented.hash(),
        new_hash: next.hash(),
    });
    let committed = api.write_as(call.cx_as(Principal::System), request).await?;
    if committed.value.extra.get("outcome").and_then(Value::as_str) != Some("rotated") {
        return Err(refused().into());
    }
    let image = api.app().node().image();
    let user_id = image
        .get(presented.session_id)
        .and_then(|session| session.parent)
        .ok_or_else(refused)?;
    let tokens = api.tokens(user_id, &next, Timestamp::now());
    Ok(Answer::ok(committed.index, tokens))
}

/// `POST /auth/logout`: ends the session of the access token that is shown.
pub(crate) async fn logout(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    json::nothing(&call)?;
    let committed = api.write(&call, Request::Logout).await?;
    Ok(answer(committed, Kind::Session))
}

/// `GET /auth/whoami`
pub(crate) async fn whoami(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let mut data = logic::whoami(image, &call.cx()?)?;
    let mut more = Map::new();
    more.insert("endpoints".into(), api.endpoints());
    add(&mut data, more);
    Ok(Answer::ok(image.index(), data))
}

/// `POST /auth/can-i`
pub(crate) async fn can_i(Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let body: CanBody = json::body(&call)?;
    let kind = body.permission.split('.').next().and_then(Kind::parse);
    if body.kind.is_some() && body.kind != kind {
        return Err(Error::invalid("kind", "is not the permission's kind").into());
    }
    let image = call.image()?;
    let tenant = body.tenant.as_deref();
    let allowed = logic::can_i(
        image,
        &call.cx()?,
        &body.permission,
        body.id.as_deref(),
        tenant,
    )?;
    Ok(Answer::ok(image.index(), json!({"allowed": allowed})))
}

/// `POST /users/{id}/password`: one's own with the old one beside it, or another's by those who may.
pub(crate) async fn set_password(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(target): Path<String>,
) -> Answered {
    call.query.only(&[DRY_RUN])?;
    let body: PasswordBody = json::body(&call)?;
    let old_verified = match body.old_password {
        Some(old) => {
            api.verify_own(&call, &target, old).await?;
            true
        }
        None => false,
    };
    // One that is not seen is refused further on.
    let user = logic::get(call.image()?, &call.cx()?, Kind::User, &target, None);
    let name = user.map(|user| user.name.to_string()).unwrap_or_default();
    password::check_for(&name, &body.password)?;
    let hash = api.hashing().hash(body.password).await?;
    let request = Request::SetPassword(SetPassword {
        target,
        hash,
        old_verified,
    });
    api.change(&call, request, Kind::User).await
}

impl Api {
    /// Checks the password of the one who asks, if the target is the one who asks.
    async fn verify_own(&self, call: &Call, target: &str, old: String) -> Result<(), Failure> {
        let cx = call.cx()?;
        let user = logic::get(call.image()?, &cx, Kind::User, target, None)?;
        if cx.user_id() != Some(user.id) {
            return Err(
                Error::invalid("old_password", "is asked for one's own password only").into(),
            );
        }
        let from = network(address_of(&call.caller));
        self.gates()
            .logins
            .take(from, Instant::now())
            .map_err(too_many)?;
        let stored = decoded::<User>(&user)?.status.password_hash.clone();
        if self.hashing().verify(old, Some(stored)).await? {
            return Ok(());
        }
        self.failed_login(call, Some(user.id)).await;
        Err(Error::invalid("old_password", "is not the present password").into())
    }

    /// Counts a failed login; the user is locked when there were too many.
    async fn failed_login(&self, call: &Call, user_id: Option<ObjectId>) {
        let now = Timestamp::now();
        let Some(lock) = self.refusals().failed_login(call, user_id, now) else {
            return;
        };
        let request_id = call.request_id;
        let locked = self.app().node().decide(move |head| {
            let (user_id, until) = (lock.user_id, lock.until);
            Ok((
                logic::lock_user(head, request_id, now, user_id, until, lock.failures),
                (),
            ))
        });
        // The answer is the same either way; without the lock the next failure tries again.
        if let Err(error) = locked.await {
            tracing::warn!(%error, user = %lock.user_id, "a user could not be locked after failed logins");
        }
    }

    fn tokens(&self, user_id: ObjectId, refresh: &RefreshToken, now: Timestamp) -> Value {
        let session_id = refresh.session_id;
        let mut tokens = Map::new();
        let access = self.access_tokens().issue(user_id, session_id, now);
        tokens.insert("access_token".into(), access.into());
        tokens.insert("token_type".into(), "Bearer".into());
        let expires_in = access_token::LIFETIME.as_secs();
        tokens.insert("expires_in_s".into(), expires_in.into());
        tokens.insert("refresh_token".into(), refresh.text().into());
        tokens.insert("session_id".into(), session_id.to_string().into());
        tokens.insert("user_id".into(), user_id.to_string().into());
        tokens.insert("ca_pem".into(), self.app().ca().pem().into());
        tokens.insert("endpoints".into(), self.endpoints());
        Value::Object(tokens)
    }

    /// Where the members' APIs are: whoever may ask one of them may ask the others, and must be able
    /// to when one is gone.
    fn endpoints(&self) -> Value {
        let members = self.app().node().members();
        members
            .iter()
            .map(|member| member.info.api_address.as_str())
            .collect()
    }
}

/// `vfr1.<session>.<secret>`: names a session, and proves it with a secret that changes at each use.
struct RefreshToken {
    session_id: ObjectId,
    secret: [u8; 32],
}

impl RefreshToken {
    fn generate(session_id: ObjectId) -> Self {
        Self {
            session_id,
            secret: virtflow_types::chance::bytes(),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(REFRESH_PREFIX)?.strip_prefix('.')?;
        let (session, secret) = rest.split_once('.')?;
        Some(Self {
            session_id: session.parse().ok()?,
            secret: URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?,
        })
    }
    fn text(&self) -> String {
        let session = self.session_id.uuid().simple();
        let secret = URL_SAFE_NO_PAD.encode(self.secret);
        format!("{REFRESH_PREFIX}.{session}.{secret}")
    }
    /// What is stored of the secret.
    fn hash(&self) -> String {
        blake3::hash(&self.secret).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_tokens_read_back() {
        let token = RefreshToken::generate(ObjectId::from_u128(7));
        let again = RefreshToken::parse(&token.text()).unwrap();
        assert_eq!(again.session_id, token.session_id);
        assert_eq!(again.hash(), token.hash());
        assert_eq!(token.hash().len(), 64);
        for bad in [
            "",
            "vfr1",
            "vfr1..",
            "vfr1.00000000000000000000000000000007.AAAA",
            "vft1.x.y",
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }
}
