//! Whose request is being polled on this thread.
//!
//! A loop opens a scope around each poll of a call and of an answer's body. The id is copied, some tens of bytes, so that no request has an
//! extension, a span or an allocation for it.
//!
//! The invariant: an id is here only while its request is being polled, whether that panics or not.

use std::cell::RefCell;
use std::sync::Arc;

use super::trace_context::KNOWN_BYTES;
use super::{ID_BYTES_MAX, Name, RequestId, TraceContext};

thread_local! {
    static CURRENT: RefCell<Current> = const { RefCell::new(Current::NOBODY) };
}

/// The id of a request, and the trace that it named.
#[derive(Clone)]
struct Current {
    id: [u8; ID_BYTES_MAX],
    /// 0 where no request is being polled.
    id_bytes: usize,
    trace: [u8; KNOWN_BYTES],
    has_trace: bool,
}

impl Current {
    const NOBODY: Self = Self { id: [0; ID_BYTES_MAX], id_bytes: 0, trace: [0; KNOWN_BYTES], has_trace: false };

    #[inline]
    fn set(&mut self, request: &RequestId) {
        let id = request.as_bytes();
        self.id[..id.len()].copy_from_slice(id);
        self.id_bytes = id.len();
        self.has_trace = request.trace.is_some();
        if let Some(trace) = &request.trace {
            self.trace.copy_from_slice(trace.known());
        }
    }

    fn get(&self) -> Option<RequestId> {
        let id = &self.id[..self.id_bytes];
        let trace = self.has_trace.then(|| Arc::new(TraceContext::of_known(&self.trace)));
        let name = match <[u8; 32]>::try_from(id) {
            _ if id.is_empty() => return None,
            Ok(digits) => Name::Made(digits),
            Err(_) => Name::Sent(id.into()),
        };
        Some(RequestId { name, trace })
    }
}

/// Polls something of a request that is called `id`, if the server gives ids.
#[inline]
pub(crate) fn within<T>(id: Option<&RequestId>, poll: impl FnOnce() -> T) -> T {
    let Some(id) = id else { return poll() };
    let _open = CURRENT.with_borrow_mut(|current| {
        // A server within the handler of another, on one thread.
        let outer = (current.id_bytes > 0).then(|| Box::new(current.clone()));
        current.set(id);
        Open(outer)
    });
    poll()
}

/// Puts back what was there before, in a panic, too.
struct Open(Option<Box<Current>>);

impl Drop for Open {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| match self.0.take() {
            None => current.id_bytes = 0,
            Some(outer) => *current = *outer,
        });
    }
}

/// That of the request that is being polled.
pub(super) fn current() -> Option<RequestId> {
    CURRENT.with_borrow(Current::get)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    /// The id of a request with this field.
    fn id(name: &'static str, value: &'static str) -> RequestId {
        let fields = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
        RequestId::of(&HeaderMap::from_iter(fields), true)
    }

    #[test]
    fn an_id_is_there_while_its_request_is_polled_and_no_longer() {
        let sent = id("x-request-id", "abc");
        let traced = id("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        for outer in [&sent, &traced, &RequestId::made(), &id("x-request-id", "of-32-letters-and-no-hexadecimal")] {
            within(Some(outer), || {
                assert_eq!(current().as_ref(), Some(outer));
                within(Some(&sent), || assert_eq!(current().as_ref(), Some(&sent)));
                assert_eq!(current().as_ref(), Some(outer));
            });
            assert_eq!(current(), None);
            let panics = || within(Some(outer), || panic!("on purpose"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
            assert_eq!(current(), None);
        }
    }
}
