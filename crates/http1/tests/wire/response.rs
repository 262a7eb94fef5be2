//! Answers: what is written, and how the body must follow.

use baiwan_http1::*;
use http::header::{HeaderMap, HeaderValue};
use http::{StatusCode, Version};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const DATE_LINE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const HTTP_1_1: ResponseContext =
    ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: true, may_switch: false };
const HTTP_1_0: ResponseContext = ResponseContext { version: Version::HTTP_10, ..HTTP_1_1 };
const HEAD: ResponseContext = ResponseContext { head_request: true, ..HTTP_1_1 };
const CLOSING: ResponseContext = ResponseContext { keep_alive: false, ..HTTP_1_1 };

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// The bytes without status line and date, and the plan.
fn encode(
    status: u16,
    pairs: &[(&'static str, &'static str)],
    length: BodyLength,
    context: ResponseContext,
) -> Result<(String, ResponsePlan), ResponseError> {
    let status = StatusCode::from_u16(status).expect("valid");
    let mut out = b"before".to_vec();
    let result = encode_response_head(&mut out, status, &fields(pairs), length, context, DATE, None);
    let text = String::from_utf8(out).expect("text").strip_prefix("before").expect("untouched").to_owned();
    let Ok(plan) = result else {
        assert_eq!(text, "", "nothing is written after an error");
        return Err(result.expect_err("an error"));
    };
    let reason = status.canonical_reason().unwrap_or("");
    let rest = text.strip_prefix(&format!("HTTP/1.1 {} {reason}\r\n", status.as_str())).expect("a status line");
    let rest = rest.strip_suffix("\r\n").expect("an empty line");
    assert!(rest.contains(DATE_LINE));
    let rest = rest.replace(DATE_LINE, "");
    assert!(!rest.contains("date:"));
    Ok((rest, plan))
}

fn plan(framing: ResponseFraming, keep_alive: bool) -> ResponsePlan {
    ResponsePlan { framing, keep_alive }
}

#[test]
fn a_plain_answer() {
    let mut out = Vec::new();
    let headers = fields(&[("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2")]);
    let result = encode_response_head(&mut out, StatusCode::OK, &headers, BodyLength::Exact(5), HTTP_1_1, DATE, None);
    assert_eq!(result, Ok(plan(ResponseFraming::Length(5), true)));
    let expected = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-a: 1\r\nx-a: 2\r\n{DATE_LINE}content-length: 5\r\n\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn a_date_of_the_application_is_kept() {
    let mut out = Vec::new();
    let headers = fields(&[("date", "x")]);
    encode_response_head(&mut out, StatusCode::NOT_FOUND, &headers, BodyLength::Exact(0), HTTP_1_1, DATE, None)
        .expect("valid");
    assert_eq!(out, b"HTTP/1.1 404 Not Found\r\ndate: x\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn what_a_request_is_called_is_said_unless_the_application_has_said_it() {
    for (pairs, id, expected) in [
        (&[][..], Some(&b"abc"[..]), "x-request-id: abc\r\n"),
        (&[("x-request-id", "mine")], Some(&b"abc"[..]), "x-request-id: mine\r\n"),
        (&[("x-request-id", "mine")], None, "x-request-id: mine\r\n"),
        (&[], None, ""),
    ] {
        let mut out = Vec::new();
        encode_response_head(&mut out, StatusCode::OK, &fields(pairs), BodyLength::Exact(0), HTTP_1_1, DATE, id)
            .expect("valid");
        let text = String::from_utf8(out).expect("text");
        let lines: String = text.split_inclusive("\r\n").filter(|line| line.starts_with("x-request-id")).collect();
        assert_eq!(lines, expected, "{text}");
        assert!(text.ends_with("\r\n\r\n"));
    }
}

#[test]
fn an_unknown_status_has_an_empty_reason() {
    assert_eq!(encode(299, &[], BodyLength::Exact(0), HTTP_1_1).expect("valid").0, "content-length: 0\r\n");
}

#[test]
fn framing_follows_length_and_version() {
    use BodyLength::{Exact, Unknown};
    use ResponseFraming::{Chunked, Length, UntilClose};
    let cases = [
        (Exact(0), HTTP_1_1, "content-length: 0\r\n", plan(Length(0), true)),
        (Exact(u64::MAX), HTTP_1_1, "content-length: 18446744073709551615\r\n", plan(Length(u64::MAX), true)),
        (Unknown, HTTP_1_1, "transfer-encoding: chunked\r\n", plan(Chunked, true)),
        (Unknown, CLOSING, "transfer-encoding: chunked\r\nconnection: close\r\n", plan(Chunked, false)),
        (Exact(1), CLOSING, "content-length: 1\r\nconnection: close\r\n", plan(Length(1), false)),
        (Exact(1), HTTP_1_0, "content-length: 1\r\nconnection: keep-alive\r\n", plan(Length(1), true)),
        (Unknown, HTTP_1_0, "connection: close\r\n", plan(UntilClose, false)),
    ];
    for (length, context, expected, plan) in cases {
        assert_eq!(encode(200, &[], length, context), Ok((expected.to_owned(), plan)));
    }
}

#[test]
fn a_length_of_the_application_must_be_true() {
    use BodyLength::{Exact, Unknown};
    let five: &[_] = &[("content-length", "5")];
    let line = "content-length: 5\r\n".to_owned();
    let length = plan(ResponseFraming::Length(5), true);
    assert_eq!(encode(200, five, Exact(5), HTTP_1_1), Ok((line.clone(), length)));
    assert_eq!(encode(200, five, Unknown, HTTP_1_1), Ok((line.clone(), length)));
    let old = encode(200, five, Unknown, HTTP_1_0).expect("valid");
    assert_eq!(old, (format!("{line}connection: keep-alive\r\n"), length));
    assert_eq!(encode(200, five, Exact(4), HTTP_1_1), Err(ResponseError::LengthMismatch));
    assert_eq!(encode(200, five, Exact(0), HTTP_1_1), Err(ResponseError::LengthMismatch));
    for value in ["", "x", "+5", "5, 5", " 5", "005", "99999999999999999999"] {
        for (status, context) in [(200, HTTP_1_1), (200, HEAD), (304, HTTP_1_1)] {
            let result = encode(status, &[("content-length", value)], Unknown, context);
            assert_eq!(result, Err(ResponseError::LengthMismatch), "{value:?}");
        }
    }
    let twice = &[("content-length", "5"), ("content-length", "5")];
    assert_eq!(encode(200, twice, Exact(5), HTTP_1_1), Err(ResponseError::LengthMismatch));
}

#[test]
fn transfer_encoding_is_ours() {
    let theirs: &[_] = &[("transfer-encoding", "gzip, chunked"), ("transfer-encoding", "identity")];
    assert_eq!(encode(200, theirs, BodyLength::Exact(1), HTTP_1_1).expect("valid").0, "content-length: 1\r\n");
    assert_eq!(encode(200, theirs, BodyLength::Unknown, HTTP_1_1).expect("valid").0, "transfer-encoding: chunked\r\n");
    assert_eq!(encode(204, theirs, BodyLength::Unknown, HTTP_1_1).expect("valid").0, "");
}

#[test]
fn statuses_without_a_body() {
    use BodyLength::{Exact, Unknown};
    let none = plan(ResponseFraming::NoBody, true);
    let five: &[_] = &[("content-length", "5")];
    for length in [Exact(0), Exact(7), Unknown] {
        assert_eq!(encode(204, &[], length, HTTP_1_1), Ok((String::new(), none)));
        assert_eq!(encode(204, five, length, HTTP_1_1), Ok((String::new(), none)));
        assert_eq!(encode(304, &[], length, HTTP_1_1), Ok((String::new(), none)));
        assert_eq!(encode(304, five, length, HTTP_1_1), Ok(("content-length: 5\r\n".to_owned(), none)));
        assert_eq!(encode(205, &[], length, HTTP_1_1), Ok(("content-length: 0\r\n".to_owned(), none)));
        assert_eq!(encode(205, five, length, HTTP_1_1), Ok(("content-length: 0\r\n".to_owned(), none)));
    }
    // The length of the body that is left out is not that of the answer 200.
    for (value, body) in [("5", 5), ("0", 0)] {
        assert_eq!(encode(304, &[("content-length", value)], Exact(body), HTTP_1_1), Ok((String::new(), none)));
    }
    assert_eq!(encode(204, &[], Unknown, HTTP_1_0), Ok(("connection: keep-alive\r\n".to_owned(), none)));
}

#[test]
fn answers_to_head() {
    use BodyLength::{Exact, Unknown};
    let none = plan(ResponseFraming::NoBody, true);
    let five: &[_] = &[("content-length", "5")];
    assert_eq!(encode(200, &[], Exact(0), HEAD), Ok((String::new(), none)));
    assert_eq!(encode(200, &[], Exact(7), HEAD), Ok(("content-length: 7\r\n".to_owned(), none)));
    assert_eq!(encode(200, &[], Unknown, HEAD), Ok((String::new(), none)));
    for length in [Exact(0), Exact(7), Unknown] {
        assert_eq!(encode(200, five, length, HEAD), Ok(("content-length: 5\r\n".to_owned(), none)));
    }
    let zero = encode(200, &[("content-length", "0")], Exact(0), HEAD);
    assert_eq!(zero, Ok(("content-length: 0\r\n".to_owned(), none)));
    assert_eq!(encode(205, &[], Exact(0), HEAD), Ok((String::new(), none)));
    let old = ResponseContext { head_request: true, ..HTTP_1_0 };
    assert_eq!(encode(200, &[], Unknown, old), Ok(("connection: keep-alive\r\n".to_owned(), none)));
}

#[test]
fn announced_trailers_make_the_body_chunked_though_its_length_is_known() {
    use BodyLength::{Exact, Unknown};
    let announced: &[_] = &[("trailer", "x-sum")];
    let with_length: &[_] = &[("content-length", "5"), ("trailer", "x-sum")];
    let text = "trailer: x-sum\r\ntransfer-encoding: chunked\r\n".to_owned();
    for (pairs, length) in [
        (announced, Exact(5)),
        (announced, Exact(0)),
        (announced, Unknown),
        (with_length, Exact(5)),
        (with_length, Unknown),
    ] {
        let chunked = plan(ResponseFraming::Chunked, true);
        assert_eq!(encode(200, pairs, length, HTTP_1_1), Ok((text.clone(), chunked)));
    }
    // A length that is not sent must be true all the same.
    assert_eq!(encode(200, with_length, Exact(4), HTTP_1_1), Err(ResponseError::LengthMismatch));
    // HEAD has the head of GET; the body at hand is none.
    let none = plan(ResponseFraming::NoBody, true);
    for (pairs, length) in
        [(announced, Exact(5)), (with_length, Exact(0)), (with_length, Exact(5)), (announced, Unknown)]
    {
        assert_eq!(encode(200, pairs, length, HEAD), Ok((text.clone(), none)));
    }
    // HTTP/1.0 has no chunks, and what has no body has no trailers.
    let old = encode(200, with_length, Exact(5), HTTP_1_0).expect("valid");
    assert_eq!(old.1, plan(ResponseFraming::Length(5), true));
    assert_eq!(old.0, "trailer: x-sum\r\ncontent-length: 5\r\nconnection: keep-alive\r\n");
    let old_head = ResponseContext { head_request: true, ..HTTP_1_0 };
    assert_eq!(encode(200, with_length, Exact(0), old_head), Ok((old.0, none)));
    for status in [204, 205, 304] {
        let (text, plan) = encode(status, announced, Exact(0), HTTP_1_1).expect("valid");
        assert!(plan == none && !text.contains("transfer-encoding"), "{text}");
    }
}

#[test]
fn interim_statuses_are_no_answer() {
    for status in [100, 102, 103, 199] {
        let result = encode(status, &[], BodyLength::Exact(0), HTTP_1_1);
        assert_eq!(result, Err(ResponseError::InterimStatus));
    }
    assert_eq!(encode(101, &[], BodyLength::Exact(0), HTTP_1_0), Err(ResponseError::InterimStatus));
}

#[test]
fn switching_protocols_keeps_the_options_of_the_application() {
    let upgrade: &[_] = &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "0")];
    for context in [HTTP_1_1, CLOSING] {
        assert_eq!(encode(101, upgrade, BodyLength::Unknown, context), Err(ResponseError::SwitchUnasked));
        let context = ResponseContext { may_switch: true, ..context };
        let (text, plan) = encode(101, upgrade, BodyLength::Unknown, context).expect("valid");
        assert_eq!(text, "upgrade: websocket\r\nconnection: upgrade\r\n");
        assert_eq!(plan.framing, ResponseFraming::NoBody);
    }
}

#[test]
fn connection_options() {
    let connection = |value: &'static str, context| {
        let (text, plan) = encode(204, &[("connection", value)], BodyLength::Unknown, context).expect("valid");
        (text, plan.keep_alive)
    };
    assert_eq!(connection("close", HTTP_1_1), ("connection: close\r\n".to_owned(), false));
    assert_eq!(connection("Close", HTTP_1_0), ("connection: close\r\n".to_owned(), false));
    assert_eq!(connection("keep-alive", CLOSING), ("connection: close\r\n".to_owned(), false));
    assert_eq!(connection("keep-alive", HTTP_1_1), (String::new(), true));
    assert_eq!(connection("x , ,y", HTTP_1_1), ("connection: x, y\r\n".to_owned(), true));
    assert_eq!(connection("x, close", HTTP_1_1), ("connection: x, close\r\n".to_owned(), false));
    assert_eq!(connection("upgrade", CLOSING), ("connection: upgrade, close\r\n".to_owned(), false));
    let twice = encode(204, &[("connection", "a"), ("connection", "b")], BodyLength::Unknown, HTTP_1_0).expect("valid");
    assert_eq!(twice.0, "connection: a, b, keep-alive\r\n");
}

#[test]
fn row_35_line_ends_cannot_be_put_into_a_value() {
    for byte in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
        assert!(HeaderValue::from_bytes(&[b'a', byte, b'b']).is_err(), "{byte:#x}");
    }
    for name in ["a\r\nb", "a b", "a:", "", "a\0"] {
        assert!(http::HeaderName::from_bytes(name.as_bytes()).is_err());
    }
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for bytes in [1, 9, 10, 15, 16, 26, 255, 256, 4096, 65_535, u64::from(u32::MAX), 1 << 60, u64::MAX] {
        let mut out = Vec::new();
        encode_chunk_head(&mut out, bytes);
        assert_eq!(String::from_utf8_lossy(&out), format!("{bytes:x}\r\n"));
    }
}

#[test]
#[should_panic(expected = "a chunk without data ends the body")]
fn an_empty_chunk_is_a_bug_of_the_caller() {
    encode_chunk_head(&mut Vec::new(), 0);
}

#[test]
fn last_chunks() {
    let encode = |trailers: Option<&HeaderMap>| {
        let mut out = Vec::new();
        encode_last_chunk(&mut out, trailers);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(encode(None).as_bytes(), LAST_CHUNK);
    assert_eq!(encode(Some(&HeaderMap::new())).as_bytes(), LAST_CHUNK);
    let trailers = fields(&[("x-sum", "1"), ("content-length", "5"), ("transfer-encoding", "chunked"), ("x-sum", "2")]);
    assert_eq!(encode(Some(&trailers)), "0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n");
}

/// A text with the fields of a 503.
fn short(status: StatusCode, text: &str, context: ResponseContext) -> String {
    let fields = [("retry-after", &b"1"[..])];
    let fields = if status == StatusCode::SERVICE_UNAVAILABLE { &fields[..] } else { &[] };
    let mut out = Vec::new();
    let answer = ShortAnswer { status, content_type: "text/plain", fields, lines: &[], body: text.as_bytes() };
    encode_short_answer(&mut out, &answer, context, DATE);
    String::from_utf8(out).expect("text")
}

#[test]
fn short_answers_are_complete() {
    let refusal = Refusal::HostMissing;
    let text = error_text(refusal.status(), refusal.name());
    assert_eq!((text.as_str(), text.len()), ("400 Bad Request: host-missing\n", 30));
    let written = |context| short(refusal.status(), &text, context);
    let head = format!("HTTP/1.1 400 Bad Request\r\n{DATE_LINE}content-type: text/plain\r\ncontent-length: 30\r\n");
    assert_eq!(written(CLOSING), format!("{head}connection: close\r\n\r\n{text}"));
    assert_eq!(written(ResponseContext { head_request: true, ..CLOSING }), format!("{head}connection: close\r\n\r\n"));
    let stays = ResponseContext { keep_alive: true, ..CLOSING };
    assert_eq!(written(stays), format!("{head}\r\n{text}"));
    let old = ResponseContext { version: Version::HTTP_10, ..stays };
    assert_eq!(written(old), format!("{head}connection: keep-alive\r\n\r\n{text}"));
}

#[test]
fn a_short_answer_that_another_encoder_writes_says_the_same() {
    let fields: [(&str, &[u8]); 2] = [("retry-after", b"7"), ("vary", b"Origin")];
    let (status, body) = (StatusCode::TOO_MANY_REQUESTS, &b"no"[..]);
    let answer = ShortAnswer {
        status,
        content_type: "text/plain",
        fields: &fields,
        lines: &[b"RateLimit: \"default\"", b";r=0;t=7\r\n"],
        body,
    };
    for keep_alive in [false, true] {
        let response = short_response(&answer, keep_alive);
        assert_eq!((response.status(), &response.body()[..]), (status, body));
        let mut written = Vec::new();
        encode_short_answer(&mut written, &answer, ResponseContext { keep_alive, ..CLOSING }, DATE);
        let written = String::from_utf8(written).expect("text");
        let (head, _) = written.split_once("\r\n\r\n").expect("a head");
        let line =
            |(name, value): (&http::HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let head = head.replace("RateLimit", "ratelimit");
        let mut lines: Vec<_> = response.headers().iter().map(line).collect();
        lines.push(format!("content-length: {}", body.len()));
        lines.push(DATE_LINE.trim_end().to_owned());
        let mut written: Vec<_> = head.lines().skip(1).collect();
        lines.sort();
        written.sort();
        assert_eq!(lines, written);
    }
}

#[test]
fn an_answer_made_in_advance_may_have_more_fields() {
    let mut out = Vec::new();
    encode_with_fields(&mut out, TOO_MANY_CONNECTIONS, &[("vary", b"Origin")]);
    let made = String::from_utf8_lossy(TOO_MANY_CONNECTIONS).replacen("\r\n", "\r\nvary: Origin\r\n", 1);
    assert_eq!(String::from_utf8_lossy(&out), made);
}

#[test]
fn interim_answer_is_well_formed() {
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn row_110_the_answer_made_in_advance_is_the_one_that_would_be_made_without_its_date() {
    for (status, text, expected) in [
        (StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", TOO_MANY_CONNECTIONS),
        (StatusCode::TOO_MANY_REQUESTS, "too-many-connections-per-client", TOO_MANY_CONNECTIONS_PER_CLIENT),
        (StatusCode::SERVICE_UNAVAILABLE, "memory-pressure", MEMORY_PRESSURE),
    ] {
        let made = short(status, &error_text(status, text), CLOSING).replace(DATE_LINE, "");
        assert_eq!(made.as_bytes(), expected);
    }
}

#[test]
fn a_head_that_another_encoder_writes_says_the_same() {
    use BodyLength::{Exact, Unknown};
    type Fields = &'static [(&'static str, &'static str)];
    let cases: &[(u16, Fields, BodyLength, ResponseContext)] = &[
        (200, &[], Exact(5), HTTP_1_1),
        (200, &[("content-length", "5")], Unknown, HTTP_1_1),
        (200, &[("transfer-encoding", "gzip, chunked"), ("transfer-encoding", "x")], Exact(5), HTTP_1_1),
        (200, &[("transfer-encoding", "identity"), ("x-a", "1")], Unknown, HTTP_1_1),
        (200, &[("trailer", "x-sum"), ("content-length", "5")], Exact(5), HTTP_1_1),
        (200, &[("content-length", "5")], Exact(0), HEAD),
        (204, &[("content-length", "0"), ("transfer-encoding", "chunked")], Exact(0), HTTP_1_1),
        (205, &[("content-length", "5")], Exact(5), HTTP_1_1),
        (304, &[("content-length", "5")], Exact(0), HTTP_1_1),
        (304, &[("content-length", "5")], Exact(5), HTTP_1_1),
        (200, &[("connection", "x, close"), ("connection", "keep-alive, y")], Exact(5), HTTP_1_1),
        (200, &[("connection", "keep-alive")], Exact(5), CLOSING),
        (101, &[("connection", "upgrade"), ("upgrade", "a")], Unknown, ResponseContext { may_switch: true, ..CLOSING }),
    ];
    for (status, pairs, length, context) in cases {
        let written = encode(*status, pairs, *length, *context).expect("valid").0;
        let (status, mut headers) = (StatusCode::from_u16(*status).expect("valid"), fields(pairs));
        check_response(status, &headers, *length, *context).expect("valid").apply(status, &mut headers);
        let line =
            |(name, value): (&http::HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let mut applied: Vec<_> = headers.iter().map(line).collect();
        let mut written: Vec<_> = written.lines().map(str::to_owned).collect();
        applied.sort();
        written.sort();
        assert_eq!(applied, written, "{status}: {pairs:?}");
    }
}
