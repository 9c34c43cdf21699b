//! How many files and sockets the process may have open, and what share calls get of them.

use std::io;

use rlimit::Resource;

/// Descriptors kept for what is no call: the files of the stores, the runtime's own, connections to
/// upstreams that idle.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// Descriptors that a call through a gateway takes: its client's connection and its upstream's.
pub const DESCRIPTORS_PER_CALL: u64 = 2;

/// Connections that are accepted however low the limit is, so that a server can at least say what is wrong.
const CONNECTIONS_MIN: usize = 16;

/// How many descriptors the process may have open (`RLIMIT_NOFILE`, the soft limit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, which needs no privilege. To be done once, at start.
    ///
    /// # Errors
    /// When the system refuses; the limit is then what it was.
    pub fn raise() -> io::Result<Self> {
        Ok(Self { limit: rlimit::increase_nofile_limit(u64::MAX)? })
    }

    /// The limit as it stands.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn current() -> io::Result<Self> {
        Ok(Self { limit: Resource::NOFILE.get_soft()? })
    }

    /// The limit itself.
    pub fn limit(self) -> u64 {
        self.limit
    }

    /// Calls, and as many connections, that fit under the limit at once.
    pub fn calls_max(self) -> usize {
        let calls = self.limit.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CALL;
        usize::try_from(calls).unwrap_or(usize::MAX).max(CONNECTIONS_MIN)
    }

    /// The limit under which so many calls fit.
    pub fn needed_for(calls: usize) -> u64 {
        let calls = u64::try_from(calls).unwrap_or(u64::MAX);
        calls.saturating_mul(DESCRIPTORS_PER_CALL).saturating_add(DESCRIPTORS_RESERVED)
    }

    /// Calls out of `wanted` that fit under the limit; says so where that is fewer.
    pub fn calls_out_of(self, wanted: usize) -> usize {
        let fitting = self.calls_max();
        if fitting < wanted {
            let (limit, needed) = (self.limit, Self::needed_for(wanted));
            tracing::warn!(
                limit,
                needed,
                calls_wanted = wanted,
                calls_max = fitting,
                "the limit of open files (ulimit -Hn) is too low for the calls at once that are configured"
            );
        }
        fitting.min(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_get_what_is_left_of_the_limit_two_by_two() {
        for (limit, calls) in [(1_024, 384), (20_000, 9_872), (20_256, 10_000), (0, CONNECTIONS_MIN)] {
            assert_eq!(Descriptors { limit }.calls_max(), calls);
        }
        assert_eq!(Descriptors::needed_for(10_000), 20_256);
        assert_eq!(Descriptors { limit: 20_255 }.calls_out_of(10_000), 9_999);
        assert_eq!(Descriptors { limit: 20_256 }.calls_out_of(10_000), 10_000);
        assert_eq!(Descriptors { limit: u64::MAX }.calls_out_of(5), 5);
    }

    #[test]
    fn a_limit_is_raised_as_far_as_it_goes() {
        let hard = Resource::NOFILE.get_hard().unwrap();
        let raised = Descriptors::raise().unwrap();
        assert_eq!(raised, Descriptors::current().unwrap());
        assert_eq!(raised.limit(), hard);
    }
}
