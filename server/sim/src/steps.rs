//! What happens in a run, as far as anybody outside the code under test can see it: what stores and
//! replicas answered, and when.

use std::fmt;

use rateguard_core::counter::{CounterId, Limit, Reading};
use rateguard_core::ids::{EventId, RequestId, ReservationId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;
use rateguard_engine::check::CheckResponse;
use rateguard_engine::ports::{
    CheckCommand, CheckOutcome, LeaseCommand, ReleaseOutcome, RenewOutcome, ResetCounters, SettleCommand,
};

use crate::books::undo::AttemptId;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Step {
    /// The store of counters did what it was asked, whether or not its reply arrives.
    Store(Box<StoreStep>),
    /// A life of a replica sends an attempt at a check.
    Sent(AttemptId, u64),
    /// It has heard how that ended.
    Heard(AttemptId),
    /// A life of a replica is over.
    Gone(u64),
    /// A replica answered a check that takes, whether or not the answer arrives.
    Answered(Box<Answered>),
    /// A replica answered a record with ACCEPTED, whether or not the answer arrives.
    Accepted(EventId),
    /// The log took events in.
    Appended(Vec<LoggedEvent>),
    /// Events were rolled up.
    RolledUp(Vec<LoggedEvent>),
    /// Everything is well and everything that waits has had its time.
    Ended,
}

/// What the store of counters did.
#[derive(Clone, Debug)]
pub struct StoreStep {
    /// Who asked.
    pub replica: usize,
    /// The store's own instant, which never goes back.
    pub now: Millis,
    /// What it did.
    pub deed: StoreDeed,
    /// Reservations that it calls expired now and did not before.
    pub expired: Vec<ReservationId>,
    /// How all counters that were ever asked for stand after it.
    pub readings: Vec<(CounterId, Limit, Reading)>,
}

/// What a store of counters may do.
#[derive(Clone, Debug)]
pub enum StoreDeed {
    /// It decided.
    Checked(Box<CheckCommand>, Box<CheckOutcome>),
    /// It settled.
    Settled(Vec<SettleCommand>),
    /// It refused a check that had been cancelled before it arrived.
    Refused(Box<CheckCommand>),
    /// It undid a check.
    Cancelled(Box<CheckCommand>),
    /// It let a reservation expire later.
    Renewed(ReservationId, RenewOutcome),
    /// It set counters back.
    Reset(ResetCounters),
    /// It ended leases and made new ones.
    Leased(LeaseCommand, Vec<LeaseOutcome>),
    /// It was to give a reservation back.
    Released(ReservationId, ReleaseOutcome),
    /// It looked after what is due.
    Tended,
}

/// A replica's answer to a check.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Who answered.
    pub replica: usize,
    /// The check's id, if it has one.
    pub request_id: Option<RequestId>,
    /// Whom it is for.
    pub subject: String,
    /// What it asked for, by the names of units.
    pub amounts: Vec<(String, i64)>,
    /// The true instant at which it was asked.
    pub from: Millis,
    /// The true instant of the answer.
    pub to: Millis,
    /// The answer.
    pub response: CheckResponse,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(step) => step.fmt(f),
            Self::Answered(answered) => answered.fmt(f),
            // Attempts are told apart by chance that no seed draws.
            Self::Sent(_, life) => write!(f, "life {life} sends a check"),
            Self::Heard(_) => f.write_str("a check was heard of"),
            Self::Gone(life) => write!(f, "life {life} is over"),
            Self::Accepted(event) => write!(f, "record {event} accepted"),
            Self::Appended(events) => write!(f, "log has {}", Names(events)),
            Self::RolledUp(events) => write!(f, "rolled up {}", Names(events)),
            Self::Ended => f.write_str("the end"),
        }
    }
}

struct Names<'a>(&'a [LoggedEvent]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LoggedEvent { position, event } in self.0 {
            write!(f, "{}={} ({} nanos) ", position.0, event.event_id, event.cost.get())?;
        }
        Ok(())
    }
}

impl fmt::Display for StoreStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store at {} for r{}: {}", self.now.get(), self.replica, self.deed)?;
        for id in &self.expired {
            write!(f, "; {id} expired")?;
        }
        f.write_str("; used")?;
        self.readings.iter().try_for_each(|(id, _, reading)| write!(f, " {}={}", brief(*id), reading.used))
    }
}

impl fmt::Display for StoreDeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checked(command, outcome) => describe_check(f, command, outcome),
            Self::Settled(commands) => commands.iter().try_for_each(|command| describe(f, command)),
            Self::Refused(command) => describe_charges(f, "refused", command),
            Self::Cancelled(command) => describe_charges(f, "cancel", command),
            Self::Renewed(id, outcome) => write!(f, "renew {id}: {outcome:?}"),
            Self::Reset(ResetCounters::One(id, _)) => write!(f, "set back {}", brief(*id)),
            Self::Reset(ResetCounters::All { family, .. }) => {
                write!(f, "set back all of {:04x}", family.0 & 0xffff)
            }
            Self::Leased(command, outcomes) => describe_leases(f, command, outcomes),
            Self::Released(id, outcome) => write!(f, "release {id}: {outcome:?}"),
            Self::Tended => f.write_str("tended"),
        }
    }
}

fn describe_check(f: &mut fmt::Formatter<'_>, command: &CheckCommand, outcome: &CheckOutcome) -> fmt::Result {
    describe_charges(f, "check", command)?;
    match outcome {
        CheckOutcome::ContentDiffers => f.write_str(" the id has other content"),
        CheckOutcome::Decided(decided) => {
            let answer = if decided.verdict.allowed { "allowed" } else { "denied" };
            let again = if decided.replayed { " again" } else { "" };
            write!(f, " {answer}{again}")?;
            decided.reservation.iter().try_for_each(|(id, _)| write!(f, " as {id}"))
        }
    }
}

fn describe_charges(f: &mut fmt::Formatter<'_>, what: &str, command: &CheckCommand) -> fmt::Result {
    write!(f, "{what} {:?}", command.mode)?;
    let mut charges = command.charges.iter();
    charges.try_for_each(|charge| write!(f, " {}:{}", brief(charge.counter), charge.demand.take))
}

fn describe(f: &mut fmt::Formatter<'_>, command: &SettleCommand) -> fmt::Result {
    write!(f, "settle {} of {}", command.position.0, command.cost.get())?;
    if let Some(reservation) = &command.reservation {
        write!(f, " on {} {:?}", reservation.id, reservation.standing)?;
    }
    command.amounts.iter().try_for_each(|(unit, amount)| write!(f, " {unit}:{amount}"))?;
    f.write_str(", ")
}

fn describe_leases(
    f: &mut fmt::Formatter<'_>,
    command: &LeaseCommand,
    outcomes: &[LeaseOutcome],
) -> fmt::Result {
    f.write_str("leases:")?;
    for returned in &command.returns {
        write!(f, " {} back of {} of {}", returned.unused, returned.closed, brief(returned.counter))?;
    }
    for (request, outcome) in command.requests.iter().zip(outcomes) {
        let lent = outcome.lease.map_or(0, |lease| lease.amount);
        write!(f, " {lent} lent of {}", brief(request.counter))?;
    }
    Ok(())
}

/// A counter as a trace names it.
pub fn brief(id: CounterId) -> String {
    format!("{:04x}", id.0 & 0xffff)
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckResponse { allowed, replayed, retry_after_ms, degraded, .. } = &self.response;
        let id = self.request_id.as_ref().map_or("-", RequestId::as_str);
        write!(f, "r{} answers {id}: allowed={allowed} replayed={replayed}", self.replica)?;
        degraded.iter().try_for_each(|policy| write!(f, " by {policy:?}"))?;
        retry_after_ms.iter().try_for_each(|ms| write!(f, " retry after {ms}"))
    }
}
