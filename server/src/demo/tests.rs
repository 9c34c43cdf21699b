//! What becomes of a demo whose upstream fails.

use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> (TempDir, Demo) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("demo").display().to_string();
    let flags = [("data.folder", folder), ("server.listen", "127.0.0.1:0".to_owned())];
    let demo = Demo::start(&Config::load(None, &[], &flags).unwrap()).await.unwrap();
    (parent, demo)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this was bound to happen")
}

#[tokio::test]
async fn an_upstream_that_ends_by_itself_is_noticed_and_the_demo_still_stops_in_order() {
    let (_parent, mut demo) = start().await;
    assert!(tokio::time::timeout(Duration::ZERO, demo.failed()).await.is_err(), "all is well");
    demo.stop_upstream.cancel();
    let failure = within(demo.failed()).await;
    assert_eq!(failure.to_string(), "the demo upstream has ended although nobody stopped it");
    within(demo.stop()).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_with_its_cause() {
    let (_parent, mut demo) = start().await;
    demo.stop_upstream.cancel();
    within(demo.failed()).await;
    demo.upstream.spawn(async { Err(io::Error::other("no more descriptors")) });
    let failure = within(demo.failed()).await;
    assert_eq!(format!("{failure:#}"), "the demo upstream failed: no more descriptors");
    demo.upstream.spawn(async { Err(io::Error::other("broken")) });
    let error = within(demo.stop()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "the demo upstream failed: broken");
}
