//! What the values of the two fields that frame a body say, in either direction (RFC 9112 6.1, 6.2).
//!
//! All Transfer-Encoding lines of a head are one list (RFC 9110 5.3), so the same codings on one line or on several are judged
//! alike. Only the one coding `chunked` is understood. Whether a list without it lacks its end, or goes on in another line, only
//! the end of the head can say.

use crate::octet;
use crate::{Refusal, ResponseRefusal};

/// What the list so far names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codings {
    /// Codings that nobody here understands.
    pub(crate) others: bool,
    /// `chunked`, as the last one.
    pub(crate) chunked: bool,
}

/// What is wrong with the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodingFault {
    /// It is malformed, or does not end in chunked.
    Invalid,
    /// It names chunked twice.
    Repeated,
    /// It ends in chunked, after codings that nobody here understands.
    Unknown,
}

impl From<CodingFault> for Refusal {
    fn from(fault: CodingFault) -> Refusal {
        match fault {
            CodingFault::Invalid => Refusal::TransferEncodingInvalid,
            CodingFault::Repeated => Refusal::TransferEncodingRepeated,
            CodingFault::Unknown => Refusal::TransferEncodingUnknown,
        }
    }
}

impl From<CodingFault> for ResponseRefusal {
    fn from(fault: CodingFault) -> ResponseRefusal {
        match fault {
            CodingFault::Invalid => ResponseRefusal::TransferEncodingInvalid,
            CodingFault::Repeated => ResponseRefusal::TransferEncodingRepeated,
            CodingFault::Unknown => ResponseRefusal::TransferEncodingUnknown,
        }
    }
}

impl Codings {
    /// The list with the codings of one more line. Nothing may follow `chunked`.
    pub(crate) fn with_line(mut self, value: &[u8]) -> Result<Codings, CodingFault> {
        let value = trim_framing(value).ok_or(CodingFault::Invalid)?;
        for coding in value.split(|&byte| byte == b',').map(octet::trim) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            match (self.chunked, chunked) {
                _ if coding.is_empty() || !octet::all(coding, octet::TOKEN) => return Err(CodingFault::Invalid),
                (true, true) => return Err(CodingFault::Repeated),
                (true, false) => return Err(CodingFault::Invalid),
                (false, true) => self.chunked = true,
                (false, false) => self.others = true,
            }
        }
        Ok(self)
    }

    /// Whether there was no such line.
    pub(crate) fn is_empty(self) -> bool {
        self == Codings::default()
    }

    /// Judges what only the end of the head can show.
    pub(crate) fn finish(self) -> Result<(), CodingFault> {
        match (self.others, self.chunked) {
            (false, _) => Ok(()),
            (true, false) => Err(CodingFault::Invalid),
            (true, true) => Err(CodingFault::Unknown),
        }
    }
}

/// A decimal number without sign and leading zeros that fits 63 bits. Some peers compute with signed numbers; beyond
/// that two sides of a proxy could differ.
pub(crate) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut length: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        length = length * 10 + u64::from(digit - b'0');
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Trims spaces from the value of a framing field. `None` if there is a tab: it is legal, but readers differ in what they make of
/// it, and a doubt about framing is a refusal.
pub(crate) fn trim_framing(value: &[u8]) -> Option<&[u8]> {
    (!value.contains(&b'\t')).then(|| octet::trim(value))
}
