//! Encoding an answer: head, chunks, and the short answers that the server gives by itself.
//!
//! The application says what it answers; how the message is framed and whether the connection persists is decided here,
//! in one place ([`plan`]), before the first byte is written. Invariant: what is written is one well-formed message, or
//! nothing.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRAILER, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use crate::framing::parse_length;
use crate::octet;
use crate::trailers;

/// Sent when the application begins to read a body that the client holds back.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What the response head must know of the request.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext {
    /// Whether the method is HEAD.
    pub head_request: bool,
    /// The version of the request.
    pub version: Version,
    /// Whether request and server both want the connection to persist.
    pub keep_alive: bool,
}

/// What is known of the length of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Exact(u64),
    /// Known only at its end.
    Unknown,
}

/// What an encoded response head has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePlan {
    /// How the body must follow.
    pub framing: ResponseFraming,
    /// Whether the connection persists after the body.
    pub keep_alive: bool,
}

/// Where a response body ends (RFC 9112 6.3): how it must be sent, or how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none: HEAD, 1xx, 204, 304. Nor is any sent with 205, whatever the application has; a 205 that is received
    /// is framed by its fields like any other answer.
    NoBody,
    /// Exactly so many bytes, or none.
    Length(u64),
    /// In chunks. To send: [`encode_chunk_head`], data, [`CHUNK_END`]; then [`encode_last_chunk`].
    Chunked,
    /// As it is; the end of the connection ends it. It is sent to HTTP/1.0 only.
    UntilClose,
}

/// What the application did wrong. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// Content-Length is no number, or not the length of the body.
    #[error("the Content-Length of the response is not the length of its body")]
    LengthMismatch,
    /// A 1xx status other than 101, or any 1xx to an HTTP/1.0 client, as the final answer.
    #[error("an interim status cannot be the final answer")]
    InterimStatus,
}

/// Appends status line, fields and the empty line to `out`. `date` is an IMF-fixdate (RFC 9110 5.6.7), added unless the
/// application has set one. `length` is that of the body at hand.
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
) -> Result<ResponsePlan, ResponseError> {
    let noted = Noted::of(headers)?;
    let (plan, content_length, chunked) = plan(status, headers, &noted, length, context)?;
    out.reserve(noted.bytes + FIXED_BYTES_MAX);
    encode_status_line(out, status);
    for (name, value) in headers {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != CONNECTION {
            encode_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if !noted.date {
        encode_field(out, b"date", date);
    }
    if let Some(length) = content_length {
        encode_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
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

/// Room for all that this module adds to the fields of the application.
const FIXED_BYTES_MAX: usize = 256;

/// Decides framing and persistence; and what the head says of the framing: the Content-Length, and whether the body is chunked,
/// or would be in an answer to GET.
fn plan(
    status: StatusCode,
    headers: &HeaderMap,
    noted: &Noted,
    length: BodyLength,
    context: ResponseContext,
) -> Result<(ResponsePlan, Option<u64>, bool), ResponseError> {
    let (plan, content_length) = plan_by_length(status, headers, noted, length, context)?;
    if noted.trailer && may_have_trailers(status, context.version) {
        let framing = if context.head_request { ResponseFraming::NoBody } else { ResponseFraming::Chunked };
        return Ok((ResponsePlan { framing, ..plan }, None, true));
    }
    let chunked = plan.framing == ResponseFraming::Chunked;
    Ok((plan, content_length, chunked))
}

/// Whether trailers can follow an answer, or would follow it if the request were no HEAD: only chunks can carry them.
#[cold]
fn may_have_trailers(status: StatusCode, version: Version) -> bool {
    version != Version::HTTP_10 && !matches!(status.as_u16(), 101 | 204 | 205 | 304)
}

/// Decides framing, persistence and the Content-Length to announce, as if there were no trailers.
fn plan_by_length(
    status: StatusCode,
    headers: &HeaderMap,
    noted: &Noted,
    length: BodyLength,
    context: ResponseContext,
) -> Result<(ResponsePlan, Option<u64>), ResponseError> {
    let http_1_0 = context.version == Version::HTTP_10;
    // RFC 9110 15.2: no 1xx to an HTTP/1.0 client.
    if status.is_informational() && (status != StatusCode::SWITCHING_PROTOCOLS || http_1_0) {
        return Err(ResponseError::InterimStatus);
    }
    let announced = noted.content_length;
    let (framing, content_length) = match (status.as_u16(), length) {
        (101 | 204, _) => (ResponseFraming::NoBody, None),
        // RFC 9110 15.3.6: no content, and said so.
        (205, _) => (ResponseFraming::NoBody, (!context.head_request).then_some(0)),
        // RFC 9110 8.6: the length that 200 would have, or none. That of the body at hand, as frameworks add it, is another.
        (304, length) => {
            (ResponseFraming::NoBody, announced.filter(|&announced| length != BodyLength::Exact(announced)))
        }
        // An empty body is what many handlers give for HEAD, so its length says nothing.
        (_, BodyLength::Exact(0) | BodyLength::Unknown) if context.head_request => (ResponseFraming::NoBody, announced),
        (_, BodyLength::Exact(length)) if context.head_request => (ResponseFraming::NoBody, announced.or(Some(length))),
        (_, BodyLength::Exact(length)) => match announced {
            Some(announced) if announced != length => return Err(ResponseError::LengthMismatch),
            _ => (ResponseFraming::Length(length), Some(length)),
        },
        (_, BodyLength::Unknown) => match announced {
            Some(length) => (ResponseFraming::Length(length), Some(length)),
            None if http_1_0 => (ResponseFraming::UntilClose, None),
            None => (ResponseFraming::Chunked, None),
        },
    };
    let keep_alive = context.keep_alive
        && framing != ResponseFraming::UntilClose
        && !(noted.connection && connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"close")));
    Ok((ResponsePlan { framing, keep_alive }, content_length))
}

/// What one pass over the fields of the application finds: most answers have none of these, and then nothing is looked up.
struct Noted {
    content_length: Option<u64>,
    connection: bool,
    date: bool,
    trailer: bool,
    /// Bytes that all fields take at most.
    bytes: usize,
}

impl Noted {
    fn of(headers: &HeaderMap) -> Result<Self, ResponseError> {
        let mut noted = Self { content_length: None, connection: false, date: false, trailer: false, bytes: 0 };
        for (name, value) in headers {
            let length = name.as_str().len();
            noted.bytes += length + value.len() + 4;
            // Most fields differ from all of these in length already.
            match length {
                4 if name == DATE => noted.date = true,
                7 if name == TRAILER => noted.trailer = true,
                10 if name == CONNECTION => noted.connection = true,
                14 if name == CONTENT_LENGTH => {
                    // Two of them are one too many, whatever they say.
                    let length = parse_length(value.as_bytes()).filter(|_| noted.content_length.is_none());
                    noted.content_length = Some(length.ok_or(ResponseError::LengthMismatch)?);
                }
                _ => {}
            }
        }
        Ok(noted)
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(octet::trim)
        .filter(|option| !option.is_empty())
}

/// One Connection field: the options of the application, and whether the connection persists where that is not what the
/// version implies. After 101 there is no connection of ours any more.
fn encode_connection(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, keep_alive: bool, version: Version) {
    let ours: Option<&[u8]> = match (keep_alive, version) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => None,
        (false, _) => Some(b"close"),
        (true, Version::HTTP_10) => Some(b"keep-alive"),
        (true, _) => None,
    };
    let theirs = connection_options(headers)
        .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"));
    let mut separator: &[u8] = b"connection: ";
    for option in theirs.chain(ours) {
        out.extend_from_slice(separator);
        out.extend_from_slice(option);
        separator = b", ";
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

fn encode_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
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
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk. So many bytes of data and [`CHUNK_END`] must follow.
///
/// # Panics
///
/// When `bytes` is 0: that would end the body.
pub fn encode_chunk_head(out: &mut Vec<u8>, bytes: u64) {
    assert_ne!(bytes, 0, "a chunk without data ends the body");
    let digits = 16 - bytes.leading_zeros() / 4;
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(bytes >> (4 * digit) & 0xf) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body. Trailer fields that must not be sent as such are left out (RFC 9110 6.5.1).
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !trailers::is_forbidden(name) {
            encode_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a complete answer that closes the connection, with one line of text such as `400 Bad Request: host-missing`. A 503
/// says when to come back: after a second (RFC 9110 10.2.3).
/// `reason` is usually [`Refusal::name`](crate::Refusal::name). For a HEAD request use [`encode_error_response_head`].
pub fn encode_error_response(out: &mut Vec<u8>, status: StatusCode, reason: &str, date: &[u8; 29]) {
    encode_error_response_head(out, status, reason, date);
    encode_error_text(out, status, reason);
}

/// Appends what [`encode_error_response`] does, without the body. It announces the length that the body would have.
pub fn encode_error_response_head(out: &mut Vec<u8>, status: StatusCode, reason: &str, date: &[u8; 29]) {
    let mut text = Vec::new();
    encode_error_text(&mut text, status, reason);
    encode_status_line(out, status);
    encode_field(out, b"date", date);
    encode_field(out, b"content-type", b"text/plain");
    encode_field(out, b"content-length", itoa::Buffer::new().format(text.len()).as_bytes());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        encode_field(out, b"retry-after", b"1");
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
}

/// A whole answer for a peer beyond the maximum of connections, made before anybody came: what [`encode_error_response`] would
/// make, without the `Date` that an answer of this class may lack (RFC 9110 6.6.1).
pub const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable: too-many-connections\n";

fn encode_error_text(out: &mut Vec<u8>, status: StatusCode, reason: &str) {
    for part in [status.as_str(), " ", status.canonical_reason().unwrap_or_default(), ": ", reason, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
