//! How the rest of the world reaches a core's engine: a list of tokens and one wake-up.
//!
//! Exchange tasks and request bodies put the token of their connection here when there is something for the engine to do.
//! Bodies may be polled on any thread, so this is the one structure of a core that has a lock; nobody else's core takes it.
//! The list is bounded by its writers: a connection is put in at most once by its exchange and once by its body until the
//! engine has looked.
//!
//! The invariant: when the engine sleeps, the list is empty or the wake-up is on its way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use baiwan_driver::Token;

#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tokens: Vec<Token>,
    waker: Option<Waker>,
    /// The engine is in a turn and will look at the list before it sleeps.
    awake: bool,
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

    /// Makes the engine take a turn, to look at what has changed elsewhere.
    pub(crate) fn wake(&self) {
        Self::wake_if_asleep(&mut self.lock());
    }

    fn wake_if_asleep(state: &mut State) {
        if !std::mem::replace(&mut state.awake, true)
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
    }

    /// The engine begins a turn.
    pub(crate) fn begin_turn(&self) {
        self.lock().awake = true;
    }

    /// Moves all tokens into `tokens`, which must be empty.
    pub(crate) fn take(&self, tokens: &mut Vec<Token>) {
        debug_assert!(tokens.is_empty());
        std::mem::swap(&mut self.lock().tokens, tokens);
    }

    /// The engine wants to sleep. Returns whether it may: not if a token came in since.
    pub(crate) fn end_turn(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.tokens.is_empty() {
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
