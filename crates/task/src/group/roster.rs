//! Who is in a group, and whether it is being cancelled: all that a group's parts share, whatever its errors are.
//!
//! Members are the body, the children and the groups inside. A group has ended when its last member has left, and an ended
//! group leaves the group that it is in: so an end travels outwards, and a cancellation travels inwards. It is not an executor:
//! it knows nobody's future, only whom to wake.
//!
//! The one invariant: wakers are called, cloned and dropped when the lock is not held.
//!
//! ```text
//!            cancel, with grace                     grace over, or no grace, or scope dropped
//!   Open ───────────────────────────▶ Asked ─────────────────────────────────────────────────▶ Dropping
//!   (members may be admitted)         (all may see it)                        (futures are dropped at their next await)
//! ```

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Semaphore;

use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Arc, Mutex};

/// How far a cancellation has come. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nobody has cancelled.
    Open,
    /// Everybody can see that the group is cancelled, and may still end by itself.
    Asked,
    /// Futures are dropped at their next await.
    Dropping,
}

pub(crate) struct Roster {
    name: Option<Cow<'static, str>>,
    grace: Option<Duration>,
    /// As many as children may run; none if there is no limit.
    places: Option<Semaphore>,
    /// The group that this one is a member of, and as which.
    outer: Option<(Arc<Roster>, usize)>,
    /// Written under the lock only.
    phase: AtomicU8,
    state: Mutex<State>,
}

struct State {
    /// The last member has left: nobody is admitted any more.
    ended: bool,
    members: Slab<Member>,
    /// Those who wait to see the cancellation.
    watchers: Slab<Waker>,
    /// The task that awaits the scope.
    scope: Option<Waker>,
}

enum Member {
    /// The body, or a child that has not been waiting yet.
    Quiet,
    /// A child that is to be woken when it must go.
    Waiting(Waker),
    /// A group inside.
    Group(Arc<Roster>),
}

impl Roster {
    /// A group with its first member, the body, whose key is the second value. It is a member of `outer`, and cancelled if
    /// that is.
    pub(crate) fn open(
        name: Option<Cow<'static, str>>,
        limit: Option<usize>,
        grace: Option<Duration>,
        outer: Option<Arc<Roster>>,
    ) -> (Arc<Roster>, usize) {
        let places = limit.map(|limit| Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let mut members = Slab::new();
        let body = members.insert(Member::Quiet);
        let state = Mutex::new(State { ended: false, members, watchers: Slab::new(), scope: None });
        let phase = AtomicU8::new(Phase::Open as u8);
        let Some(outer) = outer else {
            return (Arc::new(Roster { name, grace, places, outer: None, phase, state }), body);
        };
        let mut state_outer = outer.state.lock();
        let entry = state_outer.members.vacant_entry();
        let key = entry.key();
        let roster = Arc::new(Roster { name, grace, places, outer: Some((Arc::clone(&outer), key)), phase, state });
        entry.insert(Member::Group(Arc::clone(&roster)));
        let phase_outer = outer.phase();
        drop(state_outer);
        if phase_outer > Phase::Open {
            roster.advance(roster.phase_below(phase_outer));
        }
        (roster, body)
    }

    pub(crate) fn name(&self) -> Option<&Cow<'static, str>> {
        self.name.as_ref()
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace
    }

    pub(crate) fn places(&self) -> Option<&Semaphore> {
        self.places.as_ref()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Asked,
            _ => Phase::Dropping,
        }
    }

    /// Takes a child in and returns its key, unless the group is cancelled or has ended.
    pub(crate) fn admit(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let open = !state.ended && self.phase() == Phase::Open;
        open.then(|| state.members.insert(Member::Quiet))
    }

    /// Has a child woken when it must go. Returns false if it must go already.
    pub(crate) fn keep_waker(&self, child: usize, waker: Waker) -> bool {
        let mut state = self.state.lock();
        if self.phase() == Phase::Dropping {
            return false;
        }
        let before = std::mem::replace(&mut state.members[child], Member::Waiting(waker));
        drop(state);
        drop(before);
        true
    }

    /// Gives back the place of a child that has left.
    pub(crate) fn leave_place(&self) {
        if let Some(places) = &self.places {
            places.add_permits(1);
        }
    }

    /// A member has ended: its future is gone, and so is all that it owned. Wakes the scope if it was the last.
    pub(crate) fn leave(&self, member: usize) {
        let (mut roster, mut member) = (self, member);
        loop {
            let mut state = roster.state.lock();
            let left = state.members.remove(member);
            state.ended = state.members.is_empty();
            let scope = if state.ended { state.scope.take() } else { None };
            let ended = state.ended;
            drop(state);
            drop(left);
            if !ended {
                return;
            }
            wake(scope);
            let Some((outer, key)) = &roster.outer else { return };
            (roster, member) = (outer, *key);
        }
    }

    /// Cancels. What that means at once depends on whether there is a grace.
    pub(crate) fn cancel(&self) {
        let now = if self.grace.is_some_and(|grace| !grace.is_zero()) { Phase::Asked } else { Phase::Dropping };
        self.advance(now);
    }

    /// Brings this group, and all inside it, at least to `phase`, unless it has ended.
    pub(crate) fn advance(&self, phase: Phase) {
        let mut woken = Woken::default();
        self.advance_alone(phase, &mut woken);
        while let Some((roster, phase)) = woken.groups.pop() {
            roster.advance_alone(phase, &mut woken);
        }
        for waker in woken.wakers {
            wake(Some(waker));
        }
    }

    /// What a group in this one comes to when this one has come to `phase`. One with no grace of its own has that of the group
    /// that it is in.
    fn phase_below(&self, phase: Phase) -> Phase {
        if self.grace.is_some_and(|grace| grace.is_zero()) { Phase::Dropping } else { phase }
    }

    fn advance_alone(&self, phase: Phase, woken: &mut Woken) {
        let mut state = self.state.lock();
        if state.ended || self.phase() >= phase {
            return;
        }
        self.phase.store(phase as u8, Ordering::Release);
        woken.wakers.extend(state.scope.take());
        woken.wakers.extend(state.watchers.drain());
        for (_, member) in &mut state.members {
            match member {
                Member::Group(inner) => woken.groups.push((Arc::clone(inner), inner.phase_below(phase))),
                Member::Waiting(_) if phase == Phase::Dropping => {
                    if let Member::Waiting(waker) = std::mem::replace(member, Member::Quiet) {
                        woken.wakers.push(waker);
                    }
                }
                Member::Waiting(_) | Member::Quiet => {}
            }
        }
        drop(state);
        if let Some(places) = &self.places {
            places.close();
        }
    }

    /// Has the scope's task woken when the group ends or is cancelled (further). Returns true if it has ended.
    pub(crate) fn park(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let known = state.scope.as_ref().is_some_and(|known| known.will_wake(waker));
        if state.ended || known {
            return state.ended;
        }
        drop(state);
        let waker = waker.clone();
        state = self.state.lock();
        let before = state.scope.replace(waker);
        let ended = state.ended;
        drop(state);
        drop(before);
        ended
    }

    /// Nobody awaits the scope any more.
    pub(crate) fn unpark(&self) {
        let before = self.state.lock().scope.take();
        drop(before);
    }

    /// Has somebody woken when the group is cancelled: returns the key to [`unwatch`](Self::unwatch) with, or none if it is
    /// cancelled already. `key` is the one of an earlier call.
    pub(crate) fn watch(&self, key: Option<usize>, waker: &Waker) -> Option<usize> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if self.phase() > Phase::Open {
            return None;
        }
        let Some(key) = key else { return Some(state.watchers.insert(waker)) };
        let before = std::mem::replace(&mut state.watchers[key], waker);
        drop(state);
        drop(before);
        Some(key)
    }

    pub(crate) fn unwatch(&self, key: usize) {
        let before = self.state.lock().watchers.try_remove(key);
        drop(before);
    }
}

#[derive(Default)]
struct Woken {
    wakers: Vec<Waker>,
    groups: Vec<(Arc<Roster>, Phase)>,
}

/// Wakes. A waker that panics keeps nobody else from being woken; the panic hook has told of it.
pub(crate) fn wake(waker: Option<Waker>) {
    let Some(waker) = waker else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // Its drop could panic again, here where nobody could catch it.
        std::mem::forget(payload);
    }
}
