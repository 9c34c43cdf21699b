//! The codec of the services' messages: prost's, with a bound on how many elements a message has.
//!
//! An empty element takes two bytes on the wire and may take hundreds in memory, so that a bound on a
//! message's bytes alone would let one message ask for gigabytes before anybody has counted its
//! elements. Those at its top are the large ones; they are counted before any of them is made.

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Most fields at the top of a message, each element of a repeated one counted: twice the longest list
/// of the contract.
pub const ELEMENTS_MAX: usize = 2_000;

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
    U: Message + Default + Send + 'static,
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

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The message lies in one piece.
        if elements(source.chunk()) > ELEMENTS_MAX {
            return Err(Status::out_of_range("the message has too many elements"));
        }
        self.0.decode(source)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// How many fields are at the top of a message, up to one more than there may be. It ends where the
/// message is damaged, as the decoder after it does.
fn elements(mut message: &[u8]) -> usize {
    let mut count = 0;
    while message.has_remaining() && count <= ELEMENTS_MAX {
        count += 1;
        let skipped = decode_key(&mut message)
            .and_then(|(tag, wire)| skip_field(wire, tag, &mut message, DecodeContext::default()));
        if skipped.is_err() {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn elements_at_the_top_are_counted_and_those_within_are_not() {
        let amounts = vec![v1::UnitAmount::default(); 9];
        let record = v1::UsageRecord { amounts, ..v1::UsageRecord::default() };
        for (records, expected) in [(0, 0), (1, 1), (1_000, 1_000), (ELEMENTS_MAX + 9, ELEMENTS_MAX + 1)] {
            let request = v1::ReportUsageRequest { records: vec![record.clone(); records] };
            assert_eq!(elements(&request.encode_to_vec()), expected);
        }
    }

    #[test]
    fn a_damaged_message_is_counted_up_to_the_damage() {
        let good = v1::GetApiRequest { id: "api_1".to_owned() }.encode_to_vec();
        assert_eq!(elements(&good[..3]), 1);
        assert_eq!(elements(&[0xff; 20]), 1);
        assert_eq!(elements(&[&good[..], &[0x0b]].concat()), 2);
    }
}
