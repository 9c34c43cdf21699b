//! Reports arrive, whatever the server says at first.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use rateguard_gateway_http::backoff::Backoff;
use rateguard_gateway_http::{Drained, GatewayConfig};
use rateguard_proto::v1::ErrorReason;
use tonic::{Code, Status};

use crate::support::control::status;
use crate::support::{CHAT, chat_body, config, eventually, start_with, within};

fn eager() -> GatewayConfig {
    let mut eager = config();
    eager.report_backoff = Backoff { shortest: Duration::from_millis(1), longest: Duration::from_millis(2) };
    eager
}

#[tokio::test]
async fn a_report_is_sent_again_unchanged_until_it_is_taken() {
    let world = start_with(eager()).await;
    world.control.fail_reports([
        status(Code::Unavailable, ErrorReason::OutcomeUnknown),
        Status::unavailable("connection refused"),
        status(Code::ResourceExhausted, ErrorReason::QueueFull),
    ]);
    world.post(CHAT, &[], &chat_body()).await;
    let record = world.report().await;
    let batches = world.control.batches();
    assert_eq!(batches.len(), 4);
    assert!(batches.iter().all(|batch| *batch == std::slice::from_ref(&record)));
}

#[tokio::test]
async fn the_answer_does_not_wait_for_its_report() {
    let world = start_with(config()).await;
    world.control.hold_reports(true);
    assert_eq!(world.post(CHAT, &[], &chat_body()).await.status, StatusCode::OK);
    assert!(world.control.reports().is_empty());
    world.control.hold_reports(false);
    world.report().await;
}

#[tokio::test]
async fn reports_that_wait_go_together() {
    let world = start_with(config()).await;
    world.control.hold_reports(true);
    for _ in 0..8 {
        world.post(CHAT, &[], &chat_body()).await;
    }
    eventually(|| world.control.batches().len() == 1).await;
    world.control.hold_reports(false);
    let reports = world.reports(8).await;
    let ids: HashSet<_> = reports.iter().map(|record| &record.event_id).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(world.control.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 7]);
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let mut small = config();
    small.report_records_max = 3;
    let world = start_with(small).await;
    world.control.hold_reports(true);
    for _ in 0..8 {
        world.post(CHAT, &[], &chat_body()).await;
    }
    eventually(|| world.control.batches().len() == 1).await;
    world.control.hold_reports(false);
    world.reports(8).await;
    assert_eq!(world.control.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 3, 3, 1]);
}

#[tokio::test]
async fn a_call_for_whose_report_there_is_no_room_does_not_begin() {
    let mut small = config();
    small.reports_pending_max = 2;
    let world = start_with(small).await;
    world.control.hold_reports(true);
    for _ in 0..2 {
        assert_eq!(world.post(CHAT, &[], &chat_body()).await.status, StatusCode::OK);
    }
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::TOO_MANY_REQUESTS, Some("overloaded"))
    );
    assert_eq!(world.control.checks().len(), 2);
    world.control.hold_reports(false);
    world.reports(2).await;
}

#[tokio::test]
async fn what_the_server_will_never_take_is_not_sent_again() {
    let world = start_with(eager()).await;
    world.control.fail_reports([status(Code::InvalidArgument, ErrorReason::FieldMalformed)]);
    world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(within(world.gateway.drain(Duration::from_secs(10))).await, Drained::Whole);
    assert_eq!(world.control.batches().len(), 1);
}

#[tokio::test]
async fn a_report_is_given_up_in_the_end() {
    let mut brief = eager();
    brief.report_attempts_max = 3;
    let world = start_with(brief).await;
    world.control.fail_reports((0..10).map(|_| Status::unavailable("away")));
    world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(within(world.gateway.drain(Duration::from_secs(10))).await, Drained::Whole);
    assert_eq!(world.control.batches().len(), 3);
    assert_eq!(world.control.open(), 1, "its reservation is left to expire");
}
