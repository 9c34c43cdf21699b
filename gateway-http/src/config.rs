//! Every bound of the gateway that an operator may set, with its default and its reason.

use std::time::Duration;

use http::HeaderName;
use rateguard_serving::WRITE_STALL_MAX;

use crate::backoff::Backoff;
use crate::secret::Secret;

/// Longest token of a gateway, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// Largest body on a vendor's dialect, in bytes: it is read whole, since model, maximum and `stream`
/// stand in it. Several times the largest prompt that a vendor takes, images included.
pub const VENDOR_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that bodies and answers may hold in memory together.
pub const HELD_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Longest wait for a body that is read whole: the largest at 1 Mbit/s.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(300);

/// Longest wait for the next part of such a body. A client that sends nothing for so long is gone, or
/// keeps a place that others could have.
pub const BODY_STALL_MAX: Duration = Duration::from_secs(30);

/// Largest answer that is held back to be priced before its head is sent, in bytes.
pub const HELD_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Largest answer that is kept while it passes, so that its usage can be read at its end, in bytes.
pub const READ_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest that an answer may take to pass. The life of a reservation bounds it further, see
/// [`SETTLEMENT_WAIT`].
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(3_600);

/// Calls in flight, those included whose client has left.
pub const CALLS_MAX: usize = 4_096;

/// Calls whose report has not been taken yet, those in flight included. Beyond it new calls are
/// refused, so that no usage is lost for want of room.
pub const REPORTS_PENDING_MAX: usize = 16_384;

/// Records in one report; the contract's own bound.
pub const REPORT_RECORDS_MAX: usize = 1_000;

/// Times that one report is sent. With [`REPORT_BACKOFF`] it goes on for some ten minutes; the
/// reservation of a report that is given up charges its floor when it expires.
pub const REPORT_ATTEMPTS_MAX: u32 = 40;

/// Times that a check of which nobody knows what came is repeated, to give back what it may have
/// reserved. With [`REPORT_BACKOFF`] it goes on for some 45 s, and the waits for answers besides: long
/// enough for a server that starts again, and short enough not to keep the places of reports.
pub const LOST_CHECK_REPEATS_MAX: u32 = 10;

/// Wait between two attempts to report or release.
pub const REPORT_BACKOFF: Backoff =
    Backoff { shortest: Duration::from_millis(50), longest: Duration::from_secs(20) };

/// Upstream calls that go on at once although their client has left.
pub const DRAINS_MAX: usize = 256;

/// Longest that such a call goes on.
pub const DRAIN_DURATION_MAX: Duration = Duration::from_secs(120);

/// Longest wait for an answer of the control server.
pub const CONTROL_DEADLINE: Duration = Duration::from_secs(5);

/// Shortest life of a reservation, by the contract.
pub const RESERVATION_LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Longest life of a reservation, by the contract.
pub const RESERVATION_LIFETIME_MAX: Duration = Duration::from_secs(3_600);

/// How long a reservation outlives the longest call that it is for, so that the report still finds
/// it. Calls are cut off so early that this much is left also of the longest life. An answer that its
/// client does not read is cut off up to a write's longest stall later.
pub const SETTLEMENT_WAIT: Duration = Duration::from_secs(60);

const _: () = assert!(WRITE_STALL_MAX.as_millis() < SETTLEMENT_WAIT.as_millis());

/// How long a route is believed without asking again, for changes that the watch could not tell of.
pub const ROUTE_LIFETIME: Duration = Duration::from_secs(5);

/// Routes that are kept.
pub const ROUTES_MAX: usize = 10_000;

/// Wait before the watch of routes connects again.
pub const WATCH_BACKOFF: Backoff =
    Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// How a gateway behaves. [`GatewayConfig::new`] gives every bound its default.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// What the gateway shows the control server to be known as a gateway.
    pub token: Secret,
    /// See [`VENDOR_BODY_BYTES_MAX`].
    pub vendor_body_bytes_max: usize,
    /// See [`HELD_BYTES_MAX`].
    pub held_bytes_max: usize,
    /// See [`BODY_WAIT_MAX`].
    pub body_wait_max: Duration,
    /// See [`BODY_STALL_MAX`].
    pub body_stall_max: Duration,
    /// See [`HELD_ANSWER_BYTES_MAX`].
    pub held_answer_bytes_max: usize,
    /// See [`READ_ANSWER_BYTES_MAX`].
    pub read_answer_bytes_max: usize,
    /// See [`ANSWER_DURATION_MAX`].
    pub answer_duration_max: Duration,
    /// See [`CALLS_MAX`].
    pub calls_max: usize,
    /// See [`REPORTS_PENDING_MAX`].
    pub reports_pending_max: usize,
    /// See [`REPORT_RECORDS_MAX`]; at least 1.
    pub report_records_max: usize,
    /// See [`REPORT_ATTEMPTS_MAX`].
    pub report_attempts_max: u32,
    /// See [`REPORT_BACKOFF`].
    pub report_backoff: Backoff,
    /// See [`DRAINS_MAX`].
    pub drains_max: usize,
    /// See [`DRAIN_DURATION_MAX`].
    pub drain_duration_max: Duration,
    /// See [`CONTROL_DEADLINE`].
    pub control_deadline: Duration,
    /// See [`LOST_CHECK_REPEATS_MAX`].
    pub lost_check_repeats_max: u32,
    /// A life for every reservation instead of the one that follows from its call, which this may make
    /// too short. The server takes [`RESERVATION_LIFETIME_MIN`] to [`RESERVATION_LIFETIME_MAX`].
    pub reservation_lifetime: Option<Duration>,
    /// See [`ROUTE_LIFETIME`].
    pub route_lifetime: Duration,
    /// See [`ROUTES_MAX`].
    pub routes_max: usize,
    /// See [`WATCH_BACKOFF`].
    pub watch_backoff: Backoff,
    /// Where the end user's address stands.
    pub client_address: ClientAddress,
    /// Whether denied calls are reported, at no cost, so that they show in the analytics. Best effort.
    pub denials_reported: bool,
}

/// Where the address of a client is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the connection.
    #[default]
    Peer,
    /// The last address in this header, which a trusted proxy in front sets or appends to; the peer
    /// where it holds none.
    Header(HeaderName),
}

impl GatewayConfig {
    /// Every bound at its default.
    pub fn new(token: Secret) -> Self {
        Self {
            token,
            vendor_body_bytes_max: VENDOR_BODY_BYTES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
            body_wait_max: BODY_WAIT_MAX,
            body_stall_max: BODY_STALL_MAX,
            held_answer_bytes_max: HELD_ANSWER_BYTES_MAX,
            read_answer_bytes_max: READ_ANSWER_BYTES_MAX,
            answer_duration_max: ANSWER_DURATION_MAX,
            calls_max: CALLS_MAX,
            reports_pending_max: REPORTS_PENDING_MAX,
            report_records_max: REPORT_RECORDS_MAX,
            report_attempts_max: REPORT_ATTEMPTS_MAX,
            report_backoff: REPORT_BACKOFF,
            drains_max: DRAINS_MAX,
            drain_duration_max: DRAIN_DURATION_MAX,
            control_deadline: CONTROL_DEADLINE,
            lost_check_repeats_max: LOST_CHECK_REPEATS_MAX,
            reservation_lifetime: None,
            route_lifetime: ROUTE_LIFETIME,
            routes_max: ROUTES_MAX,
            watch_backoff: WATCH_BACKOFF,
            client_address: ClientAddress::Peer,
            denials_reported: true,
        }
    }
}
