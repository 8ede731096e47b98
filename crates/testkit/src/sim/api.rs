//! A client of the REST API, over the simulated network and real TLS.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;
use virtflow_pki::{Alpn, CaFingerprint, ServerExpectation, TlsConnector, client_config};

/// Where controllers serve it.
pub(crate) const PORT: u16 = 8443;
/// From sending a request to giving up on it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer here has.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What became of a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// There is an answer.
    Answered(Answer),
    /// It was sent; nobody knows what became of it.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }
    pub(crate) fn index(&self) -> Option<u64> {
        self.body["meta"]["index"].as_u64()
    }
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

pub(crate) struct Api {
    tls: TlsConnector,
    token: String,
    connections: BTreeMap<String, SendRequest<Full<Bytes>>>,
}

pub(crate) struct Call<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'static str, String)],
    pub(crate) body: Option<&'a Value>,
}

impl<'a> Call<'a> {
    /// One without headers of its own and without a body.
    pub(crate) fn plain(method: &'static str, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: &[],
            body: None,
        }
    }
}

impl Api {
    pub(crate) fn new(ca: CaFingerprint, token: &str) -> anyhow::Result<Self> {
        let config = client_config(None, ServerExpectation::first_contact(ca), Alpn::None)?;
        Ok(Self {
            tls: TlsConnector::new(config).with_connect_timeout(CONNECT_TIMEOUT),
            token: token.to_owned(),
            connections: BTreeMap::new(),
        })
    }

    async fn connect(&mut self, controller: &str) -> Option<()> {
        let open = self.connections.get(controller);
        if open.is_some_and(|sender| !sender.is_closed()) {
            return Some(());
        }
        let sender = self.open(controller).await?;
        self.connections.insert(controller.to_owned(), sender);
        Some(())
    }

    async fn open(&self, controller: &str) -> Option<SendRequest<Full<Bytes>>> {
        let stream = self.tls.connect(controller, PORT).await.ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(async move { drop(connection.await) });
        Some(sender)
    }

    /// Asks for what does not end, on a connection of its own: the status, and what comes.
    pub(crate) async fn stream(&self, controller: &str, path: &str) -> Option<(u16, Incoming)> {
        let mut sender = self.open(controller).await?;
        let request = http::Request::builder()
            .uri(format!("/api/v1{path}"))
            .header("host", controller)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::new()))
            .ok()?;
        let response = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let response = response.ok()?.ok()?;
        Some((response.status().as_u16(), response.into_body()))
    }

    /// Asks one controller, once.
    pub(crate) async fn call(&mut self, controller: &str, call: Call<'_>) -> Reply {
        if self.connect(controller).await.is_none() {
            self.connections.remove(controller);
            return Reply::NotSent;
        }
        let Some(sender) = self.connections.get_mut(controller) else {
            return Reply::NotSent;
        };
        if timeout(CONNECT_TIMEOUT, sender.ready()).await.is_err() {
            self.connections.remove(controller);
            return Reply::NotSent;
        }
        let mut request = http::Request::builder()
            .method(call.method)
            .uri(format!("/api/v1{}", call.path))
            .header("host", controller)
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in call.headers {
            request = request.header(*name, value);
        }
        let body = match call.body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let Ok(request) = request.body(Full::new(body)) else {
            return Reply::NotSent;
        };
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = http_body_util::Limited::new(response.into_body(), BODY_BYTES_MAX);
            let bytes = body.collect().await.ok()?.to_bytes();
            Some(Answer {
                status,
                body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            })
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(Some(answer)) if answer.code() == "outcome_unknown" => Reply::Unknown,
            Ok(Some(answer)) => Reply::Answered(answer),
            Ok(None) | Err(_) => {
                self.connections.remove(controller);
                Reply::Unknown
            }
        }
    }
}
