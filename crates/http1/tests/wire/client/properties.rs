//! Properties of generated answers, valid, nearly valid and random, and of the two roles together: what one side encodes,
//! the other decodes.

use baiwan_http1::*;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::harness::{Event, Head, Reader, byte_by_byte, whole};
use crate::generated::{Body, body, changed, changes, field, text};

/// An answer that is valid in every respect.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let start = select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.0 404 Not Found",
        "HTTP/1.3 500 ",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 x",
        "HTTP/1.1 100 Continue",
        "HTTP/1.1 999 \u{e9}\t",
    ]);
    (start, prop::collection::vec(field(), 0..6), body()).prop_map(|(start, fields, body)| {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        let framing = match &body {
            Body::None => "".to_owned(),
            Body::Length(data) => format!("Content-Length: {}\r\n", data.len()),
            Body::Chunked(..) if start.starts_with("HTTP/1.0") => "".to_owned(),
            Body::Chunked(..) => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let bodiless = [" 204", " 304", " 100"].iter().any(|status| start.contains(status));
        let body = if bodiless { Vec::new() } else { body.wire() };
        [format!("{start}\r\n{fields}{framing}\r\n").as_bytes(), &body].concat()
    })
}

const FRAGMENTS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200",
    "HTTP/1.0 304 \r\n",
    "HTTP/1.1 100\r\n\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "A: b\r\n",
    "Connection: close\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 3, 3\r\n",
    "Content-Length: 4\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
];

/// Bytes that get deep into the decoders, and bytes that do not.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let answers = prop::collection::vec(answer(), 1..4).prop_map(|wires| wires.concat());
    let fragments = prop::collection::vec(select(FRAGMENTS), 0..16).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![
        3 => (answers, changes()).prop_map(|(wire, changes)| changed(wire, &changes)),
        2 => fragments,
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let tight = (20..120_usize, 0..4_usize, 0..30_u64).prop_map(|(head_bytes_max, fields_max, body_bytes_max)| {
        Limits { head_bytes_max, fields_max, body_bytes_max, ..Limits::default() }
    });
    prop_oneof![2 => Just(Limits::default()), 1 => tight]
}

/// The events of `input`, cut at `cuts`, after which the stream ends.
fn in_pieces(input: &[u8], head_request: bool, limits: Limits, cuts: &[Index]) -> Vec<Event> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(input.len());
    let mut reader = Reader::new(head_request, limits);
    let mut start = 0;
    for end in cuts {
        reader.feed(&input[start..end]);
        start = end;
    }
    reader.close();
    reader.events
}

/// What the server's role writes for an answer, with its plan: None where it refuses to.
fn served(
    status: StatusCode,
    fields: &[(String, String)],
    length: BodyLength,
    context: ResponseContext,
) -> Option<(Vec<u8>, ResponsePlan)> {
    let mut out = Vec::new();
    let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
    let plan = encode_response_head(&mut out, status, &headers_of(fields), length, context, date, None).ok()?;
    Some((out, plan))
}

fn headers_of(fields: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a token");
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    headers
}

/// Appends `data` as it must follow a head.
fn append_body(out: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if !chunked {
        return out.extend_from_slice(data);
    }
    for piece in data.chunks(7) {
        encode_chunk_head(out, piece.len() as u64);
        out.extend_from_slice(piece);
        out.extend_from_slice(CHUNK_END);
    }
    encode_last_chunk(out, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_answers_gives_the_same_events(
        input in wire(),
        head_request in any::<bool>(),
        limits in limits(),
        cuts in prop::collection::vec(any::<Index>(), 0..10),
    ) {
        let expected = in_pieces(&input, head_request, limits, &[]);
        prop_assert_eq!(&in_pieces(&input, head_request, limits, &cuts), &expected);
        let before_the_end = whole(&input, head_request, limits);
        prop_assert_eq!(&expected[..before_the_end.len()], &before_the_end[..]);
        prop_assert_eq!(byte_by_byte(&input, head_request, limits).0, before_the_end);
    }

    #[test]
    fn what_httparse_reads_of_an_accepted_answer_is_the_same(input in wire()) {
        if let Ok(Some((head, consumed))) = ResponseDecoder::default().decode(&input, false, &Limits::default()) {
            let mut bytes = input[..consumed].to_vec();
            // httparse knows no later version than 1.1, which is read as 1.1.
            if bytes[7] != b'0' {
                bytes[7] = b'1';
            }
            let mut table = [httparse::EMPTY_HEADER; 100];
            let mut parsed = httparse::Response::new(&mut table);
            prop_assert_eq!(parsed.parse(&bytes), Ok(httparse::Status::Complete(consumed)));
            prop_assert_eq!(parsed.code, Some(head.status.as_u16()));
            prop_assert_eq!(parsed.version == Some(1), head.version == Version::HTTP_11);
            let theirs: Vec<_> = parsed.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
            prop_assert_eq!(head.fields().collect::<Vec<_>>(), theirs);
        }
    }

    #[test]
    fn what_the_server_s_role_encodes_the_client_s_decodes(
        status in 100..1000_u16,
        common in select(vec![0, 101, 200, 204, 205, 304, 404, 503]),
        fields in prop::collection::vec(field(), 0..5),
        data in prop::collection::vec(any::<u8>(), 0..40),
        unknown in any::<bool>(),
        head_request in any::<bool>(),
        http_1_0 in any::<bool>(),
        keep_alive in any::<bool>(),
    ) {
        let status = if common == 0 { status } else { common };
        let version = if http_1_0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let context = ResponseContext { head_request, version, keep_alive, may_switch: true };
        let length = if unknown { BodyLength::Unknown } else { BodyLength::Exact(data.len() as u64) };
        let answer = served(StatusCode::from_u16(status).expect("valid"), &fields, length, context);
        let Some((mut wire, plan)) = answer else { return Ok(()) };
        if plan.framing != ResponseFraming::NoBody {
            append_body(&mut wire, &data, plan.framing == ResponseFraming::Chunked);
        }
        let events = in_pieces(&wire, head_request, Limits::default(), &[]);
        let Some(Event::Head(head)) = events.first() else { panic!("{events:?}") };
        // The server sends no content with 205 and says so, which a client reads as a length.
        let framing = match plan.framing {
            ResponseFraming::NoBody if status == 205 && !head_request => ResponseFraming::Length(0),
            framing => framing,
        };
        prop_assert_eq!((head.status, head.framing), (status, framing));
        // We write HTTP/1.1 whatever the client speaks, so what a HTTP/1.0 client must be told, any understands.
        prop_assert_eq!(head.version, Version::HTTP_11);
        prop_assert_eq!(head.keep_alive, plan.keep_alive && status != 101);
        let expected = if plan.framing == ResponseFraming::NoBody { Vec::new() } else { data };
        prop_assert_eq!(data_of(&events), expected);
        prop_assert_eq!(events.last(), Some(&Event::End(vec![])));
        check_fields(head, &fields)?;
    }

    #[test]
    fn what_the_client_s_role_encodes_the_server_s_decodes(
        method in text("GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|[A-Z!#$%&'*+.^_`|~-]{1,6}"),
        target in text("(/[a-z0-9._~!$&'()*+,;=:@%\\[\\]/-]{0,12}(\\?[a-z0-9/?&=%-]{0,6})?)|\\*|[ -~]{0,6}"),
        authority in text("[a-z.]{1,9}(:[0-9]{1,5})?|\\[::1\\]|[ -~]{0,5}"),
        fields in prop::collection::vec(field(), 0..5),
        data in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        unknown in any::<bool>(),
    ) {
        let method = Method::from_bytes(method.as_bytes()).expect("a token");
        // An expectation that is none, and an upgrade with a body, are the caller's to leave out.
        let is_theirs = |name: &str| ["Expect", "Upgrade"].contains(&name);
        let fields: Vec<_> = fields.into_iter().filter(|field| !is_theirs(&field.0)).collect();
        let length = data.as_ref().map(|data| match unknown {
            true => BodyLength::Unknown,
            false => BodyLength::Exact(data.len() as u64),
        });
        let mut wire = Vec::new();
        if encode_request_head(&mut wire, &method, &target, &authority, &headers_of(&fields), length).is_err() {
            prop_assert!(wire.is_empty());
            return Ok(());
        }
        let head_length = wire.len();
        append_body(&mut wire, data.as_deref().unwrap_or_default(), length == Some(BodyLength::Unknown));
        let (head, consumed) = HeadDecoder::default().decode(&wire, &Limits::default()).expect("valid").expect("whole");
        prop_assert_eq!(consumed, head_length);
        prop_assert_eq!(head.request.method(), &method);
        prop_assert_eq!(head.request.uri().to_string(), target);
        prop_assert_eq!(head.request.headers()["host"].as_bytes(), authority.as_bytes());
        let expected = match length {
            Some(BodyLength::Unknown) => BodyFraming::Chunked,
            Some(BodyLength::Exact(length)) if length > 0 => BodyFraming::Length(length),
            _ => BodyFraming::None,
        };
        prop_assert_eq!(head.framing, expected);
        for (name, value) in headers_of(&fields).iter().filter(|field| field.0.as_str().starts_with("x-")) {
            let value = value.as_bytes().trim_ascii();
            prop_assert!(head.request.headers().get_all(name).iter().any(|found| found.as_bytes() == value));
        }
    }
}

fn data_of(events: &[Event]) -> Vec<u8> {
    let data = events.iter().map(|event| if let Event::Data(data) = event { &data[..] } else { &[] });
    data.collect::<Vec<_>>().concat()
}

/// The fields of the application that say nothing of the connection arrive as they were sent.
fn check_fields(head: &Head, fields: &[(String, String)]) -> Result<(), TestCaseError> {
    let of_one_name = |name: &str, fields: &mut dyn Iterator<Item = (String, Vec<u8>)>| -> Vec<Vec<u8>> {
        fields.filter(|field| field.0 == name).map(|field| field.1).collect()
    };
    for (name, _) in fields.iter().filter(|field| field.0.starts_with("x-")) {
        let name = name.to_ascii_lowercase();
        let mut sent = fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).as_bytes().to_vec()));
        let expected = of_one_name(&name, &mut sent);
        prop_assert_eq!(of_one_name(&name, &mut head.fields.iter().cloned()), expected);
    }
    Ok(())
}

#[test]
fn generated_answers_reach_both_ends_of_answers_and_refusals() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut heads, mut ends, mut refusals) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..1000 {
        let input = wire().new_tree(&mut runner).expect("a value").current();
        for event in in_pieces(&input, false, Limits::default(), &[]) {
            match event {
                Event::Head(_) => heads += 1,
                Event::End(_) => ends += 1,
                Event::Refused(refusal) => drop(refusals.insert(refusal.name())),
                Event::BodyRefused(refusal) => drop(refusals.insert(refusal.name())),
                Event::Data(_) | Event::Closed(_) => {}
            }
        }
    }
    assert!(heads > 500 && ends > 300 && refusals.len() > 12, "{heads} heads, {ends} ends, {refusals:?}");
}
