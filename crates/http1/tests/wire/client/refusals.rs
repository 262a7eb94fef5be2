//! Every refusal of a response head can happen and has a name of its own.

use std::collections::HashSet;

use baiwan_http1::{Limits, ResponseDecoder, ResponseRefusal};

use super::harness::refused_with;

/// The shortest bytes that lead to each refusal, with the limits below.
const CASES: &[(ResponseRefusal, &str)] = &[
    (ResponseRefusal::BareLineFeed, "HTTP/1.1 200\n"),
    (ResponseRefusal::BareCarriageReturn, "\rx"),
    (ResponseRefusal::ControlByte, "\0"),
    (ResponseRefusal::HeadTooLarge, "HTTP/1.1 200 0123456789012345678901234567890123456789012345678901234567890123456"),
    (ResponseRefusal::StatusLineMalformed, "h"),
    (ResponseRefusal::VersionUnsupported, "HTTP/2.0"),
    (ResponseRefusal::StatusInvalid, "HTTP/1.1 000"),
    (ResponseRefusal::FieldsTooMany, "HTTP/1.1 200\r\nA:\r\nB:\r\nC"),
    (ResponseRefusal::FieldLineFolded, "HTTP/1.1 200\r\n "),
    (ResponseRefusal::FieldColonMissing, "HTTP/1.1 200\r\nA\r\n"),
    (ResponseRefusal::FieldNameInvalid, "HTTP/1.1 200\r\n:"),
    (ResponseRefusal::FieldNameSpace, "HTTP/1.1 200\r\nA "),
    (ResponseRefusal::LengthInvalid, "HTTP/1.1 200\r\nContent-Length:\r\n"),
    (ResponseRefusal::LengthsDiffer, "HTTP/1.1 200\r\nContent-Length:1,2\r\n"),
    (ResponseRefusal::LengthAndTransferEncoding, "HTTP/1.1 200\r\nContent-Length:1\r\nTransfer-Encoding:chunked\r\n"),
    (ResponseRefusal::TransferEncodingInvalid, "HTTP/1.1 200\r\nTransfer-Encoding:\r\n"),
    (ResponseRefusal::TransferEncodingRepeated, "HTTP/1.1 200\r\nTransfer-Encoding:chunked,chunked\r\n"),
    (ResponseRefusal::TransferEncodingVersion, "HTTP/1.0 200\r\nTransfer-Encoding:\r\n"),
    (ResponseRefusal::TransferEncodingUnknown, "HTTP/1.1 200\r\nTransfer-Encoding:a,chunked\r\n\r\n"),
    (ResponseRefusal::BodyTooLarge, "HTTP/1.1 200\r\nContent-Length:3\r\n\r\n"),
];

const LEAST: Limits = Limits {
    head_bytes_max: 80,
    target_bytes_max: 0,
    method_bytes_max: 0,
    fields_max: 2,
    leading_crlf_max: 0,
    body_bytes_max: 2,
    chunk_extension_bytes_max: 0,
    trailer_bytes_max: 0,
    chunk_overhead_bytes_max: 0,
    chunk_overhead_ratio_max: 0,
};

#[test]
fn every_refusal_of_an_answer_can_happen() {
    let mut seen = HashSet::new();
    for (refusal, input) in CASES {
        refused_with(*refusal, input.as_bytes(), LEAST);
        seen.insert(*refusal);
    }
    let missing: Vec<_> = ResponseRefusal::ALL.iter().filter(|refusal| !seen.contains(refusal)).collect();
    assert!(missing.is_empty(), "no case leads to {missing:?}");
}

#[test]
fn a_refused_answer_leaves_the_decoder_as_new() {
    let next = b"HTTP/1.0 204 x\r\nA: b\r\n\r\n";
    for (refusal, input) in CASES {
        let mut decoder = ResponseDecoder::default();
        let found = (1..=input.len()).find_map(|end| decoder.decode(&input.as_bytes()[..end], false, &LEAST).err());
        assert_eq!(found, Some(*refusal));
        for end in 0..next.len() {
            assert!(decoder.decode(&next[..end], false, &LEAST).expect("valid").is_none());
        }
        let (head, consumed) = decoder.decode(next, false, &LEAST).expect("valid").expect("whole");
        assert_eq!((head.status.as_u16(), head.fields().count(), consumed), (204, 1, next.len()));
    }
}

#[test]
fn names_of_refused_answers_follow_the_variants_and_are_distinct() {
    let mut names = HashSet::new();
    for (index, refusal) in ResponseRefusal::ALL.iter().enumerate() {
        assert_eq!(refusal.index(), index);
        let mut kebab = String::new();
        for letter in format!("{refusal:?}").chars() {
            if letter.is_ascii_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        assert_eq!(refusal.name(), kebab);
        assert!(names.insert(refusal.name()) && !refusal.to_string().is_empty());
    }
}
