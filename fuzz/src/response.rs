//! Answers with any status and fields: what is written is one well-formed message, or nothing.

use baiwan_http1::{
    BodyDecoder, BodyEvent, BodyFraming, BodyLength, CHUNK_END, ResponseContext, ResponseFraming, ResponsePlan,
    ShortAnswer, encode_chunk_head, encode_last_chunk, encode_response_head, encode_short_answer, error_text,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::input::{Field, LOOSE, fields_of, sorted};
use crate::reference;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
/// More than the codec reads in a head or a trailer section.
const FIELDS_MAX: usize = 90;

/// Checks the answer that `data` describes: status (2), context (1), length (1), then a field a line.
pub fn check(data: &[u8]) {
    let Some((&[high, low, context, length], rest)) = data.split_first_chunk() else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([high, low]) % 1000) else { return };
    let headers = headers_of(rest);
    let length = if length == 0xff { BodyLength::Unknown } else { BodyLength::Exact(u64::from(length)) };
    let context = ResponseContext {
        head_request: context & 1 != 0,
        version: if context & 2 != 0 { Version::HTTP_10 } else { Version::HTTP_11 },
        keep_alive: context & 4 != 0,
        may_switch: true,
    };
    let mut out = b"before".to_vec();
    match encode_response_head(&mut out, status, &headers, length, context, DATE, None) {
        Ok(plan) => check_head(out.strip_prefix(b"before").expect("appended"), status, &headers, context, plan),
        Err(_) => assert_eq!(out, b"before", "nothing is written after an error"),
    }
    check_chunks(rest, &headers);
    check_error(status);
}

/// The lines that are valid fields; others are left out, since no application can make them.
fn headers_of(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|&byte| byte == b'\n').take(FIELDS_MAX) {
        let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':').unwrap_or(line.len()));
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    headers
}

/// A head as a client reads it.
fn read(message: &[u8]) -> (u16, Vec<Field>) {
    let mut lines = reference::lines(message);
    assert_eq!((lines.pop(), lines.pop()), (Some(&b""[..]), Some(&b""[..])), "it ends in an empty line");
    let fields = lines[1..].iter().map(|line| reference::field(line).expect("a field line")).collect();
    let fields = sorted(fields);
    let mut table = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut table);
    assert_eq!(parsed.parse(message), Ok(httparse::Status::Complete(message.len())));
    let theirs = parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    assert_eq!(sorted(theirs.collect()), fields);
    assert_eq!(parsed.version, Some(1));
    (parsed.code.expect("a status"), fields)
}

fn check_head(message: &[u8], status: StatusCode, headers: &HeaderMap, context: ResponseContext, plan: ResponsePlan) {
    let (code, fields) = read(message);
    assert_eq!(code, status.as_u16());
    let values =
        |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| &field.1[..]).collect::<Vec<_>>();
    let (lengths, codings, connection) = (values("content-length"), values("transfer-encoding"), values("connection"));
    assert!(lengths.len() <= 1 && connection.len() <= 1 && !values("date").is_empty());
    match plan.framing {
        ResponseFraming::Length(length) => assert_eq!(lengths, [length.to_string().as_bytes()]),
        ResponseFraming::Chunked => assert!(lengths.is_empty() && codings == [b"chunked"]),
        ResponseFraming::UntilClose => assert!(lengths.is_empty() && !plan.keep_alive),
        ResponseFraming::NoBody => {}
    }
    // Announced trailers go in chunks, and HEAD is told of those that GET would have.
    let may_have_body = !status.is_informational() && !matches!(code, 204 | 205 | 304);
    let announced = headers.contains_key("trailer") && may_have_body && context.version == Version::HTTP_11;
    assert!(!announced || context.head_request || plan.framing == ResponseFraming::Chunked);
    let chunked = plan.framing == ResponseFraming::Chunked || announced && context.head_request;
    assert_eq!(codings.is_empty(), !chunked);
    assert!(codings.is_empty() || lengths.is_empty());
    assert!(codings.is_empty() || context.version == Version::HTTP_11);
    assert!(!matches!(code, 101 | 204) || lengths.is_empty());
    assert!(context.keep_alive || !plan.keep_alive);
    let has = |option: &str| {
        let mut options = connection.iter().flat_map(|value| value.split(|&byte| byte == b','));
        options.any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    if status != StatusCode::SWITCHING_PROTOCOLS {
        assert_eq!(has("close"), !plan.keep_alive);
        assert_eq!(has("keep-alive"), plan.keep_alive && context.version == Version::HTTP_10);
    }
    // Every other field is the application's, and all of those are there.
    let ours = ["connection", "content-length", "date", "transfer-encoding"];
    let theirs = |fields: Vec<Field>| -> Vec<Field> {
        fields.into_iter().filter(|field| !ours.contains(&&field.0[..])).collect()
    };
    assert_eq!(theirs(fields.clone()), theirs(trimmed(headers)));
}

/// Fields as they arrive: nobody sees the white space around a value.
fn trimmed(headers: &HeaderMap) -> Vec<Field> {
    fields_of(headers).into_iter().map(|(name, value)| (name, value.trim_ascii().to_vec())).collect()
}

/// Chunks and trailers arrive as they were sent, apart from trailers that must not be.
fn check_chunks(data: &[u8], trailers: &HeaderMap) {
    let mut encoded = Vec::new();
    for chunk in data.chunks(17) {
        encode_chunk_head(&mut encoded, chunk.len() as u64);
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(CHUNK_END);
    }
    encode_last_chunk(&mut encoded, Some(trailers));
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let (mut decoded, mut position) = (Vec::new(), 0);
    let fields = loop {
        let piece = &encoded[position..];
        let step = body.decode(piece, &LOOSE).expect("well-formed");
        position += step.consumed;
        match step.event {
            BodyEvent::Data(range) => decoded.extend_from_slice(&piece[range]),
            BodyEvent::Complete(fields) => break fields.map(|fields| fields_of(&fields)).unwrap_or_default(),
            BodyEvent::More => panic!("it is whole"),
        }
    };
    assert_eq!((decoded.as_slice(), position), (data, encoded.len()));
    let is_kept = |name: &str| fields.iter().any(|field| field.0 == name);
    let expected: Vec<Field> = trimmed(trailers).into_iter().filter(|field| is_kept(&field.0)).collect();
    assert_eq!(fields, expected);
    assert!(trailers.keys().all(|name| name.as_str().len() > 1 || is_kept(name.as_str())));
}

/// The server's own answers, which announce the length that they have.
fn check_error(status: StatusCode) {
    let (mut out, mut head) = (Vec::new(), Vec::new());
    let text = error_text(status, "reason");
    let answer = ShortAnswer { status, content_type: "text/plain", fields: &[], lines: &[], body: text.as_bytes() };
    let context =
        ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: false, may_switch: false };
    encode_short_answer(&mut out, &answer, context, DATE);
    encode_short_answer(&mut head, &answer, ResponseContext { head_request: true, ..context }, DATE);
    let (code, fields) = read(&head);
    assert_eq!(code, status.as_u16());
    let body = out.strip_prefix(&head[..]).expect("the same head");
    let length = body.len().to_string().into_bytes();
    assert!(fields.contains(&("content-length".to_owned(), length)));
    assert!(fields.contains(&("connection".to_owned(), b"close".to_vec())));
}
