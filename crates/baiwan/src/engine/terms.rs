//! On what terms connections are served: the same for every step of a turn, and nothing that a connection does changes them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use baiwan_http1::{HEAD_BYTES_CEILING, ResponseContext, ShortAnswerTemplate};
use baiwan_limits::{MemoryLevel, MemoryPressure, Moment};
use tokio::time::Instant;

use super::SET_ASIDE_BYTES_MAX;
use crate::clock::{Clock, Date, Tick};
use crate::inbox::Inbox;
use crate::own_answer::Asked;
use crate::recorder::Recorder;
use crate::reload::Follower;
use crate::settings::Settings;
use crate::status::{CoreStatus, Status};

/// What every step reads and only the loop writes.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) settings: Arc<Settings>,
    /// Where later ones come from.
    follower: Follower,
    pub(super) clock: Clock,
    pub(super) board: Rc<Board>,
    /// The time of this turn as the rate limit counts it, if there is a limit.
    pub(super) moment: Option<Moment>,
    /// When somebody last looked at the clock, at the beginning of the turn or within.
    looked: Cell<Instant>,
    /// When the requests had come that are being read: records begin then, however many handlers run before theirs.
    arrived: Cell<Instant>,
    /// Since when the connection waits that is being served, where a core watches for overload.
    waits_since: Cell<Option<Instant>>,
    /// Until when a connection may be idle that becomes that in this turn.
    pub(super) idle_due: Tick,
    /// Something is asked of every request of this turn before it is let through, or has to be kept of it, beside what the rate limit asks.
    pub(super) asks_more: bool,
    /// The answer to a request that the rate limit refuses, as far as it is known in advance; none where it depends on where the request
    /// comes from.
    pub(super) refusal: Option<ShortAnswerTemplate>,
    /// Bytes of a connection that may wait for their turn, or for the rest of their head: by the greatest limit of a head that was in force.
    set_aside_bytes_max: usize,
    /// The shortest keep-alive timeout that was in force since the start, if any was: a deadline does not show by which it was stored.
    keep_alive_timeout_min: Option<Duration>,
}

/// What of the settings has changed, beside the values that are read where they are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    /// Heads have other limits.
    pub(super) limits: bool,
    /// The app is to be made anew.
    pub(super) app: bool,
}

impl Terms {
    pub(super) fn new(settings: Arc<Settings>, follower: Follower, clock: Clock, board: Rc<Board>) -> Self {
        let [looked, arrived] = [(); 2].map(|()| Cell::new(clock.now()));
        Self {
            refusal: refusal(&settings),
            set_aside_bytes_max: set_aside_bytes_max(&settings),
            keep_alive_timeout_min: settings.keep_alive_timeout,
            settings,
            follower,
            clock,
            board,
            moment: None,
            looked,
            arrived,
            waits_since: Cell::new(None),
            idle_due: Tick::NEVER,
            asks_more: true,
        }
    }

    /// Takes the settings that were posted since the turn before, if any were.
    #[inline]
    pub(super) fn take_settings(&mut self) -> Option<Changed> {
        let taken = self.follower.take()?;
        let before = std::mem::replace(&mut self.settings, taken.settings);
        self.refusal = refusal(&self.settings);
        self.set_aside_bytes_max = self.set_aside_bytes_max.max(set_aside_bytes_max(&self.settings));
        let timeouts = [self.keep_alive_timeout_min, self.settings.keep_alive_timeout];
        self.keep_alive_timeout_min = timeouts.into_iter().flatten().min();
        Some(Changed { limits: before.http != self.settings.http, app: taken.remakes_app })
    }

    /// Reads the time. Called once at the beginning of a turn.
    pub(super) fn read_clock(&mut self) {
        self.clock.read();
        self.looked.set(self.clock.now());
        // A loop that panicked has left it.
        self.waits_since.set(None);
        let limit = self.settings.rate_limit_in_force.as_ref();
        self.moment = limit.map(|limit| limit.moment(self.clock.now().into_std()));
    }

    /// The counters of this core.
    #[inline]
    pub(super) fn status(&self) -> &CoreStatus {
        self.board.status()
    }

    /// Who is told of exchanges, if anybody wants to know.
    #[inline]
    pub(super) fn recorder(&self) -> Option<&Arc<Recorder>> {
        self.board.recorder.as_ref()
    }

    /// The time as it is, in the middle of a turn.
    pub(super) fn precise_time(&self) -> Instant {
        let now = self.clock.precise();
        self.looked.set(now);
        now
    }

    /// When somebody last looked at the clock, at the beginning of the turn or within: for records, which are many.
    #[inline]
    pub(super) fn recent_time(&self) -> Instant {
        self.looked.get()
    }

    /// Something was received just now, which is going to be read. It had come by now, or when its connection began to wait.
    #[inline]
    pub(super) fn note_arrival(&self) {
        if self.recorder().is_some() {
            self.arrived.set(self.waits_since.get().unwrap_or_else(|| self.precise_time()));
        }
    }

    /// What was received in an earlier turn is going to be read. Where nobody knows when it came, it has waited for this turn at the least.
    #[inline]
    pub(super) fn note_earlier_arrival(&self, at: Option<Instant>) {
        self.arrived.set(at.or(self.waits_since.get()).unwrap_or(self.clock.now()));
    }

    /// Since when the connection waits that is going to be served; `None` when it was served.
    #[inline]
    pub(super) fn note_waiting(&self, since: Option<Instant>) {
        self.waits_since.set(since);
    }

    /// When the request had come whose head was just read.
    #[inline]
    pub(super) fn arrival(&self) -> Instant {
        self.arrived.get()
    }

    /// The tick until which something may take `timeout`, from now on.
    #[inline]
    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Tick {
        self.clock.deadline(timeout)
    }

    /// Bytes of a connection that may wait for their turn, or for the rest of their head.
    pub(super) fn set_aside_bytes_max(&self) -> usize {
        self.set_aside_bytes_max
    }

    /// The shortest keep-alive timeout that was in force since the start; `None` where idle connections have no timeout now.
    pub(super) fn keep_alive_timeout_min(&self) -> Option<Duration> {
        self.settings.keep_alive_timeout.and(self.keep_alive_timeout_min)
    }

    /// Notes what follows for each request of this turn from the time, and from what was posted since the turn before.
    pub(super) fn begin_turn(&mut self) {
        self.idle_due = self.deadline(self.idle_timeout());
        let is_short = self.board.memory_pressure().level >= MemoryLevel::NoKeepAlive;
        let asks_who = !self.settings.proxies.is_empty();
        self.asks_more = self.board.is_stopping() || is_short || asks_who || Asked::is_kept(&self.settings);
    }

    /// How long a connection may be idle from now on: less when memory is short, or the server stops.
    #[inline]
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        let timeout = self.board.memory_pressure().idle_timeout(self.settings.keep_alive_timeout);
        self.unless_stopping(timeout)
    }

    /// The time for something that is no request yet: less when the server stops.
    #[inline]
    pub(super) fn unless_stopping(&self, timeout: Option<Duration>) -> Option<Duration> {
        match self.board.is_stopping() {
            true => Some(self.settings.shutdown_idle.min(timeout.unwrap_or(Duration::MAX))),
            false => timeout,
        }
    }
}

/// What may wait by these settings.
fn set_aside_bytes_max(settings: &Settings) -> usize {
    settings.http.head_bytes_max.clamp(SET_ASIDE_BYTES_MAX, HEAD_BYTES_CEILING)
}

/// What is known in advance of the answer to a request that the rate limit refuses.
fn refusal(settings: &Settings) -> Option<ShortAnswerTemplate> {
    let limit = settings.rate_limit_in_force.as_ref().filter(|_| settings.refusal_cors.is_off())?;
    Some(ShortAnswerTemplate::new(&limit.refusal(&[], &[limit.fields().begin_of_lines()])))
}

/// Capacity that is kept for answers that are not sent at once.
const SCRATCH_BYTES_MAX: usize = 32 * 1024;

/// What the engine posts for the exchanges of its core, and where both count.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) server: Arc<Status>,
    /// The number of this core.
    pub(super) index: usize,
    /// Who is told of exchanges, if anybody wants to know.
    pub(super) recorder: Option<Arc<Recorder>>,
    date: Cell<Date>,
    /// Answers end their connections.
    stopping: Cell<bool>,
    memory: Cell<MemoryPressure>,
    polls: Cell<Polls>,
    /// Where answers are encoded that are not sent at once; empty between its uses, kept for its capacity.
    scratch: RefCell<Vec<u8>>,
}

/// Whether exchanges that had waited were polled since somebody asked last.
#[derive(Clone, Copy, Debug)]
enum Polls {
    /// Nobody asks.
    Unwatched,
    NoneMade,
    MadeSince(Instant),
}

impl Board {
    pub(super) fn new(server: Arc<Status>, index: usize, date: Date, recorder: Option<Arc<Recorder>>) -> Rc<Self> {
        let (date, stopping, memory) = (Cell::new(date), Cell::new(false), Cell::default());
        Rc::new(Self {
            server,
            index,
            recorder,
            date,
            stopping,
            memory,
            polls: Cell::new(Polls::Unwatched),
            scratch: RefCell::default(),
        })
    }

    #[inline]
    pub(super) fn status(&self) -> &CoreStatus {
        &self.server.cores[self.index]
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.status().inbox
    }

    pub(super) fn date(&self) -> Date {
        self.date.get()
    }

    pub(super) fn post_date(&self, date: &Date) {
        self.date.set(*date);
    }

    /// How short memory is, as of this turn.
    #[inline]
    pub(super) fn memory_pressure(&self) -> MemoryPressure {
        self.memory.get()
    }

    pub(super) fn post_memory_pressure(&self, pressure: MemoryPressure) {
        self.memory.set(pressure);
    }

    /// The server stops.
    pub(super) fn post_stop(&self) {
        self.stopping.set(true);
    }

    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// From now on somebody asks whether exchanges that had waited were polled.
    pub(super) fn watch_polls(&self) {
        self.polls.set(Polls::NoneMade);
    }

    /// An exchange that has waited is polled.
    #[inline]
    pub(super) fn note_poll(&self) {
        if let Polls::NoneMade = self.polls.get() {
            self.polls.set(Polls::MadeSince(Instant::now()));
        }
    }

    /// When the first of them was polled since this was asked last, if one did.
    pub(super) fn take_polls(&self) -> Option<Instant> {
        match self.polls.replace(Polls::NoneMade) {
            Polls::MadeSince(began) => Some(began),
            Polls::Unwatched | Polls::NoneMade => None,
        }
    }

    /// An empty place to encode in; to be [put back](Self::put_scratch).
    pub(super) fn take_scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    pub(super) fn put_scratch(&self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            scratch.clear();
            *self.scratch.borrow_mut() = scratch;
        }
    }

    /// Whether an answer may leave its connection open is known only when its head is written.
    pub(super) fn context(&self, context: ResponseContext, kept: bool) -> ResponseContext {
        ResponseContext { keep_alive: context.keep_alive && kept && !self.is_stopping(), ..context }
    }
}
