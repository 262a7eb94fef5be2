//! Runs bytes through the decoders as a server would, in pieces of any size.

use baiwan_http1::{BodyDecoder, BodyEvent, BodyFraming, HeadDecoder, Limits, Refusal, RequestHead};

/// What a server sees of a stream of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Head(Head),
    Data(Vec<u8>),
    End(Vec<(String, Vec<u8>)>),
    Refused(Refusal),
}

/// A decoded head in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: http::Version,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: BodyFraming,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) upgrade: bool,
}

impl Head {
    fn of(head: &RequestHead) -> Head {
        Head {
            method: head.request.method().to_string(),
            target: head.request.uri().to_string(),
            version: head.request.version(),
            fields: fields_of(head.request.headers()),
            framing: head.framing,
            keep_alive: head.keep_alive,
            expects_continue: head.expects_continue,
            upgrade: head.upgrade,
        }
    }

    /// The value of the only field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_slice());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is repeated");
        value
    }
}

fn fields_of(fields: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// One connection: decodes requests one after the other until something is refused.
pub(crate) struct Reader {
    limits: Limits,
    heads: HeadDecoder,
    body: Option<BodyDecoder>,
    buffer: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

impl Reader {
    pub(crate) fn new(limits: Limits) -> Reader {
        Reader { limits, heads: HeadDecoder::default(), body: None, buffer: Vec::new(), events: Vec::new() }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.events.last(), Some(Event::Refused(_)))
    }

    pub(crate) fn feed(&mut self, piece: &[u8]) {
        if self.is_refused() {
            return;
        }
        self.buffer.extend_from_slice(piece);
        loop {
            let step = if self.body.is_some() { self.step_body() } else { self.step_head() };
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => return self.events.push(Event::Refused(refusal)),
            }
        }
    }

    fn step_head(&mut self) -> Result<bool, Refusal> {
        let Some((head, consumed)) = self.heads.decode(&self.buffer, &self.limits)? else { return Ok(false) };
        assert!(consumed <= self.buffer.len());
        self.buffer.drain(..consumed);
        self.events.push(Event::Head(Head::of(&head)));
        self.body = Some(BodyDecoder::new(head.framing));
        Ok(true)
    }

    fn step_body(&mut self) -> Result<bool, Refusal> {
        let body = self.body.as_mut().expect("there is a body");
        let step = body.decode(&self.buffer, &self.limits)?;
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
                assert!(body.is_complete());
                self.events.push(Event::End(trailers.map(|fields| fields_of(&fields)).unwrap_or_default()));
                self.body = None;
            }
            BodyEvent::More => {
                assert_eq!(step.consumed, self.buffer.len());
                assert!(!body.is_complete());
                self.buffer.clear();
                return Ok(false);
            }
        }
        self.buffer.drain(..step.consumed);
        Ok(true)
    }
}

/// The events of `input` in one piece.
pub(crate) fn whole(input: &[u8], limits: Limits) -> Vec<Event> {
    let mut reader = Reader::new(limits);
    reader.feed(input);
    reader.events
}

/// The events of `input` in pieces of one byte, and how many bytes it took to the last one.
pub(crate) fn byte_by_byte(input: &[u8], limits: Limits) -> (Vec<Event>, usize) {
    let mut reader = Reader::new(limits);
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

const NEXT_REQUEST: &[u8] = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n";

/// The events of `input`, which must be complete requests, three ways: whole, byte by byte, and followed by another
/// request, which must be found.
pub(crate) fn accepted_with(input: &[u8], limits: Limits) -> Vec<Event> {
    let events = whole(input, limits);
    assert!(matches!(events.last(), Some(Event::End(_))), "{events:?} of {}", input.escape_ascii());
    assert_eq!(byte_by_byte(input, limits), (events.clone(), input.len()), "byte by byte: {}", input.escape_ascii());
    let followed = whole(&[input, NEXT_REQUEST].concat(), limits);
    assert_eq!(followed[..events.len()], events, "followed by another: {}", input.escape_ascii());
    assert_eq!(followed[events.len()..], whole(NEXT_REQUEST, limits));
    events
}

/// The head of `input`, which must be one complete request; see [`accepted_with`].
pub(crate) fn accepted(input: &[u8]) -> Head {
    match accepted_with(input, Limits::default()).swap_remove(0) {
        Event::Head(head) => head,
        event => panic!("{event:?}"),
    }
}

/// `input` must be refused, three ways: whole, byte by byte, and followed by more. No byte after `input` may be needed,
/// so a case ends where its first wrong line ends.
pub(crate) fn refused_with(expected: Refusal, input: &[u8], limits: Limits) {
    let expected = Some(&Event::Refused(expected));
    let events = whole(input, limits);
    assert_eq!(events.last(), expected, "whole: {}", input.escape_ascii());
    assert_eq!(byte_by_byte(input, limits).0, events, "byte by byte: {}", input.escape_ascii());
    for trailing in [NEXT_REQUEST, b"\r\n\r\n", b"\0\xff garbage"] {
        assert_eq!(whole(&[input, trailing].concat(), limits), events, "followed: {}", input.escape_ascii());
    }
}

/// See [`refused_with`].
pub(crate) fn refused(expected: Refusal, input: &[u8]) {
    refused_with(expected, input, Limits::default());
}

/// `lines` after a request line and Host must be refused; see [`refused_with`].
pub(crate) fn refused_field(expected: Refusal, lines: &str) {
    refused(expected, format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}").as_bytes());
}

/// The head of a request with `lines` after a request line and Host, and no body; see [`accepted_with`].
pub(crate) fn accepted_field(lines: &str) -> Head {
    accepted(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes())
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A chunked request whose body begins with `bytes`.
pub(crate) fn chunked(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [CHUNKED.as_bytes(), bytes.as_ref()].concat()
}
