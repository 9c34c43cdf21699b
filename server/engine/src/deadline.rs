//! Deadlines of calls to other programs, counted by the time in which this one was there to hear the answer.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// Turns of whoever reads answers, when the time is over: one to be told of the socket, one to read it, one to
/// hand over what it read.
const LAST_TURNS: usize = 3;

/// Longest wait behind a deadline whose timer came late.
pub const LATE_MAX: Duration = Duration::from_millis(5);

/// The outcome of a call, if it is there by an instant.
///
/// A process that gets no processor hears neither its timers nor its sockets. An answer that lies there unread is
/// no silence of whoever sent it: the call is waited for as much longer as the timer came late, at most
/// [`LATE_MAX`], and whoever reads answers has a last turn.
pub async fn by<T>(deadline: Instant, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    if let Ok(outcome) = timeout_at(deadline, &mut call).await {
        return Some(outcome);
    }
    let now = Instant::now();
    let late = now.saturating_duration_since(deadline).min(LATE_MAX);
    if let Ok(outcome) = timeout_at(now + late, &mut call).await {
        return Some(outcome);
    }
    for _ in 0..LAST_TURNS {
        yield_now().await;
        if let Poll::Ready(outcome) = poll!(&mut call) {
            return Some(outcome);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use tokio::sync::oneshot;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(20);

    /// An answer that takes some turns of others to arrive.
    fn answer_in_turns(turns: usize) -> oneshot::Receiver<()> {
        let (told, heard) = oneshot::channel();
        tokio::spawn(async move {
            for _ in 0..turns {
                yield_now().await;
            }
            told.send(()).unwrap();
        });
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_at_its_deadline() {
        let begun = Instant::now();
        assert_eq!(by(begun + WITHIN, pending::<()>()).await, None);
        assert!(begun.elapsed() <= WITHIN + Duration::from_millis(1), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_had_time_to_read_is_no_silence() {
        let answer = answer_in_turns(8);
        // Nothing of this process runs meanwhile: no timer, no reader.
        let busy = async { std::thread::sleep(WITHIN * 3) };
        let (heard, ()) = tokio::join!(by(Instant::now() + WITHIN, answer), busy);
        assert!(heard.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_has_a_last_turn() {
        let heard = by(Instant::now(), answer_in_turns(1)).await;
        assert!(heard.is_some());
    }
}
