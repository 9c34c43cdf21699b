//! One counter as its history says that it must stand: every amount with its instant, summed anew
//! whenever somebody asks.

use rateguard_core::counter::lent::GENERATION_MS;
use rateguard_core::counter::{Limit, Mark, Refill};
use rateguard_core::time::Millis;

/// Parts of a sliding window that count whole, as the product says.
const SLIDING_PARTS: i64 = 60;

/// For how long a bucket counts what it lends as lent, at most.
const LENT_MS_MAX: i64 = 2 * GENERATION_MS;

/// The least and the most that may stand in a counter, both inclusive. They differ where a rule of
/// the product leaves room: sliding windows count by parts, and a bucket gives back less than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// At least.
    pub low: i128,
    /// At most.
    pub high: i128,
}

impl Range {
    /// Whether a figure lies in it.
    pub fn holds(&self, figure: i128) -> bool {
        self.low <= figure && figure <= self.high
    }
}

/// An amount in a counter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it counts.
    pub at: Millis,
    /// What stands now.
    pub amount: i64,
    /// What a check took; zero for what was only reported.
    pub taken: i64,
    /// What was added after it was taken, and when.
    added: Vec<(Millis, i64)>,
}

impl Entry {
    /// What surely stands of it in a bucket. One that has run dry may be forgotten with what others took
    /// in it, and what comes on top of an amount later is then given back sooner.
    fn surely(&self) -> i64 {
        self.amount.min(self.taken)
    }

    /// What counts as admitted: what was taken, or less where less was used.
    fn admitted(&self) -> i64 {
        self.taken.min(self.amount)
    }
}

/// Units that a replica took in advance.
#[derive(Clone, Copy, Debug)]
struct Lending {
    mark: Mark,
    place: usize,
}

/// The history of one counter.
#[derive(Clone, Debug)]
pub struct CounterBook {
    /// What it was held against the last time.
    pub limit: Limit,
    /// Goes up with every change.
    pub version: u64,
    entries: Vec<Entry>,
    lendings: Vec<Lending>,
    /// Money spent.
    pub spent: i128,
    /// Money held, or calls that run.
    pub held: i128,
}

impl CounterBook {
    /// A counter in which nothing happened.
    pub fn new(limit: Limit) -> Self {
        Self { limit, version: 0, entries: Vec::new(), lendings: Vec::new(), spent: 0, held: 0 }
    }

    /// Whether it counts money that is held and spent.
    pub fn is_budget(&self) -> bool {
        matches!(self.limit, Limit::Budget { .. })
    }

    /// Whether what checks take of it is held until something ends.
    pub fn is_held(&self) -> bool {
        self.is_budget() || matches!(self.limit, Limit::Concurrency { .. })
    }

    /// A check took an amount. Says where it stands.
    pub fn take(&mut self, at: Millis, amount: i64) -> usize {
        self.version += u64::from(amount != 0);
        self.entries.push(Entry { at, amount, taken: amount, added: Vec::new() });
        self.entries.len() - 1
    }

    /// A replica took an amount in advance.
    pub fn lend(&mut self, at: Millis, amount: i64, mark: Mark) {
        let place = self.take(at, amount);
        self.lendings.push(Lending { mark, place });
    }

    /// A replica gave back what it had taken at a mark and not spent: the newest first.
    pub fn end_lease(&mut self, mark: Mark, unused: i64) {
        let mut left = unused;
        self.version += u64::from(unused != 0);
        for lending in self.lendings.iter().rev().filter(|lending| end_together(lending.mark, mark)) {
            let Some(entry) = self.entries.get_mut(lending.place) else { continue };
            let part = left.min(entry.amount);
            entry.amount -= part;
            left -= part;
        }
    }

    /// A record without a reservation charged an amount.
    pub fn charge(&mut self, at: Millis, amount: i64, now: Millis) {
        self.version += 1;
        match self.limit {
            Limit::Budget { .. } => self.spent += i128::from(amount),
            // A call that was reported is over.
            Limit::Concurrency { .. } => {}
            _ => self.entries.push(Entry { at: at.min(now), amount, taken: 0, added: vec![(now, amount)] }),
        }
    }

    /// A check that was denied took an amount all the same, which is debt.
    pub fn owe(&mut self, at: Millis, amount: i64) {
        self.version += u64::from(amount != 0);
        self.entries.push(Entry { at, amount, taken: 0, added: vec![(at, amount)] });
    }

    /// It was set back to nothing used: what stood in it counts in it no more.
    pub fn reset(&mut self) {
        self.version += 1;
        self.held = 0;
        // Their places stay, for whoever has them.
        for entry in &mut self.entries {
            *entry = Entry { at: Millis::ZERO, amount: 0, taken: 0, added: Vec::new() };
        }
    }

    /// What stands at a place becomes another amount.
    pub fn correct(&mut self, place: usize, amount: i64, now: Millis) {
        let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.amount != amount) else { return };
        self.version += 1;
        if amount > entry.amount {
            entry.added.push((now, amount - entry.amount));
        }
        entry.amount = amount;
    }

    /// Money is held, or freed where it is negative.
    pub fn hold(&mut self, nanos: i64) {
        self.version += u64::from(nanos != 0);
        self.held += i128::from(nanos);
    }

    /// What must stand in it now.
    pub fn range(&self, now: Millis) -> Range {
        match self.limit {
            Limit::TokenBucket { refill, .. } => self.bucket(refill, now),
            Limit::FixedWindow { window_ms, .. } => {
                self.exactly(Millis::new(now.get() - now.get() % window_ms))
            }
            Limit::CalendarWindow { bounds, .. } => {
                self.exactly(if now < bounds.end { bounds.start } else { bounds.end })
            }
            Limit::SlidingWindow { window_ms, .. } => self.sliding(window_ms, now),
            Limit::Budget { .. } | Limit::Concurrency { .. } => {
                let used = self.spent + self.held;
                Range { low: used, high: used }
            }
        }
    }

    fn exactly(&self, since: Millis) -> Range {
        let used = self.sum(since, |entry| entry.amount);
        Range { low: used, high: used }
    }

    fn sum(&self, since: Millis, of: impl Fn(&Entry) -> i64) -> i128 {
        self.entries.iter().filter(|entry| entry.at >= since).map(|entry| i128::from(of(entry))).sum()
    }

    /// An amount counts for the whole window, and for at most one part more.
    fn sliding(&self, window_ms: i64, now: Millis) -> Range {
        let longest_ms = (SLIDING_PARTS + 1) * part_ms(window_ms);
        let low = self.sum(now.plus(1 - window_ms), |entry| entry.amount);
        let high = self.sum(now.plus(1 - longest_ms), |entry| entry.amount);
        Range { low: low.min(high), high: high.max(low) }
    }

    /// At least what would stand if only that had been taken which was used, and at most what would
    /// if nothing had ever been given back.
    fn bucket(&self, refill: Refill, now: Millis) -> Range {
        let taken = self.entries.iter().filter(|entry| entry.taken > 0);
        let low = level(refill, taken.map(|entry| (entry.at, entry.surely())).collect(), now);
        let low = low.max(self.alone(refill, now));
        // A bucket does not refill what is lent as long as it may be spent.
        let longest_ms = |place| if self.is_lent(place) { LENT_MS_MAX } else { 0 };
        let most = self.entries.iter().enumerate().flat_map(|(place, entry)| {
            let at = entry.at.plus(longest_ms(place)).min(now.max(entry.at));
            entry.added.iter().copied().chain((entry.taken > 0).then_some((at, entry.taken)))
        });
        Range { low, high: level(refill, most.collect(), now) }
    }

    /// What stands at least of the one amount that something came on top of: that is never given back by
    /// the refill that gives back the amount. Of several, one may have been added before the bucket ran dry
    /// by what is known of another.
    fn alone(&self, refill: Refill, now: Millis) -> i128 {
        let mut with_more = self.entries.iter().filter(|entry| !entry.added.is_empty());
        match (with_more.next(), with_more.next()) {
            (Some(entry), None) if entry.taken > 0 => level(refill, vec![(entry.at, entry.amount)], now),
            _ => 0,
        }
    }

    /// What checks and holders of leases were given from an instant on, and have not given back.
    pub fn given_since(&self, since: Millis) -> i128 {
        self.sum(since, Entry::admitted)
    }

    fn is_lent(&self, place: usize) -> bool {
        self.lendings.iter().any(|lending| lending.place == place)
    }

    /// Whether what checks were allowed to take since any instant passes the limit.
    pub fn admitted_over(&self, now: Millis) -> Option<String> {
        let size = i128::from(self.limit.size());
        let over = |admitted: i128, since: Millis| {
            (admitted > size).then(|| format!("{admitted} of {size} were admitted since {}", since.get()))
        };
        let since = match self.limit {
            Limit::TokenBucket { refill, .. } => return self.bucket_over(refill, now),
            Limit::FixedWindow { window_ms, .. } => Millis::new(now.get() - now.get() % window_ms),
            Limit::CalendarWindow { bounds, .. } if now < bounds.end => bounds.start,
            Limit::CalendarWindow { bounds, .. } => bounds.end,
            Limit::SlidingWindow { window_ms, .. } => now.plus(1 - window_ms),
            Limit::Concurrency { .. } => return over(self.held, now),
            // Money that is spent beyond what was held is debt, which no check was allowed.
            Limit::Budget { .. } => return None,
        };
        over(self.sum(since, Entry::admitted), since)
    }

    fn bucket_over(&self, refill: Refill, now: Millis) -> Option<String> {
        let mut admitted = 0;
        let capacity = i128::from(self.limit.size());
        for entry in self.entries.iter().rev() {
            admitted += i128::from(entry.admitted());
            let refilled = i128::from(refill.units()) * i128::from(now.since(entry.at));
            let excess = (admitted - capacity) * i128::from(refill.period_ms()) - refilled;
            if entry.taken > 0 && excess > 0 {
                let since = entry.at.get();
                return Some(format!(
                    "{admitted} were admitted since {since}, over {capacity} and the refill"
                ));
            }
        }
        None
    }
}

/// How long each part of a sliding window is.
pub fn part_ms(window_ms: i64) -> i64 {
    (window_ms + SLIDING_PARTS - 1) / SLIDING_PARTS
}

/// Whether a holder tells of leases at two marks as of one.
fn end_together(one: Mark, other: Mark) -> bool {
    match (one, other) {
        (Mark::TokenBucket { at, .. }, Mark::TokenBucket { at: other, .. }) => {
            at.get() / GENERATION_MS == other.get() / GENERATION_MS
        }
        (one, other) => one == other,
    }
}

/// The level of a bucket into which these amounts went, in whole units rounded up.
fn level(refill: Refill, mut amounts: Vec<(Millis, i64)>, now: Millis) -> i128 {
    amounts.sort_by_key(|(at, _)| *at);
    let period = i128::from(refill.period_ms());
    let (mut ticks, mut last) = (0_i128, Millis::ZERO);
    for (at, amount) in amounts {
        ticks = drained(refill, ticks, at.since(last)) + i128::from(amount) * period;
        last = at;
    }
    (drained(refill, ticks, now.since(last)) + period - 1) / period
}

fn drained(refill: Refill, ticks: i128, elapsed_ms: i64) -> i128 {
    (ticks - i128::from(refill.units()) * i128::from(elapsed_ms)).max(0)
}

#[cfg(test)]
mod tests;
