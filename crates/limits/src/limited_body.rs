//! The body of a response that holds a place until it has ended.
//!
//! The invariant: the place is free as soon as nothing of the body is left to come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::admission::Place;

pin_project! {
    /// The body of a response that came through a [`RateLimit`](crate::RateLimit) or a [`ConcurrencyLimit`](crate::ConcurrencyLimit): that of
    /// the service, which holds its place, if it has one, until it has ended, failed or was dropped; or that of a refusal.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        source: Source<B>,
        place: Option<Place>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = SourceProjection]
    enum Source<B> {
        Service { #[pin] body: B },
        Refusal { bytes: Bytes },
    }
}

impl<B: Body> LimitedBody<B> {
    pub(crate) fn new(body: B, place: Option<Place>) -> Self {
        // One that has no bytes may never be polled.
        let place = place.filter(|_| !body.is_end_stream());
        Self { source: Source::Service { body }, place }
    }

    pub(crate) fn refusal(bytes: Bytes) -> Self {
        Self { source: Source::Refusal { bytes }, place: None }
    }
}

impl<B: Body<Data = Bytes>> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.source.project() {
            SourceProjection::Service { mut body } => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
                    *this.place = None;
                }
                Poll::Ready(frame)
            }
            SourceProjection::Refusal { bytes } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Service { body } => body.is_end_stream(),
            Source::Refusal { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Service { body } => body.size_hint(),
            Source::Refusal { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
