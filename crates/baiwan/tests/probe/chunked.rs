//! The chunked coding (RFC 9112 7.1).

use crate::case::{Cases, chunked, post};

#[test]
fn chunks_are_decoded() {
    let mut cases = Cases::default();
    let fifteen = "x".repeat(15);
    for (body, text) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
        ("F\r\nxxxxxxxxxxxxxxx\r\n0\r\n\r\n", fifteen.as_str()),
        ("f\r\nxxxxxxxxxxxxxxx\r\n0\r\n\r\n", fifteen.as_str()),
        ("0F\r\nxxxxxxxxxxxxxxx\r\n000\r\n\r\n", fifteen.as_str()),
        ("0000000000000002\r\nhi\r\n0000000000000000\r\n\r\n", "hi"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        (
            "29\r\nGET /smuggled?inner HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
            "GET /smuggled?inner HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        cases.answered(&[200], chunked("/echo", body)).with_body(text);
        cases.answered(&[200], chunked("/stream", body)).with_body(text);
    }
    let long = "x".repeat(100_000);
    cases.answered(&[200], chunked("/echo", format!("{:X}\r\n{long}\r\n0\r\n\r\n", long.len()))).with_body(long);
    cases.run();
}

#[test]
fn row_10_chunk_sizes_that_no_integer_holds() {
    let mut cases = Cases::default();
    for size in [
        "FFFFFFFFFFFFFFFF",
        "8000000000000000",
        "10000000000000000",
        "10000000000000002",
        "00000000000000002",
        "FFFFFFFFFFFFFFFFF",
        "ffffffffffffffff0000000000000002",
        "fffffffffffffffe",
    ] {
        cases.refused_chunks(400, format!("{size}\r\nhi\r\n0\r\n\r\n"));
    }
    cases.run();
}

#[test]
fn row_11_a_chunk_size_is_hexadecimal_digits() {
    let mut cases = Cases::default();
    for size in [
        "", " ", "0x2", "0X2", "x2", "2h", "+2", "-2", "-0", "2_", "0_2", "_2", " 2", "2 ", "\t2", "2\t", "2 2", "2,",
        "2.0", "\"2\"", "g", "\u{662}", "2\0", "\0", "2\x0b", "\x0c2", "2:", "2\u{a0}",
    ] {
        cases.refused_chunks(400, format!("{size}\r\nhi\r\n0\r\n\r\n"));
    }
    // The last one is a chunk as any other.
    for last in ["-0", "0x0", " 0", "0 ", "+0", "", "z"] {
        cases.refused_chunks(400, format!("2\r\nhi\r\n{last}\r\n\r\n"));
    }
    cases.run();
}

#[test]
fn row_12_extensions_are_ignored() {
    let mut cases = Cases::default();
    for extension in [
        ";a",
        ";a=b",
        ";a;b",
        ";a=b;c;d=e",
        ";a=\"\"",
        ";a=\"b\"",
        ";a=\"b c;d=e\tf\"",
        ";a=\"\\\"\"",
        ";a=\"\\\\\"",
        ";a=\"\\b\"",
        ";a=\"b\";c",
        ";0",
        ";!#$%&'*+-.^_`|~=1",
        ";a=\"\u{e9}\"",
        ";a=\"\\\u{e9}\"",
        ";content-length=5",
        // White space around semicolons and equals signs.
        " ;a",
        "\t;a",
        "; a",
        ";\ta",
        ";a =b",
        ";a= b",
        ";a ;b",
        " \t; \ta \t= \tb \t; \tc",
        ";a = \"b\" ; c",
    ] {
        cases.answered(&[200], chunked("/echo", format!("2{extension}\r\nhi\r\n0\r\n\r\n"))).with_body("hi");
        cases.answered(&[200], chunked("/echo", format!("2\r\nhi\r\n0{extension}\r\n\r\n"))).with_body("hi");
    }
    cases.run();
}

#[test]
fn row_12_extensions_have_a_grammar() {
    let mut cases = Cases::default();
    for extension in [
        ";",
        ";;",
        ";a;",
        ";;a",
        ";a;;b",
        ";=",
        ";=b",
        ";a=",
        ";a=;b",
        ";a==b",
        ";a=b=c",
        "; ",
        " ;",
        " ; ;a",
        ";a ",
        ";a\t",
        ";a=b ",
        ";a =",
        ";a= ",
        ";a b",
        ";a=b c",
        ";a \x0b;b",
        ";a[b]",
        ";a=[b]",
        ";a=b,c",
        ";a,b",
        ";(a)",
        ";a/b",
        ";\u{e9}",
        ";a=\u{e9}",
        ";a=\"b",
        ";a=b\"",
        ";a=\"b\"c",
        ";a=\"b\" ",
        ";a=\"b\\",
        ";a=\"b\\\"",
        ";\"a\"",
        ";a=\"b\"\"c\"",
    ] {
        cases.refused_chunks(400, format!("2{extension}\r\nhi\r\n0\r\n\r\n"));
    }
    for byte in [0, 1, 8, 0x0b, 0x0c, 0x1b, 0x1f, 0x7f_u8] {
        for (before, after) in [(";a", ""), (";a=", "b"), (";a=\"", "\""), (";a=\"\\", "\""), (";", "a")] {
            cases.refused_chunks(
                400,
                [b"2", before.as_bytes(), &[byte], after.as_bytes(), b"\r\nhi\r\n0\r\n\r\n"].concat(),
            );
        }
    }
    cases.run();
}

#[test]
fn row_12_extensions_have_no_line_end_inside() {
    let mut cases = Cases::default();
    for extension in [
        ";a\nb",
        ";a\rb",
        ";\n",
        ";\r",
        ";a=\nb",
        ";a=\rb",
        ";a=\"\n\"",
        ";a=\"\r\"",
        ";a=\"\r\nb\"",
        ";a=\"\\\n\"",
        ";a\r\r",
        "\r",
        "\n",
        ";a\r\n b",
    ] {
        cases.refused_chunks(400, format!("2{extension}\r\nhi\r\n0\r\n\r\n"));
    }
    cases.run();
}

#[test]
fn row_12_extensions_are_bounded() {
    let mut cases = Cases::default();
    cases.refused_chunks(400, format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(64 * 1024)));
    cases.refused_chunks(400, format!("2;a=\"{}\"\r\nhi\r\n0\r\n\r\n", "b".repeat(64 * 1024)));
    cases.refused_chunks(400, format!("2{}\r\nhi\r\n0\r\n\r\n", ";a=b".repeat(16 * 1024)));
    cases.refused_chunks(400, format!("2{};a\r\nhi\r\n0\r\n\r\n", " ".repeat(16 * 1024)));
    cases.refused_chunks(400, format!("{}0\r\n\r\n", "1;a\r\nx\r\n".repeat(3000)));
    let wasteful = format!("{}0\r\n\r\n", "0000000000000001\r\nx\r\n".repeat(4000));
    cases.refused_chunks(400, wasteful);
    cases
        .answered(&[200], chunked("/echo", format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(3000))))
        .with_body("x".repeat(3000));
    cases.run();
}

#[test]
fn row_13_a_size_line_that_does_not_end() {
    let mut cases = Cases::default();
    cases.refused_chunks(400, "0".repeat(17));
    cases.refused_chunks(400, "0".repeat(100_000));
    cases.run();
}

#[test]
fn row_14_chunks_end_where_they_say() {
    let mut cases = Cases::default();
    for body in [
        "2\r\nhi0\r\n\r\n",
        "2\r\nhi\n0\r\n\r\n",
        "2\r\nhi\r0\r\n\r\n",
        "2\r\nhi\r\r\n0\r\n\r\n",
        "2\r\nhi \r\n0\r\n\r\n",
        "2\r\nhigh\r\n0\r\n\r\n",
        "2\r\nh\r\n0\r\n\r\n",
        "2\r\nhi\r\n\r\n0\r\n\r\n",
        "2\nhi\n0\n\n",
        "2\r\nhi\r\n0\n\n",
        "2\nhi\r\n0\r\n\r\n",
        "2\rhi\r\n0\r\n\r\n",
        "\r\n2\r\nhi\r\n0\r\n\r\n",
        "hi",
        "{}\r\n",
    ] {
        cases.refused_chunks(400, body);
    }
    cases.run();
}

#[test]
fn row_15_trailers_reach_the_app_but_those_that_would_change_the_head() {
    let mut cases = Cases::default();
    for (lines, text) in [
        ("A: b\r\n", "a=[b]\n"),
        ("A:b\r\nC: \t d \r\n", "a=[b]\nc=[d]\n"),
        ("A:\r\n", "a=[]\n"),
        ("Content-Length: 5\r\nA: b\r\n", "a=[b]\n"),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Host: other\r\nhost: another\r\n", ""),
        ("Authorization: Basic a\r\nCookie: a=b\r\nSet-Cookie: a=b\r\n", ""),
        ("Content-Type: a/b\r\nContent-Encoding: gzip\r\nContent-Range: a\r\nTrailer: a\r\n", ""),
        (
            "Connection: close\r\nUpgrade: a\r\nTE: a\r\nExpect: a\r\nRange: a\r\nIf-Match: a\r\nCache-Control: a\r\n",
            "",
        ),
        ("X-Forwarded-For: 1.2.3.4\r\nForwarded: for=a\r\nX-Real-IP: 1.2.3.4\r\n", ""),
    ] {
        cases.answered(&[200], chunked("/trailers", format!("2\r\nhi\r\n0\r\n{lines}\r\n"))).with_body(text);
        let with_trailer =
            post("/trailers", "Transfer-Encoding: chunked\r\nTrailer: a\r\n", &format!("0\r\n{lines}\r\n"));
        cases.answered(&[200], with_trailer).with_body(text);
    }
    cases.run();
}

#[test]
fn row_15_trailers_have_the_syntax_and_the_limits_of_fields() {
    let mut cases = Cases::default();
    for lines in [
        "A: b\n",
        "A\r\n",
        ": b\r\n",
        "A : b\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\rc\r\n",
        "A: b\0\r\n",
        "A(: b\r\n",
        "A: b\x7f\r\n",
        "\u{e9}: b\r\n",
        "\n",
        "\r",
        " \r\n",
        "GET /smuggled?inner HTTP/1.1\r\n",
    ] {
        cases.refused_chunks(400, format!("0\r\n{lines}\r\n"));
    }
    cases.refused_chunks(431, format!("0\r\n{}\r\n", "A: b\r\n".repeat(101)));
    cases.refused_chunks(431, format!("0\r\n{}\r\n", "Host: b\r\n".repeat(10_000)));
    cases.refused_chunks(431, format!("0\r\nA: {}\r\n\r\n", "b".repeat(20_000)));
    cases.answered(&[200], chunked("/echo", format!("0\r\n{}\r\n", "A: b\r\n".repeat(100)))).with_body("");
    cases.run();
}

#[test]
fn an_answer_that_streams_is_cut_when_its_request_turns_out_wrong() {
    let mut dialogue = crate::wire::Dialogue::new();
    dialogue.send(&post("/stream", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n"));
    // The answer has begun when this comes.
    let head = dialogue.head();
    assert_eq!((head.status, head.field("transfer-encoding")), (200, Some("chunked")));
    dialogue.expect("2\r\nhi\r\n");
    dialogue.send("zz\r\nGET /smuggled HTTP/1.1\r\nHost: probe\r\n\r\n");
    assert_eq!(dialogue.rest(), b"", "no last chunk, no other answer");
}

#[test]
fn a_request_has_one_answer_though_its_body_turns_out_wrong_behind_it() {
    let mut dialogue = crate::wire::Dialogue::new();
    dialogue.send(&post("/ignore", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n"));
    let answer = dialogue.head();
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("7")));
    dialogue.expect("ignored");
    dialogue.send("zz\r\nGET /smuggled HTTP/1.1\r\nHost: probe\r\n\r\n");
    assert_eq!(dialogue.rest().escape_ascii().to_string(), "");
}
