//! Whether a call's client is still there, and how long the call goes on without it.
//!
//! The work of a call is a task of its own, so that a client that leaves does not take it along: the
//! vendor bills the call all the same, and what it says was used has to be read.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::gateway::slots::Places;

/// The client of a call, as the call's task sees it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    gone: CancellationToken,
}

/// How long a call may go on without its client.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    pub(crate) places: Places,
    pub(crate) duration_max: Duration,
}

impl Client {
    /// A client that is there, and the guard whose drop says that it has left.
    pub(crate) fn present() -> (Self, DropGuard) {
        let gone = CancellationToken::new();
        (Self { gone: gone.clone() }, gone.drop_guard())
    }

    pub(crate) fn has_left(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Completes when the client has left and nobody has patience with the call any more.
    pub(crate) async fn given_up(&self, patience: &Patience) {
        self.gone.cancelled().await;
        let Some(_place) = patience.places.take() else { return };
        tokio::time::sleep(patience.duration_max).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    fn patience(places: usize) -> Patience {
        Patience { places: Places::new(places), duration_max: Duration::from_secs(60) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_for_a_while_after_its_client_has_left() {
        let (client, guard) = Client::present();
        let patience = patience(1);
        assert!(client.given_up(&patience).now_or_never().is_none());
        drop(guard);
        let left_at = Instant::now();
        client.given_up(&patience).await;
        assert_eq!(left_at.elapsed(), patience.duration_max);
    }

    #[tokio::test]
    async fn without_a_place_it_ends_at_once() {
        let (client, guard) = Client::present();
        drop(guard);
        assert!(client.given_up(&patience(0)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_client_that_was_answered_has_not_left() {
        let (client, guard) = Client::present();
        drop(guard.disarm());
        assert!(!client.has_left());
    }
}
