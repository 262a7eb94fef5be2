//! Whose request is being polled on this thread.
//!
//! A loop opens a scope around each poll of a call and of an answer's body, and moves the id in and out: nothing is copied, and no request
//! has an extension or a span for it.
//!
//! The invariant: an id is here only while its request is being polled, whether that panics or not.

use std::cell::Cell;

use super::RequestId;

thread_local! {
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

/// Polls something of a request that is called `id`, if the server gives ids.
#[inline]
pub(crate) fn within<T>(id: &mut Option<RequestId>, poll: impl FnOnce() -> T) -> T {
    if id.is_none() {
        return poll();
    }
    let _open = Open { outer: CURRENT.replace(id.take()), id };
    poll()
}

/// Puts the id back where it came from, in a panic, too.
struct Open<'a> {
    outer: Option<RequestId>,
    id: &'a mut Option<RequestId>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.id = CURRENT.replace(self.outer.take());
    }
}

/// That of the request that is being polled. None while a thread ends.
pub(super) fn current() -> Option<RequestId> {
    let read = |cell: &Cell<Option<RequestId>>| {
        let id = cell.take();
        cell.set(id.clone());
        id
    };
    CURRENT.try_with(read).ok().flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn an_id_is_there_while_its_request_is_polled_and_no_longer() {
        let id = || Some(RequestId::of(&HeaderMap::new(), true));
        let (mut outer, mut inner) = (id(), id());
        let (named_outer, named_inner) = (outer.clone(), inner.clone());
        within(&mut outer, || {
            assert_eq!(current(), named_outer);
            within(&mut inner, || assert_eq!(current(), named_inner));
            within(&mut None, || {
                assert_eq!(current(), named_outer, "ids are off, or on, for all requests of a server")
            });
            assert_eq!(current(), named_outer);
        });
        assert_eq!(current(), None);
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| within(&mut outer, || panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!((current(), outer), (None, named_outer));
    }
}
