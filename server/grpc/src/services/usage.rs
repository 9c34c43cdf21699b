//! `UsageService`.

use std::sync::Arc;

use rateguard_core::counter::Position;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::money::Currency;
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::EventQuery;
use rateguard_engine::report::RecordOutcome;
use rateguard_proto::v1;
use rateguard_proto::v1::usage_service_server::UsageService;
use tonic::{Request, Response, Status};

use super::{Call, answer, open, open_by_key};
use crate::convert::check::batch_size;
use crate::convert::page_size;
use crate::convert::usage::{event_filter, record_result, usage_event, usage_record};
use crate::page::{next_token, position_of};

/// What tells tokens of events from those of other lists.
const EVENTS: &str = "usage events";

/// The service over the engine.
pub struct Usage(pub Arc<Engine>);

impl Usage {
    async fn report(
        &self,
        caller: &Caller,
        currency: Currency,
        messages: Vec<v1::UsageRecord>,
    ) -> Result<Vec<v1::RecordResult>, EngineError> {
        batch_size("records", messages.len(), BATCH_RECORDS_MAX)?;
        let mut good = Vec::with_capacity(messages.len());
        let mut parsed = Vec::with_capacity(messages.len());
        for message in messages {
            let event_id = message.event_id.clone();
            let rejected = usage_record(message, currency).map(|record| good.push(record)).err();
            parsed.push((event_id, rejected));
        }
        let mut outcomes = self.0.report(caller, good).await?.into_iter();
        let answer = |(event_id, rejected): (String, Option<EngineError>)| {
            let outcome = rejected.map(RecordOutcome::from).or_else(|| outcomes.next())?;
            Some(record_result(event_id, outcome, currency))
        };
        let answers: Option<Vec<_>> = parsed.into_iter().map(answer).collect();
        answers.ok_or_else(|| EngineError::internal("a record was not answered"))
    }
}

#[tonic::async_trait]
impl UsageService for Usage {
    async fn report_usage(
        &self,
        request: Request<v1::ReportUsageRequest>,
    ) -> Result<Response<v1::ReportUsageResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.0, request)?;
        answer(async {
            let results = self.report(&caller, view.workspace.currency, message.records).await?;
            Ok(v1::ReportUsageResponse { results })
        })
        .await
    }

    async fn list_usage_events(
        &self,
        request: Request<v1::ListUsageEventsRequest>,
    ) -> Result<Response<v1::ListUsageEventsResponse>, Status> {
        let Call { who, view, message } = open(&self.0, request)?;
        answer(async {
            let filter = message.filter.unwrap_or_default();
            let list = (EVENTS, who.workspace()?.as_str(), &filter);
            let before = position_of(&message.page_token, &list)?;
            let query = EventQuery {
                filter: event_filter(filter.clone(), &view)?,
                before,
                limit: page_size(message.page_size)?,
            };
            let page = self.0.events(&who, &query).await?;
            let next_page_token =
                page.next_before.map(|Position(p)| next_token(p, &list)).unwrap_or_default();
            let events = page.events.into_iter().map(|e| usage_event(e, view.workspace.currency)).collect();
            Ok(v1::ListUsageEventsResponse { events, next_page_token })
        })
        .await
    }
}
