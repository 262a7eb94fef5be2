//! Where the body ends: Content-Length and Transfer-Encoding.

use baiwan_http1::Refusal::*;
use baiwan_http1::{BodyFraming, Limits};

use crate::harness::{
    Event, accepted, accepted_field, accepted_with, byte_by_byte, refused, refused_field, refused_with, whole,
};

#[test]
fn row_01_length_and_transfer_encoding() {
    refused_field(LengthAndTransferEncoding, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    refused_field(LengthAndTransferEncoding, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    refused_field(LengthAndTransferEncoding, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n");
    refused_field(LengthAndTransferEncoding, "Content-Length: 0\r\nA: b\r\nTransfer-Encoding: identity\r\n");
}

#[test]
fn row_02_obfuscated_transfer_encoding() {
    for value in ["chunked, identity", "chunked;q=1", "chunked ; a", "\"chunked\""] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n"));
    }
    // Another line could end these in chunked.
    for value in ["xchunked", "'chunked'", "chunkedchunked", "identity"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n\r\n"));
    }
    for value in ["", ",chunked", "chunked,", "chunked chunked", "chunk ed", "chunked\u{a0}"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n"));
    }
    for line in ["\tchunked", " \tchunked", "chunked\t", "\t", "gzip,\tchunked"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding:{line}\r\n"));
    }
    refused_field(ControlByte, "Transfer-Encoding: \x0bchunked\r\n");
    for line in ["Chunked", "CHUNKED  ", "chunked"] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING:{line}\r\n\r\n0\r\n\r\n");
        assert_eq!(accepted(input.as_bytes()).framing, BodyFraming::Chunked);
    }
}

#[test]
fn row_03_unknown_codings() {
    for value in ["gzip, chunked", "identity,chunked", "a, b , Chunked"] {
        refused_field(TransferEncodingUnknown, &format!("Transfer-Encoding: {value}\r\n\r\n"));
    }
    for value in ["gzip,, chunked", "gzip;q=1, chunked", "g[ip, chunked"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n"));
    }
}

#[test]
fn row_04_chunked_is_not_last() {
    refused_field(TransferEncodingInvalid, "Transfer-Encoding: chunked, gzip\r\n");
    for value in ["gzip", "gzip, identity"] {
        refused_field(TransferEncodingInvalid, &format!("Transfer-Encoding: {value}\r\n\r\n"));
    }
    // A length beside it is not better for the codings that are missing.
    refused_field(LengthAndTransferEncoding, "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n");
}

/// RFC 9110 5.3.
#[test]
fn the_same_list_of_codings_is_refused_alike_on_one_line_and_on_several() {
    for (refusal, list) in [
        (TransferEncodingUnknown, "gzip,chunked"),
        (TransferEncodingUnknown, "identity,x,Chunked"),
        (TransferEncodingRepeated, "chunked,chunked"),
        (TransferEncodingRepeated, "gzip,chunked,chunked"),
        (TransferEncodingInvalid, "gzip,chunked,identity"),
        (TransferEncodingInvalid, "chunked,identity"),
        (TransferEncodingInvalid, "chunked,"),
        (TransferEncodingInvalid, ",chunked"),
        (TransferEncodingInvalid, "gzip,"),
    ] {
        let several = list.replace(',', "\r\nTransfer-Encoding: ");
        for lines in [list, &several] {
            let input = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {lines}\r\n\r\n");
            assert_eq!(whole(input.as_bytes(), Limits::default()), [Event::Refused(refusal)], "{lines:?}");
            assert_eq!(byte_by_byte(input.as_bytes(), Limits::default()).0, [Event::Refused(refusal)], "{lines:?}");
        }
    }
}

#[test]
fn row_05_transfer_encoding_in_http_1_0() {
    refused(TransferEncodingVersion, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n");
    refused(TransferEncodingVersion, b"POST / HTTP/1.0\r\nTransfer-Encoding: identity\r\n");
    accepted(b"POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn row_06_differing_lengths() {
    refused_field(LengthRepeated, "Content-Length: 5\r\nContent-Length: 6\r\n");
    refused_field(LengthRepeated, "Content-Length: 0\r\nContent-length: 6\r\n");
    refused_field(LengthInvalid, "Content-Length: 5, 6\r\n");
}

#[test]
fn row_07_repeated_lengths() {
    refused_field(LengthRepeated, "Content-Length: 5\r\nContent-Length: 5\r\n");
    refused_field(LengthInvalid, "Content-Length: 5, 5\r\n");
}

#[test]
fn row_08_malformed_lengths() {
    for value in ["+5", "-1", "0x5", "5 5", "1_0", "", "5;", "005", "00", "5.0", "5e1", "\"5\"", "５", "5,", ",5", "a"]
    {
        refused_field(LengthInvalid, &format!("Content-Length: {value}\r\n"));
    }
    refused_field(LengthInvalid, "Content-Length:\t5\r\n");
    refused_field(LengthInvalid, "Content-Length: 5\t\r\n");
}

#[test]
fn row_09_lengths_beyond_63_bits() {
    for value in ["9223372036854775808", "18446744073709551615", "18446744073709551616", "18446744073709551621"] {
        refused_field(LengthInvalid, &format!("Content-Length: {value}\r\n"));
    }
    refused_field(LengthInvalid, &format!("Content-Length: 1{}\r\n", "0".repeat(100)));
    let greatest = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n";
    let events = whole(greatest, Limits::default());
    assert!(matches!(&events[..], [Event::Head(head)] if head.framing == BodyFraming::Length(i64::MAX as u64)));
}

#[test]
fn lengths_are_accepted() {
    assert_eq!(accepted_field("Content-Length: 0\r\n").framing, BodyFraming::None);
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:10  \r\n\r\n0123456789";
    let events = accepted_with(input, Limits::default());
    assert!(matches!(&events[0], Event::Head(head) if head.framing == BodyFraming::Length(10)));
    assert_eq!(events[1..], [Event::Data(b"0123456789".to_vec()), Event::End(vec![])]);
}

#[test]
fn row_28_garbage_after_a_body_is_the_next_request() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    refused(MethodInvalid, format!("{request}{{").as_bytes());
    refused(RequestLineMalformed, format!("{request}garbage\r\n").as_bytes());
    refused(ControlByte, format!("{request}\0").as_bytes());
    refused(RequestLineMalformed, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nextra\r\n");
    refused(RequestLineMalformed, &crate::harness::chunked("0\r\n\r\nX\r\n"));
}

#[test]
fn row_29_body_bytes_are_never_a_head() {
    let inner = "GET /inner HTTP/1.1\r\nHost: b\r\n\r\n";
    let length = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = crate::harness::chunked(format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    for input in [length.as_bytes(), &chunked] {
        let events = accepted_with(input, Limits::default());
        assert_eq!(events.len(), 3);
        assert_eq!(events[1], Event::Data(inner.as_bytes().to_vec()));
    }
}

#[test]
fn row_41_a_body_beyond_the_limit() {
    let limits = Limits { body_bytes_max: 10, ..Limits::default() };
    let start = "POST / HTTP/1.1\r\nHost: a\r\n";
    refused_with(BodyTooLarge, format!("{start}Content-Length: 11\r\n").as_bytes(), limits);
    accepted_with(format!("{start}Content-Length: 10\r\n\r\n0123456789").as_bytes(), limits);
    refused_with(BodyTooLarge, &crate::harness::chunked("b"), limits);
    refused_with(BodyTooLarge, &crate::harness::chunked("5\r\n01234\r\n6"), limits);
    accepted_with(&crate::harness::chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), limits);
    accepted_with(&crate::harness::chunked("0\r\n\r\n"), Limits { body_bytes_max: 0, ..limits });
}

#[test]
fn a_refusal_needs_no_more_than_the_wrong_line() {
    let input = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\nAccept: */*\r\n\r\n";
    let (events, needed) = byte_by_byte(input, Limits::default());
    assert_eq!(events, [Event::Refused(LengthInvalid)]);
    assert_eq!(needed, input.len() - "Accept: */*\r\n\r\n".len());
}
