//! Arbitrary messages, out of the contract's own descriptors: every field, absent, usual, at its
//! bound and far beyond it.

use proptest::prelude::*;
use proptest::sample::select;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use rateguard_proto::FILE_DESCRIPTOR_SET;

/// Elements of an arbitrary list: beyond the bounds of the small ones.
const ELEMENTS_MAX: usize = 6;

/// Texts that mean something somewhere, and texts that nobody expects.
const TEXTS: [&str; 40] = [
    "",
    "a",
    "requests",
    "tokens",
    "cost",
    "seconds",
    "openai",
    "gpt-4o",
    "gpt-*",
    "**",
    "[",
    "{a,b",
    "POST",
    "api_1",
    "key_1",
    "rule_1",
    "bud_1",
    "price_1",
    "rsv_00000000000000000000000000000001",
    "rsv_ü",
    "expired:x",
    "10.0.0.0/8",
    "192.0.2.1",
    "::1",
    "300.1.1.1",
    "Europe/Berlin",
    "Mars/Base",
    "USD",
    "EUR",
    "usd",
    "2.50",
    "0",
    "-1",
    "1e9",
    "0.0000000000001",
    "99999999999999999999",
    "https://example.com/v1",
    "http://user@example.com",
    "plan",
    "\u{0}\n\u{202e}",
];

/// A message of a type of the public package: a usual one of which some fields are arbitrary, so that
/// each field is reached, and now and then all of them.
pub fn disturbed<M>(name: &str, usual: impl Strategy<Value = M>) -> impl Strategy<Value = M>
where
    M: prost::Message + Default + std::fmt::Debug,
{
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name(&format!("rateguard.v1.{name}")).unwrap();
    let arbitrary = dynamic(descriptor.clone());
    (usual, arbitrary, chosen_fields(&descriptor)).prop_map(move |(usual, arbitrary, chosen)| {
        let mut message = DynamicMessage::new(descriptor.clone());
        message.transcode_from(&usual).unwrap();
        disturb(&mut message, &arbitrary, &chosen);
        message.transcode_to().unwrap()
    })
}

/// The same for a message whose type is known when the test runs. What stands within it is disturbed
/// in the same way as often as it is replaced as a whole.
pub fn disturbed_dynamic(usual: DynamicMessage) -> BoxedStrategy<DynamicMessage> {
    let descriptor = usual.descriptor();
    let arbitrary = dynamic(descriptor.clone());
    let whole = (arbitrary, chosen_fields(&descriptor)).prop_map({
        let usual = usual.clone();
        move |(arbitrary, chosen)| {
            let mut message = usual.clone();
            disturb(&mut message, &arbitrary, &chosen);
            message
        }
    });
    let within = descriptor.fields().filter_map(|field| disturbed_within(&usual, &field)).collect::<Vec<_>>();
    match within.len() {
        0 => whole.boxed(),
        count => (0..count)
            .prop_flat_map(move |place| within[place].clone())
            .boxed()
            .prop_union(whole.boxed())
            .boxed(),
    }
}

/// A message in which one of those within it is disturbed; `None` where the field has none.
fn disturbed_within(
    usual: &DynamicMessage,
    field: &FieldDescriptor,
) -> Option<BoxedStrategy<DynamicMessage>> {
    let inner = match usual.get_field(field).into_owned() {
        Value::Message(inner) if usual.has_field(field) => inner,
        Value::List(elements) if !field.is_map() => elements.first()?.as_message()?.clone(),
        _ => return None,
    };
    let (usual, field) = (usual.clone(), field.clone());
    let put = move |inner: DynamicMessage| {
        let mut message = usual.clone();
        let value = Value::Message(inner);
        message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
        message
    };
    Some(disturbed_dynamic(inner).prop_map(put).boxed())
}

/// Which fields become arbitrary.
fn chosen_fields(descriptor: &MessageDescriptor) -> impl Strategy<Value = Vec<bool>> + use<> {
    let count = descriptor.fields().count();
    let some = proptest::collection::vec(proptest::bool::weighted(0.15), count);
    prop_oneof![4 => some, 1 => Just(vec![true; count])]
}

fn disturb(message: &mut DynamicMessage, arbitrary: &DynamicMessage, chosen: &[bool]) {
    let descriptor = message.descriptor();
    for (field, _) in descriptor.fields().zip(chosen).filter(|(_, chosen)| **chosen) {
        message.clear_field(&field);
        if arbitrary.has_field(&field) {
            message.set_field(&field, arbitrary.get_field(&field).into_owned());
        }
    }
}

/// An arbitrary message of a type.
pub fn dynamic(descriptor: MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let fields: Vec<_> =
        descriptor.fields().map(|field| proptest::option::weighted(0.7, field_value(&field))).collect();
    let build = move |values: Vec<Option<Value>>| {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (field, value) in descriptor.fields().zip(values) {
            if let Some(value) = value {
                message.set_field(&field, value);
            }
        }
        message
    };
    fields.prop_map(build).boxed()
}

fn field_value(field: &FieldDescriptor) -> BoxedStrategy<Value> {
    if field.is_map() {
        let entries = proptest::collection::hash_map(text(), text(), 0..ELEMENTS_MAX);
        let to_map = |(key, value)| (MapKey::String(key), Value::String(value));
        return entries
            .prop_map(move |entries| Value::Map(entries.into_iter().map(to_map).collect()))
            .boxed();
    }
    if field.is_list() {
        let size = prop_oneof![9 => 0..ELEMENTS_MAX, 1 => 60..70_usize];
        let element = one_value(field.kind());
        return size
            .prop_flat_map(move |size| proptest::collection::vec(element.clone(), size))
            .prop_map(Value::List)
            .boxed();
    }
    one_value(field.kind())
}

fn one_value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Message(message) => dynamic(message).prop_map(Value::Message).boxed(),
        Kind::Enum(_) => prop_oneof![0..12_i32, any::<i32>()].prop_map(Value::EnumNumber).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 => integer().prop_map(|n| Value::I32(i32::try_from(n).unwrap_or(i32::MIN))).boxed(),
        Kind::Int64 => integer().prop_map(Value::I64).boxed(),
        Kind::Uint32 => integer().prop_map(|n| Value::U32(u32::try_from(n).unwrap_or(u32::MAX))).boxed(),
        Kind::Uint64 => integer().prop_map(|n| Value::U64(n.cast_unsigned())).boxed(),
        Kind::String => text().prop_map(Value::String).boxed(),
        other => panic!("the contract has no {other:?} so far"),
    }
}

fn integer() -> impl Strategy<Value = i64> {
    let edges = [0, 1, -1, 100, 1_000, 60_000, 1 << 53, (1 << 53) + 1, 1_000_000_000_000, i64::MIN, i64::MAX];
    prop_oneof![3 => select(edges.to_vec()), 1 => any::<i64>(), 1 => -10..100_i64]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(TEXTS.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (1..6_000_usize).prop_map(|length| "x".repeat(length)),
    ]
}
