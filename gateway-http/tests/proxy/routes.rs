//! Routes are asked for once, and again when they change.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::support::{World, config, eventually, start_with};

async fn start_believing() -> World {
    let mut believing = config();
    believing.route_lifetime = Duration::from_secs(3_600);
    believing.watch_backoff.shortest = Duration::from_millis(1);
    let world = start_with(believing).await;
    eventually(|| world.control.watchers() == 1).await;
    world
}

async fn echo(world: &World) -> StatusCode {
    world.send(world.request(Method::GET, "/proxy/echo", &[], "")).await.status
}

/// Calls until the route is asked for again.
async fn until_resolved_again(world: &World, resolved: usize) {
    while world.control.resolved() == resolved {
        echo(world).await;
    }
}

#[tokio::test]
async fn a_route_is_asked_for_once() {
    let world = start_believing().await;
    until_resolved_again(&world, 0).await;
    // The first message of the watch may have dropped the first copy.
    echo(&world).await;
    let resolved = world.control.resolved();
    for _ in 0..5 {
        assert_eq!(echo(&world).await, StatusCode::OK);
    }
    assert_eq!(world.control.resolved(), resolved);
}

#[tokio::test]
async fn a_change_that_the_watch_tells_of_takes_effect() {
    let world = start_believing().await;
    until_resolved_again(&world, 0).await;
    world.control.edit_route("echo", |route| route.base_url = "http://127.0.0.1:9/gone".to_owned());
    let resolved = world.control.resolved();
    world.control.announce("api_echo");
    until_resolved_again(&world, resolved).await;
    assert_eq!(echo(&world).await, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_watch_that_ends_begins_again_and_forgets_everything() {
    let world = start_believing().await;
    until_resolved_again(&world, 0).await;
    let resolved = world.control.resolved();
    world.control.end_watches();
    eventually(|| world.control.watchers() == 1).await;
    until_resolved_again(&world, resolved).await;
}
