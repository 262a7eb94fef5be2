//! Where the body of an answer ends, and whether the connection persists after it.

use baiwan_http1::ResponseFraming::{Chunked, Length, NoBody, UntilClose};
use baiwan_http1::ResponseRefusal::*;
use baiwan_http1::{BodyDecoder, BodyEvent, Limits, Refusal, ResponseFraming};

use super::harness::{Event, Reader, accepted, accepted_to, ends_in, head, head_with, refused, refused_field, whole};

const FRAMES: [&str; 3] = ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"];

/// The framing of an answer of one head alone, with that which follows it found again.
fn framing_to(head_request: bool, status: u16, lines: &str) -> ResponseFraming {
    let events = accepted_to(head_request, format!("HTTP/1.1 {status} x\r\n{lines}\r\n").as_bytes());
    assert_eq!(events[1..], [Event::End(vec![])]);
    let Event::Head(head) = &events[0] else { panic!("{events:?}") };
    head.framing
}

#[test]
fn an_answer_to_head_ends_with_its_head() {
    for lines in FRAMES {
        for status in [200, 205, 404, 500] {
            assert_eq!(framing_to(true, status, lines), NoBody);
        }
    }
}

#[test]
fn answers_of_204_and_304_end_with_their_heads() {
    for lines in FRAMES {
        for status in [204, 304] {
            assert_eq!(framing_to(false, status, lines), NoBody, "{status} with {lines:?}");
        }
        for status in [100, 102, 199] {
            let input = format!("HTTP/1.1 {status} x\r\n{lines}\r\nHTTP/1.1 204 x\r\n\r\n");
            let events = accepted_to(false, input.as_bytes());
            assert!(matches!(&events[0], Event::Head(head) if head.framing == NoBody));
        }
    }
    // No other status has this, 205 neither: its length is said, if only to be 0.
    assert_eq!(framing_to(false, 205, "Content-Length: 0\r\n"), Length(0));
    assert_eq!(head(b"HTTP/1.1 205 x\r\n\r\n").framing, UntilClose);
}

#[test]
fn transfer_encoding_then_length_then_the_end_of_the_connection_frame_the_rest() {
    for status in [200, 201, 206, 301, 404, 503, 999] {
        let with = |lines: &str| head(format!("HTTP/1.1 {status} x\r\n{lines}\r\n").as_bytes()).framing;
        assert_eq!(with("Transfer-Encoding: chunked\r\n"), Chunked);
        assert_eq!(with("Content-Length: 5\r\n"), Length(5));
        assert_eq!(with(""), UntilClose);
    }
    assert_eq!(framing_to(false, 200, "Content-Length: 0\r\n"), Length(0));
}

#[test]
fn chunks_of_an_answer_are_joined_and_its_trailers_kept_apart() {
    let input = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5 ; a\t= b\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n";
    let events = accepted_to(false, input);
    assert_eq!(events[1..], [Event::Data(b"hello world".into()), Event::End(vec![("x-sum".into(), b"1".into())])]);
    let Event::Head(head) = &events[0] else { panic!("{events:?}") };
    assert_eq!(head.fields.len(), 1);
}

#[test]
fn a_chunked_answer_is_as_strict_as_a_chunked_request() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (refusal, body) in [
        (Refusal::ChunkSizeInvalid, "x"),
        (Refusal::ChunkEndMissing, "1\r\nab"),
        (Refusal::BareLineFeed, "1\n"),
        (Refusal::ChunkSizeTooLarge, "8000000000000000"),
    ] {
        ends_in(&Event::BodyRefused(refusal), format!("{head}{body}").as_bytes(), Limits::default());
    }
}

#[test]
fn length_beside_transfer_encoding_is_refused() {
    refused_field(LengthAndTransferEncoding, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    refused_field(LengthAndTransferEncoding, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    refused_field(LengthAndTransferEncoding, "Content-Length: 0\r\nTransfer-Encoding: identity\r\n");
    // Whether there can be a body or not.
    refused(LengthAndTransferEncoding, b"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n");
}

#[test]
fn the_only_transfer_coding_of_an_answer_is_chunked() {
    for value in ["chunked", "Chunked", "CHUNKED  "] {
        assert_eq!(head_with(&format!("transfer-ENCODING:{value}\r\n")).framing, Chunked);
    }
    for value in ["gzip, chunked", "identity,chunked", "a, b , Chunked"] {
        refused_field(TransferEncodingUnknown, &format!("Transfer-Encoding: {value}\r\n\r\n"));
    }
    for value in ["", "chunked, gzip", "chunked,", ",chunked", "chunked;q=1"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n"));
    }
    // Another line could end these in chunked.
    for value in ["gzip", "identity", "xchunked"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n\r\n"));
    }
    refused_field(TransferEncodingRepeated, "Transfer-Encoding: chunked, chunked\r\n");
    refused_field(TransferEncodingInvalid, "Transfer-Encoding:\tchunked\r\n");
    refused_field(TransferEncodingRepeated, "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n");
    refused_field(TransferEncodingInvalid, "Transfer-Encoding: chunked\r\ntransfer-encoding: gzip\r\n");
    refused_field(TransferEncodingUnknown, "Transfer-Encoding: gzip\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n");
    refused_field(LengthAndTransferEncoding, "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n");
    // Whether there can be a body or not.
    refused(TransferEncodingInvalid, b"HTTP/1.1 304 x\r\nTransfer-Encoding: gzip\r\n\r\n");
}

#[test]
fn an_http_1_0_answer_has_no_transfer_encoding() {
    for coding in ["chunked", "identity"] {
        let input = format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: {coding}\r\n");
        refused(TransferEncodingVersion, input.as_bytes());
    }
}

#[test]
fn a_length_that_is_said_several_times_is_the_same() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nA: b\r\ncontent-length:5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5 , 5\r\nContent-Length: 5\r\n",
    ] {
        let input = format!("HTTP/1.1 200 OK\r\n{lines}\r\nhello");
        assert_eq!(accepted(input.as_bytes()).framing, Length(5));
    }
    refused_field(LengthsDiffer, "Content-Length: 5\r\nContent-Length: 6\r\n");
    refused_field(LengthsDiffer, "Content-Length: 0\r\nContent-Length: 6\r\n");
    refused_field(LengthsDiffer, "Content-Length: 5, 6\r\n");
    refused_field(LengthsDiffer, "Content-Length: 5, 5, 50\r\n");
}

#[test]
fn the_length_of_an_answer_is_digits() {
    for value in ["+5", "-1", "0x5", "5 5", "", "5;", "005", "00", "5.0", "5e1", "\"5\"", "5,", ",5", "5,,5", ",", "a"]
    {
        refused_field(LengthInvalid, &format!("Content-Length: {value}\r\n"));
    }
    refused_field(LengthInvalid, "Content-Length:\t5\r\n");
    refused_field(LengthInvalid, "Content-Length: 5,\t5\r\n");
}

#[test]
fn lengths_of_answers_that_no_integer_holds() {
    for value in ["9223372036854775808", "18446744073709551616", "18446744073709551621", "100000000000000000000"] {
        refused_field(LengthInvalid, &format!("Content-Length: {value}\r\n"));
    }
    assert_eq!(head_with("Content-Length: 9223372036854775807\r\n").framing, Length(i64::MAX as u64));
}

#[test]
fn an_answer_beyond_the_limit_of_bodies_is_refused_where_it_has_a_body() {
    let limits = Limits { body_bytes_max: 4, ..Limits::default() };
    let five = |status: u16| format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
    ends_in(&Event::Refused(BodyTooLarge), five(200).as_bytes(), limits);
    let chunked = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2";
    ends_in(&Event::BodyRefused(Refusal::BodyTooLarge), chunked.as_bytes(), limits);
    ends_in(&Event::BodyRefused(Refusal::BodyTooLarge), b"HTTP/1.1 200 x\r\n\r\nhello", limits);
    for (head_request, status) in [(true, 200), (false, 204), (false, 304)] {
        assert_eq!(whole(five(status).as_bytes(), head_request, limits).len(), 2);
    }
    let within = whole(b"HTTP/1.1 200 x\r\n\r\nhell", false, limits);
    assert_eq!(within[1..], [Event::Data(b"hell".into())]);
}

#[test]
fn persistence_follows_version_options_and_framing() {
    for (version, lines, expected) in [
        ("1.1", "Content-Length: 0\r\n", true),
        ("1.1", "Content-Length: 0\r\nConnection: close\r\n", false),
        ("1.1", "Content-Length: 0\r\nConnection: keep-alive, CLOSE\r\n", false),
        ("1.1", "Content-Length: 0\r\nConnection: x,\t Close ,y\r\n", false),
        ("1.1", "Content-Length: 0\r\nConnection: x\r\nCONNECTION: close\r\n", false),
        ("1.1", "Content-Length: 0\r\nConnection: closed, x-close\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\n", true),
        ("1.1", "", false),
        ("1.1", "Connection: keep-alive\r\n", false),
        ("1.0", "Content-Length: 0\r\n", false),
        ("1.0", "Content-Length: 0\r\nConnection: Keep-Alive\r\n", true),
        ("1.0", "Content-Length: 0\r\nConnection: ,, keep-alive\r\n", true),
        ("1.0", "Content-Length: 0\r\nConnection: keep-alive, close\r\n", false),
        ("1.0", "Connection: keep-alive\r\n", false),
        ("1.4", "Content-Length: 0\r\n", true),
    ] {
        let input = format!("HTTP/{version} 200 OK\r\n{lines}\r\n");
        assert_eq!(head(input.as_bytes()).keep_alive, expected, "{version} with {lines:?}");
    }
    let events = accepted_to(true, b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(matches!(&events[0], Event::Head(head) if head.keep_alive), "no body, so no end of the connection");
}

/// The events after the head of `input`, which the end of the stream follows.
fn cut(input: &str) -> Vec<Event> {
    let mut reader = Reader::new(false, Limits::default());
    reader.feed(input.as_bytes());
    reader.close();
    reader.events.split_off(1)
}

#[test]
fn the_end_of_the_stream_ends_a_body_without_a_length() {
    let data = Event::Data(b"hello".into());
    assert_eq!(cut("HTTP/1.1 200 OK\r\n\r\nhello"), [data.clone(), Event::Closed(true), Event::End(vec![])]);
    assert_eq!(cut("HTTP/1.0 200 OK\r\n\r\nhello"), [data, Event::Closed(true), Event::End(vec![])]);
    assert_eq!(cut("HTTP/1.0 200 OK\r\n\r\n"), [Event::Closed(true), Event::End(vec![])]);
}

#[test]
fn an_answer_that_breaks_off_is_never_whole() {
    let start = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n");
    let data = Event::Data(b"hell".into());
    let more = Event::Closed(false);
    assert_eq!(cut(&format!("{start}Content-Length: 5\r\n\r\n")), std::slice::from_ref(&more));
    assert_eq!(cut(&format!("{start}Content-Length: 5\r\n\r\nhell")), [data.clone(), more.clone()]);
    assert_eq!(cut(&chunked), std::slice::from_ref(&more));
    for rest in [
        "5\r\nhell",
        "4\r\nhell",
        "4\r\nhell\r\n",
        "4\r\nhell\r\n0\r\n",
        "4\r\nhell\r\n0\r\n\r",
        "4\r\nhell\r\n0\r\nA: b",
    ] {
        assert_eq!(cut(&format!("{chunked}{rest}")), [data.clone(), more.clone()], "{rest:?}");
    }
}

#[test]
fn a_body_that_was_refused_is_never_whole() {
    let mut body = BodyDecoder::for_response(Chunked);
    body.decode(b"x", &Limits::default()).expect_err("no size");
    assert!(!body.end_of_stream() && !body.is_complete());
    let limits = Limits { body_bytes_max: 1, ..Limits::default() };
    let mut body = BodyDecoder::for_response(UntilClose);
    let step = body.decode(b"ab", &limits).expect("one byte is allowed");
    assert_eq!(step.consumed, 1);
    assert_eq!(body.decode(b"b", &limits).expect_err("two are not"), Refusal::BodyTooLarge);
    assert_eq!(body.decode(b"", &limits).expect_err("still"), Refusal::BodyTooLarge);
    assert!(!body.end_of_stream());
}

#[test]
fn a_body_without_a_length_is_complete_at_the_end_of_the_stream_and_not_before() {
    let limits = Limits::default();
    let mut body = BodyDecoder::for_response(UntilClose);
    assert_eq!(body.remaining_hint(), None);
    assert!(matches!(body.decode(b"", &limits).expect("valid").event, BodyEvent::More));
    assert!(
        matches!(body.decode(b"0\r\n\r\n", &limits).expect("valid").event, BodyEvent::Data(range) if range == (0..5))
    );
    assert!(!body.is_complete());
    assert!(body.end_of_stream() && body.is_complete());
    let step = body.decode(b"more", &limits).expect("valid");
    assert!(matches!(step.event, BodyEvent::Complete(None)) && step.consumed == 0);
}
