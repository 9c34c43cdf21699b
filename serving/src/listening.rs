//! Sockets that wait for connections.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted: a burst of clients that all connect at once. The system may
/// allow fewer (`net.core.somaxconn`).
pub const BACKLOG_CONNECTIONS_MAX: u32 = 4_096;

/// Listens on an address.
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed to this process.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Else connections of a server that has just ended would keep its address for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS_MAX)
}
