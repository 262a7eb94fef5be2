//! `POST /echo`: `Echo: ` and then the request's body, passed on frame by frame. Memory stays the same however long
//! the text is, and a reader that is slow slows the writer down, because the next frame is asked for only when the
//! last one was taken.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::description::{BodyTooSlow, IncompleteBody};
use crate::problem::Problem;

const PREFIX: &[u8] = b"Echo: ";

/// The text that was sent, streamed back
///
/// Of any length; each part is sent on before the next is read.
#[utoipa::path(
    post,
    path = "/echo",
    operation_id = "echo",
    tag = "echo",
    request_body(content = Option<String>, content_type = "text/plain", description = "Any bytes, or none."),
    responses(
        (status = 200, description = "`Echo: ` and the text.", body = String, content_type = "text/plain"),
        IncompleteBody, BodyTooSlow
    )
)]
pub(super) async fn echo(mut text: Body) -> Result<Response, Problem> {
    const HEADERS: [(http::HeaderName, &str); 2] =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let text_bytes = text.size_hint().exact();
    // A client that sent `Expect: 100-continue` sends its text only when it is asked for, and not at all once it has an
    // answer (RFC 9110, section 10.1.1). So the first frame is asked for before there is one.
    let first = match text.frame().await {
        Some(frame) => frame.map_err(|_| Problem::IncompleteBody)?.into_data().ok(),
        None => None,
    };
    let bytes_left = text_bytes.and_then(|bytes| bytes.checked_add(PREFIX.len() as u64));
    let body = Prefixed { prefix: Some(Bytes::from_static(PREFIX)), first, text, bytes_left };
    Ok((HEADERS, Body::new(body)).into_response())
}

/// The prefix, then the text. Trailers are not passed on: they belong to the request.
struct Prefixed {
    /// `None` once it was given out.
    prefix: Option<Bytes>,
    /// The frame that was read already; `None` once it was given out.
    first: Option<Bytes>,
    text: Body,
    /// Prefix and text that were not given out yet, if the request said its length.
    bytes_left: Option<u64>,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = match self.prefix.take().or_else(|| self.first.take()) {
            Some(data) => Some(data),
            None => match ready!(Pin::new(&mut self.text).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => None,
            },
        };
        if let (Some(data), Some(bytes_left)) = (&next, &mut self.bytes_left) {
            *bytes_left = bytes_left.saturating_sub(data.len() as u64);
        }
        Poll::Ready(next.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.first.is_none() && self.text.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
