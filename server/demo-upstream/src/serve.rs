//! The accept loop. It is our own because `axum::serve` knows no wait for a request's head, and an idle or
//! dribbling client would keep its connection for ever.

use std::{future::Future, io, pin::pin, sync::Arc};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};

use crate::bounds::{
    ACCEPT_FAILURES_MAX, ACCEPT_RETRY_AFTER, CONNECTIONS_MAX, DRAIN_WAIT_MAX, HEAD_WAIT_MAX,
};

/// The connections that are open. Dropping it aborts their tasks.
struct Connections {
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
    graceful: GracefulShutdown,
}

/// Serves until the shutdown completes, then drains.
pub(crate) async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut connections = Connections::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, slot) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = connections.accept(&listener) => accepted?,
        };
        connections.spawn(stream, slot, router.clone());
    }
    drop(listener);
    connections.drain().await;
    Ok(())
}

/// One accepted socket, with TCP_NODELAY set: head and body leave in two writes, which would wait for each other.
pub(crate) async fn accept_nodelay(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Accepts one socket, forgiving what a single peer or a moment's shortage can cause.
async fn accept_patiently(listener: &TcpListener) -> io::Result<TcpStream> {
    let mut failures = 0;
    loop {
        let error = match accept_nodelay(listener).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        failures += 1;
        if failures == ACCEPT_FAILURES_MAX {
            return Err(error);
        }
        tracing::warn!(%error, failures, "demo upstream could not accept a connection");
        time::sleep(ACCEPT_RETRY_AFTER).await;
    }
}

impl Connections {
    fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: JoinSet::new(),
            graceful: GracefulShutdown::new(),
        }
    }

    async fn accept(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        while self.tasks.try_join_next().is_some() {}
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
        Ok((accept_patiently(listener).await?, slot))
    }

    fn spawn(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit, router: Router) {
        self.tasks.spawn(serve_connection(stream, slot, router, self.graceful.watcher()));
    }

    async fn drain(self) {
        let Self { mut tasks, graceful, .. } = self;
        if time::timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "demo upstream cut off calls that outlasted the drain");
        }
        tasks.shutdown().await;
    }
}

async fn serve_connection(stream: TcpStream, slot: OwnedSemaphorePermit, router: Router, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "demo upstream's connection ended early");
    }
    drop(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_has_nodelay_set() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, dialled) = tokio::join!(accept_nodelay(&listener), TcpStream::connect(address));
        assert!(accepted.unwrap().nodelay().unwrap());
        assert!(!dialled.unwrap().nodelay().unwrap(), "the option is not simply on for every socket");
    }
}
