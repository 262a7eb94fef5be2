//! Work is linear in the bytes, however they arrive. Counted, not timed.

use baiwan_http1::{HeadDecoder, Limits};
use proptest::prelude::*;

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

/// Heads of exactly 16 KiB, with a target and lines of any lengths.
fn head_of_16_kib() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec((1..400_usize, 0..1500_usize), 0..98);
    (0..8000_usize, lines).prop_map(|(target, lines)| {
        let mut head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "t".repeat(target));
        for (name, value) in lines {
            let line = format!("{}:{}\r\n", "n".repeat(name), "v".repeat(value));
            if head.len() + line.len() + "n:\r\n\r\n".len() <= 16_384 {
                head += &line;
            }
        }
        // What is left becomes a name, whose bytes are looked at once more than any others.
        let left = 16_384 - head.len() - ":\r\n\r\n".len();
        (head + &"n".repeat(left) + ":\r\n\r\n").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_40_16_kib_in_pieces_of_one_byte_examine_at_most_3_times_the_bytes_of_one_piece(
        head in head_of_16_kib(),
        size in 2..16_384_usize,
    ) {
        let limits = Limits::default();
        let whole = examined(&head, head.len(), &limits);
        prop_assert_eq!(whole, 16_384);
        let single = examined(&head, 1, &limits);
        prop_assert!(single <= 3 * whole, "{} of {}", single, whole);
        // The first piece may be looked at once more, in the hope that it is whole.
        let pieces = examined(&head, size, &limits);
        prop_assert!(pieces <= 3 * whole + size as u64, "{} of {} in pieces of {}", pieces, whole, size);
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
