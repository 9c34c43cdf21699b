//! Instants in whole milliseconds, and windows that follow a calendar.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};

use crate::invalid::Invalid;

/// Milliseconds since the Unix epoch, UTC. Within years 1970 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Millis(i64);

/// 9999-12-30T00:00:00Z: a day before the last instant the calendar can name.
const MILLIS_MAX: i64 = 253_402_128_000_000;

impl Millis {
    /// The epoch.
    pub const ZERO: Self = Self(0);

    /// An instant, clamped into the years 1970 to 9999.
    pub fn new(ms: i64) -> Self {
        Self(ms.clamp(0, MILLIS_MAX))
    }

    /// Milliseconds since the epoch.
    pub fn get(self) -> i64 {
        self.0
    }

    /// This instant and `ms` more (or fewer, when negative).
    #[must_use]
    pub fn plus(self, ms: i64) -> Self {
        Self::new(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; zero when the clock stepped back.
    pub fn since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).max(0)
    }
}

/// A time zone of the bundled database, by its IANA name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Looks a zone up by its IANA name.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when the bundled database has no such zone.
    pub fn parse(field: &'static str, name: &str) -> Result<Self, Invalid> {
        TimeZone::get(name)
            .ok()
            .filter(|zone| !zone.is_unknown())
            .map(Self)
            .ok_or_else(|| Invalid::new(field, format!("{name:?} is not a time zone of the IANA database")))
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

/// The lengths that a calendar gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarPeriod {
    /// A clock hour.
    Hour,
    /// Midnight to midnight.
    Day,
    /// Monday to Monday (ISO 8601).
    Week,
    /// The first to the first.
    Month,
}

/// The window that holds an instant, half-open, with the end of the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First instant inside.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// First instant after the following window.
    pub next_end: Millis,
}

impl Bounds {
    /// Whether the window holds `at`.
    pub fn contain(&self, at: Millis) -> bool {
        self.start <= at && at < self.end
    }
}

impl CalendarPeriod {
    /// The period as it stands in a counter's identity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
        }
    }

    /// The window of this period that holds `at` in `zone`. Every instant lies in exactly one
    /// window, also where the clocks go forward or back; only the very last instant, at the end of
    /// the year 9999, has none after it and so an empty one.
    pub fn bounds(self, zone: &Zone, at: Millis) -> Bounds {
        let (start, end) = self.window(zone, at);
        Bounds { start, end, next_end: self.window(zone, end).1 }
    }

    fn window(self, zone: &Zone, at: Millis) -> (Millis, Millis) {
        match self {
            Self::Hour => hour(zone, at),
            Self::Day => days(zone, at, |date| date, 1.day()),
            Self::Week => days(zone, at, monday, 1.week()),
            Self::Month => days(zone, at, Date::first_of_month, 1.month()),
        }
    }
}

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// A clock hour is an elapsed hour of the current offset: an hour that the clocks repeat is two. A
/// change of offset that is no whole hour ends one early.
fn hour(zone: &Zone, at: Millis) -> (Millis, Millis) {
    let elapsed_ms = (at.get() + minutes_ms(zone, at)).rem_euclid(HOUR_MS);
    let (aligned, full) = (at.plus(-elapsed_ms), at.plus(HOUR_MS - elapsed_ms));
    let cuts = |at: &Millis| minutes_ms(zone, *at) != minutes_ms(zone, at.plus(-1));
    let before = zone.0.preceding(timestamp(at.plus(1))).map(|t| millis(t.timestamp()));
    let after = zone.0.following(timestamp(at)).map(|t| millis(t.timestamp()));
    let start = before.take_while(|change| *change > aligned).find(cuts).unwrap_or(aligned);
    let end = after.take_while(|change| *change < full).find(cuts).unwrap_or(full);
    (start, end)
}

/// By how much the zone's hours begin before those of UTC.
fn minutes_ms(zone: &Zone, at: Millis) -> i64 {
    (i64::from(zone.0.to_offset(timestamp(at)).seconds()) * 1_000).rem_euclid(HOUR_MS)
}

/// The window of whole days that holds `at`: `first` names the first day of a window that holds a
/// day, `length` leads to the next one.
fn days(zone: &Zone, at: Millis, first: fn(Date) -> Date, length: Span) -> (Millis, Millis) {
    let mut date = first(timestamp(at).to_zoned(zone.0.clone()).date());
    // Where the clocks go back over midnight, the day before is named again after the next one has
    // begun: such instants belong to the next one.
    while let Ok(next) = date.checked_add(length) {
        let end = opening(zone, next);
        if end > at {
            return (opening(zone, date), end);
        }
        date = next;
    }
    (opening(zone, date), Millis::new(MILLIS_MAX))
}

fn monday(date: Date) -> Date {
    let days = i64::from(date.weekday().to_monday_zero_offset());
    date.checked_sub(days.days()).unwrap_or(date)
}

/// The first instant at which the zone's clocks show `date` or a later one.
fn opening(zone: &Zone, date: Date) -> Millis {
    let midnight = date.to_datetime(Time::midnight());
    let instant = match zone.0.to_ambiguous_timestamp(midnight).offset() {
        AmbiguousOffset::Unambiguous { offset: before } | AmbiguousOffset::Fold { before, .. } => {
            before.to_timestamp(midnight).map(millis)
        }
        // The clocks jump over midnight: the day opens where they jump.
        AmbiguousOffset::Gap { before, .. } => before.to_timestamp(midnight).map(|at| {
            let jump = zone.0.preceding(timestamp(millis(at).plus(1))).next();
            millis(jump.map_or(at, |jump| jump.timestamp()))
        }),
    };
    // Only dates after the last instant have no instant.
    instant.unwrap_or(Millis(MILLIS_MAX))
}

fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.get()).unwrap_or(Timestamp::MAX)
}

fn millis(at: Timestamp) -> Millis {
    Millis::new(at.as_millisecond())
}

#[cfg(test)]
mod tests;
