//! A TCP connection that can be broken at will: what stands between a client and its server when the
//! network fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ports::{free_port, on_this_machine};

/// One read's worth.
const BUFFER_BYTES: usize = 16 * 1024;

/// Somebody else may take a free port between its choice and its use.
const PORTS_TRIED: u32 = 5;

/// What becomes of bytes and of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// All pass.
    Pass,
    /// New connections are refused; existing ones go on.
    RefuseNew,
    /// Everything is taken and nothing delivered, until the flow is `Pass` again.
    BlackHole,
    /// What the client says arrives; what the server answers is held back until the flow is `Pass`
    /// again.
    HoldAnswers,
}

/// Stands in front of one address until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    flow: Arc<watch::Sender<Flow>>,
    /// Raised by one with each cut.
    cuts: Arc<watch::Sender<u64>>,
    _connections: JoinSet<()>,
}

/// What each connection watches.
#[derive(Debug, Clone)]
struct Weather {
    flow: watch::Receiver<Flow>,
    cuts: watch::Receiver<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Listens on 127.0.0.1 and passes all on to `server`.
    ///
    /// # Errors
    ///
    /// The system's, where no port can be listened on.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = listen_anywhere().await?;
        let address = listener.local_addr()?;
        let (flow, flow_seen) = watch::channel(Flow::Pass);
        let (cuts, cuts_seen) = watch::channel(0);
        let weather = Weather { flow: flow_seen, cuts: cuts_seen };
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, address, server, weather));
        Ok(Self { address, flow: Arc::new(flow), cuts: Arc::new(cuts), _connections: connections })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL with this proxy in place of its host and port.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once('@').unwrap_or(("", url));
        let path = after.split_once('/').map_or("", |(_, path)| path);
        format!("{before}@{}/{path}", self.address)
    }

    /// Changes what becomes of bytes and of new connections.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Cuts every connection that stands, at once and without a word to either side.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn listen_anywhere() -> io::Result<TcpListener> {
    let mut last = None;
    for _ in 0..PORTS_TRIED {
        match TcpListener::bind(on_this_machine(free_port()?)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// Takes connections. While new ones are refused nobody listens, so that the system refuses them. An
/// address that cannot be listened on again stays refused, which the test notices.
async fn accept(listener: TcpListener, address: SocketAddr, server: SocketAddr, mut weather: Weather) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if *weather.flow.borrow_and_update() == Flow::RefuseNew {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        tokio::select! {
            changed = weather.flow.changed() => if changed.is_err() { return },
            Some(client) = next_client(listener.as_ref()) => {
                connections.spawn(serve(client, server, weather.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn next_client(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// One connection, until either side is done or it is cut.
async fn serve(client: TcpStream, server: SocketAddr, mut weather: Weather) {
    weather.cuts.mark_unchanged();
    let mut cut = weather.cuts.clone();
    tokio::select! {
        // What was held back when it was cut does not pass any more, even if the flow is changed next.
        biased;
        _ = cut.changed() => {}
        // Either side's failure ends the connection, as it would without a proxy.
        _ = pass(client, server, weather) => {}
    }
}

async fn pass(client: TcpStream, server: SocketAddr, weather: Weather) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut flow = weather.flow.clone();
    wait_for_passage(&mut flow, Direction::ToServer).await;
    let upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    tokio::try_join!(
        pump(from_client, to_server, weather.flow.clone(), Direction::ToServer),
        pump(from_server, to_client, weather.flow, Direction::ToClient),
    )?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flow: watch::Receiver<Flow>,
    direction: Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        wait_for_passage(&mut flow, direction).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Returns once bytes may pass in this direction, or the proxy is gone.
async fn wait_for_passage(flow: &mut watch::Receiver<Flow>, direction: Direction) {
    let passes = |flow: &Flow| match flow {
        Flow::Pass | Flow::RefuseNew => true,
        Flow::BlackHole => false,
        Flow::HoldAnswers => direction == Direction::ToServer,
    };
    flow.wait_for(passes).await.ok();
}
