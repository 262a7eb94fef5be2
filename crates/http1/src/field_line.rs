//! Lines of a head in either direction: where one ends, and where its name does (RFC 9112 5).
//!
//! This knows syntax alone. What a field means is for the rules of the one direction or the other.

use crate::octet;
use crate::{Refusal, ResponseRefusal};

/// What is wrong with the syntax of a field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldLineFault {
    Folded,
    ColonMissing,
    NameInvalid,
    NameSpace,
}

impl From<FieldLineFault> for Refusal {
    fn from(fault: FieldLineFault) -> Refusal {
        match fault {
            FieldLineFault::Folded => Refusal::FieldLineFolded,
            FieldLineFault::ColonMissing => Refusal::FieldColonMissing,
            FieldLineFault::NameInvalid => Refusal::FieldNameInvalid,
            FieldLineFault::NameSpace => Refusal::FieldNameSpace,
        }
    }
}

impl From<FieldLineFault> for ResponseRefusal {
    fn from(fault: FieldLineFault) -> ResponseRefusal {
        match fault {
            FieldLineFault::Folded => ResponseRefusal::FieldLineFolded,
            FieldLineFault::ColonMissing => ResponseRefusal::FieldColonMissing,
            FieldLineFault::NameInvalid => ResponseRefusal::FieldNameInvalid,
            FieldLineFault::NameSpace => ResponseRefusal::FieldNameSpace,
        }
    }
}

/// Judges the first byte of a field line that is no byte of a token, and that `name_length` of them precede: only a colon that
/// ends a name is right there.
pub(crate) fn check_name_end(name_length: usize, byte: u8) -> Result<(), FieldLineFault> {
    match byte {
        b':' if name_length > 0 => Ok(()),
        b' ' | b'\t' if name_length == 0 => Err(FieldLineFault::Folded),
        b' ' | b'\t' => Err(FieldLineFault::NameSpace),
        _ => Err(FieldLineFault::NameInvalid),
    }
}

/// Splits a whole field line into name and raw value, and judges the name.
pub(crate) fn split_field_line(line: &[u8]) -> Result<(&[u8], &[u8]), FieldLineFault> {
    let end = line.iter().position(|&byte| !octet::is(byte, octet::TOKEN)).ok_or(FieldLineFault::ColonMissing)?;
    check_name_end(end, line[end])?;
    Ok((&line[..end], &line[end + 1..]))
}

/// Takes the first line off `rest`, which ends where `next` begins or, without a next one, before the empty line. None
/// where the line does not end in CR LF.
#[inline]
pub(crate) fn take_line<'a>(rest: &mut &'a [u8], next: Option<&httparse::Header<'_>>) -> Option<&'a [u8]> {
    let end = match next {
        Some(next) => next.name.as_ptr().addr() - rest.as_ptr().addr(),
        None => rest.len().checked_sub(2)?,
    };
    let (line, after) = rest.split_at_checked(end)?;
    *rest = after;
    line.strip_suffix(b"\r\n")
}
