//! `/metrics`: what this process has counted and how it stands, in the text of OpenMetrics, for Prometheus. Figures are
//! of all workspaces together, since whoever may connect may read them.

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
use rateguard_engine::health::CounterFigures;
use rateguard_engine::leases::LeaseFigures;
use rateguard_engine::pulse::StoreState;

use super::readiness::Report;

/// What [`text`] answers is of this type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures of now.
///
/// # Errors
/// None that writing to memory can have.
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

/// All of it, as of one instant.
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
        let help = "Checks whose outcome the shared counters did not tell";
        counted(encoder, "unheard_checks", help, &[([], queued)])?;
        let series: [(&[Label], u64); 2] =
            [(&[("outcome", "undone")], done), (&[("outcome", "dropped")], dropped)];
        let help = "What became of these; what a dropped one took stays taken until its windows are over";
        counted(encoder, "unheard_checks_ended", help, &series)
    }

    fn leases(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let LeaseFigures {
            decided_here,
            denied_here,
            decided_by_store,
            exchanges,
            units_lent,
            units_returned,
            units_forfeited,
            counters,
        } = self.leases;
        let series: [(&[Label], u64); 3] = [
            (&[("by", "lease"), ("decision", "allowed")], decided_here.saturating_sub(denied_here)),
            (&[("by", "lease"), ("decision", "denied")], denied_here),
            (&[("by", "store"), ("decision", "any")], decided_by_store),
        ];
        let help = "Checks with a leased rule, by units held in advance or by the shared counters";
        counted(encoder, "leased_decisions", help, &series)?;
        let help = "Questions to the shared counters for units, each for many counters";
        counted(encoder, "lease_exchanges", help, &[([], exchanges)])?;
        let series: [(&[Label], u64); 3] = [
            (&[("outcome", "lent")], units_lent),
            (&[("outcome", "returned")], units_returned),
            (&[("outcome", "forfeited")], units_forfeited),
        ];
        let help = "Units taken in advance; given back unused; unused and not to be given back";
        counted(encoder, "lease_units", help, &series)?;
        gauged(
            encoder,
            "leased_counters",
            "Counters of which units may be held in advance",
            &[([], counters)],
        )
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let CounterFigures { live_counters, request_ids_forgotten_early, overflow_charges, rebuilt } =
            self.counters;
        let help = "Counters that exist, as of a minute ago at most";
        gauged(encoder, "live_counters", help, &[([], live_counters)])?;
        let help = "Ids of checks forgotten before their time: their repetitions may consume again";
        counted(encoder, "request_ids_forgotten_early", help, &[([], request_ids_forgotten_early)])?;
        let help = "Charges on overflow counters, which a workspace's values share beyond live_counters_max";
        counted(encoder, "overflow_charges", help, &[([], overflow_charges)])?;
        let help =
            "Times that a workspace's counters were found lost and its budgets were counted again here";
        counted(encoder, "lost_counters_rebuilt", help, &[([], rebuilt)])
    }

    fn standing(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        gauged(encoder, "ready", "Whether /ready answers 200", &[([], u64::from(self.is_ready))])?;
        let age = |state: &StoreState| Duration::from_millis(state.age_ms.try_into().unwrap_or_default());
        let ages: Vec<_> = self.of_stores(|state| age(state).as_secs_f64());
        gauged(encoder, "store_age_seconds", "Since a store answered last", &ages)?;
        let failing: Vec<_> = self.of_stores(|state| u64::from(state.failure.is_some()));
        gauged(encoder, "store_failing", "Whether a store has failed since it answered last", &failing)
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
