use std::convert::Infallible;

use tonic::body::Body;
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use super::*;

async fn never(_: Request<()>) -> Result<Response<Body>, Infallible> {
    std::future::pending().await
}

async fn call_with(timeout: Option<&str>) -> (Code, Duration) {
    let mut request = Request::new(());
    if let Some(timeout) = timeout {
        request.headers_mut().insert(GRPC_TIMEOUT, timeout.parse().unwrap());
    }
    let begun = tokio::time::Instant::now();
    let response = DeadlineLayer.layer(service_fn(never)).oneshot(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).expect("a status in the head");
    (status.code(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_has_the_servers() {
    assert_eq!(call_with(None).await, (Code::DeadlineExceeded, CALL_DURATION_MAX));
}

#[tokio::test(start_paused = true)]
async fn a_callers_shorter_deadline_goes_first() {
    assert_eq!(call_with(Some("250m")).await, (Code::DeadlineExceeded, Duration::from_millis(250)));
    assert_eq!(call_with(Some("2S")).await, (Code::DeadlineExceeded, Duration::from_secs(2)));
    assert_eq!(call_with(Some("99999999H")).await.1, CALL_DURATION_MAX);
}

#[test]
fn a_deadline_is_read_as_grpc_has_it_or_not_at_all() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, http::HeaderValue::from_str(text).unwrap());
        asked(&headers)
    };
    assert_eq!(read("5u"), Some(Duration::from_micros(5)));
    assert_eq!(read("1M"), Some(Duration::from_secs(60)));
    for malformed in ["", "5", "m", "5x", "-5m", "123456789m", "5.0S", "5 S"] {
        assert_eq!(read(malformed), None, "{malformed:?}");
    }
}
