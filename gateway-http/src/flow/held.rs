//! Holds an answer back until it is whole, so that its cost can stand in its head.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::gateway::slots::Lease;

/// What came of holding an answer back.
pub(crate) enum Held {
    /// All of it.
    Whole(Bytes),
    /// It is too large to be held: what was read, and the rest.
    Large(Bytes, Incoming),
    /// It broke off.
    Broken,
    /// Its next part did not come in time.
    Slow,
}

/// Reads an answer of `bytes_max` at most, as far as `lease` can be made to cover it.
pub(crate) async fn hold(
    mut body: Incoming,
    bytes_max: usize,
    part_wait_max: Duration,
    lease: &mut Lease,
) -> Held {
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    let declared = body.size_hint().exact().unwrap_or_default();
    let mut fits = usize::try_from(declared).is_ok_and(|bytes| bytes <= bytes_max && lease.cover(bytes));
    while fits {
        let data = match tokio::time::timeout(part_wait_max, body.frame()).await {
            Err(_) => return Held::Slow,
            Ok(None) => return Held::Whole(joined(first, gathered)),
            Ok(Some(Err(_))) => return Held::Broken,
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        let bytes = first.len() + gathered.len() + data.len();
        fits = bytes <= bytes_max && lease.cover(bytes);
        if bytes == data.len() {
            first = data;
        } else {
            gathered.extend_from_slice(&std::mem::take(&mut first));
            gathered.extend_from_slice(&data);
        }
    }
    Held::Large(joined(first, gathered), body)
}

/// Most answers come in one part, which then is the whole without a copy.
fn joined(first: Bytes, gathered: BytesMut) -> Bytes {
    if gathered.is_empty() { first } else { gathered.freeze() }
}
