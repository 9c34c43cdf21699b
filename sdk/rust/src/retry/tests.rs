use std::cell::RefCell;
use std::future::{pending, ready};

use rateguard_proto::ERROR_DOMAIN;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

const WITHIN: Duration = Duration::from_secs(3);

fn away(retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(retry_after);
    Status::with_error_details(Code::Unavailable, "away", details)
}

/// Asks a server that gives these answers, and says how often it was asked.
async fn asked(answers: Vec<Result<u8, Status>>) -> (Result<u8, Error>, usize) {
    let (left, ids) = (RefCell::new(answers.into_iter()), RefCell::new(Vec::new()));
    let send = |request: Request<&'static str>| {
        ids.borrow_mut().push(request.into_inner());
        ready(left.borrow_mut().next().unwrap_or(Err(away(None))).map(Response::new))
    };
    let answer = ask(&"the same id", WITHIN, send).await;
    assert!(ids.borrow().iter().all(|id| *id == "the same id"));
    let tries = ids.borrow().len();
    (answer, tries)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_moment_is_asked_again() {
    assert_eq!(asked(vec![Err(away(None)), Err(away(None)), Ok(7)]).await, (Ok(7), 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_asked_so_often_and_no_more() {
    let began = Instant::now();
    let (answer, tries) = asked(Vec::new()).await;
    assert!(answer.unwrap_err().is_passing());
    assert_eq!(tries, 4);
    assert!(began.elapsed() <= PAUSE * 7, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_not_asked_again() {
    let (answer, tries) = asked(vec![Err(Status::permission_denied("no"))]).await;
    assert_eq!((answer.unwrap_err().to_string(), tries), ("no".to_owned(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_with_the_question_open_is_no_answer() {
    for code in [Code::Unknown, Code::Cancelled, Code::Internal] {
        assert_eq!(asked(vec![Err(Status::new(code, "reset")), Ok(7)]).await, (Ok(7), 2), "{code}");
    }
    let always = (0..TRIES_MAX).map(|_| Err(Status::unknown("reset"))).collect();
    assert_eq!(asked(always).await, (Err(Error::Lost { message: "reset".to_owned() }), 4));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_itself_says_with_the_same_codes_is_an_answer() {
    for code in [Code::Unknown, Code::Cancelled, Code::Internal] {
        let said = |domain| {
            let details = ErrorDetails::with_error_info("INTERNAL", domain, []);
            Status::with_error_details(code, "a mistake", details)
        };
        let (answer, tries) = asked(vec![Err(said(ERROR_DOMAIN)), Ok(7)]).await;
        assert_eq!((answer.unwrap_err().to_string(), tries), ("a mistake".to_owned(), 1), "{code}");
        assert_eq!(asked(vec![Err(said("balancer.example")), Ok(7)]).await, (Ok(7), 2), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_as_long_as_the_server_says_or_does_not_wait_at_all() {
    let began = Instant::now();
    let second = Some(Duration::from_secs(1));
    assert_eq!(asked(vec![Err(away(second)), Ok(7)]).await, (Ok(7), 2));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let began = Instant::now();
    let (answer, tries) = asked(vec![Err(away(Some(WITHIN)))]).await;
    assert!(answer.is_err() && tries == 1);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_waited_for_longer_than_that() {
    let began = Instant::now();
    let never = |_: Request<()>| pending::<Result<Response<u8>, Status>>();
    assert_eq!(ask(&(), WITHIN, never).await, Err(Error::Deadline));
    assert_eq!(began.elapsed(), WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_transport_breaks_off_at_the_deadline_had_no_answer_in_time() {
    let breaks_off = async |_: Request<()>| {
        sleep(WITHIN).await;
        Err::<Response<u8>, _>(Status::cancelled("time is over"))
    };
    assert_eq!(ask(&(), WITHIN, breaks_off).await, Err(Error::Deadline));
}
