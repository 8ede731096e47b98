//! Dialling: TCP and TLS under one time limit, for tonic's `connect_with_connector` and by hand.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::PeerIdentity;
use crate::net::{TcpStream, tune};
use crate::tls::plain;

/// Default limit for name resolution, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a connection could not be made; the source says more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{address}` is not an address to dial: expected https://host:port")]
    Address { address: String },
    #[error("cannot reach {address}")]
    Tcp {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no TLS connection to {address}")]
    Tls {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no connection to {address} within {} ms", limit.as_millis())]
    TimedOut { address: String, limit: Duration },
}

/// What a connector saw of its newest connection.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Whom it reached.
    pub server: Option<PeerIdentity>,
    /// The fatal alert that ended it, such as `CertificateExpired` or `CertificateRevoked`. Layers
    /// above, HTTP/2 for one, pass on less than this.
    pub alert: Option<AlertDescription>,
}

/// Dials servers with one TLS configuration. Clones share what they observe.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    timeout: Duration,
    observed: Arc<Mutex<Observed>>,
}

impl TlsConnector {
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            timeout: CONNECT_TIMEOUT,
            observed: Arc::default(),
        }
    }

    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Server and final alert of the newest connection. A server judges the client's certificate
    /// after the client's handshake, so ask once a call has failed.
    pub fn observed(&self) -> Observed {
        self.observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Connects to `host` (a name, or an address without brackets) and verifies the server.
    pub async fn connect(&self, host: &str, port: u16) -> Result<ClientConnection, ConnectError> {
        let address = match host.parse() {
            Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        *self.observed.lock().unwrap_or_else(PoisonError::into_inner) = Observed::default();
        match tokio::time::timeout(self.timeout, self.dial(host, port, &address)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::TimedOut {
                address,
                limit: self.timeout,
            }),
        }
    }

    async fn dial(
        &self,
        host: &str,
        port: u16,
        address: &str,
    ) -> Result<ClientConnection, ConnectError> {
        let tcp = |source| ConnectError::Tcp {
            address: address.to_owned(),
            source,
        };
        let tls = |source| ConnectError::Tls {
            address: address.to_owned(),
            source,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Address {
            address: address.to_owned(),
        })?;
        let stream = TcpStream::connect((host, port)).await.map_err(tcp)?;
        tune(&stream).map_err(tcp)?;
        let handshake = tokio_rustls::TlsConnector::from(self.config.clone()).connect(name, stream);
        let stream = handshake.await.map_err(|error| {
            note_alert(&self.observed, &error);
            tls(plain(error))
        })?;
        let server = PeerIdentity::from_tls(stream.get_ref().1)
            .map_err(io::Error::other)
            .and_then(|peer| peer.ok_or_else(|| io::Error::other("the server is anonymous")))
            .map_err(tls)?;
        self.observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .server = Some(server.clone());
        Ok(ClientConnection {
            stream,
            server,
            observed: self.observed.clone(),
        })
    }
}

impl tower::Service<http::Uri> for TlsConnector {
    type Response = TokioIo<ClientConnection>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let target = match (uri.scheme_str(), uri.host(), uri.port_u16()) {
                (Some("https"), Some(host), Some(port)) => Some((host, port)),
                _ => None,
            };
            let (host, port) = target.ok_or_else(|| ConnectError::Address {
                address: uri.to_string(),
            })?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}

/// A connection to a server whose certificate was accepted.
#[derive(Debug)]
pub struct ClientConnection {
    stream: TlsStream<TcpStream>,
    server: PeerIdentity,
    observed: Arc<Mutex<Observed>>,
}

impl ClientConnection {
    pub fn server(&self) -> &PeerIdentity {
        &self.server
    }

    /// The CA certificate (DER) that the server sent along, verified only at first contact or by
    /// [`crate::CaCertificate::from_der_pinned`].
    pub fn sent_ca(&self) -> Option<Vec<u8>> {
        let sent = self.stream.get_ref().1.peer_certificates()?;
        sent.get(1).map(|certificate| certificate.to_vec())
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if let Err(error) = &read {
            note_alert(&self.observed, error);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for ClientConnection {
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

fn note_alert(observed: &Mutex<Observed>, error: &io::Error) {
    let alert = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(alert)) = alert {
        observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .alert = Some(*alert);
    }
}
