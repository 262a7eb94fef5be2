//! Decoding the head of an answer, whole or in pieces.
//!
//! ```text
//!              whole head in the first piece
//!   (fresh) ───────────────────────────────────► httparse once ──► ResponseHead
//!      │                                                              ▲
//!      │ partial or refused                                           │ empty line
//!      ▼                                                              │
//!   scan new bytes ──► line complete ──► check line ──────────────────┤
//!      ▲                                                              │ more
//!      └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The scanner alone decides why a head is refused; the short way through `httparse` only ever accepts. It refuses a line as
//! soon as that can no longer become valid, as the one for requests does. Nothing is allocated: the head that comes out borrows
//! the bytes that went in. Invariant: the result depends on the bytes, never on how they were split. Each byte is scanned once,
//! whatever the pieces.

use std::mem::MaybeUninit;

use http::{StatusCode, Version};

use crate::field_line::{check_name_end, split_field_line, take_line};
use crate::limits::FIELDS_CEILING;
use crate::octet;
use crate::response_rules::{ResponseRules, check_status_line_start};
use crate::{Limits, ResponseFraming, ResponseRefusal};

/// The head of an answer that follows every rule. It borrows the bytes that it was decoded from.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 999. Those from 600 on are not valid, and are to be taken for 5xx (RFC 9110 15).
    pub status: StatusCode,
    /// The version that the answer is read as, HTTP/1.0 or 1.1.
    pub version: Version,
    /// Where the body ends.
    pub framing: ResponseFraming,
    /// Whether the server lets the connection persist after the body (RFC 9112 9.3). Never after
    /// [`UntilClose`](ResponseFraming::UntilClose) and never after 101, which leaves it to another protocol.
    pub keep_alive: bool,
    /// The field lines with their line ends, all of them judged.
    lines: &'a [u8],
}

impl<'a> ResponseHead<'a> {
    /// Names as they were sent and values without the white space around them, in the order of the lines.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            let line_end = memchr::memchr(b'\n', rest)?;
            let (line, after) = rest.split_at(line_end + 1);
            rest = after;
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], octet::trim(&line[colon + 1..line_end - 1])))
        })
    }

    /// The value of the first field called `name`, in letters of any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|field| field.0.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.1)
    }

    /// Whether another head follows at once, because this is no final answer (RFC 9110 15.2): 1xx, but for 101.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// The resumable state of the head of an answer that is still arriving: no bytes, only positions and facts.
///
/// Command: [`decode`](ResponseDecoder::decode), as often as bytes arrive.
#[derive(Clone, Debug, Default)]
pub struct ResponseDecoder {
    rules: ResponseRules,
    /// Where the scanner goes on.
    scanned: u32,
    /// Where the line that is being scanned begins.
    line_start: u32,
    /// Where the field lines begin, once the status line was read.
    fields_start: u32,
    /// Field lines that are complete.
    fields: u8,
    /// Whether the colon of the field line that is being scanned has been seen.
    named: bool,
}

const _: () = assert!(size_of::<ResponseDecoder>() <= 32, "every connection holds a ResponseDecoder");

impl ResponseDecoder {
    /// Decodes the head of an answer from `input`: all bytes since the end of the previous message, that is, at each call
    /// a longer prefix of the same stream, until a head is complete. `head_request` says whether the request that it
    /// answers was one of HEAD. Answers to CONNECT are not understood.
    ///
    /// `Ok(None)`: more is needed. `Ok(Some((head, consumed)))`: the head ends before `input[consumed]`, and the decoder
    /// is ready for the next one, which follows at once where the head [is interim](ResponseHead::is_interim).
    ///
    /// Of the limits, those of heads count; a Content-Length beyond `body_bytes_max` is refused where a body follows.
    ///
    /// # Errors
    ///
    /// The rule that the bytes break, as soon as they do, at the latest at the end of the wrong line; and at the end of the
    /// head those that only all of its lines can break. A head that does not end within `head_bytes_max` is refused as soon as
    /// that number of bytes is there.
    ///
    /// # Panics
    ///
    /// When `input` is shorter than at the call before.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
        head_request: bool,
        limits: &Limits,
    ) -> Result<Option<(ResponseHead<'a>, usize)>, ResponseRefusal> {
        let window = &input[..input.len().min(limits.head_window())];
        if self.scanned == 0
            && !window.is_empty()
            && let Some(decoded) = decode_whole(window, head_request, limits)
        {
            return Ok(Some(decoded));
        }
        self.decode_in_pieces(window, head_request, limits)
    }

    fn decode_in_pieces<'a>(
        &mut self,
        window: &'a [u8],
        head_request: bool,
        limits: &Limits,
    ) -> Result<Option<(ResponseHead<'a>, usize)>, ResponseRefusal> {
        let result = match self.scan(window, limits) {
            Ok(false) if window.len() == limits.head_window() => Err(ResponseRefusal::HeadTooLarge),
            Ok(false) => return Ok(None),
            Ok(true) => {
                let consumed = self.scanned as usize;
                let lines = &window[self.fields_start as usize..consumed - 2];
                head_of(&self.rules, lines, head_request, limits).map(|head| Some((head, consumed)))
            }
            Err(refusal) => Err(refusal),
        };
        *self = ResponseDecoder::default();
        result
    }

    /// Scans what is new in `window`. True at the end of the head. The state stays at the last byte that could be judged.
    fn scan(&mut self, window: &[u8], limits: &Limits) -> Result<bool, ResponseRefusal> {
        loop {
            let scanned = self.scanned as usize;
            let in_name = self.rules.has_status_line() && !self.named;
            let class = if in_name { octet::TOKEN } else { octet::FIELD };
            let new = &window[scanned..];
            let text_end = scanned + new.iter().position(|&byte| !octet::is(byte, class)).unwrap_or(new.len());
            let line = &window[self.line_start as usize..text_end];
            self.check_partial(line, limits)?;
            self.scanned = text_end as u32;
            match window[text_end..] {
                // A CR says nothing before the byte after it is there.
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] => {}
                [b'\r', ..] => return Err(ResponseRefusal::BareCarriageReturn),
                [b'\n', ..] => return Err(ResponseRefusal::BareLineFeed),
                [byte, ..] if !octet::is(byte, octet::FIELD) => return Err(ResponseRefusal::ControlByte),
                [byte, ..] => {
                    check_name_end(line.len(), byte)?;
                    self.named = true;
                    self.scanned += 1;
                    continue;
                }
            }
            let at_end = self.check_line(line)?;
            self.scanned = text_end as u32 + 2;
            self.line_start = self.scanned;
            if at_end {
                return Ok(true);
            }
            if self.fields_start == 0 {
                self.fields_start = self.scanned;
            }
        }
    }

    /// Judges a line that has no end yet: everything that more bytes could not put right.
    fn check_partial(&self, line: &[u8], limits: &Limits) -> Result<(), ResponseRefusal> {
        if !self.rules.has_status_line() {
            return check_status_line_start(line, self.scanned as usize);
        }
        let exceeds = !line.is_empty() && usize::from(self.fields) >= limits.fields();
        if exceeds { Err(ResponseRefusal::FieldsTooMany) } else { Ok(()) }
    }

    /// Judges a complete line. True at the empty line that ends the head.
    fn check_line(&mut self, line: &[u8]) -> Result<bool, ResponseRefusal> {
        if !self.rules.has_status_line() {
            return self.rules.status_line(line).map(|()| false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        let (name, value) = split_field_line(line)?;
        self.rules.field(name, value)?;
        self.fields += 1;
        self.named = false;
        Ok(false)
    }
}

/// The short way: everything at once. None where the head is not whole or not right. Where `httparse` is lenient (LF alone
/// as a line end, empty lines before the status line) the result is compared with the bytes it came from.
#[inline]
fn decode_whole<'a>(window: &'a [u8], head_request: bool, limits: &Limits) -> Option<(ResponseHead<'a>, usize)> {
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let Ok(httparse::Status::Complete(consumed)) =
        config.parse_response_with_uninit_headers(&mut parsed, window, &mut table[..limits.fields()])
    else {
        return None;
    };
    let fields = &*parsed.headers;
    let mut rules = ResponseRules::default();
    let mut rest = &window[..consumed];
    rules.status_line(take_line(&mut rest, fields.first())?).ok()?;
    let lines = rest.get(..rest.len().checked_sub(2)?)?;
    for (index, field) in fields.iter().enumerate() {
        let line = take_line(&mut rest, fields.get(index + 1))?;
        rules.field(field.name.as_bytes(), line.get(field.name.len() + 1..)?).ok()?;
    }
    debug_assert_eq!(rest, b"\r\n", "the line before ended in CR LF, so the empty line has two bytes");
    Some((head_of(&rules, lines, head_request, limits).ok()?, consumed))
}

#[inline]
fn head_of<'a>(
    rules: &ResponseRules,
    lines: &'a [u8],
    head_request: bool,
    limits: &Limits,
) -> Result<ResponseHead<'a>, ResponseRefusal> {
    let framing = rules.finish(head_request, limits)?;
    let keep_alive = rules.keep_alive(framing);
    Ok(ResponseHead { status: rules.status(), version: rules.version(), framing, keep_alive, lines })
}
