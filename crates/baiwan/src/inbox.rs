//! How the rest of the world reaches a core's engine: a list of tokens and one wake-up.
//!
//! Whoever wakes an exchange, and request bodies, put the token of their connection here when there is something for the engine to do.
//! Either may happen on any thread, so this is the one structure of a core that has a lock; nobody else's core takes it.
//! The list is bounded by its writers: a connection is put in at most once by each exchange that it has had, and once by each of
//! their bodies, until the engine has looked.
//!
//! The invariant: when the engine sleeps, there is nothing here that it has not seen, or the wake-up is on its way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use baiwan_driver::Token;

#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tokens: Vec<Token>,
    waker: Option<Waker>,
    /// The engine is in a turn and will look here before it sleeps.
    awake: bool,
    /// Something has changed elsewhere that this turn may have looked at before it changed.
    changed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and the list is valid at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a token in; wakes the engine if it sleeps.
    pub(crate) fn push(&self, token: Token) {
        let mut state = self.lock();
        state.tokens.push(token);
        Self::wake_if_asleep(&mut state);
    }

    /// Makes the engine take another turn, to look at what has changed elsewhere.
    pub(crate) fn wake(&self) {
        let mut state = self.lock();
        state.changed = true;
        Self::wake_if_asleep(&mut state);
    }

    fn wake_if_asleep(state: &mut State) {
        if !std::mem::replace(&mut state.awake, true)
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
    }

    /// The engine is gone. What is put in from here on is forgotten with the inbox; the runtime is let go at once, because
    /// whoever holds this would hold its files too.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        (state.waker, state.tokens) = (None, Vec::new());
    }

    /// The engine begins a turn.
    pub(crate) fn begin_turn(&self) {
        let mut state = self.lock();
        state.awake = true;
        state.changed = false;
    }

    /// Moves all tokens into `tokens`, which must be empty.
    pub(crate) fn take(&self, tokens: &mut Vec<Token>) {
        debug_assert!(tokens.is_empty());
        std::mem::swap(&mut self.lock().tokens, tokens);
    }

    /// Whether a token came in, or something changed, since the engine looked. The engine is awake then, and has to look by itself: no wake-up follows.
    pub(crate) fn has_news(&self) -> bool {
        let state = self.lock();
        !state.tokens.is_empty() || state.changed
    }

    /// The engine wants to sleep. Returns whether it may: not if a token came in or something changed since.
    pub(crate) fn end_turn(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.tokens.is_empty() || state.changed {
            return false;
        }
        state.awake = false;
        match &mut state.waker {
            Some(current) => current.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_during_a_turn_keeps_the_engine_awake() {
        let inbox = Inbox::default();
        inbox.begin_turn();
        inbox.wake();
        assert!(!inbox.end_turn(Waker::noop()), "the turn may have looked before");
        inbox.begin_turn();
        inbox.push(Token(1));
        assert!(!inbox.end_turn(Waker::noop()));
        inbox.take(&mut Vec::new());
        assert!(inbox.end_turn(Waker::noop()));
    }
}
