//! Classes of octets, one table for all of them.
//!
//! Each class is a bit, named after the rule of RFC 9110, RFC 9112 or RFC 3986 that it stands for. A byte in no class
//! is a control byte. The table is built at compile time; a look-up is one load.

/// `tchar` of RFC 9110 5.6.2: what methods, field names and extension names consist of.
pub(crate) const TOKEN: u8 = 1;
/// HTAB, SP, VCHAR and obs-text of RFC 9110 5.5: what may stand in a line of a head.
pub(crate) const FIELD: u8 = 2;
/// What may stand in a target, be it in a path, in a query or in an authority: see [`UNWISE`].
pub(crate) const TARGET: u8 = 4;
/// `unreserved` and `sub-delims` of RFC 3986: what a registered name consists of, percent-encoding apart. A comma is a sub-delim,
/// yet in a Host it is two values that something has joined, so it is left out.
pub(crate) const REG_NAME: u8 = 8;

/// The bytes that RFC 3986 leaves out of paths and queries and that may stand in both here, because clients send them as they
/// are and `http::Uri` holds them in both. It holds `"` in paths alone and a back quote in queries alone, so neither may stand
/// anywhere. `#` would begin a fragment, and servers take `\` for `/`.
const UNWISE: &[u8] = b"[]^{|}";

static CLASSES: [u8; 256] = classes();

/// Whether `byte` is in one of the classes of `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether all of `bytes` are in one of the classes of `class`. True where there are none.
#[inline]
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&byte| is(byte, class))
}

/// Whether `byte` is SP or HTAB, the white space of RFC 9110 5.6.3.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without SP and HTAB at either end.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    // Most values follow one space, and nothing follows them.
    trim_text(if let [b' ', text @ ..] = bytes { text } else { bytes })
}

/// The same, quicker where there are none.
#[inline]
pub(crate) fn trim_text(bytes: &[u8]) -> &[u8] {
    match bytes {
        [first, .., last] if *first > b' ' && *last > b' ' => bytes,
        _ => trim_any(bytes),
    }
}

#[inline(never)]
fn trim_any(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = classes_of(index as u8);
        index += 1;
    }
    table
}

const fn classes_of(byte: u8) -> u8 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let mut class = 0;
    if alphanumeric || contains(b"!#$%&'*+-.^_`|~", byte) {
        class |= TOKEN;
    }
    if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
        class |= FIELD;
    }
    if alphanumeric || contains(b"-._~!$&'()*+,;=:@%/?", byte) || contains(UNWISE, byte) {
        class |= TARGET;
    }
    if alphanumeric || contains(b"-._~!$&'()*+;=", byte) {
        class |= REG_NAME;
    }
    class
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}
