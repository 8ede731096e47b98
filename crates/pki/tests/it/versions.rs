//! TLS 1.3 and nothing older, no resumption, and bytes that are no TLS at all.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use virtflow_pki::{ListenerLimits, Role};

use crate::support::{Cluster, GREETING, Outcome, attempt, greeter};

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[tokio::test]
async fn a_client_that_speaks_only_tls_1_2_is_refused() {
    let cluster = Cluster::new();
    let greeter = greeter(cluster.agents_port(), ListenerLimits::default()).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cluster.ca.certificate().der().clone()).unwrap();
    let old = ClientConfig::builder_with_provider(ring())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(cluster.store(Role::Agent));
    let stream = TcpStream::connect(("127.0.0.1", greeter.port))
        .await
        .unwrap();
    let error = tokio_rustls::TlsConnector::from(Arc::new(old))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert_eq!(greeter.stats.refused(), 1);
}

#[tokio::test]
async fn a_server_that_speaks_only_tls_1_2_is_refused() {
    let cluster = Cluster::new();
    let old = ServerConfig::builder_with_provider(ring())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(cluster.store(Role::Controller));
    let greeter = greeter(Arc::new(old), ListenerLimits::default()).await;
    let outcome = attempt(cluster.agent(&cluster.store(Role::Agent)), greeter.port).await;
    assert_ne!(outcome, Outcome::Greeted);
    assert_eq!(greeter.stats.established(), 0);
}

/// A ticket would carry a certificate past expiry and past the admission check.
#[tokio::test]
async fn sessions_are_never_resumed_even_by_a_client_that_would() {
    let cluster = Cluster::new();
    let greeter = greeter(cluster.agents_port(), ListenerLimits::default()).await;
    let mut eager = (*cluster.agent(&cluster.store(Role::Agent))).clone();
    eager.resumption = Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(eager));
    for _ in 0..3 {
        let stream = TcpStream::connect(("127.0.0.1", greeter.port))
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting).await.unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(connection.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn garbage_is_counted_and_hurts_nobody() {
    let cluster = Cluster::new();
    let greeter = greeter(cluster.agents_port(), ListenerLimits::default()).await;
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 70_000],
        &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
        b"",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(("127.0.0.1", greeter.port))
            .await
            .unwrap();
        // The server may hang up before all is sent.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(
            ended.is_ok(),
            "the connection stays open after {} bytes",
            bytes.len()
        );
        assert!(!answer.starts_with(b"HTTP"), "an answer in clear");
    }
    assert_eq!(
        (greeter.stats.refused(), greeter.stats.established()),
        (6, 0)
    );
    let outcome = attempt(cluster.agent(&cluster.store(Role::Agent)), greeter.port).await;
    assert_eq!(outcome, Outcome::Greeted);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let cluster = Cluster::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let connector = virtflow_pki::TlsConnector::new(cluster.agent(&cluster.store(Role::Agent)))
        .with_connect_timeout(Duration::from_millis(200));
    let error = connector.connect("127.0.0.1", port).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no connection to 127.0.0.1:{port} within 200 ms")
    );
}

/// The reason must arrive although the client has sent requests that the server never reads.
#[tokio::test]
async fn a_refused_client_that_talks_on_still_hears_why() {
    let cluster = Cluster::new();
    let mut policy = crate::support::agents_policy();
    policy.admission = Some(Arc::new(|_, _| virtflow_pki::Admission::Refuse("removed")));
    let server = virtflow_pki::server_config(&cluster.store(Role::Controller), policy).unwrap();
    let greeter = greeter(server, ListenerLimits::default()).await;
    let connector = virtflow_pki::TlsConnector::new(cluster.agent(&cluster.store(Role::Agent)));
    for _ in 0..20 {
        let mut connection = connector.connect("127.0.0.1", greeter.port).await.unwrap();
        for _ in 0..4 {
            connection.write_all(&[7; 8_000]).await.unwrap();
            connection.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(connection.read_u8().await.is_err());
        let alert = connector.observed().alert;
        assert_eq!(alert, Some(rustls::AlertDescription::CertificateRevoked));
    }
}
