//! Handshakes of TLS that are under way: each under a deadline, and no more than a bound at once.
//!
//! Who comes when the bound is reached takes the place of the handshake that has been under way for
//! longest. So peers that are slow, or silent on purpose, end each other; a handshake that does its few
//! round trips is through long before its turn would come.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::tls::Tls;

/// What a listener's handshakes are made with. Clones share their places.
#[derive(Clone)]
pub(crate) struct Handshakes {
    tls: Tls,
    wait_max: Duration,
    places: Arc<Places>,
}

/// The handshakes under way, the oldest first.
struct Places {
    at_once_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// A handshake's place, given up when it is dropped.
struct Place {
    number: u64,
    /// Cancelled when somebody else has got the place.
    lost: CancellationToken,
    places: Arc<Places>,
}

impl Handshakes {
    pub(crate) fn new(tls: Tls, wait_max: Duration, at_once_max: usize) -> Self {
        Self { tls, wait_max, places: Arc::new(Places { at_once_max, taken: Mutex::default() }) }
    }

    /// Agrees with the peer on how to encrypt.
    ///
    /// # Errors
    /// When they cannot agree, the peer takes too long, or too many others have come meanwhile.
    pub(crate) async fn shake<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = Place::take(&self.places);
        let accepted = TlsAcceptor::from(self.tls.current()).accept(stream);
        tokio::select! {
            biased;
            () = place.lost.cancelled() => Err(io::Error::other("too many handshakes are under way")),
            accepted = time::timeout(self.wait_max, accepted) => accepted?,
        }
    }
}

impl Place {
    fn take(places: &Arc<Places>) -> Self {
        let lost = CancellationToken::new();
        let mut taken = places.taken.lock();
        if taken.by_age.len() >= places.at_once_max
            && let Some((_, oldest)) = taken.by_age.pop_first()
        {
            oldest.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_age.insert(number, lost.clone());
        Self { number, lost, places: Arc::clone(places) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().by_age.remove(&self.number);
    }
}
