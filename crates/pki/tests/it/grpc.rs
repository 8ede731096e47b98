//! tonic on both ends: the service knows its caller, and the caller learns why it was refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use rustls::AlertDescription;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};
use virtflow_pki::{
    Admission, ListenerLimits, Role, ServerPolicy, TlsConnector, TlsListener, require_role,
    server_config,
};

use crate::support::{Cluster, agents_policy};

/// Answers with the identity of its caller, who must have a role.
#[derive(Clone)]
struct WhoAmI(Role);

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = match require_role(request.extensions(), self.0) {
            Ok(peer) => {
                let mut response = Status::new(Code::Ok, "").into_http();
                let identity = peer.identity.to_string().parse().unwrap();
                response.headers_mut().insert("x-caller", identity);
                response
            }
            Err(status) => status.into_http(),
        };
        std::future::ready(Ok(response))
    }
}

async fn serve(config: Arc<rustls::ServerConfig>, role: Role) -> u16 {
    let listener = TlsListener::bind(
        "127.0.0.1:0".parse().unwrap(),
        config,
        ListenerLimits::default(),
    )
    .await
    .unwrap();
    let port = listener.local_addr().port();
    tokio::spawn(
        Server::builder()
            .add_service(WhoAmI(role))
            .serve_with_incoming(listener),
    );
    port
}

async fn ask(channel: &mut Channel, port: u16) -> Result<Response<Body>, tonic::transport::Error> {
    let request = Request::post(format!("https://127.0.0.1:{port}/test.WhoAmI/Ask"))
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap();
    channel.ready().await?.call(request).await
}

fn dial(connector: &TlsConnector, port: u16) -> Channel {
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .unwrap()
        .connect_with_connector_lazy(connector.clone())
}

#[tokio::test]
async fn a_service_sees_the_certified_identity_of_its_caller() {
    let cluster = Cluster::new();
    let agent = cluster.store(Role::Agent);
    let port = serve(cluster.agents_port(), Role::Agent).await;
    let mut channel = dial(&TlsConnector::new(cluster.agent(&agent)), port);
    let response = ask(&mut channel, port).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "0");
    assert_eq!(response.headers()["x-caller"], agent.identity().to_string());
}

/// The service is mounted on a port for agents, but its methods are for controllers.
#[tokio::test]
async fn a_method_refuses_a_role_that_its_port_admits() {
    let cluster = Cluster::new();
    let port = serve(cluster.agents_port(), Role::Controller).await;
    let mut channel = dial(
        &TlsConnector::new(cluster.agent(&cluster.store(Role::Agent))),
        port,
    );
    let response = ask(&mut channel, port).await.unwrap();
    assert_eq!(
        response.headers()["grpc-status"],
        (Code::PermissionDenied as i32).to_string()
    );
}

#[tokio::test]
async fn a_method_refuses_a_caller_without_a_certificate() {
    let cluster = Cluster::new();
    let policy = ServerPolicy::api(Arc::new(|_, _| Admission::Admit));
    let config = server_config(&cluster.store(Role::Controller), policy).unwrap();
    let port = serve(config, Role::Client).await;
    let expected = virtflow_pki::ServerExpectation::controller(cluster.ca.trust());
    let anonymous = virtflow_pki::client_config(None, expected, virtflow_pki::Alpn::H2).unwrap();
    let mut channel = dial(&TlsConnector::new(anonymous), port);
    let response = ask(&mut channel, port).await.unwrap();
    assert_eq!(
        response.headers()["grpc-status"],
        (Code::Unauthenticated as i32).to_string()
    );
}

#[tokio::test]
async fn a_refused_caller_learns_why_from_its_connector() {
    let cluster = Cluster::new();
    let mut policy = agents_policy();
    policy.admission = Some(Arc::new(|_, _| Admission::Refuse("the host was removed")));
    let config = server_config(&cluster.store(Role::Controller), policy).unwrap();
    let port = serve(config, Role::Agent).await;
    let connector = TlsConnector::new(cluster.agent(&cluster.store(Role::Agent)));
    let mut channel = dial(&connector, port);
    assert!(ask(&mut channel, port).await.is_err());
    assert_eq!(
        connector.observed().alert,
        Some(AlertDescription::CertificateRevoked)
    );
}

#[tokio::test]
async fn only_https_addresses_with_a_port_are_dialled() {
    let cluster = Cluster::new();
    let connector = TlsConnector::new(cluster.agent(&cluster.store(Role::Agent)));
    for address in ["http://127.0.0.1:1", "https://127.0.0.1", "/path"] {
        let error = connector
            .clone()
            .oneshot(address.parse().unwrap())
            .await
            .unwrap_err();
        let text = format!(
            "`{}` is not an address",
            address.parse::<http::Uri>().unwrap()
        );
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}
