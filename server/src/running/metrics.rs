//! `/metrics`: what this process has counted and how it stands, in the text of OpenMetrics, for Prometheus. Figures are
//! of all workspaces together, since whoever may connect may read them. Those of the counters' store
//! (`store_counters`, `store_request_ids_forgotten_early`, `store_overflow_charges`) are told by each replica that
//! shares it: they must not be added up.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rateguard_engine::degraded::DegradedFigures;
use rateguard_engine::engine::Engine;
use rateguard_engine::gate::CancelFigures;
use rateguard_engine::health::{CounterFigures, SeenCounters};
use rateguard_engine::leases::LeaseFigures;
use rateguard_engine::pulse::StoreState;

use super::readiness::Report;

/// What [`text`] answers is of this type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures of now.
///
/// # Errors
/// Writing to memory has none.
pub(super) fn text(engine: &Engine, report: &Report) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("rateguard");
    registry.register_collector(Box::new(Figures {
        degraded: engine.degraded_figures(),
        cancels: engine.cancel_figures(),
        leases: engine.lease_figures(),
        counters: engine.counter_figures(),
        stores: report.stores().to_vec(),
        is_ready: report.is_ready(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// All of it.
#[derive(Debug)]
struct Figures {
    degraded: DegradedFigures,
    cancels: CancelFigures,
    leases: LeaseFigures,
    counters: CounterFigures,
    stores: Vec<StoreState>,
    is_ready: bool,
}

/// What tells the series of a metric apart.
type Label = (&'static str, &'static str);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.degraded(encoder)?;
        self.leases(encoder)?;
        self.counters(encoder)?;
        self.standing(encoder)
    }
}

impl Figures {
    fn degraded(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let DegradedFigures { open_allowed, closed_denied, local_allowed, local_denied } = self.degraded;
        let series: [(&[Label], u64); 4] = [
            (&[("policy", "open"), ("decision", "allowed")], open_allowed),
            (&[("policy", "closed"), ("decision", "denied")], closed_denied),
            (&[("policy", "local"), ("decision", "allowed")], local_allowed),
            (&[("policy", "local"), ("decision", "denied")], local_denied),
        ];
        let help = "Decisions taken without the shared counters, by the failure policy that took them";
        counted(encoder, "degraded_decisions", help, &series)?;
        let CancelFigures { queued, done, dropped } = self.cancels;
        let help =
            "Checks whose outcome was not heard: the counters did not answer, or the caller was gone before";
        counted(encoder, "unheard_checks", help, &[([], queued)])?;
        let series: [(&[Label], u64); 2] =
            [(&[("outcome", "undone")], done), (&[("outcome", "dropped")], dropped)];
        let help = "What became of these; what a dropped one took stays taken until its windows are over";
        counted(encoder, "unheard_checks_ended", help, &series)
    }

    fn leases(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let leases = self.leases;
        let told = [
            ("lease_decisions", "Checks decided by units that were taken in advance", leases.decided_here),
            (
                "lease_denials",
                "Of these, denied by what the shared counters had just denied",
                leases.denied_here,
            ),
            (
                "lease_misses",
                "Checks with a leased rule that the shared counters were asked",
                leases.decided_by_store,
            ),
            ("lease_exchanges", "Questions for units, each for many counters", leases.exchanges),
            ("lease_units_taken", "Units taken in advance", leases.units_lent),
            ("lease_units_returned", "Of these, given back unused", leases.units_returned),
            ("lease_units_forfeited", "Of these, unused and not to be given back", leases.units_forfeited),
        ];
        for (name, help, figure) in told {
            counted(encoder, name, help, &[([], figure)])?;
        }
        gauged(encoder, "lease_counters", "Counters of which units may be held", &[([], leases.counters)])
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Workspaces whose counters were found lost and whose budgets were counted again here";
        counted(encoder, "lost_counters_rebuilt", help, &[([], self.counters.rebuilt)])?;
        let help =
            "Times that counters of a workspace, or of a shard of one, were found lost or set back here";
        counted(encoder, "lost_counters", help, &[([], self.counters.losses)])?;
        let Some(seen) = self.counters.seen else { return Ok(()) };
        let SeenCounters { live, request_ids_forgotten_early, overflow_charges } = seen;
        // They fall with what the store loses.
        let told = [
            (
                "store_counters",
                "Counters in the store, as looked at last; replicas that share it tell the same, not to be summed",
                live,
            ),
            (
                "store_request_ids_forgotten_early",
                "Ids of checks that the store forgot before their time: repetitions may consume again; \
                 replicas that share it tell the same, not to be summed",
                request_ids_forgotten_early,
            ),
            (
                "store_overflow_charges",
                "Charges on overflow counters in the store: a workspace is beyond live_counters_max; \
                 replicas that share it tell the same, not to be summed",
                overflow_charges,
            ),
        ];
        told.iter().try_for_each(|(name, help, figure)| gauged(encoder, name, help, &[([], *figure)]))
    }

    fn standing(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        gauged(encoder, "ready", "Whether /ready answers 200", &[([], u64::from(self.is_ready))])?;
        let age = |state: &StoreState| Duration::from_millis(state.age_ms.try_into().unwrap_or_default());
        let ages: Vec<_> = self.of_stores(|state| age(state).as_secs_f64());
        gauged(encoder, "store_age_seconds", "Since a store answered last", &ages)?;
        let failing: Vec<_> = self.of_stores(|state| u64::from(state.failure.is_some()));
        gauged(
            encoder,
            "store_failing",
            "Whether the server's own tasks have failed at a store since it answered last",
            &failing,
        )
    }

    fn of_stores<N>(&self, figure: impl Fn(&StoreState) -> N) -> Vec<(Vec<Label>, N)> {
        self.stores.iter().map(|state| (vec![("store", state.store)], figure(state))).collect()
    }
}

/// Writes what only grows, one series for each set of labels.
fn counted<L: AsRef<[Label]>>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(L, u64)],
) -> fmt::Result {
    written(encoder.encode_descriptor(name, help, None, MetricType::Counter)?, series, ConstCounter::new)
}

/// Writes what rises and falls.
fn gauged<L: AsRef<[Label]>, N: EncodeGaugeValue + Copy>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(L, N)],
) -> fmt::Result {
    written(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?, series, ConstGauge::new)
}

fn written<L: AsRef<[Label]>, N: Copy, M: EncodeMetric>(
    mut metric: MetricEncoder<'_>,
    series: &[(L, N)],
    figure: impl Fn(N) -> M,
) -> fmt::Result {
    if let [(labels, value)] = series
        && labels.as_ref().is_empty()
    {
        return figure(*value).encode(metric);
    }
    series.iter().try_for_each(|(labels, value)| {
        let labels = labels.as_ref();
        figure(*value).encode(metric.encode_family(&labels)?)
    })
}

#[cfg(test)]
mod tests {
    use rateguard_engine::pulse::StoreFailure;

    use super::*;

    #[test]
    fn every_figure_is_told_under_its_own_name() {
        let figures = Figures {
            degraded: DegradedFigures {
                open_allowed: 1,
                closed_denied: 2,
                local_allowed: 3,
                local_denied: 4,
            },
            cancels: CancelFigures { queued: 5, done: 6, dropped: 7 },
            leases: LeaseFigures {
                decided_here: 8,
                denied_here: 9,
                decided_by_store: 10,
                exchanges: 11,
                units_lent: 12,
                units_returned: 13,
                units_forfeited: 14,
                counters: 15,
            },
            counters: CounterFigures {
                seen: Some(SeenCounters { live: 16, request_ids_forgotten_early: 17, overflow_charges: 18 }),
                losses: 20,
                rebuilt: 19,
            },
            stores: vec![
                StoreState { store: "config", age_ms: 1_500, failure: None },
                StoreState { store: "event log", age_ms: 0, failure: Some(StoreFailure::Full) },
            ],
            is_ready: true,
        };
        let mut registry = Registry::with_prefix("rateguard");
        registry.register_collector(Box::new(figures));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"rateguard_degraded_decisions_total{policy="open",decision="allowed"} 1"#,
            r#"rateguard_degraded_decisions_total{policy="closed",decision="denied"} 2"#,
            r#"rateguard_degraded_decisions_total{policy="local",decision="allowed"} 3"#,
            r#"rateguard_degraded_decisions_total{policy="local",decision="denied"} 4"#,
            "rateguard_unheard_checks_total 5",
            r#"rateguard_unheard_checks_ended_total{outcome="undone"} 6"#,
            r#"rateguard_unheard_checks_ended_total{outcome="dropped"} 7"#,
            "rateguard_lease_decisions_total 8",
            "rateguard_lease_denials_total 9",
            "rateguard_lease_misses_total 10",
            "rateguard_lease_exchanges_total 11",
            "rateguard_lease_units_taken_total 12",
            "rateguard_lease_units_returned_total 13",
            "rateguard_lease_units_forfeited_total 14",
            "rateguard_lease_counters 15",
            "rateguard_lost_counters_rebuilt_total 19",
            "rateguard_lost_counters_total 20",
            "rateguard_store_counters 16",
            "rateguard_store_request_ids_forgotten_early 17",
            "rateguard_store_overflow_charges 18",
            "rateguard_ready 1",
            r#"rateguard_store_age_seconds{store="config"} 1.5"#,
            r#"rateguard_store_age_seconds{store="event log"} 0.0"#,
            r#"rateguard_store_failing{store="config"} 0"#,
            r#"rateguard_store_failing{store="event log"} 1"#,
        ];
        assert_eq!(series, expected);
    }
}
