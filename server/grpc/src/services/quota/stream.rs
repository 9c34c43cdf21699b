//! `StreamCheckQuota`: many checks on one stream.
//!
//! Questions are taken off the stream as long as there is room for their answers. Whoever does not read
//! answers is not read from, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, stream};
use rateguard_core::limits::STREAM_CHECKS_MAX;
use rateguard_engine::caller::{Caller, ShownKey};
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_proto::access::Named;
use rateguard_proto::v1;
use rateguard_proto::v1::stream_check_quota_response::Result as Answer;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::decide;
use crate::auth::check_scopes;
use crate::convert::check::check_error;
use crate::convert::missing;
use crate::details::{MESSAGE_BYTES_MAX, error_of};
use crate::status::status;

/// Longest life of a stream: whoever asks on connects again, perhaps to another server.
const STREAM_LIFE_MAX: Duration = Duration::from_secs(10 * 60);

type Answered = Result<v1::StreamCheckQuotaResponse, Status>;

/// Whoever asks on a stream.
pub struct Asker {
    /// The engine.
    pub engine: Arc<Engine>,
    /// What they showed when the stream began.
    pub shown: ShownKey,
    /// Who may ask.
    pub access: Named,
}

impl Asker {
    /// The caller as of now: the key may have been revoked since the stream began.
    fn caller(&self) -> Result<Caller, EngineError> {
        let (authenticator, now) = (self.engine.authenticator(), self.engine.now());
        let caller = authenticator.again(&self.shown, now)?;
        if !caller.principal().by_gateway {
            check_scopes(&caller, self.access)?;
        }
        authenticator.note_use(&caller, now);
        Ok(caller)
    }

    async fn answer(&self, message: v1::StreamCheckQuotaRequest) -> Answered {
        let caller = self.caller().map_err(|error| status(&error))?;
        let request_id = message.check.as_ref().map(|check| check.request_id.clone()).unwrap_or_default();
        let result = match self.decide(&caller, message.check).await {
            Ok(response) => Answer::Response(response),
            Err(error) => Answer::Error(check_error(&error)),
        };
        Ok(v1::StreamCheckQuotaResponse { request_id, result: Some(result) })
    }

    async fn decide(
        &self,
        caller: &Caller,
        check: Option<v1::CheckQuotaRequest>,
    ) -> Result<v1::CheckQuotaResponse, EngineError> {
        let check = check.ok_or_else(|| missing("check"))?;
        if check.request_id.is_empty() {
            return Err(missing("request_id"));
        }
        let currency = self.engine.workspace(&caller.workspace)?.workspace.currency;
        decide(&self.engine, caller, currency, check).await
    }
}

/// The answers to the questions of a stream, in the order in which they are found. Ends when the caller
/// does, when the key opens it no more, after [`STREAM_LIFE_MAX`], and when the server drains.
///
/// Checks go on in a task of their own: one that has begun may hold what others wait for, and must come to
/// its end also where nobody reads its answer.
pub fn answers(
    asker: Asker,
    questions: Streaming<v1::StreamCheckQuotaRequest>,
    drain: CancellationToken,
) -> impl Stream<Item = Answered> + Send {
    let end = Instant::now() + STREAM_LIFE_MAX;
    let over = async move { drop(tokio::time::timeout_at(end, drain.cancelled_owned()).await) };
    let (sender, mut answers) = mpsc::channel(STREAM_CHECKS_MAX);
    tokio::spawn(ask(Arc::new(asker), questions, over, sender));
    stream::poll_fn(move |context| answers.poll_recv(context))
}

/// Takes questions until it is over, as long as there is room for their answers, and decides what it has taken. A
/// refusal is the last that a stream says: what cannot be read would be refused for ever.
async fn ask(
    asker: Arc<Asker>,
    mut questions: impl Stream<Item = Result<v1::StreamCheckQuotaRequest, Status>> + Unpin,
    over: impl Future<Output = ()>,
    sender: mpsc::Sender<Answered>,
) {
    tokio::pin!(over);
    let mut under_way = FuturesUnordered::new();
    loop {
        let next = async {
            let room = sender.clone().reserve_owned().await.ok()?;
            Some((room, questions.next().await?))
        };
        tokio::select! {
            () = &mut over => break,
            Some(is_refused) = under_way.next() => if is_refused {
                break;
            },
            next = next => match next {
                Some((room, question)) => under_way.push(tell(asker.clone(), question, room)),
                None => break,
            },
        }
    }
    while under_way.next().await.is_some() {}
}

/// Whether the question was refused.
async fn tell(
    asker: Arc<Asker>,
    question: Result<v1::StreamCheckQuotaRequest, Status>,
    room: mpsc::OwnedPermit<Answered>,
) -> bool {
    let answer = match question {
        Ok(question) => asker.answer(question).await,
        Err(unread) => Err(status(&error_of(&unread, MESSAGE_BYTES_MAX))),
    };
    let is_refused = answer.is_err();
    room.send(answer);
    is_refused
}
