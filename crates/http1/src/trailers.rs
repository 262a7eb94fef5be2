//! The trailer section of a chunked body (RFC 9112 7.1.2), byte by byte.
//!
//! Only the line that is being read is kept, and the fields that may be used. Fields that frame, route or authenticate
//! a message come too late in a trailer and are dropped (RFC 9110 6.5.1). Invariant: memory stays within
//! `trailer_bytes_max`, whatever is dropped or kept.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::field_line::{check_name_end, split_field_line};
use crate::octet;
use crate::{Limits, Refusal};

/// The state of a trailer section.
#[derive(Debug, Default)]
pub(crate) struct TrailerDecoder {
    line: Vec<u8>,
    /// Whether the colon of the line has been seen.
    named: bool,
    /// Whether the CR after the line has been seen.
    at_line_feed: bool,
    /// Bytes of the section so far.
    bytes: usize,
    /// Fields so far, dropped ones included.
    count: usize,
    fields: Option<Box<HeaderMap>>,
}

impl TrailerDecoder {
    /// Takes one byte. True at the empty line that ends the section.
    pub(crate) fn push(&mut self, byte: u8, limits: &Limits) -> Result<bool, Refusal> {
        self.bytes += 1;
        if self.bytes > limits.trailer_bytes_max {
            return Err(Refusal::TrailersTooLarge);
        }
        match (self.at_line_feed, byte) {
            (true, b'\n') => {
                self.at_line_feed = false;
                self.take_line()
            }
            (true, _) => Err(Refusal::BareCarriageReturn),
            (false, b'\r') => {
                self.at_line_feed = true;
                Ok(false)
            }
            (false, b'\n') => Err(Refusal::BareLineFeed),
            (false, byte) if !octet::is(byte, octet::FIELD) => Err(Refusal::ControlByte),
            (false, _) if self.line.is_empty() && self.count >= limits.fields() => Err(Refusal::TrailersTooMany),
            (false, byte) => {
                if !self.named && !octet::is(byte, octet::TOKEN) {
                    check_name_end(self.line.len(), byte)?;
                    self.named = true;
                }
                self.line.push(byte);
                Ok(false)
            }
        }
    }

    /// The fields that may be used, if there are any.
    pub(crate) fn into_fields(self) -> Option<Box<HeaderMap>> {
        self.fields
    }

    fn take_line(&mut self) -> Result<bool, Refusal> {
        if self.line.is_empty() {
            return Ok(true);
        }
        self.count += 1;
        let (name, value) = split_field_line(&self.line)?;
        let name = HeaderName::from_bytes(name).map_err(|_| Refusal::FieldNameInvalid)?;
        if !is_forbidden(&name) {
            let value = HeaderValue::from_bytes(octet::trim(value)).map_err(|_| Refusal::ControlByte)?;
            self.fields.get_or_insert_default().append(name, value);
        }
        self.line.clear();
        self.named = false;
        Ok(false)
    }
}

/// In alphabetical order.
const FORBIDDEN: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Whether a field must not be sent or used as a trailer: framing, routing, request modifiers, authentication, response
/// control, and what is needed to understand the content (RFC 9110 6.5.1).
pub(crate) fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.binary_search(&name.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn forbidden_names_are_in_order() {
        assert!(super::FORBIDDEN.is_sorted());
    }
}
