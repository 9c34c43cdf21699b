//! The vendor's usage object, kept as stated until the end and normalised once.

use crate::usage::fields::Field;
use crate::usage::{TokenUsage, UnknownReason, UsageFlags};

/// The counts as the vendor states them; cumulative ones overwrite.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// The tier that answered.
    pub(super) service_tier: Option<String>,
    stated: bool,
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
}

impl Counts {
    /// Takes over every count that a `usage` object states; what it leaves out stays.
    pub(super) fn overwrite(&mut self, usage: Field<'_>) -> Result<(), UnknownReason> {
        if usage.raw().map_err(|fault| fault.of("usage"))?.is_none() {
            return Ok(());
        }
        self.stated = true;
        let [input, output, cache_read, cache_write, cache_creation, service_tier] = usage
            .object([
                "input_tokens",
                "output_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
                "cache_creation",
                "service_tier",
            ])
            .map_err(|fault| fault.of("usage"))?;
        if let Ok(Some(tier)) = service_tier.name() {
            self.service_tier = Some(tier);
        }
        overwrite(&mut self.input, input, "input_tokens")?;
        overwrite(&mut self.output, output, "output_tokens")?;
        overwrite(&mut self.cache_read, cache_read, "cache_read_input_tokens")?;
        overwrite(&mut self.cache_write, cache_write, "cache_creation_input_tokens")?;
        self.overwrite_lifetimes(cache_creation)
    }

    fn overwrite_lifetimes(&mut self, cache_creation: Field<'_>) -> Result<(), UnknownReason> {
        let [five_minutes, one_hour] = cache_creation
            .object(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"])
            .map_err(|fault| fault.of("cache_creation"))?;
        overwrite(&mut self.cache_write_5m, five_minutes, "ephemeral_5m_input_tokens")?;
        overwrite(&mut self.cache_write_1h, one_hour, "ephemeral_1h_input_tokens")
    }

    /// The counts in the common shape.
    pub(super) fn normalise(&self) -> Result<(TokenUsage, UsageFlags), UnknownReason> {
        if !self.stated {
            return Err(UnknownReason::Absent);
        }
        let input = self.input.ok_or(UnknownReason::Incomplete { field: "input_tokens" })?;
        let output = self.output.ok_or(UnknownReason::Incomplete { field: "output_tokens" })?;
        let (cache_write_5m, flags) = self.five_minute_writes();
        // Each count is bounded, so the sum cannot overflow.
        let parts = [cache_write_5m, self.cache_write_1h, self.cache_read];
        let input_total = parts.into_iter().flatten().fold(input, |sum, part| sum + part);
        let tokens = TokenUsage {
            input_total: Some(input_total),
            cached_input: self.cache_read,
            cache_write_5m,
            cache_write_1h: self.cache_write_1h,
            output: Some(output),
            ..TokenUsage::default()
        };
        Ok((tokens, flags))
    }

    /// Writes that live 5 minutes, the default lifetime: what the split leaves unnamed of the sum is
    /// one of them. A split that differs from its sum is flagged and the larger figure counts.
    fn five_minute_writes(&self) -> (Option<u64>, UsageFlags) {
        let Some(sum) = self.cache_write else {
            return (self.cache_write_5m, UsageFlags::default());
        };
        let unsplit = self.cache_write_5m.is_none() && self.cache_write_1h.is_none();
        let named = self.cache_write_5m.unwrap_or(0) + self.cache_write_1h.unwrap_or(0);
        let five_minutes = self.cache_write_5m.unwrap_or(0) + sum.saturating_sub(named);
        let flags = UsageFlags { parts_disagree: !unsplit && named != sum, ..UsageFlags::default() };
        (Some(five_minutes), flags)
    }
}

fn overwrite(count: &mut Option<u64>, stated: Field<'_>, field: &'static str) -> Result<(), UnknownReason> {
    if let Some(stated) = stated.count().map_err(|fault| fault.of(field))? {
        *count = Some(stated);
    }
    Ok(())
}
