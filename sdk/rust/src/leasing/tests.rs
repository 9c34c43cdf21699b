use std::future::Future;

use super::*;

fn assert_send<T>(_: impl Future<Output = T> + Send) {}

#[tokio::test]
async fn a_decision_can_be_awaited_on_any_thread() {
    let client = Client::connect("http://127.0.0.1:1", "rg_live_none").unwrap().leasing();
    assert_send(client.check(&Call::to("")));
    assert_send(client.close());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_the_call_is_not_decided_here() {
    let client = Client::connect("http://127.0.0.1:1", "rg_live_none").unwrap();
    let client = client.waiting_at_most(Duration::from_millis(200)).leasing();
    for _ in 0..5 {
        assert!(client.check(&Call::to("")).await.is_err());
    }
    let figures = client.figures();
    assert_eq!((figures.decided_here, figures.asked, figures.lease_questions), (0, 5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_not_forgotten_while_a_call_has_it() {
    let client = Client::connect("http://127.0.0.1:1", "rg_live_none").unwrap().leasing();
    let leasing = &client.0.0;
    let kind = leasing.kind(&Call::to("")).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    leasing.tend();
    assert!(Arc::ptr_eq(&kind, &leasing.kind(&Call::to("")).unwrap()), "what it is filled with is tended");
    drop(kind);
    leasing.tend();
    assert!(leasing.kinds.lock().is_empty());
}
