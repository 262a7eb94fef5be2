//! Runs bytes through the decoders as a client would, in pieces of any size.

use baiwan_http1::{
    BodyDecoder, BodyEvent, Limits, Refusal, ResponseDecoder, ResponseFraming, ResponseHead, ResponseRefusal,
};
use http::Version;

/// What a client sees of a stream of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Head(Head),
    Data(Vec<u8>),
    End(Vec<(String, Vec<u8>)>),
    Refused(ResponseRefusal),
    BodyRefused(Refusal),
    /// The stream has ended: whether the body that was going on is whole.
    Closed(bool),
}

/// A decoded head in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) version: Version,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: ResponseFraming,
    pub(crate) keep_alive: bool,
}

impl Head {
    fn of(head: &ResponseHead<'_>) -> Head {
        let lower = |name: &[u8]| String::from_utf8(name.to_ascii_lowercase()).expect("a token");
        let fields: Vec<_> = head.fields().map(|(name, value)| (lower(name), value.to_vec())).collect();
        for (name, _) in &fields {
            let first = fields.iter().find(|field| field.0 == *name).map(|field| field.1.as_slice());
            assert_eq!(head.field(name), first);
        }
        Head {
            status: head.status.as_u16(),
            version: head.version,
            fields,
            framing: head.framing,
            keep_alive: head.keep_alive,
        }
    }
}

/// One connection: decodes answers one after the other until something is refused.
pub(crate) struct Reader {
    limits: Limits,
    head_request: bool,
    heads: ResponseDecoder,
    body: Option<BodyDecoder>,
    buffer: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

impl Reader {
    /// All requests were those of HEAD, or none.
    pub(crate) fn new(head_request: bool, limits: Limits) -> Reader {
        let heads = ResponseDecoder::default();
        Reader { limits, head_request, heads, body: None, buffer: Vec::new(), events: Vec::new() }
    }

    fn is_refused(&self) -> bool {
        matches!(self.events.last(), Some(Event::Refused(_) | Event::BodyRefused(_)))
    }

    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while !self.is_refused() {
            let goes_on = if self.body.is_some() { self.step_body() } else { self.step_head() };
            if !goes_on {
                return;
            }
        }
    }

    /// The server has ended its direction.
    pub(crate) fn close(&mut self) {
        let Some(body) = &mut self.body else { return };
        let whole = body.end_of_stream();
        assert_eq!(body.is_complete(), whole);
        self.events.push(Event::Closed(whole));
        assert_eq!(self.step_body(), whole);
    }

    fn step_head(&mut self) -> bool {
        match self.heads.decode(&self.buffer, self.head_request, &self.limits) {
            Ok(Some((head, consumed))) => {
                self.events.push(Event::Head(Head::of(&head)));
                self.body = (!head.is_interim()).then(|| BodyDecoder::for_response(head.framing));
                self.buffer.drain(..consumed);
                true
            }
            Ok(None) => false,
            Err(refusal) => {
                self.events.push(Event::Refused(refusal));
                false
            }
        }
    }

    /// False where more is needed.
    fn step_body(&mut self) -> bool {
        let body = self.body.as_mut().expect("there is a body");
        let step = match body.decode(&self.buffer, &self.limits) {
            Ok(step) => step,
            Err(refusal) => {
                self.events.push(Event::BodyRefused(refusal));
                return false;
            }
        };
        let more = matches!(step.event, BodyEvent::More);
        match step.event {
            BodyEvent::Data(range) => {
                assert!(!range.is_empty() && range.end == step.consumed);
                let data = &self.buffer[range];
                match self.events.last_mut() {
                    Some(Event::Data(before)) => before.extend_from_slice(data),
                    _ => self.events.push(Event::Data(data.to_vec())),
                }
            }
            BodyEvent::Complete(trailers) => {
                assert!(body.is_complete() && body.end_of_stream());
                let pairs = trailers.iter().flat_map(|fields| fields.iter());
                let pairs = pairs.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                self.events.push(Event::End(pairs.collect()));
                self.body = None;
            }
            BodyEvent::More => assert!(step.consumed == self.buffer.len() && !body.is_complete()),
        }
        self.buffer.drain(..step.consumed);
        !more
    }
}

/// The events of `input` in one piece.
pub(crate) fn whole(input: &[u8], head_request: bool, limits: Limits) -> Vec<Event> {
    let mut reader = Reader::new(head_request, limits);
    reader.feed(input);
    reader.events
}

/// The events of `input` in pieces of one byte, and how many bytes it took to the last one.
pub(crate) fn byte_by_byte(input: &[u8], head_request: bool, limits: Limits) -> (Vec<Event>, usize) {
    let mut reader = Reader::new(head_request, limits);
    let mut needed = 0;
    for (index, byte) in input.iter().enumerate() {
        let before = reader.events.len();
        reader.feed(std::slice::from_ref(byte));
        if reader.events.len() > before {
            needed = index + 1;
        }
    }
    (reader.events, needed)
}

const NEXT_ANSWER: &[u8] = b"HTTP/1.1 202 Next\r\nContent-Length: 0\r\n\r\n";

/// The events of `input`, which must be complete answers to GET or to HEAD, three ways: whole, byte by byte, and followed
/// by another answer, which must be found.
pub(crate) fn accepted_to(head_request: bool, input: &[u8]) -> Vec<Event> {
    let limits = Limits::default();
    let events = whole(input, head_request, limits);
    assert!(matches!(events.last(), Some(Event::End(_))), "{events:?} of {}", input.escape_ascii());
    let single = byte_by_byte(input, head_request, limits);
    assert_eq!(single, (events.clone(), input.len()), "byte by byte: {}", input.escape_ascii());
    let followed = whole(&[input, NEXT_ANSWER].concat(), head_request, limits);
    assert_eq!(followed[..events.len()], events, "followed by another: {}", input.escape_ascii());
    assert_eq!(followed[events.len()..], whole(NEXT_ANSWER, head_request, limits));
    events
}

/// The head of `input`, which must be one complete answer to GET; see [`accepted_to`].
pub(crate) fn accepted(input: &[u8]) -> Head {
    match accepted_to(false, input).swap_remove(0) {
        Event::Head(head) => head,
        event => panic!("{event:?}"),
    }
}

/// The head of `input`, which must be the head of an answer to GET and no more, whole and byte by byte.
pub(crate) fn head(input: &[u8]) -> Head {
    let mut events = whole(input, false, Limits::default());
    assert_eq!(byte_by_byte(input, false, Limits::default()).0, events, "{}", input.escape_ascii());
    match events.swap_remove(0) {
        Event::Head(head) => head,
        event => panic!("{event:?} of {}", input.escape_ascii()),
    }
}

/// The head with `lines` after a status line, which must be the head of an answer to GET and no more; see [`head`].
pub(crate) fn head_with(lines: &str) -> Head {
    head(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes())
}

/// `input` must be refused, three ways: whole, byte by byte, and followed by more. No byte after `input` may be needed,
/// so a case ends where its first wrong line ends.
pub(crate) fn refused_with(expected: ResponseRefusal, input: &[u8], limits: Limits) {
    ends_in(&Event::Refused(expected), input, limits);
}

/// See [`refused_with`].
pub(crate) fn refused(expected: ResponseRefusal, input: &[u8]) {
    refused_with(expected, input, Limits::default());
}

/// `lines` after a status line must be refused; see [`refused_with`].
pub(crate) fn refused_field(expected: ResponseRefusal, lines: &str) {
    refused(expected, format!("HTTP/1.1 200 OK\r\nA: b\r\n{lines}").as_bytes());
}

/// What [`refused_with`] does, for the refusal of a head or of a body.
pub(crate) fn ends_in(expected: &Event, input: &[u8], limits: Limits) {
    let events = whole(input, false, limits);
    assert_eq!(events.last(), Some(expected), "whole: {}", input.escape_ascii());
    assert_eq!(byte_by_byte(input, false, limits).0, events, "byte by byte: {}", input.escape_ascii());
    for trailing in [NEXT_ANSWER, b"\r\n\r\n", b"\0\xff garbage"] {
        assert_eq!(whole(&[input, trailing].concat(), false, limits), events, "followed: {}", input.escape_ascii());
    }
}
