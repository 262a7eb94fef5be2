//! Every refusal can happen, has a status of its kind and a name of its own.

use std::collections::HashSet;

use baiwan_http1::{HeadDecoder, Limits, Refusal, is_head_request};

use crate::harness::{chunked, refused, refused_with};

/// The shortest bytes that lead to each refusal, apart from those of a body and those that need long ones.
const HEADS: &[(Refusal, &str)] = &[
    (Refusal::BareLineFeed, "\n"),
    (Refusal::BareCarriageReturn, "\rx"),
    (Refusal::ControlByte, "\0"),
    (Refusal::LeadingLines, "\r\n\r\n\r\n"),
    (Refusal::RequestLineMalformed, " "),
    (Refusal::MethodInvalid, "("),
    (Refusal::TargetInvalid, "GET #"),
    (Refusal::TargetForm, "GET a"),
    (Refusal::TargetAuthority, "GET http:// "),
    (Refusal::TargetScheme, "GET https://a "),
    (Refusal::ConnectUnsupported, "CONNECT a:1 "),
    (Refusal::VersionMalformed, "GET / x"),
    (Refusal::VersionUnsupported, "GET / HTTP/2.0"),
    (Refusal::TlsOnPlainPort, "\x16\x03"),
    (Refusal::Http2Unexpected, "PRI *"),
    (Refusal::ProxyProtocolUnexpected, "PROXY T"),
    (Refusal::FieldLineFolded, "GET / HTTP/1.1\r\n "),
    (Refusal::FieldColonMissing, "GET / HTTP/1.1\r\na\r\n"),
    (Refusal::FieldNameInvalid, "GET / HTTP/1.1\r\n:"),
    (Refusal::FieldNameSpace, "GET / HTTP/1.1\r\na "),
    (Refusal::HostMissing, "GET / HTTP/1.1\r\n\r\n"),
    (Refusal::HostRepeated, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n"),
    (Refusal::HostInvalid, "GET / HTTP/1.1\r\nHost:\r\n"),
    (Refusal::HostMismatch, "GET http://a HTTP/1.1\r\nHost: b\r\n"),
    (Refusal::LengthInvalid, "GET / HTTP/1.1\r\nContent-Length:\r\n"),
    (Refusal::LengthRepeated, "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n"),
    (Refusal::LengthAndTransferEncoding, "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    (Refusal::TransferEncodingInvalid, "GET / HTTP/1.1\r\nTransfer-Encoding:\r\n"),
    (Refusal::TransferEncodingRepeated, "GET / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n"),
    (Refusal::TransferEncodingVersion, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"),
    (Refusal::TransferEncodingUnknown, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: a, chunked\r\n\r\n"),
    (Refusal::ExpectationUnknown, "GET / HTTP/1.1\r\nExpect: y\r\n"),
    (
        Refusal::WebsocketWithBody,
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
];

/// What a server refuses before the bytes come here.
const OUTSIDE: [Refusal; 2] = [Refusal::ProxyProtocolMissing, Refusal::ProxyProtocolMalformed];

const BODIES: &[(Refusal, &str)] = &[
    (Refusal::ChunkSizeInvalid, "\r"),
    (Refusal::ChunkSizeTooLarge, "8000000000000000"),
    (Refusal::ChunkExtensionInvalid, "0;\r"),
    (Refusal::ChunkEndMissing, "1\r\nxx"),
];

/// With every limit at its least.
const LIMITED: &[(Refusal, &str)] = &[
    (Refusal::HeadTooLarge, "GET / HTTP/1.0\r\nA: 0123456789012345678901234567890123456789"),
    (Refusal::MethodTooLong, "POSTS"),
    (Refusal::TargetTooLong, "GET /a"),
    (Refusal::FieldsTooMany, "GET / HTTP/1.0\r\nA: b\r\nC: d\r\nE"),
    (Refusal::BodyTooLarge, "POST / HTTP/1.0\r\nContent-Length: 3\r\n"),
    (Refusal::ChunkExtensionsTooLarge, "2;a"),
    (Refusal::ChunkOverhead, "0000"),
    (Refusal::TrailersTooLarge, "0\r\nA: bcd\r"),
    (Refusal::TrailersTooMany, "0\r\na:\r\nb:\r\nc"),
];

const LEAST: Limits = Limits {
    head_bytes_max: 58,
    target_bytes_max: 1,
    method_bytes_max: 4,
    fields_max: 2,
    leading_crlf_max: 0,
    body_bytes_max: 2,
    chunk_extension_bytes_max: 1,
    trailer_bytes_max: 6,
    chunk_overhead_bytes_max: 3,
    chunk_overhead_ratio_max: 0,
};

#[test]
fn every_refusal_can_happen() {
    let mut seen = HashSet::new();
    for (refusal, input) in HEADS {
        refused(*refusal, input.as_bytes());
        seen.insert(*refusal);
    }
    for (refusal, input) in BODIES {
        refused(*refusal, &chunked(input));
        seen.insert(*refusal);
    }
    for (refusal, input) in LIMITED {
        let is_head = input.starts_with(|first: char| first.is_ascii_uppercase());
        let input = if is_head { input.as_bytes().to_vec() } else { chunked(input) };
        let limits = match refusal {
            Refusal::TrailersTooMany => Limits { trailer_bytes_max: 20, ..LEAST },
            _ => LEAST,
        };
        refused_with(*refusal, &input, limits);
        seen.insert(*refusal);
    }
    seen.extend(OUTSIDE);
    let missing: Vec<_> = Refusal::ALL.iter().filter(|refusal| !seen.contains(refusal)).collect();
    assert!(missing.is_empty(), "no case leads to {missing:?}");
}

#[test]
fn a_refusal_knows_its_place() {
    for (index, refusal) in Refusal::ALL.iter().enumerate() {
        assert_eq!(refusal.index(), index, "{refusal:?}");
    }
}

/// `input` must be refused, whole and byte by byte, in its line that begins with `line`.
fn refused_in(line: &str, input: &[u8]) {
    let limits = Limits::default();
    let place = place_of(input, line.as_bytes());
    let mut whole = HeadDecoder::default();
    whole.decode(input, &limits).expect_err("it is wrong");
    assert_eq!(whole.refused_at(), place, "whole: {}", input.escape_ascii());
    let mut pieces = HeadDecoder::default();
    (1..=input.len()).find(|length| pieces.decode(&input[..*length], &limits).is_err()).expect("it is wrong");
    assert_eq!(pieces.refused_at(), place, "byte by byte: {}", input.escape_ascii());
    // What it says of one head does not change how the next one is read.
    let (_, consumed) = pieces.decode(NEXT, &limits).expect("it is right").expect("it is whole");
    assert_eq!(consumed, NEXT.len());
    for length in 1..NEXT.len() {
        assert!(whole.decode(&NEXT[..length], &limits).expect("it is right").is_none());
    }
    assert!(whole.decode(NEXT, &limits).expect("it is right").is_some());
}

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fn place_of(input: &[u8], part: &[u8]) -> usize {
    input.windows(part.len()).position(|window| window == part).expect("the part is there")
}

#[test]
fn a_refusal_says_in_which_line() {
    refused_in("G(", b"G(");
    refused_in("GET /# ", b"\r\nGET /# HTTP/1.1\r\nHost: a\r\n\r\n");
    refused_in("B : c", b"GET / HTTP/1.1\r\nHost: a\r\nB : c\r\n\r\n");
    refused_in(" folded", b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n");
    refused_in("C: \0", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nC: \0d\r\n\r\n");
    // It takes the whole head to see these.
    refused_in("GET / ", b"\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n");
    refused_in(
        "PUT / ",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nLong: {}", "x".repeat(17_000));
    refused_in("Long", long.as_bytes());
}

#[test]
fn a_refused_head_request_is_known_as_one() {
    for input in ["HEAD ", "HEAD / HTTP/1.1\r\n\r\n", "\r\n\r\nHEAD /# x", "\r\n\r\n\r\nHEAD  "] {
        assert!(is_head_request(input.as_bytes()), "{input:?}");
    }
    for input in
        ["", "HEAD", "HEADS / HTTP/1.1\r\n", "head / HTTP/1.1\r\n", "GET /HEAD HTTP/1.1\r\n", "\nHEAD / ", " HEAD / "]
    {
        assert!(!is_head_request(input.as_bytes()), "{input:?}");
    }
}

#[test]
fn names_are_distinct_and_in_kebab_case() {
    let names: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
    assert_eq!(names.len(), Refusal::ALL.len());
    for name in names {
        assert!(
            name.split('-')
                .all(|word| !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())),
            "{name}"
        );
    }
}

#[test]
fn names_follow_the_variants() {
    for refusal in Refusal::ALL {
        let mut kebab = String::new();
        for letter in format!("{refusal:?}").chars() {
            if letter.is_ascii_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        assert_eq!(refusal.name(), kebab);
    }
}

#[test]
fn statuses_are_those_of_the_rfc() {
    for refusal in Refusal::ALL {
        let expected = match refusal {
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::ExpectationUnknown => 417,
            Refusal::TargetScheme => 421,
            Refusal::HeadTooLarge | Refusal::FieldsTooMany | Refusal::TrailersTooLarge | Refusal::TrailersTooMany => {
                431
            }
            Refusal::ConnectUnsupported | Refusal::TransferEncodingUnknown => 501,
            Refusal::VersionUnsupported | Refusal::Http2Unexpected => 505,
            _ => 400,
        };
        assert_eq!(refusal.status().as_u16(), expected, "{refusal:?}");
    }
}
