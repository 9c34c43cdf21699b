//! The life of one call on a vendor's path: arrival, credential, knobs, body, wait, answer.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    Json,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, header::AUTHORIZATION};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::time;

use crate::{
    bounds::{BODY_BYTES_MAX, BODY_WAIT_MAX},
    knobs::{Defaults, Knobs},
    observations::{Endpoint, Observations},
    refusal::Refusal,
    stream::{self, Event},
    vendor::Vendor,
};

/// What all calls share.
pub(crate) struct Demo {
    pub(crate) observations: Observations,
    pub(crate) defaults: Defaults,
    credential: SecretString,
    answers: AtomicU64,
}

/// How one endpoint of a vendor is spoken.
pub(crate) struct Dialect {
    pub(crate) endpoint: Endpoint,
    pub(crate) vendor: Vendor,
    pub(crate) credential_of: fn(&HeaderMap) -> Option<&[u8]>,
    pub(crate) reply: fn(&Asked<'_>) -> Result<Reply, Refusal>,
}

/// What a dialect answers from.
pub(crate) struct Asked<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) knobs: &'a Knobs,
    /// Different for each answer; ids are made of it.
    pub(crate) number: u64,
}

/// What a dialect answers with.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole(Value),
    Events(Vec<Event>),
}

impl Demo {
    pub(crate) fn new(credential: SecretString, defaults: Defaults) -> Self {
        Self { observations: Observations::default(), defaults, credential, answers: AtomicU64::new(0) }
    }

    /// Answers one request in a dialect.
    pub(crate) async fn answer(&self, dialect: &Dialect, request: Request) -> Response {
        let number = self.next_number();
        let mut response = self.answer_numbered(dialect, request, number).await;
        dialect.vendor.add_headers(response.headers_mut(), number);
        response
    }

    /// A number that no other answer has.
    pub(crate) fn next_number(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this is the configured credential; an empty one never is.
    pub(crate) fn is_credential(&self, presented: &[u8]) -> bool {
        !presented.is_empty() && bool::from(presented.ct_eq(self.secret().as_bytes()))
    }

    /// The configured credential, for masking it in what is shown.
    pub(crate) fn secret(&self) -> &str {
        self.credential.expose_secret()
    }

    async fn answer_numbered(&self, dialect: &Dialect, request: Request, number: u64) -> Response {
        let (head, body) = request.into_parts();
        let mut call = self.observations.begin(dialect.endpoint, &head.headers);
        let reply = async {
            let knobs = self.admit(dialect, &head.headers)?;
            let body = read_body(body).await?;
            call.keep_body(&body);
            wait(&knobs).await?;
            let reply = (dialect.reply)(&Asked { body: &body, knobs: &knobs, number })?;
            Ok((reply, knobs.chunk_delay))
        };
        match reply.await {
            Ok((Reply::Events(events), pace)) => stream::answer(call, events, pace),
            Ok((Reply::Whole(json), _)) => {
                call.ends();
                Json(json).into_response()
            }
            Err(refusal) => {
                call.ends();
                Refusal::answer(&refusal, dialect.vendor)
            }
        }
    }

    fn admit(&self, dialect: &Dialect, headers: &HeaderMap) -> Result<Knobs, Refusal> {
        let presented = (dialect.credential_of)(headers).unwrap_or_default();
        if !self.is_credential(presented) {
            return Err(Refusal::Credential);
        }
        Knobs::read(headers, self.defaults)
    }
}

impl fmt::Debug for Demo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Demo").field("defaults", &self.defaults).finish_non_exhaustive()
    }
}

/// The credential in `authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, credential) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(credential)
}

/// The credential in `x-api-key`.
pub(crate) fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("x-api-key").map(|value| value.as_bytes())
}

/// The wait before the head, and after it the error status that was asked for.
pub(crate) async fn wait(knobs: &Knobs) -> Result<(), Refusal> {
    if !knobs.delay.is_zero() {
        time::sleep(knobs.delay).await;
    }
    knobs.status.map_or(Ok(()), |status| Err(Refusal::Asked(status)))
}

async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    let collected = time::timeout(BODY_WAIT_MAX, Limited::new(body, BODY_BYTES_MAX).collect());
    match collected.await.map_err(|_elapsed| Refusal::BodyTooSlow)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::BodyTooLarge { bytes_max: BODY_BYTES_MAX as u64 })
        }
        Err(_cut) => Err(Refusal::BodyCutShort),
    }
}
