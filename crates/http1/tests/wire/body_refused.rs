//! Chunked bodies that are refused.

use baiwan_http1::Refusal::{self, *};
use baiwan_http1::{BodyDecoder, BodyFraming, Limits};

use crate::harness::{Event, accepted_with, chunked, refused, refused_with};

fn refused_body(expected: Refusal, body: &str) {
    refused(expected, &chunked(body));
}

#[test]
fn row_10_chunk_sizes_that_overflow() {
    refused_body(ChunkSizeTooLarge, "FFFFFFFFFFFFFFFF");
    refused_body(ChunkSizeTooLarge, "8000000000000000");
    refused_body(ChunkSizeTooLarge, "00000000000000005");
    refused_body(ChunkSizeTooLarge, "10000000000000000");
    refused_body(ChunkSizeTooLarge, "ffffffff00000000f");
    let events = crate::harness::whole(&chunked("7fffffffffffffff\r\nx"), Limits::default());
    assert_eq!(events[1..], [Event::Data(b"x".to_vec())]);
    // Together beyond the limit, though each chunk is within it.
    let limits = Limits { body_bytes_max: 1 << 62, ..Limits::default() };
    refused_with(BodyTooLarge, &chunked("1\r\nx\r\n4000000000000000"), limits);
}

#[test]
fn row_11_malformed_chunk_sizes() {
    for size in ["0x5", "+5", "-5", "5_", "", " 5", "\t5", "g", "5h", "\"5\"", "5,", "\0"] {
        refused_body(ChunkSizeInvalid, &format!("{size}\r\n"));
    }
    // White space after a size is that before a semicolon, or wrong.
    for size in ["5 ", "5\t", "5 5", "5 \t", "0 "] {
        refused_body(ChunkExtensionInvalid, &format!("{size}\r\n"));
    }
    refused_body(BareLineFeed, "5 \n");
    refused_body(ChunkSizeInvalid, ";a\r\n");
    refused_body(ChunkSizeInvalid, "5\r\nhello\r\n\r\n");
    refused_body(BareLineFeed, "5\n");
    refused_body(BareLineFeed, "\n");
    refused_body(BareCarriageReturn, "5\rh");
    refused_body(BareCarriageReturn, "5\r\r\n");
}

#[test]
fn row_12_malformed_extensions() {
    for extension in [";", ";;", ";a;", ";=b", ";a=", ";a==", ";a=b=c", ";a[", ";a=[", ";\u{e9}"] {
        refused_body(ChunkExtensionInvalid, &format!("5{extension}\r\n"));
    }
    for extension in
        [";a=\"b", ";a=\"b\\", ";a=\"b\"c", ";a=\"\0\"", ";a=\"\\\0\"", ";a\0", ";\x7f", ";a=\"b\rc\"", ";a=\x0b"]
    {
        refused_body(ChunkExtensionInvalid, &format!("5{extension}\r\n"));
    }
    for extension in
        ["; ", ";\t", "; ;a", ";a ", ";a=b\t", ";a=\"b\" ", ";a b", ";a= ", ";a =", ";a=b c", ";a=b =c", " ;"]
    {
        refused_body(ChunkExtensionInvalid, &format!("5{extension}\r\n"));
    }
    for byte in ["\0", "\x0b", "\x0c", "\x7f", "\u{a0}"] {
        refused_body(ChunkExtensionInvalid, &format!("5 {byte};a\r\n"));
        refused_body(ChunkExtensionInvalid, &format!("5; {byte}a\r\n"));
    }
    refused_body(BareCarriageReturn, "5;a\rb");
    refused_body(BareCarriageReturn, "5;a\r\r\n");
    for extension in [";", ";a", ";a=", ";a=b", ";a=\"", ";a=\"b\\", ";a=\"b\""] {
        refused_body(BareLineFeed, &format!("5{extension}\n"));
    }
}

#[test]
fn row_12_extensions_are_bounded_per_body() {
    refused_body(ChunkExtensionsTooLarge, &format!("5;{}", "a".repeat(64 * 1024)));
    refused_body(ChunkExtensionsTooLarge, &format!("5;a=\"{}", "a".repeat(64 * 1024)));
    refused_body(ChunkExtensionsTooLarge, &format!("5{}", " ".repeat(64 * 1024)));
    refused_body(ChunkExtensionsTooLarge, &format!("5;{}", "\t".repeat(64 * 1024)));
    let chunk = format!("400;{}\r\n{}\r\n", "a".repeat(99), "x".repeat(1024));
    accepted_with(&chunked(format!("{}0\r\n\r\n", chunk.repeat(40))), Limits::default());
    refused_body(ChunkExtensionsTooLarge, &chunk.repeat(41));
    refused_body(ChunkExtensionsTooLarge, &"1;a\r\nx\r\n".repeat(2049));
}

#[test]
fn row_12_framing_stays_in_proportion_to_data() {
    // Sixteen digits, two line ends: twenty bytes of framing for one of data.
    let padded = "0000000000000001\r\nx\r\n";
    accepted_with(&chunked(format!("{}0\r\n\r\n", padded.repeat(2000))), Limits::default());
    refused_body(ChunkOverhead, &padded.repeat(2100));
    let limits = Limits { chunk_overhead_bytes_max: 10, chunk_overhead_ratio_max: 2, ..Limits::default() };
    accepted_with(&chunked("1\r\nx\r\n1\r\nx\r\n0\r\n\r\n"), limits);
    refused_with(ChunkOverhead, &chunked("1\r\nx\r\n".repeat(4)), limits);
}

#[test]
fn row_13_a_size_line_without_end() {
    refused_body(ChunkSizeTooLarge, &"0".repeat(17));
    refused_body(ChunkSizeTooLarge, &"0".repeat(100_000));
    // Each byte is looked at once and nothing is kept, so waiting costs nothing.
    assert!(size_of::<BodyDecoder>() <= 64);
}

#[test]
fn row_14_chunk_data_without_line_end() {
    for end in ["0", "\n", "x\r\n", " ", "\0", "\rx", "\r\r\n", "\r\0"] {
        refused_body(ChunkEndMissing, &format!("5\r\nhello{end}"));
    }
}

#[test]
fn row_15_trailers_are_bounded() {
    let many = |count: usize| format!("0\r\n{}", "A: b\r\n".repeat(count));
    accepted_with(&chunked(format!("{}\r\n", many(100))), Limits::default());
    refused_body(TrailersTooMany, &format!("{}A", many(100)));
    refused_body(TrailersTooMany, &many(10_000));
    // Dropped fields count as well.
    refused_body(TrailersTooMany, &format!("0\r\n{}", "Host: b\r\n".repeat(101)));
    refused_body(TrailersTooLarge, &format!("0\r\nA: {}", "x".repeat(16_384)));
    let limits = Limits { trailer_bytes_max: 8, ..Limits::default() };
    accepted_with(&chunked("0\r\nA: b\r\n\r\n"), limits);
    refused_with(TrailersTooLarge, &chunked("0\r\nA: bc\r\n\r\n"), limits);
}

#[test]
fn row_15_trailers_follow_the_syntax_of_fields() {
    refused_body(BareLineFeed, "0\r\n\n");
    refused_body(BareLineFeed, "0\r\nA: b\n");
    refused_body(BareCarriageReturn, "0\r\n\rx");
    refused_body(BareCarriageReturn, "0\r\nA: b\rc");
    refused_body(ControlByte, "0\r\nA: b\0");
    refused_body(ControlByte, "0\r\nA\0");
    refused_body(FieldLineFolded, "0\r\nA: b\r\n c\r\n");
    refused_body(FieldLineFolded, "0\r\n A: b\r\n");
    refused_body(FieldNameSpace, "0\r\nA : b\r\n");
    refused_body(FieldNameInvalid, "0\r\n: b\r\n");
    refused_body(FieldNameSpace, "0\r\nGET / HTTP/1.1\r\n");
    refused_body(FieldColonMissing, "0\r\nGET\r\n");
}

#[test]
fn a_refused_body_stays_refused() {
    let limits = Limits::default();
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    assert_eq!(body.decode(b"x", &limits).expect_err("wrong"), ChunkSizeInvalid);
    assert_eq!(body.decode(b"0\r\n\r\n", &limits).expect_err("still wrong"), ChunkSizeInvalid);
    assert_eq!(body.decode(b"", &limits).expect_err("still wrong"), ChunkSizeInvalid);
    assert!(!body.is_complete());
}
