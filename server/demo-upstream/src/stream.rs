//! Server-sent events at a set pace, which stop when nobody reads them any more.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;
use tokio::time;

use crate::observations::Call;

/// One event, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    bytes: Bytes,
    paced: bool,
}

struct Playback {
    call: Call,
    events: VecDeque<Event>,
    pace: Duration,
}

impl Event {
    /// An event without a name, sent at once.
    pub(crate) fn data(data: &Value) -> Self {
        Self::raw(format!("data: {data}\n\n"))
    }

    /// An event with a name, sent at once.
    pub(crate) fn named(name: &str, data: &Value) -> Self {
        Self::raw(format!("event: {name}\ndata: {data}\n\n"))
    }

    /// An event in its wire form, sent at once.
    pub(crate) fn raw(text: impl Into<Bytes>) -> Self {
        Self { bytes: text.into(), paced: false }
    }

    /// The same event after one wait of the stream's pace.
    pub(crate) fn paced(self) -> Self {
        Self { paced: true, ..self }
    }
}

/// Answers with the events. The call ends with the last of them; a reader that leaves before drops it, and with
/// it everything that was still to come.
pub(crate) fn answer(mut call: Call, events: Vec<Event>, pace: Duration) -> Response {
    call.streams();
    let playback = Playback { call, events: events.into(), pace };
    let body = Body::from_stream(stream::unfold(playback, next));
    let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

async fn next(mut playback: Playback) -> Option<(Result<Bytes, Infallible>, Playback)> {
    let event = playback.events.pop_front()?;
    if event.paced && !playback.pace.is_zero() {
        time::sleep(playback.pace).await;
    }
    if playback.events.is_empty() {
        playback.call.ends();
    }
    Some((Ok(event.bytes), playback))
}
