//! Follows what changes among routes, and forgets what it hears of.

use std::sync::Arc;

use rateguard_proto::internal_v1::WatchRoutesResponse;
use rateguard_proto::internal_v1::watch_routes_response::Change;
use tonic::{Status, Streaming};

use super::RouteCache;
use crate::backoff::Backoff;
use crate::control::Control;

/// Watches until it is dropped. While the watch is down, routes live as long as they are believed.
pub async fn watch(routes: Arc<RouteCache>, control: Control, backoff: Backoff) {
    let mut failed = 0;
    loop {
        match control.watch_routes().await {
            Ok(mut stream) => {
                let ended = follow(&routes, &mut stream, &mut failed).await;
                tracing::debug!(?ended, "the watch of routes ended and connects again");
            }
            Err(error) => {
                tracing::warn!(cause = error.cause, "routes cannot be watched; changes take effect late");
            }
        }
        failed += 1;
        tokio::time::sleep(backoff.wait(failed)).await;
    }
}

async fn follow(
    routes: &RouteCache,
    stream: &mut Streaming<WatchRoutesResponse>,
    failed: &mut u32,
) -> Result<(), Status> {
    while let Some(message) = stream.message().await? {
        *failed = 0;
        match message.change {
            Some(Change::Route(change)) => routes.forget(&change.api_id),
            // What this gateway does not understand may be about anything.
            Some(Change::Refresh(_)) | None => routes.clear(),
        }
    }
    Ok(())
}
