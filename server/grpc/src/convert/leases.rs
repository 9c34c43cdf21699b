//! Leases of callers.

use rateguard_core::amounts::Amounts;
use rateguard_core::ids::LeaseId;
use rateguard_core::limits::{AMOUNT_MAX, ATTRIBUTES_MAX, ENDED_LEASES_MAX, UNIT_AMOUNTS_MAX};
use rateguard_core::money::Currency;
use rateguard_core::unit::Unit;
use rateguard_engine::check::Call;
use rateguard_engine::check::lending::{LeaseAnswer, LeaseQuestion, Wish};
use rateguard_engine::error::EngineError;
use rateguard_proto::v1;

use super::check::{batch_size, call, limit_status, request_id};
use super::{
    amounts, ip, labels, malformed, name, out_of_bounds, resource_id, text, unit, unit_amounts, within,
};

/// A question for units in advance, as it came.
///
/// # Errors
/// Those of its fields.
pub fn lease_question(message: v1::LeaseQuotaRequest) -> Result<LeaseQuestion, EngineError> {
    Ok(LeaseQuestion {
        request_id: request_id(&message.request_id)?,
        wishes: wishes(message.wishes)?,
        ended: ended(message.ended)?,
        call: call!(message),
    })
}

fn wishes(messages: Vec<v1::LeaseWish>) -> Result<Vec<Wish>, EngineError> {
    batch_size("wishes", messages.len(), UNIT_AMOUNTS_MAX)?;
    let mut wishes: Vec<Wish> = Vec::new();
    for (place, message) in messages.into_iter().enumerate() {
        let at = |part: &str| format!("wishes[{place}].{part}");
        let wish = wish(&message, &at)?;
        if wishes.iter().any(|known| known.unit == wish.unit) {
            return Err(out_of_bounds(at("unit"), format!("names the unit {} a second time", wish.unit)));
        }
        wishes.push(wish);
    }
    Ok(wishes)
}

fn wish(message: &v1::LeaseWish, at: &impl Fn(&str) -> String) -> Result<Wish, EngineError> {
    let unit = unit(&at("unit"), &message.unit)?;
    if unit == Unit::Cost {
        return Err(malformed(at("unit"), "must not be cost: money is never leased"));
    }
    if !(1..=AMOUNT_MAX).contains(&message.amount) {
        return Err(out_of_bounds(at("amount"), format!("must be 1 to {AMOUNT_MAX}")));
    }
    // Zero is what a message has that does not name it.
    if !(0..=message.amount).contains(&message.least) {
        return Err(out_of_bounds(at("least"), "must be 1 to the amount".to_owned()));
    }
    Ok(Wish { unit, amount: message.amount, least: message.least.max(1) })
}

fn ended(messages: Vec<v1::ReturnLeaseRequest>) -> Result<Vec<(LeaseId, Amounts)>, EngineError> {
    if messages.len() > ENDED_LEASES_MAX {
        return Err(out_of_bounds("ended", format!("must have at most {ENDED_LEASES_MAX} elements")));
    }
    let numbered = messages.into_iter().enumerate();
    let ending =
        |(place, message)| lease_return(message).map_err(|error| within(&format!("ended[{place}]"), error));
    numbered.map(ending).collect()
}

/// A lease that ends, and what was not spent of it.
///
/// # Errors
/// Those of its fields.
pub fn lease_return(message: v1::ReturnLeaseRequest) -> Result<(LeaseId, Amounts), EngineError> {
    let id = LeaseId::parse("lease_id", resource_id("lease_id", &message.lease_id)?)?;
    Ok((id, amounts("unspent", message.unspent)?))
}

/// The answer for the wire.
pub fn lease_response(answer: LeaseAnswer, currency: Currency) -> v1::LeaseQuotaResponse {
    let limits = answer.limits.iter().map(|status| limit_status(status, None, currency)).collect();
    let bare = v1::LeaseQuotaResponse {
        limits,
        retry_after_ms: answer.retry_after_ms,
        replayed: answer.replayed,
        ..v1::LeaseQuotaResponse::default()
    };
    match answer.lease {
        None => bare,
        Some(lease) => v1::LeaseQuotaResponse {
            lease_id: lease.id.to_string(),
            granted: unit_amounts(&lease.granted),
            life_ms: lease.life_ms,
            ..bare
        },
    }
}
