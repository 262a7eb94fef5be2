//! The line before a chunk: its size and its extensions (RFC 9112 7.1), byte by byte.
//!
//! Extensions are checked and dropped: nothing that they say is used. White space may stand around `;` and `=`, as
//! RFC 9112 7.1.1 has it (BWS), and nowhere else: after a size that no `;` follows it is refused, because servers and proxies
//! differ in where they see such a size end.
//!
//! ```text
//!   after         SP, HTAB      ;        =             other bytes     CR
//!   the size      Space         Start    -             -               the end
//!   Space         Space         Start    -             -               -
//!   Start         Start         -        -             Name            -
//!   Name          NameSpace     Start    ValueStart    Name            the end
//!   NameSpace     NameSpace     Start    ValueStart    -               -
//!   ValueStart    ValueStart    -        -             Token, Quoted   -
//!   Token         Space         Start    -             Token           the end
//!   QuotedEnd     Space         Start    -             -               the end
//! ```

use crate::Refusal;
use crate::octet;

/// The digits of a chunk size.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkSize {
    value: u64,
    digits: u8,
}

const DIGITS_MAX: u8 = 16;

impl ChunkSize {
    /// The size with one more digit.
    pub(crate) fn push(self, byte: u8) -> Result<ChunkSize, Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' => return Err(Refusal::BareLineFeed),
            _ => return Err(Refusal::ChunkSizeInvalid),
        };
        if self.digits == DIGITS_MAX {
            return Err(Refusal::ChunkSizeTooLarge);
        }
        let value = self.value.checked_mul(16).ok_or(Refusal::ChunkSizeTooLarge)? + u64::from(digit);
        if value > i64::MAX as u64 {
            return Err(Refusal::ChunkSizeTooLarge);
        }
        Ok(ChunkSize { value, digits: self.digits + 1 })
    }

    /// The size that the digits so far stand for.
    pub(crate) fn value(self) -> u64 {
        self.value
    }

    /// The size, of which there must be at least one digit.
    pub(crate) fn end(self) -> Result<u64, Refusal> {
        if self.digits == 0 { Err(Refusal::ChunkSizeInvalid) } else { Ok(self.value) }
    }
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkExtension {
    /// In white space after the size or a value, which `;` must end.
    Space,
    /// After `;`: before the first byte of a name.
    Start,
    /// In a name.
    Name,
    /// In white space after a name, which `=` or `;` must end.
    NameSpace,
    /// After `=`: before the first byte of a value.
    ValueStart,
    /// In a token value.
    Token,
    /// In a quoted value.
    Quoted,
    /// After a backslash in a quoted value.
    Escaped,
    /// After a quoted value.
    QuotedEnd,
}

impl ChunkExtension {
    /// Whether the line may end here.
    pub(crate) fn may_end(self) -> bool {
        matches!(self, ChunkExtension::Name | ChunkExtension::Token | ChunkExtension::QuotedEnd)
    }

    /// Where the byte after `byte` stands.
    pub(crate) fn push(self, byte: u8) -> Result<ChunkExtension, Refusal> {
        use ChunkExtension::{Escaped, Name, NameSpace, Quoted, QuotedEnd, Space, Start, Token, ValueStart};
        match (self, byte) {
            (Start | ValueStart | NameSpace | Space, b' ' | b'\t') => Ok(self),
            (Name, b' ' | b'\t') => Ok(NameSpace),
            (Token | QuotedEnd, b' ' | b'\t') => Ok(Space),
            (Start | Name, byte) if octet::is(byte, octet::TOKEN) => Ok(Name),
            (Name | NameSpace, b'=') => Ok(ValueStart),
            (ValueStart, b'"') => Ok(Quoted),
            (ValueStart | Token, byte) if octet::is(byte, octet::TOKEN) => Ok(Token),
            (Quoted, b'"') => Ok(QuotedEnd),
            (Quoted, b'\\') => Ok(Escaped),
            (Quoted | Escaped, byte) if octet::is(byte, octet::FIELD) => Ok(Quoted),
            (Name | NameSpace | Token | QuotedEnd | Space, b';') => Ok(Start),
            (_, b'\n') => Err(Refusal::BareLineFeed),
            _ => Err(Refusal::ChunkExtensionInvalid),
        }
    }
}
