use super::*;

const NOW: Millis = Millis::ZERO;
const LIMIT: Limit = Limit::FixedWindow { limit: 10, window_ms: 1_000 };

fn table() -> CounterTable {
    CounterTable::new(Position(4), Leads::default())
}

fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

fn id(number: u128) -> CounterId {
    CounterId(number << 120 | number)
}

fn use_one(table: &mut CounterTable, number: u128, now: Millis) {
    table.get_or_insert(id(number), &LIMIT, now).counter.take(&LIMIT, 1, now);
}

/// What a batch would write and remove.
fn written(table: &mut CounterTable) -> (usize, usize) {
    let mut batch = CheckpointBatch::default();
    let changed = table.take_changed();
    table.write_down(&workspace(), &changed, &mut batch);
    (batch.rows.len(), batch.removed.len())
}

fn sweep_all(table: &mut CounterTable, now: Millis) {
    sweep_all_of(table, now, Position(u64::MAX), false);
}

fn sweep_all_of(table: &mut CounterTable, now: Millis, written_through: Position, retired: bool) {
    for _ in 0..PARTS {
        table.sweep_next(Sweep { now, written_through, is_retired: &mut |_| retired });
    }
}

#[test]
fn a_new_counter_includes_what_was_settled() {
    let mut table = table();
    assert_eq!(table.get_or_insert(id(1), &LIMIT, NOW).included, Position(4));
    assert_eq!(table.live(), 1);
}

#[test]
fn a_change_is_taken_once() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    use_one(&mut table, 1, NOW);
    use_one(&mut table, 2, NOW);
    assert_eq!((written(&mut table), written(&mut table)), ((2, 0), (0, 0)));
}

#[test]
fn reading_changes_nothing() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    written(&mut table);
    assert!(table.get(id(1)).is_some() && table.get(id(2)).is_none());
    assert!(table.get_mut(id(2)).is_none());
    assert_eq!((table.live(), table.slots.changed.len()), (1, 0));
}

#[test]
fn changes_that_were_put_back_are_taken_again() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    use_one(&mut table, 2, NOW);
    let taken = table.take_changed();
    let (sent, left) = taken.split_at(1);
    table.write_down(&workspace(), sent, &mut CheckpointBatch::default());
    use_one(&mut table, 1, NOW);
    use_one(&mut table, 2, NOW);
    table.put_back(sent);
    table.give_back(left);
    assert_eq!(written(&mut table), (2, 0));
}

#[test]
fn a_dropped_counter_is_removed_unless_it_came_back() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    use_one(&mut table, 2, NOW);
    written(&mut table);
    sweep_all(&mut table, NOW.plus(1_000));
    assert_eq!(table.live(), 0);
    use_one(&mut table, 2, NOW.plus(1_000));
    assert_eq!(written(&mut table), (1, 1));
}

#[test]
fn counters_that_still_count_are_not_dropped() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    sweep_all(&mut table, NOW.plus(999));
    assert_eq!(table.live(), 1);
}

#[test]
fn a_budget_that_includes_more_than_is_written_is_not_dropped() {
    let budget = Limit::Budget { nanos: 10, bounds: None };
    let mut table = table();
    table.get_or_insert(id(1), &budget, NOW);
    for retired in [false, true] {
        sweep_all_of(&mut table, NOW, Position(3), retired);
        assert_eq!(table.live(), 1);
    }
    sweep_all_of(&mut table, NOW, Position(4), false);
    assert_eq!(table.live(), 0);
}

#[test]
fn a_budget_with_money_in_it_is_dropped_only_when_it_is_retired() {
    let budget = Limit::Budget { nanos: 10, bounds: None };
    let mut table = table();
    table.get_or_insert(id(1), &budget, NOW).counter.charge(&budget, 7, NOW, NOW);
    table.get_or_insert(id(2), &budget, NOW).counter.take(&budget, 7, NOW);
    sweep_all_of(&mut table, NOW, Position(4), false);
    assert_eq!(table.live(), 2);
    sweep_all_of(&mut table, NOW, Position(4), true);
    assert!(table.get(id(1)).is_none() && table.get(id(2)).is_some(), "what is held stays");
}

#[test]
fn several_new_counters_share_the_places_that_are_left() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    let query = |counter| CounterQuery { counter: id(counter), overflow: id(9), limit: LIMIT };
    let fallen = table.fallen_on(&[query(1), query(2), query(3)], 2);
    assert_eq!(fallen.as_slice(), [id(1), id(2), id(9)]);
}

#[test]
fn new_counters_fall_over_once_the_bound_is_reached() {
    let mut table = table();
    use_one(&mut table, 1, NOW);
    assert_eq!(table.fallen(id(2), id(9), 2), id(2));
    assert_eq!(table.fallen(id(2), id(9), 1), id(9));
    assert_eq!(table.fallen(id(1), id(9), 1), id(1));
    assert!(table.is_nearly_full(2, 2) && !table.is_nearly_full(1, 2));
}
