//! The Host field (RFC 9112 3.2, RFC 9110 7.2).

use crate::case::Cases;

fn with_host(version: &str, host: &str) -> String {
    format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n")
}

#[test]
fn row_22_host_is_there_once() {
    let mut cases = Cases::default();
    cases.refused(400, "GET / HTTP/1.1\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n");
    cases.refused(400, "HEAD / HTTP/1.1\r\n\r\n");
    cases.refused(400, "OPTIONS * HTTP/1.1\r\n\r\n");
    cases.refused(400, "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
    cases.refused(400, "GET / HTTP/1.1\r\nX-Host: probe\r\nHosts: probe\r\nForwarded: host=probe\r\n\r\n");
    for version in ["1.0", "1.1", "1.2"] {
        cases.refused(400, format!("GET / HTTP/{version}\r\nHost: probe\r\nHost: probe\r\n\r\n"));
        cases.refused(400, format!("GET / HTTP/{version}\r\nHost: probe\r\nAccept: */*\r\nhOST: other\r\n\r\n"));
        cases.refused(400, format!("GET / HTTP/{version}\r\nHost: probe\r\nHost:\r\n\r\n"));
        cases.refused(400, format!("GET / HTTP/{version}\r\nHost:\r\nHost: probe\r\n\r\n"));
    }
    cases.run();
}

#[test]
fn row_22_host_is_a_name_or_an_address_and_a_port() {
    let mut cases = Cases::default();
    for host in [
        "",
        " ",
        "\t",
        ",",
        "a,b",
        "a, b",
        "a b",
        "a\tb",
        "user@a",
        "user:word@a",
        "@a",
        "a@",
        "a/",
        "a/b",
        "/",
        "a?b",
        "a#b",
        "a\\b",
        "http://a",
        "http://a/",
        "//a",
        "\"a\"",
        "'a' b",
        "<a>",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
        "a[b]",
        "\u{e9}",
        "a\u{a0}",
    ] {
        for version in ["1.0", "1.1"] {
            cases.refused(400, with_host(version, host));
        }
    }
    cases.refused(400, b"GET / HTTP/1.1\r\nHost: a\xff\r\n\r\n");
    cases.refused(400, b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n");
    cases.refused(400, b"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n");
    cases.run();
}

#[test]
fn row_22_the_port_of_host_is_a_port() {
    let mut cases = Cases::default();
    for host in [
        ":",
        ":80",
        "a:x",
        "a:80x",
        "a:x80",
        "a:-1",
        "a:+1",
        "a: 80",
        "a :80",
        "a:8 0",
        "a:65536",
        "a:99999",
        "a:4294967376",
        "a:18446744073709551696",
        "a:80:",
        "a:80:80",
        "a::80",
        "a:0x50",
        "a:8_0",
        "a:80,b",
        "a:\u{668}",
    ] {
        cases.refused(400, with_host("1.1", host));
    }
    for host in ["a:0", "a:1", "a:80", "a:65535", "a:", "a:00080"] {
        cases.answered(&[200], with_host("1.1", host)).with_body("root");
    }
    cases.run();
}

#[test]
fn row_22_addresses_in_host() {
    let mut cases = Cases::default();
    for host in [
        "[",
        "]",
        "[]",
        "[::1",
        "::1",
        "::1]",
        "[::1]a",
        "[::1]a:80",
        "[::g]",
        "[:::1]",
        "[1:2:3:4:5:6:7:8:9]",
        "[127.0.0.1]",
        "[::1%25lo]",
        "[::1%lo]",
        "[v.a]",
        "[v1.]",
        "[vg.a]",
        "[v1.a/b]",
        "[v1.a]b",
        "[a]",
        "a[::1]",
        "[::1]:x",
        "[::1]::80",
        "[::1]80",
        "[ ::1]",
        "[[::1]]",
        "[::ffff:1.2.3.256]",
    ] {
        cases.refused(400, with_host("1.1", host));
    }
    for host in [
        "[::1]",
        "[::1]:80",
        "[::]",
        "[::]:",
        "[2001:db8::1]:65535",
        "[::ffff:1.2.3.4]",
        "[1:2:3:4:5:6:7:8]",
        "[v1.a]",
        "[vF0.a:b]:80",
        "127.0.0.1",
        "127.0.0.1:80",
        "1",
    ] {
        cases.answered(&[200], with_host("1.1", host)).with_body("root");
    }
    cases.run();
}

#[test]
fn row_22_names_in_host() {
    let mut cases = Cases::default();
    for host in ["%", "a%", "%4", "a%4", "%zz", "a%4g", "%%41"] {
        cases.refused(400, with_host("1.1", host));
    }
    for host in
        ["a", "A.EXAMPLE", "a.", "a_b", "a-b", "xn--nxasmq6b", "a%41", "a~b", "a!b", "*", "a.b.c.d.e", "localhost"]
    {
        cases.answered(&[200], with_host("1.1", host)).with_body("root");
    }
    cases.answered(&[200], "GET / HTTP/1.1\r\nhost:probe\r\n\r\n").with_body("root");
    cases.answered(&[200], "GET / HTTP/1.1\r\nHOST: \t probe \t \r\n\r\n").with_body("root");
    cases.answered(&[200], "GET / HTTP/1.1\r\nAccept: */*\r\nHost: probe\r\n\r\n").with_body("root");
    cases.run();
}
