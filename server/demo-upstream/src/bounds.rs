//! Every bound of the demo upstream, with its reason.

use std::time::Duration;

/// Longest wait for a request's whole body.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest wait for calls in flight after the shutdown was asked for; what still runs then is cut off.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Largest body in bytes on a vendor's path: what a gateway lets through (32 MiB) and room for what it adds.
pub const BODY_BYTES_MAX: usize = 33 * 1024 * 1024;

/// Largest body in bytes on `/echo`, which counts it and keeps nothing.
pub const ECHO_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Largest body in bytes that [`Observations::last_body`](crate::Observations::last_body) keeps.
pub const KEPT_BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest model name in bytes.
pub const MODEL_BYTES_MAX: usize = 256;

/// Most characters of the caller's text that an answer repeats.
pub const REPEATED_CHARS_MAX: usize = 400;

/// Largest `x-demo-delay-ms`, and largest configured delay, in milliseconds.
pub const DELAY_MS_MAX: u64 = 60_000;

/// Largest `x-demo-chunk-delay-ms`, and largest configured one, in milliseconds.
pub const CHUNK_DELAY_MS_MAX: u64 = 10_000;

/// Largest `x-demo-chunks`.
pub const CHUNKS_MAX: u64 = 10_000;

/// Pieces of text in a stream whose caller asked for no number.
pub const CHUNKS_DEFAULT: u64 = 8;

/// Longest stream in milliseconds: pieces of text times the wait before each.
pub const STREAM_MS_MAX: u64 = 600_000;

/// Largest token count that a header may ask to be reported.
pub const TOKENS_MAX: u64 = 1_000_000_000;
