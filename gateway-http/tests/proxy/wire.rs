//! Requests as bytes: what no well-behaved client sends, and what reaches the upstream of it.

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{APP_KEY, CHAT, World, chat_body, echo, start, within};

/// What a client gets for these lines and this body, until the connection is closed. A `\n` ends a line.
async fn answer_to(world: &World, lines: &str, body: &str) -> String {
    let head = format!("{lines}\nauthorization: Bearer {APP_KEY}\nconnection: close\n\n{body}");
    let mut stream = TcpStream::connect(world.address).await.expect("the gateway listens");
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).await.expect("the gateway reads");
    let mut received = String::new();
    within(stream.read_to_string(&mut received)).await.expect("the gateway answers in text");
    received
}

/// What the echo upstream saw of a call that it answered.
fn seen(answer: &str) -> Value {
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    let start = answer.rfind("\r\n{").expect("the answer is JSON");
    let end = answer.rfind('}').expect("the answer is JSON");
    serde_json::from_str(&answer[start..=end]).expect("the answer is JSON")
}

#[tokio::test]
async fn an_absolute_url_leads_where_its_path_says_and_nowhere_else() {
    let world = start().await;
    let answer =
        answer_to(&world, "GET http://evil.example/proxy/echo/items HTTP/1.1\nhost: evil.example", "").await;
    let seen = seen(&answer);
    assert_eq!(seen["headers"]["host"][0].as_str(), Some(world.upstream.to_string().as_str()));
    assert_eq!(world.control.checks()[0].endpoint, "/items");
}

#[tokio::test]
async fn a_body_has_one_length_or_none_at_all() {
    let world = start().await;
    let lengths = "POST /proxy/echo HTTP/1.1\nhost: x\ncontent-length: 5\ncontent-length: 6";
    assert!(answer_to(&world, lengths, "12345").await.starts_with("HTTP/1.1 400"));
    assert!(world.control.checks().is_empty());
    let both = "POST /proxy/echo HTTP/1.1\nhost: x\ncontent-length: 3\ntransfer-encoding: chunked";
    let answer = answer_to(&world, both, "5\n12345\n0\n\nGET /proxy/echo/smuggled HTTP/1.1\n").await;
    let seen = seen(&answer);
    assert_eq!(seen["body_bytes"], 5, "the length by chunks is the one that counts");
    assert!(!seen["headers"].as_object().unwrap().contains_key("content-length"), "and goes on alone");
    assert!(world.control.checks().iter().all(|check| check.endpoint == "/"), "nothing was smuggled in");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let world = start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /proxy/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {APP_KEY}\r\nconnection: close\r\n\
         expect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    within(stream.read_exact(&mut leave)).await.unwrap();
    assert_eq!(leave, *b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let seen = seen(&answer);
    assert_eq!((seen["body_bytes"].as_u64(), &seen["headers"]["expect"]), (Some(4), &Value::Null));
}

#[tokio::test]
async fn fields_behind_a_body_do_not_go_upstream() {
    let world = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.control.set_route(echo(listener.local_addr().unwrap()));
    let upstream = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"0\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "the request ends");
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        String::from_utf8(received).unwrap()
    };
    let lines = "POST /proxy/echo HTTP/1.1\nhost: x\ntransfer-encoding: chunked\ntrailer: x-api-key";
    let call = answer_to(&world, lines, "2\nab\n0\nx-api-key: rg_live_behind\n\n");
    let (answer, received) = within(async { tokio::join!(call, upstream) }).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(
        received.contains("\r\n2\r\nab\r\n0\r\n\r\n") && !received.contains("rg_live_behind"),
        "{received}"
    );
}

#[tokio::test]
async fn a_websocket_is_refused_in_words_and_an_offer_of_http2_is_ignored() {
    let world = start().await;
    let upgrade = |to: &str| format!("GET /proxy/echo HTTP/1.1\nhost: x\nupgrade: {to}");
    let answer = answer_to(&world, &upgrade("websocket"), "").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("websockets are not carried"), "{answer}");
    assert!(world.control.checks().is_empty());
    seen(&answer_to(&world, &upgrade("h2c"), "").await);
}

#[tokio::test]
async fn another_method_than_the_one_that_rules_see_is_refused_in_the_envelope_of_the_vendor() {
    let world = start().await;
    let headers = [("x-http-method-override", "POST")];
    let answer = world.send(world.request(Method::GET, CHAT, &headers, chat_body().to_string())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().unwrap().contains("x-http-method-override"), "{error}");
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn a_subject_that_stands_twice_is_refused() {
    let world = start().await;
    let headers = [("x-rateguard-subject", "customer-1"), ("x-rateguard-subject", "customer-2")];
    let answer = world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("twice"));
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn the_head_of_an_answer_comes_without_its_body_and_is_settled() {
    let world = start().await;
    let answer = answer_to(&world, "HEAD /proxy/echo HTTP/1.1\nhost: x", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let record = world.report().await;
    assert_eq!((record.method.as_str(), record.status_code, record.error_type.as_str()), ("HEAD", 200, ""));
}

#[tokio::test]
async fn methods_that_are_not_carried_are_405() {
    let world = start().await;
    for method in [Method::TRACE, Method::CONNECT] {
        let lines = format!("{method} /proxy/echo HTTP/1.1\nhost: x");
        let answer = answer_to(&world, &lines, "").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
    assert!(world.control.checks().is_empty());
}
