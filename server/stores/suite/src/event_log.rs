//! What every [`EventLog`] promises.

pub mod samples;

use std::collections::HashSet;

use async_trait::async_trait;
use futures::future::try_join_all;
use rateguard_core::counter::Position;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::money::Nanos;
use rateguard_core::usage::{EventFlags, LoggedEvent, UsageEvent};
use rateguard_engine::ports::{AppendOutcome, Appended, EventLog, StoreError};

use crate::Backend;
use samples::{attempt_of, event, event_id, full_event, varied, workspace};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// More events than any case makes.
const ALL: usize = 10_000;
/// Appenders at once.
const APPENDERS: usize = 16;
/// Events of each of them.
const EVENTS_EACH: usize = 25;
/// Reads while a writer is held open.
const READS_MEANWHILE: usize = 20;
/// Appends after which a store without room must have refused one.
const FILLING_APPENDS_MAX: usize = 2_000;

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`].
#[macro_export]
macro_rules! event_log_suite {
    ($backend:expr) => {
        $crate::event_log_suite!(@cases $backend;
            a_new_log_is_empty
            an_event_comes_back_as_it_was_appended
            events_are_read_in_the_order_of_appends
            batches_of_every_size_go_in_whole
            an_append_tells_where_the_log_ended_before_it
            an_id_counts_once
            an_id_counts_once_within_a_batch
            a_duplicate_among_many_is_told_apart
            an_attempt_is_settled_once
            attempts_of_the_servers_own_may_recur
            a_later_copy_does_not_stand_for_an_earlier_one
            workspaces_do_not_see_each_other
            a_read_gives_no_more_than_its_limit
            many_appenders_at_once_lose_nothing
            a_writer_that_is_held_up_hides_nothing
            a_restart_keeps_events_ids_and_positions
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::event_log::$case(&$backend).await
            }
        )*
    };
}

/// Storage in which a test can keep an append open.
#[async_trait]
pub trait SlowAppends: Backend {
    /// Appends an event and keeps the transaction open.
    async fn begin_append(&self, event: UsageEvent) -> Box<dyn OpenAppend>;
}

/// An append whose transaction is open.
#[async_trait]
pub trait OpenAppend: Send {
    /// Commits it.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Storage whose room a test can take away.
#[async_trait]
pub trait Fillable: Backend {
    /// Lets the store grow no more than a little.
    async fn take_room(&self, store: &Self::Store);
    /// Lets it grow again.
    async fn give_room(&self, store: &Self::Store);
}

/// A new log holds nothing and ends before the first position.
pub async fn a_new_log_is_empty<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    assert_eq!(log.end().await?, Position(0));
    assert_eq!(log.read_after(Position(0), ALL).await?, []);
    assert_eq!(log.append(&[]).await?, Appended::default());
    assert_eq!(log.find(&workspace("ws_a"), &event_id("1")).await?, None);
    Ok(())
}

/// Every part of an event survives, set or not.
pub async fn an_event_comes_back_as_it_was_appended<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let events = [full_event("ws_a", "full"), event("ws_a", "plain")];
    let positions = appended(log.append(&events).await?.outcomes);
    assert_eq!(read_all(&log).await?, logged(&positions, &events));
    for (event, position) in events.iter().zip(positions) {
        let found = log.find(&event.workspace, &event.event_id).await?;
        assert_eq!(found, Some(LoggedEvent { position, event: event.clone() }));
    }
    Ok(())
}

/// Positions begin at 1 and rise; the end is the last one.
pub async fn events_are_read_in_the_order_of_appends<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let mut positions = Vec::new();
    let events = varied(1, 60);
    for batch in events.chunks(7) {
        positions.extend(appended(log.append(batch).await?.outcomes));
        assert_eq!(Some(&log.end().await?), positions.last());
    }
    assert_eq!(positions[0], Position(1));
    assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
    assert_eq!(read_all(&log).await?, logged(&positions, &events));
    Ok(())
}

/// A batch may be as large as several full reports.
pub async fn batches_of_every_size_go_in_whole<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let sizes = [1, 2, 31, 255, 256, 257, BATCH_RECORDS_MAX, 2 * BATCH_RECORDS_MAX + 1];
    for (round, size) in sizes.into_iter().enumerate() {
        let events: Vec<_> = (0..size).map(|place| event("ws_a", &format!("{round}-{place}"))).collect();
        let before = log.end().await?;
        let positions = appended(log.append(&events).await?.outcomes);
        assert_eq!(log.read_after(before, ALL).await?, logged(&positions, &events));
    }
    Ok(())
}

/// Whoever follows the log learns from an append whether others have written in between, also where
/// nothing of it goes in.
pub async fn an_append_tells_where_the_log_ended_before_it<B: Backend<Store: EventLog>>(
    backend: &B,
) -> Outcome {
    let log = backend.open().await;
    let events = [event("ws_a", "1"), event("ws_a", "2")];
    for again in [false, true, true] {
        let end = log.end().await?;
        let appended = log.append(&events).await?;
        assert_eq!(appended.before, end);
        assert_eq!(matches!(appended.outcomes[0], AppendOutcome::Duplicate { .. }), again);
    }
    let appended = log.append(&[event("ws_a", "1"), event("ws_a", "3")]).await?;
    assert_eq!(
        (appended.before, appended.outcomes.last()),
        (Position(2), Some(&AppendOutcome::Appended(log.end().await?)))
    );
    Ok(())
}

/// The second event of an id is answered with the first one's place, cost and flags, whatever else
/// differs, and is not kept.
pub async fn an_id_counts_once<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let (cost, flags) = (Nanos::from_stored(42), EventFlags::PRICE_UNKNOWN);
    let first = UsageEvent { cost, flags, ..event("ws_a", "1") };
    let position = appended(log.append(std::slice::from_ref(&first)).await?.outcomes)[0];
    let outcomes = log.append(&[full_event("ws_a", "1"), event("ws_a", "2")]).await?.outcomes;
    assert_eq!(outcomes[0], AppendOutcome::Duplicate { position, cost, flags });
    assert!(matches!(outcomes[1], AppendOutcome::Appended(next) if next > position), "{outcomes:?}");
    assert_eq!(read_all(&log).await?.len(), 2);
    assert_eq!(
        log.find(&first.workspace, &first.event_id).await?,
        Some(LoggedEvent { position, event: first })
    );
    Ok(())
}

/// Of two events of one id in one batch the first one wins.
pub async fn an_id_counts_once_within_a_batch<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let cost = Nanos::from_stored(7);
    let first = UsageEvent { cost, ..event("ws_a", "1") };
    let outcomes = log.append(&among_others([first.clone(), event("ws_a", "1")])).await?.outcomes;
    let AppendOutcome::Appended(position) = outcomes[0] else { panic!("{:?}", outcomes[0]) };
    assert_eq!(outcomes[1], AppendOutcome::Duplicate { position, cost, flags: first.flags });
    let others = appended(outcomes[2..].to_vec());
    assert_eq!(read_all(&log).await?[0].event, first);
    assert_eq!(Some(&log.end().await?), others.last());
    Ok(())
}

/// In a large batch each event has its own answer, in order.
pub async fn a_duplicate_among_many_is_told_apart<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let events: Vec<_> = (0..BATCH_RECORDS_MAX).map(|place| event("ws_a", &format!("{place}"))).collect();
    let every_third: Vec<_> = events.iter().step_by(3).cloned().collect();
    let first = appended(log.append(&every_third).await?.outcomes);
    let outcomes = log.append(&events).await?.outcomes;
    for (place, outcome) in outcomes.iter().enumerate() {
        match outcome {
            AppendOutcome::Duplicate { position, .. } => {
                assert_eq!((place % 3, *position), (0, first[place / 3]))
            }
            AppendOutcome::Appended(_) => assert_ne!(place % 3, 0),
            AppendOutcome::AttemptTaken { .. } => panic!("event {place} names no attempt"),
        }
    }
    assert_eq!(read_all(&log).await?.len(), events.len());
    Ok(())
}

/// A second event on an attempt is refused, naming the first; another attempt and another
/// reservation are free.
pub async fn an_attempt_is_settled_once<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let taken = AppendOutcome::AttemptTaken { first: event_id("1") };
    let outcomes =
        log.append(&[attempt_of("ws_a", "1", 1, 1), attempt_of("ws_a", "2", 1, 1)]).await?.outcomes;
    assert_eq!(outcomes[1], taken);
    assert_eq!(log.append(&[attempt_of("ws_a", "3", 1, 1)]).await?.outcomes, [taken]);
    let others =
        [attempt_of("ws_a", "4", 1, 2), attempt_of("ws_a", "5", 2, 1), attempt_of("ws_b", "6", 1, 1)];
    appended(log.append(&others).await?.outcomes);
    let again = log.append(&[attempt_of("ws_a", "1", 1, 1)]).await?.outcomes;
    assert!(matches!(again[0], AppendOutcome::Duplicate { .. }), "the id comes first: {again:?}");
    Ok(())
}

/// Attempt 0 stands for the server's own events, of which a reservation may have several.
pub async fn attempts_of_the_servers_own_may_recur<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    appended(log.append(&[attempt_of("ws_a", "1", 1, 0), attempt_of("ws_a", "2", 1, 0)]).await?.outcomes);
    Ok(())
}

/// An event whose attempt is taken is told so, also when an event of the same id goes in after it.
pub async fn a_later_copy_does_not_stand_for_an_earlier_one<B: Backend<Store: EventLog>>(
    backend: &B,
) -> Outcome {
    let log = backend.open().await;
    let batch = [attempt_of("ws_a", "1", 1, 1), attempt_of("ws_a", "2", 1, 1), event("ws_a", "2")];
    let outcomes = log.append(&among_others(batch)).await?.outcomes;
    assert_eq!(outcomes[1], AppendOutcome::AttemptTaken { first: event_id("1") });
    appended(outcomes[2..].to_vec());
    Ok(())
}

/// The same id, and the same reservation's attempt, of two workspaces are two.
pub async fn workspaces_do_not_see_each_other<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let events = [attempt_of("ws_a", "1", 1, 1), attempt_of("ws_b", "1", 1, 1)];
    let positions = appended(log.append(&events).await?.outcomes);
    for (event, position) in events.iter().zip(positions) {
        let found = log.find(&event.workspace, &event.event_id).await?;
        assert_eq!(found, Some(LoggedEvent { position, event: event.clone() }));
    }
    assert_eq!(log.find(&workspace("ws_c"), &event_id("1")).await?, None);
    Ok(())
}

/// Reading goes on after the last position seen, a few events at a time.
pub async fn a_read_gives_no_more_than_its_limit<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let events = varied(2, 10);
    appended(log.append(&events).await?.outcomes);
    let mut seen = Vec::new();
    let mut at = Position(0);
    loop {
        let some = log.read_after(at, 3).await?;
        assert!(some.len() <= 3);
        let Some(last) = some.last() else { break };
        at = last.position;
        seen.extend(some.into_iter().map(|logged| logged.event));
    }
    assert_eq!(seen, events);
    Ok(())
}

/// Of many appenders that share ids, each id goes in once, and everyone is told the same place.
pub async fn many_appenders_at_once_lose_nothing<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let appends = (0..APPENDERS).map(|appender| {
        let shared = appender / 2;
        let events: Vec<_> =
            (0..EVENTS_EACH).map(|place| event("ws_a", &format!("{shared}-{place}"))).collect();
        let log = &log;
        async move { log.append(&events).await }
    });
    let outcomes: Vec<_> =
        try_join_all(appends).await?.into_iter().flat_map(|appended| appended.outcomes).collect();
    let new = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Appended(_))).count();
    let places: HashSet<Position> = outcomes.iter().map(place_of).collect();
    let stored = read_all(&log).await?;
    let ids: HashSet<_> = stored.iter().map(|logged| logged.event.event_id.clone()).collect();
    let expected = APPENDERS / 2 * EVENTS_EACH;
    assert_eq!((new, places.len(), stored.len(), ids.len()), (expected, expected, expected, expected));
    Ok(())
}

/// While another writer is held up, reading goes on; an append waits or goes in, and is there
/// afterwards.
pub async fn a_writer_that_is_held_up_hides_nothing<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let first = event("ws_a", "1");
    appended(log.append(std::slice::from_ref(&first)).await?.outcomes);
    let Some(held) = backend.hold_writer().await else { return Ok(()) };
    let second = [event("ws_a", "2")];
    let append = log.append(&second);
    let meanwhile = async {
        for _ in 0..READS_MEANWHILE {
            assert_eq!(log.read_after(Position(0), 1).await?[0].event, first);
        }
        held.release().await;
        Ok(())
    };
    let (outcomes, ()) = futures::try_join!(append, meanwhile)?;
    appended(outcomes.outcomes);
    assert_eq!(read_all(&log).await?.len(), 2);
    Ok(())
}

/// A consumer that never looks back sees every event, also when an append that began first is
/// committed last.
pub async fn an_append_that_is_held_open_is_not_skipped<B: SlowAppends<Store: EventLog>>(
    backend: &B,
) -> Outcome {
    let log = backend.open().await;
    let open = backend.begin_append(event("ws_a", "slow")).await;
    let quick = [event("ws_a", "quick")];
    let append = log.append(&quick);
    let mut consumer = Consumer::default();
    let meanwhile = async {
        for _ in 0..READS_MEANWHILE {
            consumer.follow(&log).await?;
        }
        open.commit().await
    };
    let (outcomes, ()) = futures::try_join!(append, meanwhile)?;
    appended(outcomes.outcomes);
    consumer.follow(&log).await?;
    consumer.seen.sort_unstable();
    assert_eq!(consumer.seen, ["quick", "slow"]);
    Ok(())
}

/// Reads what is new, and never looks back.
#[derive(Default)]
struct Consumer {
    at: Position,
    seen: Vec<String>,
}

impl Consumer {
    async fn follow(&mut self, log: &impl EventLog) -> Outcome {
        for logged in log.read_after(self.at, ALL).await? {
            self.at = logged.position;
            self.seen.push(logged.event.event_id.as_str().to_owned());
        }
        Ok(())
    }
}

/// Without room an append is refused as surely not done; what was accepted is there, and with room
/// the same append goes in.
pub async fn a_full_disk_refuses_and_loses_nothing<B: Fillable<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    backend.take_room(&log).await;
    let mut accepted = Vec::new();
    let mut refused = None;
    for place in 0..FILLING_APPENDS_MAX {
        let event = UsageEvent { attempt: 0, ..full_event("ws_a", &format!("{place}")) };
        match log.append(std::slice::from_ref(&event)).await {
            Ok(_) => accepted.push(event),
            Err(error) => {
                refused = Some((event, error));
                break;
            }
        }
    }
    let (event, error) = refused.expect("the store refuses in the end");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(read_events(&log).await?, accepted);
    backend.give_room(&log).await;
    appended(log.append(std::slice::from_ref(&event)).await?.outcomes);
    accepted.push(event);
    backend.close(log).await;
    assert_eq!(read_events(&backend.open().await).await?, accepted);
    Ok(())
}

/// After a restart all is as it was, and positions go on.
pub async fn a_restart_keeps_events_ids_and_positions<B: Backend<Store: EventLog>>(backend: &B) -> Outcome {
    let log = backend.open().await;
    let events = varied(3, 300);
    appended(log.append(&events).await?.outcomes);
    appended(log.append(&[attempt_of("ws_a", "attempt", 99_999, 1)]).await?.outcomes);
    let (before, end) = (read_all(&log).await?, log.end().await?);
    backend.close(log).await;
    let log = backend.open().await;
    assert_eq!((read_all(&log).await?, log.end().await?), (before, end));
    let again = log.append(&events).await?.outcomes;
    assert!(again.iter().all(|outcome| matches!(outcome, AppendOutcome::Duplicate { .. })), "{again:?}");
    let taken = log.append(&[attempt_of("ws_a", "other", 99_999, 1)]).await?.outcomes;
    assert_eq!(taken, [AppendOutcome::AttemptTaken { first: event_id("attempt") }]);
    assert!(appended(log.append(&[event("ws_a", "new")]).await?.outcomes)[0] > end);
    Ok(())
}

/// A batch that is large enough for a store to take many of its events at once.
fn among_others<const N: usize>(events: [UsageEvent; N]) -> Vec<UsageEvent> {
    let others = (0..BATCH_RECORDS_MAX).map(|place| event("ws_a", &format!("other-{place}")));
    events.into_iter().chain(others).collect()
}

fn appended(outcomes: Vec<AppendOutcome>) -> Vec<Position> {
    let position = |outcome| match outcome {
        AppendOutcome::Appended(position) => position,
        other => panic!("expected to be appended: {other:?}"),
    };
    outcomes.into_iter().map(position).collect()
}

fn place_of(outcome: &AppendOutcome) -> Position {
    match outcome {
        AppendOutcome::Appended(position) | AppendOutcome::Duplicate { position, .. } => *position,
        AppendOutcome::AttemptTaken { first } => panic!("{first} holds an attempt that nobody named"),
    }
}

fn logged(positions: &[Position], events: &[UsageEvent]) -> Vec<LoggedEvent> {
    assert_eq!(positions.len(), events.len());
    let pairs = positions.iter().zip(events);
    pairs.map(|(position, event)| LoggedEvent { position: *position, event: event.clone() }).collect()
}

async fn read_all(log: &impl EventLog) -> Result<Vec<LoggedEvent>, StoreError> {
    log.read_after(Position(0), ALL).await
}

async fn read_events(log: &impl EventLog) -> Result<Vec<UsageEvent>, StoreError> {
    Ok(read_all(log).await?.into_iter().map(|logged| logged.event).collect())
}
