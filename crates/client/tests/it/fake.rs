//! A controller as seen from outside: the cluster's TLS, HTTP, and answers by the test.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use uuid::Uuid;
use virtflow_client::{Client, ClusterCa, Credentials, Endpoint, Limits};
use virtflow_pki::{
    Admission, CertStore, CertificateAuthority, Csr, KeyPair, LeafRequest, ListenerLimits, Role,
    ServerPolicy, TlsListener, server_config,
};

/// Limits short enough for a test, long enough for three rounds.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(2),
    unavailable: Duration::from_millis(800),
    unreachable: Duration::from_millis(400),
    pause_first: Duration::from_millis(20),
    pause_max: Duration::from_millis(100),
    session_lock: Duration::from_secs(5),
};

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) bearer: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Value,
}

/// What the server does.
pub(crate) enum Reply {
    Json(u16, Value),
    Raw(u16, Bytes),
    /// Server-sent events, and then the end.
    Stream(Bytes),
    /// Ends the connection without an answer, after the request was read.
    HangUp,
}

/// A success.
pub(crate) fn ok(data: Value) -> Reply {
    Reply::Json(200, json!({"meta": {}, "status": "ok", "data": data}))
}

/// A refusal.
pub(crate) fn refused(status: u16, code: &str) -> Reply {
    let error = json!({"code": code, "message": format!("{code}, as the test says"), "fields": []});
    Reply::Json(
        status,
        json!({"meta": {"request_id": "r-1"}, "status": "error", "error": error}),
    )
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A cluster: its CA.
pub(crate) struct Cluster {
    pub(crate) authority: CertificateAuthority,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let authority = CertificateAuthority::create(Uuid::new_v4(), now_ms()).unwrap();
        Self { authority }
    }

    pub(crate) fn ca(&self) -> ClusterCa {
        ClusterCa::from_pem(&self.authority.certificate().pem()).unwrap()
    }

    /// A controller that answers what `answer` says.
    pub(crate) async fn controller(
        &self,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Fake {
        self.server(Role::Controller, answer).await
    }

    /// A server with a certificate of any role.
    pub(crate) async fn server(
        &self,
        role: Role,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Fake {
        let key = KeyPair::generate().unwrap();
        let request = LeafRequest {
            role,
            subject_id: Uuid::from_u128(7),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            lifetime: Duration::from_secs(3600),
        };
        let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
        let certificate = self.authority.sign(&csr, &request, now_ms()).unwrap();
        let store = CertStore::new(key, certificate, self.authority.certificate()).unwrap();
        let policy = ServerPolicy::api(Arc::new(|_, _| Admission::Admit));
        let config = server_config(&store, policy).unwrap();
        let mut listener = TlsListener::bind(
            "127.0.0.1:0".parse().unwrap(),
            config,
            ListenerLimits::default(),
        )
        .await
        .unwrap();
        let port = listener.local_addr().port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&calls), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Some(connection) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                let serve = service_fn(move |request| {
                    respond(request, Arc::clone(&kept), Arc::clone(&answer))
                });
                tokio::spawn(async move {
                    // A connection that a test hangs up on ends with an error.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(connection), serve)
                        .await;
                });
            }
        });
        Fake { port, calls, task }
    }

    /// A client of these servers with short limits.
    pub(crate) fn client(&self, endpoints: &[Endpoint], credentials: Credentials) -> Client {
        Client::new(&self.ca(), endpoints.to_vec(), credentials, LIMITS).unwrap()
    }
}

/// Ends the connection.
#[derive(Debug)]
struct HungUp;
impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up")
    }
}
impl std::error::Error for HungUp {}
impl From<Infallible> for HungUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn respond<A: Fn(&Seen) -> Reply>(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<A>,
) -> Result<Response<Full<Bytes>>, HungUp> {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let mut seen = Seen {
        method: request.method().to_string(),
        target: request.uri().path_and_query().unwrap().to_string(),
        bearer: header("authorization")
            .map(|text| text.strip_prefix("Bearer ").unwrap().to_owned()),
        key: header("idempotency-key"),
        if_match: header("if-match"),
        body: Value::Null,
    };
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if !body.is_empty() {
        seen.body = serde_json::from_slice(&body).unwrap();
    }
    calls.lock().unwrap().push(seen.clone());
    let (status, kind, body) = match answer(&seen) {
        Reply::Json(status, value) => (status, "application/json", Bytes::from(value.to_string())),
        Reply::Raw(status, body) => (status, "application/json", body),
        Reply::Stream(body) => (200, "text/event-stream", body),
        Reply::HangUp => return Err(HungUp),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(body))
        .unwrap())
}

/// A running server; it ends with its value.
pub(crate) struct Fake {
    port: u16,
    calls: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("https://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where nobody listens.
pub(crate) fn nobody() -> Endpoint {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    format!("https://127.0.0.1:{port}").parse().unwrap()
}
