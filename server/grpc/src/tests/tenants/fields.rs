//! Which fields of requests can hold the name of something, and of what.

use std::collections::BTreeMap;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
};

/// The kind of thing that a field names.
type Names = Option<&'static str>;

/// Fields whose name says little alone, by their full name without `rateguard.v1.`.
const BY_FULL_NAME: [(&str, &str); 31] = [
    ("Api.id", "api"),
    ("AuditEntryFilter.actor_id", "owner"),
    ("AuditEntryFilter.resource_id", "api"),
    ("Budget.id", "budget"),
    ("DeleteApiRequest.id", "api"),
    ("DeleteBudgetRequest.id", "budget"),
    ("DeleteKeyRequest.id", "key"),
    ("DeletePriceOverrideRequest.id", "price"),
    ("DeleteRuleRequest.id", "rule"),
    ("GetApiRequest.id", "api"),
    ("GetBudgetRequest.id", "budget"),
    ("GetKeyRequest.id", "key"),
    ("GetPriceRequest.id", "price"),
    ("GetRuleRequest.id", "rule"),
    ("GetWorkspaceRequest.id", "workspace"),
    ("Key.id", "key"),
    ("ListPricesRequest.model", "model"),
    ("Price.id", "price"),
    ("RevokeInvitationRequest.id", "invitation"),
    ("RevokeSessionRequest.id", "session"),
    ("Rule.id", "rule"),
    ("Workspace.id", "workspace"),
    ("Api.display_name", "name"),
    ("Budget.display_name", "name"),
    ("Key.display_name", "name"),
    ("RotateKeyRequest.id", "key"),
    ("TopUpBudgetRequest.note", "name"),
    ("RegisterRequest.display_name", "name"),
    ("RegisterRequest.workspace_display_name", "name"),
    ("Rule.display_name", "name"),
    ("Workspace.display_name", "name"),
];

/// Fields that name a thing wherever they are.
const BY_NAME: [(&str, &str); 28] = [
    ("api", "slug"),
    ("api_id", "api"),
    ("api_ids", "api"),
    ("bound_subject", "subject"),
    ("display_name_contains", "name"),
    ("domain", "name"),
    ("budget_id", "budget"),
    ("email", "email"),
    ("email_contains", "email"),
    ("endpoint", "endpoint"),
    ("endpoints", "endpoint"),
    ("event_id", "event"),
    ("key_id", "key"),
    ("key_ids", "key"),
    ("lease_id", "lease"),
    ("model", "model"),
    ("models", "model"),
    ("page_token", "page"),
    ("price_id", "price"),
    ("request_id", "request"),
    ("reservation_id", "reservation"),
    ("rule_id", "rule"),
    ("slug", "slug"),
    ("subject", "subject"),
    ("subjects", "subject"),
    ("user_id", "user"),
    ("workspace_id", "workspace"),
    ("override_group", "name"),
];

/// Fields that name nothing of a tenant's: units, rates, zones, versions, secrets, places.
const NAMES_NOTHING: [&str; 36] = [
    "attribute",
    "audio_input",
    "audio_output",
    "auth_name",
    "base_url",
    "cache_write_1h",
    "cache_write_5m",
    "cached_input",
    "credential_reference",
    "currency_code",
    "error_type",
    "etag",
    "input",
    "ip",
    "ip_ranges",
    "method",
    "methods",
    "order_by",
    "output",
    "paths",
    "prefix",
    "previous_prefix",
    "price_per_request",
    "provider",
    "reasoning",
    "request_rate",
    "service_tier",
    "time_zone",
    "unit",
    "unit_price",
    "units",
    "value",
    "service",
    "host",
    "key",
    "name",
];

/// Messages of others, of which builders make what is needed.
const OF_OTHERS: [&str; 2] = ["google.", "grpc."];

fn names(field: &FieldDescriptor) -> Option<Names> {
    let full_name = field.full_name().trim_start_matches("rateguard.v1.");
    let by_full_name = BY_FULL_NAME.iter().find(|(name, _)| *name == full_name);
    let by_name = BY_NAME.iter().find(|(name, _)| *name == field.name());
    if let Some((_, kind)) = by_full_name.or(by_name) {
        return Some(Some(kind));
    }
    NAMES_NOTHING.contains(&field.name()).then_some(None)
}

fn is_of_others(message: &MessageDescriptor) -> bool {
    OF_OTHERS.iter().any(|package| message.full_name().starts_with(package))
}

/// Texts of requests that nobody has said of whether they name something.
pub fn undecided(methods: &[MethodDescriptor]) -> Vec<String> {
    let mut undecided = Vec::new();
    for method in methods {
        texts_of(&method.input(), &mut Vec::new(), &mut |field| {
            if names(field).is_none() {
                undecided.push(field.full_name().to_owned());
            }
        });
    }
    undecided.sort_unstable();
    undecided.dedup();
    undecided
}

/// Visits every text of a message and of those within it, each type once.
fn texts_of(message: &MessageDescriptor, seen: &mut Vec<String>, visit: &mut impl FnMut(&FieldDescriptor)) {
    if is_of_others(message) || seen.iter().any(|name| name == message.full_name()) {
        return;
    }
    seen.push(message.full_name().to_owned());
    for field in message.fields() {
        match field.kind() {
            Kind::String | Kind::Bytes => visit(&field),
            Kind::Message(inner) if !field.is_map() => texts_of(&inner, seen, visit),
            _ => {}
        }
    }
}

fn names_something(message: &MessageDescriptor) -> bool {
    let mut found = false;
    texts_of(message, &mut Vec::new(), &mut |field| found |= matches!(names(field), Some(Some(_))));
    found
}

/// A request in which every field that can name a thing, and that is empty, names the tenant's.
pub fn filled(input: MessageDescriptor, request: &[u8], things: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let mut message = DynamicMessage::decode(input, request).unwrap();
    fill(&mut message, things);
    prost::Message::encode_to_vec(&message)
}

fn fill(message: &mut DynamicMessage, things: &BTreeMap<&'static str, String>) {
    if is_of_others(&message.descriptor()) {
        return;
    }
    for field in message.descriptor().fields() {
        let is_choice = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
        if field.is_map() || (is_choice && !message.has_field(&field)) {
            continue;
        }
        match field.kind() {
            Kind::String if !message.has_field(&field) => fill_text(message, &field, things),
            Kind::Message(inner) => fill_within(message, &field, &inner, things),
            _ => {}
        }
    }
}

fn fill_text(message: &mut DynamicMessage, field: &FieldDescriptor, things: &BTreeMap<&'static str, String>) {
    let thing = names(field).flatten().and_then(|kind| things.get(kind));
    if let Some(thing) = thing {
        let text = Value::String(thing.clone());
        message.set_field(field, if field.is_list() { Value::List(vec![text]) } else { text });
    }
}

fn fill_within(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    inner: &MessageDescriptor,
    things: &BTreeMap<&'static str, String>,
) {
    if !message.has_field(field) && (field.is_list() || is_of_others(inner) || !names_something(inner)) {
        return;
    }
    match message.get_field_mut(field) {
        Value::Message(inner) => fill(inner, things),
        Value::List(elements) => {
            let messages = elements.iter_mut().filter_map(Value::as_message_mut);
            messages.for_each(|element| fill(element, things));
        }
        _ => {}
    }
}
