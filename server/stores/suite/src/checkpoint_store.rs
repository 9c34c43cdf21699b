//! What every [`CheckpointStore`] promises.

pub mod samples;

use futures::future::try_join_all;
use rateguard_core::counter::{CounterId, Position};
use rateguard_engine::ports::{
    Checkpoint, CheckpointBatch, CheckpointStore, CounterRow, LeadRow, StoreError,
};

use crate::Backend;
use samples::{counters, lead, reservation, row, window, ws};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// Counters of a batch that no one statement could hold.
const MANY: u64 = 2_500;
/// Writers at once.
const WRITERS: u64 = 10;

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`].
#[macro_export]
macro_rules! checkpoint_store_suite {
    ($backend:expr) => {
        $crate::checkpoint_store_suite!(@cases $backend;
            a_new_store_is_empty
            every_counter_comes_back_as_it_was_saved
            a_later_save_replaces_the_state
            removed_counters_are_gone
            a_counter_that_came_back_stays
            the_position_moves_only_when_it_is_named
            the_same_counter_of_two_workspaces_is_two
            a_large_batch_is_saved_whole
            many_writers_at_once_lose_nothing
            a_writer_that_is_held_up_delays_the_next
            reservations_of_a_clean_stop_come_back_once
            later_reservations_replace_the_earlier
            a_clean_stop_without_reservations_is_found_once
            a_save_after_a_clean_stop_takes_it_back
            a_restart_keeps_everything
            leads_come_back_as_they_were_saved
            a_lead_of_nothing_that_owes_nothing_is_dropped
            starts_without_a_clean_stop_are_counted
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::checkpoint_store::$case(&$backend).await
            }
        )*
    };
}

/// A new store holds nothing, at position zero.
pub async fn a_new_store_is_empty<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    assert_eq!(store.load().await?, Checkpoint { crashes: 1, ..Checkpoint::default() });
    Ok(())
}

/// Every kind of counter survives, at its extremes too.
pub async fn every_counter_comes_back_as_it_was_saved<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    let rows: Vec<CounterRow> = counters()
        .into_iter()
        .zip(0..)
        .map(|(counter, number)| CounterRow { counter, ..row("ws_1", number, 0) })
        .collect();
    store.save(saving(rows.clone())).await?;
    assert_eq!(sorted(store.load().await?), rows);
    Ok(())
}

/// The last state saved is the one that is loaded.
pub async fn a_later_save_replaces_the_state<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    store.save(saving(vec![row("ws_1", 1, 10), row("ws_1", 2, 20)])).await?;
    let changed = CounterRow { included: Position(77), crashes: 5, ..row("ws_1", 1, 11) };
    store.save(saving(vec![changed.clone()])).await?;
    assert_eq!(sorted(store.load().await?), [changed, row("ws_1", 2, 20)]);
    Ok(())
}

/// What was removed is not loaded; removing what is not there is no error.
pub async fn removed_counters_are_gone<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    store.save(saving(vec![row("ws_1", 1, 10), row("ws_1", 2, 20), row("ws_2", 1, 30)])).await?;
    let removed = vec![(ws("ws_1"), CounterId(1)), (ws("ws_2"), CounterId(9))];
    store.save(CheckpointBatch { removed, ..CheckpointBatch::default() }).await?;
    assert_eq!(sorted(store.load().await?), [row("ws_1", 2, 20), row("ws_2", 1, 30)]);
    Ok(())
}

/// A counter that was dropped and used again before the checkpoint stands in both parts.
pub async fn a_counter_that_came_back_stays<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    store.save(saving(vec![row("ws_1", 1, 10)])).await?;
    let removed = vec![(ws("ws_1"), CounterId(1))];
    store.save(CheckpointBatch { removed, ..saving(vec![row("ws_1", 1, 3)]) }).await?;
    assert_eq!(sorted(store.load().await?), [row("ws_1", 1, 3)]);
    Ok(())
}

/// Batches without a position leave it; rows and position come together.
pub async fn the_position_moves_only_when_it_is_named<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    store.save(saving(vec![row("ws_1", 1, 10)])).await?;
    assert_eq!(store.load().await?.position, Position(0));
    let position = Some(Position(42));
    store.save(CheckpointBatch { position, ..saving(vec![row("ws_1", 2, 20)]) }).await?;
    assert_eq!(store.load().await?.position, Position(42));
    store.save(saving(vec![row("ws_1", 3, 30)])).await?;
    let loaded = store.load().await?;
    assert_eq!((loaded.position, loaded.rows.len()), (Position(42), 3));
    Ok(())
}

/// Workspaces do not share counters.
pub async fn the_same_counter_of_two_workspaces_is_two<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    store.save(saving(vec![row("ws_1", 5, 1), row("ws_2", 5, 2)])).await?;
    store.save(saving(vec![row("ws_2", 5, 3)])).await?;
    assert_eq!(sorted(store.load().await?), [row("ws_1", 5, 1), row("ws_2", 5, 3)]);
    let removed = vec![(ws("ws_1"), CounterId(5))];
    store.save(CheckpointBatch { removed, ..CheckpointBatch::default() }).await?;
    assert_eq!(sorted(store.load().await?), [row("ws_2", 5, 3)]);
    Ok(())
}

/// A batch may be larger than any one statement.
pub async fn a_large_batch_is_saved_whole<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let rows: Vec<_> = (0..MANY).map(|number| row("ws_1", number, number.cast_signed())).collect();
    store.save(saving(rows.clone())).await?;
    assert_eq!(sorted(store.load().await?), rows);
    let removed = rows.iter().skip(1).map(|row| (row.workspace.clone(), row.id)).collect();
    store.save(CheckpointBatch { removed, ..CheckpointBatch::default() }).await?;
    assert_eq!(sorted(store.load().await?), rows[..1]);
    Ok(())
}

/// Batches that are saved at once all arrive.
pub async fn many_writers_at_once_lose_nothing<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let saves = (0..WRITERS).map(|number| store.save(saving(vec![row("ws_1", number, 1)])));
    try_join_all(saves).await?;
    assert_eq!(sorted(store.load().await?), (0..WRITERS).map(|n| row("ws_1", n, 1)).collect::<Vec<_>>());
    Ok(())
}

/// A save waits for a writer that is held open, and is whole afterwards.
pub async fn a_writer_that_is_held_up_delays_the_next<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    let Some(held) = backend.hold_writer().await else { return Ok(()) };
    let save = store.save(saving(vec![row("ws_1", 1, 10)]));
    let release = async {
        held.release().await;
        Ok(())
    };
    futures::future::try_join(save, release).await?;
    assert_eq!(sorted(store.load().await?), [row("ws_1", 1, 10)]);
    Ok(())
}

/// A start takes the reservations that a clean stop left; after that it is as after a crash.
pub async fn reservations_of_a_clean_stop_come_back_once<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    let saved =
        vec![(ws("ws_1"), reservation(1)), (ws("ws_1"), reservation(2)), (ws("ws_2"), reservation(3))];
    store.save_reservations(saved.clone()).await?;
    backend.close(store).await;

    let store = backend.open().await;
    let mut loaded = store.load().await?.reservations;
    loaded.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    assert_eq!(loaded, saved);
    backend.close(store).await;

    let store = backend.open().await;
    assert_eq!(store.load().await?.reservations, []);
    Ok(())
}

/// Only the last set of reservations counts.
pub async fn later_reservations_replace_the_earlier<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    store.save_reservations(vec![(ws("ws_1"), reservation(1)), (ws("ws_1"), reservation(2))]).await?;
    let last = vec![(ws("ws_1"), reservation(2))];
    store.save_reservations(last.clone()).await?;
    assert_eq!(store.load().await?.reservations, last);
    store.save_reservations(last).await?;
    store.save_reservations(Vec::new()).await?;
    assert_eq!(store.load().await?.reservations, []);
    Ok(())
}

/// A stop is clean by its mark, not by what it left; after one start it is as after a crash.
pub async fn a_clean_stop_without_reservations_is_found_once<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    assert!(!store.load().await?.clean);
    store.save(saving(vec![row("ws_1", 1, 10)])).await?;
    store.save_reservations(Vec::new()).await?;
    backend.close(store).await;

    let store = backend.open().await;
    assert!(store.load().await?.clean);
    assert!(!store.load().await?.clean);
    Ok(())
}

/// What is written after a clean stop means that the process goes on: a crash is a crash again.
pub async fn a_save_after_a_clean_stop_takes_it_back<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    store.save_reservations(vec![(ws("ws_1"), reservation(1))]).await?;
    store.save(saving(vec![row("ws_1", 1, 10)])).await?;
    let loaded = store.load().await?;
    assert_eq!((loaded.clean, loaded.reservations), (false, vec![]));
    Ok(())
}

/// Counters and position are there after a restart.
pub async fn a_restart_keeps_everything<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let rows = vec![row("ws_1", 1, 10), CounterRow { counter: window(20), ..row("ws_2", 2, 0) }];
    let position = Some(Position(9));
    store.save(CheckpointBatch { position, ..saving(rows.clone()) }).await?;
    backend.close(store).await;

    let store = backend.open().await;
    let loaded = store.load().await?;
    assert_eq!(loaded.position, Position(9));
    assert_eq!(sorted(loaded), rows);
    Ok(())
}

/// The last lead of a limit is the one that is loaded, with everything in it.
pub async fn leads_come_back_as_they_were_saved<B: Backend<Store: CheckpointStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let (small, none) = (lead("ws_1", 7, 1), LeadRow { losses: Vec::new(), ..lead("ws_2", 7, 0) });
    let largest = LeadRow { losses: Vec::new(), span_ms: i64::MAX, ..lead("ws_1", u32::MAX, i64::MAX) };
    store.save(leading(vec![small, largest.clone(), none])).await?;
    let replaced = lead("ws_1", 7, 0);
    store.save(leading(vec![replaced.clone()])).await?;
    backend.close(store).await;

    let store = backend.open().await;
    assert_eq!(store.load().await?.leads, [replaced, largest]);
    Ok(())
}

/// A lead that is not in force is kept for what crashes have lost, and no longer.
pub async fn a_lead_of_nothing_that_owes_nothing_is_dropped<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    store.save(leading(vec![lead("ws_1", 1, 5), lead("ws_1", 2, 5)])).await?;
    let (owing, free) = (lead("ws_1", 1, 0), LeadRow { losses: Vec::new(), ..lead("ws_1", 2, 0) });
    store.save(leading(vec![owing.clone(), free])).await?;
    assert_eq!(store.load().await?.leads, [owing]);
    Ok(())
}

/// Every start counts that finds no mark of a clean stop, and so does the first.
pub async fn starts_without_a_clean_stop_are_counted<B: Backend<Store: CheckpointStore>>(
    backend: &B,
) -> Outcome {
    let store = backend.open().await;
    assert_eq!(store.load().await?.crashes, 1);
    assert_eq!(store.load().await?.crashes, 2);
    store.save_reservations(Vec::new()).await?;
    assert_eq!(store.load().await?.crashes, 2);
    store.save(saving(vec![row("ws_1", 1, 10)])).await?;
    assert_eq!(store.load().await?.crashes, 3);
    Ok(())
}

fn leading(leads: Vec<LeadRow>) -> CheckpointBatch {
    CheckpointBatch { leads, ..CheckpointBatch::default() }
}

fn saving(rows: Vec<CounterRow>) -> CheckpointBatch {
    CheckpointBatch { rows, ..CheckpointBatch::default() }
}

fn sorted(checkpoint: Checkpoint) -> Vec<CounterRow> {
    let mut rows = checkpoint.rows;
    rows.sort_by(|a, b| (&a.workspace, a.id).cmp(&(&b.workspace, b.id)));
    rows
}
