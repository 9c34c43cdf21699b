//! Streams without a connection: who asks for parts of a body, and who does not.

use std::convert::Infallible;

use axum::body::Body as Whole;
use futures::stream;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::*;

const STALL_MAX: Duration = Duration::from_secs(50);

fn in_parts(parts: Vec<Bytes>) -> Whole {
    Whole::from_stream(stream::iter(parts.into_iter().map(Ok::<_, Infallible>)))
}

/// One part, and then nothing for ever.
fn halting() -> Whole {
    use futures::StreamExt as _;
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"first"))]);
    Whole::from_stream(first.chain(stream::pending()))
}

/// The first part of a body, asked for in the task of a stream, and whether the stream was given up
/// within many times its bound if it then goes on with `then`.
async fn is_given_up<F: Future<Output = ()> + Send>(
    then: impl FnOnce(Watched<Whole>) -> F + Send + 'static,
) -> bool {
    let streams = Streams::new(STALL_MAX);
    let (held, dropped) = oneshot::channel::<()>();
    streams.execute(async move {
        let _held = held;
        let mut body = Watched::new(halting());
        body.frame().await.unwrap().unwrap();
        then(body).await;
    });
    assert_eq!(streams.in_flight(), 1);
    let was_dropped = time::timeout(10 * STALL_MAX, dropped).await.is_ok();
    assert_eq!(streams.in_flight() == 0, was_dropped);
    was_dropped
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_part_nobody_takes_is_given_up_when_its_time_is_over() {
    let begun = Instant::now();
    let keeps = |body: Watched<Whole>| async move {
        std::future::pending::<()>().await;
        drop(body);
    };
    assert!(is_given_up(keeps).await);
    assert_eq!(begun.elapsed().as_secs(), STALL_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_its_own_body_is_not() {
    let asks = |mut body: Watched<Whole>| async move {
        body.frame().await;
    };
    assert!(!is_given_up(asks).await);
}

#[tokio::test]
async fn parts_are_cut_to_pieces_and_their_length_is_told_before() {
    let whole = Bytes::from(vec![7; 2 * HTTP2_PIECE_BYTES_MAX + 1]);
    let mut body = Watched::new(Whole::from(whole.clone()));
    let mut lengths = Vec::new();
    let mut left = whole.len();
    while !body.is_end_stream() {
        assert_eq!(body.size_hint().exact(), u64::try_from(left).ok());
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        left -= piece.len();
        lengths.push(piece.len());
    }
    assert_eq!((left, lengths), (0, vec![HTTP2_PIECE_BYTES_MAX, HTTP2_PIECE_BYTES_MAX, 1]));
    let parts = vec![whole.clone(), Bytes::new(), whole.clone()];
    let gathered = Watched::new(in_parts(parts)).collect().await.unwrap().to_bytes();
    assert_eq!(gathered, [whole.clone(), whole].concat());
}

#[tokio::test]
async fn what_stands_behind_a_body_passes() {
    let fields: http::HeaderMap = [("x-cost".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    let frames =
        [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(fields.clone()))];
    let body = Whole::new(http_body_util::StreamBody::new(stream::iter(frames)));
    let collected = Watched::new(body).collect().await.unwrap();
    assert_eq!(
        (collected.trailers().cloned(), collected.to_bytes()),
        (Some(fields), Bytes::from_static(b"x"))
    );
}
