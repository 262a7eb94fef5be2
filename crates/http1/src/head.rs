//! Decoding a request head, whole or in pieces.
//!
//! ```text
//!              whole head in the first piece
//!   (fresh) ───────────────────────────────────► parse at once ──► RequestHead
//!      │                                              ▲
//!      │ partial or refused                           │ empty line
//!      ▼                                              │
//!   scan new bytes ──► line complete ──► check line ──┤
//!      ▲                                              │ more
//!      └──────────────────────────────────────────────┘
//! ```
//!
//! The scanner alone decides why a head is refused; the short way through the whole head only ever accepts. It refuses a line as
//! soon as that can no longer become valid: a byte at once where it may not stand, a target at its end, what the value of a
//! field means at the end of its line. It waits a few bytes longer where only those say which rule is broken: after a CR, in
//! the number of a version, and where another protocol may begin. Invariant: the result depends on the bytes, never on how
//! they were split. Each byte is scanned once, whatever the pieces.

use http::HeaderMap;

use crate::field_line::{check_name_end, split_field_line};
use crate::field_name::KnownName;
use crate::octet;
use crate::parse::Lines;
use crate::request_head::RequestHead;
use crate::rules::{Facts, Rules, check_version_start};
use crate::target::{Target, check_form_start};
use crate::{HEAD_BYTES_CEILING, Limits, Refusal};

/// The resumable state of a head that is still arriving: no bytes, only positions and facts.
///
/// Command: [`decode`](HeadDecoder::decode), as often as bytes arrive. Getter: [`refused_at`](HeadDecoder::refused_at).
#[derive(Clone, Debug, Default)]
pub struct HeadDecoder {
    /// Where the scanner goes on.
    scanned: u32,
    /// Where the line that is being scanned begins, or the one that was refused.
    line_start: u32,
    /// Bytes of the method; 0 as long as its end has not been seen.
    method_length: u16,
    /// Bytes of the target; 0 as long as its end has not been seen.
    target_length: u16,
    facts: Facts,
    /// Field lines that are complete.
    fields: u8,
    /// Whether the colon of the field line that is being scanned has been seen.
    named: bool,
}

const _: () = assert!(size_of::<HeadDecoder>() <= 16, "every connection holds a HeadDecoder");

/// Where in a head the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Method,
    Target,
    Version,
    Name,
    Value,
}

impl Place {
    /// The bytes that may stand here; any other is the end of what does, or wrong.
    fn class(self) -> u8 {
        match self {
            Place::Method | Place::Name => octet::TOKEN,
            Place::Target => octet::TARGET,
            Place::Version | Place::Value => octet::FIELD,
        }
    }
}

/// How other protocols begin that peers speak to an HTTP server, with a byte that is wrong in HTTP.
const SIGNATURES: [(&[u8], Refusal); 2] = [
    // The record of a ClientHello: its type, and the major version (RFC 8446 5.1).
    (b"\x16\x03", Refusal::TlsOnPlainPort),
    // Version 2 of the PROXY protocol. Its first four bytes are two empty lines.
    (b"\r\n\r\n\0\r\nQUIT\n", Refusal::ProxyProtocolUnexpected),
];

impl HeadDecoder {
    /// Decodes a request head from `input`: all bytes since the end of the previous message, that is, at each call a
    /// longer prefix of the same stream, until a head is complete.
    ///
    /// `Ok(None)`: more is needed. `Ok(Some((head, consumed)))`: the head ends before `input[consumed]`, and the
    /// decoder is ready for the next one.
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
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Option<(RequestHead, usize)>, Refusal> {
        self.decode_into(input, limits, &mut HeaderMap::new())
    }

    /// As [`decode`](Self::decode). A head that is there as a whole takes `fields`, which must be empty, for its own, so that what room
    /// there is in them need not be allocated.
    ///
    /// # Errors
    ///
    /// As above.
    ///
    /// # Panics
    ///
    /// As above; and in debug builds when there are fields.
    pub fn decode_into(
        &mut self,
        input: &[u8],
        limits: &Limits,
        fields: &mut HeaderMap,
    ) -> Result<Option<(RequestHead, usize)>, Refusal> {
        debug_assert!(fields.is_empty(), "a head has its own fields and no others");
        let window = &input[..input.len().min(limits.head_window())];
        if self.scanned == 0 {
            // It may still say where the head before was refused.
            self.line_start = 0;
        }
        if self.scanned == 0 {
            let leading = leading_crlf(window, limits.leading_crlf_max);
            let mut lines = Lines::new();
            if lines.read(&window[leading..], limits).is_some() {
                let mut head = lines.judged();
                std::mem::swap(head.request.headers_mut(), fields);
                if lines.fill(&mut head.request).is_some() {
                    return Ok(Some((head, leading + lines.length())));
                }
            }
        }
        self.decode_in_pieces(window, limits)
    }

    #[inline(never)]
    fn decode_in_pieces(&mut self, window: &[u8], limits: &Limits) -> Result<Option<(RequestHead, usize)>, Refusal> {
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

    fn restart(&mut self) {
        *self = HeadDecoder::default();
    }

    /// Scans what is new in `window`. The state stays at the last byte that could be judged.
    fn scan(&mut self, window: &[u8], limits: &Limits) -> Result<Option<RequestHead>, Refusal> {
        loop {
            let scanned = self.scanned as usize;
            let place = self.place();
            let new = &window[scanned..];
            let text_end = scanned + new.iter().position(|&byte| !octet::is(byte, place.class())).unwrap_or(new.len());
            let line = &window[self.line_start as usize..text_end];
            self.check_text(place, line, limits)?;
            self.scanned = text_end as u32;
            match window[text_end..] {
                // A CR says nothing before the byte after it is there.
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => {}
                [b'\r', ..] => return Err(Refusal::BareCarriageReturn),
                [b'\n', ..] => return Err(Refusal::BareLineFeed),
                [byte, ..] if !octet::is(byte, octet::FIELD) => return judge_control_byte(window),
                [byte, ..] => {
                    self.end_text(place, line, byte)?;
                    continue;
                }
            }
            let at_end = self.check_line(place, window, line, limits)?;
            self.scanned = text_end as u32 + 2;
            self.line_start = self.scanned;
            if at_end {
                return self.finish(&window[..text_end + 2], limits).map(Some);
            }
        }
    }

    fn place(&self) -> Place {
        match (self.method_length, self.target_length) {
            _ if self.named => Place::Value,
            _ if self.facts.has(Facts::REQUEST_LINE) => Place::Name,
            (0, _) => Place::Method,
            (_, 0) => Place::Target,
            _ => Place::Version,
        }
    }

    /// Judges a line that has no end yet, all of whose bytes may stand where they do: everything that more bytes could not put
    /// right.
    fn check_text(&self, place: Place, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let judged = (self.scanned - self.line_start) as usize;
        match place {
            Place::Method if line.len() > limits.method_bytes_max => Err(Refusal::MethodTooLong),
            Place::Target => {
                let (method, target) = self.words(line);
                // Nothing beyond the limit is judged, so that it makes no difference how much of that is there.
                let within = &target[..target.len().min(limits.target_bytes_max)];
                check_form_start(method, within, judged - (method.len() + 1))?;
                if within.len() < target.len() { Err(Refusal::TargetTooLong) } else { Ok(()) }
            }
            Place::Version => {
                let start = self.version_start();
                check_version_start(&line[start..], judged - start)
            }
            Place::Name if !line.is_empty() && usize::from(self.fields) >= limits.fields() => {
                Err(Refusal::FieldsTooMany)
            }
            Place::Method | Place::Name | Place::Value => Ok(()),
        }
    }

    /// Takes the first byte that may not stand where `line` goes on with it: the end of a word or a name, or a wrong one.
    fn end_text(&mut self, place: Place, line: &[u8], byte: u8) -> Result<(), Refusal> {
        match (place, byte) {
            (Place::Method, b' ') if line.is_empty() => return Err(Refusal::RequestLineMalformed),
            (Place::Method, b' ') => self.method_length = line.len() as u16,
            (Place::Target, b' ') => {
                let (method, target) = self.words(line);
                if target.is_empty() {
                    return Err(Refusal::RequestLineMalformed);
                }
                Target::parse(method, target)?;
                self.target_length = target.len() as u16;
            }
            (Place::Name, byte) => {
                check_name_end(line.len(), byte)?;
                self.named = true;
            }
            (Place::Method, _) => return Err(Refusal::MethodInvalid),
            (Place::Target, _) => return Err(Refusal::TargetInvalid),
            (Place::Version | Place::Value, _) => unreachable!("every byte of a line may stand there"),
        }
        self.scanned += 1;
        Ok(())
    }

    /// Judges a complete line. True at the empty line that ends the head.
    fn check_line(&mut self, place: Place, window: &[u8], line: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        let mut rules = Rules::resume(self.facts);
        match place {
            Place::Method if line.is_empty() => {
                // Only empty lines precede this one, of two bytes each.
                let lines = self.line_start as usize / 2 + 1;
                return if lines > limits.leading_crlf_max { Err(Refusal::LeadingLines) } else { Ok(false) };
            }
            Place::Method | Place::Target => return Err(Refusal::RequestLineMalformed),
            Place::Version => rules.version_of_line(&line[self.version_start()..])?,
            Place::Name if line.is_empty() => return Ok(true),
            Place::Name | Place::Value => {
                let (name, value) = split_field_line(line)?;
                if let Some(name) = KnownName::of(name) {
                    rules.field(name, value, self.target(window), limits)?;
                }
                self.fields += 1;
                self.named = false;
            }
        }
        self.facts = rules.facts;
        Ok(false)
    }

    /// The method, whose end was seen, and all of `line` that follows it and its space.
    fn words<'a>(&self, line: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (method, rest) = line.split_at(usize::from(self.method_length));
        (method, &rest[1..])
    }

    /// Where in the request line the version begins, after the end of the target was seen.
    fn version_start(&self) -> usize {
        usize::from(self.method_length) + usize::from(self.target_length) + 2
    }

    /// The target, after the request line was read.
    fn target<'a>(&self, window: &'a [u8]) -> &'a [u8] {
        let start = leading_crlf(window, usize::MAX) + usize::from(self.method_length) + 1;
        &window[start..start + usize::from(self.target_length)]
    }

    /// Parses the head, every line of which was found right.
    fn finish(&mut self, head: &[u8], limits: &Limits) -> Result<RequestHead, Refusal> {
        let leading = leading_crlf(head, usize::MAX);
        self.line_start = leading as u32;
        Rules::resume(self.facts).finish()?;
        let mut lines = Lines::new();
        let is_right = lines.read(&head[leading..], limits).is_some();
        let mut parsed = lines.judged();
        let is_right = is_right && lines.fill(&mut parsed.request).is_some();
        debug_assert!(is_right, "the scanner accepted what the parser refuses");
        if is_right { Ok(parsed) } else { Err(Refusal::RequestLineMalformed) }
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

/// Judges a control byte by what `window` begins with: it is one of HTTP that is wrong, or another protocol's. None where more
/// bytes must say which.
fn judge_control_byte(window: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    for (signature, refusal) in SIGNATURES {
        if window.starts_with(signature) {
            return Err(refusal);
        }
        if signature.starts_with(window) {
            return Ok(None);
        }
    }
    Err(Refusal::ControlByte)
}

/// Bytes of the empty lines that `bytes` begins with, at most `lines_max` of them.
#[inline]
fn leading_crlf(bytes: &[u8], lines_max: usize) -> usize {
    if !bytes.starts_with(b"\r") {
        return 0;
    }
    2 * bytes.chunks_exact(2).take(lines_max).take_while(|pair| pair == b"\r\n").count()
}
