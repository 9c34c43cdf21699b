//! Routes that were resolved a moment ago.
//!
//! Keeping a route is safe although keys come and go: every call is checked anew before it is
//! forwarded, and the check refuses a key at once. A change of the API itself reaches the gateway
//! through the watch, and within [`crate::config::ROUTE_LIFETIME`] where the watch is down.

pub mod route;
pub mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::route::{Route, RouteError};
use crate::control::{AppKey, Control, ControlError, KeyDigest};

/// The routes that are kept, by key and slug: slugs are a workspace's own, and the key tells which.
#[derive(Debug)]
pub struct RouteCache {
    kept: Mutex<Kept>,
    lifetime: Duration,
    routes_max: usize,
}

/// Why there is no route.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The server gave none.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It gave one that cannot be used.
    #[error(transparent)]
    Unusable(#[from] RouteError),
    /// It gave an empty answer.
    #[error("the server named no route")]
    Missing,
}

type RouteKey = (KeyDigest, String);

#[derive(Debug, Default)]
struct Kept {
    routes: HashMap<RouteKey, Entry>,
    /// Grows when anything is forgotten: an answer that was asked for before is not kept after.
    epoch: u64,
}

#[derive(Debug)]
struct Entry {
    route: Arc<Route>,
    resolved_at: Instant,
}

impl RouteCache {
    /// An empty cache of `routes_max` routes, each believed for `lifetime`.
    pub fn new(lifetime: Duration, routes_max: usize) -> Self {
        Self { kept: Mutex::default(), lifetime, routes_max }
    }

    /// The route of an API, from here or from the server.
    ///
    /// # Errors
    /// As `ResolveRoute`, and where the route cannot be used.
    pub async fn resolve(
        &self,
        control: &Control,
        app: &AppKey,
        slug: &str,
    ) -> Result<Arc<Route>, ResolveError> {
        let key = (app.digest(), slug.to_owned());
        if let Some(route) = self.find(&key) {
            return Ok(route);
        }
        let epoch = self.kept.lock().epoch;
        let message = control.resolve_route(app, slug).await?.ok_or(ResolveError::Missing)?;
        let route = Arc::new(Route::try_from(message)?);
        self.keep(key, &route, epoch);
        Ok(route)
    }

    /// Forgets every copy of one API's route.
    pub fn forget(&self, api_id: &str) {
        let mut kept = self.kept.lock();
        kept.epoch += 1;
        kept.routes.retain(|_, entry| entry.route.api_id != api_id);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut kept = self.kept.lock();
        kept.epoch += 1;
        kept.routes.clear();
    }

    fn find(&self, key: &RouteKey) -> Option<Arc<Route>> {
        let kept = self.kept.lock();
        let fresh = kept.routes.get(key).filter(|entry| entry.resolved_at.elapsed() < self.lifetime);
        fresh.map(|entry| Arc::clone(&entry.route))
    }

    fn keep(&self, key: RouteKey, route: &Arc<Route>, epoch: u64) {
        let mut kept = self.kept.lock();
        if kept.epoch != epoch {
            return;
        }
        if kept.routes.len() >= self.routes_max {
            kept.routes.retain(|_, entry| entry.resolved_at.elapsed() < self.lifetime);
        }
        if kept.routes.len() < self.routes_max {
            let entry = Entry { route: Arc::clone(route), resolved_at: Instant::now() };
            kept.routes.insert(key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use rateguard_proto::internal_v1::Route as RouteMessage;
    use rateguard_proto::v1::ApiAuthScheme;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(5);

    fn route(api_id: &str) -> Arc<Route> {
        let message = RouteMessage {
            api_id: api_id.to_owned(),
            base_url: "https://api.example.com".to_owned(),
            auth_scheme: ApiAuthScheme::None.into(),
            ..RouteMessage::default()
        };
        Arc::new(Route::try_from(message).unwrap())
    }

    fn key(number: u8, slug: &str) -> RouteKey {
        ([number; 32], slug.to_owned())
    }

    fn keep(cache: &RouteCache, key: RouteKey, api_id: &str) {
        let epoch = cache.kept.lock().epoch;
        cache.keep(key, &route(api_id), epoch);
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_is_believed_for_its_lifetime_and_for_its_own_key_alone() {
        let cache = RouteCache::new(LIFETIME, 10);
        keep(&cache, key(1, "a"), "api_1");
        assert!(cache.find(&key(1, "a")).is_some());
        assert!(cache.find(&key(2, "a")).is_none());
        tokio::time::advance(LIFETIME).await;
        assert!(cache.find(&key(1, "a")).is_none());
    }

    #[tokio::test]
    async fn a_changed_api_is_forgotten_under_every_key() {
        let cache = RouteCache::new(LIFETIME, 10);
        for (key, api_id) in [(key(1, "a"), "api_1"), (key(2, "old"), "api_1"), (key(1, "b"), "api_2")] {
            keep(&cache, key, api_id);
        }
        cache.forget("api_1");
        assert!(cache.find(&key(1, "a")).is_none() && cache.find(&key(2, "old")).is_none());
        assert!(cache.find(&key(1, "b")).is_some());
    }

    #[tokio::test]
    async fn an_answer_that_a_change_overtook_is_not_kept() {
        let cache = RouteCache::new(LIFETIME, 10);
        let asked_at = cache.kept.lock().epoch;
        cache.clear();
        cache.keep(key(1, "a"), &route("api_1"), asked_at);
        assert!(cache.find(&key(1, "a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_takes_no_more_until_something_is_stale() {
        let cache = RouteCache::new(LIFETIME, 2);
        for number in 1..=3 {
            keep(&cache, key(number, "a"), "api_1");
        }
        assert!(cache.find(&key(3, "a")).is_none());
        tokio::time::advance(LIFETIME).await;
        keep(&cache, key(3, "a"), "api_1");
        assert!(cache.find(&key(3, "a")).is_some());
        assert_eq!(cache.kept.lock().routes.len(), 1);
    }
}
