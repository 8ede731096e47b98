//! A controller that answers what a test says, also what no controller would: the cluster's TLS, and any bytes or none.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;
use virtflow_pki::{
    Admission, CertStore, CertificateAuthority, Csr, KeyPair, LeafRequest, ListenerLimits, Role,
    ServerPolicy, TlsListener, server_config,
};

use crate::cloud::Ended;

/// A token that must not be seen anywhere.
pub(crate) const TOKEN: &str = "vft1.hush.hush";

/// What has not come by then never does.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, below `/api/v1`.
    pub(crate) target: String,
    pub(crate) key: Option<String>,
    pub(crate) bearer: Option<String>,
}

impl Seen {
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        let target = self.target.split('?').next();
        self.method == method && target == Some(path)
    }
}

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// It goes on, and nothing comes.
    Never,
}

/// What the server does.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, type, body, and how that ends.
    Bytes(u16, &'static str, Vec<Bytes>, End),
    /// No answer.
    Never,
}

/// JSON of any status.
pub(crate) fn status(status: u16, body: &Value) -> Reply {
    raw(status, "application/json", body.to_string())
}

/// Any bytes.
pub(crate) fn raw(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    Reply::Bytes(status, kind, vec![body.into()], End::Whole)
}

/// A success.
pub(crate) fn ok(data: Value) -> Reply {
    status(200, &json!({"meta": {}, "status": "ok", "data": data}))
}

/// A refusal.
pub(crate) fn refused(number: u16, code: &str) -> Reply {
    let error = json!({"code": code, "message": format!("{code}, as the test says"), "fields": []});
    status(
        number,
        &json!({"meta": {"request_id": "r-1"}, "status": "error", "error": error}),
    )
}

type Answers = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// The server, and a place to run the program against it.
pub(crate) struct Fake {
    pub(crate) folder: TempDir,
    pub(crate) endpoint: String,
    pub(crate) ca: String,
    calls: Arc<Mutex<Vec<Seen>>>,
    coming: UnboundedReceiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// A controller that answers what `answer` says, except to who asks who it is.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let authority = CertificateAuthority::create(Uuid::new_v4(), now_ms()).unwrap();
        let mut listener = listener(&authority).await;
        let port = listener.local_addr().port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (told, coming) = unbounded_channel();
        let (kept, answer) = (Arc::clone(&calls), Arc::new(answer) as Answers);
        let task = tokio::spawn(async move {
            while let Some(connection) = listener.accept().await {
                let (kept, told, answer) = (Arc::clone(&kept), told.clone(), Arc::clone(&answer));
                let serve = service_fn(move |request| {
                    respond(
                        request,
                        Arc::clone(&kept),
                        told.clone(),
                        Arc::clone(&answer),
                    )
                });
                tokio::spawn(async move {
                    // A connection that a test hangs up on ends with an error.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(connection), serve)
                        .await;
                });
            }
        });
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
            endpoint: format!("https://127.0.0.1:{port}"),
            ca: authority.certificate().pem(),
            calls,
            coming,
            task,
        };
        fake.context(&format!("token = \"{TOKEN}\""));
        fake
    }

    /// The contexts file, with these credentials.
    pub(crate) fn context(&self, credentials: &str) {
        let learned = now_text();
        let text = format!(
            "current = \"work\"\n[contexts.work]\nendpoints = [\"{}\"]\nlearned_at = \"{learned}\"\nca = '''{}'''\n{credentials}\n",
            self.endpoint, self.ca
        );
        let path = self.folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command that is not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtflow"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path())
            .env("VIRTFLOW_CONFIG", self.folder.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().await.unwrap().into()
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.calls.lock().unwrap().clone()
    }

    /// The next request that comes in.
    pub(crate) async fn next_any(&mut self) -> Seen {
        let seen = tokio::time::timeout(HANGS_AFTER, self.coming.recv()).await;
        seen.expect("a request comes").unwrap()
    }

    /// The next request of this kind that comes in.
    pub(crate) async fn next(&mut self, method: &str, path: &str) -> Seen {
        loop {
            let seen = self.next_any().await;
            if seen.is(method, path) {
                return seen;
            }
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Now as the contexts file has it.
fn now_text() -> String {
    virtflow_types::Timestamp::from_ms(now_ms()).to_string()
}

async fn listener(authority: &CertificateAuthority) -> TlsListener {
    let key = KeyPair::generate().unwrap();
    let request = LeafRequest {
        role: Role::Controller,
        subject_id: Uuid::from_u128(7),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        lifetime: Duration::from_secs(3600),
    };
    let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
    let certificate = authority.sign(&csr, &request, now_ms()).unwrap();
    let store = CertStore::new(key, certificate, authority.certificate()).unwrap();
    let policy = ServerPolicy::api(Arc::new(|_, _| Admission::Admit));
    let config = server_config(&store, policy).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    TlsListener::bind(address, config, ListenerLimits::default())
        .await
        .unwrap()
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

struct Pieces {
    pieces: VecDeque<Bytes>,
    end: End,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Whole) => Poll::Ready(None),
            (None, End::Never) => Poll::Pending,
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Seen>>>,
    told: UnboundedSender<Seen>,
    answer: Answers,
) -> Result<Response<Pieces>, HungUp> {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let target = request.uri().path_and_query().unwrap().to_string();
    let seen = Seen {
        method: request.method().to_string(),
        target: target.strip_prefix("/api/v1").unwrap().to_owned(),
        key: header("idempotency-key"),
        bearer: header("authorization"),
    };
    request.into_body().collect().await.unwrap();
    calls.lock().unwrap().push(seen.clone());
    let reply = answer(&seen);
    // The test may be over.
    let _ = told.send(seen);
    let (status, kind, pieces, end) = match reply {
        Reply::Bytes(status, kind, pieces, end) => (status, kind, pieces, end),
        Reply::Never => return std::future::pending().await,
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Pieces {
            pieces: pieces.into(),
            end,
        })
        .unwrap())
}
