//! Request heads, one after the other, as if none had a body.
//!
//! However they are cut they are the same; and what is accepted means to `httparse`, and to somebody who only reads the
//! lines, what it means to us.

use baiwan_http1::{BodyFraming, FIELDS_CEILING, HeadDecoder, Limits, Refusal, RequestHead};
use http::Version;

use crate::input::{Field, Input, LOOSE, fields_of, is_of_limits, sorted};
use crate::reference;

/// What one way of cutting leads to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    heads: Vec<Head>,
    refusal: Option<Refusal>,
    /// Bytes of all heads.
    consumed: usize,
}

/// A head in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Where it stands in the wire.
    bytes: (usize, usize),
    method: String,
    target: String,
    version: Version,
    fields: Vec<Field>,
    framing: BodyFraming,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: bool,
    is_named: bool,
}

impl Head {
    fn of(head: &RequestHead, bytes: (usize, usize)) -> Head {
        Head {
            bytes,
            method: head.request.method().to_string(),
            target: head.request.uri().to_string(),
            version: head.request.version(),
            fields: fields_of(head.request.headers()),
            framing: head.framing,
            keep_alive: head.keep_alive,
            expects_continue: head.expects_continue,
            upgrade: head.upgrade,
            is_named: head.is_named,
        }
    }
}

/// Checks all that must hold for the heads in `data`.
pub fn check(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let [at_once, byte_by_byte, cut] = input.arrivals();
    let whole = decode(input.wire, &at_once, &input.limits);
    let single = decode(input.wire, &byte_by_byte, &input.limits);
    assert_eq!(single, whole, "byte by byte");
    assert_eq!(decode(input.wire, &cut, &input.limits), whole, "cut");
    check_heads(input.wire, &whole, &input.limits);
    check_more(input.wire, &whole, &input.limits);
    check_looser(input.wire, &whole);
}

/// Decodes all heads of `wire`.
fn decode(wire: &[u8], arrivals: &[usize], limits: &Limits) -> Run {
    let mut decoder = HeadDecoder::default();
    let mut run = Run { heads: Vec::new(), refusal: None, consumed: 0 };
    for &end in arrivals {
        loop {
            match decoder.decode(&wire[run.consumed..end], limits) {
                Ok(Some((head, consumed))) => {
                    let start = run.consumed;
                    run.consumed += consumed;
                    assert!(consumed > 0 && run.consumed <= end);
                    run.heads.push(Head::of(&head, (start, run.consumed)));
                }
                Ok(None) => break,
                Err(refusal) => {
                    run.refusal = Some(refusal);
                    return run;
                }
            }
        }
    }
    run
}

fn check_heads(wire: &[u8], run: &Run, limits: &Limits) {
    for head in &run.heads {
        check_head(&wire[head.bytes.0..head.bytes.1], head, limits);
    }
}

/// What was accepted, by two other readers.
fn check_head(bytes: &[u8], head: &Head, limits: &Limits) {
    assert!(bytes.len() <= limits.head_bytes_max);
    let mut message = bytes;
    while let Some(rest) = message.strip_prefix(b"\r\n") {
        message = rest;
    }
    assert!(bytes.len() - message.len() <= 2 * limits.leading_crlf_max);
    let mut lines = reference::lines(message);
    assert_eq!((lines.pop(), lines.pop()), (Some(&b""[..]), Some(&b""[..])), "it ends in an empty line");
    assert!(lines.iter().all(|line| !line.is_empty()), "and has no other");
    let fields: Vec<Field> = lines[1..].iter().map(|line| reference::field(line).expect("a field line")).collect();
    assert!(fields.len() <= limits.fields_max);
    for (line, (name, _)) in lines[1..].iter().zip(&fields) {
        let frames = ["content-length", "transfer-encoding"].contains(&&name[..]);
        assert!(!frames || !line.contains(&b'\t'), "a tab is a doubt");
    }
    check_request_line(lines[0], head, limits);
    check_meaning(&fields, head, limits);
    check_httparse(message, head);
    assert_eq!(head.fields, sorted(fields));
}

fn check_request_line(line: &[u8], head: &Head, limits: &Limits) {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("{} words", words.len()) };
    assert!(method.len() <= limits.method_bytes_max && target.len() <= limits.target_bytes_max);
    assert_eq!(method, head.method.as_bytes());
    let expected = if version == b"HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
    assert!(version.starts_with(b"HTTP/1.") && version.len() == 8);
    assert_eq!(head.version, expected);
    assert!(method != b"CONNECT");
    assert!(target.iter().all(|byte| byte.is_ascii_graphic() && !b"\"#<>\\`".contains(byte)));
    if target.starts_with(b"/") || target == b"*" {
        assert_eq!(target, head.target.as_bytes());
        return;
    }
    // `http::Uri` writes the scheme in lower case, and a slash where there is no path.
    let (scheme, rest) = str::from_utf8(target).expect("ASCII").split_once("://").expect("a scheme");
    let (start, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if rest.starts_with('/') { "" } else { "/" };
    assert_eq!(head.target, format!("{}://{start}{slash}{rest}", scheme.to_ascii_lowercase()));
}

/// Framing, host and persistence, from the fields alone.
fn check_meaning(fields: &[Field], head: &Head, limits: &Limits) {
    let values =
        |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| &field.1[..]).collect::<Vec<_>>();
    let framing = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => BodyFraming::None,
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
        ([], [digits]) if digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits[0] != b'0') => {
            match str::from_utf8(digits).expect("digits").parse().expect("a number") {
                0 => BodyFraming::None,
                length => BodyFraming::Length(length),
            }
        }
        doubtful => panic!("{doubtful:?}"),
    };
    assert_eq!(head.framing, framing);
    let has_body = framing != BodyFraming::None;
    if let BodyFraming::Length(length) = framing {
        assert!(length <= limits.body_bytes_max && i64::try_from(length).is_ok());
    }
    let is_1_1 = head.version == Version::HTTP_11;
    assert!(is_1_1 || framing != BodyFraming::Chunked);
    let hosts = values("host");
    assert!(hosts.len() == 1 || !is_1_1 && hosts.is_empty());
    assert!(hosts.iter().all(|host| !host.is_empty() && !host.iter().any(|byte| b" ,/@?#\\\t".contains(byte))));
    let has = |name: &str, option: &str| {
        let lists = values(name).join(&b',');
        lists.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    assert_eq!(head.keep_alive, !has("connection", "close") && (is_1_1 || has("connection", "keep-alive")));
    assert_eq!(head.expects_continue, has("expect", "100-continue") && has_body && is_1_1);
    let expectations = values("expect").join(&b',');
    let mut members = expectations.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    assert!(expectations.is_empty() || members.all(|member| member.eq_ignore_ascii_case(b"100-continue")));
    assert_eq!(head.is_named, fields.iter().any(|field| ["traceparent", "x-request-id"].contains(&&field.0[..])));
    assert!(!head.upgrade || is_1_1 && has("connection", "upgrade"));
    assert!(!head.upgrade || !has("upgrade", "websocket") || !has_body);
}

fn check_httparse(message: &[u8], head: &Head) {
    let mut message = message.to_vec();
    // httparse knows no version later than 1.1, which is handled as 1.1.
    let version_end = message.iter().position(|&byte| byte == b'\r').expect("a line end");
    if head.version == Version::HTTP_11 {
        message[version_end - 1] = b'1';
    }
    let mut table = [httparse::EMPTY_HEADER; FIELDS_CEILING];
    let mut parsed = httparse::Request::new(&mut table);
    assert_eq!(parsed.parse(&message), Ok(httparse::Status::Complete(message.len())));
    assert_eq!(parsed.method, Some(&head.method[..]));
    assert_eq!(parsed.version, Some(u8::from(head.version == Version::HTTP_11)));
    let fields = parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    assert_eq!(sorted(fields.collect()), head.fields);
}

/// What was decided stays so when more bytes come.
fn check_more(wire: &[u8], before: &Run, limits: &Limits) {
    for more in [&b"\r\n\r\n"[..], b"Host: a\r\n\r\n", b" / HTTP/1.1\r\nHost: a\r\n\r\n", b"\n\0"] {
        let longer = [wire, more].concat();
        let after = decode(&longer, &[longer.len()], limits);
        assert_eq!(after.heads[..before.heads.len()], before.heads);
        check_heads(&longer, &after, limits);
        if before.refusal.is_some() {
            assert_eq!(after, *before);
        }
    }
}

/// Limits refuse; they never change what is accepted, or why something else is refused.
fn check_looser(wire: &[u8], tight: &Run) {
    let loose = decode(wire, &[wire.len()], &LOOSE);
    assert_eq!(loose.heads[..tight.heads.len()], tight.heads);
    match tight.refusal {
        Some(refusal) if is_of_limits(refusal) => {}
        _ => assert_eq!(loose, *tight),
    }
}
