//! Encoding a request: its head. Its body is encoded like that of an answer.
//!
//! The caller says what it asks for; how the message is framed is decided here, before the first byte is written.
//! Invariant: what is written is the head of one well-formed message, or nothing.

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::{HeaderValue, Method};

use crate::BodyLength;
use crate::framing::parse_length;
use crate::host::HostPort;
use crate::response::encode_field;
use crate::target::Target;

/// What the caller did wrong. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// CONNECT, after which a connection is no longer one of HTTP.
    #[error("CONNECT is not supported")]
    ConnectUnsupported,
    /// Neither a path with a query nor, with OPTIONS, an asterisk; or with bytes that may not stand there. The few that
    /// browsers send unencoded may.
    #[error("the target is no path and query")]
    TargetInvalid,
    /// The authority, or the Host of the caller's own, is not a host and a port.
    #[error("the authority is not a host and a port")]
    AuthorityInvalid,
    /// More than one Host of the caller's own.
    #[error("there is more than one Host")]
    HostRepeated,
    /// Content-Length is no number, or not the length of the body, or stands beside a body of unknown length.
    #[error("the Content-Length of the request is not the length of its body")]
    LengthMismatch,
    /// TRACE with a body (RFC 9110 9.3.8).
    #[error("a TRACE request cannot have a body")]
    TraceWithBody,
}

/// Appends request line, `host`, the fields of the caller, the framing fields and the empty line to `out`. The caller
/// appends the body: as it is, or in chunks where `length` is `Unknown`.
///
/// `target` is a path with a query, or `*`. `authority` is the host, and the port unless it is that of the scheme; a Host
/// among `headers` replaces it. `length` None is no body and no framing field; with `Exact(0)` a Content-Length says so
/// where the method makes one expect a body (RFC 9110 8.6: POST, PUT, PATCH) or the caller has set it. Transfer-Encoding is
/// replaced by what holds.
///
/// # Errors
///
/// What the caller did wrong. `out` is then as it was.
pub fn encode_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    authority: &str,
    headers: &HeaderMap,
    length: Option<BodyLength>,
) -> Result<(), RequestError> {
    check_target(method, target)?;
    let noted = Noted::of(headers)?;
    let host = noted.host.map_or(authority.as_bytes(), HeaderValue::as_bytes);
    HostPort::parse(host).ok_or(RequestError::AuthorityInvalid)?;
    let content_length = content_length(method, noted.content_length, length)?;
    out.reserve(method.as_str().len() + target.len() + host.len() + noted.bytes + FIXED_BYTES_MAX);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    // RFC 9110 7.2: Host comes first.
    encode_field(out, b"host", host);
    for (name, value) in headers {
        if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            encode_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if let Some(length) = content_length {
        encode_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    if length == Some(BodyLength::Unknown) {
        encode_field(out, b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Room for all that this module adds to method, target, host and fields.
const FIXED_BYTES_MAX: usize = 64;

fn check_target(method: &Method, target: &str) -> Result<(), RequestError> {
    if method == Method::CONNECT {
        return Err(RequestError::ConnectUnsupported);
    }
    match Target::parse(method.as_str().as_bytes(), target.as_bytes()) {
        Ok(Target::Origin | Target::Asterisk) => Ok(()),
        Ok(Target::Absolute(_)) | Err(_) => Err(RequestError::TargetInvalid),
    }
}

/// The Content-Length to announce, given the one that the caller has `announced`.
fn content_length(
    method: &Method,
    announced: Option<u64>,
    length: Option<BodyLength>,
) -> Result<Option<u64>, RequestError> {
    let bytes = match length {
        None => 0,
        Some(BodyLength::Exact(bytes)) => bytes,
        Some(BodyLength::Unknown) if announced.is_some() => return Err(RequestError::LengthMismatch),
        Some(BodyLength::Unknown) if method == Method::TRACE => return Err(RequestError::TraceWithBody),
        Some(BodyLength::Unknown) => return Ok(None),
    };
    if announced.is_some_and(|announced| announced != bytes) {
        return Err(RequestError::LengthMismatch);
    }
    if bytes > 0 && method == Method::TRACE {
        return Err(RequestError::TraceWithBody);
    }
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    let is_said = bytes > 0 || announced.is_some() || (length.is_some() && expects_body);
    Ok(is_said.then_some(bytes))
}

/// What one pass over the fields of the caller finds.
struct Noted<'a> {
    host: Option<&'a HeaderValue>,
    content_length: Option<u64>,
    /// Bytes that all fields take at most.
    bytes: usize,
}

impl<'a> Noted<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, RequestError> {
        let mut noted = Self { host: None, content_length: None, bytes: 0 };
        for (name, value) in headers {
            noted.bytes += name.as_str().len() + value.len() + 4;
            if name == HOST && noted.host.replace(value).is_some() {
                return Err(RequestError::HostRepeated);
            }
            if name == CONTENT_LENGTH {
                // Two of them are one too many, whatever they say.
                let length = parse_length(value.as_bytes()).filter(|_| noted.content_length.is_none());
                noted.content_length = Some(length.ok_or(RequestError::LengthMismatch)?);
            }
        }
        Ok(noted)
    }
}
