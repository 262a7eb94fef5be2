//! The request line: method, target, version, and what may stand before it.

use baiwan_http1::Refusal::{self, *};
use baiwan_http1::{BodyFraming, Limits};

use crate::harness::{accepted, accepted_with, refused, refused_with};

fn refused_line(expected: Refusal, line: &str) {
    refused(expected, format!("{line}\r\n").as_bytes());
}

#[test]
fn a_plain_request_is_accepted() {
    let head = accepted(b"GET /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\r\n");
    assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(head.version, http::Version::HTTP_11);
    assert_eq!(head.framing, BodyFraming::None);
    assert!(head.keep_alive && !head.expects_continue && !head.upgrade);
    assert_eq!(head.field("host"), Some(&b"a.example:8080"[..]));
    assert_eq!(head.field("accept"), Some(&b"*/*"[..]));
}

#[test]
fn white_space_in_the_request_line_is_refused() {
    refused_line(RequestLineMalformed, " GET / HTTP/1.1");
    refused_line(RequestLineMalformed, "GET  / HTTP/1.1");
    refused_line(RequestLineMalformed, "GET  HTTP/1.1");
    refused_line(VersionMalformed, "GET /  HTTP/1.1");
    refused_line(VersionMalformed, "GET / x HTTP/1.1");
    refused_line(MethodInvalid, "GET\t/ HTTP/1.1");
    refused_line(TargetInvalid, "GET /\tHTTP/1.1");
    refused_line(TargetInvalid, "GET /a\tb HTTP/1.1");
    refused_line(ControlByte, "GET /\x0bHTTP/1.1");
}

#[test]
fn row_16_bare_line_feed_in_the_request_line() {
    refused(BareLineFeed, b"GET / HTTP/1.1\n");
    refused(BareLineFeed, b"\n");
    refused(BareLineFeed, b"\r\n\n");
}

#[test]
fn row_17_bare_carriage_return_in_the_request_line() {
    refused(BareCarriageReturn, b"GET / HTTP/1.1\rH");
    refused(BareCarriageReturn, b"GET /\r HTTP/1.1\r\n");
    refused(BareCarriageReturn, b"\rG");
    refused(BareCarriageReturn, b"\r\r\n");
}

#[test]
fn row_23_absolute_form() {
    let head = accepted(b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(head.target, "http://a.example/x?y");
    accepted(b"GET HTTP://A.example HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n");
    accepted(b"GET http://a.example?q HTTP/1.1\r\nHost: a.example:80\r\n\r\n");
    accepted(b"GET http://a:/ HTTP/1.1\r\nHost: a:80\r\n\r\n");
    accepted(b"GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]\r\n\r\n");
    accepted(b"GET http://a/ HTTP/1.0\r\n\r\n");
    accepted(b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(HostMismatch, b"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n");
    refused(HostMismatch, b"GET http://a/ HTTP/1.1\r\nHost: a:443\r\n");
    refused(HostMismatch, b"\r\nGET http://a/ HTTP/1.0\r\nHost: b\r\n");
    refused(HostInvalid, b"GET http://a/ HTTP/1.1\r\nHost: a/b\r\n");
    refused(HostMissing, b"GET http://a/ HTTP/1.1\r\n\r\n");
    for target in ["http://", "http:///x", "http://?q", "http://u@a/", "http://a:x/", "http://a:65536/", "http://a%41/"]
    {
        refused_line(TargetAuthority, &format!("GET {target} HTTP/1.1"));
    }
    for target in ["http://[::1/", "http://[::g]/", "http://[v.a]/", "http://a,b/", "http://a:1:2/", "http://a:+1/"] {
        refused_line(TargetAuthority, &format!("GET {target} HTTP/1.1"));
    }
    // Literals of a later version, as far as `http::Uri` holds them: with eight colons.
    for host in ["[v1.a]", "[vF.a:b]", "[v1.a!$&'()*+;=-._~]", "[v1.::::::::]"] {
        accepted(format!("GET http://{host}:80/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
    refused_line(TargetAuthority, "GET http://[v1.:::::::::]/ HTTP/1.1");
}

#[test]
fn an_https_target_needs_a_secured_connection() {
    for target in ["https://a", "https://a/", "HTTPS://a:443/", "httpS://[::1]/?q"] {
        refused_line(TargetScheme, &format!("GET {target} HTTP/1.1"));
    }
    refused_line(TargetScheme, "OPTIONS https://a HTTP/1.0");
    // What is not valid is that first.
    refused_line(TargetAuthority, "GET https:// HTTP/1.1");
    refused_line(TargetInvalid, "GET https://a/# HTTP/1.1");
}

#[test]
fn row_24_targets() {
    accepted(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    for line in ["GET * HTTP/1.1", "OPTIONS ** HTTP/1.1", "options * HTTP/1.1"] {
        refused_line(TargetForm, line);
    }
    for line in ["CONNECT a.example:443 HTTP/1.1", "CONNECT [::1]:443 HTTP/1.1"] {
        refused_line(ConnectUnsupported, line);
    }
    for line in ["CONNECT a.example HTTP/1.1", "CONNECT / HTTP/1.1", "CONNECT a: HTTP/1.1", "CONNECT * HTTP/1.1"] {
        refused_line(TargetForm, line);
    }
    for target in ["a.example:80", "a", "ftp://a/", "http:/a", "https:", "?q", "..", "a#b"] {
        refused_line(TargetForm, &format!("GET {target} HTTP/1.1"));
    }
    for target in ["/a#b", "/#", "#", "/a?b#c", "http://a/#b", "http://a#b", "/a\\b", "/?\\", "http://a\\b/", "\\"] {
        refused_line(TargetInvalid, &format!("GET {target} HTTP/1.1"));
    }
    for target in ["/é", "/?é", "é", "http://a/é", "/\u{85}"] {
        refused_line(TargetInvalid, &format!("GET {target} HTTP/1.1"));
    }
    refused_line(TargetInvalid, "GET http://é/ HTTP/1.1");
    refused(TargetInvalid, b"GET /\xff HTTP/1.1\r\n");
    for byte in (1..0x20).chain([0, 0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        refused(ControlByte, &[b"GET /a", &[byte][..]].concat());
    }
}

#[test]
fn every_path_that_browsers_send_reaches_the_application() {
    for target in
        ["/", "//", "/..", "/a/./b", "/%zz", "/%", "/a;b=c", "/a:b@c", "/{|}^[]", "/?{|}^[]?/", "/?", "/*", "/?'"]
    {
        let head = accepted(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.target, target);
    }
}

#[test]
fn the_same_bytes_may_stand_in_paths_and_in_queries() {
    for byte in (0x21..=0x7e_u8).filter(|&byte| byte != b'?') {
        for (before, after) in [("/a", "b"), ("/a?", "b"), ("http://a/", "b"), ("http://a?", "b")] {
            let target = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let input = [b"GET ", &target[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            if b"\"#<>\\`".contains(&byte) {
                refused(TargetInvalid, &[b"GET ", &target[..], b" HTTP/1.1\r\n"].concat());
            } else {
                accepted(&input);
                assert!(http::Uri::try_from(&target[..]).is_ok(), "{}", target.escape_ascii());
            }
        }
    }
}

#[test]
fn row_25_methods() {
    for method in ["get", "-", "-GET", "PURGE", "QUERY", "M-SEARCH", "a1!#$%&'*+-.^_`|~", &"M".repeat(32)] {
        assert_eq!(accepted(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).method, method);
    }
    refused_line(MethodInvalid, "G=\":<> / HTTP/1.1");
    refused(MethodInvalid, b"G\xc3");
    refused(MethodInvalid, b"G(");
    refused(MethodInvalid, b"[");
    refused(ControlByte, b"\x15");
    refused(MethodTooLong, "M".repeat(33).as_bytes());
    refused(MethodTooLong, "M".repeat(100_000).as_bytes());
    refused_with(MethodTooLong, b"POST", Limits { method_bytes_max: 3, ..Limits::default() });
    accepted_with(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", Limits { method_bytes_max: 4, ..Limits::default() });
}

#[test]
fn row_26_versions() {
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        let head = accepted(format!("\r\nGET /a HTTP/{}\r\nHost: a\r\n\r\n", &version[5..]).as_bytes());
        assert_eq!((head.version, head.target.as_str()), (http::Version::HTTP_11, "/a"));
        refused(HostMissing, format!("GET / {version}\r\n\r\n").as_bytes());
    }
    assert_eq!(accepted(b"GET / HTTP/1.0\r\n\r\n").version, http::Version::HTTP_10);
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/9.9", "HTTP/3.0", "HTTP/0.1"] {
        refused_line(VersionUnsupported, &format!("GET / {version}"));
    }
    // The preface of HTTP/2 (RFC 9113 3.4).
    refused(Http2Unexpected, b"PRI * HTTP/2.0\r\n");
    for version in
        ["HTTP/1", "HTTP/1.", "HTTP/11", "http/1.1", "HTTP/1.1 ", "HTTP/1.10", "HTTP/01.1", "HTTP 1.1", "HTTPS/1.1"]
    {
        refused_line(VersionMalformed, &format!("GET / {version}"));
    }
    for version in ["", "XTTP/1.1", "HTTP/1,1", "HTTP/a.1", "1.1"] {
        refused_line(VersionMalformed, &format!("GET / {version}"));
    }
    // Before the line ends, too.
    refused(VersionMalformed, b"GET / HTTP/1.1x");
    for line in ["GET /", "GET", "GET "] {
        refused_line(RequestLineMalformed, line);
    }
}

#[test]
fn row_27_leading_empty_lines() {
    for lines in ["\r\n", "\r\n\r\n"] {
        let head = accepted(format!("{lines}GET /a HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.target, "/a");
    }
    refused(LeadingLines, b"\r\n\r\n\r\n");
    refused_with(LeadingLines, b"\r\n", Limits { leading_crlf_max: 0, ..Limits::default() });
    accepted_with(
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Limits { leading_crlf_max: 3, ..Limits::default() },
    );
}

#[test]
fn row_39_targets_beyond_the_limit() {
    let long = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    assert_eq!(accepted(long(8192).as_bytes()).target.len(), 8192);
    refused(TargetTooLong, &long(8193).as_bytes()[..4 + 8193]);
    refused(TargetTooLong, long(8193).as_bytes());
    refused(TargetTooLong, long(100_000).as_bytes());
    let limits = Limits { target_bytes_max: 4, ..Limits::default() };
    accepted_with(long(4).as_bytes(), limits);
    refused_with(TargetTooLong, long(5).as_bytes(), limits);
}

#[test]
fn limits_beyond_what_can_be_represented_are_cut() {
    let limits = Limits { head_bytes_max: usize::MAX, target_bytes_max: usize::MAX, ..Limits::default() };
    let long = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    accepted_with(long(65_000).as_bytes(), limits);
    refused_with(HeadTooLarge, &long(70_000).as_bytes()[..65_536], limits);
}
