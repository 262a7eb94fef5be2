//! Requests: what is written, and what the caller may not ask for.

use baiwan_http1::{BodyLength, RequestError, encode_request_head};
use http::Method;
use http::header::{HeaderMap, HeaderValue};

use BodyLength::{Exact, Unknown};

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn encode(
    method: &Method,
    target: &str,
    authority: &str,
    pairs: &[(&'static str, &'static str)],
    length: Option<BodyLength>,
) -> Result<String, RequestError> {
    let mut out = b"before".to_vec();
    let result = encode_request_head(&mut out, method, target, authority, &fields(pairs), length);
    let text = String::from_utf8(out).expect("text").strip_prefix("before").expect("untouched").to_owned();
    assert!(result.is_ok() || text.is_empty(), "nothing is written after an error");
    result.map(|()| text)
}

/// The lines after Host of a request with `method`.
fn framed(method: &Method, pairs: &[(&'static str, &'static str)], length: Option<BodyLength>) -> String {
    let text = encode(method, "/", "a", pairs, length).expect("valid");
    let start = format!("{method} / HTTP/1.1\r\nhost: a\r\n");
    text.strip_prefix(&start).and_then(|rest| rest.strip_suffix("\r\n")).expect("start and end").to_owned()
}

#[test]
fn a_request_is_line_host_fields_and_an_empty_line() {
    let pairs = [("accept", "*/*"), ("x-a", "1"), ("x-a", "2")];
    assert_eq!(
        encode(&Method::GET, "/path?query", "a.example:8080", &pairs, None).expect("valid"),
        "GET /path?query HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\nx-a: 1\r\nx-a: 2\r\n\r\n"
    );
    let method = Method::from_bytes(b"x-Y").expect("a token");
    assert_eq!(encode(&method, "/", "[::1]:80", &[], None).expect("valid"), "x-Y / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
    let asterisk = encode(&Method::OPTIONS, "*", "a", &[], None).expect("valid");
    assert_eq!(asterisk, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn the_length_that_is_sent_follows_body_and_method() {
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST, Method::PUT, Method::PATCH] {
        assert_eq!(framed(&method, &[], None), "");
        assert_eq!(framed(&method, &[], Some(Exact(5))), "content-length: 5\r\n");
        assert_eq!(framed(&method, &[], Some(Unknown)), "transfer-encoding: chunked\r\n");
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let expected = if expects_body { "content-length: 0\r\n" } else { "" };
        assert_eq!(framed(&method, &[], Some(Exact(0))), expected, "{method}");
        assert_eq!(framed(&method, &[("content-length", "0")], Some(Exact(0))), "content-length: 0\r\n");
        assert_eq!(framed(&method, &[("content-length", "0")], None), "content-length: 0\r\n");
        assert_eq!(framed(&method, &[("content-length", "5")], Some(Exact(5))), "content-length: 5\r\n");
    }
}

#[test]
fn a_length_of_the_caller_must_be_true() {
    let with = |value, length| encode(&Method::POST, "/", "a", &[("content-length", value)], length);
    for (value, length) in [
        ("5", None),
        ("5", Some(Exact(4))),
        ("0", Some(Exact(4))),
        ("5", Some(Exact(0))),
        ("5", Some(Unknown)),
        ("", Some(Exact(0))),
        ("+5", Some(Exact(5))),
        ("05", Some(Exact(5))),
        ("5, 5", Some(Exact(5))),
    ] {
        assert_eq!(with(value, length), Err(RequestError::LengthMismatch), "{value:?} {length:?}");
    }
    let twice = [("content-length", "5"), ("content-length", "5")];
    assert_eq!(encode(&Method::POST, "/", "a", &twice, Some(Exact(5))), Err(RequestError::LengthMismatch));
}

#[test]
fn the_transfer_encoding_of_a_request_is_ours() {
    let theirs = [("transfer-encoding", "gzip, chunked"), ("transfer-encoding", "identity")];
    assert_eq!(framed(&Method::POST, &theirs, None), "");
    assert_eq!(framed(&Method::POST, &theirs, Some(Exact(1))), "content-length: 1\r\n");
    assert_eq!(framed(&Method::POST, &theirs, Some(Unknown)), "transfer-encoding: chunked\r\n");
}

#[test]
fn host_is_said_once_and_first_and_that_of_the_caller_counts() {
    let with = |authority, pairs: &[_]| encode(&Method::GET, "/", authority, pairs, None);
    let expected = "GET / HTTP/1.1\r\nhost: b:81\r\nx-a: 1\r\n\r\n";
    assert_eq!(with("a", &[("x-a", "1"), ("host", "b:81")]).expect("valid"), expected);
    let twice = [("host", "b"), ("host", "b")];
    assert_eq!(with("a", &twice), Err(RequestError::HostRepeated));
    for invalid in ["", "a b", "a/", "user@a", "a:x", "a:65536", "a,b", "[::1", "http://a", " a", "a\t"] {
        assert_eq!(with(invalid, &[]), Err(RequestError::AuthorityInvalid), "{invalid:?}");
    }
    for invalid in ["", "a b", "user@a", "a, b"] {
        assert_eq!(with("a", &[("host", invalid)]), Err(RequestError::AuthorityInvalid), "{invalid:?}");
    }
    assert_eq!(with("a\r\nx: y", &[]), Err(RequestError::AuthorityInvalid));
}

#[test]
fn a_target_is_a_path_and_a_query() {
    let with = |method, target: &str| encode(method, target, "a", &[], None);
    for target in ["/", "/a/b%20c?d=e&f", "/?", "//", "/?a=/b?c", "/[a]?b[]={c}"] {
        assert!(with(&Method::GET, target).is_ok(), "{target}");
    }
    for target in
        ["", "a", "?a", "*", "**", "http://a/", "a:80", "/a b", "/\u{e9}", "/#a", "/a\r\nx: y", "/\0", "/a\t", "/\\a"]
    {
        assert_eq!(with(&Method::GET, target), Err(RequestError::TargetInvalid), "{target:?}");
        let expected = if target == "*" { Ok(()) } else { Err(RequestError::TargetInvalid) };
        assert_eq!(with(&Method::OPTIONS, target).map(drop), expected, "{target:?}");
    }
}

#[test]
fn connect_is_not_asked_for() {
    for target in ["a:80", "/", "*"] {
        assert_eq!(encode(&Method::CONNECT, target, "a", &[], None), Err(RequestError::ConnectUnsupported));
    }
}

#[test]
fn a_trace_request_has_no_body() {
    let with = |length| encode(&Method::TRACE, "/", "a", &[], length).map(drop);
    assert_eq!((with(None), with(Some(Exact(0)))), (Ok(()), Ok(())));
    assert_eq!(with(Some(Exact(1))), Err(RequestError::TraceWithBody));
    assert_eq!(with(Some(Unknown)), Err(RequestError::TraceWithBody));
}

#[test]
fn fields_of_a_request_are_sent_as_they_are() {
    let pairs = [("connection", "close"), ("expect", "100-continue"), ("te", "trailers"), ("cookie", "a=b; c")];
    let expected: String = pairs.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    assert_eq!(framed(&Method::GET, &pairs, None), expected);
}
