//! Reads a body whole, within its bounds.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::problem::Problem;
use crate::gateway::Shared;
use crate::gateway::slots::Lease;
use crate::problem::ProblemKind;

/// A body, and the memory that it takes.
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    pub(crate) lease: Lease,
}

/// Reads the body of a request in a dialect.
pub(crate) async fn read(shared: &Shared, head: &Parts, body: Body) -> Result<WholeBody, Problem> {
    let bytes_max = shared.config.vendor_body_bytes_max;
    let declared = declared_bytes(head);
    if declared.is_some_and(|declared| declared > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let mut lease = shared.slots.memory.lease();
    if !lease.cover(declared.unwrap_or_default()) {
        return Err(Problem::overloaded());
    }
    let collecting = collect(body, bytes_max, shared.config.body_stall_max, &mut lease);
    let bytes = tokio::select! {
        biased;
        bytes = timeout(shared.config.body_wait_max, collecting) => bytes.unwrap_or_else(|_| Err(late()))?,
        () = shared.left() => return Err(Problem::stopping()),
    };
    Ok(WholeBody { bytes, lease })
}

fn declared_bytes(head: &Parts) -> Option<usize> {
    let declared = head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // A length beyond the address space is as large as can be.
    Some(declared.parse().unwrap_or(usize::MAX))
}

async fn collect(
    mut body: Body,
    bytes_max: usize,
    stall_max: Duration,
    lease: &mut Lease,
) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(part) = timeout(stall_max, next_part(&mut body)).await.unwrap_or_else(|_| Err(late()))? {
        let bytes = first.len() + gathered.len() + part.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        if !lease.cover(bytes) {
            return Err(Problem::overloaded());
        }
        if bytes == part.len() {
            // Most bodies come in one part, which then is the whole without a copy.
            first = part;
            continue;
        }
        gathered.extend_from_slice(&std::mem::take(&mut first));
        gathered.extend_from_slice(&part);
    }
    Ok(if gathered.is_empty() { first } else { gathered.freeze() })
}

/// The next bytes of a body; `None` at its end.
async fn next_part(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    match body.frame().await {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(_)) => Err(unreadable("the body did not arrive whole")),
    }
}

fn late() -> Problem {
    Problem::new(ProblemKind::BodyTimeout, "the body did not arrive in time")
}

fn unreadable(message: &'static str) -> Problem {
    Problem::new(ProblemKind::InvalidRequest, message)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(ProblemKind::BodyTooLarge, format!("the body must be at most {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use futures::{StreamExt as _, stream};

    use super::*;
    use crate::gateway::slots::Memory;

    const STALL_MAX: Duration = Duration::from_secs(1);

    fn in_parts(parts: &[&'static str]) -> Body {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, Infallible>(Bytes::from_static(part.as_bytes()))).collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn collected(body: Body, memory_bytes: usize) -> Result<Bytes, ProblemKind> {
        let mut lease = Memory::new(memory_bytes).lease();
        collect(body, 10, STALL_MAX, &mut lease).await.map_err(|problem| problem.kind)
    }

    #[tokio::test]
    async fn a_body_of_undeclared_length_is_read_to_its_bound_and_not_beyond() {
        let cases: [&[&str]; 4] = [&[], &["0123456789"], &["01", "", "23456789"], &["", "0123456789"]];
        for parts in cases {
            assert_eq!(collected(in_parts(parts), 4_096).await.unwrap(), parts.concat());
        }
        let beyond = collected(in_parts(&["0123456789", "x"]), 4_096).await;
        assert_eq!(beyond, Err(ProblemKind::BodyTooLarge));
    }

    #[tokio::test]
    async fn without_memory_for_it_a_body_is_refused() {
        assert_eq!(collected(in_parts(&["0"]), 0).await, Err(ProblemKind::Overloaded));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_bad_request() {
        let broken = stream::iter([Ok(Bytes::from_static(b"0")), Err(io::Error::other("gone"))]);
        assert_eq!(collected(Body::from_stream(broken), 4_096).await, Err(ProblemKind::InvalidRequest));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_to_a_halt_is_not_waited_for() {
        let begun = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"0")) });
        let halted = Body::from_stream(begun.chain(stream::pending()));
        assert_eq!(collected(halted, 4_096).await, Err(ProblemKind::BodyTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_read_as_long_as_it_goes_on() {
        let parts = stream::iter(["0", "1", "2"]).then(|part| async move {
            tokio::time::sleep(STALL_MAX / 2).await;
            Ok::<_, Infallible>(Bytes::from_static(part.as_bytes()))
        });
        assert_eq!(collected(Body::from_stream(parts), 4_096).await.unwrap(), "012");
    }
}
