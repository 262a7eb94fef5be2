//! The head of an answer: status line, field lines, limits, interim answers.

use baiwan_http1::ResponseRefusal::*;
use baiwan_http1::{Limits, ResponseDecoder, ResponseFraming};
use http::Version;

use super::harness::{Event, accepted, accepted_to, head, head_with, refused, refused_field, refused_with, whole};

#[test]
fn a_plain_answer_is_decoded() {
    let events = accepted_to(false, b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello");
    let [Event::Head(head), data, end] = &events[..] else { panic!("{events:?}") };
    assert_eq!((head.status, head.version, head.keep_alive), (200, Version::HTTP_11, true));
    assert_eq!(head.framing, ResponseFraming::Length(5));
    assert_eq!(head.fields, [("server".into(), b"x".into()), ("content-length".into(), b"5".into())]);
    assert_eq!((data, end), (&Event::Data(b"hello".into()), &Event::End(vec![])));
}

#[test]
fn a_reason_is_any_text_or_none() {
    for reason in [" OK", " ", "", "  two  spaces ", " \ttabs\t", " not: a field", " \u{e9}t\u{e9}", " 200 OK HTTP/1.1"]
    {
        let input = format!("HTTP/1.1 299{reason}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(accepted(input.as_bytes()).status, 299, "{reason:?}");
    }
    accepted(b"HTTP/1.1 200 \x80\xff\r\nContent-Length: 0\r\n\r\n");
    // Without any field, too.
    assert_eq!(head(b"HTTP/1.1 200\r\n\r\n").framing, ResponseFraming::UntilClose);
}

#[test]
fn status_lines_are_strict() {
    for line in [
        "",
        " ",
        " HTTP/1.1 200 OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1 200 OK",
        "HTTP/11 200 OK",
        "HTTP/1.10 200 OK",
        "HTTP/x.1 200 OK",
        "HTTP/2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "SSH-2.0-x",
        "GET / HTTP/1.1",
        "Content-Length: 0",
    ] {
        refused(StatusLineMalformed, format!("{line}\r\n").as_bytes());
    }
    // RFC 9112 2.2 lets servers skip empty lines, not clients.
    refused(StatusLineMalformed, b"\r\nHTTP/1.1 200 OK\r\n");
}

#[test]
fn what_is_no_answer_is_refused_at_its_first_wrong_byte() {
    refused(StatusLineMalformed, b"X");
    refused(StatusLineMalformed, b"HTTP/1.1 20x");
    refused(VersionUnsupported, b"HTTP/2.0");
    refused(StatusInvalid, b"HTTP/1.1 099");
    for (refusal, line) in [
        (FieldLineFolded, " "),
        (FieldNameSpace, "C "),
        (FieldNameInvalid, ":"),
        (FieldNameInvalid, "C("),
        (ControlByte, "C\0"),
        (ControlByte, "C: d\0"),
    ] {
        refused_field(refusal, line);
        refused(refusal, format!("HTTP/1.1 200 OK\r\n{line}").as_bytes());
    }
}

#[test]
fn the_major_version_is_1_and_a_later_minor_one_is_read_as_1_1() {
    for (version, read_as) in [("1.0", Version::HTTP_10), ("1.1", Version::HTTP_11), ("1.2", Version::HTTP_11)] {
        let head = accepted(format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert_eq!((head.version, head.status), (read_as, 200));
    }
    assert_eq!(accepted(b"HTTP/1.9 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").version, Version::HTTP_11);
    for version in ["0.9", "2.0", "3.1", "9.9"] {
        refused(VersionUnsupported, format!("HTTP/{version}").as_bytes());
    }
}

#[test]
fn a_status_has_three_digits_and_is_at_least_100() {
    for status in [200, 299, 404, 599, 600, 999] {
        let input = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(accepted(input.as_bytes()).status, status);
    }
    for status in ["000", "001", "099"] {
        refused(StatusInvalid, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[test]
fn lines_of_an_answer_end_in_cr_lf() {
    refused(BareLineFeed, b"HTTP/1.1 200 OK\n");
    refused(BareLineFeed, b"HTTP/1.1 200\n");
    refused(BareLineFeed, b"HTTP/1.1 20\n");
    refused(BareCarriageReturn, b"HTTP/1.1 200 OK\rx");
    refused(BareCarriageReturn, b"HTTP/1.1 200 OK\r\r");
    refused_field(BareLineFeed, "C: d\n");
    refused_field(BareLineFeed, "\n");
    refused_field(BareCarriageReturn, "C: d\re: f\r\n");
    refused_field(BareCarriageReturn, "\rC");
    refused_field(BareCarriageReturn, "C: d\r\r\n");
    refused_field(BareCarriageReturn, "C: d\r\n\r\r");
}

#[test]
fn lines_of_an_answer_have_no_control_bytes() {
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        refused(ControlByte, &[b"HTTP/1.1 200 O", &[byte][..]].concat());
        refused(ControlByte, &[b"HTTP/1.1 200 OK\r\nA: b", &[byte][..]].concat());
        refused(ControlByte, &[b"HTTP/1.1 200 OK\r\n", &[byte][..]].concat());
    }
}

#[test]
fn field_lines_of_an_answer_are_strict() {
    for line in [" C: d", "\tC: d", " ", "\t"] {
        refused_field(FieldLineFolded, &format!("{line}\r\n"));
        refused(FieldLineFolded, format!("HTTP/1.1 200 OK\r\n{line}\r\n").as_bytes());
    }
    refused_field(FieldColonMissing, "C\r\n");
    refused_field(FieldNameSpace, "Content-Length 5\r\n");
    for line in ["C : d", "C\t: d", "Content-Length : 5"] {
        refused_field(FieldNameSpace, &format!("{line}\r\n"));
    }
    refused_field(FieldNameSpace, "C d: e\r\n");
    for line in [": d", "C[: d", "C\u{e9}: d", "\"C\": d", "C,: d", "(:"] {
        refused_field(FieldNameInvalid, &format!("{line}\r\n"));
    }
}

#[test]
fn fields_of_an_answer_come_in_their_order_and_trimmed() {
    let head = head_with("A: 1\r\nb:\t 2 \t \r\nA:3\r\n!#$%&'*+-.^_`|~0: \u{e9}: \"x\"\r\nEmpty:\r\nBlank:  \t\r\n");
    let expected: [(&str, &[u8]); 6] = [
        ("a", b"1"),
        ("b", b"2"),
        ("a", b"3"),
        ("!#$%&'*+-.^_`|~0", "\u{e9}: \"x\"".as_bytes()),
        ("empty", b""),
        ("blank", b""),
    ];
    assert_eq!(head.fields, expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
}

#[test]
fn a_field_is_found_in_letters_of_any_case_and_the_first_one_counts() {
    let input = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx-two: 2\r\nX-TWO: 3\r\n\r\n";
    let (head, _) = ResponseDecoder::default().decode(input, false, &Limits::default()).expect("valid").expect("whole");
    assert_eq!((head.field("x-one"), head.field("X-Two")), (Some(&b"1"[..]), Some(&b"2"[..])));
    assert_eq!((head.field("x"), head.field("x-three"), head.field("")), (None, None, None));
    let names: Vec<&[u8]> = head.fields().map(|field| field.0).collect();
    assert_eq!(names, [&b"X-One"[..], b"x-two", b"X-TWO"], "names are as they were sent");
}

#[test]
fn heads_of_answers_have_a_limit() {
    let fixed = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \r\n\r\n".len();
    let with =
        |bytes: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: {}\r\n\r\n", "x".repeat(bytes - fixed));
    accepted(with(16_384).as_bytes());
    refused(HeadTooLarge, &with(16_385).as_bytes()[..16_384]);
    let status_line = format!("HTTP/1.1 200 {}", "x".repeat(16_384));
    refused(HeadTooLarge, &status_line.as_bytes()[..16_384]);
    // What follows a head counts for nothing.
    let limits = Limits { head_bytes_max: fixed, ..Limits::default() };
    let input = [with(fixed).as_bytes(), &[b'x'; 100]].concat();
    assert!(matches!(&whole(&input, false, limits)[..2], [Event::Head(_), Event::End(_)]));
}

#[test]
fn fields_of_answers_have_a_limit() {
    let limits = Limits { fields_max: 2, ..Limits::default() };
    let head = "HTTP/1.1 204 No Content\r\nA: b\r\nC: d\r\n";
    refused_with(FieldsTooMany, format!("{head}E").as_bytes(), limits);
    assert_eq!(whole(format!("{head}\r\n").as_bytes(), false, limits).len(), 2);
    assert_eq!(whole(format!("{head}E: f\r\n\r\n").as_bytes(), false, limits), [Event::Refused(FieldsTooMany)]);
    let many = |count| format!("HTTP/1.1 204 No Content\r\n{}", "A: b\r\n".repeat(count));
    assert_eq!(accepted(format!("{}\r\n", many(100)).as_bytes()).fields.len(), 100);
    refused(FieldsTooMany, format!("{}A", many(100)).as_bytes());
}

#[test]
fn interim_answers_come_before_the_final_one() {
    let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
        HTTP/1.1 199\r\nContent-Length: 7\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let events = accepted_to(false, input);
    let statuses: Vec<u16> = events
        .iter()
        .filter_map(|event| if let Event::Head(head) = event { Some(head.status) } else { None })
        .collect();
    assert_eq!(statuses, [100, 103, 199, 200]);
    assert_eq!(events[4..], [Event::Data(b"hi".into()), Event::End(vec![])]);
    // One to HEAD has nothing either, but that which follows it.
    accepted_to(true, b"HTTP/1.1 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
}

#[test]
fn switching_protocols_is_no_interim_answer_and_ends_http() {
    let input = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let (head, consumed) =
        ResponseDecoder::default().decode(input, false, &Limits::default()).expect("valid").expect("whole");
    assert_eq!((head.is_interim(), head.keep_alive, consumed), (false, false, input.len()));
    assert_eq!(head.framing, ResponseFraming::NoBody);
}

#[test]
fn an_answer_is_not_copied() {
    let input = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n".to_vec();
    let (head, _) =
        ResponseDecoder::default().decode(&input, false, &Limits::default()).expect("valid").expect("whole");
    let (name, value) = head.fields().next().expect("a field");
    assert_eq!(name.as_ptr().addr() - input.as_ptr().addr(), "HTTP/1.1 200 OK\r\n".len());
    assert_eq!(value.as_ptr().addr() - name.as_ptr().addr(), "Server: ".len());
}
