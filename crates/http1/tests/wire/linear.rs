//! Work is linear in the bytes, however they arrive: shown, not timed.
//!
//! A byte that was looked at is overwritten with NUL, which is wrong everywhere in a head. A decoder that looks at it again refuses
//! it, so one that still waits for more has not. A byte may be looked at three times in all: when it arrives, at the end of its
//! line, and at the end of the head.

use std::fmt::Debug;

use baiwan_http1::{FIELDS_CEILING, HEAD_BYTES_CEILING, HeadDecoder, Limits};
use proptest::prelude::*;

/// The last bytes may be looked at again: a CR with what follows it, and the major version with the minor one, two bytes later.
const RECENT: usize = 3;

/// Gives `head` to a decoder byte by byte, and to a copy of it at each step with all overwritten that it must not look at again.
/// `decode` returns what there is of a head, or None where it waits for more. `kept(line)` is how many bytes at the start of a
/// line that has no end yet may be looked at again and again, because they decide what the others mean.
///
/// At the end of a line, that line is as it was sent, and the first one is if the other begins with `names_first`.
pub(crate) fn check_each_byte_is_looked_at_once<D: Clone, T: PartialEq + Debug>(
    head: &[u8],
    mut decoder: D,
    decode: impl Fn(&mut D, &[u8]) -> Option<T>,
    kept: impl Fn(&[u8]) -> usize,
    names_first: &[u8],
) {
    let mut worn = Vec::with_capacity(head.len());
    let (mut line_start, mut first_end) = (0, 0);
    for (index, &byte) in head.iter().enumerate().take(head.len() - 1) {
        let line = &head[line_start..=index];
        let taken = line.len().saturating_sub(RECENT);
        worn.truncate(line_start);
        worn.extend_from_slice(line);
        let kept = kept(line).min(taken);
        worn[line_start + kept..line_start + taken].fill(0);
        let needs_first = byte == b'\n' && line.starts_with(names_first);
        if needs_first {
            worn[..first_end].copy_from_slice(&head[..first_end]);
        }
        assert_eq!(decode(&mut decoder.clone(), &worn), None, "byte {index} of {:?}", head.escape_ascii().to_string());
        assert_eq!(decode(&mut decoder, &head[..=index]), None, "it is not complete");
        if needs_first {
            worn[..first_end].fill(0);
        }
        if byte == b'\n' {
            worn[line_start..].fill(0);
            line_start = index + 1;
            first_end = if first_end == 0 { line_start } else { first_end };
        }
    }
    assert!(decode(&mut decoder, head).is_some(), "it is complete");
}

/// The bytes of a request that may be looked at again before its line ends: of the request line the method and the first byte of
/// the target, which decide what the target may be, and the whole line where the target ends; and all at the end of any line.
fn kept_of_request(line: &[u8]) -> usize {
    if line.ends_with(b"\r\n") || (line.starts_with(b"GET /") || line.starts_with(b"OPTIONS /")) && line.ends_with(b" ")
    {
        return line.len();
    }
    if line.starts_with(b"GET ") || line.starts_with(b"OPTIONS ") { "OPTIONS /".len() } else { 0 }
}

fn check_request(head: &[u8], limits: &Limits) {
    let decode = |decoder: &mut HeadDecoder, input: &[u8]| {
        decoder.decode(input, limits).expect("no byte is looked at again").map(|(_, consumed)| consumed)
    };
    check_each_byte_is_looked_at_once(head, HeadDecoder::default(), decode, kept_of_request, b"Host:");
}

/// Heads that come close to a limit: one long line, many lines, a long target.
fn heads(limits: &Limits) -> Vec<Vec<u8>> {
    let bytes = limits.head_bytes_max;
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    let one_line = format!("{start}A: {}\r\n\r\n", "x".repeat(bytes - start.len() - 7));
    let half = (bytes / limits.fields_max - 5) / 2;
    let line = format!("{}: {}\r\n", "n".repeat(half), "v".repeat(half));
    let many_lines = format!("{start}{}\r\n", line.repeat(limits.fields_max - 1));
    let target = "x".repeat(limits.target_bytes_max - 1);
    let target = format!("OPTIONS /{target} HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "y".repeat(bytes / 2 - 100));
    [one_line, many_lines, target].map(String::into_bytes).into()
}

#[test]
fn row_40_one_byte_at_a_time_is_linear() {
    let greatest = Limits {
        head_bytes_max: HEAD_BYTES_CEILING,
        target_bytes_max: HEAD_BYTES_CEILING / 2,
        fields_max: FIELDS_CEILING,
        ..Limits::default()
    };
    for limits in [Limits::default(), greatest] {
        for head in heads(&limits) {
            assert!(head.len() > limits.head_bytes_max * 9 / 10 && head.len() <= limits.head_bytes_max);
            check_request(&head, &limits);
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
        // What is left becomes a name.
        let left = 16_384 - head.len() - ":\r\n\r\n".len();
        (head + &"n".repeat(left) + ":\r\n\r\n").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_40_16_kib_in_pieces_of_one_byte_examine_at_most_3_times_the_bytes_of_one_piece(head in head_of_16_kib()) {
        check_request(&head, &Limits::default());
    }
}

#[test]
fn what_follows_a_head_is_not_looked_at() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let followed = [&head[..], b"\0\n\r\0"].concat();
    for first in [1, 10, head.len() - 1, followed.len()] {
        let mut decoder = HeadDecoder::default();
        let decoded = decoder.decode(&followed[..first], &Limits::default()).expect("valid");
        let decoded = decoded.or_else(|| decoder.decode(&followed, &Limits::default()).expect("valid"));
        assert_eq!(decoded.map(|(_, consumed)| consumed), Some(head.len()));
    }
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
