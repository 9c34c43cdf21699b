//! Tests of numbers and text as bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn small_numbers_of_either_sign_take_one_byte() {
    for number in [-64, -1, 0, 1, 63] {
        let mut writer = Writer::default();
        writer.signed(number);
        assert_eq!(writer.finish().len(), 1);
    }
}

#[test]
fn numbers_beyond_128_bits_are_refused() {
    let mut too_many = vec![0xff; 18];
    too_many.push(0x04);
    assert_eq!(Reader::new(&too_many).unsigned("number"), Err(Malformed("number")));
    assert_eq!(Reader::new(&[0xff; 40]).unsigned("number"), Err(Malformed("number")));
}

#[test]
fn a_length_beyond_the_bytes_is_refused() {
    assert_eq!(Reader::new(&[3, b'a', b'b']).text("text"), Err(Malformed("text")));
    assert_eq!(Reader::new(&[2, 0xff, 0xfe]).text("text"), Err(Malformed("text")));
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(unsigned in any::<u128>(), signed in any::<i128>(), text in ".*", flag in prop::option::of(any::<i64>())) {
        let mut writer = Writer::default();
        writer.unsigned(unsigned);
        writer.signed(signed);
        writer.text(&text);
        writer.option(flag, |writer, number| writer.signed(number.into()));
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.unsigned("unsigned"), Ok(unsigned));
        prop_assert_eq!(reader.signed("signed"), Ok(signed));
        prop_assert_eq!(reader.text("text"), Ok(text.as_str()));
        prop_assert_eq!(reader.option("option", |reader| reader.number::<i64>("number")), Ok(flag));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}
