//! Ports that nobody else takes while their server is down.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux gives ports to outgoing connections (32,768 and up): there a
/// client that knocks again and again on a server that is down may be given the server's own port,
/// and then talks to itself.
const PORT_MIN: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A port on which nothing listens. Somebody else may take it before its use; whoever uses it tries
/// again with the next.
pub(crate) fn free_port() -> io::Result<u16> {
    for _ in 0..PORTS {
        let port = next_candidate();
        if TcpListener::bind(on_this_machine(port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
}

/// The same where the port so far above it is free as well, and is not one for outgoing connections either.
pub(crate) fn free_port_with(above: u16) -> io::Result<u16> {
    for _ in 0..PORTS {
        let port = next_candidate();
        let both = [port, port + above];
        if both[1] < PORT_MIN + PORTS
            && both.iter().all(|port| TcpListener::bind(on_this_machine(*port)).is_ok())
        {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no two ports are free"))
}

/// The address of a port on 127.0.0.1.
pub(crate) fn on_this_machine(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Each process of tests begins elsewhere, so that they seldom meet.
fn next_candidate() -> u16 {
    static STEPS: AtomicU16 = AtomicU16::new(0);
    const STRIDE: u32 = 37;
    let begin = std::process::id().wrapping_mul(STRIDE);
    let step = u32::from(STEPS.fetch_add(1, Ordering::Relaxed));
    let offset = begin.wrapping_add(step) % u32::from(PORTS);
    PORT_MIN + u16::try_from(offset).unwrap_or(0)
}
