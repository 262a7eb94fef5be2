//! Deadlines that have passed, the server's stop, and the end of connections.
//!
//! A stop gives every connection its chance: those that are being answered are answered, those that were idle for a while are
//! looked at once more and closed, a few at a time, so that a million clients do not come back in the same second.
//!
//! The invariant: `close` is the only place where a connection ends, and it counts exactly one reason.

use std::time::Duration;

use baiwan_driver::{Close, Driver};
use http::StatusCode;
use tokio::time::Instant;

use super::connection::{Flags, Slot, State};
use super::{Engine, Listener, RECEIVE_BYTES_MAX, is_stopping};
use crate::BodyError;
use crate::app::App;
use crate::clock::{TICK, Tick};
use crate::settings::Linger;
use crate::status::{CloseReason, Phase};

/// Deadlines looked at in one turn.
const TURN_EXPIRIES_MAX: usize = 4096;
/// Connections looked at in one turn when the server begins to stop.
const TURN_DRAINS_MAX: usize = 1024;
/// Idle connections are closed at this rate when the server stops, but all of them within `DRAIN_SPREAD_MAX`.
const DRAIN_CLOSES_PER_SECOND: u64 = 20_000;
const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(5);

/// No stop takes longer, whatever it is allowed.
const DRAIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The stop of this core.
#[derive(Debug)]
pub(super) struct Drain {
    /// Slots before this one were looked at.
    cursor: u32,
    slots_end: u32,
    /// What is still open then is cut.
    ends: Instant,
    /// Over how many ticks the idle connections are spread.
    spread: u32,
}

impl Drain {
    pub(super) fn is_settled(&self) -> bool {
        self.cursor >= self.slots_end
    }

    /// Nobody is left to be looked at.
    pub(super) fn skip(&mut self) {
        self.cursor = self.slots_end;
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    pub(super) fn set_deadline(&mut self, index: u32, deadline: Tick) {
        if self.connections.get_mut(index).expect("the caller has it").put_off(deadline) {
            self.wheel.schedule(&mut self.connections, index);
        }
    }

    pub(super) fn set_exchange_deadline(&mut self, index: u32) {
        let active = &self.connections.get(index).expect("the caller has it").active;
        let due = active.as_ref().map_or(Tick::NEVER, |active| active.due());
        self.set_deadline(index, due);
    }

    /// Acts on the deadlines that have passed.
    pub(super) fn expire(&mut self) {
        let mut expired = std::mem::take(&mut self.lists.expired);
        let now = self.clock.tick();
        self.wheel.expire(&mut self.connections, now, TURN_EXPIRIES_MAX, &mut expired);
        for index in expired.drain(..) {
            self.handle_deadline(index, now);
        }
        self.lists.expired = expired;
    }

    fn handle_deadline(&mut self, index: u32, now: Tick) {
        let slot = self.connections.get(index).expect("a linked slot is in use");
        match slot.state {
            // Requests wait for their turn here: they are served before anything is decided.
            State::Idle | State::Head if slot.flags.has(Flags::INPUT) => {
                self.set_deadline(index, Tick(now.0 + 1));
                self.enqueue(index);
            }
            State::Idle | State::Head if slot.flags.has(Flags::PROBE) => self.turn_away(index),
            State::Idle if self.drain.is_some() => self.close_if_silent(index, CloseReason::Drained),
            State::Idle => self.close_if_silent(index, CloseReason::KeepAliveTimeout),
            State::Head => self.give_up_head(index, now),
            State::Exchange => self.handle_exchange_deadline(index, now),
            State::Flush => self.try_once_more(index, now),
            State::Drain => self.linger_for_upload(index, CloseReason::BodyUnread),
            State::Linger => {
                let reason = slot.reason;
                self.close(index, reason);
            }
        }
    }

    fn handle_exchange_deadline(&mut self, index: u32, now: Tick) {
        let active = self.connections.get_mut(index).expect("a linked slot is in use").activate();
        let (status, reason, failure) = if active.write_due <= now {
            return self.try_once_more(index, now);
        } else if active.pace.due() <= now {
            if !active.exchange.as_ref().is_some_and(|exchange| exchange.awaits_body()) {
                // The handler has dropped the body, so nobody waits for it any more.
                active.pace.stop();
                return self.set_exchange_deadline(index);
            }
            let Some(reason) = self.why_body_is_late(index, now) else { return };
            (StatusCode::REQUEST_TIMEOUT, reason, BodyError::TimedOut)
        } else if active.exchange.as_ref().is_some_and(|exchange| exchange.link.phase().head_sent()) {
            if !active.output.is_empty() {
                // It is the peer that takes its time, which the write timeout judges.
                return self.handle_end_while_answering(index);
            }
            // The peer has ended its direction, and nothing more comes of its answer.
            (StatusCode::SERVICE_UNAVAILABLE, CloseReason::PeerClosed, BodyError::Disconnected)
        } else {
            debug_assert!(active.request_due <= now, "one of the three has passed");
            (StatusCode::SERVICE_UNAVAILABLE, CloseReason::RequestTimeout, BodyError::Over)
        };
        match self.end_exchange(index, failure) {
            true => self.close(index, reason),
            false => self.answer_and_close(index, status, reason.name(), reason),
        }
    }

    /// The rest of a head may have come while the core could not look: it is too late only if it is not there now.
    fn give_up_head(&mut self, index: u32, now: Tick) {
        self.receive_rest_of_head(index);
        self.transmit();
        let slot = self.connections.get(index);
        if slot.is_some_and(|slot| slot.state == State::Head && slot.deadline <= now) {
            let (status, reason) = match self.drain {
                Some(_) => (StatusCode::SERVICE_UNAVAILABLE, CloseReason::Drained),
                None => (StatusCode::REQUEST_TIMEOUT, CloseReason::HeaderTimeout),
            };
            self.answer_and_close(index, status, reason.name(), reason);
        }
    }

    /// A body may have come that a busy core has not received yet: whether it has shows in a last attempt. If it has not: which
    /// of the two limits it has broken.
    fn why_body_is_late(&mut self, index: u32, now: Tick) -> Option<CloseReason> {
        self.connections.get_mut(index).expect("a linked slot is in use").flags.set(Flags::READABLE);
        self.visit_exchange(index);
        let active = self.connections.get(index).and_then(|slot| slot.active.as_ref());
        let active = active.filter(|active| active.exchange.is_some() && active.pace.due() <= now)?;
        Some(if active.pace.has_ended(now) { CloseReason::BodyTimeout } else { CloseReason::BodyTooSlow })
    }

    /// The kernel says that there is room only when there is much. A peer that reads slowly but steadily has made some, and
    /// whether it has shows in a last attempt.
    fn try_once_more(&mut self, index: u32, now: Tick) {
        self.outgoing_queue(index);
        self.transmit();
        let slot = self.connections.get(index).filter(|slot| slot.owes());
        if slot.and_then(|slot| slot.active.as_ref()).is_some_and(|active| active.write_due <= now) {
            self.close(index, CloseReason::WriteTimeout);
        }
    }

    /// Everything is answered and sent: on to what waits, or to the next request.
    pub(super) fn finish_answer(&mut self, index: u32) {
        let due = self.clock.deadline(Some(Linger::SHORT.timeout));
        let slot = self.connections.get_mut(index).expect("the caller has it");
        let active = slot.activate();
        if active.unread.is_some() {
            slot.state = State::Drain;
            slot.discardable = Linger::SHORT.bytes_max;
            self.set_deadline(index, due);
            return self.enqueue(index);
        }
        if !active.set_aside.is_empty() {
            slot.flags.set(Flags::INPUT);
        }
        self.become_idle(index);
        self.enqueue(index);
    }

    /// Waits for the next request, for as long as connections are kept, or a stop is held up; holds what is set aside, and
    /// nothing else.
    #[inline]
    pub(super) fn become_idle(&mut self, index: u32) {
        let deadline = self.clock.deadline(self.unless_stopping(self.settings.keep_alive_timeout));
        let slot = self.connections.get_mut(index).expect("the caller has it");
        slot.state = State::Idle;
        slot.active.take_if(|active| active.set_aside.is_empty());
        if slot.put_off(deadline) {
            self.wheel.schedule(&mut self.connections, index);
        }
    }

    /// The time for something that is no request yet: less when the server stops.
    pub(super) fn unless_stopping(&self, timeout: Option<Duration>) -> Option<Duration> {
        match self.drain {
            Some(_) => Some(self.settings.shutdown_idle.min(timeout.unwrap_or(Duration::MAX))),
            None => timeout,
        }
    }

    /// As [`linger`](Self::linger), for a peer that is still sending a well-framed body.
    pub(super) fn linger_for_upload(&mut self, index: u32, reason: CloseReason) {
        self.connections.get_mut(index).expect("the caller has it").flags.set(Flags::UPLOADING);
        self.linger(index, reason);
    }

    /// Ends our direction, and discards what still comes in, so that the peer can read the last answer: closing with
    /// bytes unread would reset the connection and could destroy it (RFC 9112, section 9.6).
    pub(super) fn linger(&mut self, index: u32, reason: CloseReason) {
        let slot = self.connections.get_mut(index).expect("the caller has it");
        let bounds = if slot.flags.has(Flags::UPLOADING) { Linger::UPLOAD } else { Linger::SHORT };
        let deadline = self.clock.deadline(Some(bounds.timeout));
        slot.state = State::Linger;
        slot.reason = reason;
        slot.discardable = bounds.bytes_max;
        slot.active = None;
        slot.flags.clear(Flags::INPUT);
        self.driver.shutdown_write(&slot.socket);
        self.set_deadline(index, deadline);
        self.enqueue(index);
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        self.end_exchange_if_any(index);
        self.wheel.remove(&mut self.connections, index);
        // What was encoded for it in this batch is not sent any more.
        self.outgoing.retain(|outgoing| !outgoing.is_for(index));
        let slot = self.connections.remove(index);
        let cut = matches!(
            reason,
            CloseReason::Reset
                | CloseReason::WriteTimeout
                | CloseReason::HandlerFailed
                | CloseReason::DrainTimeout
                | CloseReason::CoreFailed
        );
        let how = if cut && slot.state != State::Linger { Close::Reset } else { Close::Orderly };
        self.driver.close(slot.socket, how);
        match slot.flags.has(Flags::UNCOUNTED) {
            true => self.turned_away -= 1,
            false => self.core.status.closed(self.core.index),
        }
        if slot.flags.has(Flags::PROBE) {
            self.core.status.end_probe();
        }
        self.core.status().count_close(reason);
    }

    fn end_exchange_if_any(&mut self, index: u32) {
        if self.connections.get(index).is_some_and(|slot| slot.active.is_some()) {
            self.end_exchange(index, BodyError::Disconnected);
        }
    }

    /// Ends all connections.
    pub(super) fn close_all(&mut self, reason: CloseReason) {
        for index in 0..self.connections.end() {
            if self.connections.get(index).is_some() {
                self.close(index, reason);
            }
        }
    }

    /// Goes on with the stop. Returns whether this core is done.
    pub(super) fn has_stopped(&mut self) -> bool {
        let Some(ends) = self.drain.as_ref().map(Drain::ends) else { return false };
        // What was in a backlog has been accepted; what comes now finds nobody.
        let (kept, drained) = std::mem::take(&mut self.listeners).into_iter().partition(|listener| listener.ready);
        self.listeners = kept;
        self.drop_listeners(drained);
        let now = self.clock.now();
        if self.core.status.phase() == Phase::Stopping || now >= ends {
            let rest = std::mem::take(&mut self.listeners);
            self.drop_listeners(rest);
            self.close_all(CloseReason::DrainTimeout);
            return true;
        }
        self.settle();
        self.connections.len() == 0 && self.listeners.is_empty() && self.transports.all_closed()
    }

    /// Follows the server when it begins to stop: before anything else is answered in this turn.
    pub(super) fn begin_stop(&mut self) {
        if self.drain.is_some() || !is_stopping(&self.core.status) {
            return;
        }
        self.core.stopping.set(true);
        self.transports.begin_drain();
        // Whatever the last accept said, one more is due.
        for listener in &mut self.listeners {
            (listener.ready, listener.resumes) = (true, None);
        }
        let timeout = self.settings.shutdown_timeout.saturating_sub(self.settings.shutdown_delay).min(DRAIN_MAX);
        let seconds = Duration::from_secs(self.connections.len() as u64) / DRAIN_CLOSES_PER_SECOND as u32;
        let spread = seconds.min(DRAIN_SPREAD_MAX).min(timeout / 2);
        self.drain = Some(Drain {
            cursor: 0,
            slots_end: self.connections.end(),
            ends: self.clock.now() + timeout,
            spread: whole_ticks(spread),
        });
    }

    /// A listener may be held by somebody else too, and would be reported to us for as long: so it is taken out first.
    fn drop_listeners(&mut self, listeners: Vec<Listener<D>>) {
        for listener in listeners {
            // One that rested was taken out already.
            let _ = self.driver.set_listening(&listener.listener, listener.token, false);
        }
    }

    /// Gives each connection without a request, a number of them in each turn, its time to close.
    fn settle(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let (from, to) = (drain.cursor, drain.slots_end.min(drain.cursor + TURN_DRAINS_MAX as u32));
        let (spread, slots_end) = (u64::from(drain.spread), u64::from(drain.slots_end.max(1)));
        drain.cursor = to;
        let now = self.clock.tick();
        let patience = whole_ticks(self.settings.shutdown_idle);
        let from_now = self.clock.deadline(Some(self.settings.shutdown_idle));
        let idle_since = |deadline: Tick| match self.settings.keep_alive_timeout {
            Some(timeout) if deadline != Tick::NEVER => deadline.0.saturating_sub(whole_ticks(timeout)),
            _ => now.0,
        };
        let mut due = Vec::new();
        for index in from..to {
            // One that became idle during the stop, or nearly was over before it, has its time already.
            let is_due = |slot: &&Slot<D::Socket>| slot.deadline > Tick(now.0.saturating_add(patience + 1));
            let Some(slot) = self.connections.get(index).filter(is_due) else { continue };
            if is_quiet(slot) {
                let quiet = idle_since(slot.deadline).saturating_add(patience);
                let turn = now.0 + (u64::from(index) * spread / slots_end) as u32;
                due.push((index, Tick(quiet.max(turn))));
            } else if slot.state == State::Head {
                due.push((index, from_now));
            }
        }
        for (index, deadline) in due {
            self.set_deadline(index, deadline);
        }
    }

    /// Closes an idle connection, unless a request has come at the last moment, or while the core could not look.
    fn close_if_silent(&mut self, index: u32, reason: CloseReason) {
        let slot = self.connections.get(index).expect("a linked slot is in use");
        let outcome = self.driver.receive_into(&slot.socket, &mut self.area[..RECEIVE_BYTES_MAX]);
        match outcome {
            Ok(count) if count > 0 => {
                let area = std::mem::take(&mut self.area);
                self.process(index, &area[..count]);
                self.area = area;
                self.transmit();
                let now = self.clock.tick();
                // What has come begins no request.
                if self.connections.get(index).is_some_and(|slot| is_quiet(slot) && slot.deadline <= now) {
                    self.close(index, reason);
                }
            }
            _ => self.close(index, reason),
        }
    }
}

/// Whether a connection waits for a request, and has none that waits for it.
fn is_quiet<S>(slot: &Slot<S>) -> bool {
    slot.state == State::Idle && !slot.flags.has(Flags::INPUT)
}

fn whole_ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}
