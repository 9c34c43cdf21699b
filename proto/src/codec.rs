//! The codec of the services' messages: prost's, with a bound on how many elements a message has.
//!
//! An empty element takes two bytes on the wire and may take hundreds in memory, so that a bound on a
//! message's bytes alone would let one message ask for gigabytes before anybody has counted its
//! elements. Those at its top are the large ones, and those one level below in what holds whole lists of
//! resources; they are counted before any of them is made.
//!
//! An answer has a bound of its own: it comes from a server that its reader has chosen, and what it says
//! has been done already, so that to refuse it would lose what it alone tells.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Most fields at the top of a message, each element of a repeated one counted: twice the longest list
/// of the contract.
pub const ELEMENTS_MAX: usize = 2_000;

/// Most fields one level below the top, all together: a full batch of records with all their
/// attributes, or the largest configuration, is smaller.
pub const INNER_ELEMENTS_MAX: usize = 200_000;

/// Most fields at the top of an answer: what an application of the largest configuration to the largest
/// workspace says, which is a difference for each of twice 10,000 resources and 10,000 new keys, with
/// room for as much again.
pub const ANSWER_ELEMENTS_MAX: usize = 60_000;

/// Most fields one level below the top of an answer: those of that many differences, keys, and two whole
/// configurations are fewer.
pub const ANSWER_INNER_ELEMENTS_MAX: usize = 600_000;

/// What the names of answers, and of no other messages, end in.
const ANSWER_ENDING: &str = "Response";
/// Fewest bytes of an element: its key and a length of zero.
const ELEMENT_BYTES_MIN: usize = 2;

/// Encodes `T` and decodes `U`, if it has not too many elements.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(ProstCodec<T, U>);

/// Decodes `U`, if it has not too many elements.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(self.0.decoder())
    }
}

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The message lies in one piece.
        if Bounds::of::<U>().are_passed_by(source.chunk()) {
            return Err(Status::out_of_range("the message has too many elements"));
        }
        self.0.decode(source)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// How many elements a message may have.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    top: usize,
    inner: usize,
}

impl Bounds {
    const REQUEST: Self = Self { top: ELEMENTS_MAX, inner: INNER_ELEMENTS_MAX };
    const ANSWER: Self = Self { top: ANSWER_ELEMENTS_MAX, inner: ANSWER_INNER_ELEMENTS_MAX };

    /// Those of a kind of message.
    fn of<U: Name>() -> Self {
        if U::NAME.ends_with(ANSWER_ENDING) { Self::ANSWER } else { Self::REQUEST }
    }

    fn are_passed_by(self, message: &[u8]) -> bool {
        fields_up_to(message, self.top + 1) > self.top || has_too_many_within(message, self.inner)
    }
}

/// How many fields are at the top of a message, up to `most`. It ends where the message is damaged, as the
/// decoder after it does.
fn fields_up_to(mut message: &[u8], most: usize) -> usize {
    let mut count = 0;
    while message.has_remaining() && count < most {
        count += 1;
        if next_field(&mut message).is_none() {
            break;
        }
    }
    count
}

/// Takes the next field off a message: what it holds where that may be a message, `None` at the end and
/// where it is damaged.
fn next_field<'m>(message: &mut &'m [u8]) -> Option<Option<&'m [u8]>> {
    let (tag, wire) = decode_key(message).ok()?;
    if wire != WireType::LengthDelimited {
        skip_field(wire, tag, message, DecodeContext::default()).ok()?;
        return Some(None);
    }
    let length = usize::try_from(decode_varint(message).ok()?).ok()?;
    let (field, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(Some(field))
}

/// Whether the fields of a message have more than `most` fields themselves. A text that could be read as a message
/// is counted as one, which no text within the contract's bounds is long enough for.
fn has_too_many_within(mut message: &[u8], most: usize) -> bool {
    if message.len() / ELEMENT_BYTES_MIN <= most {
        return false;
    }
    let mut count = 0;
    while let Some(field) = next_field(&mut message) {
        count += field.map_or(0, |inner| fields_up_to(inner, most - count + 1));
        if count > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    /// Counted as far as a request's bound needs.
    fn elements(message: &[u8]) -> usize {
        fields_up_to(message, ELEMENTS_MAX + 1)
    }

    #[test]
    fn elements_at_the_top_are_counted_and_those_within_are_not() {
        let amounts = vec![v1::UnitAmount::default(); 9];
        let record = v1::UsageRecord { amounts, ..v1::UsageRecord::default() };
        for (records, expected) in [(0, 0), (1, 1), (1_000, 1_000), (ELEMENTS_MAX + 9, ELEMENTS_MAX + 1)] {
            let request = v1::ReportUsageRequest { records: vec![record.clone(); records] };
            assert_eq!(elements(&request.encode_to_vec()), expected);
        }
    }

    fn apply(rules: usize, parts: usize) -> Vec<u8> {
        let configuration = v1::WorkspaceConfiguration {
            rules: vec![v1::Rule::default(); rules],
            ..v1::WorkspaceConfiguration::default()
        };
        let part = v1::ApplyWorkspaceRequest { configuration: Some(configuration), ..Default::default() }
            .encode_to_vec();
        // A field that stands several times is one whose parts are joined.
        part.repeat(parts)
    }

    #[test]
    fn elements_below_the_top_are_counted_together_however_they_are_spread() {
        for (rules, parts, refused) in [
            (10_000, 1, false),
            (INNER_ELEMENTS_MAX, 1, false),
            (INNER_ELEMENTS_MAX + 1, 1, true),
            (INNER_ELEMENTS_MAX / 1_000, 1_000, false),
            (INNER_ELEMENTS_MAX / 1_000 + 1, 1_000, true),
        ] {
            assert_eq!(
                has_too_many_within(&apply(rules, parts), INNER_ELEMENTS_MAX),
                refused,
                "{rules} in {parts}"
            );
        }
    }

    #[test]
    fn a_full_batch_of_records_has_few_enough_elements_below_the_top() {
        let attributes = (0..64).map(|n| (format!("attribute-{n}"), "value".to_owned())).collect();
        let record = v1::UsageRecord { dimensions: attributes, ..v1::UsageRecord::default() };
        let request = v1::ReportUsageRequest { records: vec![record; 1_000] }.encode_to_vec();
        assert!(request.len() > INNER_ELEMENTS_MAX * ELEMENT_BYTES_MIN, "else nothing is counted");
        assert!(!has_too_many_within(&request, INNER_ELEMENTS_MAX));
    }

    #[test]
    fn a_damaged_message_is_counted_up_to_the_damage() {
        let good = v1::GetApiRequest { id: "api_1".to_owned() }.encode_to_vec();
        assert_eq!(elements(&good[..3]), 1);
        assert_eq!(elements(&[0xff; 20]), 1);
        assert_eq!(elements(&[&good[..], &[0x0b]].concat()), 2);
    }

    /// What an application of the largest configuration to the largest workspace says, where nothing of
    /// the one is in the other.
    fn largest_answer() -> v1::ApplyWorkspaceResponse {
        let difference = v1::ConfigurationDifference {
            kind: v1::ConfigurationKind::Key.into(),
            name: "a key".to_owned(),
            change: v1::ConfigurationChange::Create.into(),
            credential_changed: true,
            counters_reset: true,
        };
        let key = v1::Key { display_name: "a key".to_owned(), ..v1::Key::default() };
        let whole = v1::WorkspaceConfiguration { keys: vec![key; 10_000], ..Default::default() };
        let secret = Some(v1::SecretText { value: "rg_live_".repeat(6) });
        let created = v1::CreatedKey { name: "a key".to_owned(), secret };
        v1::ApplyWorkspaceResponse {
            differences: vec![difference; 20_000],
            before: Some(whole.clone()),
            after: Some(whole),
            created_keys: vec![created; 10_000],
            ..v1::ApplyWorkspaceResponse::default()
        }
    }

    #[test]
    fn the_largest_answer_of_an_application_can_be_read_and_no_request_is_as_large() {
        let answer = largest_answer().encode_to_vec();
        assert!(!Bounds::of::<v1::ApplyWorkspaceResponse>().are_passed_by(&answer));
        assert!(Bounds::of::<v1::ApplyWorkspaceRequest>().are_passed_by(&answer));
    }

    #[test]
    fn an_answer_beyond_its_bounds_is_not_read() {
        let most = v1::ApplyWorkspaceResponse {
            created_keys: vec![v1::CreatedKey::default(); ANSWER_ELEMENTS_MAX],
            ..v1::ApplyWorkspaceResponse::default()
        };
        let bounds = Bounds::of::<v1::ApplyWorkspaceResponse>();
        assert!(!bounds.are_passed_by(&most.encode_to_vec()));
        let more = v1::ApplyWorkspaceResponse { unchanged_count: 1, ..most };
        assert!(bounds.are_passed_by(&more.encode_to_vec()));
        let keys = vec![v1::Key::default(); ANSWER_INNER_ELEMENTS_MAX + 1];
        let configuration = Some(v1::WorkspaceConfiguration { keys, ..Default::default() });
        let exported = v1::ExportWorkspaceResponse { configuration, ..Default::default() };
        assert!(Bounds::of::<v1::ExportWorkspaceResponse>().are_passed_by(&exported.encode_to_vec()));
    }
}
