//! What a machine does for the process on it: connections, which outlive a process that stands still.
//!
//! The network knows machines; a machine's kernel carries bytes between it and the buffers that its process
//! reads and writes. If the process ends, its kernel closes what it had open.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::sync::{mpsc, oneshot, watch};
use virtflow_pki::net::simulated::{MachineEnd, Request, TcpListener, TcpStream};

use super::controller::{Shared, lock};

/// How long a connection that the process has closed waits for the other side to close it too.
const LINGER: Duration = Duration::from_secs(20);

/// The way to a machine's kernel; none while the machine is off.
pub(crate) type Line = Shared<Option<mpsc::UnboundedSender<Request>>>;

/// A machine from power on to power off.
pub(crate) async fn run(line: Line) {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let (resets, reset) = watch::channel(());
    *lock(&line) = Some(sender);
    while let Some(request) = requests.recv().await {
        match request {
            Request::Connect { host, port, answer } => {
                tokio::spawn(connect(host, port, answer, reset.clone()));
            }
            Request::Listen { port, answer } => {
                tokio::spawn(listen(port, answer, reset.clone()));
            }
            Request::Reset => resets.send_replace(()),
        }
    }
}

async fn connect(
    host: String,
    port: u16,
    mut answer: oneshot::Sender<io::Result<TcpStream>>,
    reset: watch::Receiver<()>,
) {
    let connected = tokio::select! {
        biased;
        () = answer.closed() => return,
        connected = turmoil::net::TcpStream::connect((host.as_str(), port)) => connected,
    };
    let connected = connected.and_then(|stream| Ok((stream.local_addr()?, stream)));
    match connected {
        Ok((local, stream)) => {
            let (process, machine) = TcpStream::pair(local);
            // Nobody waits for it any more: both ends are dropped.
            if answer.send(Ok(process)).is_ok() {
                carry(stream, machine, reset).await;
            }
        }
        Err(error) => drop(answer.send(Err(error))),
    }
}

async fn listen(
    port: u16,
    answer: oneshot::Sender<io::Result<TcpListener>>,
    reset: watch::Receiver<()>,
) {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    let listener = match turmoil::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let (process, accepted) = TcpListener::pair(address);
    drop(answer.send(Ok(process)));
    loop {
        let (stream, from) = tokio::select! {
            biased;
            () = accepted.closed() => return,
            next = listener.accept() => match next {
                Ok(next) => next,
                Err(_) => continue,
            },
        };
        let local = stream.local_addr().unwrap_or(address);
        let (process, machine) = TcpStream::pair(local);
        // With a full backlog the newcomer is turned away.
        if accepted.try_send((process, from)).is_ok() {
            tokio::spawn(carry(stream, machine, reset.clone()));
        }
    }
}

/// Carries bytes both ways until both sides have closed, or the machine's connections are reset.
async fn carry(
    stream: turmoil::net::TcpStream,
    machine: MachineEnd,
    mut reset: watch::Receiver<()>,
) {
    let (mut from_network, mut to_network) = stream.into_split();
    let MachineEnd { pipe, was_reset } = machine;
    let disorder = was_reset.clone();
    let (mut from_process, mut to_process) = split(pipe);
    let outward = async {
        drop(copy(&mut from_process, &mut to_network).await);
        drop(to_network.shutdown().await);
    };
    let inward = async {
        if copy(&mut from_network, &mut to_process).await.is_err() {
            was_reset.set();
        }
        drop(to_process.shutdown().await);
    };
    tokio::pin!(inward);
    tokio::pin!(outward);
    // A new connection knows nothing of what ended others.
    reset.mark_unchanged();
    tokio::select! {
        biased;
        Ok(()) = reset.changed() => disorder.set(),
        () = &mut outward => drop(tokio::time::timeout(LINGER, inward).await),
        () = &mut inward => outward.await,
    }
}
