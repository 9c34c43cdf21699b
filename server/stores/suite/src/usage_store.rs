//! What every [`UsageStore`] promises, beside the [`EventLog`] whose events it sums.

mod naive;
mod pages;
mod questions;

use rateguard_core::counter::Position;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::money::Nanos;
use rateguard_core::time::Millis;
use rateguard_core::usage::{EventKind, LoggedEvent, TokenCounts, UsageEvent};
use rateguard_engine::ports::{
    EventFilter, EventLog, EventPage, EventQuery, Granularity, GroupBy, SeriesQuery, StoreError, Summary,
    UsageFilter, UsageStore,
};

use crate::Backend;
use crate::event_log::samples::{Numbers, START_MS, WORKSPACES, event, varied, workspace};
use naive::assert_agrees;
pub use pages::{
    a_filter_that_few_events_pass_is_followed_to_its_end, events_are_listed_before_they_are_summed,
    events_are_read_in_the_order_in_which_they_count, every_filter_of_events_lists_what_fits,
    pages_go_back_from_the_newest,
};
use questions::{all_events, any_range, days, everything, filter_of, zone};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// More than any case makes.
const ALL: usize = 10_000;
/// Events of the cases that ask many questions.
const EVENTS: usize = 400;
/// Questions of each kind with values out of a seed.
const QUESTIONS: usize = 60;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Whole hours from UTC with a change of clocks among the events, half an hour, and a change of
/// half an hour.
const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];
const GRANULARITIES: [Granularity; 3] = [Granularity::Minute, Granularity::Hour, Granularity::Day];
const GROUPS: [Option<GroupBy>; 8] = [
    None,
    Some(GroupBy::Api),
    Some(GroupBy::Key),
    Some(GroupBy::Status),
    Some(GroupBy::Error),
    Some(GroupBy::Endpoint),
    Some(GroupBy::Subject),
    Some(GroupBy::Model),
];

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`] whose store is a log
/// and the usage beside it.
#[macro_export]
macro_rules! usage_store_suite {
    ($backend:expr) => {
        $crate::usage_store_suite!(@cases $backend;
            a_new_store_is_empty
            the_cursor_follows_the_events
            events_that_come_again_count_once
            a_restart_keeps_sums_and_cursor
            sums_of_any_range_equal_the_events
            sums_of_every_filter_equal_the_events
            series_of_every_kind_equal_the_events
            days_of_every_zone_equal_the_events
            days_may_begin_within_a_minute
            floors_and_corrections_count_their_cost_alone
            sums_pass_64_bits
            events_beyond_the_cursor_are_in_no_sum
            a_series_has_no_more_points_than_asked_for
            pages_go_back_from_the_newest
            a_filter_that_few_events_pass_is_followed_to_its_end
            events_are_read_in_the_order_in_which_they_count
            every_filter_of_events_lists_what_fits
            events_are_listed_before_they_are_summed
            workspaces_do_not_see_each_other
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::usage_store::$case(&$backend).await
            }
        )*
    };
}

/// A new store has summed nothing, and answers so.
pub async fn a_new_store_is_empty<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage) = backend.open().await;
    assert_eq!(usage.cursor().await?, Position(0));
    usage.apply(&[]).await?;
    let (owner, filter) = (workspace("ws_a"), everything());
    assert_eq!(usage.summary(&owner, &filter).await?, Summary::default());
    assert_eq!(usage.series(&owner, &days(filter, None, "UTC")).await?, []);
    assert_eq!(usage.events(&owner, &all_events()).await?, EventPage::default());
    Ok(())
}

/// After each batch the cursor is at its last position, and every answer says so.
pub async fn the_cursor_follows_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(1, 50)).await?;
    for batch in logged.chunks(20) {
        usage.apply(batch).await?;
        let last = batch[batch.len() - 1].position;
        assert_eq!(usage.cursor().await?, last);
        assert_eq!(usage.summary(&workspace("ws_a"), &everything()).await?.through, last);
        let series = usage.series(&workspace("ws_a"), &days(everything(), None, "UTC")).await?;
        assert!(series.iter().all(|point| point.summary.through == last));
    }
    Ok(())
}

/// A batch that is repeated, whole, in part, or with new events after it, adds what is new alone.
pub async fn events_that_come_again_count_once<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(2, 60)).await?;
    let doubled: Vec<_> = logged[..30].iter().flat_map(|event| [event.clone(), event.clone()]).collect();
    usage.apply(&doubled).await?;
    check_all_sums(&usage, &logged[..30]).await?;
    usage.apply(&logged[..30]).await?;
    usage.apply(&logged[10..20]).await?;
    check_all_sums(&usage, &logged[..30]).await?;
    usage.apply(&logged).await?;
    assert_eq!(usage.cursor().await?, logged[59].position);
    check_all_sums(&usage, &logged).await
}

/// After a restart sums go on where the cursor stands.
pub async fn a_restart_keeps_sums_and_cursor<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let store = backend.open().await;
    let logged = append(&store.0, &varied(3, 80)).await?;
    store.1.apply(&logged[..50]).await?;
    backend.close(store).await;
    let (log, usage) = backend.open().await;
    let cursor = usage.cursor().await?;
    assert_eq!(cursor, logged[49].position);
    usage.apply(&log.read_after(cursor, ALL).await?).await?;
    check_all_sums(&usage, &logged).await
}

/// At the cursor the sums by accounting time equal those over the events, in every range, also
/// where it cuts a minute.
pub async fn sums_of_any_range_equal_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 4).await?;
    let mut numbers = Numbers::new(4);
    for _ in 0..QUESTIONS {
        let filter = UsageFilter { accounted: any_range(&mut numbers), ..everything() };
        check_sum(&usage, "ws_a", &filter, &logged).await?;
    }
    let at = logged[0].event.accounted_at;
    for accounted in [at..at.plus(1), at.plus(1)..at.plus(2), at..at, at.plus(1)..at] {
        check_sum(&usage, "ws_a", &UsageFilter { accounted, ..everything() }, &logged).await?;
    }
    Ok(())
}

/// Filters by any parts, also by those that no rollup has together.
pub async fn sums_of_every_filter_equal_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 5).await?;
    let mut numbers = Numbers::new(5);
    for parts in 0..16 {
        for accounted in [everything().accounted, any_range(&mut numbers)] {
            let filter = UsageFilter { accounted, ..filter_of(parts, &mut numbers) };
            check_sum(&usage, "ws_b", &filter, &logged).await?;
        }
    }
    Ok(())
}

/// Series of every length and split, over any range and filter.
pub async fn series_of_every_kind_equal_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 6).await?;
    let mut numbers = Numbers::new(6);
    for granularity in GRANULARITIES {
        for group_by in GROUPS {
            for parts in [0, numbers.below(16)] {
                let filter =
                    UsageFilter { accounted: any_range(&mut numbers), ..filter_of(parts, &mut numbers) };
                let zone = zone(numbers.one_of(&ZONES));
                let query = SeriesQuery { filter, granularity, group_by, zone, points_max: ALL };
                check_series(&usage, "ws_a", &query, &logged).await?;
            }
        }
    }
    Ok(())
}

/// Days follow the zone's clocks, also where they change and where they are no whole hours from
/// UTC.
pub async fn days_of_every_zone_equal_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 7).await?;
    let week = Millis::new(START_MS - DAY_MS)..Millis::new(START_MS + 6 * DAY_MS);
    for name in ZONES {
        for group_by in GROUPS {
            let filter = UsageFilter { accounted: week.clone(), ..everything() };
            check_series(&usage, "ws_a", &days(filter, group_by, name), &logged).await?;
        }
    }
    Ok(())
}

/// Monrovia's days began at 00:44:30 UTC until 1972: events of one minute belong to two days.
pub async fn days_may_begin_within_a_minute<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let midnight = 44 * MINUTE_MS + MINUTE_MS / 2;
    let at = |place: i64| {
        Millis::new(DAY_MS * (1 + place / 4) + midnight + [-20_000, -1, 0, 20_000][place as usize % 4])
    };
    let events: Vec<_> = (0..12)
        .map(|place| UsageEvent { accounted_at: at(place), ..event("ws_a", &format!("{place}")) })
        .collect();
    let logged = append(&log, &events).await?;
    usage.apply(&logged).await?;
    for start in [DAY_MS, DAY_MS + midnight - 10_000, DAY_MS + midnight] {
        let accounted = Millis::new(start)..Millis::new(9 * DAY_MS);
        let filter = UsageFilter { accounted, ..everything() };
        let query = SeriesQuery { filter, zone: zone("Africa/Monrovia"), ..days(everything(), None, "UTC") };
        check_series(&usage, "ws_a", &query, &logged).await?;
    }
    Ok(())
}

/// An event that is no call of its own counts its cost, below zero for a correction, and nothing
/// else.
pub async fn floors_and_corrections_count_their_cost_alone<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let of_kind = |id: &str, kind, cost| {
        let tokens = TokenCounts { input_total: Some(5), output: Some(7), ..TokenCounts::default() };
        UsageEvent { kind, cost: Nanos::from_stored(cost), tokens, ..event("ws_a", id) }
    };
    let events = [
        of_kind("1", EventKind::Expired, 100),
        of_kind("2", EventKind::Correction, -130),
        of_kind("3", EventKind::Usage, 20),
    ];
    usage.apply(&append(&log, &events).await?).await?;
    let told = usage.summary(&workspace("ws_a"), &everything()).await?;
    let counts = (told.requests, told.cost_nanos, told.input_tokens, told.output_tokens);
    assert_eq!(counts, (1, -10, 5, 7));
    Ok(())
}

/// Ten events of the largest cost, and of its opposite, add up exactly.
pub async fn sums_pass_64_bits<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let largest = 1_000_000_000_000_000_000;
    for (owner, cost) in [("ws_a", largest), ("ws_b", -largest)] {
        for round in 0..2 {
            let costly = |place| UsageEvent {
                cost: Nanos::from_stored(cost),
                ..event(owner, &format!("{round}-{place}"))
            };
            usage.apply(&append(&log, &(0..10).map(costly).collect::<Vec<_>>()).await?).await?;
        }
        let expected = 20 * i128::from(cost);
        assert_eq!(usage.summary(&workspace(owner), &everything()).await?.cost_nanos, expected);
        let at = Millis::new(START_MS);
        let raw = UsageFilter { accounted: at..at.plus(1), ..everything() };
        assert_eq!(usage.summary(&workspace(owner), &raw).await?.cost_nanos, expected);
    }
    Ok(())
}

/// What is in the log but not applied is in no sum, also where sums come from raw events.
pub async fn events_beyond_the_cursor_are_in_no_sum<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(8, 100)).await?;
    usage.apply(&logged[..60]).await?;
    let mut numbers = Numbers::new(8);
    for parts in 0..16 {
        let filter = UsageFilter { accounted: any_range(&mut numbers), ..filter_of(parts, &mut numbers) };
        check_sum(&usage, "ws_a", &filter, &logged[..60]).await?;
    }
    Ok(())
}

/// More points than asked for are an error, not a cut.
pub async fn a_series_has_no_more_points_than_asked_for<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 9).await?;
    let owner = workspace("ws_a");
    for granularity in GRANULARITIES {
        let query = SeriesQuery { granularity, ..days(everything(), Some(GroupBy::Key), "UTC") };
        let points = naive::series(&owner, &query, &logged).len();
        let exact = usage.series(&owner, &SeriesQuery { points_max: points, ..query.clone() }).await?;
        assert_eq!(exact.len(), points);
        let refused = usage.series(&owner, &SeriesQuery { points_max: points - 1, ..query }).await;
        assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    }
    Ok(())
}

/// Nothing of one workspace is in an answer to another.
pub async fn workspaces_do_not_see_each_other<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (_log, usage, logged) = summed(backend, 12).await?;
    for owner in WORKSPACES {
        let events = usage.events(&workspace(owner), &all_events()).await?.events;
        assert_eq!(events, listed(owner, &EventFilter::default(), &logged));
    }
    let stranger = workspace("ws_stranger");
    assert_eq!(usage.events(&stranger, &all_events()).await?, EventPage::default());
    let told = usage.summary(&stranger, &everything()).await?;
    assert_eq!(told, Summary { through: usage.cursor().await?, ..Summary::default() });
    let first = &logged[0].event;
    let foreign = EventFilter { event_id: Some(first.event_id.clone()), ..EventFilter::default() };
    let other = WORKSPACES.into_iter().find(|owner| *owner != first.workspace.as_str());
    let query = EventQuery { filter: foreign, ..all_events() };
    let page = usage.events(&workspace(other.unwrap_or("ws_stranger")), &query).await?;
    assert_eq!(page, EventPage::default());
    Ok(())
}

/// For any set of events, cut into any batches with repetitions, the sums of every workspace equal
/// those over its events. For property tests of a back end.
pub async fn sums_equal_the_events<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
    seed: u64,
    count: usize,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(seed, count)).await?;
    let mut numbers = Numbers::new(seed);
    let mut through = 0;
    while through < logged.len() {
        let step = usize::try_from(1 + numbers.below(40)).unwrap_or(1);
        let again = usize::try_from(numbers.below(20)).unwrap_or(0);
        let to = (through + step).min(logged.len());
        usage.apply(&logged[through.saturating_sub(again)..to]).await?;
        through = to;
    }
    check_all_sums(&usage, &logged).await?;
    let accounted = any_range(&mut numbers);
    let parts = numbers.below(16);
    let filter = UsageFilter { accounted, ..filter_of(parts, &mut numbers) };
    check_sum(&usage, "ws_a", &filter, &logged).await?;
    let query = days(filter, numbers.one_of(&GROUPS), numbers.one_of(&ZONES));
    check_series(&usage, "ws_a", &query, &logged).await
}

async fn summed<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
    seed: u64,
) -> Result<(L, U, Vec<LoggedEvent>), StoreError> {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(seed, EVENTS)).await?;
    usage.apply(&logged).await?;
    Ok((log, usage, logged))
}

async fn append(log: &impl EventLog, events: &[UsageEvent]) -> Result<Vec<LoggedEvent>, StoreError> {
    let before = log.end().await?;
    log.append(events).await?;
    let logged = log.read_after(before, ALL).await?;
    assert_eq!(logged.len(), events.len(), "every event went in");
    Ok(logged)
}

async fn check_all_sums(usage: &impl UsageStore, logged: &[LoggedEvent]) -> Outcome {
    for owner in WORKSPACES {
        check_sum(usage, owner, &everything(), logged).await?;
    }
    Ok(())
}

async fn check_sum(
    usage: &impl UsageStore,
    owner: &str,
    filter: &UsageFilter,
    logged: &[LoggedEvent],
) -> Outcome {
    let owner = workspace(owner);
    let told = usage.summary(&owner, filter).await?;
    let events = logged.iter().map(|logged| &logged.event);
    let expected = naive::summary(events.filter(|event| naive::is_summed(&owner, filter, event)));
    assert_agrees(&told, &expected, filter);
    Ok(())
}

async fn check_series(
    usage: &impl UsageStore,
    owner: &str,
    query: &SeriesQuery,
    logged: &[LoggedEvent],
) -> Outcome {
    let owner = workspace(owner);
    let told = usage.series(&owner, query).await?;
    let expected = naive::series(&owner, query, logged);
    let places = |points: &[rateguard_engine::ports::SeriesPoint]| -> Vec<(Millis, String)> {
        points.iter().map(|point| (point.start, point.group.clone())).collect()
    };
    assert_eq!(places(&told), places(&expected), "{query:?}");
    for (told, expected) in told.iter().zip(&expected) {
        assert_agrees(&told.summary, &expected.summary, &(query, told.start, &told.group));
    }
    Ok(())
}

fn listed(owner: &str, filter: &EventFilter, logged: &[LoggedEvent]) -> Vec<LoggedEvent> {
    let owner: WorkspaceId = workspace(owner);
    let fits = |logged: &&LoggedEvent| naive::is_listed(&owner, filter, &logged.event);
    logged.iter().rev().filter(fits).cloned().collect()
}
