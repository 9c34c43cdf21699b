//! The request headers that steer an answer, read once and bounded.

use std::{str::FromStr, time::Duration};

use http::{HeaderMap, StatusCode};

use crate::{
    bounds::{CHUNK_DELAY_MS_MAX, CHUNKS_DEFAULT, CHUNKS_MAX, DELAY_MS_MAX, STREAM_MS_MAX, TOKENS_MAX},
    refusal::Refusal,
};

const DELAY_MS: &str = "x-demo-delay-ms";
const CHUNK_DELAY_MS: &str = "x-demo-chunk-delay-ms";
const CHUNKS: &str = "x-demo-chunks";
const INPUT_TOKENS: &str = "x-demo-input-tokens";
const OUTPUT_TOKENS: &str = "x-demo-output-tokens";
const CACHED_TOKENS: &str = "x-demo-cached-tokens";
const STATUS: &str = "x-demo-status";
const NO_USAGE: &str = "x-demo-no-usage";

/// What holds where a request says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) delay: Duration,
    pub(crate) chunk_delay: Duration,
}

/// What one request asks of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) delay: Duration,
    pub(crate) chunk_delay: Duration,
    pub(crate) chunks: u64,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) no_usage: bool,
}

impl Knobs {
    /// Reads the headers; the first of them that is out of bounds is the error.
    pub(crate) fn read(headers: &HeaderMap, defaults: Defaults) -> Result<Self, Refusal> {
        let delay_ms = number(headers, DELAY_MS, 0, DELAY_MS_MAX)?;
        let chunk_delay_ms = number(headers, CHUNK_DELAY_MS, 0, CHUNK_DELAY_MS_MAX)?;
        let knobs = Self {
            delay: delay_ms.map_or(defaults.delay, Duration::from_millis),
            chunk_delay: chunk_delay_ms.map_or(defaults.chunk_delay, Duration::from_millis),
            chunks: number(headers, CHUNKS, 1, CHUNKS_MAX)?.unwrap_or(CHUNKS_DEFAULT),
            input_tokens: number(headers, INPUT_TOKENS, 0, TOKENS_MAX)?,
            output_tokens: number(headers, OUTPUT_TOKENS, 0, TOKENS_MAX)?,
            cached_tokens: number(headers, CACHED_TOKENS, 0, TOKENS_MAX)?,
            status: error_status(headers)?,
            no_usage: value::<bool>(headers, NO_USAGE, "must be true or false")?.unwrap_or(false),
        };
        knobs.within_stream_bound()
    }

    fn within_stream_bound(self) -> Result<Self, Refusal> {
        let stream_ms = self.chunk_delay.as_millis().saturating_mul(u128::from(self.chunks));
        if stream_ms > u128::from(STREAM_MS_MAX) {
            let bound = format!("times {CHUNKS} must be at most {STREAM_MS_MAX} ms");
            return Err(Refusal::Knob { header: CHUNK_DELAY_MS, bound });
        }
        Ok(self)
    }
}

fn error_status(headers: &HeaderMap) -> Result<Option<StatusCode>, Refusal> {
    let Some(number) = number(headers, STATUS, 400, 599)? else { return Ok(None) };
    let status = u16::try_from(number).ok().and_then(|code| StatusCode::from_u16(code).ok());
    status.map(Some).ok_or_else(|| out_of_bounds(STATUS, "must be an error status"))
}

fn number(headers: &HeaderMap, header: &'static str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
    let bound = format!("must be a whole number from {least} to {most}");
    match value::<u64>(headers, header, &bound)? {
        Some(number) if !(least..=most).contains(&number) => Err(out_of_bounds(header, &bound)),
        within => Ok(within),
    }
}

fn value<T: FromStr>(headers: &HeaderMap, header: &'static str, bound: &str) -> Result<Option<T>, Refusal> {
    let Some(raw) = headers.get(header) else { return Ok(None) };
    let parsed = raw.to_str().ok().and_then(|text| text.trim().parse().ok());
    parsed.map(Some).ok_or_else(|| out_of_bounds(header, bound))
}

fn out_of_bounds(header: &'static str, bound: &str) -> Refusal {
    Refusal::Knob { header, bound: bound.to_owned() }
}

#[cfg(test)]
mod tests;
