//! Answers as a client reads them, heads and bodies, one after the other until the stream ends.
//!
//! However they are cut they are the same; and what is accepted means to `httparse`, and to somebody who only reads the
//! lines, what it means to us.

use baiwan_http1::{
    BodyDecoder, BodyEvent, FIELDS_CEILING, Limits, Refusal, ResponseDecoder, ResponseFraming, ResponseHead,
    ResponseRefusal,
};

use crate::input::{Field, Input, fields_of};
use crate::reference;

/// What one way of cutting leads to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    answers: Vec<Answer>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The stream ended between two answers, or in a head.
    Between,
    /// The stream ended in a body, which was whole or not.
    InBody(bool),
    HeadRefused(ResponseRefusal),
    BodyRefused(Refusal),
}

/// An answer in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Where the head stands in the wire.
    bytes: (usize, usize),
    status: u16,
    is_1_0: bool,
    is_interim: bool,
    fields: Vec<Field>,
    framing: ResponseFraming,
    keep_alive: bool,
    data: Vec<u8>,
    /// Where the body ends, once it is complete.
    trailers: Option<(Vec<Field>, usize)>,
}

impl Answer {
    fn of(head: &ResponseHead<'_>, bytes: (usize, usize)) -> Answer {
        let lower = |name: &[u8]| String::from_utf8(name.to_ascii_lowercase()).expect("a token");
        Answer {
            bytes,
            status: head.status.as_u16(),
            is_1_0: head.version == http::Version::HTTP_10,
            is_interim: head.is_interim(),
            fields: head.fields().map(|(name, value)| (lower(name), value.to_vec())).collect(),
            framing: head.framing,
            keep_alive: head.keep_alive,
            data: Vec::new(),
            trailers: None,
        }
    }
}

/// Checks all that must hold for the answers in `data`, to requests of HEAD where the choice is odd.
pub fn check(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let head_request = input.choice & 1 != 0;
    let [at_once, byte_by_byte, cut] = input.arrivals();
    let whole = decode(input.wire, head_request, &at_once, &input.limits);
    let single = decode(input.wire, head_request, &byte_by_byte, &input.limits);
    assert_eq!(single, whole, "byte by byte");
    assert_eq!(decode(input.wire, head_request, &cut, &input.limits), whole, "cut");
    for answer in &whole.answers {
        check_answer(input.wire, answer, head_request, &input.limits);
    }
}

/// Decodes all of `wire`.
fn decode(wire: &[u8], head_request: bool, arrivals: &[usize], limits: &Limits) -> Run {
    let mut heads = ResponseDecoder::default();
    let mut body: Option<BodyDecoder> = None;
    let mut answers = Vec::new();
    let mut position = 0;
    for &end in arrivals {
        loop {
            let piece = &wire[position..end];
            let step = match &mut body {
                Some(decoder) => decode_body(decoder, piece, position, limits, answers.last_mut().expect("its head")),
                None => match heads.decode(piece, head_request, limits) {
                    Ok(Some((head, consumed))) => {
                        assert!(consumed > 0 && consumed <= piece.len());
                        answers.push(Answer::of(&head, (position, position + consumed)));
                        body = (!head.is_interim()).then(|| BodyDecoder::for_response(head.framing));
                        position += consumed;
                        continue;
                    }
                    Ok(None) => break,
                    Err(refusal) => Err(End::HeadRefused(refusal)),
                },
            };
            match step {
                Ok(consumed) => position += consumed,
                Err(end) => return Run { answers, end },
            }
            if body.as_ref().is_some_and(BodyDecoder::is_complete) {
                body = None;
            } else if position == end {
                break;
            }
        }
    }
    let end = body.map_or(End::Between, |mut body| End::InBody(body.end_of_stream()));
    Run { answers, end }
}

/// One step of a body that begins before `position`: how many bytes of `piece` it took.
fn decode_body(
    body: &mut BodyDecoder,
    piece: &[u8],
    position: usize,
    limits: &Limits,
    answer: &mut Answer,
) -> Result<usize, End> {
    let step = match body.decode(piece, limits) {
        Ok(step) => step,
        Err(refusal) => {
            assert!(!body.end_of_stream() && !body.is_complete());
            return Err(End::BodyRefused(refusal));
        }
    };
    assert!(step.consumed <= piece.len());
    match step.event {
        BodyEvent::Data(range) => answer.data.extend_from_slice(&piece[range]),
        BodyEvent::More => assert!(step.consumed == piece.len() && !body.is_complete()),
        BodyEvent::Complete(trailers) => {
            assert!(body.end_of_stream());
            let trailers = trailers.map(|fields| fields_of(&fields)).unwrap_or_default();
            answer.trailers = Some((trailers, position + step.consumed));
        }
    }
    Ok(step.consumed)
}

/// What was accepted, by two other readers.
fn check_answer(wire: &[u8], answer: &Answer, head_request: bool, limits: &Limits) {
    let message = &wire[answer.bytes.0..answer.bytes.1];
    assert!(message.len() <= limits.head_bytes_max);
    let mut lines = reference::lines(message);
    assert_eq!((lines.pop(), lines.pop()), (Some(&b""[..]), Some(&b""[..])), "it ends in an empty line");
    assert!(lines.iter().all(|line| !line.is_empty()), "and has no other");
    let fields: Vec<Field> = lines[1..].iter().map(|line| reference::field(line).expect("a field line")).collect();
    assert!(fields.len() <= limits.fields_max);
    assert_eq!(fields, answer.fields);
    check_status_line(lines[0], answer);
    check_meaning(&fields, answer, head_request, limits);
    check_httparse(message, answer);
}

fn check_status_line(line: &[u8], answer: &Answer) {
    assert!(line.starts_with(b"HTTP/1.") && line[7].is_ascii_digit() && line[8] == b' ');
    assert_eq!(line[7] == b'0', answer.is_1_0);
    assert_eq!(str::from_utf8(&line[9..12]).expect("digits"), answer.status.to_string());
    assert!(line.len() == 12 || line[12] == b' ');
    assert_eq!(answer.is_interim, line[9] == b'1' && answer.status != 101);
}

/// Framing and persistence, from status and fields alone.
fn check_meaning(fields: &[Field], answer: &Answer, head_request: bool, limits: &Limits) {
    let values =
        |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| &field.1[..]).collect::<Vec<_>>();
    let (codings, lengths) = (values("transfer-encoding"), values("content-length").join(&b','));
    let mut lengths: Vec<&str> =
        lengths.split(|&byte| byte == b',').map(|digits| str::from_utf8(digits).expect("digits").trim()).collect();
    lengths.dedup();
    let length = match lengths[..] {
        [""] => None,
        [digits] => Some(digits.parse::<u64>().expect("a number")),
        _ => panic!("{lengths:?}"),
    };
    assert!(codings.is_empty() || length.is_none() && !answer.is_1_0 && codings.len() == 1);
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")));
    let framing = match (answer.status, length) {
        _ if head_request => ResponseFraming::NoBody,
        (100..=199 | 204 | 304, _) => ResponseFraming::NoBody,
        _ if !codings.is_empty() => ResponseFraming::Chunked,
        (_, Some(length)) => ResponseFraming::Length(length),
        (_, None) => ResponseFraming::UntilClose,
    };
    assert_eq!(answer.framing, framing);
    let options = values("connection").join(&b',');
    let has = |option: &str| {
        options.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    let ends = framing == ResponseFraming::UntilClose || answer.status == 101;
    assert_eq!(answer.keep_alive, !ends && !has("close") && (!answer.is_1_0 || has("keep-alive")));
    assert!(answer.data.len() as u64 <= limits.body_bytes_max);
    if let (ResponseFraming::Length(length), Some((trailers, end))) = (framing, &answer.trailers) {
        assert!(trailers.is_empty() && *end as u64 == answer.bytes.1 as u64 + length);
    }
    assert!(framing != ResponseFraming::UntilClose || answer.trailers.is_none(), "only the end of the stream ends it");
}

fn check_httparse(message: &[u8], answer: &Answer) {
    let mut message = message.to_vec();
    // httparse knows no version later than 1.1, which is read as 1.1.
    if !answer.is_1_0 {
        message[7] = b'1';
    }
    let mut table = [httparse::EMPTY_HEADER; FIELDS_CEILING];
    let mut parsed = httparse::Response::new(&mut table);
    assert_eq!(parsed.parse(&message), Ok(httparse::Status::Complete(message.len())));
    assert_eq!(parsed.code, Some(answer.status));
    assert_eq!(parsed.version, Some(u8::from(!answer.is_1_0)));
    let fields = parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    assert!(fields.eq(answer.fields.iter().cloned()));
}
