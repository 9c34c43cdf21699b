//! When a task has its next turn: by its interval, or sooner when it is woken.

use std::future::pending;

use tokio::sync::watch;
use tokio::time::Interval;

/// What wakes a task before its time; nothing does where nobody notifies, or whoever did is gone.
#[derive(Debug)]
pub(crate) struct Wake(Option<watch::Receiver<u64>>);

impl Wake {
    /// By this value, whenever it changes from now on.
    pub(crate) fn by(notifications: Option<watch::Receiver<u64>>) -> Self {
        let seen = |mut receiver: watch::Receiver<u64>| {
            receiver.mark_unchanged();
            receiver
        };
        Self(notifications.map(seen))
    }

    /// Completes at the next turn.
    pub(crate) async fn turn(&mut self, ticks: &mut Interval) {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = self.woken() => {}
        }
    }

    async fn woken(&mut self) {
        let gone = match &mut self.0 {
            Some(receiver) => receiver.changed().await.is_err(),
            None => pending().await,
        };
        if gone {
            self.0 = None;
            pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, interval};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    /// How long a turn was waited for.
    async fn waited(wake: &mut Wake, ticks: &mut Interval) -> Duration {
        let begun = Instant::now();
        wake.turn(ticks).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_notification_comes_before_the_interval_and_none_comes_after_its_sender_is_gone() {
        let sender = watch::Sender::new(0);
        let (mut wake, mut ticks) = (Wake::by(Some(sender.subscribe())), interval(PERIOD));
        assert_eq!(waited(&mut wake, &mut ticks).await, Duration::ZERO);
        sender.send_replace(1);
        assert_eq!(waited(&mut wake, &mut ticks).await, Duration::ZERO);
        assert_eq!(waited(&mut wake, &mut ticks).await, PERIOD);
        drop(sender);
        assert_eq!(waited(&mut wake, &mut ticks).await, PERIOD);
    }

    #[tokio::test(start_paused = true)]
    async fn without_notifications_there_is_the_interval() {
        let (mut wake, mut ticks) = (Wake::by(None), interval(PERIOD));
        ticks.tick().await;
        assert_eq!(waited(&mut wake, &mut ticks).await, PERIOD);
    }
}
