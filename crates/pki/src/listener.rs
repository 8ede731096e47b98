//! A TLS listener with limits: for tonic a stream of connections, for hyper an `accept`.
//!
//! Handshakes run beside each other, so that one that says nothing keeps nobody waiting; their
//! number, their time and the number of connections are bounded. Past the bound on handshakes the
//! kernel's backlog fills (a pause, seconds at most); past the bound on connections new ones are
//! closed at once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::net::{TcpListener, TcpStream, listen, tune};
use crate::tls::plain;
use crate::{ConnectInfo, PeerIdentity};

/// Connections whose handshake is done and that the server hasn't taken yet.
const READY_CONNECTIONS_MAX: usize = 64;
/// After `accept` failed, mostly for want of file descriptors: others must close some first.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a refused client may go on sending before it is cut off.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once.
    pub handshakes_max: usize,
    /// Connections open at once, handshakes among them.
    pub connections_max: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 1024,
            connections_max: 20_000,
        }
    }
}

/// Counters since the listener began.
#[derive(Debug, Default)]
pub struct ListenerStats {
    accepted: AtomicU64,
    established: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    over_limit: AtomicU64,
}

impl ListenerStats {
    /// TCP connections taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Handshakes that succeeded.
    pub fn established(&self) -> u64 {
        self.established.load(Ordering::Relaxed)
    }

    /// Handshakes that failed: a wrong certificate, another protocol, a peer that went away.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Handshakes that took longer than the limit.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// Connections closed at once because too many were open.
    pub fn over_limit(&self) -> u64 {
        self.over_limit.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes connections until it is dropped; the connections it gave out live on.
#[derive(Debug)]
pub struct TlsListener {
    ready: mpsc::Receiver<TlsConnection>,
    accepting: JoinHandle<()>,
    local_addr: SocketAddr,
    stats: Arc<ListenerStats>,
}

impl TlsListener {
    pub async fn bind(
        address: SocketAddr,
        config: Arc<ServerConfig>,
        limits: ListenerLimits,
    ) -> io::Result<Self> {
        Self::from_tcp(listen(address).await?, config, limits)
    }

    /// Serves a socket that is bound already. Must be called within a tokio runtime.
    pub fn from_tcp(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        limits: ListenerLimits,
    ) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let stats = Arc::new(ListenerStats::default());
        let (sender, ready) = mpsc::channel(READY_CONNECTIONS_MAX);
        let front = Front {
            listener,
            acceptor: TlsAcceptor::from(config),
            handshake_timeout: limits.handshake_timeout,
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            sender,
            stats: stats.clone(),
        };
        Ok(Self {
            ready,
            accepting: tokio::spawn(front.run()),
            local_addr,
            stats,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn stats(&self) -> Arc<ListenerStats> {
        self.stats.clone()
    }

    /// The next connection whose handshake succeeded. `None` only if the accepting task died, which
    /// its code cannot.
    pub async fn accept(&mut self) -> Option<TlsConnection> {
        self.ready.recv().await
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stream for TlsListener {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready
            .poll_recv(cx)
            .map(|connection| connection.map(Ok))
    }
}

/// The accepting task. Its handshakes end with it.
struct Front {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshake_timeout: Duration,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    sender: mpsc::Sender<TlsConnection>,
    stats: Arc<ListenerStats>,
}

impl Front {
    async fn run(self) {
        let mut under_way = JoinSet::new();
        // The semaphores are never closed.
        while let Ok(handshake) = self.handshakes.clone().acquire_owned().await {
            while under_way.try_join_next().is_some() {}
            let (stream, remote_addr) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                        tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                    }
                    continue;
                }
            };
            count(&self.stats.accepted);
            let Ok(slot) = self.connections.clone().try_acquire_owned() else {
                count(&self.stats.over_limit);
                tracing::debug!(%remote_addr, "connection closed: too many are open");
                continue;
            };
            under_way.spawn(establish(
                self.acceptor.clone(),
                self.handshake_timeout,
                stream,
                remote_addr,
                slot,
                self.sender.clone(),
                self.stats.clone(),
                handshake,
            ));
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[expect(clippy::too_many_arguments, reason = "a task owns what it needs")]
async fn establish(
    acceptor: TlsAcceptor,
    timeout: Duration,
    stream: TcpStream,
    remote_addr: SocketAddr,
    slot: OwnedSemaphorePermit,
    sender: mpsc::Sender<TlsConnection>,
    stats: Arc<ListenerStats>,
    // Held until the connection is handed over: a server that takes none is not buried in them.
    _handshake: OwnedSemaphorePermit,
) {
    let connection = tokio::time::timeout(timeout, handshake(acceptor, stream, remote_addr, slot));
    match connection.await {
        Ok(Ok(connection)) => {
            count(&stats.established);
            // Nobody takes it when the listener is being dropped.
            let _ = sender.send(connection).await;
        }
        Ok(Err(refusal)) => {
            count(&stats.refused);
            let error = plain(refusal.error);
            tracing::debug!(%remote_addr, %error, "TLS handshake refused");
            if let Some(stream) = refusal.stream {
                linger(stream).await;
            }
        }
        Err(_) => {
            count(&stats.timed_out);
            tracing::debug!(%remote_addr, ?timeout, "TLS handshake took too long");
        }
    }
}

struct Refusal {
    error: io::Error,
    stream: Option<TcpStream>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self {
            error,
            stream: None,
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote_addr: SocketAddr,
    slot: OwnedSemaphorePermit,
) -> Result<TlsConnection, Refusal> {
    tune(&stream)?;
    let local_addr = stream.local_addr()?;
    let stream = acceptor
        .accept(stream)
        .into_fallible()
        .await
        .map_err(|(error, stream)| Refusal {
            error,
            stream: Some(stream),
        })?;
    let peer = PeerIdentity::from_tls(stream.get_ref().1).map_err(io::Error::other)?;
    Ok(TlsConnection {
        stream,
        info: ConnectInfo {
            peer,
            remote_addr,
            local_addr,
        },
        _slot: slot,
    })
}

/// Lets the alert arrive that says why. A client is done with its handshake before we are and may
/// have sent requests already; to close with bytes unread is to reset the connection, and the reset
/// can overtake the alert.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Best effort: the connection ends either way.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// A connection whose peer is known. Dropping it frees its place at the listener.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: ConnectInfo,
    _slot: OwnedSemaphorePermit,
}

impl TlsConnection {
    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// The application protocol that both ends chose, such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
