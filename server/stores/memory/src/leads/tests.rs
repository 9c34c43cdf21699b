use proptest::prelude::*;
use rateguard_core::counter::{CounterFamily, Limit};

use super::*;

const FAMILY: CounterFamily = CounterFamily(7);
const NOW: Millis = Millis::ZERO;
/// Its leads are at most 50 units.
const LIMIT: Limit = Limit::FixedWindow { limit: 1_000, window_ms: 3_600_000 };

fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

/// Raises the lead for `taken` and has it on disk.
fn raise(leads: &mut Leads, limit: &Limit, taken: i64) -> i64 {
    let row = leads.raise(&workspace(), FAMILY, limit, taken);
    let units = row.as_ref().map_or(0, |row| row.units);
    leads.arrived(row.as_slice());
    units
}

#[test]
fn what_is_forgiven_during_a_write_is_written_with_the_next_round() {
    let mut leads = Leads::new(2);
    let losses = vec![Loss { crash: 1, at: Millis::ZERO, units: 4 }];
    let before = LeadRow { workspace: workspace(), family: FAMILY, units: 0, span_ms: 60_000, losses };
    leads.load(before.clone());
    assert!(leads.may_owe(FAMILY, Millis::ZERO) && !leads.begin_round());
    leads.forgive(FAMILY);
    leads.fell(&workspace(), std::slice::from_ref(&before));
    assert!(!leads.may_owe(FAMILY, Millis::ZERO) && leads.begin_round());
    let written = leads.fallen(&workspace());
    assert_eq!(written, [LeadRow { losses: Vec::new(), ..before }]);
    leads.fell(&workspace(), &written);
    assert!(!leads.begin_round() && leads.fallen(&workspace()).is_empty());
}

#[test]
fn a_lead_is_four_times_what_was_taken_and_a_twentieth_of_the_limit_at_most() {
    let mut leads = Leads::default();
    assert!(leads.covers(FAMILY, &LIMIT, 0) && !leads.covers(FAMILY, &LIMIT, 1));
    assert_eq!(raise(&mut leads, &LIMIT, 3), 12);
    assert!(leads.covers(FAMILY, &LIMIT, 12) && !leads.covers(FAMILY, &LIMIT, 13));
    assert_eq!(raise(&mut leads, &LIMIT, 30), 50);
    assert!(leads.covers(FAMILY, &LIMIT, 50) && !leads.covers(FAMILY, &LIMIT, 51));
    assert_eq!(leads.raise(&workspace(), FAMILY, &LIMIT, 300), None, "it is as large as it gets");
}

#[test]
fn a_limit_that_is_given_back_within_ten_seconds_is_covered_whole() {
    let mut leads = Leads::default();
    let second = Limit::FixedWindow { limit: 3, window_ms: 9_999 };
    assert!(!leads.covers(FAMILY, &second, 1), "once it has to be on disk that there is such a limit");
    assert_eq!(raise(&mut leads, &second, 1), i64::MAX);
    assert!(leads.covers(FAMILY, &second, 1_000_000));
}

#[test]
fn a_limit_too_small_for_a_lead_has_none() {
    let mut leads = Leads::default();
    let few = Limit::FixedWindow { limit: 19, window_ms: 3_600_000 };
    assert_eq!(raise(&mut leads, &few, 5), 0);
    assert!(!leads.covers(FAMILY, &few, 1));
    let often = Limit::FixedWindow { limit: 19, window_ms: 60_000 };
    assert_eq!(raise(&mut leads, &often, 5), 3, "but ten seconds of it may be ahead");
}

#[test]
fn a_larger_lead_of_another_counter_covers_no_more_than_its_own_limit_allows() {
    let mut leads = Leads::default();
    let (large, small) = (Limit::FixedWindow { limit: 1_000_000, window_ms: 3_600_000 }, LIMIT);
    assert_eq!(raise(&mut leads, &large, 1_000), 4_000);
    assert!(leads.covers(FAMILY, &large, 4_000));
    assert!(leads.covers(FAMILY, &small, 50) && !leads.covers(FAMILY, &small, 51));
}

#[test]
fn a_lead_shrinks_with_the_round_after_which_everything_beyond_it_is_on_disk() {
    let mut leads = Leads::default();
    raise(&mut leads, &LIMIT, 10);
    leads.note(FAMILY, 2);
    assert!(leads.begin_round());
    assert!(!leads.covers(FAMILY, &LIMIT, 21) && leads.covers(FAMILY, &LIMIT, 20));
    let fallen = leads.fallen(&workspace());
    assert_eq!(fallen.iter().map(|row| row.units).collect::<Vec<_>>(), [20]);
    leads.fell(&workspace(), &fallen);
    assert!(!leads.begin_round() && leads.fallen(&workspace()).is_empty(), "nobody called meanwhile");
    assert!(leads.covers(FAMILY, &LIMIT, 20));
}

#[test]
fn a_lead_that_is_raised_during_the_round_does_not_fall_with_it() {
    let mut leads = Leads::default();
    raise(&mut leads, &LIMIT, 10);
    leads.note(FAMILY, 2);
    assert!(leads.begin_round());
    assert_eq!(raise(&mut leads, &LIMIT, 21), 50);
    assert!(leads.fallen(&workspace()).is_empty() && leads.covers(FAMILY, &LIMIT, 50));
}

#[test]
fn a_raise_in_mid_round_leaves_the_disk_no_lower_than_it_was() {
    let mut leads = Leads::default();
    raise(&mut leads, &LIMIT, 12);
    leads.note(FAMILY, 1);
    assert!(leads.begin_round());
    assert_eq!(raise(&mut leads, &LIMIT, 9), 48, "others may have taken as much before the round");
}

#[test]
fn a_lead_does_not_fall_with_a_round_in_which_a_write_failed() {
    let mut leads = Leads::default();
    raise(&mut leads, &LIMIT, 10);
    leads.note(FAMILY, 2);
    assert!(leads.begin_round());
    leads.round_failed();
    assert!(leads.fallen(&workspace()).is_empty() && !leads.covers(FAMILY, &LIMIT, 21));
    assert!(leads.begin_round(), "it falls with the next");
}

#[test]
fn a_suspended_lead_comes_into_force_no_more() {
    let mut leads = Leads::default();
    raise(&mut leads, &LIMIT, 10);
    leads.suspend();
    assert!(leads.covers(FAMILY, &LIMIT, 0) && !leads.covers(FAMILY, &LIMIT, 1));
    raise(&mut leads, &LIMIT, 10);
    assert!(!leads.covers(FAMILY, &LIMIT, 1));
}

fn row(units: i64, losses: Vec<Loss>) -> LeadRow {
    LeadRow { workspace: workspace(), family: FAMILY, units, span_ms: 3_600_000, losses }
}

#[test]
fn only_a_crash_loses_a_lead_and_no_start_leaves_it_in_force() {
    let (mut crashed, mut stopped) = (row(40, Vec::new()), row(40, Vec::new()));
    at_start(&mut crashed, Some((3, NOW.plus(5))), NOW);
    assert_eq!(crashed, row(0, vec![Loss { crash: 3, at: NOW.plus(5), units: 40 }]));
    at_start(&mut stopped, None, NOW);
    assert_eq!(stopped, row(0, Vec::new()));
    at_start(&mut stopped, Some((4, NOW)), NOW);
    assert_eq!(stopped, row(0, Vec::new()), "nobody called before that crash");
}

#[test]
fn what_was_lost_is_forgotten_when_its_window_is_surely_over() {
    let loss = Loss { crash: 1, at: NOW, units: 4 };
    let mut hourly = row(0, vec![loss]);
    at_start(&mut hourly, None, NOW.plus(KEPT_MS_MIN - 1));
    assert_eq!(hourly.losses, [loss]);
    at_start(&mut hourly, None, NOW.plus(KEPT_MS_MIN));
    assert_eq!(hourly.losses, []);
    let mut monthly = LeadRow { span_ms: 28 * KEPT_MS_MIN, ..row(0, vec![loss]) };
    at_start(&mut monthly, None, NOW.plus(31 * KEPT_MS_MIN));
    assert_eq!(monthly.losses, [loss]);
}

#[test]
fn the_losses_of_many_crashes_are_bounded_and_none_is_forgotten() {
    let mut lead = row(0, Vec::new());
    for crash in 1..=100 {
        lead.units = 1;
        at_start(&mut lead, Some((crash, NOW.plus(crash.into()))), NOW);
    }
    assert_eq!(lead.losses.len(), LOSSES_MAX);
    assert_eq!(lead.losses.iter().map(|loss| loss.units).sum::<i64>(), 100);
    let oldest = lead.losses[0];
    assert_eq!((oldest.crash, oldest.at, oldest.units), (69, NOW.plus(69), 69));
}

proptest! {
    #[test]
    fn the_disk_is_never_behind_what_is_in_force(
        steps in prop::collection::vec((0..5_u8, 0_i64..100), 0..60),
    ) {
        let mut leads = Leads::default();
        for (kind, taken) in steps {
            match kind {
                0 => drop(raise(&mut leads, &LIMIT, taken)),
                1 => leads.note(FAMILY, taken),
                2 => drop(leads.begin_round()),
                3 => leads.round_failed(),
                _ => {
                    let fallen = leads.fallen(&workspace());
                    leads.fell(&workspace(), &fallen);
                }
            }
            let lead = leads.by_family.get(&FAMILY);
            prop_assert!(lead.is_none_or(|lead| lead.in_force <= lead.on_disk));
        }
    }
}
