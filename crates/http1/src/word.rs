//! Eight bytes at a time, as the digits of one number: the first byte is the least significant one.
//!
//! The tests for a byte are those of Bit Twiddling Hacks ("Determine if a word has a zero byte"): what they mark above the first byte that they
//! are for may be wrong, what they mark first never is.

/// Bytes of a word.
pub(crate) const WORD_LENGTH: usize = 8;

const HIGH_BITS: u64 = repeat(0x80);

/// `byte`, eight times.
#[inline]
pub(crate) const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD_LENGTH])
}

/// The word at `index`, with zeros where `bytes` has ended.
pub(crate) const fn at(bytes: &[u8], index: usize) -> u64 {
    let mut word = 0;
    let mut taken = 0;
    while taken < WORD_LENGTH && index + taken < bytes.len() {
        word |= (bytes[index + taken] as u64) << (8 * taken);
        taken += 1;
    }
    word
}

/// The word that `bytes` begins with, with zeros where it is shorter.
#[inline]
pub(crate) fn first(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_le_bytes(*chunk);
    }
    first_of_few(bytes)
}

/// The same for fewer than eight bytes.
#[inline(never)]
fn first_of_few(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(low), Some(high)) => {
            let high = u64::from(u32::from_le_bytes(*high)) << (8 * (bytes.len() - 4));
            u64::from(u32::from_le_bytes(*low)) | high
        }
        _ => at(bytes, 0),
    }
}

/// The first `length` bytes of `word`, fewer than eight, with zeros after them.
#[inline]
pub(crate) fn cut(word: u64, length: usize) -> u64 {
    word & !(u64::MAX << (8 * length))
}

/// Marks the first byte that is `byte`. Zero where there is none.
#[inline]
pub(crate) fn marks_of(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ repeat(byte);
    zero_where_equal.wrapping_sub(repeat(1)) & !zero_where_equal & HIGH_BITS
}

/// Marks the first control byte: HTAB is one, too. Zero where there is none.
#[inline]
pub(crate) fn marks_of_controls(word: u64) -> u64 {
    (word.wrapping_sub(repeat(0x20)) & !word & HIGH_BITS) | marks_of(word, 0x7f)
}

/// Which byte is marked.
#[inline]
pub(crate) fn marked(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}
