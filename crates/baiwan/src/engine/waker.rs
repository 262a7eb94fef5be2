//! What handlers and bodies wake when they can go on.
//!
//! A wake-up puts the connection's token into the core's inbox, once, and the engine polls the exchange in its next turn. A call has its
//! waker from its first poll on, so one that has to wait is not polled again before something has happened. Most calls need not wait;
//! so the waker of one that did not, and that nobody has kept, is the waker of the next.
//!
//! The invariant: a waker that somebody may still wake belongs to one exchange, and never to another.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::task::{Wake, Waker};

use baiwan_driver::Token;

use crate::inbox::Inbox;

/// What an exchange is woken by.
pub(super) struct ExchangeWaker {
    inbox: Arc<Inbox>,
    /// A [`Token`]; it changes only while nobody else has the waker.
    token: AtomicU64,
    /// The token is in the inbox, or was taken from there, and the exchange is not polled yet.
    is_woken: AtomicBool,
}

impl ExchangeWaker {
    pub(super) fn new(inbox: &Arc<Inbox>, token: Token) -> Arc<Self> {
        let (token, is_woken) = (AtomicU64::new(token.0), AtomicBool::new(false));
        Arc::new(Self { inbox: Arc::clone(inbox), token, is_woken })
    }

    /// Has the engine poll the exchange.
    pub(super) fn request_poll(&self) {
        if !self.is_woken.swap(true, AcqRel) {
            self.inbox.push(Token(self.token.load(Relaxed)));
        }
    }

    /// Whether something has happened since the exchange was polled last.
    #[inline]
    pub(super) fn is_woken(&self) -> bool {
        self.is_woken.load(Relaxed)
    }

    /// The exchange is about to be polled: whatever happens from here on wakes it again.
    pub(super) fn begin_poll(&self) {
        self.is_woken.swap(false, AcqRel);
    }
}

impl Wake for ExchangeWaker {
    fn wake(self: Arc<Self>) {
        self.request_poll();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.request_poll();
    }
}

/// The waker of the call that is polled for the first time, in both of its forms.
pub(super) struct FirstWaker {
    shared: Arc<ExchangeWaker>,
    waker: Waker,
}

impl FirstWaker {
    /// How often it is counted while nobody else has it.
    const OWN_COUNT: usize = 2;

    /// The one of a connection's call, which nobody has but the caller: that of an earlier call, if there is one which nobody has kept.
    #[inline]
    pub(super) fn begin<'a>(kept: &'a mut Option<Self>, inbox: &Arc<Inbox>, token: Token) -> &'a Self {
        match kept {
            // Nobody who does not have it can come by it.
            Some(first) if Arc::strong_count(&first.shared) == Self::OWN_COUNT => {
                // What those did who had it happened before.
                fence(Acquire);
                first.shared.token.store(token.0, Relaxed);
                first.shared.is_woken.store(false, Relaxed);
            }
            _ => *kept = Some(Self::new(inbox, token)),
        }
        kept.as_ref().expect("it was made where there was none")
    }

    #[cold]
    fn new(inbox: &Arc<Inbox>, token: Token) -> Self {
        let shared = ExchangeWaker::new(inbox, token);
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    #[inline]
    pub(super) fn as_waker(&self) -> &Waker {
        &self.waker
    }

    /// The one that the exchange has if its call waits.
    pub(super) fn keep(&self) -> Arc<ExchangeWaker> {
        Arc::clone(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_is_used_again_unless_somebody_has_it() {
        let (inbox, mut kept, mut tokens) = (Arc::new(Inbox::default()), None, Vec::new());
        let begin = |kept: &mut Option<FirstWaker>, token: u64| {
            let first = FirstWaker::begin(kept, &inbox, Token(token));
            (Arc::as_ptr(&first.shared), first.as_waker().clone(), first.keep())
        };
        let (first, waker, exchange) = begin(&mut kept, 1);
        waker.wake_by_ref();
        waker.wake();
        drop(exchange);
        let (second, waker, exchange) = begin(&mut kept, 2);
        assert_eq!(first, second, "who had it is gone");
        assert!(!exchange.is_woken());
        drop(exchange);
        let (third, ..) = begin(&mut kept, 3);
        assert_ne!(second, third, "somebody may still wake it");
        waker.wake();
        inbox.take(&mut tokens);
        assert_eq!(tokens, [1, 2].map(Token));
    }
}
