//! The check of an answer's head: what the application got wrong, and what the head must say instead of its own framing.
//!
//! The application says what it answers; how the message is framed and whether the connection persists is decided here, in one
//! place, from the status, the fields, the length of the body and the request. Whoever writes the head asks:
//! [`encode_response_head`](crate::encode_response_head) does, and so does one that has another encoder write it. It is *not*
//! an encoder: nothing is written here.
//!
//! Invariant: the same wrong answer is refused for the same reason, whoever writes it.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use crate::framing::parse_length;
use crate::octet;

/// The field that says what a request is called.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// What the response head must know of the request.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext {
    /// Whether the method is HEAD.
    pub head_request: bool,
    /// The version of the request.
    pub version: Version,
    /// Whether request and server both want the connection to persist.
    pub keep_alive: bool,
    /// Whether the request offers another protocol, so that a 101 is an answer to it.
    pub may_switch: bool,
}

/// What is known of the length of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// This number of bytes.
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
    /// Exactly this number of bytes, or none.
    Length(u64),
    /// In chunks. To send: [`BodyEncoder`](crate::BodyEncoder) writes them.
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
    /// 101 to a request that offers no other protocol.
    #[error("the response switches to a protocol that was not offered")]
    SwitchUnasked,
}

/// What the head of an answer must say, in place of what the application says of these fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseCheck {
    /// How the body must follow, and whether the connection persists.
    pub plan: ResponsePlan,
    /// The Content-Length, if there must be one.
    pub content_length: Option<u64>,
    /// Whether Transfer-Encoding must be `chunked`: the body follows in chunks, or would in an answer to GET.
    pub chunked: bool,
}

/// Checks an answer before anything of it is written: whether its status can be a final one, and whether it says at most once,
/// and truly, how long its body is. `length` is that of the body at hand.
///
/// # Errors
///
/// What the application did wrong.
pub fn check_response(
    status: StatusCode,
    headers: &HeaderMap,
    length: BodyLength,
    context: ResponseContext,
) -> Result<ResponseCheck, ResponseError> {
    Noted::of(headers)?.check(status, headers, length, context)
}

impl ResponseCheck {
    /// Has the fields say what they must, for an encoder that writes them as they are: Content-Length, Transfer-Encoding, and of
    /// the connection options the application's own and `close`. `keep-alive` is left to that encoder.
    pub fn apply(&self, status: StatusCode, headers: &mut HeaderMap) {
        set(headers, CONTENT_LENGTH, self.content_length.map(HeaderValue::from));
        set(headers, TRANSFER_ENCODING, self.chunked.then(|| HeaderValue::from_static("chunked")));
        let mut options = Vec::new();
        append_connection_options(&mut options, status, headers, self.plan.keep_alive, Version::HTTP_11);
        let options = HeaderValue::from_bytes(&options).ok().filter(|options| !options.is_empty());
        set(headers, CONNECTION, options);
    }
}

fn set(headers: &mut HeaderMap, name: http::HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

/// Whether trailers can follow an answer, or would follow it if the request were no HEAD: only chunks can carry them.
#[cold]
fn may_have_trailers(status: StatusCode, version: Version) -> bool {
    version != Version::HTTP_10 && !matches!(status.as_u16(), 101 | 204 | 205 | 304)
}

/// Decides framing, persistence and the Content-Length to announce, as if there were no trailers.
#[inline(always)]
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
    if status == StatusCode::SWITCHING_PROTOCOLS && !context.may_switch {
        return Err(ResponseError::SwitchUnasked);
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
#[derive(Default)]
pub(crate) struct Noted {
    content_length: Option<u64>,
    trailer: bool,
    pub(crate) connection: bool,
    pub(crate) date: bool,
    pub(crate) request_id: bool,
}

impl Noted {
    fn of(headers: &HeaderMap) -> Result<Self, ResponseError> {
        let mut noted = Self::default();
        for (name, value) in headers {
            noted.note(name, value)?;
        }
        Ok(noted)
    }

    /// Takes note of a field. Returns whether the head says it as it is: if not, the check decides what the head says of it.
    // Part of the path of every answer, as the check is: a call costs more than it saves.
    #[inline(always)]
    pub(crate) fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, ResponseError> {
        // Most fields differ from all of these in length already.
        match name.as_str().len() {
            4 if name == DATE => self.date = true,
            7 if name == TRAILER => self.trailer = true,
            10 if name == CONNECTION => {
                self.connection = true;
                return Ok(false);
            }
            12 if name == REQUEST_ID => self.request_id = true,
            14 if name == CONTENT_LENGTH => {
                // Two of them are one too many, whatever they say.
                let length = parse_length(value.as_bytes()).filter(|_| self.content_length.is_none());
                self.content_length = Some(length.ok_or(ResponseError::LengthMismatch)?);
                return Ok(false);
            }
            17 if name == TRANSFER_ENCODING => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    /// Decides framing and persistence, and what the head says of them.
    #[inline(always)]
    pub(crate) fn check(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        length: BodyLength,
        context: ResponseContext,
    ) -> Result<ResponseCheck, ResponseError> {
        // Most answers, of which the whole law says the same.
        if let BodyLength::Exact(length) = length
            && status == StatusCode::OK
            && !(self.trailer | self.connection | context.head_request)
            && self.content_length.is_none_or(|announced| announced == length)
        {
            let plan = ResponsePlan { framing: ResponseFraming::Length(length), keep_alive: context.keep_alive };
            return Ok(ResponseCheck { plan, content_length: Some(length), chunked: false });
        }
        self.check_any(status, headers, length, context)
    }

    fn check_any(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        length: BodyLength,
        context: ResponseContext,
    ) -> Result<ResponseCheck, ResponseError> {
        let (plan, content_length) = plan_by_length(status, headers, self, length, context)?;
        if self.trailer && may_have_trailers(status, context.version) {
            let framing = if context.head_request { ResponseFraming::NoBody } else { ResponseFraming::Chunked };
            return Ok(ResponseCheck { plan: ResponsePlan { framing, ..plan }, content_length: None, chunked: true });
        }
        let chunked = plan.framing == ResponseFraming::Chunked;
        Ok(ResponseCheck { plan, content_length, chunked })
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

/// Appends the value of the Connection field: the options of the application, and whether the connection persists where that is
/// not what the version implies. After 101 there is no connection of ours any more. Appends nothing where none is due.
pub(crate) fn append_connection_options(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    keep_alive: bool,
    version: Version,
) {
    let ours: Option<&[u8]> = match (keep_alive, version) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => None,
        (false, _) => Some(b"close"),
        (true, Version::HTTP_10) => Some(b"keep-alive"),
        (true, _) => None,
    };
    let theirs = connection_options(headers)
        .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"));
    let mut separator: &[u8] = b"";
    for option in theirs.chain(ours) {
        out.extend_from_slice(separator);
        out.extend_from_slice(option);
        separator = b", ";
    }
}
