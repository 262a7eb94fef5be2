//! Request bodies of any framing.
//!
//! However they are cut they are the same; and a chunked body is complete for us where it is for the plain reader in
//! `reference`, with the same data.

use baiwan_http1::{BodyDecoder, BodyEvent, BodyFraming, Limits, Refusal};

use crate::input::{Field, Input, LOOSE, fields_of, is_of_limits};
use crate::reference::{self, Outcome};

/// What one way of cutting leads to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    data: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More is needed.
    More,
    /// With the trailers, and the bytes of the whole body.
    Complete(Vec<Field>, usize),
    Refused(Refusal),
}

/// Checks all that must hold for the body in `data`.
pub fn check(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let framing = framing_of(input.choice);
    let [at_once, byte_by_byte, cut] = input.arrivals();
    let whole = decode(input.wire, framing, &at_once, &input.limits);
    assert_eq!(decode(input.wire, framing, &byte_by_byte, &input.limits), whole, "byte by byte");
    assert_eq!(decode(input.wire, framing, &cut, &input.limits), whole, "cut");
    check_looser(input.wire, framing, &whole);
    match framing {
        BodyFraming::None => assert_eq!(whole, Run { data: vec![], end: End::Complete(vec![], 0) }),
        BodyFraming::Length(length) => check_length(input.wire, length, &whole),
        BodyFraming::Chunked => check_chunked(input.wire, &input.limits, &whole),
    }
}

/// Most inputs are chunked: there is more to find.
fn framing_of(choice: u8) -> BodyFraming {
    match choice {
        0xff => BodyFraming::None,
        0xfe => BodyFraming::Length(i64::MAX as u64),
        0xf0.. => BodyFraming::Length(u64::from(choice - 0xf0)),
        _ => BodyFraming::Chunked,
    }
}

fn decode(wire: &[u8], framing: BodyFraming, arrivals: &[usize], limits: &Limits) -> Run {
    let mut body = BodyDecoder::new(framing);
    let mut data = Vec::new();
    let mut position = 0;
    for &end in arrivals {
        loop {
            let piece = &wire[position..end];
            let step = match body.decode(piece, limits) {
                Ok(step) => step,
                Err(refusal) => {
                    assert!(!body.is_complete());
                    assert_eq!(body.decode(b"0\r\n\r\n", limits).expect_err("for good"), refusal);
                    return Run { data, end: End::Refused(refusal) };
                }
            };
            assert!(step.consumed <= piece.len());
            position += step.consumed;
            assert_eq!(body.remaining_hint().is_some(), framing != BodyFraming::Chunked || body.is_complete());
            match step.event {
                BodyEvent::Data(range) => {
                    assert!(!range.is_empty() && range.end == step.consumed);
                    data.extend_from_slice(&piece[range]);
                }
                BodyEvent::Complete(trailers) => {
                    assert!(body.is_complete());
                    check_completed(&mut body, limits);
                    let trailers = trailers.map(|fields| fields_of(&fields)).unwrap_or_default();
                    return Run { data, end: End::Complete(trailers, position) };
                }
                BodyEvent::More => {
                    assert_eq!(position, end);
                    break;
                }
            }
        }
    }
    assert!(!body.is_complete());
    Run { data, end: End::More }
}

/// After its end a body takes nothing, and has no trailers a second time.
fn check_completed(body: &mut BodyDecoder, limits: &Limits) {
    let step = body.decode(b"GET", limits).expect("complete");
    assert!(matches!((step.consumed, step.event), (0, BodyEvent::Complete(None))));
}

fn check_length(wire: &[u8], length: u64, run: &Run) {
    let expected = usize::try_from(length).map_or(wire.len(), |length| length.min(wire.len()));
    assert_eq!(run.data, wire[..expected]);
    let is_whole = expected as u64 == length;
    assert_eq!(run.end, if is_whole { End::Complete(vec![], expected) } else { End::More });
}

fn check_chunked(wire: &[u8], limits: &Limits, run: &Run) {
    assert!(run.data.len() as u64 <= limits.body_bytes_max);
    match (reference::chunked(wire), &run.end) {
        (Outcome::Complete { data, trailers, consumed }, End::Complete(ours, ours_consumed)) => {
            assert_eq!((&run.data, *ours_consumed), (&data, consumed));
            check_trailers(&trailers, ours, limits);
        }
        (Outcome::Incomplete, End::More | End::Refused(_)) | (Outcome::Wrong, End::Refused(_)) => {}
        (Outcome::Complete { .. }, End::Refused(refusal)) if is_of_limits(*refusal) => {}
        differing => panic!("{differing:?}"),
    }
    let End::Refused(refusal) = run.end else { return };
    for more in [&b"\r\n0\r\n\r\n"[..], b"\n0\r\n\r\n", b"0\r\n\r\n"] {
        let longer = [wire, more].concat();
        assert_eq!(decode(&longer, BodyFraming::Chunked, &[longer.len()], limits), *run);
        let completed = matches!(reference::chunked(&longer), Outcome::Complete { .. });
        assert!(!completed || is_of_limits(refusal), "{refusal:?} of what can be completed");
    }
}

/// Trailers that must not have any effect (RFC 9110 6.5.1).
const NEVER: [&str; 8] =
    ["authorization", "connection", "content-length", "cookie", "expect", "host", "te", "transfer-encoding"];

/// A name is kept or dropped with all of its values.
fn check_trailers(sent: &[Field], kept: &[Field], limits: &Limits) {
    assert!(sent.len() <= limits.fields_max);
    let is_kept = |name: &str| kept.iter().any(|field| field.0 == name);
    let expected: Vec<&Field> = sent.iter().filter(|field| is_kept(&field.0)).collect();
    assert_eq!(kept.iter().collect::<Vec<_>>(), expected);
    assert!(!NEVER.iter().any(|name| is_kept(name)));
    assert!(sent.iter().all(|field| field.0.len() > 1 || is_kept(&field.0)), "no rule drops a name of one byte");
}

/// Limits refuse; they never change what is accepted, or why something else is refused.
fn check_looser(wire: &[u8], framing: BodyFraming, tight: &Run) {
    let loose = decode(wire, framing, &[wire.len()], &LOOSE);
    match tight.end {
        End::Refused(refusal) if is_of_limits(refusal) => assert!(loose.data.starts_with(&tight.data)),
        _ => assert_eq!(loose, *tight),
    }
}
