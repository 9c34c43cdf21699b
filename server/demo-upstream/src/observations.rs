//! What the upstream has seen: counters and the last request of each endpoint, for tests to read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;

use crate::bounds::KEPT_BODY_BYTES_MAX;

/// The endpoints that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /openai/v1/chat/completions`.
    OpenAiChat,
    /// `GET /openai/v1/models`.
    OpenAiModels,
    /// `POST /anthropic/v1/messages`.
    AnthropicMessages,
    /// `/echo` and everything below it.
    Echo,
}

/// A handle on what an upstream has seen. Cheap to clone; all clones read the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    boards: Arc<[Board; ENDPOINTS]>,
}

/// A call under way. Whatever drops it before its end was the caller leaving, and is counted as that.
#[derive(Debug)]
pub(crate) struct Call {
    observations: Observations,
    endpoint: Endpoint,
    stage: Stage,
}

const ENDPOINTS: usize = 4;

#[derive(Debug, Default)]
struct Board {
    requests: AtomicU64,
    cancelled_before_answer: AtomicU64,
    cancelled_in_stream: AtomicU64,
    streams_finished: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    headers: Option<HeaderMap>,
    body: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Streaming,
    Ended,
}

impl Observations {
    /// Requests that arrived, those answered with an error included.
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.board(endpoint).requests.load(Ordering::Acquire)
    }

    /// Calls whose caller left before the head of the answer.
    pub fn cancelled_before_answer(&self, endpoint: Endpoint) -> u64 {
        self.board(endpoint).cancelled_before_answer.load(Ordering::Acquire)
    }

    /// Streams whose reader left before the last event was handed to the connection.
    pub fn cancelled_in_stream(&self, endpoint: Endpoint) -> u64 {
        self.board(endpoint).cancelled_in_stream.load(Ordering::Acquire)
    }

    /// Streams that were handed to the connection to their last event.
    pub fn streams_finished(&self, endpoint: Endpoint) -> u64 {
        self.board(endpoint).streams_finished.load(Ordering::Acquire)
    }

    /// The headers of the request that arrived last, credential included.
    pub fn last_headers(&self, endpoint: Endpoint) -> Option<HeaderMap> {
        self.board(endpoint).last.lock().headers.clone()
    }

    /// The body of the request that arrived last. None before its body was read whole, if the body is larger
    /// than [`KEPT_BODY_BYTES_MAX`], and always on endpoints that keep none ([`Endpoint::Echo`],
    /// [`Endpoint::OpenAiModels`]).
    pub fn last_body(&self, endpoint: Endpoint) -> Option<Bytes> {
        self.board(endpoint).last.lock().body.clone()
    }

    /// Counts an arrival and remembers its headers.
    pub(crate) fn begin(&self, endpoint: Endpoint, headers: &HeaderMap) -> Call {
        let board = self.board(endpoint);
        *board.last.lock() = Last { headers: Some(headers.clone()), body: None };
        board.requests.fetch_add(1, Ordering::AcqRel);
        Call { observations: self.clone(), endpoint, stage: Stage::Waiting }
    }

    fn board(&self, endpoint: Endpoint) -> &Board {
        let [chat, models, messages, echo] = &*self.boards;
        match endpoint {
            Endpoint::OpenAiChat => chat,
            Endpoint::OpenAiModels => models,
            Endpoint::AnthropicMessages => messages,
            Endpoint::Echo => echo,
        }
    }
}

impl Call {
    /// Remembers the request's body, if it is small enough to be kept.
    pub(crate) fn keep_body(&self, body: &Bytes) {
        if body.len() <= KEPT_BODY_BYTES_MAX {
            self.board().last.lock().body = Some(body.clone());
        }
    }

    /// From here on a drop means that the reader left in mid-stream.
    pub(crate) fn streams(&mut self) {
        self.stage = Stage::Streaming;
    }

    /// The whole answer is made; a drop means nothing any more.
    pub(crate) fn ends(&mut self) {
        if self.stage == Stage::Streaming {
            self.board().streams_finished.fetch_add(1, Ordering::AcqRel);
        }
        self.stage = Stage::Ended;
    }

    fn board(&self) -> &Board {
        self.observations.board(self.endpoint)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let counter = match self.stage {
            Stage::Waiting => &self.board().cancelled_before_answer,
            Stage::Streaming => &self.board().cancelled_in_stream,
            Stage::Ended => return,
        };
        counter.fetch_add(1, Ordering::AcqRel);
    }
}
