//! Decoding a request head, whole or in pieces.
//!
//! ```text
//!              whole head in the first piece
//!   (fresh) ───────────────────────────────────► httparse once ──► RequestHead
//!      │                                              ▲
//!      │ partial or refused                           │ empty line
//!      ▼                                              │
//!   scan new bytes ──► line complete ──► check line ──┤
//!      ▲                                              │ more
//!      └──────────────────────────────────────────────┘
//! ```
//!
//! The scanner alone decides why a head is refused; the short way through `httparse` only ever accepts. Invariant: the
//! result depends on the bytes, never on how they were split. Each byte is scanned once, whatever the pieces.

use http::Request;

use crate::field_line::split_field_line;
use crate::octet;
use crate::parse::{LaterMinor, parse_whole};
use crate::rules::{Facts, Rules};
use crate::{HEAD_BYTES_CEILING, Limits, Refusal};

/// A request head that follows every rule.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version (HTTP/1.0 or 1.1) and fields.
    pub request: Request<()>,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// Whether the client lets the connection persist after the answer (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Whether the client may wait for [`CONTINUE`](crate::CONTINUE) before it sends the body. Never without a body,
    /// never in HTTP/1.0.
    pub expects_continue: bool,
    /// Whether the client offers another protocol than `h2c`, in HTTP/1.1 itself. Where there is a body too, it comes before
    /// the switch.
    pub upgrade: bool,
}

/// How the end of a request body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body. `Content-Length: 0` is this too.
    None,
    /// So many bytes, at least one, at most 2^63 - 1.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
}

/// The resumable state of a head that is still arriving: no bytes, only positions and facts.
///
/// Command: [`decode`](HeadDecoder::decode), as often as bytes arrive. Getters:
/// [`refused_at`](HeadDecoder::refused_at), [`bytes_examined`](HeadDecoder::bytes_examined).
#[derive(Clone, Debug, Default)]
pub struct HeadDecoder {
    examined: u64,
    /// Where the scanner goes on.
    scanned: u32,
    /// Where the line that is being scanned begins, or the one that was refused.
    line_start: u32,
    /// Field lines that are complete.
    fields: u16,
    /// Bytes of the method; 0 as long as its end has not been seen.
    method_length: u16,
    /// Bytes of the target; 0 as long as its end has not been seen.
    target_length: u16,
    facts: Facts,
}

const _: () = assert!(size_of::<HeadDecoder>() <= 24, "every connection holds a HeadDecoder");

/// `HTTP/1.1`.
const VERSION_LENGTH: usize = 8;

impl HeadDecoder {
    /// Decodes a request head from `input`: all bytes since the end of the previous message, that is, at each call a
    /// longer prefix of the same stream, until a head is complete.
    ///
    /// `Ok(None)`: more is needed. `Ok(Some((head, consumed)))`: the head ends before `input[consumed]`, and the
    /// decoder is ready for the next one.
    ///
    /// # Errors
    ///
    /// The rule that the bytes break, as soon as they do, at the latest at the end of the wrong line. A head that does
    /// not end within `head_bytes_max` is refused as soon as so many bytes are there.
    ///
    /// # Panics
    ///
    /// When `input` is shorter than at the call before.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Option<(RequestHead, usize)>, Refusal> {
        let window = &input[..input.len().min(limits.head_window())];
        if self.scanned == 0 {
            // It may still say where the head before was refused.
            self.line_start = 0;
        }
        if self.scanned == 0 && !window.is_empty() {
            self.examined += window.len() as u64;
            if let Some((head, consumed)) = decode_whole(window, limits) {
                // What follows the head was not looked at.
                self.examined -= (window.len() - consumed) as u64;
                return Ok(Some((head, consumed)));
            }
        }
        let refusal = match self.scan(window, limits) {
            Ok(None) if window.len() == limits.head_window() => Refusal::HeadTooLarge,
            Ok(None) => return Ok(None),
            Ok(Some(head)) => {
                let consumed = self.scanned as usize;
                self.restart();
                return Ok(Some((head, consumed)));
            }
            Err(refusal) => refusal,
        };
        let line_start = self.line_start;
        self.restart();
        self.line_start = line_start;
        Err(refusal)
    }

    /// After [`decode`](HeadDecoder::decode) has refused: where in its `input` the refused line begins, at most
    /// `input.len()`. Where only the whole head shows what is wrong, as with a missing Host, it is the request line.
    pub fn refused_at(&self) -> usize {
        self.line_start as usize
    }

    /// Bytes that were looked at since the decoder was made, one for each pass over each byte. For tests that show that
    /// the work is linear however the bytes arrive.
    pub fn bytes_examined(&self) -> u64 {
        self.examined
    }

    fn restart(&mut self) {
        *self = HeadDecoder { examined: self.examined, ..HeadDecoder::default() };
    }

    /// Scans what is new in `window`. The state stays at the last byte that could be judged.
    fn scan(&mut self, window: &[u8], limits: &Limits) -> Result<Option<RequestHead>, Refusal> {
        loop {
            let scanned = self.scanned as usize;
            let in_words = self.target_length == 0 && !self.facts.has(Facts::REQUEST_LINE);
            let class = if in_words { octet::WORD } else { octet::FIELD };
            let new = &window[scanned..];
            let text_end = scanned + new.iter().position(|&byte| !octet::is(byte, class)).unwrap_or(new.len());
            self.examined += (text_end - scanned) as u64;
            let line = &window[self.line_start as usize..text_end];
            self.check_partial(line, limits)?;
            self.scanned = text_end as u32;
            match window[text_end..] {
                // A CR says nothing before the byte after it is there.
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => {}
                [b'\r', ..] => return Err(Refusal::BareCarriageReturn),
                [b'\n', ..] => return Err(Refusal::BareLineFeed),
                [b' ', ..] => {
                    self.end_word(line)?;
                    continue;
                }
                _ => return Err(Refusal::ControlByte),
            }
            let at_end = self.check_line(window, line, limits)?;
            self.examined += 2;
            self.scanned = text_end as u32 + 2;
            self.line_start = self.scanned;
            if at_end {
                return self.finish(&window[..text_end + 2], limits).map(Some);
            }
        }
    }

    /// Judges a line that has no end yet: everything that more bytes could not put right.
    fn check_partial(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        if self.facts.has(Facts::REQUEST_LINE) {
            let exceeds = !line.is_empty() && usize::from(self.fields) >= limits.fields();
            return if exceeds { Err(Refusal::FieldsTooMany) } else { Ok(()) };
        }
        if self.method_length == 0 {
            let judged = (self.scanned - self.line_start) as usize;
            return check_method(line, judged, limits);
        }
        let target_start = usize::from(self.method_length) + 1;
        if self.target_length == 0 {
            let exceeds = line.len() - target_start > limits.target_bytes_max;
            return if exceeds { Err(Refusal::TargetTooLong) } else { Ok(()) };
        }
        let version_start = target_start + usize::from(self.target_length) + 1;
        if line.len() - version_start > VERSION_LENGTH { Err(Refusal::VersionMalformed) } else { Ok(()) }
    }

    /// Takes the space after the method or the target, with which `line` goes on.
    fn end_word(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (word, start) = match self.method_length {
            0 => (&mut self.method_length, 0),
            method_length => (&mut self.target_length, usize::from(method_length) + 1),
        };
        *word = (line.len() - start) as u16;
        self.scanned += 1;
        self.examined += 1;
        if *word == 0 { Err(Refusal::RequestLineMalformed) } else { Ok(()) }
    }

    /// Judges a complete line. True at the empty line that ends the head.
    fn check_line(&mut self, window: &[u8], line: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        if !self.facts.has(Facts::REQUEST_LINE) {
            return self.check_request_line(line, limits).map(|()| false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        let target = self.target(window);
        let (name, value) = split_field_line(line)?;
        self.examined += name.len() as u64 + 1;
        let mut rules = Rules::resume(self.facts);
        rules.field(name, value, target, limits)?;
        self.facts = rules.facts;
        self.fields += 1;
        Ok(false)
    }

    fn check_request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        if line.is_empty() {
            // Only empty lines precede this one, of two bytes each.
            let lines = self.line_start as usize / 2 + 1;
            return if lines > limits.leading_crlf_max { Err(Refusal::LeadingLines) } else { Ok(()) };
        }
        if self.target_length == 0 {
            return Err(Refusal::RequestLineMalformed);
        }
        self.examined += line.len() as u64;
        let (method, rest) = line.split_at(usize::from(self.method_length));
        let (target, version) = rest[1..].split_at(usize::from(self.target_length));
        let mut rules = Rules::default();
        rules.request_line(method, target, &version[1..])?;
        self.facts = rules.facts;
        Ok(())
    }

    /// The target, after the request line was read.
    fn target<'a>(&self, window: &'a [u8]) -> &'a [u8] {
        let start = leading_crlf(window, usize::MAX) + usize::from(self.method_length) + 1;
        &window[start..start + usize::from(self.target_length)]
    }

    /// Parses the head, every line of which was found right.
    fn finish(&mut self, head: &[u8], limits: &Limits) -> Result<RequestHead, Refusal> {
        self.examined += head.len() as u64;
        let later_minor = if self.facts.has(Facts::VERSION_LATER) {
            let version_start = usize::from(self.method_length) + usize::from(self.target_length) + 2;
            LaterMinor::At(version_start + VERSION_LENGTH - 1)
        } else {
            LaterMinor::No
        };
        let leading = leading_crlf(head, usize::MAX);
        self.line_start = leading as u32;
        Rules::resume(self.facts).finish()?;
        let head = &head[leading..];
        let parsed = parse_whole(head, limits, later_minor);
        debug_assert!(parsed.is_some(), "the scanner accepted what the parser refuses");
        parsed.map(|(head, _)| head).ok_or(Refusal::RequestLineMalformed)
    }
}

/// Whether the head that `input` begins with, complete or not, right or wrong, is one of HEAD: then even a refusal has no
/// body (RFC 9110 9.3.2). `input` is that of [`HeadDecoder::decode`].
pub fn is_head_request(input: &[u8]) -> bool {
    let limit = input.len().min(HEAD_BYTES_CEILING);
    input[leading_crlf(&input[..limit], usize::MAX)..].starts_with(b"HEAD ")
}

/// Whether `input`, that of [`HeadDecoder::decode`], holds any byte of a request: empty lines before one are none (RFC 9112
/// 2.2).
pub fn begins_request(input: &[u8]) -> bool {
    input.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
}

/// Judges a method that has no end yet, and whose first `judged` bytes have been found right.
fn check_method(method: &[u8], judged: usize, limits: &Limits) -> Result<(), Refusal> {
    for (index, &byte) in method.iter().enumerate().skip(judged) {
        if index >= limits.method_bytes_max {
            return Err(Refusal::MethodTooLong);
        }
        if !octet::is(byte, octet::TOKEN) {
            return Err(Refusal::MethodInvalid);
        }
    }
    Ok(())
}

/// The short way: everything at once. None where the head is not whole or not right.
fn decode_whole(window: &[u8], limits: &Limits) -> Option<(RequestHead, usize)> {
    let leading = leading_crlf(window, limits.leading_crlf_max);
    let (head, consumed) = parse_whole(&window[leading..], limits, LaterMinor::No)?;
    Some((head, leading + consumed))
}

/// Bytes of the empty lines that `bytes` begins with, at most `lines_max` of them.
fn leading_crlf(bytes: &[u8], lines_max: usize) -> usize {
    2 * bytes.chunks_exact(2).take(lines_max).take_while(|pair| pair == b"\r\n").count()
}
