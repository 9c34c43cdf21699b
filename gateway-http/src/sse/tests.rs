//! What the event reader promises, case by case and for arbitrary bytes and splits.

use proptest::prelude::*;

use super::*;

/// Event type, data; what a reader sees of an event.
type Seen = (Option<Vec<u8>>, Option<Vec<u8>>);

fn items_of(chunks: &[&[u8]], event_bytes_max: usize) -> Vec<SseItem> {
    let mut parser = SseParser::with_event_bytes_max(event_bytes_max);
    let mut items = Vec::new();
    for chunk in chunks {
        parser.push(chunk);
        items.extend(std::iter::from_fn(|| parser.next_item()));
    }
    parser.finish();
    items.extend(std::iter::from_fn(|| parser.next_item()));
    items
}

fn seen(items: &[SseItem]) -> Vec<Seen> {
    items.iter().filter_map(seen_of_item).collect()
}

fn seen_of_item(item: &SseItem) -> Option<Seen> {
    let SseItem::Event(event) = item else { return None };
    Some((event.event_type().map(<[u8]>::to_vec), event.data().map(Cow::into_owned)))
}

fn data_of(stream: &str) -> Vec<String> {
    seen(&items_of(&[stream.as_bytes()], SSE_EVENT_BYTES_MAX))
        .into_iter()
        .filter_map(|(_, data)| data)
        .map(|data| String::from_utf8(data).unwrap())
        .collect()
}

fn concatenated(items: &[SseItem]) -> Vec<u8> {
    items.iter().flat_map(|item| item.raw().to_vec()).collect()
}

#[test]
fn every_kind_of_line_end_cuts_the_same_events() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["event: a", "data: one", "", "data: two", "", ""].join(end);
        let items = items_of(&[stream.as_bytes()], SSE_EVENT_BYTES_MAX);
        let expected = vec![(Some(b"a".to_vec()), Some(b"one".to_vec())), (None, Some(b"two".to_vec()))];
        assert_eq!(seen(&items), expected, "line end {end:?}");
    }
}

#[test]
fn an_event_is_handed_out_with_the_last_byte_of_its_blank_line() {
    for stream in ["data: x\n\n", "data: x\r\n\r\n", "data: x\r\r"] {
        let mut parser = SseParser::default();
        let (head, last) = stream.as_bytes().split_at(stream.len() - 1);
        parser.push(head);
        assert_eq!(parser.next_item(), None, "{stream:?}");
        parser.push(last);
        let item = parser.next_item().unwrap();
        assert_eq!(item.raw().as_ref(), stream.as_bytes());
    }
}

#[test]
fn a_crlf_blank_line_keeps_its_line_feed_even_when_it_comes_later() {
    let items = items_of(&[b"data: x\r\n\r", b"\ndata: y\r\n\r\n"], SSE_EVENT_BYTES_MAX);
    assert_eq!(items[0].raw().as_ref(), b"data: x\r\n\r\n");
    assert_eq!(items[1].raw().as_ref(), b"data: y\r\n\r\n");
}

#[test]
fn a_line_feed_behind_a_cut_cr_is_no_blank_line() {
    let items = items_of(&[b"data: x\r\r", b"\ndata: y\r\r"], SSE_EVENT_BYTES_MAX);
    assert_eq!(seen(&items).len(), 2);
    assert_eq!(seen(&items)[1].1.as_deref(), Some(b"y".as_slice()));
}

#[test]
fn several_data_lines_are_joined_with_line_feeds() {
    assert_eq!(data_of("data: a\ndata:b\ndata\ndata:  c\n\n"), ["a\nb\n\n c"]);
}

#[test]
fn comments_and_unknown_fields_carry_no_data_but_keep_their_bytes() {
    let stream = b": keep-alive\n\nid: 7\nretry: 10\ndatax: no\n\ndata: yes\n\n";
    let items = items_of(&[stream], SSE_EVENT_BYTES_MAX);
    let data: Vec<_> = seen(&items).into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, [None, None, Some(b"yes".to_vec())]);
    assert_eq!(items[0].raw().as_ref(), b": keep-alive\n\n");
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    assert_eq!(data_of("\u{feff}data: a\n\ndata: b\n\n"), ["a", "b"]);
    assert_eq!(data_of("data: a\n\n\u{feff}data: b\n\n"), ["a"]);
    let split: Vec<&[u8]> = vec![b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"];
    assert_eq!(seen(&items_of(&split, SSE_EVENT_BYTES_MAX))[0].1.as_deref(), Some(b"a".as_slice()));
}

#[test]
fn the_last_event_is_read_even_without_its_blank_line() {
    assert_eq!(data_of("data: a\n\ndata: b"), ["a", "b"]);
}

#[test]
fn the_last_of_several_event_lines_names_the_event() {
    let items = items_of(&[b"event: a\nevent: b\ndata: x\n\n"], SSE_EVENT_BYTES_MAX);
    assert_eq!(seen(&items)[0].0.as_deref(), Some(b"b".as_slice()));
}

#[test]
fn an_event_beyond_the_bound_passes_through_unread_and_the_next_is_read() {
    let stream = format!("data: {}\n\ndata: small\n\n", "x".repeat(100));
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(7).collect();
    let items = items_of(&bytes, 32);
    assert_eq!(seen(&items), [(None, Some(b"small".to_vec()))]);
    assert_eq!(concatenated(&items), stream.as_bytes());
    assert!(items.iter().all(|item| item.raw().len() <= 32 + 7));
}

#[test]
fn an_event_of_exactly_the_bound_is_read() {
    let stream = b"data: 1234\n\n";
    assert_eq!(seen(&items_of(&[stream], stream.len())).len(), 1);
    assert_eq!(seen(&items_of(&[stream], stream.len() - 1)).len(), 0);
}

/// Streams made of the bytes that matter, so that every pair of them meets.
fn arbitrary_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"data: x".to_vec()),
        Just(b"event: y".to_vec()),
        Just(b": comment".to_vec()),
        Just(BYTE_ORDER_MARK.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn split_at<'a>(stream: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

fn events_alone(items: Vec<SseItem>) -> Vec<SseItem> {
    items.into_iter().filter(|item| matches!(item, SseItem::Event(_))).collect()
}

/// What the stream says, read the slow and plain way: line ends made equal, then line by line.
fn data_by_definition(stream: &[u8]) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(stream);
    let mut text: Vec<u8> = Vec::new();
    for (position, byte) in stream.iter().enumerate() {
        match byte {
            b'\n' if position > 0 && stream[position - 1] == b'\r' => {}
            b'\r' => text.push(b'\n'),
            other => text.push(*other),
        }
    }
    let mut events = vec![Vec::new()];
    for line in text.split(|byte| *byte == b'\n') {
        match (line.is_empty(), field_value(line, b"data"), events.last_mut()) {
            (true, _, _) => events.push(Vec::new()),
            (false, Some(value), Some(event)) => event.push(value),
            _ => {}
        }
    }
    events.into_iter().filter(|event| !event.is_empty()).map(|event| event.join(&b'\n')).collect()
}

#[test]
fn mixed_line_ends_cut_events_too() {
    for (end, blank) in [("\n", "\r"), ("\r\n", "\r"), ("\n", "\r\n"), ("\r\n", "\n"), ("\r", "\r\n")] {
        assert_eq!(data_of(&format!("data: a{end}{blank}data: b\n\n")), ["a", "b"], "{end:?} {blank:?}");
    }
}

proptest! {
    #[test]
    fn events_are_what_the_format_defines(stream in arbitrary_stream()) {
        let data: Vec<Vec<u8>> = seen(&items_of(&[&stream], SSE_EVENT_BYTES_MAX))
            .into_iter()
            .filter_map(|(_, data)| data)
            .collect();
        prop_assert_eq!(data, data_by_definition(&stream));
    }

    #[test]
    fn any_split_gives_the_same_events_and_loses_no_byte(
        stream in arbitrary_stream(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        event_bytes_max in 4_usize..64,
    ) {
        let whole = items_of(&[&stream], event_bytes_max);
        let pieces = items_of(&split_at(&stream, &cuts), event_bytes_max);
        prop_assert_eq!(concatenated(&whole), stream.clone());
        prop_assert_eq!(concatenated(&pieces), stream);
        prop_assert_eq!(events_alone(whole), events_alone(pieces));
    }

    #[test]
    fn byte_by_byte_gives_what_one_chunk_gives(stream in arbitrary_stream()) {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let whole = items_of(&[&stream], SSE_EVENT_BYTES_MAX);
        prop_assert_eq!(items_of(&bytes, SSE_EVENT_BYTES_MAX), whole);
    }

    #[test]
    fn fields_read_alike_whatever_the_line_end(
        lines in proptest::collection::vec("(data|event|id|x):? ?[a-z]{0,3}|:[a-z]{0,3}|", 0..20),
    ) {
        let by_end = |end: &str| {
            let items = items_of(&[lines.join(end).as_bytes()], SSE_EVENT_BYTES_MAX);
            let with_data = seen(&items).into_iter().filter(|(_, data)| data.is_some());
            with_data.collect::<Vec<_>>()
        };
        prop_assert_eq!(by_end("\n"), by_end("\r\n"));
        prop_assert_eq!(by_end("\n"), by_end("\r"));
    }
}
