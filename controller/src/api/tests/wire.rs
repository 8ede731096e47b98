//! What no client library would send: requests written byte by byte to the listener that clients use. None is answered as
//! if it were right, none does anything, none is an error of ours, and the next good one is served.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use virtflow_pki::{Alpn, ServerExpectation, TlsConnector, client_config};

use super::support::Rig;
use crate::testing;

/// Longest time an answer, or the end of a connection, is waited for: what the server grants a head or a body, and more.
const PATIENCE: Duration = Duration::from_secs(40);

async fn dial(rig: &Rig) -> impl AsyncRead + AsyncWrite + Unpin {
    let address = rig.app.config().listen.api;
    let expected = ServerExpectation::first_contact(rig.app.ca().fingerprint());
    let config = client_config(None, expected, Alpn::None).unwrap();
    let connector = TlsConnector::new(config);
    connector
        .connect(&address.ip().to_string(), address.port())
        .await
        .unwrap()
}

/// Everything that comes until the other side closes.
async fn answers(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => all.extend_from_slice(&chunk[..n]),
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, read).await;
    assert!(ended.is_ok(), "the connection was never closed");
    String::from_utf8_lossy(&all).into_owned()
}

/// The statuses of the answers in a text.
fn statuses(text: &str) -> Vec<u16> {
    let starts = text.match_indices("HTTP/1.1 ");
    starts
        .map(|(at, start)| text[at + start.len()..][..3].parse().unwrap())
        .collect()
}

async fn sent(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = dial(rig).await;
    // It may be refused before all of it was taken.
    let _ = stream.write_all(bytes).await;
    answers(&mut stream).await
}

/// A request that would make a rack, with these headers beside the usual ones, and this body.
fn making(rig: &Rig, name: &str, headers: &str, body: &str) -> Vec<u8> {
    let token = &rig.admin;
    format!(
        "POST /api/v1/racks HTTP/1.1\r\nHost: c1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nX-Name: {name}\r\n{headers}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn racks(rig: &Rig) -> usize {
    let listed = rig.get("/racks", &rig.admin).await;
    listed.data(200).as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_read_in_two_ways_is_read_in_none() {
    let rig = Rig::start().await;
    testing::serve(&rig.app).await.unwrap();
    let body = r#"{"name": "smuggled"}"#;
    let length = body.len();
    // Behind the request that its length ends stands another one.
    let hidden = String::from_utf8(making(
        &rig,
        "hidden",
        &format!("Content-Length: {length}"),
        body,
    ))
    .unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "length and chunks",
            making(
                &rig,
                "a",
                "Content-Length: 4\r\nTransfer-Encoding: chunked",
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "chunks and length",
            making(
                &rig,
                "b",
                "Transfer-Encoding: chunked\r\nContent-Length: 4",
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "two lengths",
            making(
                &rig,
                "c",
                &format!("Content-Length: 2\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "a list of lengths",
            making(&rig, "d", &format!("Content-Length: 2, {length}"), body),
        ),
        (
            "a signed length",
            making(&rig, "e", &format!("Content-Length: +{length}"), body),
        ),
        (
            "a negative length",
            making(&rig, "f", "Content-Length: -1", body),
        ),
        (
            "a length in hexadecimal",
            making(&rig, "g", "Content-Length: 0x14", body),
        ),
        (
            "a length of 2^64",
            making(&rig, "h", "Content-Length: 18446744073709551616", body),
        ),
        (
            "chunks that are not the last coding",
            making(
                &rig,
                "i",
                "Transfer-Encoding: chunked, gzip",
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "a coding nobody knows",
            making(
                &rig,
                "j",
                "Transfer-Encoding: xchunked",
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "a length with a blank before its colon",
            making(&rig, "k", &format!("Content-Length : {length}"), body),
        ),
        (
            "a line that goes on in the next",
            making(
                &rig,
                "l",
                &format!("X-A: b\r\n Content-Length: {length}"),
                body,
            ),
        ),
        (
            "a chunk that is longer than any",
            making(
                &rig,
                "m",
                "Transfer-Encoding: chunked",
                "FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk without a size",
            making(
                &rig,
                "n",
                "Transfer-Encoding: chunked",
                "\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk that ends elsewhere",
            making(
                &rig,
                "o",
                "Transfer-Encoding: chunked",
                "2\r\n{}}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a header with a NUL",
            making(
                &rig,
                "p",
                &format!("X-A: a\0b\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "a header with a bare carriage return",
            making(
                &rig,
                "q",
                &format!("X-A: a\rb\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "a name with a blank",
            making(
                &rig,
                "r",
                &format!("X A: b\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "two hosts",
            making(
                &rig,
                "s",
                &format!("Host: other\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "two credentials",
            making(
                &rig,
                "t",
                &format!("Authorization: Bearer x\r\nContent-Length: {length}"),
                body,
            ),
        ),
        (
            "a head of 64 KiB",
            making(
                &rig,
                "u",
                &format!("X-A: {}\r\nContent-Length: {length}", "x".repeat(65_536)),
                body,
            ),
        ),
        (
            "ten thousand headers",
            making(
                &rig,
                "v",
                &format!("{}Content-Length: {length}", "A: b\r\n".repeat(10_000)),
                body,
            ),
        ),
        ("no version", b"GET /api/v1/racks\r\n\r\n".to_vec()),
        (
            "a version to come",
            b"GET /api/v1/racks HTTP/9.9\r\nHost: c1\r\n\r\n".to_vec(),
        ),
        (
            "no protocol at all",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        ),
        (
            "the other protocol's beginning",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\xff\xff\xff\xff\xff\xff".to_vec(),
        ),
        (
            "a path with a NUL",
            b"GET /api/v1/ra\0cks HTTP/1.1\r\nHost: c1\r\n\r\n".to_vec(),
        ),
        (
            "a path with a blank",
            b"GET /api/v1/ra cks HTTP/1.1\r\nHost: c1\r\n\r\n".to_vec(),
        ),
        (
            "a path that goes up",
            b"GET /api/v1/../../etc/passwd HTTP/1.1\r\nHost: c1\r\nConnection: close\r\n\r\n"
                .to_vec(),
        ),
        (
            "a method of 64 KiB",
            [b"G".repeat(65_536), b" / HTTP/1.1\r\n\r\n".to_vec()].concat(),
        ),
        ("nothing but line ends", b"\r\n".repeat(50_000)),
    ];
    // At once: some of them are waited for as long as a head or a body may take.
    let each = cases.iter().map(|(what, bytes)| {
        let rig = &rig;
        async move { (*what, sent(rig, bytes).await) }
    });
    for (what, told) in futures::future::join_all(each).await {
        let statuses = statuses(&told);
        assert!(
            statuses.iter().all(|status| (400..500).contains(status)),
            "{what}: {statuses:?}\n{told}"
        );
        assert!(
            statuses.len() <= 1,
            "{what}: two requests were seen: {told}"
        );
    }
    assert_eq!(racks(&rig).await, 0, "something was made");
    // Such a connection shut nobody out.
    let good = making(
        &rig,
        "good",
        &format!("Connection: close\r\nContent-Length: {length}"),
        body,
    );
    assert_eq!(statuses(&sent(&rig, &good).await), [201]);
    assert_eq!(racks(&rig).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_slowly_or_leaves_in_the_middle_does_nothing_and_is_not_waited_for() {
    let rig = Rig::start().await;
    testing::serve(&rig.app).await.unwrap();
    let body = r#"{"name": "late"}"#;
    let head = |length: usize| making(&rig, "slow", &format!("Content-Length: {length}"), "");
    // A head that never ends, a body that never comes, half a body and an early leave: all at once.
    let endless = async {
        let mut stream = dial(&rig).await;
        stream
            .write_all(b"GET /api/v1/racks HTTP/1.1\r\nHost: c1\r\nX-A: ")
            .await
            .unwrap();
        let told = answers(&mut stream).await;
        assert!(
            statuses(&told).iter().all(|status| *status == 408),
            "{told}"
        );
    };
    let bodiless = async {
        let mut stream = dial(&rig).await;
        stream.write_all(&head(body.len())).await.unwrap();
        let told = answers(&mut stream).await;
        assert_eq!(statuses(&told), [408], "{told}");
    };
    let halved = async {
        let mut stream = dial(&rig).await;
        stream.write_all(&head(body.len())).await.unwrap();
        stream.write_all(&body.as_bytes()[..8]).await.unwrap();
        stream.shutdown().await.unwrap();
        let told = answers(&mut stream).await;
        assert!(
            statuses(&told).iter().all(|status| *status == 400),
            "{told}"
        );
    };
    let gone = async {
        for _ in 0..50 {
            let mut stream = dial(&rig).await;
            stream.write_all(&head(body.len())).await.unwrap();
            drop(stream);
        }
    };
    tokio::join!(endless, bodiless, halved, gone);
    assert_eq!(racks(&rig).await, 0);
    let good = making(
        &rig,
        "good",
        &format!("Connection: close\r\nContent-Length: {}", body.len()),
        body,
    );
    assert_eq!(statuses(&sent(&rig, &good).await), [201]);
}
