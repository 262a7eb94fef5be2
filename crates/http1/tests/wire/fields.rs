//! Field lines: syntax, counts, Host, Expect, Connection, Upgrade.

use baiwan_http1::Refusal::*;
use baiwan_http1::{BodyFraming, HeadDecoder, Limits};
use http::HeaderMap;

use crate::harness::{accepted, accepted_field, accepted_with, refused, refused_field, refused_with};

#[test]
fn row_16_bare_line_feed() {
    refused_field(BareLineFeed, "A: b\n");
    refused_field(BareLineFeed, "A:\n");
    refused_field(BareLineFeed, "\n");
    refused_field(BareLineFeed, "A: b\r\n\n");
}

#[test]
fn row_17_bare_carriage_return() {
    refused_field(BareCarriageReturn, "A: b\rC");
    refused_field(BareCarriageReturn, "A: b\r\r\n");
    refused_field(BareCarriageReturn, "A\r: b\r\n");
    refused_field(BareCarriageReturn, "\rA: b\r\n");
    refused_field(BareCarriageReturn, "A: \r b\r\n");
}

#[test]
fn row_18_control_bytes() {
    for byte in (1..0x20).chain([0, 0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        refused(ControlByte, &[b"GET / HTTP/1.1\r\nHost: a\r\nA: b", &[byte][..]].concat());
        refused(ControlByte, &[b"GET / HTTP/1.1\r\nHost: a\r\nA", &[byte][..]].concat());
        refused(ControlByte, &[b"GET / HTTP/1.1\r\n", &[byte][..]].concat());
    }
}

#[test]
fn row_19_folded_lines() {
    refused_field(FieldLineFolded, "A: b\r\n c\r\n");
    refused_field(FieldLineFolded, "A: b\r\n\tc: d\r\n");
    refused_field(FieldLineFolded, "A: b\r\n \r\n");
    refused_field(TransferEncodingInvalid, "Transfer-Encoding:\r\n chunked\r\n");
}

#[test]
fn row_20_white_space_around_names() {
    refused_field(FieldNameSpace, "A : b\r\n");
    refused_field(FieldNameSpace, "A\t: b\r\n");
    refused_field(FieldNameSpace, "Content-Length : 5\r\n");
    refused(FieldLineFolded, b"GET / HTTP/1.1\r\n Host: a\r\n");
    refused(FieldLineFolded, b"GET / HTTP/1.1\r\n\tHost: a\r\n");
    refused(FieldLineFolded, b"GET / HTTP/1.1\r\n \r\n");
    refused_field(FieldNameSpace, "A b: c\r\n");
}

#[test]
fn row_21_field_names() {
    refused_field(FieldNameInvalid, ": x\r\n");
    refused_field(FieldNameInvalid, ":\r\n");
    refused_field(FieldColonMissing, "A\r\n");
    refused_field(FieldNameSpace, "A b\r\n");
    for byte in b"[]{}\"()<>@,;\\/?=\x80\x85\xa0\xff" {
        refused(FieldNameInvalid, &[b"GET / HTTP/1.1\r\nHost: a\r\nA", &[*byte][..], b": b\r\n"].concat());
    }
    let head = accepted_field("X_Forwarded_For: 1\r\nX-Forwarded-For: 2\r\n!#$%&'*+-.^_`|~09aZ: 3\r\n");
    assert_eq!(head.field("x_forwarded_for"), Some(&b"1"[..]));
    assert_eq!(head.field("x-forwarded-for"), Some(&b"2"[..]));
    assert_eq!(head.field("!#$%&'*+-.^_`|~09az"), Some(&b"3"[..]));
}

#[test]
fn values_are_trimmed_and_otherwise_untouched() {
    let head = accepted(b"GET / HTTP/1.1\r\nHost:\t a \r\nA:\r\nB:  \t \r\nC: \xff\x80 \t x\t \r\nD:e:f\r\n\r\n");
    assert_eq!(head.field("host"), Some(&b"a"[..]));
    assert_eq!(head.field("a"), Some(&b""[..]));
    assert_eq!(head.field("b"), Some(&b""[..]));
    assert_eq!(head.field("c"), Some(&b"\xff\x80 \t x"[..]));
    assert_eq!(head.field("d"), Some(&b"e:f"[..]));
}

#[test]
fn fields_that_need_no_judgement_may_be_repeated() {
    let head = accepted_field("Cookie: a=b\r\nCookie: c=d\r\nContent-Type: x\r\nContent-Type: y\r\nTE: trailers\r\n");
    assert_eq!(head.fields.iter().filter(|field| field.0 == "cookie").count(), 2);
    assert_eq!(head.fields.iter().filter(|field| field.0 == "content-type").count(), 2);
}

#[test]
fn row_22_host() {
    refused(HostMissing, b"GET / HTTP/1.1\r\n\r\n");
    refused(HostMissing, b"OPTIONS * HTTP/1.1\r\nHosts: a\r\n\r\n");
    refused_field(HostRepeated, "Host: a\r\n");
    refused(HostRepeated, b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n");
    for host in
        ["", " ", "a,b", "a, b", "u@a", "u:p@a", "a/b", "http://a", "a b", "a?b", "a#b", "a\\b", "a\tb", "\"a\""]
    {
        for version in ["1.0", "1.1"] {
            refused(HostInvalid, format!("GET / HTTP/{version}\r\nHost: {host}\r\n").as_bytes());
        }
    }
    for host in [":80", "a:x", "a:99999", "a:65536", "a:-1", "a:+1", "a: 80", "a :80", "a:8 0", "a:1:2", "::1", "a:80:"]
    {
        refused(HostInvalid, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
    }
    for host in ["[", "[]", "[::1", "::1]", "[::1]a", "[::g]", "[1.2.3.4]", "[::1%25eth0]", "a[::1]", "[::1]:x"] {
        refused(HostInvalid, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
    }
    for host in
        ["[v]", "[v.a]", "[v1]", "[v1.]", "[vg.a]", "[1.a]", "[v1.a/]", "[v1.a,b]", "[v1.%41]", "[v1.a", "[v1.a]b"]
    {
        refused(HostInvalid, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
    }
    for host in ["%", "%4", "%zz", "é", "a|b", "a<b", "{a}", "a^"] {
        refused(HostInvalid, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
    }
}

#[test]
fn valid_hosts_are_accepted() {
    for host in
        ["a", "A.Example.", "a:0", "a:80", "a:65535", "a:00080", "a:", "127.0.0.1:1", "[::1]", "[::1]:8080", "[::1]:"]
    {
        let head = accepted(format!("GET / HTTP/1.1\r\nhOST: {host}\r\n\r\n").as_bytes());
        assert_eq!(head.field("host"), Some(host.as_bytes()));
    }
    for host in ["a_b", "xn--nxasmq6b", "a%41", "*", "1", "[::ffff:1.2.3.4]", "[1:2:3:4:5:6:7::]:1"] {
        accepted(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
    for host in ["[v1.a]", "[V1.a]:80", "[vF0.a:b]:", "[v1.-._~!$&'()*+;=:]", "[v1.::::::::::]"] {
        accepted(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
    accepted(b"GET / HTTP/1.0\r\n\r\n");
    accepted(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
}

#[test]
fn row_30_expectations() {
    for value in ["100-continue", "100-Continue", " 100-CONTINUE\t"] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect:{value}\r\n\r\nx");
        assert!(accepted(input.as_bytes()).expects_continue);
        // Without a body there is nothing to wait for.
        assert!(!accepted_field(&format!("Expect:{value}\r\n")).expects_continue);
    }
    assert!(accepted_with_body("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "0\r\n\r\n").expects_continue);
    assert!(!accepted_with_body("Content-Length: 1\r\n", "x").expects_continue);
    // RFC 9110 10.1.1: an HTTP/1.0 client has never heard of it.
    let old = accepted(b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx");
    assert!(!old.expects_continue);
    for value in
        [",", "y", "y 100-continue", "100-continue y", "100-continue, y", "100-continu", "100-continue;a=b", "200-ok"]
    {
        refused_field(ExpectationUnknown, &format!("Expect: {value}\r\n"));
    }
    // The same list, on one line or on several.
    for lines in ["Expect: 100-continue, 100-Continue\r\n", "Expect: 100-continue\r\nA: b\r\nexpect: 100-Continue\r\n"]
    {
        assert!(accepted_with_body(&format!("{lines}Content-Length: 1\r\n"), "x").expects_continue);
    }
    for lines in ["Expect: 100-continue,", "Expect: , 100-continue", "Expect: 100-continue, y", "Expect: ,"] {
        let several = lines.replace(',', "\r\nExpect:");
        refused_field(ExpectationUnknown, &format!("{lines}\r\n"));
        refused_field(ExpectationUnknown, &format!("{several}\r\n"));
    }
    // No member at all; what is folded behind it is refused as a fold.
    assert!(!accepted_with_body("Expect:\r\nContent-Length: 1\r\n", "x").expects_continue);
    refused_field(FieldLineFolded, "Expect:\r\n 100-continue\r\n");
}

fn accepted_with_body(lines: &str, body: &str) -> crate::harness::Head {
    accepted(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").as_bytes())
}

#[test]
fn persistence() {
    let keep_alive = |version: &str, lines: &str| {
        accepted(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes()).keep_alive
    };
    assert!(keep_alive("1.1", ""));
    assert!(keep_alive("1.1", "Connection: keep-alive\r\n"));
    assert!(keep_alive("1.1", "Connection: closed, not-close, close;x\r\n"));
    assert!(keep_alive("1.1", "Connection: \r\nConnection: ,;,\r\n"));
    assert!(!keep_alive("1.1", "Connection: close\r\n"));
    assert!(!keep_alive("1.1", "Connection: x ,\tCLOSE\t, y\r\n"));
    assert!(!keep_alive("1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
    assert!(!keep_alive("1.1", "Connection: keep-alive, close\r\n"));
    assert!(!keep_alive("1.0", ""));
    assert!(keep_alive("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keep_alive("1.0", "Connection: keep-alive, close\r\n"));
    assert!(keep_alive("1.2", ""));
}

#[test]
fn row_31_upgrade_with_a_body() {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    refused_field(WebsocketWithBody, &format!("{upgrade}Content-Length: 1\r\n\r\n"));
    refused_field(WebsocketWithBody, &format!("{upgrade}Transfer-Encoding: chunked\r\n\r\n"));
    refused_field(WebsocketWithBody, "Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n");
    assert!(accepted_field(&format!("{upgrade}Content-Length: 0\r\n")).upgrade);
    let other = accepted_with_body("Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 1\r\n", "x");
    assert!(other.upgrade && other.framing == BodyFraming::Length(1));
}

#[test]
fn an_upgrade_needs_both_fields_and_http_1_1() {
    assert!(accepted_field("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n").upgrade);
    assert!(accepted_field("Upgrade: foo/2\r\nConnection: upgrade\r\n").upgrade);
    assert!(!accepted_field("Upgrade: websocket\r\n").upgrade);
    assert!(!accepted_field("Connection: upgrade\r\n").upgrade);
    assert!(!accepted_field("Connection: upgrade\r\nUpgrade:\r\n").upgrade);
    assert!(!accepted(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade);
    // Who takes over would have to know the version.
    assert!(!accepted(b"GET / HTTP/1.2\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n").upgrade);
}

#[test]
fn row_33_h2c_is_ignored() {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    assert!(!accepted_field(h2c).upgrade);
    assert!(!accepted_field("Connection: upgrade\r\nUpgrade: h2c, h2c\r\n").upgrade);
    assert!(accepted_field("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n").upgrade);
    assert!(!accepted_with_body(&format!("{h2c}Content-Length: 2\r\n"), "hi").upgrade);
}

#[test]
fn row_34_nominated_fields_stay() {
    let lines =
        "Connection: host, content-length, x-forwarded-for, close\r\nX-Forwarded-For: b\r\nContent-Length: 1\r\n";
    let head = accepted_with_body(lines, "x");
    assert_eq!(head.framing, BodyFraming::Length(1));
    assert_eq!(head.field("host"), Some(&b"a"[..]));
    assert_eq!(head.field("x-forwarded-for"), Some(&b"b"[..]));
    assert_eq!(head.field("content-length"), Some(&b"1"[..]));
    assert!(!head.keep_alive);
}

#[test]
fn row_39_heads_beyond_the_limit() {
    let long = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    accepted(long(16_384).as_bytes());
    refused(HeadTooLarge, &long(16_385).as_bytes()[..16_384]);
    refused(HeadTooLarge, long(100_000).as_bytes());
    refused(HeadTooLarge, &"GET / HTTP/1.1\r\nA".as_bytes().iter().copied().chain([b'a'; 20_000]).collect::<Vec<_>>());
    let limits = Limits { head_bytes_max: 40, ..Limits::default() };
    accepted_with(long(40).as_bytes(), limits);
    refused_with(HeadTooLarge, long(41).as_bytes(), limits);
    // The empty lines before the head count too.
    refused_with(HeadTooLarge, format!("\r\n{}", long(39)).as_bytes(), limits);
    // What is wrong before the limit is reached is said, not the limit.
    refused(FieldColonMissing, format!("GET / HTTP/1.1\r\nA\r\nB: {}", "x".repeat(20_000)).as_bytes());
}

#[test]
fn row_39_too_many_fields() {
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "A: b\r\n".repeat(count - 1));
    accepted(format!("{}\r\n", many(100)).as_bytes());
    refused(FieldsTooMany, format!("{}A", many(100)).as_bytes());
    refused(FieldsTooMany, many(101).as_bytes());
    refused_with(HeadTooLarge, many(10_000).as_bytes(), Limits { head_bytes_max: 500, ..Limits::default() });
    refused(FieldsTooMany, many(10_000).as_bytes());
    let limits = Limits { fields_max: 2, ..Limits::default() };
    accepted_with(format!("{}\r\n", many(2)).as_bytes(), limits);
    refused_with(FieldsTooMany, many(3).as_bytes(), limits);
    let limits = Limits { fields_max: 1000, ..Limits::default() };
    accepted_with(format!("{}\r\n", many(255)).as_bytes(), limits);
    refused_with(FieldsTooMany, many(256).as_bytes(), limits);
    accepted_with(b"GET / HTTP/1.0\r\n\r\n", Limits { fields_max: 0, ..Limits::default() });
}

#[test]
fn row_57_names_that_collide_in_a_hash_are_bounded_by_the_count() {
    let lines: String = (0..99).map(|index| format!("x-{index:08x}: y\r\n")).collect();
    assert_eq!(accepted_field(&lines).fields.len(), 100);
}

#[test]
fn room_for_fields_is_taken_by_a_head_that_is_whole_and_by_no_other() {
    let (input, limits) = (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n", Limits::default());
    let mut room = HeaderMap::with_capacity(40);
    let capacity = room.capacity();
    assert!(HeadDecoder::default().decode_into(&input[..20], &limits, &mut room).expect("valid").is_none());
    assert_eq!(room.capacity(), capacity);
    let (head, _) = HeadDecoder::default().decode_into(input, &limits, &mut room).expect("valid").expect("whole");
    assert_eq!((head.request.headers().capacity(), room.capacity()), (capacity, 0));
    assert_eq!((head.request.headers().len(), &head.request.headers()["a"]), (2, &"b".parse().expect("valid")));
}
