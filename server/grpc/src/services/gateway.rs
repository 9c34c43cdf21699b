//! `GatewayService`: what a gateway needs beyond the public services.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::{self, StreamExt, TryStreamExt};
use rateguard_engine::engine::Engine;
use rateguard_engine::gateway::RouteWatch;
use rateguard_proto::internal_v1 as internal;
use rateguard_proto::internal_v1::gateway_service_server::GatewayService;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Call, answer, open_by_key};
use crate::convert::gateway::{price_usage_message, route_change_message, route_message};
use crate::convert::usage::usage_record;
use crate::convert::{missing, resource_id, within};
use crate::status::status;

/// Longest life of a watch; whoever watches connects again and is told to forget everything.
const WATCH_LIFE_MAX: Duration = Duration::from_secs(10 * 60);

/// The service over the engine.
pub struct Gateway {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Ends the watches, so that a server that drains need not wait for them.
    pub drain: CancellationToken,
}

type Changes = Result<internal::WatchRoutesResponse, Status>;

#[tonic::async_trait]
impl GatewayService for Gateway {
    type WatchRoutesStream = Pin<Box<dyn Stream<Item = Changes> + Send>>;

    async fn resolve_route(
        &self,
        request: Request<internal::ResolveRouteRequest>,
    ) -> Result<Response<internal::ResolveRouteResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.engine, request)?;
        answer(async {
            let route = self.engine.route(&caller, resource_id("slug", &message.slug)?)?;
            Ok(internal::ResolveRouteResponse { route: Some(route_message(&route)) })
        })
        .await
    }

    async fn watch_routes(
        &self,
        _: Request<internal::WatchRoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let over = {
            let (drain, end) = (self.drain.clone(), Instant::now() + WATCH_LIFE_MAX);
            async move { drop(tokio::time::timeout_at(end, drain.cancelled()).await) }
        };
        Ok(Response::new(Box::pin(changes(self.engine.watch_routes()).take_until(Box::pin(over)))))
    }

    async fn price_usage(
        &self,
        request: Request<internal::PriceUsageRequest>,
    ) -> Result<Response<internal::PriceUsageResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.engine, request)?;
        let currency = view.workspace.currency;
        answer(async {
            let record = message.record.ok_or_else(|| missing("record"))?;
            let record = usage_record(record, currency).map_err(|error| within("record", error))?;
            let event = self.engine.price_usage(&caller, record).await;
            Ok(price_usage_message(&event.map_err(|error| within("record", error))?, currency))
        })
        .await
    }
}

/// The changes one by one. Nothing is queued: the next are asked for when these are sent.
fn changes(watch: RouteWatch) -> impl Stream<Item = Changes> + Send {
    let batches = stream::try_unfold(watch, |mut watch| async move {
        let next = watch.next().await.map_err(|error| status(&error))?;
        Ok::<_, Status>(next.map(|batch| (batch, watch)))
    });
    let messages = batches.map_ok(|batch| stream::iter(batch.into_iter().map(route_change_message).map(Ok)));
    messages.try_flatten()
}
