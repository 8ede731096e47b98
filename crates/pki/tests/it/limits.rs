//! The bounds of a listener, and one past each.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use virtflow_pki::{ListenerLimits, Role, TlsConnector};

use crate::support::{Cluster, Outcome, attempt, greeter, read_greeting};

#[tokio::test]
async fn silent_callers_block_only_until_the_handshake_timeout() {
    let cluster = Cluster::new();
    let limits = ListenerLimits {
        handshake_timeout: Duration::from_millis(300),
        handshakes_max: 2,
        ..ListenerLimits::default()
    };
    let greeter = greeter(cluster.agents_port(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..limits.handshakes_max {
        silent.push(
            TcpStream::connect(("127.0.0.1", greeter.port))
                .await
                .unwrap(),
        );
    }
    // One past the limit: it waits in the backlog, and is served.
    let outcome = attempt(cluster.agent(&cluster.store(Role::Agent)), greeter.port).await;
    assert_eq!(outcome, Outcome::Greeted);
    assert_eq!(greeter.stats.timed_out(), 2);
    for mut stream in silent {
        assert_eq!(
            stream.read(&mut [0]).await.unwrap(),
            0,
            "closed by the server"
        );
    }
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_and_places_come_free() {
    let cluster = Cluster::new();
    let limits = ListenerLimits {
        connections_max: 2,
        ..ListenerLimits::default()
    };
    let greeter = greeter(cluster.agents_port(), limits).await;
    let client = cluster.agent(&cluster.store(Role::Agent));
    let connector = TlsConnector::new(client.clone());
    let mut first = connector.connect("127.0.0.1", greeter.port).await.unwrap();
    read_greeting(&mut first).await.unwrap();
    let mut second = connector.connect("127.0.0.1", greeter.port).await.unwrap();
    read_greeting(&mut second).await.unwrap();

    assert_eq!(attempt(client.clone(), greeter.port).await, Outcome::Closed);
    assert_eq!(greeter.stats.over_limit(), 1);

    drop(first);
    let served = tokio::time::timeout(Duration::from_secs(5), async {
        while attempt(client.clone(), greeter.port).await != Outcome::Greeted {}
    });
    served.await.unwrap();
}

#[tokio::test]
async fn dropping_the_listener_frees_the_port_and_keeps_connections() {
    let cluster = Cluster::new();
    let mut listener = virtflow_pki::TlsListener::bind(
        "127.0.0.1:0".parse().unwrap(),
        cluster.agents_port(),
        ListenerLimits::default(),
    )
    .await
    .unwrap();
    let address = listener.local_addr();
    let connector = TlsConnector::new(cluster.agent(&cluster.store(Role::Agent)));
    let (client, server) = tokio::join!(
        connector.connect("127.0.0.1", address.port()),
        listener.accept()
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    drop(listener);
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .unwrap();
    use tokio::io::AsyncWriteExt;
    server.write_all(crate::support::GREETING).await.unwrap();
    server.flush().await.unwrap();
    read_greeting(&mut client).await.unwrap();
}
