//! Deadlines that have passed.
//!
//! What a core that was busy has not looked at yet may have come in time: so each deadline is acted on only after a last look.
//!
//! The invariant: what is late is late by what the peer did, not by what this core did.

use baiwan_driver::Driver;
use http::StatusCode;

use super::table::{Flags, State};
use super::{Engine, RECEIVE_BYTES_MAX};
use crate::BodyError;
use crate::app::App;
use crate::clock::Tick;
use crate::gate::Denial;
use crate::status::CloseReason;

/// Deadlines looked at in one turn.
const TURN_EXPIRIES_MAX: usize = 4096;

impl<D: Driver, A: App> Engine<D, A> {
    pub(super) fn set_exchange_deadline(&mut self, index: u32) {
        let active = &self.table[index].active;
        let due = active.as_ref().map_or(Tick::NEVER, |active| active.due());
        self.table.set_deadline(index, due);
    }

    /// Acts on the deadlines that have passed.
    pub(super) fn expire(&mut self, area: &mut [u8]) {
        let mut expired = std::mem::take(&mut self.lists.expired);
        let now = self.clock.tick();
        self.table.expire(now, TURN_EXPIRIES_MAX, &mut expired);
        for index in expired.drain(..) {
            self.handle_deadline(index, now, area);
        }
        self.lists.expired = expired;
    }

    fn handle_deadline(&mut self, index: u32, now: Tick, area: &mut [u8]) {
        let slot = &self.table[index];
        match slot.state {
            // Requests wait for their turn here: they are served before anything is decided.
            State::Idle | State::Head if slot.flags.has(Flags::INPUT) => {
                self.table.set_deadline(index, Tick(now.0 + 1));
                self.table.enqueue(index);
            }
            State::Idle | State::Head if slot.flags.has(Flags::PROBE) => {
                self.turn_away(index, Denial::TOO_MANY_CONNECTIONS)
            }
            State::Idle if self.drain.is_some() => self.close_if_silent(index, CloseReason::Drained, area),
            State::Idle => self.close_if_silent(index, CloseReason::KeepAliveTimeout, area),
            State::Head => self.give_up_head(index, now, area),
            State::Exchange => self.handle_exchange_deadline(index, now, area),
            State::Flush { .. } => self.try_once_more(index, now),
            State::Discard { .. } => self.linger_for_upload(index, CloseReason::BodyUnread),
            State::Linger { reason, .. } => self.close(index, reason),
        }
    }

    fn handle_exchange_deadline(&mut self, index: u32, now: Tick, area: &mut [u8]) {
        let active = self.table[index].activate();
        let (status, reason, failure) = if active.write_due <= now {
            return self.try_once_more(index, now);
        } else if active.pace.due() <= now {
            if !active.exchange.as_ref().is_some_and(|exchange| exchange.awaits_body()) {
                // The handler has dropped the body, so nobody waits for it any more.
                active.pace.stop();
                return self.set_exchange_deadline(index);
            }
            let Some(reason) = self.why_body_is_late(index, now, area) else { return };
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
    fn give_up_head(&mut self, index: u32, now: Tick, area: &mut [u8]) {
        self.receive_rest_of_head(index, area);
        self.transmit();
        let slot = self.table.get(index);
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
    fn why_body_is_late(&mut self, index: u32, now: Tick, area: &mut [u8]) -> Option<CloseReason> {
        self.table[index].flags.set(Flags::READABLE);
        self.visit_exchange(index, area);
        let active = self.table.get(index).and_then(|slot| slot.active.as_ref());
        let active = active.filter(|active| active.exchange.is_some() && active.pace.due() <= now)?;
        Some(if active.pace.has_ended(now) { CloseReason::BodyTimeout } else { CloseReason::BodyTooSlow })
    }

    /// The kernel says that there is room only when there is much. A peer that reads slowly but steadily has made some, and
    /// whether it has shows in a last attempt.
    fn try_once_more(&mut self, index: u32, now: Tick) {
        self.outgoing_queue(index);
        self.transmit();
        let slot = self.table.get(index).filter(|slot| slot.owes());
        if slot.and_then(|slot| slot.active.as_ref()).is_some_and(|active| active.write_due <= now) {
            self.close(index, CloseReason::WriteTimeout);
        }
    }

    /// Closes an idle connection, unless a request has come at the last moment, or while the core could not look.
    fn close_if_silent(&mut self, index: u32, reason: CloseReason, area: &mut [u8]) {
        let slot = &self.table[index];
        let outcome = self.driver.receive_into(&slot.socket, &mut area[..RECEIVE_BYTES_MAX]);
        match outcome {
            Ok(count) if count > 0 => {
                self.process(index, &area[..count]);
                self.transmit();
                let now = self.clock.tick();
                // What has come begins no request.
                if self.table.get(index).is_some_and(|slot| slot.is_quiet() && slot.deadline <= now) {
                    self.close(index, reason);
                }
            }
            _ => self.close(index, reason),
        }
    }
}
