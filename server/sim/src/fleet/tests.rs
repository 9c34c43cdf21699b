use super::*;

/// A fleet that a test can afford.
fn small() -> Fleet {
    Fleet { replicas: 20, limits: 8, checks_per_second: 200_000, window_ms: 2_000, ..Fleet::default() }
}

#[test]
fn nothing_is_admitted_beyond_a_limit() {
    for seed in 0..20 {
        assert_eq!(run(Fleet { seed, ..small() }).over(), 0, "seed {seed}");
    }
}

#[test]
fn a_limit_that_is_wanted_three_times_over_is_given_out_whole() {
    let report = run(small());
    let [.., wanted_most] = report.loads;
    assert!(wanted_most.wanted > 2 * wanted_most.size, "{wanted_most:?}");
    assert!(wanted_most.admitted * 100 >= wanted_most.size * 95, "{wanted_most:?}");
}

#[test]
fn a_limit_that_is_wanted_by_half_denies_hardly_anybody() {
    let report = run(small());
    let [wanted_least, ..] = report.loads;
    assert!(wanted_least.admitted * 1_000 >= wanted_least.wanted * 995, "{wanted_least:?}");
}

#[test]
fn the_store_is_asked_for_a_small_part_of_the_checks() {
    let report = run(small());
    assert!(report.operations_per_second() * 5 < small().checks_per_second, "{report:?}");
}

#[test]
fn a_lease_that_is_spent_past_its_window_is_found_as_over_admission() {
    let found = (0..20).find(|seed| run(Fleet { seed: *seed, outlives_window: true, ..small() }).over() > 0);
    assert!(found.is_some(), "the planted bug was not found in 20 seeds");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    assert_eq!(run(small()), run(small()));
}
