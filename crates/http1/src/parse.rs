//! A whole head in one pass, then into the types of the `http` crate.
//!
//! This accepts or does not; why not is for the scanner to say. Each line is split, recognised and judged once, in the order of
//! the bytes, eight of them at a time where it can be. What follows the head in its last word is read, but decides nothing. The
//! names of fields that are not known are left for the `http` crate to judge. Target and field values share one copy of the
//! head. Invariant: what is accepted here is what the scanner accepts.

use std::ops::Range;

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::common_value::common_value;
use crate::field_name::KnownName;
use crate::limits::{FIELDS_CEILING, HEAD_BYTES_CEILING, Limits};
use crate::octet;
use crate::request_head::RequestHead;
use crate::rules::{Rules, VERSION_LENGTH};
use crate::target::Target;
use crate::word::{self, WORD_LENGTH};

/// Where in the head the name and the value of a field are.
#[derive(Clone, Copy)]
struct FieldLine {
    known: Option<KnownName>,
    name: (u16, u16),
    /// Without white space around it.
    value: (u16, u16),
}

const _: () = assert!(HEAD_BYTES_CEILING - 1 <= u16::MAX as usize, "every byte of a head has an index of 16 bits");

/// The lines of a head. Command: [`read`](Lines::read), once. Getters, after it has found them right:
/// [`length`](Lines::length), [`judged`](Lines::judged) and [`fill`](Lines::fill), which all make one [`RequestHead`].
pub(crate) struct Lines<'a> {
    head: &'a [u8],
    method: &'a [u8],
    target: &'a [u8],
    rules: Rules,
    fields: ArrayVec<FieldLine, FIELDS_CEILING>,
}

impl<'a> Lines<'a> {
    #[inline]
    pub(crate) fn new() -> Lines<'a> {
        Lines { head: &[], method: &[], target: &[], rules: Rules::default(), fields: ArrayVec::new() }
    }

    /// Reads the head that `input`, at most [`HEAD_BYTES_CEILING`] bytes, begins with. None where it is not whole, or breaks any
    /// rule but those for names that are not known.
    pub(crate) fn read(&mut self, input: &'a [u8], limits: &Limits) -> Option<()> {
        let mut rest = input;
        (self.method, self.target) = take_request_line(&mut rest, &mut self.rules, limits)?;
        while !rest.starts_with(b"\r\n") {
            if self.fields.len() == limits.fields() {
                return None;
            }
            let start = input.len() - rest.len();
            self.fields.push(take_field_line(&mut rest, start, self.target, &mut self.rules, limits)?);
        }
        self.rules.finish().ok()?;
        self.head = &input[..input.len() - rest.len() + 2];
        Some(())
    }

    /// Bytes of the head.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.head.len()
    }

    /// What the lines mean together, with a request that is still to be [filled](Lines::fill). It takes two steps because a
    /// result of one would be moved twice on its way out.
    #[inline]
    pub(crate) fn judged(&self) -> RequestHead {
        RequestHead {
            request: Request::new(()),
            framing: self.rules.framing(),
            keep_alive: self.rules.keep_alive(),
            expects_continue: self.rules.expects_continue(),
            upgrade: self.rules.offers_upgrade(),
            is_named: self.rules.is_named(),
        }
    }

    /// Fills in what a new request, which is one of `GET /` in HTTP/1.1, has not. None where a name is not valid.
    pub(crate) fn fill(&self, request: &mut Request<()>) -> Option<()> {
        *request.version_mut() = self.rules.version();
        let shared = share(self.head);
        if self.method != b"GET" {
            *request.method_mut() = Method::from_bytes(self.method).ok()?;
        }
        if self.target != b"/" {
            let start = self.method.len() + 1;
            *request.uri_mut() = Uri::from_maybe_shared(shared.slice(start..start + self.target.len())).ok()?;
        }
        let headers = request.headers_mut();
        headers.reserve(self.fields.len());
        for line in &self.fields {
            let value = range(line.value);
            let common = line.known.and_then(|known| common_value(known, &self.head[value.clone()]));
            let value = match common {
                Some(value) => value,
                None => HeaderValue::from_maybe_shared(shared.slice(value)).ok()?,
            };
            let name = match line.known {
                Some(known) => known.header_name(),
                None => HeaderName::from_bytes(self.head.get(range(line.name))?).ok()?,
            };
            headers.append(name, value);
        }
        Some(())
    }
}

/// Takes the request line with its line end off `rest`: its method and its target, which have been judged.
#[inline]
fn take_request_line<'a>(rest: &mut &'a [u8], rules: &mut Rules, limits: &Limits) -> Option<(&'a [u8], &'a [u8])> {
    let method = match rest.strip_prefix(b"GET ") {
        Some(after) => {
            *rest = after;
            b"GET"
        }
        None => take_word(rest, octet::TOKEN)?,
    };
    let target = take_word(rest, octet::TARGET)?;
    if method.len() > limits.method_bytes_max || target.len() > limits.target_bytes_max {
        return None;
    }
    if target[0] != b'/' || method == b"CONNECT" {
        Target::of_bytes(method, target).ok()?;
    }
    let (version, after) = rest.split_at_checked(VERSION_LENGTH)?;
    rules.version_of_line(version).ok()?;
    *rest = after.strip_prefix(b"\r\n")?;
    Some((method, target))
}

/// Takes bytes of `class` off `rest`, and the space that must follow them.
#[inline]
fn take_word<'a>(rest: &mut &'a [u8], class: u8) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| !octet::is(byte, class))?;
    let (word, after) = rest.split_at(end);
    *rest = after.strip_prefix(b" ")?;
    (!word.is_empty()).then_some(word)
}

/// Takes a field line with its line end off `rest`, which begins at `start`.
#[inline]
fn take_field_line(
    rest: &mut &[u8],
    start: usize,
    target: &[u8],
    rules: &mut Rules,
    limits: &Limits,
) -> Option<FieldLine> {
    let line = *rest;
    let first = word::first(line);
    let name_length = match word::marks_of(first, b':') {
        0 => name_length_beyond_word(line)?,
        marks => word::marked(marks),
    };
    let (name, after) = line.split_at_checked(name_length)?;
    let known = KnownName::of_start(first, name);
    // Most values follow one space.
    let value_start = if let [b':', b' ', ..] = after { 2 } else { 1 };
    let value = after.get(value_start..)?;
    let length = value_length(value)?;
    let (value, after_value) = value.split_at_checked(length)?;
    *rest = after_value.strip_prefix(b"\r\n")?;
    if let Some(known) = known
        && known.has_rule()
    {
        rules.field(known, &after[1..value_start + length], target, limits).ok()?;
    }
    let trimmed = octet::trim_text(value);
    let before = trimmed.as_ptr().addr() - line.as_ptr().addr();
    Some(FieldLine {
        known,
        name: (start as u16, name_length as u16),
        value: ((start + before) as u16, trimmed.len() as u16),
    })
}

/// Bytes before the colon, which is none of the first eight.
#[inline]
fn name_length_beyond_word(line: &[u8]) -> Option<usize> {
    let mut length = WORD_LENGTH;
    loop {
        let rest = line.get(length..)?;
        match word::marks_of(word::first(rest), b':') {
            0 => length += WORD_LENGTH,
            marks => return Some(length + word::marked(marks)),
        }
    }
}

/// Bytes before the first one that may not stand in a value. None where there is no such byte.
#[inline]
fn value_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    loop {
        length += text_length(bytes.get(length..)?);
        // Only a tab is both a control byte and part of a value.
        if *bytes.get(length)? != b'\t' {
            return Some(length);
        }
        length += 1;
    }
}

/// Bytes before the first control byte.
#[inline]
fn text_length(bytes: &[u8]) -> usize {
    let marks = word::marks_of_controls(word::first(bytes));
    if marks != 0 {
        return word::marked(marks);
    }
    let Some(rest) = bytes.get(WORD_LENGTH..) else { return bytes.len() };
    let marks = word::marks_of_controls(word::first(rest));
    if marks != 0 {
        return WORD_LENGTH + word::marked(marks);
    }
    let Some(rest) = rest.get(WORD_LENGTH..) else { return bytes.len() };
    2 * WORD_LENGTH + long_text_length(rest)
}

/// The same for long texts.
#[inline(never)]
fn long_text_length(bytes: &[u8]) -> usize {
    const CHUNK: usize = 32;
    let is_text = |chunk: &&[u8; CHUNK]| chunk.iter().fold(true, |all, &byte| all & (byte >= 0x20) & (byte != 0x7f));
    let mut length = CHUNK * bytes.as_chunks().0.iter().take_while(is_text).count();
    while let Some(rest) = bytes.get(length..) {
        let marks = word::marks_of_controls(word::first(rest));
        if marks != 0 {
            return length + word::marked(marks);
        }
        length += WORD_LENGTH;
    }
    bytes.len()
}

fn range((start, length): (u16, u16)) -> Range<usize> {
    usize::from(start)..usize::from(start) + usize::from(length)
}

/// A copy of `head`. A short one takes one allocation and not two: its bytes stand beside their counter, in a block of one of a few
/// sizes.
#[inline]
fn share(head: &[u8]) -> Bytes {
    match head.len() {
        ..=96 => share_in_block::<96>(head),
        97..=192 => share_in_block::<192>(head),
        193..=384 => share_in_block::<384>(head),
        385..=768 => share_in_block::<768>(head),
        _ => Bytes::copy_from_slice(head),
    }
}

#[inline]
fn share_in_block<const LENGTH: usize>(head: &[u8]) -> Bytes {
    let mut block = [0; LENGTH];
    block[..head.len()].copy_from_slice(head);
    Bytes::from_owner(block)
}
