//! The invariants by their numbers, as predicates over the books. After every step of a run each of
//! them is asked.

use crate::books::Books;
use crate::books::decided::Foretold;
use crate::books::facts::{Breach, Decision, Facts, Kind, Wrong};
use crate::steps::brief;
use rateguard_core::reservation::ReservationState;
use rateguard_core::rule::Enforcement;

/// One invariant.
pub struct Invariant {
    /// Its number, as `docs/INVARIANTS.md` has it.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What is wrong with a step, if something is.
    violated: fn(&Books, &Facts) -> Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
}

/// Every invariant that a run is held against.
pub const REGISTRY: &[Invariant] = &[
    Invariant { id: "Q1", name: "never over", violated: over },
    Invariant { id: "Q2", name: "all or none", violated: partly_taken },
    Invariant { id: "Q3", name: "once", violated: not_once },
    Invariant { id: "Q4", name: "conservation", violated: not_conserved },
    Invariant { id: "Q5", name: "honest hint", violated: dishonest },
    Invariant { id: "U1", name: "accepted means counted", violated: uncounted },
    Invariant { id: "U2", name: "duplicates do not count", violated: counted_twice },
    Invariant { id: "U3", name: "money adds up", violated: money_off },
    Invariant { id: "U4", name: "never below", violated: settled_wrongly },
];

/// What a step violates.
pub fn violations<'a>(books: &'a Books, facts: &'a Facts) -> impl Iterator<Item = Violation> + 'a {
    REGISTRY.iter().filter_map(move |invariant| {
        let what = (invariant.violated)(books, facts)?;
        Some(Violation { invariant: invariant.id, what })
    })
}

fn over(books: &Books, facts: &Facts) -> Option<String> {
    if let Some(over) = books.answers.over.first().filter(|_| facts.kind == Kind::Answered) {
        return Some(over.clone());
    }
    let lent = facts.lent.iter().filter_map(|id| Some((id, books.counters.get(id)?)));
    let mut over_lent = lent.filter_map(|(id, book)| Some((id, book.admitted_over(books.now)?)));
    if let Some((id, over)) = over_lent.next() {
        return Some(format!("of {} {over}, leases included", brief(*id)));
    }
    let decision = facts.decision.as_ref().filter(|_| facts.kind == Kind::Allowed)?;
    let enforced = decision.asked.iter().filter(|a| a.charge.enforcement == Enforcement::Enforced);
    enforced.into_iter().find_map(|asked| {
        let (need, size) = (i128::from(asked.charge.demand.need), i128::from(asked.charge.limit.size()));
        let is_short = need > (size - asked.range.low).max(0);
        let counter = brief(asked.charge.counter);
        if is_short {
            let low = asked.range.low;
            return Some(format!("{need} more of {counter} were allowed where {low} of {size} stood"));
        }
        let book = books.counters.get(&asked.charge.counter)?;
        book.admitted_over(books.now).map(|over| format!("of {counter} {over}"))
    })
}

fn partly_taken(books: &Books, facts: &Facts) -> Option<String> {
    match facts.breach {
        Some(Breach::RefusedUncancelled) => {
            return Some("a check was refused that nobody cancelled".to_owned());
        }
        Some(Breach::CancelledHeard) => return Some("a check was undone that had been answered".to_owned()),
        Some(Breach::RenewedWrongly) | None => {}
    }
    if facts.decision.as_ref().is_some_and(|decision| decision.was_cancelled) {
        return Some("a check was decided that had been cancelled before".to_owned());
    }
    if facts.kind == Kind::Ended
        && let Some(made) = books.undo.forgotten()
    {
        // Its id and its attempts are chance of the engine's own.
        let taken: Vec<String> = made.takings.iter().map(|(counter, _)| brief(*counter)).collect();
        let number = made.number;
        return Some(format!("nobody was told of decision {number}, or undid it: it took of {taken:?}"));
    }
    let changes = matches!(facts.kind, Kind::Allowed | Kind::Denied | Kind::Refused | Kind::Cancelled);
    let wrong = facts.wrong.first().filter(|_| changes && facts.expired == 0)?;
    Some(format!("after a check that was {:?} {}", facts.kind, describe(wrong)))
}

fn not_once(_: &Books, facts: &Facts) -> Option<String> {
    let decision = facts.decision.as_ref()?;
    if let (Kind::Replayed, Some(wrong)) = (facts.kind, facts.wrong.first().filter(|_| facts.expired == 0)) {
        return Some(format!("after a repetition {}", describe(wrong)));
    }
    match (&decision.remembered, decision.content) {
        (Some(known), Some(content)) if known.content == content => {
            let same = decision.allowed && decision.replayed && decision.reservation == known.reservation;
            (!same).then(|| format!("a repetition was decided anew: {decision:?}"))
        }
        (Some(_), Some(_)) => (!decision.content_differs).then(|| "other content was decided".to_owned()),
        _ => (decision.replayed || decision.content_differs)
            .then(|| format!("a decision was given again that does not stand: {decision:?}")),
    }
}

fn not_conserved(books: &Books, facts: &Facts) -> Option<String> {
    if facts.breach == Some(Breach::RenewedWrongly) {
        return Some("a reservation was renewed that was over, or to end earlier".to_owned());
    }
    let gives_back = match facts.kind {
        Kind::Released | Kind::Tended | Kind::Leased | Kind::Renewed | Kind::Reset => true,
        _ => facts.expired > 0,
    };
    if let Some(wrong) = facts.wrong.first().filter(|_| gives_back) {
        return Some(format!("after what was held went back {}", describe(wrong)));
    }
    let open = |state| state == ReservationState::Open;
    let (id, _) = books
        .reservations
        .iter()
        .filter(|_| facts.kind == Kind::Ended)
        .find(|(_, book)| open(book.state) && book.expires_at < books.now)?;
    Some(format!("{id} holds what it took beyond its end"))
}

fn dishonest(_: &Books, facts: &Facts) -> Option<String> {
    let decision = facts.decision.as_ref().filter(|_| facts.kind != Kind::Replayed)?;
    match (decision.foretold, decision.allowed) {
        (Some(Foretold::Passes), false) => Some("a hint was kept, and the call was denied again".to_owned()),
        (Some(Foretold::Denied), true) => Some("a call passed before its hint".to_owned()),
        (_, false) if surely_passes(decision) => Some(format!("denied for no reason: {decision:?}")),
        _ => None,
    }
}

fn surely_passes(decision: &Decision) -> bool {
    let enforced = decision.asked.iter().filter(|a| a.charge.enforcement == Enforcement::Enforced);
    enforced.into_iter().all(|asked| {
        let left = (i128::from(asked.charge.limit.size()) - asked.range.high).max(0);
        i128::from(asked.charge.demand.need) <= left
    })
}

fn uncounted(books: &Books, facts: &Facts) -> Option<String> {
    let log = &books.log;
    match facts.kind {
        Kind::Accepted => {
            let lost = log.accepted.keys().find(|id| !log.positions.contains_key(*id))?;
            Some(format!("{lost} was accepted and is not in the log"))
        }
        Kind::Ended => {
            let lost = log.costs.keys().find(|position| !log.rolled_up.contains(*position))?;
            Some(format!("the event at {lost} was never rolled up"))
        }
        _ => None,
    }
}

fn counted_twice(books: &Books, facts: &Facts) -> Option<String> {
    let log = &books.log;
    match facts.kind {
        Kind::SettledAgain => {
            let wrong = facts.wrong.first().filter(|_| facts.expired == 0)?;
            Some(format!("after settling again {}", describe(wrong)))
        }
        Kind::Accepted => {
            let (id, _) = log.accepted.iter().find(|(_, times)| **times > 1)?;
            Some(format!("{id} was accepted twice"))
        }
        Kind::RolledUp => {
            log.rolled_up_again.first().map(|position| format!("the event at {position} was rolled up twice"))
        }
        _ => None,
    }
}

fn money_off(books: &Books, facts: &Facts) -> Option<String> {
    let wrong = facts.wrong.iter().find(|wrong| wrong.counter.1);
    if let Some(wrong) = wrong.filter(|_| facts.kind == Kind::Settled && facts.expired == 0) {
        return Some(format!("after a settlement {}", describe(wrong)));
    }
    let budgets = books.counters.values().filter(|book| book.is_budget());
    let (settled, logged) = (books.settled_through, books.log.cost_through(books.settled_through));
    if let Some(book) = budgets.clone().find(|book| book.spent != logged) {
        return Some(format!("a budget has spent {} where the log has {logged} up to {settled}", book.spent));
    }
    let behind = facts.kind == Kind::Ended && settled < books.log.end();
    behind.then(|| format!("only {settled} of {} records are settled", books.log.end()))
}

fn settled_wrongly(_: &Books, facts: &Facts) -> Option<String> {
    let wrong = facts.wrong.iter().find(|wrong| !wrong.counter.1)?;
    let is_it = facts.kind == Kind::Settled && facts.expired == 0;
    is_it.then(|| format!("after a settlement {}", describe(wrong)))
}

fn describe(wrong: &Wrong) -> String {
    let Wrong { counter: (id, _), used, range } = wrong;
    let must = if range.low == range.high {
        range.low.to_string()
    } else {
        format!("{} to {}", range.low, range.high)
    };
    format!("{} has {used} where it must have {must}", brief(*id))
}

#[cfg(test)]
mod tests;
