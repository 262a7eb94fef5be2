//! Short answers that a server gives by itself, each with its body in hand.
//!
//! What an answer says is the caller's; here is how it is written, by this crate's encoder or through an `http::Response`. It is
//! *not* for answers of an application, whose fields are checked (`response_check`).
//!
//! The invariant: what is written is one well-formed message, whose Content-Length is that of its body.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

use crate::ResponseContext;
use crate::response::{encode_field, encode_status_line};

/// A field of a short answer: its name in lower case, and its value. Neither may hold what ends a line.
pub type ShortField<'a> = (&'static str, &'a [u8]);

/// A short answer of a server's own. `Date`, Content-Length and `Connection` are added to it.
///
/// # Example
/// ```
/// use baiwan_http1::{ResponseContext, ShortAnswer, encode_short_answer, error_text};
/// use http::{StatusCode, Version};
///
/// let status = StatusCode::SERVICE_UNAVAILABLE;
/// let (text, fields) = (error_text(status, "request-timeout"), [("retry-after", &b"1"[..])]);
/// let answer = ShortAnswer { status, content_type: "text/plain", fields: &fields, lines: &[], body: text.as_bytes() };
/// let context = ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: false, may_switch: false };
/// let mut out = Vec::new();
/// encode_short_answer(&mut out, &answer, context, b"Sun, 06 Nov 1994 08:49:37 GMT");
/// assert!(out.ends_with(b"retry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable: request-timeout\n"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ShortAnswer<'a> {
    /// Of its status line.
    pub status: StatusCode,
    /// The media type of `body`.
    pub content_type: &'a str,
    /// What it says beside that.
    pub fields: &'a [ShortField<'a>],
    /// Further fields, in pieces: together they are whole lines `Name: value`, each with its CR LF.
    pub lines: &'a [&'a [u8]],
    /// All of its body.
    pub body: &'a [u8],
}

/// Appends a whole answer; to a HEAD request, its head. `date` is an IMF-fixdate (RFC 9110 5.6.7). Of `context` counts what the answer's
/// head depends on: the method, the version, and whether the connection persists.
pub fn encode_short_answer(out: &mut Vec<u8>, answer: &ShortAnswer<'_>, context: ResponseContext, date: &[u8; 29]) {
    encode_status_line(out, answer.status);
    // Few pieces: whoever is refused should cost little.
    let mut length = itoa::Buffer::new();
    let pieces = [
        &b"date: "[..],
        date,
        b"\r\ncontent-type: ",
        answer.content_type.as_bytes(),
        b"\r\ncontent-length: ",
        length.format(answer.body.len()).as_bytes(),
        b"\r\n",
    ];
    pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
    encode_fields(out, answer.fields);
    answer.lines.iter().for_each(|piece| out.extend_from_slice(piece));
    debug_assert!(out.ends_with(b"\r\n"), "lines are whole");
    match context.keep_alive {
        false => out.extend_from_slice(b"connection: close\r\n\r\n"),
        true if context.version == Version::HTTP_10 => out.extend_from_slice(b"connection: keep-alive\r\n\r\n"),
        true => out.extend_from_slice(b"\r\n"),
    }
    if !context.head_request {
        out.extend_from_slice(answer.body);
    }
}

/// A short answer that is given often: all of it is written in advance but its date and the end of its lines.
///
/// It is for requests of HTTP/1.1 that are no HEAD, on connections that persist ([`fits`](Self::fits)).
///
/// # Example
/// ```
/// use baiwan_http1::{ShortAnswer, ShortAnswerTemplate};
/// use http::StatusCode;
///
/// let status = StatusCode::TOO_MANY_REQUESTS;
/// let lines: [&[u8]; 2] = [b"Server: a\r\n", b"Retry-After: "];
/// let answer = ShortAnswer { status, content_type: "text/plain", fields: &[], lines: &lines, body: b"later\n" };
/// let template = ShortAnswerTemplate::new(&answer);
/// let mut out = Vec::new();
/// template.append(&mut out, &[b"7\r\n"], b"Sun, 06 Nov 1994 08:49:37 GMT");
/// assert!(out.ends_with(b"Server: a\r\nRetry-After: 7\r\n\r\nlater\n"));
/// ```
#[derive(Clone, Debug)]
pub struct ShortAnswerTemplate {
    /// Up to the date; from there up to the end of the lines; and the rest.
    pieces: [Box<[u8]>; 3],
}

impl ShortAnswerTemplate {
    /// Writes what is known: of the lines all but the end of the last, which comes with [`append`](Self::append).
    pub fn new(answer: &ShortAnswer<'_>) -> Self {
        const DATE: &[u8; 29] = &[b'd'; 29];
        const END: &[u8] = b"\r\n";
        let context =
            ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: true, may_switch: false };
        let lines: Vec<_> = answer.lines.iter().copied().chain([END]).collect();
        let mut written = Vec::new();
        encode_short_answer(&mut written, &ShortAnswer { lines: &lines, ..*answer }, context, DATE);
        // The date is in the first field, and nothing comes behind the lines but the empty one.
        let date = written.windows(DATE.len()).position(|window| window == DATE).unwrap_or_default();
        let rest = written.len() - answer.body.len() - END.len();
        let pieces = [&written[..date], &written[date + DATE.len()..rest - END.len()], &written[rest..]];
        Self { pieces: pieces.map(Box::from) }
    }

    /// Appends the whole answer with this end of its lines, in pieces, CR LF included, and this date.
    pub fn append(&self, out: &mut Vec<u8>, end_of_lines: &[&[u8]], date: &[u8; 29]) {
        let [begin, lines, rest] = &self.pieces;
        let end_bytes: usize = end_of_lines.iter().map(|piece| piece.len()).sum();
        out.reserve(begin.len() + date.len() + lines.len() + end_bytes + rest.len());
        [&begin[..], date, lines].into_iter().for_each(|piece| out.extend_from_slice(piece));
        end_of_lines.iter().for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(rest);
    }

    /// Whether it is what [`encode_short_answer`] would write with this context.
    #[inline]
    pub fn fits(context: ResponseContext) -> bool {
        !context.head_request && context.keep_alive && context.version == Version::HTTP_11
    }
}

/// The same answer for an encoder that adds `Date` and Content-Length by itself.
pub fn short_response(answer: &ShortAnswer<'_>, keep_alive: bool) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    // Fields of the server's own are well-formed.
    if let Ok(content_type) = HeaderValue::from_str(answer.content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    for (name, value) in answer.fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    for line in answer.lines.concat().split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    if !keep_alive {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Appends `answer`, a whole message, with more fields behind its status line.
pub fn encode_with_fields(out: &mut Vec<u8>, answer: &[u8], fields: &[ShortField<'_>]) {
    let end = answer.iter().position(|byte| *byte == b'\n').map_or(answer.len(), |at| at + 1);
    out.extend_from_slice(&answer[..end]);
    encode_fields(out, fields);
    out.extend_from_slice(&answer[end..]);
}

fn encode_fields(out: &mut Vec<u8>, fields: &[ShortField<'_>]) {
    for (name, value) in fields {
        debug_assert!(!value.iter().any(|byte| b"\r\n".contains(byte)), "{name} would end its line");
        encode_field(out, name.as_bytes(), value);
    }
}

/// The text of an answer that says what was wrong: `400 Bad Request: host-missing` and the end of its line. `reason` is usually
/// [`Refusal::name`](crate::Refusal::name).
pub fn error_text(status: StatusCode, reason: &str) -> String {
    [status.as_str(), " ", status.canonical_reason().unwrap_or_default(), ": ", reason, "\n"].concat()
}

/// A whole answer for a peer beyond the maximum of connections, made before anybody came: what [`encode_short_answer`] would
/// make, without the `Date` that an answer of this class may lack (RFC 9110 6.6.1).
pub const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable: too-many-connections\n";

/// As [`TOO_MANY_CONNECTIONS`], for a request to a server whose memory is short.
pub const MEMORY_PRESSURE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 41\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable: memory-pressure\n";

/// As [`TOO_MANY_CONNECTIONS`], for a peer whose client has its maximum.
pub const TOO_MANY_CONNECTIONS_PER_CLIENT: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\ncontent-length: 55\r\n\
    connection: close\r\n\r\n429 Too Many Requests: too-many-connections-per-client\n";
