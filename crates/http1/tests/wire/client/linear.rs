//! Reading an answer is linear in its bytes, however they arrive. Counted, not timed.

use baiwan_http1::{Limits, ResponseDecoder};

/// Bytes examined for `head`, which must be complete, in pieces of `size`.
fn examined(head: &[u8], size: usize) -> u64 {
    let mut decoder = ResponseDecoder::default();
    let mut end = 0;
    loop {
        end = (end + size).min(head.len());
        match decoder.decode(&head[..end], false, &Limits::default()).expect("valid") {
            Some((_, consumed)) => {
                assert_eq!((consumed, end), (head.len(), head.len()));
                return decoder.bytes_examined();
            }
            None => assert!(end < head.len(), "incomplete"),
        }
    }
}

/// Heads of almost 16 KiB: a long reason, one long line, one long name, many lines, and one that `httparse` does not take.
fn heads() -> Vec<Vec<u8>> {
    let long = "x".repeat(16_300);
    let line = format!("{}: {}\r\n", "n".repeat(80), "v".repeat(80));
    let heads = [
        format!("HTTP/1.1 200 {long}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nA: {long}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{long}: a\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(99)),
        format!("HTTP/1.9 200 OK\r\nA: {long}\r\n\r\n"),
    ];
    heads.map(String::into_bytes).into()
}

#[test]
fn an_answer_one_byte_at_a_time_is_linear() {
    for head in heads() {
        let length = head.len() as u64;
        assert!((16_200..16_384).contains(&length));
        let later_version = head.starts_with(b"HTTP/1.9");
        assert_eq!(examined(&head, 1 << 20) == length, !later_version, "one pass, where nothing is unusual");
        for size in [1, 2, 3, 7, 100, 4096, 16_200, 1 << 20] {
            let pieces = examined(&head, size);
            assert!(pieces <= 3 * length, "{pieces} of {length} in pieces of {size}");
        }
    }
}

#[test]
fn what_follows_an_answer_is_not_counted() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let pipelined = head.repeat(100);
    let mut decoder = ResponseDecoder::default();
    let mut rest = &pipelined[..];
    while !rest.is_empty() {
        let (_, consumed) = decoder.decode(rest, false, &Limits::default()).expect("valid").expect("complete");
        rest = &rest[consumed..];
    }
    assert_eq!(decoder.bytes_examined(), pipelined.len() as u64);
}
