//! Who is in a group, and whether it is being cancelled: all that a group's parts share, whatever its errors are.
//!
//! Members are the body, the children and the groups inside. They are counted; a group has ended when its last member has left,
//! and an ended group leaves the group that it is in: so an end travels outwards, and a cancellation travels inwards. It is not
//! an executor: it knows nobody's future, only whom to wake.
//!
//! The one invariant: wakers are called, cloned and dropped when no lock is held.
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

use super::waiting::{Seat, Waiting};
use crate::panic::{discard, wake};
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
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
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) grace: Option<Duration>,
    /// As many as children may run; none if there is no limit.
    pub(super) places: Option<Semaphore>,
    /// The group that this one is in, and its key there.
    outer: Option<(Arc<Roster>, usize)>,
    /// Written under the lock of `state` only.
    phase: AtomicU8,
    /// How many members there are. At zero the group has ended, and stays so.
    members: Apart,
    state: Mutex<State>,
    waiting: Waiting,
}

/// A count that all threads write often, in a cache line of its own: what is beside it, all threads read at every poll.
#[repr(align(64))]
struct Apart(AtomicUsize);

/// What is rarely touched while children run.
#[derive(Default)]
struct State {
    groups: Slab<Arc<Roster>>,
    /// Those who wait to see the cancellation.
    watchers: Slab<Waker>,
    /// The task that awaits the scope.
    scope: Option<Waker>,
}

impl Roster {
    /// A group with its first member, the body. It is a member of `outer`, and cancelled if that is.
    pub(crate) fn open(
        name: Option<Cow<'static, str>>,
        limit: Option<usize>,
        grace: Option<Duration>,
        outer: Option<Arc<Roster>>,
    ) -> Arc<Roster> {
        let places = limit.map(|limit| Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let open = |outer| Roster {
            name,
            grace,
            places,
            outer,
            phase: AtomicU8::new(Phase::Open as u8),
            members: Apart(AtomicUsize::new(1)),
            state: Mutex::new(State::default()),
            waiting: Waiting::default(),
        };
        let Some(outer) = outer else { return Arc::new(open(None)) };
        // Whose context is current has not left, so the group outside has not ended.
        outer.members.0.fetch_add(1, Ordering::Relaxed);
        let mut state = outer.state.lock();
        let entry = state.groups.vacant_entry();
        let roster = Arc::new(open(Some((Arc::clone(&outer), entry.key()))));
        entry.insert(Arc::clone(&roster));
        let phase_outer = outer.phase();
        drop(state);
        if phase_outer > Phase::Open {
            roster.advance(roster.phase_below(phase_outer));
        }
        roster
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Asked,
            _ => Phase::Dropping,
        }
    }

    /// Takes a child in, unless the group is cancelled or has ended. If it is cancelled meanwhile, the child will see that.
    pub(crate) fn admit(&self) -> bool {
        let more = |members| if members == 0 { None } else { Some(members + 1) };
        self.phase() == Phase::Open && self.members.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Has a child woken when it must go. Returns where its waker is, or none if it must go already.
    pub(crate) fn keep_waker(&self, waker: Waker) -> Option<Seat> {
        self.waiting.put(waker, || self.phase() < Phase::Dropping)
    }

    /// A child has ended: its future is gone, and so is all that it owned. `seat` is where its waker is.
    pub(crate) fn leave_as_child(&self, seat: Option<Seat>) {
        if let Some(seat) = seat {
            self.waiting.remove(seat);
        }
        self.leave();
        if let Some(places) = &self.places {
            places.add_permits(1);
        }
    }

    /// A member has ended. Wakes the scope if it was the last.
    pub(crate) fn leave(&self) {
        let mut roster = self;
        // All that members have done happened before the end that the last one announces.
        while roster.members.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            // A task that still waits for a place can never have one.
            roster.close_places();
            let scope = roster.state.lock().scope.take();
            wake(scope);
            let Some((outer, key)) = &roster.outer else { return };
            let left = outer.state.lock().groups.try_remove(*key);
            drop(left);
            roster = outer;
        }
    }

    fn has_ended(&self) -> bool {
        self.members.0.load(Ordering::Acquire) == 0
    }

    /// Cancels. What that means at once depends on whether there is a grace: its own, or what is left of one outside, by which it was
    /// asked already.
    pub(crate) fn cancel(&self) {
        let now = match self.grace {
            Some(grace) if !grace.is_zero() => Phase::Asked,
            None if self.phase() == Phase::Asked => return,
            _ => Phase::Dropping,
        };
        self.advance(now);
    }

    /// Brings this group, and all inside it, at least to `phase`, unless it has ended.
    pub(crate) fn advance(&self, phase: Phase) {
        let mut woken = Woken::default();
        self.advance_alone(phase, &mut woken);
        while let Some((roster, phase)) = woken.groups.pop() {
            roster.advance_alone(phase, &mut woken);
        }
        wake(woken.wakers);
    }

    /// What a group in this one comes to when this one has come to `phase`. One with no grace of its own has that of the group
    /// that it is in.
    fn phase_below(&self, phase: Phase) -> Phase {
        if self.grace.is_some_and(|grace| grace.is_zero()) { Phase::Dropping } else { phase }
    }

    fn advance_alone(&self, phase: Phase, woken: &mut Woken) {
        let mut state = self.state.lock();
        if self.has_ended() || self.phase() >= phase {
            return;
        }
        self.phase.store(phase as u8, Ordering::Release);
        woken.wakers.extend(state.scope.take());
        woken.wakers.extend(state.watchers.drain());
        woken.groups.extend(state.groups.iter().map(|(_, inner)| (Arc::clone(inner), inner.phase_below(phase))));
        drop(state);
        if phase == Phase::Dropping {
            self.waiting.drain(&mut woken.wakers);
        }
        self.close_places();
    }

    fn close_places(&self) {
        if let Some(places) = &self.places {
            // It goes on where a waker has panicked, who was taken out of the line before.
            while let Err(payload) = catch_unwind(AssertUnwindSafe(|| places.close())) {
                discard(payload);
            }
        }
    }

    /// Has the scope's task woken when the group ends or is cancelled (further). Returns true if it has ended.
    pub(crate) fn park(&self, waker: &Waker) -> bool {
        let is_known = self.state.lock().scope.as_ref().is_some_and(|known| known.will_wake(waker));
        if !is_known {
            let waker = waker.clone();
            let before = self.state.lock().scope.replace(waker);
            drop(before);
        }
        // Whoever makes it end after this takes the waker.
        self.has_ended()
    }

    /// Nobody awaits the scope any more.
    pub(crate) fn unpark(&self) {
        let before = self.state.lock().scope.take();
        drop(before);
    }

    /// Has somebody woken when the group is cancelled: returns the key to [`unwatch`](Self::unwatch) with, or none if it is
    /// cancelled already.
    pub(crate) fn watch(&self, waker: &Waker) -> Option<usize> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if self.phase() > Phase::Open { None } else { Some(state.watchers.insert(waker)) }
    }

    pub(crate) fn unwatch(&self, key: usize) {
        let before = self.state.lock().watchers.try_remove(key);
        drop(before);
    }
}

/// One after another: a chain of groups may be longer than the stack is deep.
impl Drop for Roster {
    fn drop(&mut self) {
        let mut outer = self.outer.take();
        while let Some((roster, _)) = outer {
            // Who is not the last owner leaves the rest to the one who is.
            outer = Arc::try_unwrap(roster).ok().and_then(|mut roster| roster.outer.take());
        }
    }
}

#[derive(Default)]
struct Woken {
    wakers: Vec<Waker>,
    groups: Vec<(Arc<Roster>, Phase)>,
}
