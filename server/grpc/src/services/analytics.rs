//! `AnalyticsService`.

use std::sync::Arc;

use rateguard_engine::engine::Engine;
use rateguard_proto::v1;
use rateguard_proto::v1::analytics_service_server::AnalyticsService;
use tonic::{Request, Response, Status};

use super::{Call, answer, open};
use crate::convert::analytics::{
    TimeSeriesQuery, time_series, time_series_query, usage_filter, usage_summary,
};

/// The service over the engine.
pub struct Analytics(pub Arc<Engine>);

#[tonic::async_trait]
impl AnalyticsService for Analytics {
    async fn get_summary(
        &self,
        request: Request<v1::GetSummaryRequest>,
    ) -> Result<Response<v1::GetSummaryResponse>, Status> {
        let Call { who, view, message } = open(&self.0, request)?;
        answer(async {
            let filter = usage_filter(message.range, message.filter, &view)?;
            let summary = self.0.summary(&who, &filter).await?;
            let summary = usage_summary(&summary, view.workspace.currency)?;
            Ok(v1::GetSummaryResponse { summary: Some(summary) })
        })
        .await
    }

    async fn query_time_series(
        &self,
        request: Request<v1::QueryTimeSeriesRequest>,
    ) -> Result<Response<v1::QueryTimeSeriesResponse>, Status> {
        let Call { who, view, message } = open(&self.0, request)?;
        answer(async {
            let TimeSeriesQuery { query, metrics, series_max } = time_series_query(message, &view)?;
            let points = self.0.series(&who, &query).await?;
            time_series(points, &metrics, series_max, view.workspace.currency)
        })
        .await
    }
}
