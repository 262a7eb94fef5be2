//! Properties of random bytes: splitting changes nothing, and nothing is accepted that `httparse` reads in another way.

use baiwan_http1::{BodyDecoder, BodyEvent, BodyFraming, CHUNK_END, Limits, encode_chunk_head, encode_last_chunk};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::harness::{Event, Reader, byte_by_byte, whole};

/// Bytes that look like requests often enough to get deep into the decoders.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => prop::sample::select(FRAGMENTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let start = prop::sample::select(STARTS).prop_map(|text| text.as_bytes().to_vec());
    (start, prop::collection::vec(fragment, 0..24)).prop_map(|(start, rest)| [start, rest.concat()].concat())
}

const STARTS: &[&str] = &[
    "",
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "\r\nGET / HTTP/1.1\r\n",
    "POST http://a/ HTTP/1.1\r\n",
    "GET / HTTP/1.7\r\nHost: a\r\n",
    "POST / HTTP/1.0\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

const FRAGMENTS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    "GET",
    "OPTIONS * ",
    "CONNECT a:1 ",
    " / ",
    " HTTP/1.1",
    " HTTP/1.0\r\n",
    "GET / HTTP/1.1\r\n",
    "Host: a\r\n",
    "host:b:80\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close, upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "A:  b \r\n",
    "x-long: 0123456789012345678901234567890123456789\r\n",
    "3\r\nabc\r\n",
    "1;a=\"b\\\"\";c\r\nx\r\n",
    "0\r\n",
    "0\r\n\r\n",
    "abc",
    "T: u\r\n",
];

/// Limits that random bytes reach.
fn limits() -> impl Strategy<Value = Limits> {
    let tight = Limits {
        head_bytes_max: 120,
        target_bytes_max: 8,
        method_bytes_max: 7,
        fields_max: 4,
        leading_crlf_max: 1,
        body_bytes_max: 8,
        chunk_extension_bytes_max: 12,
        trailer_bytes_max: 14,
        chunk_overhead_bytes_max: 40,
        chunk_overhead_ratio_max: 2,
    };
    prop::sample::select(vec![Limits::default(), tight])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events(
        input in wire(),
        limits in limits(),
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let expected = whole(&input, limits);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let mut reader = Reader::new(limits);
        let mut start = 0;
        for end in cuts.into_iter().chain([input.len()]) {
            reader.feed(&input[start..end]);
            start = end;
        }
        prop_assert_eq!(&reader.events, &expected);
        prop_assert_eq!(byte_by_byte(&input, limits).0, expected);
    }

    #[test]
    fn what_is_accepted_httparse_reads_in_the_same_way(input in wire()) {
        let mut decoder = baiwan_http1::HeadDecoder::default();
        if let Ok(Some((head, consumed))) = decoder.decode(&input, &Limits::default()) {
            let mut table = [httparse::EMPTY_HEADER; 100];
            let mut parsed = httparse::Request::new(&mut table);
            let as_1_1 = String::from_utf8_lossy(&input[..consumed]).replace("HTTP/1.7", "HTTP/1.1");
            // Lossy text differs in length where there is obs-text; such heads are compared field by field only.
            let is_text = input[..consumed].is_ascii();
            let status = parsed.parse(as_1_1.as_bytes());
            prop_assert!(matches!(status, Ok(httparse::Status::Complete(length)) if length == consumed || !is_text));
            prop_assert_eq!(parsed.method, Some(head.request.method().as_str()));
            prop_assert_eq!(parsed.headers.len(), head.request.headers().len());
            prop_assert_eq!(framing_of(parsed.headers), head.framing);
        }
    }

    #[test]
    fn chunks_that_were_encoded_are_decoded(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
        size in 1..500_usize,
    ) {
        let mut encoded = Vec::new();
        for piece in &pieces {
            encode_chunk_head(&mut encoded, piece.len() as u64);
            encoded.extend_from_slice(piece);
            encoded.extend_from_slice(CHUNK_END);
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "1".parse().expect("valid"));
        encode_last_chunk(&mut encoded, (size % 2 == 0).then_some(&trailers));
        let mut body = BodyDecoder::new(BodyFraming::Chunked);
        let mut data = Vec::new();
        let mut found = None;
        for piece in encoded.chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                let step = body.decode(rest, &Limits::default()).expect("valid");
                match step.event {
                    BodyEvent::Data(range) => data.extend_from_slice(&rest[range]),
                    BodyEvent::Complete(trailers) => found = Some(trailers),
                    BodyEvent::More => prop_assert_eq!(step.consumed, rest.len()),
                }
                rest = &rest[step.consumed..];
            }
        }
        prop_assert_eq!(data, pieces.concat());
        prop_assert_eq!(found.flatten().map(|fields| *fields), (size % 2 == 0).then_some(trailers));
    }
}

fn framing_of(fields: &[httparse::Header<'_>]) -> BodyFraming {
    let value = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    match (value("transfer-encoding"), value("content-length")) {
        (Some(_), _) => BodyFraming::Chunked,
        (None, None | Some(b"0")) => BodyFraming::None,
        (None, Some(digits)) => {
            BodyFraming::Length(str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).expect("a number"))
        }
    }
}

#[test]
fn random_wires_reach_both_ends_of_requests_and_refusals() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut heads, mut ends, mut refusals) = (0, 0, 0);
    for _ in 0..1000 {
        let input = wire().new_tree(&mut runner).expect("a value").current();
        for event in whole(&input, Limits::default()) {
            match event {
                Event::Head(_) => heads += 1,
                Event::End(_) => ends += 1,
                Event::Refused(_) => refusals += 1,
                Event::Data(_) => {}
            }
        }
    }
    assert!(heads > 50 && ends > 20 && refusals > 50, "{heads} heads, {ends} ends, {refusals} refusals");
}
