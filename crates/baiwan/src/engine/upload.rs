//! A request's body on its way in: received when its handler asks for it, discarded when nobody will.
//!
//! A handler that does not ask stops its sender. Never more is received than the body has left, as far as that is known, so what follows
//! it stays in the kernel.
//!
//! The invariant: each wish of a handler is answered once: by a chunk, by the end, or by a failure.

use std::time::Duration;

use baiwan_driver::Driver;
use baiwan_http1::{BodyEvent, CONTINUE, Refusal};
use bytes::Bytes;

use super::exchange::{Extent, Link, Phase};
use super::feed::decode_body;
use super::receive::Arrival;
use super::table::{Flags, State};
use super::{BODY_BYTES_MAX, Engine, SET_ASIDE_BYTES_MAX};
use crate::BodyError;
use crate::app::App;
use crate::status::CloseReason;

/// An answer of unknown length goes on while something of it comes at least this often, once its peer has ended its direction.
const HALF_CLOSED_SILENCE_MAX: Duration = Duration::from_secs(1);

impl<D: Driver, A: App> Engine<D, A> {
    /// Sees to an exchange that is ready for something: its body, or the peer's end.
    pub(super) fn visit_exchange(&mut self, index: u32, area: &mut [u8]) {
        let slot = &self.table[index];
        let exchange = slot.active.as_ref().and_then(|active| active.exchange.as_ref());
        let Some(exchange) = exchange else { return };
        let (open, wanted) = exchange.link.with_feed(|feed| match feed {
            Some(feed) => (!feed.decoder.is_complete(), feed.stream.is_wanted()),
            None => (false, false),
        });
        if open && wanted {
            self.feed(index, area);
        } else if !open && slot.flags.has(Flags::HANGUP) {
            self.handle_end_while_answering(index);
        }
    }

    /// The peer has ended its direction while its request is being answered: it has gone, or (half-close) still listens. Which of
    /// the two shows only when something is sent, so it is given the rest of an answer that has an end, and no more.
    pub(super) fn handle_end_while_answering(&mut self, index: u32) {
        let active = self.table[index].activate();
        let Some(exchange) = &active.exchange else { return };
        match exchange.link.phase() {
            _ if !self.settings.half_close => self.close(index, CloseReason::PeerClosed),
            Phase::Responding { extent: Extent::Endless } => self.close(index, CloseReason::PeerClosed),
            Phase::Responding { extent: Extent::Open } => {
                active.request_due = self.clock.deadline(Some(HALF_CLOSED_SILENCE_MAX));
                self.set_exchange_deadline(index);
            }
            Phase::Responding { extent: Extent::Known }
            | Phase::Waiting
            | Phase::Finished { .. }
            | Phase::Failed { .. } => {}
        }
    }

    /// Receives the next bytes of a body that its handler waits for.
    fn feed(&mut self, index: u32, area: &mut [u8]) {
        let slot = &mut self.table[index];
        let readable = slot.flags.has(Flags::READABLE);
        let active = slot.active.as_mut().expect("an exchange is active");
        let link = std::rc::Rc::clone(&active.exchange.as_ref().expect("visited").link);
        let (continue_due, left, stream) = link.with_feed(|feed| {
            let feed = feed.as_mut().expect("a wanted body has a feed");
            (std::mem::take(&mut feed.continue_due), feed.decoder.remaining_hint(), feed.stream.share())
        });
        // After the head of the answer it would be taken for its body.
        if continue_due && link.phase() == Phase::Waiting {
            active.output.push_back(Bytes::from_static(CONTINUE));
            self.table.enqueue(index);
        }
        if !readable {
            return self.wait_for_body(index);
        }
        // Never more than the body has left, so that what follows it stays in the kernel.
        let bytes_max = left.map_or(SET_ASIDE_BYTES_MAX, |left| left.min(BODY_BYTES_MAX as u64) as usize);
        match self.receive_once(index, &mut area[..bytes_max]) {
            Arrival::Bytes(count) => self.hand_over(index, &link, &area[..count]),
            Arrival::Nothing => self.wait_for_body(index),
            Arrival::End => {
                stream.handle_failure(BodyError::Disconnected);
                if self.settings.half_close && self.table.get(index).is_some_and(|slot| slot.owes()) {
                    // The answer to an earlier request is on its way to a peer that still listens.
                    self.end_exchange(index, BodyError::Disconnected);
                    self.end_after_flush(index, CloseReason::PeerClosed);
                } else {
                    self.close(index, CloseReason::PeerClosed);
                }
            }
            Arrival::Failed => {
                stream.handle_failure(BodyError::Disconnected);
                self.close(index, CloseReason::Reset);
            }
        }
    }

    fn wait_for_body(&mut self, index: u32) {
        let active = self.table[index].activate();
        active.pace.wait(&self.clock, self.settings.body_rate_min);
        self.set_exchange_deadline(index);
    }

    /// Decodes bytes of a body and hands its data to the handler.
    fn hand_over(&mut self, index: u32, link: &Link, bytes: &[u8]) {
        let limits = &self.settings.http;
        let (decoded, stream) = link.with_feed(|feed| {
            let feed = feed.as_mut().expect("a wanted body has a feed");
            (decode_body(&mut feed.decoder, bytes, limits), feed.stream.share())
        });
        let slot = &mut self.table[index];
        let active = slot.activate();
        active.pace.handle_bytes(bytes.len(), &self.clock, self.settings.body_rate_min);
        match decoded {
            Ok(decoded) => {
                active.set_aside.extend_from_slice(&bytes[decoded.consumed..]);
                let hungry = decoded.data.is_empty() && decoded.complete.is_none();
                if !decoded.data.is_empty() {
                    stream.handle_chunk(decoded.data);
                }
                if let Some(trailers) = decoded.complete {
                    active.pace.stop();
                    stream.handle_complete(trailers);
                }
                if hungry || slot.flags.has(Flags::HANGUP) {
                    self.table.enqueue(index);
                }
                self.set_exchange_deadline(index);
            }
            Err(refusal) => self.refuse_body(index, refusal, bytes),
        }
    }

    /// The rest of a body is wrong, and its handler is at work: it hears of it, and the peer, if nothing was answered yet.
    fn refuse_body(&mut self, index: u32, refusal: Refusal, bytes: &[u8]) {
        let failure = BodyError::Malformed(refusal.name());
        if self.end_exchange(index, failure) {
            self.note_refusal(index, refusal, bytes);
            self.close(index, CloseReason::Refused);
        } else {
            self.refuse(index, refusal, bytes);
        }
    }

    /// Bytes of a body that nobody reads any more.
    pub(super) fn discard_body(&mut self, index: u32, bytes: &[u8]) {
        let limits = self.settings.http;
        let slot = &mut self.table[index];
        let State::Discard { left } = &mut slot.state else { unreachable!("the caller has looked") };
        let bearable = left.take(bytes.len());
        let active = slot.active.as_mut().expect("a body is being drained");
        let decoder = active.unread.as_mut().expect("a body is being drained");
        let mut position = 0;
        loop {
            match decoder.decode(&bytes[position..], &limits) {
                Ok(step) => {
                    position += step.consumed;
                    match step.event {
                        BodyEvent::Data(_) => {}
                        BodyEvent::More if !bearable => {
                            return self.linger_for_upload(index, CloseReason::BodyUnread);
                        }
                        BodyEvent::More => return,
                        BodyEvent::Complete(_) => break,
                    }
                }
                Err(refusal) => {
                    // Its request was answered: a second answer would be taken for that to the next one.
                    self.note_refusal(index, refusal, &bytes[position..]);
                    return self.linger(index, CloseReason::Refused);
                }
            }
        }
        active.unread = None;
        self.enter(index, State::Idle);
        self.process(index, &bytes[position..]);
    }

    pub(super) fn discard(&mut self, index: u32, count: usize) {
        let slot = &mut self.table[index];
        if let State::Linger { reason, left } = &mut slot.state
            && !left.take(count)
        {
            let reason = *reason;
            self.close(index, reason);
        }
    }
}
