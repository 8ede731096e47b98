//! What each port takes, and what it does with everything else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use virtflow_pki::{
    Alpn, CertStore, Csr, KeyPair, LeafRequest, Role, ServerExpectation, TlsConnector,
    client_config,
};

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_any_port_ends_in_a_closed_connection() {
    let first = Controller::first(|_| {}).await;
    let listen = &first.config.listen;
    let rubbish: [&[u8]; 4] = [
        b"\x00\xff\xfe garbage \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
    ];
    for address in [listen.api, listen.agent, listen.peer] {
        for bytes in rubbish {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            let closed = tokio::time::timeout(Duration::from_secs(10), read).await;
            assert!(
                closed.is_ok(),
                "{address} keeps a connection that speaks no TLS"
            );
            assert!(answer.len() < 64, "{address} answers more than an alert");
        }
    }
    let mut stream = TcpStream::connect(listen.status).await.unwrap();
    stream.write_all(rubbish[0]).await.unwrap();
    stream.write_all(rubbish[2]).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(
        tokio::time::timeout(Duration::from_secs(15), read)
            .await
            .is_ok()
    );
    assert!(first.app.node().read().await.is_ok(), "it still works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_port_takes_its_own_role_only() {
    let first = Controller::first(|_| {}).await;
    let listen = &first.config.listen;
    let authority = first.app.authority();
    for role in [Role::Agent, Role::Controller, Role::Client] {
        let key = KeyPair::generate().unwrap();
        let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
        let leaf = LeafRequest {
            role,
            subject_id: virtflow_types::ObjectId::generate().uuid(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            lifetime: Duration::from_secs(3600),
        };
        let now = virtflow_types::Timestamp::now().ms();
        let certificate = authority.sign(&csr, &leaf, now).unwrap();
        let store = CertStore::new(key, certificate, authority.certificate()).unwrap();
        for (address, takes) in [
            // A host that nobody knows and a user that does not exist are refused by their subject.
            (listen.api, None),
            (listen.agent, None),
            (listen.peer, Some(Role::Controller)),
        ] {
            let expected = ServerExpectation::controller(authority.trust());
            let tls = client_config(Some(&store), expected, Alpn::H2).unwrap();
            let connector = TlsConnector::new(tls);
            let taken = match connector.connect("127.0.0.1", address.port()).await {
                // The server judges after the client is done: the first read tells.
                Ok(mut stream) => {
                    let _ = stream
                        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                        .await;
                    stream.read(&mut [0; 16]).await.is_ok_and(|n| n > 0)
                }
                Err(_) => false,
            };
            assert_eq!(taken, takes == Some(role), "{role} on {address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_sees_a_controller() {
    let first = Controller::first(|_| {}).await;
    let status = first.config.listen.status;
    for (path, expected) in [
        ("/healthz", "ok"),
        ("/readyz", "\"ready\":true"),
        ("/status", "\"applied_index\":"),
        ("/metrics", "virtflow_commit_seconds_bucket"),
        ("/nothing", "404"),
    ] {
        let mut stream = TcpStream::connect(status).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: c1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(expected), "{path}: {answer}");
        if path == "/metrics" {
            every_number_is_explained(&answer);
        }
    }
}

/// Each number that is told has a line in the list that people look it up in.
fn every_number_is_explained(scraped: &str) {
    let list = include_str!("../../../docs/metrics.md");
    let names: Vec<&str> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(
            list.contains(&format!("| `{name}`")),
            "{name} is not in docs/metrics.md"
        );
    }
}

/// What the limit on headers refuses is told why, and what is below it is answered, whichever protocol it comes by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_headers_are_refused_in_words_over_both_protocols() {
    let first = Controller::first(|_| {}).await;
    let expected = || ServerExpectation::controller(first.app.authority().trust());
    for (bytes, status) in [(20_000, 401), (30_000, 401), (33_000, 431), (60_000, 431)] {
        let tls = client_config(None, expected(), Alpn::H2).unwrap();
        let port = first.config.listen.api.port();
        let stream = TlsConnector::new(tls).connect("127.0.0.1", port).await;
        let io = hyper_util::rt::TokioIo::new(stream.unwrap());
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let request =
            http::Request::get("https://c1/api/v1/racks").header("x-large", "x".repeat(bytes));
        let request = request
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{bytes} over HTTP/2");
        let body = http_body_util::BodyExt::collect(answer.into_body())
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(body["status"], "error", "{body}");

        let tls = client_config(None, expected(), Alpn::None).unwrap();
        let stream = TlsConnector::new(tls).connect("127.0.0.1", port).await;
        let mut stream = stream.unwrap();
        let large = "x".repeat(bytes);
        let request = format!(
            "GET /api/v1/racks HTTP/1.1\r\nHost: c1\r\nX-Large: {large}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes}: {answer}"
        );
        assert!(answer.contains(r#""status":"error""#), "{answer}");
    }
}

/// One request over TLS, without a client certificate.
async fn get(controller: &Controller, path: &str, token: &str) -> String {
    let expected = ServerExpectation::controller(controller.app.authority().trust());
    let tls = client_config(None, expected, Alpn::None).unwrap();
    let port = controller.config.listen.status.port();
    let mut stream = TlsConnector::new(tls)
        .connect("127.0.0.1", port)
        .await
        .unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: c1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end may come without a TLS goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_loopback_monitoring_needs_tls_and_a_credential() {
    const TOKEN: &str = "a-long-enough-monitoring-token";
    let first = Controller::first(|config| {
        config.listen.status.set_ip([0, 0, 0, 0].into());
        let file = config.data_dir.with_file_name("monitoring.token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        config.status.token_file = Some(file);
    })
    .await;
    let mut plain = TcpStream::connect(("127.0.0.1", first.config.listen.status.port()))
        .await
        .unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: c1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "no plain HTTP beyond loopback"
    );
    assert!(
        get(&first, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    for path in ["/readyz", "/status", "/metrics"] {
        assert!(
            get(&first, path, "").await.starts_with("HTTP/1.1 401"),
            "{path} without"
        );
        assert!(
            get(&first, path, "wrong").await.starts_with("HTTP/1.1 401"),
            "{path} with another"
        );
        assert!(
            get(&first, path, TOKEN).await.starts_with("HTTP/1.1 200"),
            "{path} with the token"
        );
    }
}
