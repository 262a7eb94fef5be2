//! Reads the answers on one connection and judges them. Pure: bytes in, steps out.
//!
//! ```text
//!   head ──► (interim: head) ──► body ──► answered ──► head
//!                     └────────► stream: events until the end
//! ```

use baiwan_http1::{BodyDecoder, BodyEvent, Limits, ResponseDecoder, ResponseFraming};

use super::events::{EventParser, Seen};
use crate::plan::Plan;

/// What a right answer looks like.
pub(super) struct Checks {
    head_request: bool,
    status: Option<u16>,
    body: Option<Vec<u8>>,
    /// A right answer is a stream of events.
    events: bool,
    limits: Limits,
}

impl Checks {
    pub(super) fn of(plan: &Plan) -> Self {
        // A server under test may answer what it likes; only the parser's own table is a limit.
        let limits = Limits { head_bytes_max: 64 * 1024, ..Limits::default() };
        Self {
            head_request: plan.head_request,
            status: plan.expect_status,
            body: plan.expect_body.clone(),
            events: plan.events,
            limits,
        }
    }

    fn is_right_status(&self, status: u16) -> bool {
        match self.status {
            Some(right) => status == right,
            None => status < 400,
        }
    }
}

/// Whether an answer is as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Right,
    WrongStatus,
    WrongBody,
}

/// A whole answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) verdict: Verdict,
    pub(super) keep_alive: bool,
}

/// What the bytes brought.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A whole answer.
    Answered(Answer),
    /// The head of a stream of events; they follow.
    Streaming(Answer),
    /// All bytes were used.
    More,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The bytes of a head that is not whole.
    partial: Vec<u8>,
    head: ResponseDecoder,
    /// Of an answer that has not come as a whole.
    body: Option<Box<Body>>,
}

#[derive(Debug)]
struct Body {
    decoder: BodyDecoder,
    answer: Answer,
    /// How many bytes of the expected body have come.
    matched: usize,
    events: Option<EventParser>,
}

impl Reader {
    /// Takes bytes off `input` until something is known. `on_event` gets the events of a stream.
    ///
    /// # Errors
    /// The name of the rule that the bytes break.
    pub(super) fn advance(
        &mut self,
        input: &mut &[u8],
        checks: &Checks,
        on_event: &mut dyn FnMut(Seen),
    ) -> Result<Step, &'static str> {
        while !input.is_empty() {
            if let Some(mut body) = self.body.take() {
                if let Some(answer) = body.read(input, checks, on_event)? {
                    return Ok(Step::Answered(answer));
                }
                self.body = Some(body);
                continue;
            }
            let Some((answer, framing)) = self.read_head(input, checks)? else { continue };
            if matches!(framing, ResponseFraming::NoBody | ResponseFraming::Length(0)) {
                return Ok(Step::Answered(judge_end(answer, 0, checks)));
            }
            let streams = checks.events && answer.verdict == Verdict::Right;
            let events = streams.then(EventParser::default);
            let mut body = Body { decoder: BodyDecoder::for_response(framing), answer, matched: 0, events };
            if streams {
                self.body = Some(Box::new(body));
                return Ok(Step::Streaming(answer));
            }
            // Most bodies come with their heads, and are never kept.
            if let Some(answer) = body.read(input, checks, on_event)? {
                return Ok(Step::Answered(answer));
            }
            self.body = Some(Box::new(body));
        }
        Ok(Step::More)
    }

    /// The peer has ended its direction. The answer that this ends, if it does end one; whether one was cut otherwise.
    pub(super) fn end(&mut self, checks: &Checks) -> Option<Answer> {
        let mut body = self.body.take()?;
        let whole = body.decoder.end_of_stream() && body.events.is_none();
        whole.then(|| Answer { keep_alive: false, ..judge_end(body.answer, body.matched, checks) })
    }

    /// Forgets everything, for another connection.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// The answer as its head lets it be judged. None: the head is not whole, or is an interim one.
    fn read_head(
        &mut self,
        input: &mut &[u8],
        checks: &Checks,
    ) -> Result<Option<(Answer, ResponseFraming)>, &'static str> {
        let before = self.partial.len();
        let whole = if before == 0 {
            *input
        } else {
            self.partial.extend_from_slice(input);
            &self.partial[..]
        };
        let decoded = self.head.decode(whole, checks.head_request, &checks.limits).map_err(|refusal| refusal.name())?;
        let Some((head, consumed)) = decoded else {
            if before == 0 {
                self.partial.extend_from_slice(input);
            }
            *input = &[];
            return Ok(None);
        };
        let status = head.status.as_u16();
        let verdict = if checks.is_right_status(status) { Verdict::Right } else { Verdict::WrongStatus };
        let found = (Answer { status, verdict, keep_alive: head.keep_alive }, head.framing, head.is_interim());
        // What was not enough for a head before is part of this one.
        *input = &input[consumed - before..];
        self.partial.clear();
        let (answer, framing, is_interim) = found;
        Ok((!is_interim).then_some((answer, framing)))
    }
}

impl Body {
    /// Takes the bytes of this body off `input`. The answer, if it is whole now.
    fn read(
        &mut self,
        input: &mut &[u8],
        checks: &Checks,
        on_event: &mut dyn FnMut(Seen),
    ) -> Result<Option<Answer>, &'static str> {
        loop {
            let step = self.decoder.decode(input, &checks.limits).map_err(|refusal| refusal.name())?;
            if let BodyEvent::Data(range) = &step.event {
                self.take_in(&input[range.clone()], checks, on_event);
            }
            *input = &input[step.consumed..];
            if self.decoder.is_complete() {
                return Ok(Some(judge_end(self.answer, self.matched, checks)));
            }
            if matches!(step.event, BodyEvent::More) {
                return Ok(None);
            }
        }
    }

    fn take_in(&mut self, data: &[u8], checks: &Checks, on_event: &mut dyn FnMut(Seen)) {
        if let Some(events) = &mut self.events {
            events.feed(data, on_event);
        } else if let Some(expected) = &checks.body {
            let right = expected.get(self.matched..).is_some_and(|rest| rest.starts_with(data));
            if !right && self.answer.verdict == Verdict::Right {
                self.answer.verdict = Verdict::WrongBody;
            }
        }
        self.matched += data.len();
    }
}

/// The verdict on a whole answer whose bytes were right so far.
fn judge_end(answer: Answer, bytes: usize, checks: &Checks) -> Answer {
    let short = checks.body.as_ref().is_some_and(|expected| bytes != expected.len());
    match answer.verdict {
        Verdict::Right if short => Answer { verdict: Verdict::WrongBody, ..answer },
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(body: Option<&[u8]>) -> Checks {
        Checks {
            head_request: false,
            status: None,
            body: body.map(<[u8]>::to_vec),
            events: false,
            limits: Limits::default(),
        }
    }

    /// The answers in a stream that arrives in pieces of `piece` bytes.
    fn read(stream: &[u8], piece: usize, checks: &Checks) -> Result<Vec<Answer>, &'static str> {
        let (mut reader, mut answers) = (Reader::default(), Vec::new());
        for mut input in stream.chunks(piece) {
            while let Step::Answered(answer) | Step::Streaming(answer) =
                reader.advance(&mut input, checks, &mut |_| {})?
            {
                answers.push(answer);
            }
        }
        answers.extend(reader.end(checks));
        Ok(answers)
    }

    fn verdicts(stream: &str, checks: &Checks) -> Vec<(u16, Verdict)> {
        let all: Vec<_> = [1, 2, 3, 7, stream.len()].map(|piece| read(stream.as_bytes(), piece, checks)).into();
        assert!(all.iter().all(|one| *one == all[0]), "the same in pieces of any size");
        all[0].as_ref().unwrap().iter().map(|answer| (answer.status, answer.verdict)).collect()
    }

    #[test]
    fn answers_are_told_apart_however_they_arrive() {
        let stream = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello\
                      HTTP/1.1 204 No Content\r\n\r\n\
                      HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n\
                      HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n\
                      HTTP/1.1 200 OK\r\n\r\nuntil the end";
        let expected = [200, 204, 200, 503, 200]
            .map(|status| (status, if status == 503 { Verdict::WrongStatus } else { Verdict::Right }));
        assert_eq!(verdicts(stream, &checks(None)), expected);
    }

    #[test]
    fn a_wrong_body_is_noticed() {
        let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for (body, verdict) in [
            ("hello", Verdict::Right),
            ("hellO", Verdict::WrongBody),
            ("hell", Verdict::WrongBody),
            ("hello!", Verdict::WrongBody),
            ("", Verdict::WrongBody),
        ] {
            assert_eq!(verdicts(&answer(body), &checks(Some(b"hello"))), [(200, verdict)], "{body:?}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_is_none() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for length in 1..whole.len() {
            assert_eq!(verdicts(&whole[..length], &checks(None)), []);
        }
    }

    #[test]
    fn what_is_not_http_is_named() {
        assert_eq!(read(b"SSH-2.0-OpenSSH\r\n", 100, &checks(None)), Err("status-line-malformed"));
    }
}
