//! Tokens: made here, shown once, kept as a hash.

use axum::extract::{Extension, State};
use axum::routing::{self, MethodRouter};
use serde_json::{Map, Value};
use virtflow_logic::{Create, NewSecret, Request};
use virtflow_model::Kind;
use virtflow_pki::{Token, TokenPrefix};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Api;
use super::json;
use super::kinds::{Answered, CreateBody, TheCall};
use super::request::Call;
use super::write::{DRY_RUN, add, answer};

/// `POST /api_tokens` or `/join_tokens`
pub(crate) fn create(kind: Kind, prefix: TokenPrefix) -> MethodRouter<Api> {
    routing::post(
        move |State(api): State<Api>, Extension(call): TheCall| async move {
            create_of(&api, &call, kind, prefix).await
        },
    )
}

async fn create_of(api: &Api, call: &Call, kind: Kind, prefix: TokenPrefix) -> Answered {
    call.query.only(&[DRY_RUN])?;
    let body: CreateBody = json::body(call)?;
    if body.password.is_some() {
        return Err(Error::invalid("password", "only users have one").into());
    }
    let id = ObjectId::generate();
    let token = Token::generate(prefix, id.uuid());
    let token = token
        .map_err(|error| Error::new(ErrorCode::Internal, format!("making a token: {error}")))?;
    let create = Create {
        kind,
        name: body.name,
        tenant: body.tenant,
        parent: body.parent,
        spec: body.spec,
        secret: Some(NewSecret {
            id,
            hash: token.hash().to_string(),
        }),
        password_hash: None,
    };
    let (mut committed, is_tried) = api.write_or_try(call, Request::Create(create)).await?;
    // A repeated idempotency key names the token that was made then: its secret is not kept. One that was not made has
    // none.
    let text = (!committed.value.replayed && !is_tried).then(|| token.text().to_string());
    let mut shown = Map::new();
    shown.insert("token".into(), text.map_or(Value::Null, Value::String));
    if kind == Kind::JoinToken {
        let ca = api.app().ca();
        shown.insert("ca_fingerprint".into(), ca.fingerprint().to_string().into());
        shown.insert("ca_pem".into(), ca.pem().into());
    }
    if let Some(object) = &mut committed.value.object {
        add(object, shown);
    }
    Ok(answer(committed, kind).tried_if(is_tried))
}
