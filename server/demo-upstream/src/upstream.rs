//! The service as its owner sees it: what it is made of, how it is started, what can be read off it.

use std::{future::Future, io, sync::Arc, time::Duration};

use rateguard_serving::serve;
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::{
    bounds::{CHUNK_DELAY_MS_MAX, DELAY_MS_MAX, DRAIN_WAIT_MAX},
    call::Demo,
    knobs::Defaults,
    observations::Observations,
    router,
};

/// What a demo upstream is told when it is made.
#[derive(Debug, Clone)]
pub struct DemoUpstreamConfig {
    /// The credential that the vendors' paths want. An empty one matches no caller.
    pub credential: SecretString,
    /// Wait before each answer that asks for no wait itself; cut to [`DELAY_MS_MAX`]. Default: none.
    pub delay: Duration,
    /// Wait before each piece of a stream that asks for no wait itself; cut to [`CHUNK_DELAY_MS_MAX`].
    /// Default: none.
    pub chunk_delay: Duration,
}

/// A demo upstream, ready to be served. Clones share their observations.
#[derive(Debug, Clone)]
pub struct DemoUpstream {
    demo: Arc<Demo>,
}

impl DemoUpstreamConfig {
    /// A configuration with this credential and no waits.
    pub fn with_credential(credential: impl Into<SecretString>) -> Self {
        Self { credential: credential.into(), delay: Duration::ZERO, chunk_delay: Duration::ZERO }
    }
}

impl DemoUpstream {
    /// Makes a demo upstream; nothing runs before [`serve`](Self::serve).
    pub fn new(config: DemoUpstreamConfig) -> Self {
        let defaults = Defaults {
            delay: config.delay.min(Duration::from_millis(DELAY_MS_MAX)),
            chunk_delay: config.chunk_delay.min(Duration::from_millis(CHUNK_DELAY_MS_MAX)),
        };
        Self { demo: Arc::new(Demo::new(config.credential, defaults)) }
    }

    /// What this upstream has seen so far; stays readable while it serves and afterwards.
    pub fn observations(&self) -> Observations {
        self.demo.observations.clone()
    }

    /// Serves on the listener until `shutdown` completes, then lets calls in flight finish for at most
    /// [`DRAIN_WAIT_MAX`], as [`rateguard_serving::serve`] does it. Dropping the returned future cuts every
    /// connection.
    ///
    /// # Errors
    ///
    /// As [`rateguard_serving::serve`]: when the listener is broken.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        serve(listener, router::build(Arc::clone(&self.demo)), shutdown, DRAIN_WAIT_MAX).await
    }
}
