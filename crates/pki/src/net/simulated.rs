//! A simulated process's sockets: their other ends are held by its machine, which outlives the process.
//!
//! So a process that stands still keeps its connections, and what it is sent waits in them, as with a real
//! system's buffers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot};

/// What the system buffers in each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// What a process asks its machine for.
#[derive(Debug)]
pub enum Request {
    /// A connection.
    Connect {
        /// The other machine's name.
        host: String,
        /// The port there.
        port: u16,
        /// Where the answer goes; the end of the process is made with [`TcpStream::pair`].
        answer: oneshot::Sender<io::Result<TcpStream>>,
    },
    /// A port to listen on.
    Listen {
        /// The port.
        port: u16,
        /// Where the answer goes; the listener is made with [`TcpListener::pair`].
        answer: oneshot::Sender<io::Result<TcpListener>>,
    },
    /// All its connections end in disorder, whatever is under way in them: what a firewall that forgets does.
    Reset,
}

/// Gives the way to the machine of the process that runs, if it runs on one.
type Finder = Box<dyn Fn() -> Option<mpsc::UnboundedSender<Request>>>;

thread_local! {
    static FINDER: RefCell<Option<Finder>> = const { RefCell::new(None) };
}

/// From now on sockets of this thread's processes come from what `finder` names.
pub fn serve(finder: impl Fn() -> Option<mpsc::UnboundedSender<Request>> + 'static) {
    FINDER.set(Some(Box::new(finder)));
}

async fn ask<T>(request: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Request) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    let machine = FINDER.with_borrow(|finder| finder.as_ref().and_then(|find| find()));
    let down = || io::Error::new(io::ErrorKind::NetworkDown, "the simulated machine is off");
    let machine = machine.ok_or_else(down)?;
    machine.send(request(answer)).map_err(|_| down())?;
    answered.await.map_err(|_| down())?
}

/// Whether a connection ended in disorder.
#[derive(Debug, Clone, Default)]
pub struct Reset(Arc<AtomicBool>);

impl Reset {
    /// The process is to see an error where the connection ends.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The machine's end of a process's connection.
#[derive(Debug)]
pub struct MachineEnd {
    /// What the process writes, and what it will read.
    pub pipe: DuplexStream,
    /// To be set before the pipe is closed.
    pub was_reset: Reset,
}

/// A process's end of a connection.
#[derive(Debug)]
pub struct TcpStream {
    pipe: DuplexStream,
    was_reset: Reset,
    local: SocketAddr,
}

impl TcpStream {
    /// Both ends.
    pub fn pair(local: SocketAddr) -> (Self, MachineEnd) {
        let (pipe, other) = tokio::io::duplex(BUFFER_BYTES);
        let was_reset = Reset::default();
        let machine = MachineEnd {
            pipe: other,
            was_reset: was_reset.clone(),
        };
        let process = Self {
            pipe,
            was_reset,
            local,
        };
        (process, machine)
    }

    /// Connects to a port of a machine.
    ///
    /// # Errors
    /// What the simulated network says.
    pub async fn connect((host, port): (&str, u16)) -> io::Result<Self> {
        let host = host.to_owned();
        ask(|answer| Request::Connect { host, port, answer }).await
    }

    /// The address at this end.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(match ended && self.was_reset.is_set() {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        })
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// A process's listener.
#[derive(Debug)]
pub struct TcpListener {
    accepted: Mutex<mpsc::Receiver<(TcpStream, SocketAddr)>>,
    local: SocketAddr,
}

impl TcpListener {
    /// A listener, and where its machine puts what it accepts; closed once the process listens no longer.
    pub fn pair(local: SocketAddr) -> (Self, mpsc::Sender<(TcpStream, SocketAddr)>) {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let listener = Self {
            accepted: Mutex::new(accepted),
            local,
        };
        (listener, sender)
    }

    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        ask(|answer| Request::Listen { port, answer }).await
    }

    /// The next connection, and who began it.
    ///
    /// # Errors
    /// If the machine is off.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let next = self.accepted.lock().await.recv().await;
        next.ok_or_else(|| io::ErrorKind::NetworkDown.into())
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
