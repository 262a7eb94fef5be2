//! A panic as a value: what a task died of, for whoever waits for it.
//!
//! It keeps the payload, so that the panic can be resumed elsewhere, and the message, so that it can be told. It is not a
//! backtrace: the panic hook has printed that, at the time and place of the panic.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

const MESSAGE_UNKNOWN: &str = "its payload is not a text";

/// A panic that was caught.
///
/// Displayed, it is `panicked: ` and the message. It can be shared and sent, so it can be the source of any error.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {message}")]
pub struct Panic {
    message: Cow<'static, str>,
    // Never locked but to be taken apart: the lock is what makes a payload, which can only be sent, shareable.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    /// `payload` is what `catch_unwind` has caught.
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
            Cow::Borrowed(*text)
        } else if let Some(text) = payload.downcast_ref::<String>() {
            Cow::Owned(text.clone())
        } else {
            Cow::Borrowed(MESSAGE_UNKNOWN)
        };
        Self { message, payload: Mutex::new(payload) }
    }

    /// What was said to `panic!`. If the payload is not a text, a sentence that says so.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Goes on with the panic in this thread, without calling the panic hook again.
    ///
    /// # Panics
    /// Always.
    pub fn resume(self) -> ! {
        resume_unwind(self.payload.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Drops the payload of a panic that nobody is told of. Should that drop panic in turn, its payload is leaked: there must be an
/// end to it.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// Wakes. A waker that panics keeps nobody else from being woken, and is no concern of whoever calls it; the panic hook has told of it.
#[inline]
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake_one);
}

// Apart, so that it takes no room in the queue's short paths, where there is rarely anybody to be woken.
#[inline(never)]
fn wake_one(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        discard(payload);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::panic::panic_any;

    use super::*;

    fn caught(throw: impl FnOnce() + std::panic::UnwindSafe) -> Panic {
        Panic::new(catch_unwind(throw).unwrap_err())
    }

    #[test]
    fn promise_a_panic_tells_its_message_whatever_it_was_made_of() {
        assert_eq!(caught(|| panic!("plain")).message(), "plain");
        assert_eq!(caught(|| panic!("number {}", 7)).to_string(), "panicked: number 7");
        assert_eq!(caught(|| panic_any(7_u8)).message(), MESSAGE_UNKNOWN);
    }

    #[test]
    fn promise_a_panic_goes_on_with_the_payload_it_had() {
        let panic = caught(|| panic_any(7_u8));
        let again = catch_unwind(|| panic.resume()).unwrap_err();
        assert_eq!(again.downcast_ref::<u8>(), Some(&7));
    }

    #[test]
    fn promise_a_panic_can_be_the_source_of_any_error() {
        fn is_shareable<T: Error + Send + Sync + 'static>() {}
        is_shareable::<Panic>();
    }
}
