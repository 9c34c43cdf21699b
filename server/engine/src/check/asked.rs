//! What a check asks for: whom it calls, and how much of which unit.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{Demand, Limit, Shard};
use rateguard_core::decision::Mode;
use rateguard_core::limits::REQUEST_ID_LIFE_MS;
use rateguard_core::matching::CallFacts;
use rateguard_core::money::Nanos;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Call, CheckRequest};
use crate::caller::Caller;
use crate::costing::{self, Reserved};
use crate::directory::WorkspaceView;
use crate::error::{EngineError, Reason};
use crate::ports::{Attempt, RequestFingerprint, ReservationRequest, Stored};
use crate::resources::Api;
use crate::secrets::random;

/// Random bytes of an attempt: four of its number, and an id for a check that has none.
const ATTEMPT_BYTES: usize = 4 + 16;
/// Room for what usual calls are hashed of; longer ones take memory of their own.
const GATHERED_BYTES: usize = 256;

/// What is hashed, one piece behind the other: hashed at once in the end, which for so little costs a
/// fraction of a hash that takes pieces, and is the same.
#[derive(Default)]
struct Gathered(SmallVec<[u8; GATHERED_BYTES]>);

impl Hasher for Gathered {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        xxh3_64(&self.0)
    }
}

/// Who calls what, for whom.
pub(super) struct Addressed<'a> {
    caller: &'a Caller,
    call: &'a Call,
    api: Option<&'a Arc<Stored<Api>>>,
    subject: &'a str,
}

impl<'a> Addressed<'a> {
    /// Looks a call up and checks that the key may make it. Whether its API exists is another
    /// question.
    pub(super) fn of(
        caller: &'a Caller,
        view: &'a WorkspaceView,
        call: &'a Call,
    ) -> Result<Self, EngineError> {
        let addressed = Self::unchecked(caller, view, call)?;
        caller.check_restrictions(addressed.api().map(|api| &api.id), &call.model, call.ip)?;
        Ok(addressed)
    }

    /// The same for one who only asks how it stands.
    pub(super) fn unchecked(
        caller: &'a Caller,
        view: &'a WorkspaceView,
        call: &'a Call,
    ) -> Result<Self, EngineError> {
        let api = if call.api.is_empty() { None } else { view.api(&call.api) };
        Ok(Self { caller, call, api, subject: caller.subject(&call.subject)? })
    }

    pub(super) fn api(&self) -> Option<&'a Api> {
        self.api.map(|api| &api.value)
    }

    /// An API that does not exist is an error here, unlike in a report.
    pub(super) fn check_api(&self) -> Result<(), EngineError> {
        match self.api() {
            None if !self.call.api.is_empty() => Err(EngineError::not_found("api", &self.call.api)),
            Some(api) if !api.active => {
                Err(EngineError::field(Reason::ApiInactive, "api", "the API is switched off"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn facts(&self) -> CallFacts<'a> {
        CallFacts {
            key: &self.caller.key.id,
            api: self.api().map(|api| &api.id),
            endpoint: &self.call.endpoint,
            method: &self.call.method,
            model: &self.call.model,
            subject: self.subject,
            ip: self.call.ip,
            attributes: &self.call.attributes,
        }
    }

    fn identity(&self) -> CallIdentity {
        CallIdentity {
            key: self.caller.key.id.clone(),
            api: self.api().map(|api| api.id.clone()),
            api_name: self.call.api.clone(),
            endpoint: self.call.endpoint.clone(),
            method: self.call.method.clone(),
            model: self.call.model.clone(),
            service_tier: String::new(),
            subject: self.subject.to_owned(),
        }
    }
}

/// How much a check asks of every unit.
pub(super) struct Demanded {
    amounts: Amounts,
    reserved: Option<Reserved>,
}

impl Demanded {
    /// What the caller asks for, and what its estimate comes to under the prices of now.
    pub(super) fn of(
        view: &WorkspaceView,
        request: &CheckRequest,
        api: Option<&Api>,
        now: Millis,
    ) -> Result<Self, EngineError> {
        let CheckRequest { call, estimate, mode, .. } = request;
        let mut amounts = request.amounts.clone();
        if *mode != Mode::Consume {
            let reserved = costing::reserve(view, api, &call.model, estimate, &amounts, now)?;
            if let Some(reserved) = &reserved {
                reserved.add_to(&mut amounts)?;
            }
            return Ok(Self { amounts, reserved });
        }
        if estimate.cost.is_some() {
            let message = "a money estimate needs the mode RESERVE";
            return Err(EngineError::field(Reason::EstimateNeedsReserve, "estimate.cost", message));
        }
        if amounts.get(&Unit::Tokens).is_none()
            && let Some(tokens) = costing::tokens(view, api, &call.model, estimate, now)
        {
            amounts.insert("estimate", Unit::Tokens, tokens)?;
        }
        Ok(Self { amounts, reserved: None })
    }

    /// What the call is thought to cost.
    pub(super) fn cost(&self) -> Option<Nanos> {
        self.reserved.as_ref().and_then(|reserved| reserved.cost)
    }

    /// Money and calls at the same time are held, never consumed: a CONSUME only tests that something is
    /// left.
    pub(super) fn of_limit(&self, unit: &Unit, limit: &Limit, mode: Mode) -> Demand {
        let is_held = *unit == Unit::Cost || matches!(limit, Limit::Concurrency { .. });
        if mode == Mode::Consume && is_held {
            return Demand::PROBE;
        }
        self.amounts.demand(unit)
    }

    pub(super) fn reservation(
        &self,
        request: &CheckRequest,
        addressed: &Addressed<'_>,
        shard: Option<Shard>,
        now: Millis,
    ) -> Result<ReservationRequest, EngineError> {
        let bytes = random().map_err(|error| EngineError::internal(&error.to_string()))?;
        let principal = addressed.caller.principal();
        Ok(ReservationRequest {
            id: principal.reservation_id(bytes, shard),
            principal,
            expires_at: now.plus(request.reservation_ttl_ms),
            cost: self.cost(),
            floor: self.reserved.as_ref().map_or(Nanos::ZERO, |reserved| reserved.floor),
            call: Arc::new(addressed.identity()),
            request_id: request.request_id.clone(),
        })
    }
}

/// The same with a number of this attempt, so that it can be undone; also for a check whose caller gave no
/// id. `None` for a PEEK, which takes nothing.
pub(super) fn attempted(
    known: Option<RequestFingerprint>,
    request: &CheckRequest,
    now: Millis,
) -> Result<Option<RequestFingerprint>, EngineError> {
    if request.mode == Mode::Peek {
        return Ok(None);
    }
    let drawn = unnamed(now.plus(life_ms(request)))?;
    Ok(Some(known.map_or(drawn, |known| RequestFingerprint { attempt: drawn.attempt, ..known })))
}

/// A number of an attempt at a check without an id, which can be undone until then.
pub(crate) fn unnamed(expires_at: Millis) -> Result<RequestFingerprint, EngineError> {
    let drawn: [u8; ATTEMPT_BYTES] = random().map_err(|error| EngineError::internal(&error.to_string()))?;
    let [a, b, c, d, id @ ..] = drawn;
    let attempt = Some(Attempt(u32::from_be_bytes([a, b, c, d])));
    Ok(RequestFingerprint { id: u128::from_be_bytes(id), content: 0, expires_at, attempt })
}

/// How long a decision is given again.
fn life_ms(request: &CheckRequest) -> i64 {
    match request.mode {
        Mode::Reserve => request.reservation_ttl_ms,
        Mode::Consume | Mode::Peek => REQUEST_ID_LIFE_MS,
    }
}

/// What makes a check the same check; `None` when it is not to be remembered.
pub(super) fn fingerprint(
    caller: &Caller,
    request: &CheckRequest,
    now: Millis,
) -> Option<RequestFingerprint> {
    let id = request.request_id.as_ref().filter(|_| request.mode != Mode::Peek)?;
    let mut name = Gathered::default();
    (&caller.key.id, caller.by_gateway).hash(&mut name);
    name.write(id.as_str().as_bytes());
    let mut content = Gathered::default();
    (&request.call, request.mode, &request.estimate, request.reservation_ttl_ms).hash(&mut content);
    for (unit, amount) in request.amounts.iter() {
        (unit, amount).hash(&mut content);
    }
    Some(RequestFingerprint {
        id: xxh3_128(&name.0),
        content: content.finish(),
        expires_at: now.plus(life_ms(request)),
        attempt: None,
    })
}
