//! When a certificate ends, and when that is said.

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Days before the end of a certificate at which the log tells of it, the first one first: enough for
/// a person to act, for a reminder, and for an alarm.
pub const EXPIRY_TOLD_DAYS: [i64; 3] = [30, 7, 1];

const HOURS_A_DAY: i64 = 24;

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    /// Not near.
    Far,
    /// Nearer than so many of [`EXPIRY_TOLD_DAYS`].
    Days(i64),
    /// It is over.
    Over,
}

/// What was last said about which end.
#[derive(Debug)]
pub(super) struct Told {
    ends_at: Timestamp,
    nearness: Nearness,
}

impl Told {
    /// Nothing about any.
    pub(super) fn nothing() -> Self {
        Self { ends_at: Timestamp::MIN, nearness: Nearness::Far }
    }

    /// What there is to say now; each thing is said once of a certificate.
    pub(super) fn news(&mut self, ends_at: Timestamp, now: Timestamp) -> Option<Nearness> {
        let nearness = nearness(ends_at, now);
        let is_news = (self.ends_at, self.nearness) != (ends_at, nearness);
        *self = Self { ends_at, nearness };
        (is_news && nearness != Nearness::Far).then_some(nearness)
    }
}

/// The first end among certificates; `None` if one of them is none, or there are none. Years that are
/// not representable (RFC 5280, section 4.1.2.5, has one that stands for "never") are the latest ones.
pub(super) fn first_end(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let ends: Option<Vec<Timestamp>> = chain.iter().map(end).collect();
    ends?.into_iter().min()
}

fn end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let seconds = parsed.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    let known = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Some(known.unwrap_or(Timestamp::MAX))
}

fn nearness(ends_at: Timestamp, now: Timestamp) -> Nearness {
    let left = ends_at.duration_since(now);
    if left <= SignedDuration::ZERO {
        return Nearness::Over;
    }
    let within = |days: &&i64| left <= SignedDuration::from_hours(**days * HOURS_A_DAY);
    EXPIRY_TOLD_DAYS.iter().rev().find(within).map_or(Nearness::Far, |days| Nearness::Days(*days))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days_before(ends_at: Timestamp, days: i64) -> Timestamp {
        ends_at - SignedDuration::from_hours(days * HOURS_A_DAY)
    }

    #[test]
    fn the_end_is_told_once_at_each_of_its_days() {
        let ends_at: Timestamp = "2030-06-30T12:00:00Z".parse().unwrap();
        let mut told = Told::nothing();
        let news: Vec<_> = [365, 31, 30, 29, 8, 7, 6, 2, 1, 0, -1]
            .map(|days| (days, told.news(ends_at, days_before(ends_at, days))))
            .into_iter()
            .filter_map(|(days, news)| Some((days, news?)))
            .collect();
        let expected =
            [(30, Nearness::Days(30)), (7, Nearness::Days(7)), (1, Nearness::Days(1)), (0, Nearness::Over)];
        assert_eq!(news, expected);
    }

    #[test]
    fn a_new_certificate_is_told_of_anew() {
        let first: Timestamp = "2030-06-30T12:00:00Z".parse().unwrap();
        let now = days_before(first, 3);
        let mut told = Told::nothing();
        assert_eq!(told.news(first, now), Some(Nearness::Days(7)));
        let second = first + SignedDuration::from_hours(HOURS_A_DAY);
        assert_eq!(told.news(second, now), Some(Nearness::Days(7)));
        assert_eq!(told.news(Timestamp::MAX, now), None);
    }
}
