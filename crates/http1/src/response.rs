//! Encoding the head of an answer.
//!
//! The app's fields are written and noted in one pass; what the head says of framing and connection is decided of that in `response_check`. The
//! body is `body_encoder`'s. Invariant: what stays written is one well-formed message, or nothing.

use http::header::HeaderMap;
use http::{StatusCode, Version};

use crate::response_check::{Noted, REQUEST_ID, append_connection_options};
use crate::{BodyLength, ResponseCheck, ResponseContext, ResponseError, ResponsePlan};

/// Sent when the application begins to read a body that the client holds back.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends status line, fields and the empty line to `out`. `date` is an IMF-fixdate (RFC 9110 5.6.7), added unless the
/// application has set one. `length` is that of the body at hand. `request_id` is what the request is called, added as `X-Request-Id` unless
/// the application has set that; it may not hold what ends a line.
///
/// Transfer-Encoding and the connection options `close` and `keep-alive` are replaced by what holds. With `Unknown`, a
/// Content-Length of the application becomes the framing, and the caller must see to it that the body has that length. Where
/// the application announces trailers (`Trailer`, RFC 9110 6.6.2), a body to HTTP/1.1 is chunked whatever is known of its
/// length, because nothing else can carry them.
///
/// # Errors
///
/// What the application did wrong. `out` is then as it was.
pub fn encode_response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    length: BodyLength,
    context: ResponseContext,
    date: &[u8; 29],
    request_id: Option<&[u8]>,
) -> Result<ResponsePlan, ResponseError> {
    let begin = out.len();
    encode_status_line(out, status);
    let noted = encode_fields(out, headers);
    let (noted, ResponseCheck { plan, content_length, chunked }) = noted
        .and_then(|noted| noted.check(status, headers, length, context).map(|check| (noted, check)))
        .inspect_err(|_| out.truncate(begin))?;
    let request_id = request_id.filter(|_| !noted.request_id);
    match (content_length, noted.date, request_id) {
        // Most answers.
        (Some(length), false, None) => encode_date_and_length(out, date, length),
        _ => {
            if !noted.date {
                encode_field(out, b"date", date);
            }
            if let Some(id) = request_id {
                encode_field(out, REQUEST_ID.as_bytes(), id);
            }
            if let Some(length) = content_length {
                encode_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
            }
        }
    }
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if noted.connection || !plan.keep_alive || context.version == Version::HTTP_10 {
        encode_connection(out, status, headers, plan.keep_alive, context.version);
    }
    out.extend_from_slice(b"\r\n");
    Ok(plan)
}

/// The fields of the application, but for those that say how the message is framed and whether the connection persists.
#[inline(always)]
fn encode_fields(out: &mut Vec<u8>, headers: &HeaderMap) -> Result<Noted, ResponseError> {
    let mut noted = Noted::default();
    for (name, value) in headers {
        if noted.note(name, value)? {
            encode_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    Ok(noted)
}

/// Two fields at once, all of which but a few bytes is known.
#[inline(always)]
fn encode_date_and_length(out: &mut Vec<u8>, date: &[u8; 29], length: u64) {
    const NAME: &[u8; 6] = b"date: ";
    let mut fields = *b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: ";
    fields[NAME.len()..][..date.len()].copy_from_slice(date);
    out.extend_from_slice(&fields);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// One Connection field, or none.
fn encode_connection(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, keep_alive: bool, version: Version) {
    const NAME: &[u8] = b"connection: ";
    let begin = out.len();
    out.extend_from_slice(NAME);
    append_connection_options(out, status, headers, keep_alive, version);
    match out.len() - begin > NAME.len() {
        true => out.extend_from_slice(b"\r\n"),
        false => out.truncate(begin),
    }
}

pub(crate) fn encode_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    // The one that comes in floods.
    if status == StatusCode::TOO_MANY_REQUESTS {
        out.extend_from_slice(b"HTTP/1.1 429 Too Many Requests\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    // RFC 9112 4: the space stays where there is no reason phrase.
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[inline]
pub(crate) fn encode_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
