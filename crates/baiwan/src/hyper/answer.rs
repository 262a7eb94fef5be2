//! What hyper is given to send: the app's body, or the server's own few words.
//!
//! hyper frames a body by the fields of its head, and `http1` has decided what those say. It is *not* a second framing: what is
//! checked here is that the body keeps to its head, which hyper does not do for one that is too long.
//!
//! The invariant: no byte beyond the announced length is handed to hyper.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use baiwan_http1::{BodyEncoder, ResponseFraming};
use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};

use crate::BoxError;

/// The app's body, or none, with data as bytes. hyper frames it, by the fields of its head.
pub(super) enum Answer<B> {
    App {
        body: Pin<Box<B>>,
        /// Says whether the body keeps to its head: hyper would cut what is too long, and go on.
        encoder: BodyEncoder,
    },
    /// The server's own words.
    Own(Bytes),
    Empty,
}

impl<B> Answer<B> {
    /// The app's body, after a head that announced `framing`.
    pub(super) fn of_app(body: B, framing: ResponseFraming) -> Self {
        Self::App { body: Box::pin(body), encoder: BodyEncoder::new(framing) }
    }
}

impl<B> http_body::Body for Answer<B>
where
    B: http_body::Body<Data: Buf, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (body, encoder) = match &mut *self {
            Self::App { body, encoder } => (body, encoder),
            Self::Own(text) if text.is_empty() => return Poll::Ready(None),
            Self::Own(text) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Empty => return Poll::Ready(None),
        };
        if encoder.is_complete() {
            return Poll::Ready(None);
        }
        let frame = ready!(body.as_mut().poll_frame(cx)).transpose().map_err(Into::into)?;
        let data = match frame.map(Frame::into_data) {
            Some(Ok(mut data)) => data.copy_to_bytes(data.remaining()),
            Some(Err(rest)) => {
                encoder.handle_end()?;
                let trailers = rest.into_trailers().ok().map(|trailers| Ok(Frame::trailers(trailers)));
                return Poll::Ready(trailers);
            }
            None => {
                encoder.handle_end()?;
                return Poll::Ready(None);
            }
        };
        encoder.handle_data(data.len() as u64)?;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // The fields of its head say how long it is.
            Self::App { .. } => SizeHint::default(),
            Self::Own(text) => SizeHint::with_exact(text.len() as u64),
            Self::Empty => SizeHint::with_exact(0),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Own(text) => text.is_empty(),
            // Only chunks need to know before the end is asked for, so as to leave with it.
            Self::App { body, encoder } => encoder.is_chunked() && body.is_end_stream(),
        }
    }
}
