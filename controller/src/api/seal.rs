//! Sealing with the cluster's key what is secret of configurations, and opening it for who may see it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use virtflow_logic::{Cx, Request, Seal, SecretAt};
use virtflow_pki::SealContext;
use virtflow_types::{Error, ErrorCode};

use super::Api;
use super::configs::LAYERS;
use crate::app::App;

/// This controller, as one who has the key.
#[derive(Debug)]
pub(crate) struct Sealer(App);

impl Sealer {
    pub(crate) fn of(app: &App) -> Self {
        Self(app.clone())
    }

    /// What a box holds.
    ///
    /// Fails with [`ErrorCode::Internal`] if it was sealed with another key, belongs elsewhere or was altered.
    pub(crate) fn open(&self, at: SecretAt<'_>, sealed: &str) -> Result<String, Error> {
        let broken = |why: String| {
            let what = format!("opening `{}` of {} {}: {why}", at.field, at.kind, at.id);
            Error::new(ErrorCode::Internal, what).advise("set the secret anew")
        };
        let sealed = STANDARD_NO_PAD.decode(sealed);
        let sealed = sealed.map_err(|error| broken(error.to_string()))?;
        let id = at.id.to_string();
        let secret = self.0.seal_key().open(&context(at, &id), &sealed);
        let secret = secret.map_err(|error| broken(error.to_string()))?;
        let text = std::str::from_utf8(&secret).map_err(|error| broken(error.to_string()))?;
        Ok(text.to_owned())
    }
}

impl Seal for Sealer {
    fn seal(&self, at: SecretAt<'_>, secret: &str) -> Result<String, Error> {
        let id = at.id.to_string();
        let sealed = self.0.seal_key().seal(&context(at, &id), secret.as_bytes());
        let sealed = sealed.map_err(|error| {
            let what = format!("sealing `{}`: {error}", at.field);
            Error::new(ErrorCode::Internal, what)
        })?;
        Ok(STANDARD_NO_PAD.encode(sealed))
    }
}

fn context<'a>(at: SecretAt<'a>, id: &'a str) -> SealContext<'a> {
    SealContext {
        kind: at.kind,
        id,
        field: at.field,
    }
}

impl Api {
    /// The context in which a request is decided that may hold secrets: it is given who seals, and the hash that an
    /// idempotency key keeps of it is hashed with a key, so that no guess of a secret can be tried on it.
    pub(crate) fn sealing(&self, mut cx: Cx, request: &Request) -> Cx {
        let kind = match request {
            Request::Create(create) => create.kind,
            Request::Update(update) => update.kind,
            _ => return cx,
        };
        if !LAYERS.contains(&kind) {
            return cx;
        }
        cx.seal = Some(std::sync::Arc::new(Sealer::of(self.app())));
        if let Some(idempotency) = &mut cx.idempotency {
            let hash =
                blake3::keyed_hash(self.app().hash_key(), idempotency.request_hash.as_bytes());
            idempotency.request_hash = hash.to_hex().to_string();
        }
        cx
    }
}
