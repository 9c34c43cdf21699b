//! What the server tells: its events, their sums, and how its budgets stand.

use rateguard_core::counter::{Limit, Reading};
use rateguard_core::plan::LimitId;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::usage::{LoggedEvent, UsageEvent};
use rateguard_engine::check::Call;
use rateguard_engine::ports::{EventFilter, EventQuery, Summary, UsageFilter};

use crate::ledger::{Made, SUBJECTS};
use crate::steps::Reach;
use crate::world::World;

/// Events of one page: small, so that there are several.
const PAGE_EVENTS: usize = 100;

/// A budget's counter, with the calls that it counts.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The budget's place among those made.
    pub place: usize,
    /// The one subject that it counts, unless it counts all.
    pub subject: Option<&'static str>,
    /// The period of now.
    pub bounds: Bounds,
    pub reading: Reading,
}

impl Standing {
    pub fn spent(&self) -> i128 {
        self.reading.used - self.reading.held
    }

    pub fn counts(&self, subject: &str) -> bool {
        self.subject.is_none_or(|only| only == subject)
    }

    pub fn counts_event(&self, event: &UsageEvent) -> bool {
        self.bounds.contain(event.accounted_at) && self.counts(&event.call.subject)
    }
}

/// Every event, oldest first.
pub async fn events(world: &World) -> Vec<LoggedEvent> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let query = EventQuery { filter: EventFilter::default(), before, limit: PAGE_EVENTS };
        let page = world.engine().events(&world.identity(), &query).await.unwrap();
        all.extend(page.events);
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    all.reverse();
    all
}

/// What the rollups have of a subject, or of all.
pub async fn summary(world: &World, subject: Option<&str>) -> Summary {
    let accounted = Millis::ZERO..world.now().plus(1);
    let subject = subject.map(str::to_owned);
    let filter = UsageFilter { accounted, api: None, key: None, subject, model: None };
    world.engine().summary(&world.identity(), &filter).await.unwrap()
}

/// How all counters of all budgets stand.
pub async fn standings(world: &World, budgets: &[Made]) -> Vec<Standing> {
    let mut standings = Vec::new();
    for (place, made) in budgets.iter().enumerate() {
        match made.reach {
            Reach::All => standings.push(alone(world, place, made, None).await),
            Reach::FirstSubject => standings.push(alone(world, place, made, Some(SUBJECTS[0])).await),
            Reach::EachSubject => {
                for subject in SUBJECTS {
                    standings.push(scoped(world, place, made, subject).await);
                }
            }
        }
    }
    standings
}

async fn alone(world: &World, place: usize, made: &Made, subject: Option<&'static str>) -> Standing {
    let standing = world.engine().budget_standing(&world.identity(), &made.budget).await.unwrap().unwrap();
    Standing { place, subject, bounds: bounds(&standing.limit), reading: standing.reading }
}

async fn scoped(world: &World, place: usize, made: &Made, subject: &'static str) -> Standing {
    let call = Call { subject: subject.to_owned(), ..Call::default() };
    let limits = world.engine().quota(world.caller(), &call).await.unwrap();
    let id = LimitId::Budget(made.id().clone());
    let status = limits.into_iter().find(|status| status.id == id).unwrap();
    Standing { place, subject: Some(subject), bounds: bounds(&status.limit), reading: status.reading }
}

fn bounds(limit: &Limit) -> Bounds {
    match limit {
        Limit::Budget { bounds: Some(bounds), .. } => *bounds,
        other => panic!("{other:?} is no calendar budget"),
    }
}
