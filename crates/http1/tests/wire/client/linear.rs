//! Reading an answer is linear in its bytes, however they arrive: shown, not timed, as for requests.

use baiwan_http1::{Limits, ResponseDecoder};

use crate::linear::check_each_byte_is_looked_at_once;

/// Where the reason phrase begins, before which everything is short.
const REASON_START: usize = "HTTP/1.1 200 ".len();

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

fn decode(decoder: &mut ResponseDecoder, input: &[u8]) -> Option<usize> {
    let decoded = decoder.decode(input, false, &Limits::default());
    decoded.expect("no byte is looked at again").map(|(_, consumed)| consumed)
}

#[test]
fn an_answer_one_byte_at_a_time_is_linear() {
    let kept = |line: &[u8]| match line {
        [.., b'\r', b'\n'] => line.len(),
        [b'H', ..] => REASON_START,
        _ => 0,
    };
    for head in heads() {
        assert!((16_200..16_384).contains(&head.len()));
        // No field depends on the status line.
        check_each_byte_is_looked_at_once(&head, ResponseDecoder::default(), decode, kept, b"none does");
    }
}

#[test]
fn what_follows_an_answer_is_not_looked_at() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let followed = [&head[..], b"\0\n\r\0"].concat();
    for first in [1, 10, head.len() - 1, followed.len()] {
        let mut decoder = ResponseDecoder::default();
        let consumed = decode(&mut decoder, &followed[..first]).or_else(|| decode(&mut decoder, &followed));
        assert_eq!(consumed, Some(head.len()));
    }
}
