//! The places for connections: which belong to which core, what is in them, and what is said when they are empty.
//!
//! ```text
//!   Unused ─► Opening ─► Open ◄─► Down        (open() is called; a session is there; there is none for now)
//!                  └──────────────► Down
//! ```
//!
//! The locks are held for a look or an exchange, and as a rule by the core alone that the slot belongs to. Invariant: a task that sets a
//! slot to `Open` takes the session out again, even when its task is cut short.

use std::sync::{Arc, Mutex};

use baiwan_task::Limit;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{debug, error, info, warn};

use super::locked;
use super::session::{Condemned, Kind, Passage, Session};

/// Operations of one core that may wait for room on its connections; a further one is refused at once.
pub const WAITING_MAX: usize = 4096;

/// What a core uses: numbers of slots, and how many wait for them.
#[derive(Debug)]
pub(super) struct Lanes {
    /// For changes, which may wait for each other.
    pub(super) writes: Vec<usize>,
    /// For reads, which wait for nothing.
    pub(super) reads: Vec<usize>,
    /// For changes while the core has no connection for them: those that are for changes on some core, so that a change never
    /// comes before a read where it can be avoided.
    pub(super) writes_anywhere: Vec<usize>,
    /// The right to wait for room.
    pub(super) waiting: Limit,
}

impl Lanes {
    /// Those of the core of that number.
    pub(super) fn of(core: usize, cores: usize, slots: usize) -> Self {
        let (writes, reads) = halves(core, cores, slots);
        let mut writes_anywhere: Vec<usize> = (0..cores).flat_map(|core| halves(core, cores, slots).0).collect();
        writes_anywhere.sort_unstable();
        writes_anywhere.dedup();
        Self { writes, reads, writes_anywhere, waiting: Limit::new(WAITING_MAX) }
    }
}

/// The slots for changes and those for reads: the same only where there is no second one. A core that has none uses the others'.
fn halves(core: usize, cores: usize, slots: usize) -> (Vec<usize>, Vec<usize>) {
    let mut usable: Vec<usize> = own_slots(core, cores, slots).collect();
    if usable.is_empty() {
        usable = (0..slots).collect();
    }
    let reads = usable.split_off(usable.len() / 2);
    let writes = if usable.is_empty() { reads.clone() } else { usable };
    (writes, reads)
}

/// The slots whose connections live on the core of that number.
pub(super) fn own_slots(core: usize, cores: usize, slots: usize) -> impl Iterator<Item = usize> {
    (core..slots).step_by(cores)
}

#[derive(Debug)]
enum State {
    /// Nobody has asked for a connection.
    Unused,
    /// The first attempt is under way.
    Opening,
    Open(Arc<Session>),
    /// There is none, and the next attempt may take a while.
    Down,
}

/// What somebody gets who wants to send a statement.
#[derive(Debug)]
pub(super) enum Booking {
    Passage(Passage),
    /// All connections have as much on their way as they may; this one has the least to do.
    Full(Arc<Session>),
    /// There is no connection yet.
    Opening,
    /// There is no connection.
    Down,
}

/// What was said, and is not said again.
#[derive(Debug, Default)]
struct Said {
    /// There is no connection at all.
    outage: bool,
    /// Some connection cannot be made or does not answer, while others are there.
    shortage: bool,
    /// Why what answers is not used.
    refusal: Option<&'static str>,
}

/// All slots of the process.
#[derive(Debug)]
pub(super) struct Slots {
    states: Box<[Mutex<State>]>,
    /// A slot has changed.
    changes: Notify,
    verdict: Mutex<Verdict>,
    said: Mutex<Said>,
}

/// How often all sessions were condemned, and why the last time.
#[derive(Debug, Default)]
struct Verdict {
    number: u64,
    why: Option<Condemned>,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let states = (0..count).map(|_| Mutex::new(State::Unused)).collect();
        Self { states, changes: Notify::new(), verdict: Mutex::default(), said: Mutex::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.states.len()
    }

    /// Ready when a slot has changed since the call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changes.notified()
    }

    /// Room on that of the lane's connections that has the least to do.
    pub(super) fn book(&self, lane: impl IntoIterator<Item = usize>, kind: Kind) -> Booking {
        let mut best: Option<(u64, Arc<Session>)> = None;
        let mut is_opening = false;
        for slot in lane {
            match &*locked(&self.states[slot]) {
                State::Open(session) => {
                    // The task that keeps a condemned one has not seen it yet.
                    if let Some(load) = session.load()
                        && best.as_ref().is_none_or(|(least, _)| load < *least)
                    {
                        best = Some((load, Arc::clone(session)));
                    }
                }
                State::Opening => is_opening = true,
                State::Unused | State::Down => {}
            }
        }
        match best {
            Some((_, session)) => Passage::book(session, kind).map_or_else(Booking::Full, Booking::Passage),
            None if is_opening => Booking::Opening,
            None => Booking::Down,
        }
    }

    /// Whether the caller is to start the slot's task.
    pub(super) fn begin(&self, slot: usize) -> bool {
        let mut state = locked(&self.states[slot]);
        let is_first = matches!(*state, State::Unused);
        if is_first {
            *state = State::Opening;
        }
        is_first
    }

    /// The slot is the caller's, until what is returned is dropped.
    pub(super) fn tenure(&self, slot: usize) -> Tenure<'_> {
        Tenure { slots: self, slot }
    }

    /// Nothing is sent any more.
    pub(super) fn close(&self) {
        for slot in 0..self.count() {
            self.set(slot, State::Down);
        }
    }

    /// No session that is there now is used any more.
    pub(super) fn condemn(&self, why: &Condemned) {
        let mut verdict = locked(&self.verdict);
        *verdict = Verdict { number: verdict.number + 1, why: Some(why.clone()) };
        drop(verdict);
        for state in &self.states {
            let session = match &*locked(state) {
                State::Open(session) => Some(Arc::clone(session)),
                State::Unused | State::Opening | State::Down => None,
            };
            session.iter().for_each(|session| session.condemn(why.clone()));
        }
    }

    /// As [`condemn`](Self::condemn), because what answers must not be used.
    pub(super) fn refuse(&self, refusal: &'static str) {
        self.condemn(&Condemned { reason: refusal.to_owned(), has_forgotten: false });
        Self::say_refusal(&mut locked(&self.said), refusal);
    }

    fn say_refusal(said: &mut Said, refusal: &'static str) {
        if said.refusal.replace(refusal) != Some(refusal) {
            error!(reason = refusal, "PostgreSQL is refused as it is; what needs it is answered with 503");
        }
    }

    fn set(&self, slot: usize, state: State) {
        let before = std::mem::replace(&mut *locked(&self.states[slot]), state);
        // A session may end here; not under the lock.
        drop(before);
        self.changes.notify_waiters();
    }

    fn are_none_left(&self) -> bool {
        self.are_all(|state| matches!(state, State::Down | State::Unused))
    }

    fn are_all(&self, is_so: impl Fn(&State) -> bool) -> bool {
        self.states.iter().all(|state| is_so(&locked(state)))
    }
}

/// The task that keeps a slot, towards all others.
#[derive(Debug)]
pub(super) struct Tenure<'a> {
    slots: &'a Slots,
    slot: usize,
}

impl Tenure<'_> {
    /// How often all sessions were condemned so far: to be asked before a session shows whose it is.
    pub(super) fn verdicts(&self) -> u64 {
        locked(&self.slots.verdict).number
    }

    /// The session may be used from now on, unless all were condemned since the count `verdicts`: what it has shown, it has shown
    /// before that. Then it is not used for a moment, and why is returned.
    pub(super) fn publish(&self, session: &Arc<Session>, verdicts: u64) -> Result<(), Condemned> {
        // Held until the session is in its slot: a task that condemns all finds it there, or its verdict is found here.
        let verdict = locked(&self.slots.verdict);
        if let Some(why) = verdict.why.as_ref().filter(|_| verdict.number != verdicts) {
            return Err(why.clone());
        }
        self.slots.set(self.slot, State::Open(Arc::clone(session)));
        drop(verdict);
        let mut said = locked(&self.slots.said);
        if std::mem::take(&mut said.outage) {
            said.refusal = None;
            info!("PostgreSQL can be used again");
        }
        if self.slots.are_all(|state| matches!(state, State::Open(_) | State::Unused)) {
            said.shortage = false;
            said.refusal = None;
        }
        Ok(())
    }

    /// The session may not be used any more.
    pub(super) fn withdraw(&self, reason: &str) {
        self.slots.set(self.slot, State::Down);
        debug!(slot = self.slot, %reason, "a connection to PostgreSQL is not used any more");
        self.say_if_none_is_left(reason);
    }

    /// A connection cannot be made, or does not answer.
    pub(super) fn fail(&self, reason: &str) {
        self.slots.set(self.slot, State::Down);
        let some_are_left = !self.say_if_none_is_left(reason);
        let said_before = std::mem::replace(&mut locked(&self.slots.said).shortage, true);
        if some_are_left && !said_before {
            warn!(%reason, "a connection to PostgreSQL is out of order; the others do its work");
        }
    }

    /// What answers must not be used.
    pub(super) fn refuse(&self, refusal: &'static str) {
        self.slots.set(self.slot, State::Down);
        let none_is_left = self.slots.are_none_left();
        let mut said = locked(&self.slots.said);
        said.outage |= none_is_left;
        Slots::say_refusal(&mut said, refusal);
    }

    fn say_if_none_is_left(&self, reason: &str) -> bool {
        let none_is_left = self.slots.are_none_left();
        if none_is_left && !std::mem::replace(&mut locked(&self.slots.said).outage, true) {
            warn!(%reason, "PostgreSQL cannot be used; what needs it is answered with 503");
        }
        none_is_left
    }
}

impl Drop for Tenure<'_> {
    fn drop(&mut self) {
        self.slots.set(self.slot, State::Down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_belongs_to_one_core() {
        for (cores, slots) in [(1, 1), (1, 20), (2, 20), (3, 20), (20, 20), (64, 20), (7, 3)] {
            let mut all: Vec<usize> = (0..cores).flat_map(|core| own_slots(core, cores, slots)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..slots).collect::<Vec<_>>(), "{cores} cores");
        }
    }

    #[test]
    fn changes_do_not_hold_up_reads_where_there_are_two_connections() {
        assert_eq!(halves(0, 1, 4), (vec![0, 1], vec![2, 3]));
        assert_eq!(halves(1, 2, 5), (vec![1], vec![3]));
        assert_eq!(halves(0, 2, 5), (vec![0], vec![2, 4]));
        assert_eq!(halves(1, 4, 5), (vec![1], vec![1]), "one does both");
        assert_eq!(Lanes::of(1, 2, 5).writes_anywhere, [0, 1], "nor those of another core");
        assert_eq!(Lanes::of(1, 4, 5).writes_anywhere, [0, 1, 2, 3]);
    }

    #[test]
    fn row_102_so_many_wait_for_room_and_no_more() {
        let lanes = Lanes::of(0, 1, 4);
        let mut waiting: Vec<_> = std::iter::from_fn(|| lanes.waiting.acquire_nowait().ok()).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        assert!(lanes.waiting.acquire_nowait().is_err(), "and one that was refused does not count");
        waiting.pop();
        assert!(lanes.waiting.acquire_nowait().is_ok());
    }

    #[test]
    fn a_core_without_a_connection_uses_the_others() {
        assert_eq!(halves(7, 8, 3), (vec![0], vec![1, 2]));
        assert_eq!(halves(1, 8, 1), (vec![0], vec![0]));
    }

    #[test]
    fn row_102_without_a_connection_nobody_waits_but_for_the_first_attempt() {
        let slots = Slots::new(2);
        assert!(matches!(slots.book(0..2, Kind::Read), Booking::Down), "nobody opens one");
        assert!(slots.begin(0) && !slots.begin(0), "one task for a slot");
        assert!(matches!(slots.book(0..2, Kind::Read), Booking::Opening));
        slots.tenure(0).fail("the server said no");
        assert!(matches!(slots.book(0..2, Kind::Read), Booking::Down));
        assert!(slots.begin(1));
        slots.close();
        assert!(matches!(slots.book(0..2, Kind::Read), Booking::Down));
    }

    #[test]
    fn an_outage_is_said_once_and_only_when_none_is_left() {
        let slots = Slots::new(2);
        assert!(slots.begin(0) && slots.begin(1));
        let (first, second) = (slots.tenure(0), slots.tenure(1));
        first.fail("no");
        let said = || {
            let said = locked(&slots.said);
            (said.outage, said.shortage)
        };
        assert_eq!(said(), (false, true), "the second may still come");
        second.fail("no");
        assert_eq!(said(), (true, true));
    }
}
