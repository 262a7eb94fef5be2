//! Where a body ends: Content-Length and Transfer-Encoding (RFC 9112 6).

use crate::case::{Cases, chunked, get, post};

const INNER: &str = "GET /smuggled?inner HTTP/1.1\r\nHost: probe\r\n\r\n";

#[test]
fn row_01_length_and_transfer_encoding_together() {
    let mut cases = Cases::default();
    let chunks = "0\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nA: b\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding:\r\n",
        "content-length: 5\r\ntransfer-encoding: CHUNKED\r\n",
    ] {
        cases.refused(400, post("/echo", lines, chunks));
    }
    let chunk = format!("0\r\n\r\n{INNER}");
    let lines = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunk.len());
    cases.refused(400, post("/echo", &lines, &chunk));
    cases.refused(400, format!("GET / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    cases.run();
}

#[test]
fn row_02_obfuscated_transfer_encoding() {
    let mut cases = Cases::default();
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "chunked, chunked",
        "chunked;q=1",
        "chunked;",
        "chunked ;a=b",
        ",chunked",
        "chunked,",
        ",",
        "",
        " ",
        "identity",
        "\"chunked\"",
        "'chunked'",
        "\tchunked",
        "chunked\t",
        "chunk ed",
        "chunked chunked",
        "chunked\u{a0}",
        "chun\u{212a}ed",
        "chunked=a",
        "[chunked]",
        "chunked\\",
        "(chunked)",
        "chunked#",
    ] {
        cases.refused_field(400, format!("Transfer-Encoding: {value}"));
    }
    for byte in [0, 0x0b, 0x0c, 0x1f, 0x7f_u8] {
        cases.refused_field(400, [b"Transfer-Encoding: ", &[byte][..], b"chunked"].concat());
        cases.refused_field(400, [b"Transfer-Encoding: chunked", &[byte][..]].concat());
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    ] {
        cases.refused_field(400, lines);
    }
    for value in ["chunked", "Chunked", "CHUNKED", "chunKed", " chunked  "] {
        let input = post("/echo", &format!("tRANSFER-encoding:{value}\r\n"), "2\r\nhi\r\n0\r\n\r\n");
        cases.answered(&[200], input).with_body("hi");
    }
    cases.run();
}

#[test]
fn row_03_unknown_codings() {
    let mut cases = Cases::default();
    for value in ["gzip, chunked", "identity, chunked", "deflate,gzip , chunked", "x, Chunked"] {
        cases.refused_field(501, format!("Transfer-Encoding: {value}"));
    }
    for lines in ["gzip\r\nTransfer-Encoding: chunked", "identity\r\nA: b\r\ntransfer-encoding: x, chunked"] {
        cases.refused_field(501, format!("Transfer-Encoding: {lines}"));
    }
    for value in ["gzip,, chunked", "g[zip, chunked", "gzip;q=1, chunked"] {
        cases.refused_field(400, format!("Transfer-Encoding: {value}"));
    }
    cases.run();
}

#[test]
fn row_04_chunked_is_last() {
    let mut cases = Cases::default();
    for value in ["gzip", "chunked, gzip", "gzip, chunked, identity", "gzip, chunked, chunked", "compress, deflate"] {
        cases.refused_field(400, format!("Transfer-Encoding: {value}"));
        if value.contains(',') {
            cases.refused_field(400, format!("Transfer-Encoding: {}", value.replace(", ", "\r\nTransfer-Encoding: ")));
        }
    }
    cases.run();
}

#[test]
fn row_05_no_transfer_encoding_in_http_1_0() {
    let mut cases = Cases::default();
    for value in ["chunked", "identity", "gzip, chunked"] {
        cases.refused(400, format!("POST /echo HTTP/1.0\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n"));
    }
    cases.refused(400, "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    cases.run();
}

#[test]
fn row_06_row_07_one_length() {
    let mut cases = Cases::default();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nA: b\r\ncontent-length: 6",
        "Content-Length: 5\r\nContent-Length:",
        "Content-Length: 5, 6",
        "Content-Length: 5, 5",
        "Content-Length: 5,5",
        "Content-Length: 5,",
        "Content-Length: ,5",
    ] {
        cases.refused_field(400, lines);
    }
    cases.run();
}

#[test]
fn row_08_a_length_is_digits() {
    let mut cases = Cases::default();
    for value in [
        "", " ", "+5", "-1", "-0", "+0", "0x5", "0o5", "0b1", "5 5", "1_0", "5;", "5;a=b", "005", "00", "05", "5.0",
        "5e1", "5.", ".5", "\"5\"", "'5'", "a", "5a", "a5", "\u{ff15}", "\u{665}", "five", "\t5", "5\t", "5\u{a0}",
        "NaN", "Infinity", "~5", "5%", "(5)", "5#",
    ] {
        cases.refused_field(400, format!("Content-Length: {value}"));
    }
    for byte in [0, 0x0b, 0x0c, 0x7f_u8] {
        cases.refused_field(400, [b"Content-Length: ", &[byte][..], b"5"].concat());
        cases.refused_field(400, [b"Content-Length: 5", &[byte][..]].concat());
    }
    cases.run();
}

#[test]
fn row_09_lengths_that_no_integer_holds() {
    let mut cases = Cases::default();
    for value in [
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "36893488147419103237",
        "99999999999999999999",
        "4294967296000000000000000000005",
        "340282366920938463463374607431768211461",
    ] {
        cases.refused_field(400, format!("Content-Length: {value}"));
    }
    cases.refused_field(400, format!("Content-Length: 1{}", "0".repeat(1000)));
    cases.run();
}

#[test]
fn bodies_of_known_length_are_read_to_their_end() {
    let mut cases = Cases::default();
    let long = "x".repeat(70_000);
    for body in ["h", "hello", "0\r\n\r\n", "\r\n", "\r\n\r\n", INNER, &long] {
        for value in [format!("{}", body.len()), format!("  {} ", body.len())] {
            let input = post("/echo", &format!("Content-Length:{value}\r\n"), body);
            cases.answered(&[200], input).with_body(body);
        }
        let input = post("/stream", &format!("Content-Length: {}\r\n", body.len()), body);
        cases.answered(&[200], input).with_body(body);
    }
    cases.answered(&[200], post("/echo", "Content-Length: 0\r\n", "")).with_body("");
    cases.answered(&[200], post("/echo", "", "")).with_body("");
    cases.run();
}

#[test]
fn any_method_may_have_a_body() {
    let mut cases = Cases::default();
    for method in ["GET", "DELETE", "OPTIONS", "PUT", "PATCH", "FOO", "TRACE"] {
        let text = format!("{method} /request HTTP/1.1\nhost=[probe]\ncontent-length=[{}]\n{INNER}", INNER.len());
        let input =
            format!("{method} /request HTTP/1.1\r\nHost: probe\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len());
        cases.answered(&[200], input).with_body(text);
        let text = format!("{method} /request HTTP/1.1\nhost=[probe]\ntransfer-encoding=[chunked]\nhi");
        let input = format!(
            "{method} /request HTTP/1.1\r\nHost: probe\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        );
        cases.answered(&[200], input).with_body(text);
    }
    cases.answered(
        &[200],
        format!("HEAD /request HTTP/1.1\r\nHost: probe\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len()),
    );
    cases.run();
}

#[test]
fn row_28_garbage_after_a_body_is_refused() {
    // The body is complete and answered; what is behind it is the next request, and it is wrong.
    for garbage in ["x\r\n", "\0", "{\"a\":1}\r\n", "\n", " ", "0\r\n\r\n"] {
        for request in [
            get("/", ""),
            post("/echo", "Content-Length: 4\r\n", "root"),
            post("/echo", "Transfer-Encoding: chunked\r\n", "4\r\nroot\r\n0\r\n\r\n"),
        ] {
            let (received, seen) = crate::wire::exchange(
                format!("{request}{garbage}{INNER}").as_bytes(),
                crate::wire::Way::Whole,
                &mut crate::wire::Fence::new(),
            );
            let answers = crate::wire::read_answers(&received, &[]).unwrap();
            let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!((statuses, seen.len()), (vec![200, 400], 1), "{garbage:?} behind {request:?}");
            assert!(answers[0].body == b"root" && answers[1].says_close());
        }
    }
}

#[test]
fn row_29_a_body_that_nobody_reads_is_never_a_request() {
    let mut cases = Cases::default();
    for body in [INNER.to_owned(), INNER.repeat(100), "x".repeat(60_000)] {
        let length = format!("Content-Length: {}\r\n", body.len());
        for path in ["/ignore", "/empty/204", "/status/404", "/nowhere", "/slow", "/chunks"] {
            let input = post(path, &length, &body);
            cases.answered(&[200, 204, 404], input);
        }
        cases.answered(&[405], post("/smuggled?outer", &length, &body));
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        cases.answered(&[200], chunked("/ignore", chunks)).with_body("ignored");
    }
    // Longer than is worth reading: the connection ends instead, and the answer says so.
    let body = INNER.repeat(4000);
    cases
        .answered_last(&[200], post("/ignore", &format!("Content-Length: {}\r\n", body.len()), &body))
        .with_body("ignored");
    cases.run();
}

#[test]
fn a_body_that_breaks_off_is_never_complete() {
    for request in [
        post("/echo", "Content-Length: 10\r\n", "hello"),
        post("/echo", "Content-Length: 1\r\n", ""),
        post("/echo", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        post("/echo", "Transfer-Encoding: chunked\r\n", "5\r\nhel"),
        post("/echo", "Transfer-Encoding: chunked\r\n", "0\r\n"),
        post("/echo", "Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n"),
        post("/echo", "Transfer-Encoding: chunked\r\n", ""),
        "GET / HTTP/1.1\r\nHost: pro".to_owned(),
        "GET / HTTP/1.1\r\nHost: probe\r\n".to_owned(),
        "GET /".to_owned(),
        String::new(),
    ] {
        let (received, _) = crate::wire::exchange_cut_off(request.as_bytes());
        let answers = crate::wire::read_answers(&received, &[]).unwrap();
        assert!(answers.iter().all(|answer| answer.status == 400), "{request:?}: {answers:?}");
    }
}
