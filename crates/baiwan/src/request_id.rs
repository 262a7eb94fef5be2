//! What a request is called: in its answer, in the access log, and in every line that is logged while it is handled.
//!
//! | file | part |
//! |---|---|
//! | `trace_context` | the field `traceparent`, read strictly |
//! | `made` | ids of the server's own |
//! | `scope` | whose request is being polled on this thread |
//!
//! It is *not* a span: nothing is opened and closed for a request, and what handlers log costs nothing until they do. Where ids are off
//! there is none of this.
//!
//! The invariant: an id is 1 to 128 characters of a set that needs no escaping anywhere.

mod made;
mod scope;
mod trace_context;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use self::scope::within;
pub use self::trace_context::TraceContext;

/// The field that an id comes in and is sent back in.
pub(crate) const FIELD: HeaderName = HeaderName::from_static(FIELD_NAME);
pub(crate) const FIELD_NAME: &str = "x-request-id";
/// What stands before an id on its line.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) const LINE_BEGIN: &[u8] = b"x-request-id: ";

/// A longer id is not believed.
const ID_BYTES_MAX: usize = 128;

/// What a request is called in its answer (the field `X-Request-Id`), in the access log and in log lines: an extractor, and for code that is
/// far from the request, [`current`](Self::current). See [`Builder::request_ids`](crate::Builder::request_ids).
///
/// It is the trace id of a valid `traceparent` (W3C Trace Context), else an `X-Request-Id` that the request brought, else 32 hexadecimal
/// digits that the server has made. Ids of the server's own are unique; those that clients bring are whatever they bring.
///
/// # Example
/// ```
/// use axum::{Router, routing::get};
/// use baiwan::RequestId;
///
/// async fn order(id: RequestId) -> String {
///     // A task of its own is not the request any more: what it needs goes along.
///     tokio::spawn(async move { println!("{id}: the order is on its way") });
///     format!("asked as {}", RequestId::current().map(|id| id.to_string()).unwrap_or_default())
/// }
///
/// let app = Router::new().route("/order", get(order));
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").request_ids(true);
/// # let running = server.start(app)?;
/// # drop(running);
/// # Ok::<(), baiwan::Error>(())
/// ```
#[derive(Clone)]
pub struct RequestId {
    name: Name,
    /// Apart, because an id is moved often, and not every request is a part of a trace.
    trace: Option<Arc<TraceContext>>,
}

#[derive(Clone)]
enum Name {
    /// The server has made it.
    Made([u8; made::DIGITS]),
    /// The request has brought it: [`is_safe`]. A copy, because it may outlive the head that it came with, which is far larger.
    Sent(Arc<[u8]>),
    /// It is that of the trace.
    Trace,
}

impl RequestId {
    /// That of the request which is being handled by this task, if the server gives ids: within a handler, its extractors and layers, and
    /// the body of its answer. None in tasks that those have spawned.
    pub fn current() -> Option<Self> {
        scope::current()
    }

    /// That of a request with these fields. What clients say of it counts where they are believed; the trace that a request is a part of is
    /// known either way.
    pub(crate) fn of(headers: &HeaderMap, is_believed: bool) -> Self {
        let trace = TraceContext::of(headers).map(Arc::new);
        let name = match is_believed {
            true if trace.is_some() => Name::Trace,
            true => sent(headers).map_or_else(|| Name::Made(made::next()), Name::Sent),
            false => Name::Made(made::next()),
        };
        Self { name, trace }
    }

    /// That of a request that says nothing of it.
    #[inline]
    pub(crate) fn made() -> Self {
        Self { name: Name::Made(made::next()), trace: None }
    }

    /// The id, 1 to 128 characters: ASCII letters, digits, and `-._~:/+=@`.
    pub fn as_str(&self) -> &str {
        // All of its characters are ASCII.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.name {
            Name::Made(digits) => digits,
            Name::Sent(id) => id,
            Name::Trace => self.trace.as_ref().map_or(&[], |trace| trace.trace_id().as_bytes()),
        }
    }

    /// The trace that the request is a part of, if it said so.
    pub fn trace_context(&self) -> Option<&TraceContext> {
        self.trace.as_deref()
    }

    /// The id as the value of a field.
    pub(crate) fn to_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.as_bytes()).ok()
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes() && self.trace == other.trace
    }
}

impl Eq for RequestId {}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

/// The id that a request has brought, if it may be one. Of two nobody knows which.
fn sent(headers: &HeaderMap) -> Option<Arc<[u8]>> {
    let value = headers.get(FIELD)?;
    let is_one = headers.get_all(FIELD).iter().nth(1).is_none();
    (is_one && is_safe(value.as_bytes())).then(|| value.as_bytes().into())
}

fn is_safe(id: &[u8]) -> bool {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_safe)
}

/// A handler asks for a [`RequestId`] where the server gives none: answered 500.
#[cfg(feature = "axum")]
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server gives requests no ids: Builder::request_ids(true)")]
pub struct RequestIdMissing;

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for RequestIdMissing {
    fn into_response(self) -> axum::response::Response {
        (http::StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum::extract::FromRequestParts<S> for RequestId {
    type Rejection = RequestIdMissing;

    async fn from_request_parts(_: &mut http::request::Parts, _: &S) -> Result<Self, RequestIdMissing> {
        Self::current().ok_or(RequestIdMissing)
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum::extract::OptionalFromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut http::request::Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(Self::current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    /// The id of a request with these fields; "made" if it is the server's own.
    fn id(fields: &[(&'static str, &str)], is_believed: bool) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let id = RequestId::of(&headers, is_believed);
        assert_eq!(id.to_value().unwrap().as_bytes(), id.as_str().as_bytes());
        assert!(is_safe(id.as_str().as_bytes()));
        let trace = id.trace_context().map(|trace| trace.trace_id().to_owned());
        (if let Name::Made(_) = id.name { "made".to_owned() } else { id.to_string() }, trace)
    }

    #[test]
    fn an_id_holds_on_to_nothing_of_its_head() {
        let head = bytes::Bytes::from(format!("{PARENT}-of-a-later-version").replacen("00", "01", 1) + "abc");
        let value = |range| HeaderValue::from_maybe_shared(head.slice(range)).unwrap();
        let (at, id) = (head.len() - 3, HeaderName::from_static(FIELD_NAME));
        let fields = [(HeaderName::from_static("traceparent"), value(0..at)), (id, value(at..at + 3))];
        let ids = [&fields[..], &fields[1..]].map(|fields| RequestId::of(&HeaderMap::from_iter(fields.to_vec()), true));
        assert_eq!(ids.each_ref().map(RequestId::as_str), [TRACE, "abc"]);
        drop(fields);
        assert!(head.is_unique());
    }

    #[test]
    fn a_request_is_called_what_it_says_if_that_is_believed_and_harmless() {
        let trace = || Some(TRACE.to_owned());
        let long = "a".repeat(128);
        let too_long = "a".repeat(129);
        for (fields, is_believed, expected) in [
            (&[][..], true, ("made", None)),
            (&[("x-request-id", "01J-abc.def_~:/+=@")], true, ("01J-abc.def_~:/+=@", None)),
            (&[("x-request-id", &long)], true, (&*long, None)),
            (&[("x-request-id", &too_long)], true, ("made", None)),
            (&[("x-request-id", "")], true, ("made", None)),
            (&[("x-request-id", "a b")], true, ("made", None)),
            (&[("x-request-id", "a\"b")], true, ("made", None)),
            (&[("x-request-id", "a,b")], true, ("made", None)),
            (&[("x-request-id", "é")], true, ("made", None)),
            (&[("x-request-id", "a"), ("x-request-id", "b")], true, ("made", None)),
            (&[("x-request-id", "a")], false, ("made", None)),
            (&[("x-request-id", "a"), ("traceparent", PARENT)], true, (TRACE, trace())),
            (&[("x-request-id", "a"), ("traceparent", PARENT)], false, ("made", trace())),
            (&[("x-request-id", "a"), ("traceparent", &PARENT[1..])], true, ("a", None)),
        ] {
            let (name, trace) = expected;
            assert_eq!(id(fields, is_believed), (name.to_owned(), trace), "{fields:?} {is_believed}");
        }
    }
}
