//! Frames and header blocks, byte by byte.

use super::frame::{self, Kind};
use super::headers::HeaderBlocks;

#[test]
fn a_frame_is_read_as_it_was_written() {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, Kind::Data, frame::END_STREAM, 7, b"message");
    frame::write(&mut bytes, Kind::WindowUpdate, 0, 0, &300_u32.to_be_bytes());
    let (first, rest) = frame::parse(&bytes).expect("a whole frame");
    assert_eq!((first.kind, first.stream, first.payload), (Kind::Data, 7, b"message".as_slice()));
    assert!(first.has(frame::END_STREAM) && !first.has(frame::END_HEADERS));
    let (second, rest) = frame::parse(rest).expect("another whole frame");
    assert_eq!((second.kind, second.number().expect("a number")), (Kind::WindowUpdate, 300));
    assert!(rest.is_empty());
}

#[test]
fn half_a_frame_waits_for_its_other_half() {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, Kind::Headers, frame::END_HEADERS, 1, b"block");
    for cut in 0..bytes.len() {
        assert!(frame::parse(&bytes[..cut]).is_none(), "{cut} bytes");
    }
}

#[test]
fn headers_are_said_once_and_then_referred_to() {
    let mut blocks = HeaderBlocks::new("/a.B/C", "127.0.0.1:1", "rg_live_x").expect("short values");
    let first = blocks.block().to_vec();
    assert!(first.windows(16).any(|bytes| bytes == b"Bearer rg_live_x"));
    assert_eq!(blocks.block(), [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
    assert_eq!(blocks.block(), [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
}

#[test]
fn a_header_beyond_its_bound_is_refused() {
    assert!(HeaderBlocks::new("/a.B/C", "127.0.0.1:1", &"k".repeat(127)).is_err());
}
