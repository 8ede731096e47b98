//! The four listeners. Each takes one role, with limits on connections, handshakes and requests; what is
//! no TLS, or no HTTP within it, ends in a closed connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tower::ServiceExt;
use tower::layer::util::{Identity as NoLayer, Stack};
use tower::util::MapResponseLayer;
use virtflow_model::kinds::Controller;
use virtflow_pki::net::{TcpListener, listen};
use virtflow_pki::{
    Admission, AdmissionCheck, ConnectInfo, Identity, ListenerLimits, ServerPolicy, TlsListener,
    server_config,
};
use virtflow_proto::agent::v1::agent_session_server::AgentSessionServer;
use virtflow_proto::agent::v1::enrolment_server::EnrolmentServer;
use virtflow_proto::raft::v1::peer_server::PeerServer;
use virtflow_raft::MESSAGE_BYTES_MAX;
use virtflow_types::{ObjectId, Timestamp};

use super::peers::PeerService;
use super::status;
use crate::agents::SessionService;
use crate::agents::enrolment::EnrolmentService;
use crate::app::{App, Caller};

/// Longest time a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Path and headers of a request over HTTP/2, beyond which the connection refuses it without a word: far above
/// what the API refuses with one.
const HEAD_BYTES_MAX: u32 = 128 * 1024;
/// A connection that is silent for so long is asked whether it lives …
const PING_EVERY: Duration = Duration::from_secs(15);
/// … and closed if it doesn't say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of the status listener.
const STATUS_CONNECTIONS_MAX: usize = 64;
/// Connections of other controllers.
const PEER_CONNECTIONS_MAX: usize = 1024;
/// Largest message an agent may send: a full report of many VMs.
const AGENT_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Path of the enrolment service on the API listener.
const ENROLMENT_PATH: &str = "/virtflow.agent.v1.Enrolment/{method}";

/// Listeners that are bound, and what serves them.
#[derive(Debug)]
pub struct Bound {
    api: TlsListener,
    agent: TlsListener,
    peer: TlsListener,
    status: StatusListener,
}

enum StatusListener {
    Plain(TcpListener),
    Tls(TlsListener),
}

impl std::fmt::Debug for StatusListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "StatusListener::Plain",
            Self::Tls(_) => "StatusListener::Tls",
        })
    }
}

impl Bound {
    /// Where the API is served: the port is the real one where the configuration says 0.
    pub fn api_addr(&self) -> SocketAddr {
        self.api.local_addr()
    }
    /// Where agents are served.
    pub fn agent_addr(&self) -> SocketAddr {
        self.agent.local_addr()
    }
    /// Where controllers are served.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer.local_addr()
    }
}

async fn tls(
    app: &App,
    key: &str,
    address: SocketAddr,
    policy: ServerPolicy,
    limits: ListenerLimits,
) -> anyhow::Result<TlsListener> {
    let config = server_config(app.certificates(), policy)?;
    TlsListener::bind(address, config, limits)
        .await
        .with_context(|| format!("listening on {address} (`listen.{key}`)"))
}

/// Binds all four, before anything is served.
pub async fn bind(app: &App) -> anyhow::Result<Bound> {
    let addresses = &app.config().listen;
    let many = ListenerLimits::default();
    let few = |connections_max| ListenerLimits {
        connections_max,
        ..many
    };
    let peers = ServerPolicy::peers(admit_controllers(app), app.peer_tls().pinned.clone());
    Ok(Bound {
        api: tls(
            app,
            "api",
            addresses.api,
            ServerPolicy::api(admit_users(app)),
            many,
        )
        .await?,
        agent: tls(
            app,
            "agent",
            addresses.agent,
            ServerPolicy::agents(admit_hosts(app)),
            many,
        )
        .await?,
        peer: tls(
            app,
            "peer",
            addresses.peer,
            peers,
            few(PEER_CONNECTIONS_MAX),
        )
        .await?,
        status: if addresses.status.ip().is_loopback() {
            let listener = listen(addresses.status).await;
            StatusListener::Plain(
                listener.with_context(|| {
                    format!("listening on {} (`listen.status`)", addresses.status)
                })?,
            )
        } else {
            let policy = ServerPolicy::api(admit_users(app));
            let limits = few(STATUS_CONNECTIONS_MAX);
            StatusListener::Tls(tls(app, "status", addresses.status, policy, limits).await?)
        },
    })
}

fn admit_users(app: &App) -> AdmissionCheck {
    let node = app.node().clone();
    Arc::new(move |identity: &Identity, _| {
        let user = ObjectId::from_uuid(identity.subject_id);
        match virtflow_logic::authenticate_certificate(&node.image(), Timestamp::now(), user) {
            Ok(_) => Admission::Admit,
            Err(_) => Admission::Refuse("no such user, or not active"),
        }
    })
}

fn admit_hosts(app: &App) -> AdmissionCheck {
    let node = app.node().clone();
    Arc::new(move |identity, key| {
        let host = ObjectId::from_uuid(identity.subject_id);
        match virtflow_logic::host_admitted(&node.image(), host, &key.to_string()) {
            Ok(()) => Admission::Admit,
            Err(why) => Admission::Refuse(why),
        }
    })
}

/// Refuses only who is known to be removed: a member that was away may not yet know the members that
/// came meanwhile, and one of those may lead. Stores, cluster and incarnation are checked on each message.
fn admit_controllers(app: &App) -> AdmissionCheck {
    let node = app.node().clone();
    Arc::new(move |identity, _| {
        let image = node.image();
        let removed = image
            .get(ObjectId::from_uuid(identity.subject_id))
            .and_then(|object| virtflow_logic::decoded::<Controller>(object).ok())
            .is_some_and(|controller| controller.status.removed);
        if removed {
            Admission::Refuse("the controller was removed from the cluster")
        } else {
            Admission::Admit
        }
    })
}

/// Serves all four until the app stops; returns once what was under way is done, or after `grace`.
pub async fn serve(app: &App, bound: Bound, grace: Duration) {
    let stop = app.stopping();
    let tracker = TaskTracker::new();
    let enrolment = EnrolmentServer::new(EnrolmentService::new(app.clone()));
    let api = Router::new()
        .route_service(ENROLMENT_PATH, enrolment)
        .fallback_service(app.router().unwrap_or_default());
    tracker.spawn(serve_tls(bound.api, api, stop.clone(), tracker.clone()));
    let sessions = AgentSessionServer::new(SessionService::new(app.clone()))
        .max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX);
    let agents = grpc()
        .add_service(sessions)
        .serve_with_incoming_shutdown(bound.agent, stop.clone().cancelled_owned());
    let peers = PeerServer::new(PeerService::new(app.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let peers = grpc()
        .add_service(app.node().grpc_service())
        .add_service(peers)
        .serve_with_incoming_shutdown(bound.peer, stop.clone().cancelled_owned());
    for (name, server) in [
        ("agent", Box::pin(agents) as GrpcServer),
        ("peer", Box::pin(peers)),
    ] {
        tracker.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(listener = name, %error, "the listener failed");
            }
        });
    }
    match bound.status {
        StatusListener::Plain(listener) => {
            let routes = status::routes(app.clone(), status::Guard::Open);
            tracker.spawn(serve_plain(listener, routes, stop.clone(), tracker.clone()));
        }
        StatusListener::Tls(listener) => {
            let routes = status::routes(app.clone(), status::Guard::Credential);
            tracker.spawn(serve_tls(listener, routes, stop.clone(), tracker.clone()));
        }
    }
    stop.cancelled().await;
    tracker.close();
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        tracing::info!("connections are closed with requests under way");
    }
}

type GrpcServer =
    std::pin::Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send>>;

type Dated =
    MapResponseLayer<fn(http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body>>;

fn grpc() -> Server<Stack<Dated, NoLayer>> {
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS_MAX)
        .tcp_nodelay(true)
        .layer(MapResponseLayer::new(dated as fn(_) -> _))
}

/// Where an answer has no date the server library writes one, from a clock of its own: a simulation's
/// answers would differ in size from run to run. Nobody here reads it.
fn dated<B>(mut response: http::Response<B>) -> http::Response<B> {
    if cfg!(virtflow_sim) {
        let date = http::HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        response.headers_mut().insert(http::header::DATE, date);
    }
    response
}

async fn serve_tls(
    mut listener: TlsListener,
    routes: Router,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = stop.cancelled() => return,
        };
        let Some(connection) = connection else { return };
        let info = connection.info().clone();
        tracker.spawn(serve_connection(
            connection,
            Some(info),
            routes.clone(),
            stop.clone(),
        ));
    }
}

async fn serve_plain(
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(STATUS_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // For want of file descriptors, mostly: others must close some first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let (routes, stop) = (routes.clone(), stop.clone());
        tracker.spawn(async move {
            serve_connection(stream, None, routes, stop).await;
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    info: Option<ConnectInfo>,
    routes: Router,
    stop: CancellationToken,
) {
    let caller = info.as_ref().map(|info| Caller {
        remote_address: info.remote_addr.ip().to_string(),
        client: info.peer.as_ref().map(|peer| peer.identity),
        hops: 0,
    });
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        // Whatever the client sent, these say what the handshake proved.
        if let Some(info) = &info {
            request.extensions_mut().insert(info.clone());
        }
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        let answer = routes.clone().oneshot(request);
        async move { answer.await.map(dated) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
