//! A peer: what it sends, what it reads, and what it may conclude.
//!
//! It keeps the requests that are on their way in order, and checks every byte that comes back against the first of them. When
//! its connection ends it asks for the reason: one that the peer itself, a fault, the stop or a timeout has given.

mod judge;

use std::collections::VecDeque;
use std::time::Duration;

use baiwan_driver::sim::{Decisions, SimPeer};
use tokio::time::Instant;

use super::Verdict;
use super::answer::{Answers, Seen};
use super::plan::{Asking, Ending, Expect, Manner, Mishap, garbage};
use crate::settings::Settings;

/// How long an answer without a length may pause once its peer has ended its direction.
const HALF_CLOSED_SILENCE: Duration = Duration::from_secs(1);
/// How long a connection beyond the maximum is read.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The engine waits for a body in all at least this long, and longer for each byte that comes.
const BODY_PATIENCE_MIN: Duration = Duration::from_secs(5);

/// What a peer needs to know of the world to judge.
pub(super) struct Times<'a> {
    pub(super) now: Instant,
    pub(super) settings: &'a Settings,
    pub(super) stopped: Option<Instant>,
    /// It was told to stop at once.
    pub(super) cut: bool,
    pub(super) inbox_bytes_max: usize,
    /// There may have been more connections than are allowed.
    pub(super) crowded: bool,
    /// Deadlines may be as late as this.
    pub(super) slack: Duration,
    /// A receive may say that nothing is there although something is, and the kernel may take nothing of an answer although it has room.
    pub(super) agains: bool,
    /// Nothing delays what the engine is told.
    pub(super) punctual: bool,
    /// When the clock last leapt over a whole write timeout.
    pub(super) leapt: Option<Instant>,
}

/// A request that was begun, and since when.
pub(super) struct Due {
    pub(super) asking: Asking,
    pub(super) began: Instant,
    pub(super) sent: usize,
    /// When bytes of it were sent last, and when its head was complete.
    pub(super) progress: Instant,
    /// The time in all in which nothing of it was sent, although more was to come.
    pub(super) paused: Duration,
    pub(super) head_sent: Option<Instant>,
}

impl Due {
    /// How long it was waited for in all, at the most.
    fn pauses(&self, now: Instant) -> Duration {
        let open = if self.is_sent() { Duration::ZERO } else { now - self.progress };
        self.paused + open
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.asking.bytes.len()
    }
}

pub(super) struct Peer {
    pub(super) sim: Option<SimPeer>,
    pub(super) name: usize,
    pub(super) manner: Manner,
    /// Requests that are not begun.
    queue: VecDeque<Asking>,
    /// What is still to be sent of a request that was answered before.
    rest: Vec<u8>,
    /// Requests that are begun and not answered.
    pub(super) due: VecDeque<Due>,
    pub(super) answers: Answers,
    /// When the connection was opened, or the last answer was complete.
    activity: Instant,
    /// When it opened its connection.
    opened: Instant,
    /// When the server may have had nothing to do for the connection, at the earliest.
    idle: Instant,
    /// When something was sent last.
    sent: Instant,
    /// When something was read last, or nothing was there.
    read: Instant,
    /// Nothing more is sent.
    quiet: bool,
    shut: bool,
    deaf: bool,
    /// An answer has said that it is the last.
    closing: bool,
    /// One that was answered, and whose body may have been left unread.
    unread: bool,
    pub(super) over: bool,
    pub(super) answered: u64,
}

impl Peer {
    pub(super) fn new(name: usize, sim: SimPeer, manner: Manner, now: Instant) -> Self {
        Self {
            sim: Some(sim),
            name,
            manner,
            queue: VecDeque::new(),
            rest: Vec::new(),
            due: VecDeque::new(),
            answers: Answers::default(),
            activity: now,
            opened: now,
            idle: now,
            sent: now,
            read: now,
            quiet: false,
            shut: false,
            deaf: false,
            closing: false,
            unread: false,
            over: false,
            answered: 0,
        }
    }

    /// Does what it does in one step: sends, or misbehaves. `make` makes the next request.
    pub(super) fn act(
        &mut self,
        step: usize,
        decisions: &Decisions,
        now: Instant,
        make: &mut dyn FnMut(&Manner) -> Asking,
    ) {
        if self.over {
            return;
        }
        if let Some((at, mishap)) = self.manner.mishap
            && step >= at
        {
            self.manner.mishap = None;
            self.have(mishap, decisions);
        }
        if self.sim.is_none() || self.quiet || self.closing {
            return;
        }
        if self.queue.is_empty() && self.due.len() < self.manner.pipeline {
            while self.manner.requests > 0 && self.queue.len() < self.manner.pipeline {
                self.manner.requests -= 1;
                self.queue.push_back(make(&self.manner));
            }
        }
        if !decisions.chance(self.manner.pauses) {
            self.send(decisions.within(1..=self.manner.piece_max), now);
        }
        self.end_if_done(step);
    }

    fn have(&mut self, mishap: Mishap, decisions: &Decisions) {
        match mishap {
            Mishap::Reset => {
                self.sim.take().expect("still there").reset();
                self.over = true;
            }
            Mishap::Close => self.leave(),
            Mishap::HalfClose => self.half_close(),
            Mishap::Garbage => {
                self.queue.push_back(garbage(decisions));
                self.manner.requests = 0;
            }
            Mishap::Silence => self.quiet = true,
            Mishap::Deafness => self.deaf = true,
        }
    }

    /// Closes its side, whatever is due.
    pub(super) fn leave(&mut self) {
        self.sim = None;
        self.over = true;
    }

    fn half_close(&mut self) {
        if let Some(sim) = &mut self.sim {
            sim.shutdown_write();
        }
        (self.quiet, self.shut) = (true, true);
    }

    fn end_if_done(&mut self, step: usize) {
        if self.manner.requests > 0 || !self.queue.is_empty() || self.manner.mishap.is_some() {
            return;
        }
        let all_sent = self.rest.is_empty() && self.due.iter().all(Due::is_sent);
        match self.manner.ending {
            Ending::Close if self.due.is_empty() && all_sent && step > 10 => self.leave(),
            // With answers outstanding, so that they are for a peer that has ended its direction.
            Ending::HalfClose if all_sent && step > 5 => self.half_close(),
            _ => {}
        }
    }

    /// Sends at most `most` bytes of its requests, in order.
    fn send(&mut self, mut most: usize, now: Instant) {
        let Some(sim) = &mut self.sim else { return };
        if !self.rest.is_empty() {
            let taken = sim.send(&self.rest[..self.rest.len().min(most)]).unwrap_or(0);
            self.rest.drain(..taken);
            self.sent = now;
            most -= taken;
            if !self.rest.is_empty() || most == 0 {
                return;
            }
        }
        loop {
            if self.due.back().is_none_or(Due::is_sent) {
                let Some(asking) = self.queue.pop_front() else { return };
                self.due.push_back(Due {
                    asking,
                    began: now,
                    sent: 0,
                    progress: now,
                    paused: Duration::ZERO,
                    head_sent: None,
                });
            }
            let first = self.due.len() == 1;
            let due = self.due.back_mut().expect("pushed above");
            // Only the first can be told to go on.
            let held = due.asking.waits && !(first && self.answers.may_go_on());
            let end = if held { due.asking.head_bytes } else { due.asking.bytes.len() };
            let piece = &due.asking.bytes[due.sent..end];
            let piece = &piece[..piece.len().min(most)];
            let Ok(taken) = sim.send(piece) else { break };
            if taken == 0 {
                break;
            }
            most -= taken;
            due.sent += taken;
            self.sent = now;
            due.paused += now - due.progress;
            due.progress = now;
            if due.sent >= due.asking.head_bytes && due.head_sent.is_none() {
                due.head_sent = Some(now);
            }
            if most == 0 {
                break;
            }
        }
        // What could not even be begun is not asked.
        if self.due.back().is_some_and(|due| due.sent == 0) {
            let due = self.due.pop_back().expect("just seen");
            self.queue.push_front(due.asking);
        }
    }

    /// Reads, checks what it has read, and looks whether the connection has ended. Says whether it has read anything.
    pub(super) fn look(&mut self, times: &Times<'_>) -> Result<bool, Verdict> {
        let Some(sim) = &mut self.sim else { return Ok(false) };
        if self.over {
            return Ok(false);
        }
        let most = if self.deaf { 0 } else { self.manner.reads.unwrap_or(usize::MAX) };
        let bytes = sim.receive_up_to(most);
        let any = !bytes.is_empty();
        if any {
            self.answers.push(&bytes);
            self.check(times)?;
        }
        let sim = self.sim.as_ref().expect("seen above");
        if sim.is_at_end() && (!self.deaf || sim.is_reset()) {
            self.over = true;
            self.judge_end(times)?;
            self.sim = None;
        }
        // Only now, as the end may have come because nothing was read before.
        if any || (!self.deaf && self.manner.reads.is_none()) {
            self.read = times.now;
        }
        Ok(any)
    }

    fn check(&mut self, times: &Times<'_>) -> Result<(), Verdict> {
        while let Some(seen) = self.answers.next(self.due.front().map(|due| &due.asking))? {
            match seen {
                Seen::Continue => {}
                Seen::Head { status, closes, ours } => {
                    let Some(due) = self.due.front() else {
                        // A peer that is too slow, or one too many, is told without having asked.
                        if !ours && self.explains(status, None, times) {
                            self.closing = true;
                            continue;
                        }
                        return Err(format!("an answer ({status}) that nobody asked for"));
                    };
                    if self.closing {
                        return Err("an answer after the last".into());
                    }
                    if !ours {
                        if !closes || !self.explains(status, Some(due), times) {
                            return Err(format!(
                                "{} for request {} without a reason",
                                self.answers.rest(),
                                due.asking.id
                            ));
                        }
                    } else if let Err(why) = is_expected(due, closes) {
                        return Err(format!("{status} for request {}: {why}", due.asking.id));
                    }
                    self.closing = closes;
                }
                Seen::Complete => {
                    if let Some(due) = self.due.pop_front() {
                        self.unread |= due.asking.may_close && !due.asking.closes;
                        self.closing |= due.asking.expect == Expect::RefusedOrCut;
                        self.answered += 1;
                        self.rest.extend_from_slice(&due.asking.bytes[due.sent..]);
                    }
                    // The server may have sent the last of it at any time since something was read before.
                    (self.activity, self.idle) = (times.now, self.read);
                }
            }
        }
        Ok(())
    }

    /// Whether it has something to send or to get.
    pub(super) fn is_busy(&self) -> bool {
        let waits = self.due.iter().any(|due| due.is_sent() && due.asking.expect != Expect::Nothing);
        let sends = !self.due.iter().all(Due::is_sent) || !self.rest.is_empty() || !self.queue.is_empty();
        !self.over && !self.closing && !self.deaf && (waits || sends && !self.quiet)
    }

    /// From now on it behaves, and makes no new requests.
    pub(super) fn calm(&mut self) {
        self.manner.requests = 0;
        self.manner.pauses = 0;
        self.manner.piece_max = self.manner.piece_max.max(5000);
        if matches!(self.manner.mishap, Some((_, Mishap::Garbage | Mishap::Silence))) {
            self.manner.mishap = None;
        }
    }

    fn is_late(&self) -> bool {
        self.sim.as_ref().is_some_and(SimPeer::is_late)
    }
}

/// Whether an answer of the app may come for a request.
fn is_expected(due: &Due, closes: bool) -> Result<(), &'static str> {
    match due.asking.expect {
        Expect::Failed | Expect::Refused | Expect::Nothing => Err("the app did not answer this"),
        _ if due.head_sent.is_none() => Err("its head was not sent yet"),
        _ if due.asking.closes
            && !closes
            && due.asking.expect != Expect::RefusedOrCut
            && due.asking.expect != Expect::Cut =>
        {
            Err("it asked for the end and was not told of it")
        }
        _ => Ok(()),
    }
}
