//! Work is linear in the bytes, however they arrive. Counted, not timed.

use baiwan_http1::{HeadDecoder, Limits};

/// Bytes examined for `head`, which must be complete, in pieces of `size`.
fn examined(head: &[u8], size: usize, limits: &Limits) -> u64 {
    let mut decoder = HeadDecoder::default();
    let mut end = 0;
    loop {
        end = (end + size).min(head.len());
        match decoder.decode(&head[..end], limits).expect("valid") {
            Some((_, consumed)) => {
                assert_eq!((consumed, end), (head.len(), head.len()));
                return decoder.bytes_examined();
            }
            None => assert!(end < head.len(), "incomplete"),
        }
    }
}

/// Heads of 16 KiB: one long line, many lines, a long target.
fn heads() -> Vec<Vec<u8>> {
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    let one_line = format!("{start}A: {}\r\n\r\n", "x".repeat(16_384 - start.len() - 7));
    let line = format!("{}: {}\r\n", "n".repeat(80), "v".repeat(80));
    let many_lines = format!("{start}{}\r\n", line.repeat(99));
    let target = format!("OPTIONS /{} HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(8191), "y".repeat(8_000));
    [one_line, many_lines, target].map(String::into_bytes).into()
}

#[test]
fn row_40_one_byte_at_a_time_is_linear() {
    let limits = Limits { head_bytes_max: 17_000, ..Limits::default() };
    for head in heads() {
        assert!(head.len() > 16_000 && head.len() < 17_000);
        let whole = examined(&head, 1 << 20, &limits);
        assert_eq!(whole, head.len() as u64);
        for size in [1, 2, 3, 7, 100, 4096] {
            let pieces = examined(&head, size, &limits);
            assert!(pieces <= 3 * whole, "{pieces} of {whole} in pieces of {size}");
        }
    }
}

#[test]
fn what_follows_a_head_is_not_counted() {
    let limits = Limits::default();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let pipelined = head.repeat(100);
    let mut decoder = HeadDecoder::default();
    let mut rest = &pipelined[..];
    while !rest.is_empty() {
        let (_, consumed) = decoder.decode(rest, &limits).expect("valid").expect("complete");
        rest = &rest[consumed..];
    }
    assert_eq!(decoder.bytes_examined(), pipelined.len() as u64);
}

#[test]
fn target_and_values_share_one_copy_of_the_head() {
    let head = b"GET /target HTTP/1.1\r\nHost: a.example\r\nAccept: text/html\r\n\r\n";
    let mut decoder = HeadDecoder::default();
    let (decoded, _) = decoder.decode(head, &Limits::default()).expect("valid").expect("complete");
    let target = decoded.request.uri().path().as_ptr().addr();
    let value = |name: &str| decoded.request.headers()[name].as_bytes().as_ptr().addr();
    let position = |text: &str| String::from_utf8_lossy(head).find(text).expect("it is there");
    assert_eq!(value("host") - target, position("a.example") - position("/target"));
    assert_eq!(value("accept") - target, position("text/html") - position("/target"));
}
