//! The field `traceparent`: W3C Trace Context, levels 1 and 2 (<https://www.w3.org/TR/trace-context-2/>, section 3.2).
//!
//! It is read strictly: what is not as the recommendation says is no trace context, and the request begins its own.

use std::fmt;

use http::{HeaderMap, HeaderName};

const FIELD: HeaderName = HeaderName::from_static("traceparent");

/// `00-`, the trace, `-`, the parent, `-`, the flags.
const TRACE: std::ops::Range<usize> = 3..35;
const PARENT: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;
/// What is known of the field.
pub(super) const KNOWN_BYTES: usize = FLAGS.end;

/// The trace that a request is a part of, as its `traceparent` says. See [`RequestId::trace_context`](crate::RequestId::trace_context).
// A copy of what is known of the field: it may outlive the head that it came with.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext([u8; KNOWN_BYTES]);

impl TraceContext {
    /// What this version of the recommendation knows of the field.
    pub(super) fn known(&self) -> &[u8; KNOWN_BYTES] {
        &self.0
    }

    /// Of what [`known`](Self::known) gave.
    pub(super) fn of_known(known: &[u8; KNOWN_BYTES]) -> Self {
        Self(*known)
    }

    /// What these fields say, if they say it as they must. Of two fields nobody knows which.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(FIELD)?;
        let is_one = headers.get_all(FIELD).iter().nth(1).is_none();
        let known = value.as_bytes().first_chunk().filter(|_| is_one && is_valid(value.as_bytes()))?;
        Some(Self(*known))
    }

    fn part(&self, range: std::ops::Range<usize>) -> &str {
        // It was checked, so all of it is there and is ASCII.
        self.0.get(range).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
    }

    /// The trace: 32 lower-case hexadecimal digits, not all of them 0.
    pub fn trace_id(&self) -> &str {
        self.part(TRACE)
    }

    /// The span of whoever has sent the request: 16 lower-case hexadecimal digits, not all of them 0.
    pub fn parent_id(&self) -> &str {
        self.part(PARENT)
    }

    /// The flags: 1 is *sampled*, 2 says that the trace id is random (level 2).
    pub fn flags(&self) -> u8 {
        u8::from_str_radix(self.part(FLAGS), 16).unwrap_or_default()
    }

    /// Whether whoever has sent the request may have recorded its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags() & 1 != 0
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext").field(&self.part(0..KNOWN_BYTES)).finish()
    }
}

/// Version 0 ends behind the flags. A later version begins in the same way, and may go on behind another dash (section 4.3).
fn is_valid(value: &[u8]) -> bool {
    let Some((start, rest)) = value.split_at_checked(FLAGS.end) else { return false };
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let parts = [&start[..2], &start[TRACE], &start[PARENT], &start[FLAGS]];
    let dashes = [start[2], start[TRACE.end], start[PARENT.end]];
    let ends = match &start[..2] {
        b"ff" => false,
        b"00" => rest.is_empty(),
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    ends && dashes == *b"---" && parts.into_iter().all(is_hex) && !is_zero(&start[TRACE]) && !is_zero(&start[PARENT])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_not_as_the_recommendation_says_is_no_context() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, is_right) in [
            (valid.to_owned(), true),
            (valid.replace("-01", "-00"), true),
            (valid.replace("-01", "-ff"), true),
            (valid.replacen("00", "01", 1), true),
            (valid.replacen("00", "fe", 1) + "-what-comes-later", true),
            (valid.replacen("00", "cc", 1) + ".what", false),
            (valid.replacen("00", "ff", 1), false),
            (valid.to_owned() + "-", false),
            (valid.to_owned() + "-more", false),
            (valid.to_uppercase(), false),
            (valid.replace("4bf9", "4bg9"), false),
            (valid.replace("-01", "-0x"), false),
            (valid.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (valid.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (valid.replace('-', "_"), false),
            (valid[1..].to_owned(), false),
            (valid[..54].to_owned(), false),
            (format!(" {valid}"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_valid(value.as_bytes()), is_right, "{value:?}");
        }
    }

    #[test]
    fn a_context_has_its_parts_and_two_fields_are_none() {
        let value = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03");
        let mut headers = HeaderMap::from_iter([(FIELD, value.clone())]);
        let context = TraceContext::of(&headers).unwrap();
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.parent_id(), context.flags(), context.is_sampled()), ("00f067aa0ba902b7", 3, true));
        headers.append(FIELD, value);
        assert_eq!(TraceContext::of(&headers), None);
    }
}
