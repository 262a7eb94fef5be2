//! Where calls of an app, and bodies of its answers, are polled.
//!
//! What is polled may not move, so it is in a box; and most of it is done when it was polled once, so the box is kept and used again.
//! What has to wait leaves with its box, and the next gets a new one.
//!
//! The invariant: a box that is kept is empty.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::BoxError;

/// The box that is kept, but for the time in which something is in it.
pub(super) type Kept<T> = Option<Pin<Box<Place<T>>>>;

pin_project! {
    /// A place for one thing that is polled.
    pub(super) struct Place<T> {
        #[pin]
        content: Option<T>,
    }
}

impl<T> Place<T> {
    /// Puts something into the box that is kept, or into a new one.
    #[inline]
    pub(super) fn fill(kept: &mut Kept<T>, make: impl FnOnce() -> T) -> Pin<Box<Self>> {
        let mut place = kept.take().unwrap_or_else(Self::new);
        place.as_mut().project().content.set(Some(make()));
        place
    }

    #[cold]
    fn new() -> Pin<Box<Self>> {
        Box::pin(Self { content: None })
    }

    /// Drops what is in the box, and keeps the box.
    #[inline]
    pub(super) fn clear(mut self: Pin<Box<Self>>, kept: &mut Kept<T>) {
        self.as_mut().project().content.set(None);
        *kept = Some(self);
    }

    /// What is in the box.
    ///
    /// # Panics
    /// If it is empty.
    #[inline]
    pub(super) fn content(self: Pin<&mut Self>) -> Pin<&mut T> {
        self.project().content.as_pin_mut().expect("a box that is not kept is full")
    }
}

/// A call that has to wait.
impl<F, T, E> Future for Place<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.content().poll(cx).map_err(Into::into)
    }
}

impl<B: HttpBody> HttpBody for Place<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.content().poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.content.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_box_is_used_again_and_is_empty_meanwhile() {
        let (mut kept, content) = (None, Rc::new(()));
        let place = Place::fill(&mut kept, || Rc::clone(&content));
        let first: *const Place<_> = &*place;
        place.clear(&mut kept);
        assert_eq!(Rc::strong_count(&content), 1, "what was in it is gone");
        let place = Place::fill(&mut kept, || Rc::clone(&content));
        assert_eq!((first, kept.is_none()), (&*place as *const _, true));
        // One that waits keeps it.
        let mut second = Place::fill(&mut kept, || Rc::clone(&content));
        assert!(!std::ptr::eq(&*place, &*second) && Rc::ptr_eq(&second.as_mut().content(), &content));
    }
}
