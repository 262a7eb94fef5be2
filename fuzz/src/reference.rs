//! The same messages read in another way: whole, line by line, as plainly as the grammar is written (RFC 9112 5, 7.1).
//!
//! Nothing here is shared with the decoders, not even a table of bytes. It knows no limits, and may find out later than
//! they do that something is wrong.

use crate::input::{Field, sorted};

/// What a chunked body turned out to be.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ends before `wire[consumed]`.
    Complete { data: Vec<u8>, trailers: Vec<Field>, consumed: usize },
    /// More is needed.
    Incomplete,
    /// No bytes could put it right.
    Wrong,
}

/// Reads a chunked body. Trailers are all there, those that nobody may use as well.
pub(crate) fn chunked(wire: &[u8]) -> Outcome {
    let (mut data, mut trailers) = (Vec::new(), Vec::new());
    let mut rest = wire;
    let mut in_trailers = false;
    loop {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return Outcome::Incomplete };
        let Some(line) = rest[..end].strip_suffix(b"\r") else { return Outcome::Wrong };
        rest = &rest[end + 1..];
        if in_trailers && line.is_empty() {
            return Outcome::Complete { data, trailers: sorted(trailers), consumed: wire.len() - rest.len() };
        }
        if in_trailers {
            let Some(field) = field(line) else { return Outcome::Wrong };
            trailers.push(field);
            continue;
        }
        let Some(size) = chunk_size(line) else { return Outcome::Wrong };
        if size == 0 {
            in_trailers = true;
            continue;
        }
        let Some(chunk) = rest.get(..size) else { return Outcome::Incomplete };
        data.extend_from_slice(chunk);
        match &rest[size..] {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Outcome::Incomplete,
            _ => return Outcome::Wrong,
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = (1..=16).contains(&digits).then(|| str::from_utf8(&line[..digits]).expect("digits"))?;
    let size = i64::from_str_radix(size, 16).ok()?;
    extensions(&line[digits..])?;
    usize::try_from(size).ok()
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn extensions(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        rest = token(without_space(without_space(rest).strip_prefix(b";")?))?;
        let Some(value) = without_space(rest).strip_prefix(b"=") else { continue };
        let value = without_space(value);
        rest = match value.strip_prefix(b"\"") {
            Some(text) => quoted(text)?,
            None => token(value)?,
        };
    }
    Some(())
}

/// What follows the white space, if there is any.
fn without_space(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().take_while(|byte| b" \t".contains(byte)).count();
    &bytes[length..]
}

/// What follows a token.
fn token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take_while(|&&byte| is_token(byte)).count();
    (length > 0).then(|| &bytes[length..])
}

/// What follows the quote that ends a string.
fn quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] if is_text(*byte) => rest,
            [b'\\', ..] => return None,
            [byte, rest @ ..] if is_text(*byte) => rest,
            _ => return None,
        };
    }
}

/// Splits at each CR LF; what follows the last one counts.
pub(crate) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

/// Splits a field line; the name in lower case, the value trimmed.
pub(crate) fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) || !value.iter().all(|&byte| is_text(byte)) {
        return None;
    }
    let name = str::from_utf8(name).expect("a token").to_ascii_lowercase();
    Some((name, value.trim_ascii().to_vec()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}
