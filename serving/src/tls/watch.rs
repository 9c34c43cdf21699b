//! Looks after the files of a certificate, and says what becomes of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::expiry::{Nearness, Told};
use super::{Certificates, TlsError};

/// How often the files are looked at: three small reads, and soon enough for who has put a new one there.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Certificates {
    /// Serves what the files hold from [`LOOK_EVERY`] after they change, or as soon as `hangup` is
    /// received, until `stopping`. Says in the log what was taken, what was refused and why, and when
    /// the end of the certificate comes near, see [`EXPIRY_TOLD_DAYS`](super::EXPIRY_TOLD_DAYS).
    ///
    /// # Errors
    /// When looking at the files has panicked.
    pub async fn keep_current(
        self: Arc<Self>,
        mut hangup: Signal,
        stopping: CancellationToken,
    ) -> io::Result<()> {
        tracing::info!(certificate = ?self.files.certificate, ends_at = %self.ends_at(), "TLS is served");
        let mut looks = time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::nothing();
        loop {
            self.tell_of_end(&mut told);
            let look = async {
                tokio::select! {
                    biased;
                    _ = hangup.recv() => self.look_aside(|it| Some(it.reload(Timestamp::now()))).await,
                    _ = looks.tick() => self.look_aside(|it| it.reload_if_changed(Timestamp::now())).await,
                }
            };
            let looked = tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                looked = look => looked?,
            };
            if let Some(outcome) = looked {
                self.tell(outcome);
            }
        }
    }

    /// Looks at the files where that holds up nobody: they may lie on a network.
    async fn look_aside(
        self: &Arc<Self>,
        look: fn(&Self) -> Option<Result<(), TlsError>>,
    ) -> io::Result<Option<Result<(), TlsError>>> {
        let it = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || look(&it)).await?)
    }

    fn tell(&self, outcome: Result<(), TlsError>) {
        let (certificate, ends_at) = (&self.files.certificate, self.ends_at());
        match outcome {
            Ok(()) => tracing::info!(?certificate, %ends_at, "the certificate was read anew"),
            Err(error) => {
                let reason = with_causes(&error);
                tracing::error!(reason, still_served_until = %ends_at, "the new certificate was refused");
            }
        }
    }

    fn tell_of_end(&self, told: &mut Told) {
        let (certificate, ends_at) = (&self.files.certificate, self.ends_at());
        match told.news(ends_at, Timestamp::now()) {
            None | Some(Nearness::Far) => {}
            Some(Nearness::Over) => tracing::error!(?certificate, %ends_at, "the certificate has ended"),
            Some(Nearness::Days(days @ ..=1)) => {
                tracing::error!(?certificate, %ends_at, within_days = days, "the certificate is about to end");
            }
            Some(Nearness::Days(days)) => {
                tracing::warn!(?certificate, %ends_at, within_days = days, "the certificate ends soon");
            }
        }
    }
}

/// An error and what has caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
