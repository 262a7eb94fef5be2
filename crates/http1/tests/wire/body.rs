//! Bodies that are accepted.

use baiwan_http1::{BodyDecoder, BodyEvent, BodyFraming, Limits};

use crate::harness::{Event, accepted_with, chunked};

/// Data and trailers of a chunked body, which must be accepted.
fn decoded(body: &str) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut events = accepted_with(&chunked(body), Limits::default()).into_iter().skip(1);
    match (events.next(), events.next()) {
        (Some(Event::Data(data)), Some(Event::End(trailers))) => (data, trailers),
        (Some(Event::End(trailers)), None) => (vec![], trailers),
        events => panic!("{events:?}"),
    }
}

#[test]
fn chunks_are_joined() {
    assert_eq!(decoded("0\r\n\r\n").0, b"");
    assert_eq!(decoded("5\r\nhello\r\n0\r\n\r\n").0, b"hello");
    assert_eq!(decoded("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n").0, b"hello, world");
    assert_eq!(decoded("2\r\n\r\n\r\n0\r\n\r\n").0, b"\r\n");
    assert_eq!(decoded(&format!("1A\r\n{0}\r\n1a\r\n{0}\r\n000\r\n\r\n", "x".repeat(26))).0, [b'x'; 52]);
    assert_eq!(decoded("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n").0, b"hello");
}

#[test]
fn row_12_well_formed_extensions_are_ignored() {
    for extension in
        [";a", ";a=b", ";a;b;c=d", ";a=\"\"", ";a=\"b c\t;\\\"\\\\\u{e9}\\\u{e9}\"", ";a=\"b\";c", ";!#$=%&'"]
    {
        assert_eq!(decoded(&format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n")).0, b"hello");
    }
}

#[test]
fn white_space_around_semicolons_and_equals_signs_is_ignored() {
    for extension in
        [" ;a", "\t;a", "; a", ";\ta", " \t ; \t a", ";a ;b", ";a =b", ";a= b", ";a\t=\t\"b\"\t;\tc", ";a = b ; c = d"]
    {
        assert_eq!(decoded(&format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n")).0, b"hello");
    }
}

#[test]
fn row_12_chunks_of_one_byte_are_legal() {
    let body = "1\r\nx\r\n".repeat(20_000);
    assert_eq!(decoded(&format!("{body}0\r\n\r\n")).0.len(), 20_000);
}

#[test]
fn trailers_are_handed_over_once() {
    let (data, trailers) = decoded("1\r\nx\r\n0\r\nA: b\r\nC:\t d \r\na: e\r\n\r\n");
    assert_eq!(data, b"x");
    let expected = [("a", "b"), ("a", "e"), ("c", "d")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(trailers, expected);

    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let limits = Limits::default();
    let input = b"0\r\nA: b\r\n\r\n";
    assert!(matches!(body.decode(input, &limits).expect("valid").event, BodyEvent::Complete(Some(_))));
    let again = body.decode(b"more", &limits).expect("complete");
    assert!(matches!((again.consumed, again.event), (0, BodyEvent::Complete(None))));
}

#[test]
fn row_15_forbidden_trailers_are_dropped() {
    let names =
        ["Content-Length", "transfer-encoding", "Host", "Authorization", "Cookie", "Set-Cookie", "Content-Type"];
    let lines: String = names.iter().map(|name| format!("{name}: x\r\n")).collect();
    let (_, trailers) = decoded(&format!("0\r\n{lines}Kept: y\r\n\r\n"));
    assert_eq!(trailers, [("kept".to_owned(), b"y".to_vec())]);
    assert_eq!(decoded(&format!("0\r\n{lines}\r\n")).1, []);
}

#[test]
fn getters_tell_what_is_left() {
    let limits = Limits::default();
    let mut none = BodyDecoder::new(BodyFraming::None);
    assert!(none.is_complete());
    assert_eq!(none.remaining_hint(), Some(0));
    let step = none.decode(b"GET", &limits).expect("complete");
    assert!(matches!((step.consumed, step.event), (0, BodyEvent::Complete(None))));

    let mut length = BodyDecoder::new(BodyFraming::Length(5));
    assert!(!length.is_complete());
    let step = length.decode(b"abc", &limits).expect("valid");
    assert!(matches!((step.consumed, step.event), (3, BodyEvent::Data(range)) if range == (0..3)));
    assert_eq!(length.remaining_hint(), Some(2));
    let step = length.decode(b"", &limits).expect("valid");
    assert!(matches!((step.consumed, step.event), (0, BodyEvent::More)));
    let step = length.decode(b"defg", &limits).expect("valid");
    assert!(matches!((step.consumed, step.event), (2, BodyEvent::Data(range)) if range == (0..2)));
    assert!(length.is_complete());

    let mut chunks = BodyDecoder::new(BodyFraming::Chunked);
    assert_eq!(chunks.remaining_hint(), None);
    let step = chunks.decode(b"3\r\nabcd", &limits).expect("valid so far");
    assert!(matches!((step.consumed, step.event), (6, BodyEvent::Data(range)) if range == (3..6)));
    assert!(!chunks.is_complete());
}

#[test]
fn a_body_has_at_least_what_has_come_of_it_and_what_was_announced() {
    let limits = Limits::default();
    assert_eq!(BodyDecoder::new(BodyFraming::None).length_min(), 0);
    let mut length = BodyDecoder::new(BodyFraming::Length(5));
    assert_eq!(length.length_min(), 5);
    for input in [b"abc", b"def"] {
        length.decode(input, &limits).expect("valid");
        assert_eq!(length.length_min(), 5);
    }
    let mut chunks = BodyDecoder::new(BodyFraming::Chunked);
    assert_eq!(chunks.length_min(), 0);
    for (byte, least) in "1\r\na\r\n10;b\r\nc".bytes().zip([1, 1, 1, 1, 1, 1, 2, 17, 17, 17, 17, 17, 17]) {
        chunks.decode(&[byte], &limits).expect("valid so far");
        assert_eq!(chunks.length_min(), least, "after {:?}", char::from(byte));
    }
}
