//! The shared event log: a list in memory that survives everything, behind links.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::Position;
use rateguard_core::ids::{EventId, ReservationId, WorkspaceId};
use rateguard_core::usage::{LoggedEvent, UsageEvent};
use rateguard_engine::ports::{AppendOutcome, Appended, EventLog, StoreError};

use crate::network::{Link, Nature, World};
use crate::steps::Step;

/// The log itself.
pub struct LogServer {
    world: Arc<World>,
    events: Mutex<Vec<LoggedEvent>>,
}

impl LogServer {
    /// An empty log.
    pub fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, events: Mutex::default() })
    }

    /// Everything that is in it.
    pub fn events(&self) -> Vec<LoggedEvent> {
        self.events.lock().clone()
    }

    fn append(&self, batch: &[UsageEvent]) -> Appended {
        let mut events = self.events.lock();
        let known = events.len();
        let before = events.last().map(|logged| logged.position).unwrap_or_default();
        let outcomes = batch.iter().map(|event| append_one(&mut events, event)).collect();
        let step = Step::Appended(events[known..].to_vec());
        let at_ms = self.world.time.elapsed_ms();
        self.world.history.lock().record(at_ms, &step);
        Appended { before, outcomes }
    }

    fn after(&self, position: Position, limit: usize) -> Vec<LoggedEvent> {
        let events = self.events.lock();
        events.iter().filter(|logged| logged.position > position).take(limit).cloned().collect()
    }
}

fn append_one(events: &mut Vec<LoggedEvent>, event: &UsageEvent) -> AppendOutcome {
    if let Some(LoggedEvent { position, event: first }) =
        events.iter().find(|logged| logged.event.event_id == event.event_id)
    {
        return AppendOutcome::Duplicate { position: *position, cost: first.cost, flags: first.flags };
    }
    let attempt = attempt_of(event);
    let taken = events.iter().find(|logged| attempt.is_some() && attempt_of(&logged.event) == attempt);
    if let Some(taken) = taken {
        return AppendOutcome::AttemptTaken { first: taken.event.event_id.clone() };
    }
    let position = Position(events.len() as u64 + 1);
    events.push(LoggedEvent { position, event: event.clone() });
    AppendOutcome::Appended(position)
}

/// What only one event may settle; events of the server's own are none.
fn attempt_of(event: &UsageEvent) -> Option<(ReservationId, u32)> {
    event.reservation.clone().filter(|_| event.attempt > 0).map(|id| (id, event.attempt))
}

/// The log as one replica reaches it.
pub struct LinkedLog {
    /// The way.
    pub link: Link,
    /// The log.
    pub server: Arc<LogServer>,
}

#[async_trait]
impl EventLog for LinkedLog {
    async fn append(&self, events: &[UsageEvent]) -> Result<Appended, StoreError> {
        let (server, events) = (self.server.clone(), Arc::new(events.to_vec()));
        let work = move || {
            let (server, events) = (server.clone(), events.clone());
            Box::pin(async move { Ok(server.append(&events)) }) as _
        };
        self.link.ask(Nature::Single, Arc::new(work)).await
    }

    async fn read_after(&self, position: Position, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let server = self.server.clone();
        let work = move || {
            let server = server.clone();
            Box::pin(async move { Ok(server.after(position, limit)) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }

    async fn end(&self) -> Result<Position, StoreError> {
        let server = self.server.clone();
        let end = move || Position(server.events.lock().len() as u64);
        let work = move || {
            let end = end();
            Box::pin(async move { Ok(end) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }

    async fn find(&self, _: &WorkspaceId, id: &EventId) -> Result<Option<LoggedEvent>, StoreError> {
        let (server, id) = (self.server.clone(), id.clone());
        let work = move || {
            let found = server.events.lock().iter().find(|logged| logged.event.event_id == id).cloned();
            Box::pin(async move { Ok(found) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }
}
