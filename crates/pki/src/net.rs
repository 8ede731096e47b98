//! Streams and listeners: the system's, or those of a simulated network.

#[cfg(not(virtflow_sim))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(virtflow_sim)]
pub mod simulated;
#[cfg(virtflow_sim)]
pub use simulated::{TcpListener, TcpStream};

use std::io;
use std::net::SocketAddr;

// A dead peer is noticed within about 25 s even when nothing is sent, and after 20 s without an
// acknowledgement when something is. What has tighter needs pings in its own protocol.
#[cfg(not(virtflow_sim))]
mod patience {
    use std::time::Duration;

    pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
    pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
    pub(super) const KEEPALIVE_PROBES: u32 = 3;
    pub(super) const UNACKNOWLEDGED_MAX_MS: u32 = 20_000;
}

/// Small messages leave at once, and a peer that is gone is noticed.
#[cfg(not(virtflow_sim))]
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;

    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, patience::KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, patience::KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, patience::KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, patience::UNACKNOWLEDGED_MAX_MS)?;
    Ok(())
}

/// A simulated network has none of these settings; timeouts above it do their work.
#[cfg(virtflow_sim)]
pub(crate) fn tune(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A listener on `address`.
#[cfg(not(virtflow_sim))]
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// A listener on `address`. A simulated machine has one address and listens on all that it has.
#[cfg(virtflow_sim)]
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address.port()).await
}
