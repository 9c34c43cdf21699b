//! `rateguard check`.

use anyhow::bail;
use clap::{Args, ValueEnum};
use rateguard_proto::v1::{self, LimitStatus};

use super::ServerArgs;
use crate::client::describe;
use crate::workspace_file::Decimal;

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    server: ServerArgs,
    /// The API's slug or id
    #[arg(long, default_value = "")]
    api: String,
    /// The path within the API
    #[arg(long, default_value = "")]
    endpoint: String,
    /// The method
    #[arg(long, default_value = "")]
    method: String,
    /// The model asked for
    #[arg(long, default_value = "")]
    model: String,
    /// Who is charged
    #[arg(long, default_value = "")]
    subject: String,
    /// The id of this check, for idempotency
    #[arg(long, default_value = "")]
    request_id: String,
    /// Amounts as unit=number, for example tokens=1200
    #[arg(long = "amount", value_parser = amount)]
    amounts: Vec<v1::UnitAmount>,
    /// Input tokens expected, with --mode reserve
    #[arg(long)]
    input_tokens: Option<i64>,
    /// The most output tokens asked for, with --mode reserve
    #[arg(long)]
    max_output_tokens: Option<i64>,
    /// What the check does to the limits
    #[arg(long, value_enum, default_value_t = Mode::Consume)]
    mode: Mode,
    /// Say also why limits do not apply
    #[arg(long)]
    explain: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Takes for good
    Consume,
    /// Takes nothing
    Peek,
    /// Holds until reported or released
    Reserve,
}

/// Parses `unit=number`.
pub(super) fn amount(text: &str) -> Result<v1::UnitAmount, String> {
    let (unit, amount) = text.split_once('=').ok_or("must be unit=number")?;
    let amount = amount.parse().map_err(|_| "must be unit=number".to_owned())?;
    Ok(v1::UnitAmount { unit: unit.to_owned(), amount })
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.connect().await?;
        let json = self.json;
        let answer = client.quota().check_quota(self.request()).await.map_err(|s| describe(&s))?.into_inner();
        super::print(&if json { as_json(&answer)? } else { as_text(&answer) })?;
        if answer.decision() != v1::Decision::Allowed {
            bail!("denied");
        }
        Ok(())
    }

    fn request(self) -> v1::CheckQuotaRequest {
        let mode = match self.mode {
            Mode::Consume => v1::CheckMode::Consume,
            Mode::Peek => v1::CheckMode::Peek,
            Mode::Reserve => v1::CheckMode::Reserve,
        };
        let (input_tokens, max_output_tokens) = (self.input_tokens, self.max_output_tokens);
        let has_estimate = input_tokens.is_some() || max_output_tokens.is_some();
        v1::CheckQuotaRequest {
            request_id: self.request_id,
            api: self.api,
            endpoint: self.endpoint,
            method: self.method,
            model: self.model,
            subject: self.subject,
            amounts: self.amounts,
            estimate: has_estimate.then_some(v1::Estimate {
                input_tokens,
                max_output_tokens,
                ..v1::Estimate::default()
            }),
            mode: mode.into(),
            explain: self.explain,
            ..v1::CheckQuotaRequest::default()
        }
    }
}

fn as_text(answer: &v1::CheckQuotaResponse) -> String {
    let mut lines = vec![answer.decision().as_str_name().trim_start_matches("DECISION_").to_owned()];
    if !answer.reservation_id.is_empty() {
        lines.push(format!("reservation {}", answer.reservation_id));
    }
    if answer.degraded {
        lines.push(format!("decided without the counters: {}", failure_mode(answer)));
    }
    if let Some(wait_ms) = answer.retry_after_ms {
        lines.push(format!("retry after {wait_ms} ms"));
    }
    lines.extend(answer.limits.iter().map(limit_line));
    lines.extend(
        answer
            .explanation
            .iter()
            .map(|limit| format!("  {:28} does not apply: {}", limit.name, limit.reason().as_str_name())),
    );
    lines.join("\n")
}

fn failure_mode(answer: &v1::CheckQuotaResponse) -> &'static str {
    answer.failure_mode().as_str_name().trim_start_matches("FAILURE_MODE_")
}

fn limit_line(limit: &v1::LimitStatus) -> String {
    let mark = if limit.allowed { "ok" } else { "denies" };
    let shadow = if limit.enforced { "" } else { " (watching only)" };
    let Some(budget) = &limit.budget_state else {
        let LimitStatus { name, remaining, limit, unit, .. } = limit;
        return format!("  {name:28} {remaining} of {limit} {unit} left, {mark}{shadow}");
    };
    let money = |nanos| Decimal::from_nanos(nanos, &budget.currency_code);
    let (left, whole, currency) = (money(limit.remaining), money(limit.limit), &budget.currency_code);
    format!("  {:28} {} of {} {currency} left, {mark}{shadow}", limit.name, left.as_str(), whole.as_str())
}

fn as_json(answer: &v1::CheckQuotaResponse) -> anyhow::Result<String> {
    let limits: Vec<_> = answer
        .limits
        .iter()
        .map(|limit| {
            serde_json::json!({
                "id": limit.id, "name": limit.name, "unit": limit.unit, "limit": limit.limit,
                "remaining": limit.remaining, "used": limit.used, "enforced": limit.enforced,
                "allowed": limit.allowed,
            })
        })
        .collect();
    Ok(serde_json::to_string(&serde_json::json!({
        "decision": answer.decision().as_str_name().trim_start_matches("DECISION_"),
        "reservation_id": answer.reservation_id,
        "retry_after_ms": answer.retry_after_ms,
        "replayed": answer.replayed,
        "degraded": answer.degraded.then(|| failure_mode(answer)),
        "limits": limits,
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_told_in_money_and_a_rule_in_its_unit() {
        let state = v1::BudgetState { currency_code: "EUR".to_owned(), ..Default::default() };
        let budget = LimitStatus {
            name: "month".to_owned(),
            unit: "cost".to_owned(),
            limit: 250_000_000_000,
            remaining: 12_345_000_000,
            allowed: true,
            enforced: true,
            budget_state: Some(state),
            ..LimitStatus::default()
        };
        let told = limit_line(&budget);
        assert!(told.ends_with("12.345 of 250.00 EUR left, ok"), "{told}");
        let rule = LimitStatus { unit: "tokens".to_owned(), budget_state: None, limit: 9, ..budget };
        assert!(limit_line(&rule).ends_with("12345000000 of 9 tokens left, ok"));
    }
}
