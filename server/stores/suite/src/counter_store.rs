//! What every [`CounterStore`] promises. Each function is one promise, on storage of its own;
//! [`counter_store_suite`](crate::counter_store_suite) makes a test of each.

mod cancels;
mod concurrency;
mod debts;
mod decisions;
mod forgetting;
mod leases;
mod recovery;
mod request_ids;
mod reservations;
mod resets;
mod running;
mod settlements;
pub mod world;

use std::sync::Arc;

use async_trait::async_trait;
use rateguard_core::time::Millis;
use rateguard_engine::ports::CounterStore;

pub use cancels::*;
pub use concurrency::*;
pub use debts::*;
pub use decisions::*;
pub use forgetting::*;
pub use leases::*;
pub use recovery::*;
pub use request_ids::*;
pub use reservations::*;
pub use resets::*;
pub use running::*;
pub use settlements::*;

/// How a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was told to, and wrote down what it had.
    Clean,
    /// It was killed.
    Crash,
}

/// Storage for one counter store, empty at first.
#[async_trait]
pub trait CounterBackend: Send + Sync {
    /// Opens a store on the storage. The last one that was opened has ended by then, and how
    /// decides what this one finds.
    async fn open(&self, now: Millis) -> Arc<dyn CounterStore>;

    /// Live counters that a workspace of these stores may have.
    fn live_counters_max(&self) -> usize;

    /// Reservations that such a workspace may have.
    fn reservations_max(&self) -> usize;

    /// Whether every other limit is spread, so that most calls stand in two places.
    fn spreads(&self) -> bool {
        false
    }
}

/// Makes a test of every promise. `$backend` is an expression that gives a fresh
/// [`CounterBackend`].
#[macro_export]
macro_rules! counter_store_suite {
    ($backend:expr) => {
        $crate::counter_store_suite! { $backend;
            takes_from_all_limits_or_from_none,
            counts_a_shadow_only_when_it_would_allow,
            changes_nothing_on_peek_and_denial,
            says_when_a_denied_call_passes,
            says_that_waiting_does_not_help,
            renews_nothing_when_the_clock_steps_back,
            shares_one_counter_beyond_the_bound,
            reads_what_a_decision_would_fall_on,
            keeps_workspaces_apart,
            forgets_idle_counters_without_a_trace,
            counts_a_denied_amount_as_debt,
            denies_an_amount_of_nothing_where_nothing_is_left,
            counts_what_is_denied_only_where_it_is_to_be_counted,
            gives_back_no_more_than_was_taken,
            gives_nothing_back_with_a_denial,
            counts_two_charges_on_one_counter_together,
            admits_exactly_the_smaller_limit_to_concurrent_callers,
            holds_a_budget_exactly_for_concurrent_callers,
            takes_once_for_concurrent_repetitions,
            conserves_what_is_taken_under_random_concurrency,
            repeats_an_allowed_decision_without_taking,
            recalls_a_decision_without_deciding,
            repeats_what_was_reserved,
            decides_a_denial_anew,
            refuses_an_id_with_other_content,
            forgets_an_id_after_its_time,
            remembers_no_id_of_a_peek,
            repeats_a_reservation_while_it_stands,
            decides_anew_once_a_reservation_was_given_back,
            corrects_a_reservation_to_what_was_used,
            gives_nothing_back_for_a_guess,
            holds_until_the_final_attempt,
            keeps_an_overshoot_as_debt,
            keeps_an_overshoot_of_a_bucket_that_was_full_again,
            releases_a_reservation_once,
            denies_also_where_there_is_no_room_for_a_reservation,
            lets_only_its_holder_release,
            expires_into_the_floor,
            expires_into_what_is_left_of_the_floor,
            names_the_floor_that_no_budget_holds,
            charges_what_was_used_of_a_limit_that_was_only_tested,
            frees_what_is_due_with_the_next_check,
            settles_a_late_report_before_the_floor_is_an_event,
            charges_a_report_after_the_floor_in_full,
            charges_matching_limits_without_a_reservation,
            charges_a_budget_that_was_not_captured,
            settles_a_reservation_by_a_report_from_elsewhere,
            charges_a_report_from_elsewhere_in_full,
            settles_every_position_once,
            adds_an_opening_to_a_new_budget,
            admits_exactly_what_is_left_after_a_crash,
            keeps_what_was_held_after_a_crash,
            frees_what_a_crash_left_held_in_time,
            frees_what_a_crash_left_held_after_a_clean_stop,
            holds_for_a_crash_no_longer_over_further_restarts,
            draws_a_lost_hold_down_by_its_report,
            draws_nothing_down_for_a_reservation_that_had_ended,
            charges_a_tested_limit_after_a_clean_stop,
            settles_a_replayed_reservation_without_its_record,
            keeps_reservations_over_a_clean_stop,
            keeps_counters_over_a_clean_stop,
            keeps_an_opening_over_a_crash,
            drops_budgets_counters_with_nothing_in_them,
            drops_budgets_counters_long_after_their_period,
            drops_the_counters_of_a_budget_that_is_gone,
            keeps_what_is_held_of_a_budget_that_is_gone,
            counts_no_record_again_in_a_counter_that_was_dropped,
            settles_nothing_again_in_a_counter_that_was_dropped,
            admits_beside_leases_what_they_leave,
            cancels_nothing_from_before_a_reset,
            cancels_what_took_nothing_without_a_trace,
            decides_the_next_attempt_for_itself,
            expires_nothing_from_before_a_reset,
            frees_nothing_of_the_next_window,
            gives_a_call_at_the_same_time_back_once,
            gives_back_what_a_cancelled_attempt_took,
            gives_each_slot_to_one_holder,
            gives_nothing_back_from_before_a_reset,
            gives_nothing_back_to_a_later_window,
            heals_calls_at_the_same_time_after_a_crash,
            holds_a_call_at_the_same_time_with_all_or_none,
            holds_calls_at_the_same_time_until_they_end,
            keeps_a_reset_over_a_crash,
            keeps_what_another_attempt_was_answered_with,
            leaves_calls_at_the_same_time_to_their_reservations,
            lends_for_no_longer_than_it_counts,
            lends_from_the_shared_counter_beyond_the_bound,
            lends_less_towards_the_limit_and_nothing_near_it,
            refills_a_bucket_to_what_is_not_lent,
            refuses_an_attempt_that_was_cancelled_before,
            releases_what_a_cancelled_attempt_reserved,
            remembers_the_id_of_a_renewed_reservation,
            renews_a_reservation_for_its_holder,
            renews_a_reservation_up_to_its_longest_life,
            renews_nothing_that_is_over,
            sets_all_counters_of_a_limit_back,
            sets_no_budget_back,
            sets_one_counter_back,
            takes_what_it_lends_from_the_counter,
            undoes_no_reservation_that_was_renewed,
            says_that_a_cancel_comes_too_late,
            says_that_a_cancel_comes_too_late_for_its_decision,
            says_that_what_was_taken_under_other_limits_stands,
            gives_back_what_any_cancelled_attempt_names,
            says_that_what_answered_too_many_attempts_stands,
        }
    };
    ($backend:expr; $($promise:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                $crate::counter_store::$promise(&$backend).await;
            }
        )*
    };
}
