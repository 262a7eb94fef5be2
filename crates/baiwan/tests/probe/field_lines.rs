//! Field lines: their syntax, and that the app gets what was sent (RFC 9112 5, RFC 9110 5).

use crate::case::{Cases, get};

#[test]
fn row_16_field_lines_end_in_cr_lf() {
    let mut cases = Cases::default();
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\r\n\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\n\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\r\nA: b\nC: d\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\r\nA: b\n\r\n");
    cases.refused_field(400, "A: b\nContent-Length: 5");
    cases.refused_field(400, "A: b\nTransfer-Encoding: chunked");
    cases.run();
}

#[test]
fn row_17_field_lines_have_no_bare_cr() {
    let mut cases = Cases::default();
    for line in [
        "A: b\rc",
        "A: b\rC: d",
        "A: \rb",
        "A\r: b",
        "A:\r b",
        "\rA: b",
        "A: b\r\r",
        "A: b\r ",
        "Content-Length: 5\r",
        "A: b\rHost: other",
    ] {
        cases.refused_field(400, line);
    }
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\r\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost: probe\r\n\r\r\n");
    cases.run();
}

#[test]
fn row_18_field_lines_have_no_control_bytes() {
    let mut cases = Cases::default();
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        cases.refused_field(400, [b"A: b", &[byte][..], b"c"].concat());
        cases.refused_field(400, [b"A", &[byte][..], b"b: c"].concat());
    }
    cases.refused_field(400, "A:\0");
    cases.refused_field(400, "\0: a");
    cases.refused_field(400, "Cookie: a=\0b");
    cases.run();
}

#[test]
fn row_19_field_lines_are_not_folded() {
    let mut cases = Cases::default();
    for line in [
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A: b\r\n ",
        "A:\r\n b",
        "A: b\r\n c: d",
        "A: b\r\n \r\nC: d",
        "Transfer-Encoding:\r\n chunked",
        "Content-Length:\r\n 5",
    ] {
        cases.refused_field(400, line);
    }
    cases.refused(400, "GET / HTTP/1.1\r\nHost:\r\n probe\r\n\r\n");
    cases.run();
}

#[test]
fn row_20_no_white_space_before_a_colon_or_the_first_field_line() {
    let mut cases = Cases::default();
    for line in [
        "A : b",
        "A\t: b",
        "A  : b",
        " : b",
        "\t: b",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "A b: c",
        "A\tb: c",
    ] {
        cases.refused_field(400, line);
    }
    cases.refused(400, "GET / HTTP/1.1\r\n Host: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\n\tHost: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\n \r\nHost: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\n A: b\r\nHost: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\nHost : probe\r\n\r\n");
    cases.run();
}

#[test]
fn row_21_field_names_are_tokens() {
    let mut cases = Cases::default();
    for line in [": b", ":", "A", "A b", "=", "GET / HTTP/1.1", "Content-Length", "Content Length: 5"] {
        cases.refused_field(400, line);
    }
    for byte in b"\"(),/;<=>?@[\\]{}\x80\x85\xa0\xc3\xff" {
        cases.refused_field(400, [b"A", &[*byte][..], b"b: c"].concat());
    }
    cases.refused_field(400, "Content\u{2010}Length: 5");
    cases.refused_field(400, "Transf\u{435}r-Encoding: chunked");
    cases.run();
}

#[test]
fn row_21_underscores_and_hyphens_are_different_names() {
    let mut cases = Cases::default();
    let lines = "X_Real_IP: 1\r\nX-Real-IP: 2\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n";
    let text = "GET /request HTTP/1.1\nhost=[probe]\nx_real_ip=[1]\nx-real-ip=[2]\ncontent_length=[5]\ntransfer_encoding=[chunked]\n";
    cases.answered(&[200], get("/request", lines)).with_body(text);
    cases.run();
}

#[test]
fn field_values_reach_the_app_trimmed_and_otherwise_untouched() {
    let mut cases = Cases::default();
    let mut seen = |lines: &[u8], text: &[u8]| {
        let input = [b"GET /request HTTP/1.1\r\nHost: probe\r\n", lines, b"\r\n"].concat();
        cases.answered(&[200], input).with_body([b"GET /request HTTP/1.1\nhost=[probe]\n", text].concat());
    };
    seen(b"A:b\r\n", b"a=[b]\n");
    seen(b"A:   b   \r\n", b"a=[b]\n");
    seen(b"A:\t b \t\r\n", b"a=[b]\n");
    seen(b"A:\r\n", b"a=[]\n");
    seen(b"A: \t \r\n", b"a=[]\n");
    seen(b"A: b \t c\r\n", b"a=[b \t c]\n");
    seen(b"A: \x80\xff\xc3\xa9\r\n", b"a=[\x80\xff\xc3\xa9]\n");
    seen(b"A: \"b, c\", d:e;f=\"\\\"\"\r\n", b"a=[\"b, c\", d:e;f=\"\\\"\"]\n");
    seen(b"A: b\r\nB: c\r\nA: d\r\n", b"a=[b]\na=[d]\nb=[c]\n");
    seen(b"a-B_c.!#$%&'*+^`|~9: d\r\n", b"a-b_c.!#$%&'*+^`|~9=[d]\n");
    seen(b"Content-Type: a\r\nContent-Type: b\r\n", b"content-type=[a]\ncontent-type=[b]\n");
    seen(
        b"Date: yesterday\r\nRange: lines=1-2\r\nTE: , trailers\r\n",
        b"date=[yesterday]\nrange=[lines=1-2]\nte=[, trailers]\n",
    );
    cases.run();
}
