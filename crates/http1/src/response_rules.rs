//! What the lines of a response head mean together: status, framing, persistence.
//!
//! This judges lines one at a time and in their order, so that it can run over a whole head or over one that is still
//! arriving, with the same result. Invariant: a doubt about where the body ends is a refusal (RFC 9112 6.3), never a
//! choice, and a field that frames is judged in the same way whether there can be a body or not.

use http::{StatusCode, Version};

use crate::framing::{Codings, parse_length, trim_framing};
use crate::octet;
use crate::{Limits, ResponseFraming, ResponseRefusal};

/// What the lines so far have stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseRules {
    /// The Content-Length, where there is one.
    length: u64,
    /// The three digits; 0 before the status line was read.
    status: u16,
    facts: u8,
}

const VERSION_1_0: u8 = 1;
const LENGTH: u8 = 1 << 1;
const CHUNKED: u8 = 1 << 2;
const CLOSE: u8 = 1 << 3;
const KEEP_ALIVE: u8 = 1 << 4;
const OTHER_CODINGS: u8 = 1 << 5;

/// `HTTP/d.d ddd `: how every status line begins. The last space may be missing where the line ends.
const STATUS_LINE_START: &[u8; 13] = b"HTTP/d.d ddd ";
const STATUS_START: usize = 9;
const STATUS_END: usize = 12;

/// Judges a status line that has no end yet, and whose first `judged` bytes have been found right: everything that more
/// bytes could not put right.
#[inline]
pub(crate) fn check_status_line_start(line: &[u8], judged: usize) -> Result<(), ResponseRefusal> {
    for (index, (&byte, &expected)) in line.iter().zip(STATUS_LINE_START).enumerate().skip(judged) {
        let right = if expected == b'd' { byte.is_ascii_digit() } else { byte == expected };
        match index {
            _ if !right => return Err(ResponseRefusal::StatusLineMalformed),
            7 if line[5] != b'1' => return Err(ResponseRefusal::VersionUnsupported),
            11 if line[STATUS_START] == b'0' => return Err(ResponseRefusal::StatusInvalid),
            _ => {}
        }
    }
    Ok(())
}

impl ResponseRules {
    /// Judges a complete status line. The reason phrase may be missing, and even the space before it, which RFC 9112 4 asks
    /// for but which many servers leave out.
    #[inline]
    pub(crate) fn status_line(&mut self, line: &[u8]) -> Result<(), ResponseRefusal> {
        check_status_line_start(line, 0)?;
        let digits = line.get(STATUS_START..STATUS_END).ok_or(ResponseRefusal::StatusLineMalformed)?;
        self.status = digits.iter().fold(0, |status, digit| 10 * status + u16::from(digit - b'0'));
        // A later minor version is read as 1.1 (RFC 9110 2.5).
        if line[7] == b'0' {
            self.facts |= VERSION_1_0;
        }
        Ok(())
    }

    /// Whether the status line was read.
    #[inline]
    pub(crate) fn has_status_line(&self) -> bool {
        self.status != 0
    }

    /// Judges a field line. `name` is a token; `value` is all between the colon and the line end.
    #[inline]
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseRefusal> {
        // Most fields differ from all of these in length already.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    /// Judges what only the end of the head can show, and gives the framing: RFC 9112 6.3, in its order.
    #[inline]
    pub(crate) fn finish(&self, head_request: bool, limits: &Limits) -> Result<ResponseFraming, ResponseRefusal> {
        self.codings().finish()?;
        match self.status {
            _ if head_request => Ok(ResponseFraming::NoBody),
            100..=199 | 204 | 304 => Ok(ResponseFraming::NoBody),
            _ if self.has(CHUNKED) => Ok(ResponseFraming::Chunked),
            _ if self.length > limits.body_bytes_max => Err(ResponseRefusal::BodyTooLarge),
            _ if self.has(LENGTH) => Ok(ResponseFraming::Length(self.length)),
            _ => Ok(ResponseFraming::UntilClose),
        }
    }

    /// The status, after the status line was read.
    #[inline]
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("100 to 999, or it was refused")
    }

    /// The version that the answer is read as.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        if self.has(VERSION_1_0) { Version::HTTP_10 } else { Version::HTTP_11 }
    }

    /// Whether the connection persists after a body with `framing` (RFC 9112 9.3).
    #[inline]
    pub(crate) fn keep_alive(&self, framing: ResponseFraming) -> bool {
        // After 101 it speaks another protocol.
        let ends = framing == ResponseFraming::UntilClose || self.status == 101 || self.has(CLOSE);
        !ends && (!self.has(VERSION_1_0) || self.has(KEEP_ALIVE))
    }

    #[inline]
    fn has(&self, fact: u8) -> bool {
        self.facts & fact != 0
    }

    /// One length, said once or in the same way several times, in lines or in a list: that much RFC 9112 6.3 lets a
    /// recipient accept, and proxies do join answers of servers that say it twice.
    fn content_length(&mut self, value: &[u8]) -> Result<(), ResponseRefusal> {
        if !self.codings().is_empty() {
            return Err(ResponseRefusal::LengthAndTransferEncoding);
        }
        let value = trim_framing(value).ok_or(ResponseRefusal::LengthInvalid)?;
        for digits in value.split(|&byte| byte == b',') {
            let length = parse_length(octet::trim(digits)).ok_or(ResponseRefusal::LengthInvalid)?;
            if self.has(LENGTH) && length != self.length {
                return Err(ResponseRefusal::LengthsDiffer);
            }
            self.length = length;
            self.facts |= LENGTH;
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), ResponseRefusal> {
        if self.has(LENGTH) {
            return Err(ResponseRefusal::LengthAndTransferEncoding);
        }
        if self.has(VERSION_1_0) {
            return Err(ResponseRefusal::TransferEncodingVersion);
        }
        let codings = self.codings().with_line(value)?;
        self.facts |= if codings.others { OTHER_CODINGS } else { 0 };
        self.facts |= if codings.chunked { CHUNKED } else { 0 };
        Ok(())
    }

    fn codings(&self) -> Codings {
        Codings { others: self.has(OTHER_CODINGS), chunked: self.has(CHUNKED) }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(octet::trim) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.facts |= CLOSE,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.facts |= KEEP_ALIVE,
                _ => {}
            }
        }
    }
}
