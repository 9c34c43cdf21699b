//! Raw events, page by page.

use rateguard_core::counter::Position;
use rateguard_core::ids::EventId;
use rateguard_core::time::Millis;
use rateguard_core::usage::{EventKind, LoggedEvent, UsageEvent};
use rateguard_engine::ports::{EventFilter, EventLog, EventQuery, UsageStore};

use super::questions::{all_events, any_range, event_filter_of, occurred};
use super::{ALL, EVENTS, HOUR_MS, Outcome, append, listed};
use crate::Backend;
use crate::event_log::samples::{Numbers, START_MS, event, varied, workspace};

/// Pages follow each other without a gap, newest position first, and the last one says so.
pub async fn pages_go_back_from_the_newest<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(10, 100)).await?;
    for limit in [1, 7, 33, 100] {
        for filter in [EventFilter::default(), occurred(any_range(&mut Numbers::new(10)))] {
            let mut query = EventQuery { filter, before: None, limit };
            let expected = listed("ws_a", &query.filter, &logged);
            let mut seen = Vec::new();
            while seen.len() < ALL {
                let page = usage.events(&workspace("ws_a"), &query).await?;
                assert!(page.events.len() <= limit);
                seen.extend(page.events);
                query.before = page.next_before;
                if query.before.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected, "pages of {limit}");
        }
    }
    Ok(())
}

/// A page may be short or empty before the end; whoever follows the pages finds every event once.
pub async fn a_filter_that_few_events_pass_is_followed_to_its_end<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let rare =
        |place: usize| UsageEvent { kind: EventKind::Usage, ..event("ws_a", &format!("rare-{place}")) };
    let mut logged = Vec::new();
    for place in 0..3 {
        let mut events = varied(20 + place as u64, EVENTS);
        let mut found = rare(place);
        found.call.model = "rare".to_owned();
        events.iter_mut().enumerate().for_each(|(number, event)| {
            event.event_id = EventId::parse("event_id", &format!("{place}-{number}")).expect("an id");
            event.reservation = None;
        });
        events.insert(EVENTS / 2, found);
        logged.extend(append(&log, &events).await?);
    }
    let filter = EventFilter { model: Some("rare".to_owned()), ..EventFilter::default() };
    let expected = listed("ws_a", &filter, &logged);
    assert_eq!(expected.len(), 3);
    let mut query = EventQuery { filter, before: None, limit: 1 };
    let mut seen = Vec::new();
    loop {
        let page = usage.events(&workspace("ws_a"), &query).await?;
        seen.extend(page.events);
        let Some(next) = page.next_before else { break };
        assert!(query.before.is_none_or(|before| next < before), "pages go back");
        query.before = Some(next);
    }
    assert_eq!(seen, expected);
    Ok(())
}

/// Page by page, from an instant to a position, each event of the workspace once, by accounting time.
pub async fn events_are_read_in_the_order_in_which_they_count<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let mut events = varied(12, EVENTS);
    // Many of one instant, so that pages end within it.
    events.iter_mut().step_by(3).for_each(|event| event.accounted_at = Millis::new(START_MS + HOUR_MS));
    let logged = append(&log, &events).await?;
    let (start, through) = (Millis::new(START_MS + HOUR_MS), logged[EVENTS * 3 / 4].position);
    let own = logged.iter().filter(|l| l.event.workspace == workspace("ws_a") && l.position <= through);
    let mut expected: Vec<LoggedEvent> = own.filter(|l| l.event.accounted_at >= start).cloned().collect();
    expected.sort_by_key(|logged| (logged.event.accounted_at, logged.position));
    for limit in [1, 7, ALL] {
        let (mut seen, mut after) = (Vec::new(), (start, Position(0)));
        loop {
            let page = usage.accounted_after(&workspace("ws_a"), after, through, limit).await?;
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = (last.event.accounted_at, last.position);
            seen.extend(page);
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
    assert!(expected.len() > 50);
    Ok(())
}

/// Every part of a filter, alone and with the others.
pub async fn every_filter_of_events_lists_what_fits<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &varied(11, EVENTS)).await?;
    let mut numbers = Numbers::new(11);
    for parts in 0..256 {
        let place = usize::try_from(numbers.below(EVENTS as u64)).unwrap_or(0);
        let filter = event_filter_of(parts, &logged[place].event, &mut numbers);
        let expected = listed("ws_a", &filter, &logged);
        let query = EventQuery { filter, ..all_events() };
        let page = usage.events(&workspace("ws_a"), &query).await?;
        assert_eq!((page.events, page.next_before), (expected, None), "{query:?}");
    }
    Ok(())
}

/// A list does not wait for the sums.
pub async fn events_are_listed_before_they_are_summed<L: EventLog, U: UsageStore>(
    backend: &impl Backend<Store = (L, U)>,
) -> Outcome {
    let (log, usage) = backend.open().await;
    let logged = append(&log, &[event("ws_a", "1")]).await?;
    assert_eq!(usage.events(&workspace("ws_a"), &all_events()).await?.events, logged);
    assert_eq!(usage.cursor().await?, Position(0));
    Ok(())
}
