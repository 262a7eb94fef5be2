//! A line is refused as soon as it can no longer become valid, and for the same reason however it comes.

use baiwan_http1::Refusal::{self, *};
use baiwan_http1::{HeadDecoder, Limits};

use crate::harness::{accepted, byte_by_byte, chunked, refused, refused_with, whole};

/// `input` must be refused at its last byte, and not before it.
fn refused_at_last_byte(expected: Refusal, input: impl AsRef<[u8]>) {
    let input = input.as_ref();
    refused(expected, input);
    let (_, needed) = byte_by_byte(input, Limits::default());
    let before = whole(&input[..input.len() - 1], Limits::default());
    let refused_before = before.iter().any(|event| matches!(event, crate::harness::Event::Refused(_)));
    assert!(needed == input.len() && !refused_before, "{needed} of {}", input.escape_ascii());
}

#[test]
fn a_method_is_refused_at_its_first_wrong_byte() {
    for input in ["G(", "[", "GET\t", "GET,", "G\u{e9}"] {
        let end = input.find(|byte: char| !byte.is_ascii_alphabetic()).expect("a wrong byte") + 1;
        refused_at_last_byte(MethodInvalid, &input.as_bytes()[..end]);
    }
    refused_at_last_byte(RequestLineMalformed, " ");
    refused_at_last_byte(MethodTooLong, "M".repeat(33));
}

#[test]
fn a_target_is_refused_at_its_first_wrong_byte() {
    for start in ["GET /a", "GET /?", "GET http://a/", "GET http://a", "GET ", "GET h", "OPTIONS *", "CONNECT "] {
        for byte in b"#<>\\\"`\t\x80\xff" {
            refused_at_last_byte(TargetInvalid, [start.as_bytes(), &[*byte]].concat());
        }
        refused_at_last_byte(ControlByte, [start, "\0"].concat());
    }
    refused_at_last_byte(RequestLineMalformed, "GET  ");
    refused_at_last_byte(TargetTooLong, format!("GET /{}", "x".repeat(8192)));
}

#[test]
fn a_target_is_refused_where_no_form_begins_like_it() {
    for input in ["GET a", "GET *", "GET ?", "GET hx", "GET httx", "GET http:x", "GET http:/x", "GET https:x"] {
        refused_at_last_byte(TargetForm, input);
    }
    for input in ["OPTIONS **", "OPTIONS *?", "OPTIONS *h", "options *", "PROXY h:", "GET HTTPS/"] {
        refused_at_last_byte(TargetForm, input);
    }
    for (refusal, input) in [
        (TargetForm, "GET h "),
        (TargetForm, "GET http:/ "),
        (TargetAuthority, "GET http:// "),
        (TargetAuthority, "GET http://u@a/ "),
        (TargetAuthority, "GET http://a:65536 "),
        (TargetScheme, "GET https://a "),
        (ConnectUnsupported, "CONNECT a:1 "),
        (TargetForm, "CONNECT a "),
    ] {
        refused_at_last_byte(refusal, input);
    }
}

#[test]
fn a_target_beyond_its_limit_is_too_long_whatever_the_rest_of_it_is() {
    let limits = Limits { target_bytes_max: 2, ..Limits::default() };
    for input in ["GET htx", "GET http:x", "GET hta", "GET /xy", "GET /xyz#"] {
        refused_with(TargetTooLong, input.as_bytes(), limits);
    }
    refused_with(TargetForm, b"GET hx", limits);
    refused_with(TargetInvalid, b"GET /x#", limits);
}

#[test]
fn a_version_is_refused_at_its_first_wrong_byte() {
    for version in ["X", "h", "HTTQ", "HTTP ", "HTTP/x", "HTTP/1x", "HTTP/10", "HTTP/1.x", "HTTP/1.1x", "HTTP/1.1 "] {
        refused_at_last_byte(VersionMalformed, format!("GET / {version}"));
    }
    refused_at_last_byte(VersionMalformed, "GET / XTTP".split_at(7).0);
    for version in ["HTTP/5.6", "HTTP/0.9", "HTTP/2.0"] {
        refused_at_last_byte(VersionUnsupported, format!("GET / {version}"));
    }
    refused_at_last_byte(Http2Unexpected, "PRI *");
    refused_at_last_byte(ControlByte, "GET / HTTP\0");
}

const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\n";

#[test]
fn a_field_name_is_refused_at_its_first_wrong_byte() {
    for (refusal, line) in [
        (FieldLineFolded, " "),
        (FieldLineFolded, "\t"),
        (FieldNameSpace, "A "),
        (FieldNameSpace, "A\t"),
        (FieldNameInvalid, ":"),
        (FieldNameInvalid, "A("),
        (FieldNameInvalid, "A/"),
        (ControlByte, "A\0"),
        (ControlByte, "A: b\0"),
        (ControlByte, "A: b\x7f"),
        (BareLineFeed, "A\n"),
        (BareLineFeed, "A: b\n"),
        (BareCarriageReturn, "A: b\rc"),
        (FieldColonMissing, "A\r\n"),
    ] {
        refused_at_last_byte(refusal, format!("{HEAD}{line}"));
        refused_at_last_byte(refusal, format!("GET / HTTP/1.1\r\n{line}"));
        refused_at_last_byte(refusal, chunked(format!("0\r\nB: c\r\n{line}")));
    }
    refused_at_last_byte(FieldNameInvalid, [HEAD.as_bytes(), b"A\xff"].concat());
    refused_at_last_byte(FieldLineFolded, "GET / HTTP/1.1\r\nHost: x\r\n ");
}

/// Whether `bytes`, all of them new or one after the other, are refused.
fn is_refused(bytes: &[u8]) -> bool {
    let limits = Limits::default();
    let at_once = HeadDecoder::default().decode(bytes, &limits).is_err();
    let mut decoder = HeadDecoder::default();
    let one_by_one = (1..=bytes.len()).any(|end| decoder.decode(&bytes[..end], &limits).is_err());
    assert_eq!(at_once, one_by_one, "{}", bytes.escape_ascii());
    at_once
}

/// Any one byte in the place of any other: the start of a head that was not refused becomes a head by some bytes more.
#[test]
fn the_start_of_a_head_that_is_not_refused_can_become_valid() {
    let head = b"GET /a HTTP/1.1\r\nAb: c\r\nHost: a\r\n\r\n";
    let value_of_host = head.len() - 6..head.len() - 3;
    let is_whole = |bytes: &[u8]| matches!(HeadDecoder::default().decode(bytes, &Limits::default()), Ok(Some(_)));
    let mut waiting = 0;
    for place in (0..head.len()).filter(|place| !value_of_host.contains(place)) {
        for byte in 0..=u8::MAX {
            let start = [&head[..place], &[byte]].concat();
            if is_refused(&start) || is_whole(&start) {
                continue;
            }
            let can_end = (0..head.len()).any(|from| {
                let rest = &head[from..];
                let absolute = [&b"ttp://a"[..], rest].concat();
                is_whole(&[&start, rest].concat()) || is_whole(&[&start, &absolute[..]].concat())
            });
            // What is wrong is known, but which refusal it is only with the next bytes: after a CR, in the number of a version,
            // and where TLS may begin.
            let waits = byte == b'\r' || start.ends_with(b" HTTP/") || byte == 0x16;
            let in_version = place == b"GET /a HTTP/".len() && byte.is_ascii_digit();
            assert!(can_end || waits || in_version, "{}", start.escape_ascii());
            waiting += usize::from(!can_end);
        }
    }
    assert!(waiting < 60, "{waiting}");
}

#[test]
fn tls_on_a_plain_port_has_a_refusal_of_its_own() {
    refused_at_last_byte(TlsOnPlainPort, b"\x16\x03");
    refused(TlsOnPlainPort, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    refused_at_last_byte(ControlByte, b"\x16\x02");
    refused_at_last_byte(ControlByte, b"\x15");
    // It is a handshake only where a request may begin.
    refused_at_last_byte(ControlByte, b"GET /\x16");
    refused_at_last_byte(ControlByte, b"\r\n\x16");
}

#[test]
fn the_proxy_protocol_has_a_refusal_of_its_own() {
    refused_at_last_byte(ProxyProtocolUnexpected, "PROXY T");
    refused_at_last_byte(ProxyProtocolUnexpected, "PROXY U");
    for line in ["PROXY TCP4 192.0.2.1 192.0.2.2 1 80", "PROXY TCP6 ::1 ::1 1 80", "PROXY UNKNOWN"] {
        refused(ProxyProtocolUnexpected, format!("{line}\r\n").as_bytes());
    }
    // A method may have this name.
    assert_eq!(accepted(b"PROXY / HTTP/1.1\r\nHost: a\r\n\r\n").method, "PROXY");
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    refused_at_last_byte(ProxyProtocolUnexpected, signature);
    refused(ProxyProtocolUnexpected, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    for length in 5..signature.len() {
        refused_at_last_byte(ControlByte, [&signature[..length], b"?"].concat());
    }
    // The empty lines with which it begins are those that may precede a request.
    accepted(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let none = Limits { leading_crlf_max: 0, ..Limits::default() };
    refused_with(LeadingLines, signature, none);
}
