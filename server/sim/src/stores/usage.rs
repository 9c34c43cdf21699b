//! The shared store of usage: what was rolled up, and the log's own events. One life at a time leads.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::Position;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;
use rateguard_engine::ports::{
    EventPage, EventQuery, SeriesPoint, SeriesQuery, StoreError, Summary, UsageFilter, UsageStore,
};

use super::log::LogServer;
use crate::network::{Life, Link, Nature, World};
use crate::steps::Step;

/// The store itself.
pub struct UsageServer {
    world: Arc<World>,
    log: Arc<LogServer>,
    cursor: Mutex<Position>,
    leader: Mutex<Weak<Life>>,
}

impl UsageServer {
    /// A store in which nothing is rolled up.
    pub fn new(world: Arc<World>, log: Arc<LogServer>) -> Arc<Self> {
        Arc::new(Self { world, log, cursor: Mutex::default(), leader: Mutex::default() })
    }

    fn roll_up(&self, events: &[LoggedEvent]) {
        let mut cursor = self.cursor.lock();
        let new: Vec<LoggedEvent> =
            events.iter().filter(|logged| logged.position > *cursor).cloned().collect();
        let Some(last) = new.last() else { return };
        *cursor = last.position;
        let at_ms = self.world.time.elapsed_ms();
        self.world.history.lock().record(at_ms, &Step::RolledUp(new));
    }

    fn leads(&self, life: &Arc<Life>) -> bool {
        let mut leader = self.leader.lock();
        let leading = leader.upgrade().filter(|leading| leading.is_alive());
        match leading {
            Some(leading) => Arc::ptr_eq(&leading, life),
            None => {
                *leader = Arc::downgrade(life);
                true
            }
        }
    }

    fn page(&self, query: &EventQuery) -> EventPage {
        let before = query.before.unwrap_or(Position(u64::MAX));
        let of_it = |logged: &LoggedEvent| {
            let reservation = query.filter.reservation.as_ref();
            reservation.is_none_or(|id| logged.event.reservation.as_ref() == Some(id))
        };
        let mut events = self.log.events();
        events.retain(|logged| logged.position < before && of_it(logged));
        events.reverse();
        events.truncate(query.limit);
        let next_before = events.last().map(|last| last.position).filter(|_| events.len() == query.limit);
        EventPage { events, next_before }
    }
}

/// The store as one replica reaches it.
pub struct LinkedUsage {
    /// The way.
    pub link: Link,
    /// The store.
    pub server: Arc<UsageServer>,
}

#[async_trait]
impl UsageStore for LinkedUsage {
    async fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        let (server, events) = (self.server.clone(), Arc::new(events.to_vec()));
        let work = move || {
            let (server, events) = (server.clone(), events.clone());
            Box::pin(async move {
                server.roll_up(&events);
                Ok(())
            }) as _
        };
        self.link.ask(Nature::Repeatable, Arc::new(work)).await
    }

    async fn cursor(&self) -> Result<Position, StoreError> {
        let server = self.server.clone();
        let work = move || {
            let cursor = *server.cursor.lock();
            Box::pin(async move { Ok(cursor) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }

    async fn try_lead(&self) -> Result<bool, StoreError> {
        let (server, life) = (self.server.clone(), self.link.life.clone());
        let work = move || {
            let leads = server.leads(&life);
            Box::pin(async move { Ok(leads) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }

    async fn events(&self, _: &WorkspaceId, query: &EventQuery) -> Result<EventPage, StoreError> {
        let (server, query) = (self.server.clone(), query.clone());
        let work = move || {
            let page = server.page(&query);
            Box::pin(async move { Ok(page) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }

    async fn accounted_after(
        &self,
        _: &WorkspaceId,
        _: (Millis, Position),
        _: Position,
        _: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        Err(not_asked())
    }

    async fn summary(&self, _: &WorkspaceId, _: &UsageFilter) -> Result<Summary, StoreError> {
        Err(not_asked())
    }

    async fn series(&self, _: &WorkspaceId, _: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError> {
        Err(not_asked())
    }
}

/// Runs ask no such questions.
fn not_asked() -> StoreError {
    StoreError::Unavailable { store: "usage", detail: "the simulation has no analytics".to_owned() }
}
