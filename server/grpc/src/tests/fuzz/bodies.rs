//! What is sent: messages of every kind that a caller, a careless one and a hostile one may send.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, Value};

use crate::tests::messages::{disturbed_dynamic, dynamic};
use crate::tests::wire::framed;

/// Longest text that is put into a field: beyond every bound on one.
const TEXT_BYTES_MAX: usize = 300_000;
/// Most elements that are put into a list: beyond every bound on one.
const ELEMENTS_MAX: usize = 5_000;
/// Deepest nesting: beyond what is read.
const DEPTH_MAX: usize = 2_000;

/// A body for a method whose usual message is this, with the tenant's things for its texts.
pub fn body(method: &MethodDescriptor, usual: &[u8], things: &[String]) -> BoxedStrategy<Vec<u8>> {
    let usual_message = DynamicMessage::decode(method.input(), usual).unwrap();
    let encoded = |message: DynamicMessage| framed(&message.encode_to_vec());
    let arbitrary = dynamic(method.input()).prop_map(encoded).boxed();
    let disturbed = disturbed_dynamic(usual_message.clone());
    let misnamed = misnamed(usual_message, things).prop_map(encoded);
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4);
    let known = prop_oneof![Just(framed(usual)), arbitrary.clone()];
    let mutated = (known, changes).prop_map(|(body, changes)| mutated(body, &changes));
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        4 => disturbed.prop_map(encoded),
        2 => arbitrary,
        2 => misnamed,
        2 => crafted(method, usual).prop_map(|message| framed(&message)),
        2 => mutated,
        1 => bytes().prop_map(|bytes| framed(&bytes)),
        1 => bytes(),
    ]
    .boxed()
}

fn mutated(mut body: Vec<u8>, changes: &[(Index, u8)]) -> Vec<u8> {
    for (place, byte) in changes {
        let place = place.index(body.len());
        body[place] = *byte;
    }
    body
}

/// The usual message with the name of one thing where another's belongs.
fn misnamed(usual: DynamicMessage, things: &[String]) -> impl Strategy<Value = DynamicMessage> + use<> {
    let things = select(things.to_vec());
    (any::<Index>(), things).prop_map(move |(place, thing)| {
        let mut message = usual.clone();
        let count = texts(&mut message, None).max(1);
        texts(&mut message, Some((place.index(count), &thing)));
        message
    })
}

/// How many texts a message has, also within it; the one at the place becomes another.
fn texts(message: &mut DynamicMessage, put: Option<(usize, &str)>) -> usize {
    let mut count = 0;
    for (_, value) in message.fields_mut() {
        let put = put.and_then(|(place, text)| Some((place.checked_sub(count)?, text)));
        count += texts_of(value, put);
    }
    count
}

fn texts_of(value: &mut Value, put: Option<(usize, &str)>) -> usize {
    match value {
        Value::String(text) => {
            if let Some((0, new)) = put {
                new.clone_into(text);
            }
            1
        }
        Value::Message(inner) => texts(inner, put),
        Value::List(elements) => {
            let mut count = 0;
            for element in elements {
                let put = put.and_then(|(place, text)| Some((place.checked_sub(count)?, text)));
                count += texts_of(element, put);
            }
            count
        }
        _ => 0,
    }
}

/// The usual message with something behind it that no generated code would write.
fn crafted(method: &MethodDescriptor, usual: &[u8]) -> BoxedStrategy<Vec<u8>> {
    let fields: Vec<_> = method.input().fields().collect();
    let usual = usual.to_vec();
    if fields.is_empty() {
        return Just(nested(1, DEPTH_MAX)).boxed();
    }
    (select(fields), 0..7_usize, any::<Index>())
        .prop_map(move |(field, kind, size)| [usual.clone(), craft(&field, kind, size)].concat())
        .boxed()
}

fn craft(field: &FieldDescriptor, kind: usize, size: Index) -> Vec<u8> {
    let number = field.number();
    match kind {
        0 => delimited(number, &[0xff, 0xfe, 0x00, 0xc0]),
        1 => delimited(number, &vec![b'x'; size.index(TEXT_BYTES_MAX)]),
        2 => delimited(number, &[]).repeat(size.index(ELEMENTS_MAX)),
        3 => nested(number, size.index(DEPTH_MAX)),
        4 => group(number).repeat(size.index(DEPTH_MAX)),
        5 => of_another_type(field),
        _ => within(field, size),
    }
}

fn key(number: u32, wire_type: WireType) -> Vec<u8> {
    let mut key = Vec::new();
    encode_key(number, wire_type, &mut key);
    key
}

fn delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = key(number, WireType::LengthDelimited);
    encode_varint(u64::try_from(bytes.len()).unwrap(), &mut field);
    [field, bytes.to_vec()].concat()
}

fn nested(number: u32, depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| delimited(number, &inner))
}

fn group(number: u32) -> Vec<u8> {
    key(number, WireType::StartGroup)
}

/// A number where there are texts and messages, and else a text.
fn of_another_type(field: &FieldDescriptor) -> Vec<u8> {
    match field.kind() {
        Kind::String | Kind::Message(_) | Kind::Bytes => {
            [key(field.number(), WireType::Varint), vec![1]].concat()
        }
        _ => delimited(field.number(), b"no number"),
    }
}

/// The same one level deeper, in the first text or list of the message there.
fn within(field: &FieldDescriptor, size: Index) -> Vec<u8> {
    let Kind::Message(inner) = field.kind() else { return delimited(field.number(), &[0xff]) };
    let crafted = inner.fields().map(|inner| craft_flat(&inner, size)).collect::<Vec<_>>();
    if crafted.is_empty() {
        return delimited(field.number(), &[]);
    }
    delimited(field.number(), &crafted[size.index(crafted.len())])
}

fn craft_flat(field: &FieldDescriptor, size: Index) -> Vec<u8> {
    match field.kind() {
        Kind::String if field.is_list() => delimited(field.number(), b"x").repeat(size.index(ELEMENTS_MAX)),
        Kind::String => delimited(field.number(), &vec![b'x'; size.index(TEXT_BYTES_MAX)]),
        Kind::Message(_) => delimited(field.number(), &[]).repeat(size.index(ELEMENTS_MAX)),
        _ => [key(field.number(), WireType::Varint), vec![0xff; 9], vec![0x01]].concat(),
    }
}
