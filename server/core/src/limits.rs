//! Every bound of the contract, in one place, with its reason.
//!
//! Names end in the unit they bound. The wire adapters check input against these before anything
//! else happens; the stores rely on them for their own arithmetic.

/// Longest caller-chosen id (`request_id`, `event_id`), in bytes: long enough for any UUID with a
/// prefix, short enough to be copied freely.
pub const ID_BYTES_MAX: usize = 128;
/// Longest `subject`, attribute value or endpoint path, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Longest name shown to people, in bytes.
pub const DISPLAY_NAME_BYTES_MAX: usize = 128;
/// Longest slug, unit or attribute name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Attributes of one call.
pub const ATTRIBUTES_MAX: usize = 16;
/// Dimensions of one usage record.
pub const DIMENSIONS_MAX: usize = 16;
/// Units named by one call or record.
pub const UNIT_AMOUNTS_MAX: usize = 8;
/// Values in one list of a rule's match (APIs, globs, keys, ranges …).
pub const MATCH_VALUES_MAX: usize = 64;
/// Dimensions that make up one counter's scope.
pub const SCOPE_DIMENSIONS_MAX: usize = 4;
/// Rules of one workspace: a plan is compiled whole and kept in memory.
pub const RULES_PER_WORKSPACE_MAX: usize = 1_000;
/// Keys and subjects for whom one rule has another amount: they are kept with the plan.
pub const OVERRIDES_PER_RULE_MAX: usize = 100;
/// Budgets of one workspace.
pub const BUDGETS_PER_WORKSPACE_MAX: usize = 1_000;
/// Prices of its own that a workspace may have for one model, each from another instant on.
pub const PRICES_PER_MODEL_MAX: usize = 100;
/// Limits that may apply to one call: a decision holds its lock for all of them.
pub const LIMITS_PER_CALL_MAX: usize = 64;
/// Descriptors of one request of a proxy: more limits than a decision holds could hardly be met by fewer.
pub const DESCRIPTORS_MAX: usize = 32;
/// Entries of one descriptor: with its domain they are attributes of a call, and stay within their number.
pub const DESCRIPTOR_ENTRIES_MAX: usize = 10;
/// Checks of one batch.
pub const BATCH_CHECKS_MAX: usize = 1_000;
/// Checks of one stream that are decided at the same time: a client that sends more waits for answers.
pub const STREAM_CHECKS_MAX: usize = 256;
/// Records of one report.
pub const BATCH_RECORDS_MAX: usize = 1_000;
/// Items of one page.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Items of one page when the caller names no size.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Largest amount of one unit in one call or record. Two of these still multiply with any price in
/// 128 bits.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000;
/// Largest limit of a rule, and largest capacity × reduced period of a token bucket: the range in
/// which an IEEE double is exact, so that every store can hold it.
pub const LIMIT_MAX: i64 = 1 << 53;
/// Largest amount of a budget and largest cost of one record, in nano-units.
pub const MONEY_NANOS_MAX: i64 = 1_000_000_000_000_000_000;
/// Decimals of a price.
pub const PRICE_DECIMALS_MAX: u32 = 12;
/// Largest price of one unit, in pico-units (one million currency units).
pub const PRICE_PICOS_MAX: i64 = 1_000_000_000_000_000_000;
/// Shortest window of a rule. Below it the clock's resolution decides more than the rule.
pub const WINDOW_MS_MIN: i64 = 100;
/// Longest window of a rule without a calendar: 366 days.
pub const WINDOW_MS_MAX: i64 = 366 * 24 * 60 * 60 * 1_000;
/// Shortest sliding window that can be leased: a lease dies with its sixtieth part, which must not be
/// shorter than 100 ms.
pub const LEASED_SLIDING_WINDOW_MS_MIN: i64 = 6_000;
/// Replicas that may share what a rule keeps for the time in which its counters are away.
pub const LOCAL_REPLICAS_MAX: u16 = 1_000;
/// Life of a reservation when the caller names none.
pub const RESERVATION_TTL_MS_DEFAULT: i64 = 10 * 60 * 1_000;
/// Shortest life of a reservation.
pub const RESERVATION_TTL_MS_MIN: i64 = 1_000;
/// Longest time for which a reservation is taken or renewed; after a crash what was held stays held this
/// long.
pub const RESERVATION_TTL_MS_MAX: i64 = 60 * 60 * 1_000;
/// Longest time from a reservation's decision to its expiry, however often it is renewed: a day.
pub const RESERVATION_LIFE_MS_MAX: i64 = 24 * 60 * 60 * 1_000;
/// A reservation's record outlives its expiry by this much, so that a late report finds it.
pub const RESERVATION_RECORD_MS: i64 = 24 * 60 * 60 * 1_000;
/// Longest time for which a caller spends what it leased: so long a key that was revoked, and a limit that
/// was lowered, go unheard.
pub const CALLER_LEASE_LIFE_MS_MAX: i64 = 10_000;
/// How long after its life a caller's lease can be given back: for the way of the question, of the answer and
/// of what is given back.
pub const CALLER_LEASE_RETURN_MS: i64 = 1_000;
/// Leases that end with one question for another: more than a caller has of one kind of call.
pub const ENDED_LEASES_MAX: usize = 16;
/// Leases of callers that one server remembers for one workspace: each of a few hundred callers has some
/// for each kind of call.
pub const CALLER_LEASES_PER_WORKSPACE_MAX: usize = 10_000;
/// And for all workspaces, with a few hundred bytes for each.
pub const CALLER_LEASES_MAX: usize = 100_000;
/// How long the id of an allowed CONSUME is remembered.
pub const REQUEST_ID_LIFE_MS: i64 = 60 * 1_000;
/// How far back a record's `occurred_at` may lie.
pub const OCCURRED_BEFORE_MS_MAX: i64 = 35 * 24 * 60 * 60 * 1_000;
/// How far ahead of the server's clock a record's `occurred_at` may lie.
pub const OCCURRED_AHEAD_MS_MAX: i64 = 5 * 60 * 1_000;
/// Largest attempt number of a reservation.
pub const ATTEMPT_MAX: u32 = 1_000;
/// Tokens assumed for an answer when neither the caller nor the API nor the model states a bound.
pub const OUTPUT_TOKENS_DEFAULT: i64 = 4_096;
/// Answers of one call (`n` of chat completions).
pub const ANSWERS_MAX: i64 = 1_000;
/// Largest input-token estimate or count taken from one call.
pub const TOKENS_MAX: i64 = AMOUNT_MAX;
/// Longest secret taken from a caller, in bytes.
pub const SECRET_BYTES_MAX: usize = 4_096;
/// Longest base URL of an API, in bytes.
pub const BASE_URL_BYTES_MAX: usize = 2_048;
/// Shortest timeout of an upstream.
pub const UPSTREAM_TIMEOUT_MS_MIN: i64 = 1_000;
/// Longest timeout of an upstream: an hour.
pub const UPSTREAM_TIMEOUT_MS_MAX: i64 = 3_600_000;
/// Timeout of an upstream whose API names none: what vendor SDKs wait.
pub const UPSTREAM_TIMEOUT_MS_DEFAULT: i64 = 600_000;
/// Longest latency that a record may state: a day.
pub const LATENCY_MS_MAX: i64 = 86_400_000;
/// Largest priority of a rule, either way.
pub const PRIORITY_MAX: i32 = 1_000_000;
/// Series of one analytics query.
pub const SERIES_MAX: usize = 100;
/// Series of one analytics query when the caller names no number.
pub const SERIES_DEFAULT: usize = 10;
/// Points of one analytics query, over all series.
pub const POINTS_MAX: usize = 10_000;
/// Longest time an analytics query may span: 366 days.
pub const QUERY_SPAN_MS_MAX: i64 = 366 * 24 * 60 * 60 * 1_000;
