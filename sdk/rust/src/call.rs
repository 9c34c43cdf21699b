//! A call that is to be limited, as its caller describes it.

use std::collections::BTreeMap;

use rateguard_proto::v1;

/// What a call takes where it does not say.
const REQUESTS: &str = "requests";

/// What the limits tell calls apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    api: String,
    endpoint: String,
    method: String,
    ip: String,
    subject: String,
    attributes: BTreeMap<String, String>,
    model: String,
}

/// A call: what the limits tell it apart by, and what it takes. The server says which values it takes, and
/// refuses others by the name of their field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub(crate) facts: Facts,
    pub(crate) amounts: BTreeMap<String, i64>,
}

impl Call {
    /// A call of an API, by its id or slug, that takes one request. Empty text means no API.
    pub fn to(api: impl Into<String>) -> Self {
        let facts = Facts { api: api.into(), ..Facts::default() };
        Self { facts, amounts: BTreeMap::from([(REQUESTS.to_owned(), 1)]) }
    }

    /// The path that is called.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.facts.endpoint = endpoint.into();
        self
    }

    /// The HTTP method, or another name for the operation.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.facts.method = method.into();
        self
    }

    /// The end user's address, IPv4 or IPv6 in text.
    #[must_use]
    pub fn ip(mut self, ip: impl Into<String>) -> Self {
        self.facts.ip = ip.into();
        self
    }

    /// Who is charged.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.facts.subject = subject.into();
        self
    }

    /// One more fact to match and count by.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.attributes.insert(name.into(), value.into());
        self
    }

    /// The model that is asked for.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.facts.model = model.into();
        self
    }

    /// How much it takes of a unit, also of `requests`.
    #[must_use]
    pub fn taking(mut self, unit: impl Into<String>, amount: i64) -> Self {
        self.amounts.insert(unit.into(), amount);
        self
    }

    /// The units that a check of it takes: what its report has to name as `already_consumed_units`, so that
    /// they are not counted twice.
    pub fn consumed_units(&self) -> v1::UnitSet {
        v1::UnitSet { units: self.amounts.keys().cloned().collect() }
    }

    pub(crate) fn check(&self, request_id: String, mode: v1::CheckMode) -> v1::CheckQuotaRequest {
        let Facts { api, endpoint, method, ip, subject, attributes, model } = self.facts.clone();
        v1::CheckQuotaRequest {
            request_id,
            api,
            endpoint,
            method,
            ip,
            subject,
            attributes,
            model,
            amounts: self.amounts.iter().map(|(unit, amount)| unit_amount(unit, *amount)).collect(),
            mode: mode.into(),
            ..v1::CheckQuotaRequest::default()
        }
    }
}

impl Facts {
    pub(crate) fn lease(&self, request_id: String) -> v1::LeaseQuotaRequest {
        let Self { api, endpoint, method, ip, subject, attributes, model } = self.clone();
        v1::LeaseQuotaRequest {
            request_id,
            api,
            endpoint,
            method,
            ip,
            subject,
            attributes,
            model,
            ..v1::LeaseQuotaRequest::default()
        }
    }
}

pub(crate) fn unit_amount(unit: &str, amount: i64) -> v1::UnitAmount {
    v1::UnitAmount { unit: unit.to_owned(), amount }
}
