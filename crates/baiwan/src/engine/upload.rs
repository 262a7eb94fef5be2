//! A request's body on its way in: received when its handler asks for it, discarded when nobody will.
//!
//! A handler that does not ask stops its sender. Never more is received than the body has left, as far as that is known, so what follows
//! it stays in the kernel.
//!
//! The invariant: each wish of a handler is answered once: by a chunk, by the end, or by a failure.

use std::time::Duration;

use baiwan_driver::Driver;
use baiwan_http1::{BodyEvent, CONTINUE, Limits, Refusal};
use bytes::Bytes;

use super::answer::Extent;
use super::arrival::{Arrival, receive_once};
use super::close::{close, cut_answer, end_after_flush, end_exchange, enter, linger, linger_for_upload};
use super::exchange::Progress;
use super::feed::decode_body;
use super::ports::Ports;
use super::refuse::{note_refusal, refuse};
use super::table::{Flags, State, Table};
use super::terms::Terms;
use super::{BODY_BYTES_MAX, SET_ASIDE_BYTES_MAX};
use crate::BodyError;
use crate::clock::Tick;
use crate::status::CloseReason;

/// An answer of unknown length goes on while something of it comes at least this often, once its peer has ended its direction.
const HALF_CLOSED_SILENCE_MAX: Duration = Duration::from_secs(1);

/// Sees to an exchange that is ready for something: its body, or the peer's end.
pub(super) fn visit_exchange<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    area: &mut [u8],
) {
    let exchange = table.busy(index).and_then(|busy| busy.exchange.as_ref());
    let Some(exchange) = exchange else { return };
    if exchange.wants_body() {
        feed(terms, ports, table, index, area);
    } else if exchange.is_done_with_body() && table[index].flags.has(Flags::HANGUP) {
        handle_end_while_answering(terms, ports, table, index);
    }
}

/// The peer has ended its direction while its request is being answered: it has gone, or (half-close) still listens. Which of
/// the two shows only when something is sent, so it is given the rest of an answer that has an end, and no more.
pub(super) fn handle_end_while_answering<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
) {
    let Some(busy) = table.busy_mut(index) else { return };
    let Some(exchange) = &busy.exchange else { return };
    match exchange.course.progress {
        _ if !terms.settings.half_close => close(terms, ports, table, index, CloseReason::PeerClosed),
        Progress::Responding { extent: Extent::Endless } => {
            end_exchange(table, index, BodyError::Disconnected);
            cut_answer(terms, ports, table, index, CloseReason::PeerClosed);
        }
        // Until something comes of it, looking at it once more changes nothing.
        Progress::Responding { extent: Extent::Open | Extent::UntilClose } if busy.request_due == Tick::NEVER => {
            busy.request_due = terms.deadline(Some(HALF_CLOSED_SILENCE_MAX));
            table.update_deadline(index);
        }
        Progress::Responding { extent: Extent::Known | Extent::Open | Extent::UntilClose }
        | Progress::Waiting
        | Progress::Finished { .. }
        | Progress::Failed { .. } => {}
    }
}

/// Receives the next bytes of a body that its handler waits for.
fn feed<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32, area: &mut [u8]) {
    let busy = table.activate(index);
    let exchange = busy.exchange.as_mut().expect("a wanted body has an exchange");
    let feed = exchange.feed.as_mut().expect("a wanted body has a feed");
    let continue_due = std::mem::take(&mut feed.continue_due);
    let (left, rate_min, inlet) = (feed.decoder.remaining_hint(), feed.rate_min, feed.inlet.share());
    // After the head of the answer it would be taken for its body.
    if continue_due && exchange.course.progress == Progress::Waiting {
        busy.output.push_back(Bytes::from_static(CONTINUE));
        table.enqueue(index);
    }
    if !table[index].flags.has(Flags::READABLE) {
        return expect_body(terms, table, index, rate_min);
    }
    // Never more than the body has left, so that what follows it stays in the kernel.
    let bytes_max = left.map_or(SET_ASIDE_BYTES_MAX, |left| left.min(BODY_BYTES_MAX as u64) as usize);
    match receive_once(&mut ports.driver, table, index, &mut area[..bytes_max]) {
        Arrival::Bytes(count) => hand_over(terms, ports, table, index, &area[..count]),
        Arrival::Nothing => expect_body(terms, table, index, rate_min),
        Arrival::End => {
            inlet.handle_failure(BodyError::Disconnected);
            if terms.settings.half_close && table.owes(index) {
                // The answer to an earlier request is on its way to a peer that still listens.
                end_exchange(table, index, BodyError::Disconnected);
                end_after_flush(terms, table, index, CloseReason::PeerClosed);
            } else {
                close(terms, ports, table, index, CloseReason::PeerClosed);
            }
        }
        Arrival::Failed => {
            inlet.handle_failure(BodyError::Disconnected);
            close(terms, ports, table, index, CloseReason::Reset);
        }
    }
}

/// The handler waits for bytes that are not there yet.
fn expect_body<S>(terms: &Terms, table: &mut Table<S>, index: u32, rate_min: u32) {
    table.activate(index).pace_mut().start(&terms.clock, rate_min);
    table.update_deadline(index);
}

/// Decodes bytes of a body and hands its data to the handler.
fn hand_over<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32, bytes: &[u8]) {
    let busy = table.activate(index);
    let feed = busy.exchange.as_mut().and_then(|exchange| exchange.feed.as_mut()).expect("a wanted body has a feed");
    let limits = Limits { body_bytes_max: feed.bytes_max, ..terms.settings.http };
    let decoded = decode_body(&mut feed.decoder, bytes, &limits);
    let (rate_min, inlet) = (feed.rate_min, feed.inlet.share());
    busy.pace_mut().handle_bytes(bytes.len(), &terms.clock, rate_min);
    match decoded {
        Ok(decoded) => {
            busy.set_aside_more(&bytes[decoded.consumed..]);
            if let Some(draft) = &mut busy.draft {
                draft.bytes_in += decoded.consumed as u64;
            }
            let hungry = decoded.data.is_empty() && decoded.complete.is_none();
            if !decoded.data.is_empty() {
                inlet.handle_chunk(decoded.data);
            }
            if let Some(trailers) = decoded.complete {
                busy.stop_pace();
                inlet.handle_complete(trailers);
            }
            if hungry || table[index].flags.has(Flags::HANGUP) {
                table.enqueue(index);
            }
            table.update_deadline(index);
        }
        Err(refusal) => refuse_body(terms, ports, table, index, refusal, bytes),
    }
}

/// The rest of a body is wrong, and its handler is at work: it hears of it, and the peer, if nothing was answered yet.
pub(super) fn refuse_body<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    refusal: Refusal,
    bytes: &[u8],
) {
    let failure = BodyError::Malformed(refusal.name());
    if end_exchange(table, index, failure) {
        note_refusal(terms, table, index, refusal, bytes);
        // Nothing that follows a broken rule is read for long.
        table[index].flags.clear(Flags::UPLOADING);
        cut_answer(terms, ports, table, index, CloseReason::Refused);
    } else {
        refuse(terms, table, index, refusal, bytes);
    }
}

/// Takes bytes of a body that nobody reads any more. Returns where the next request begins, once the body is over.
pub(super) fn discard_body<D: Driver>(
    terms: &Terms,
    driver: &mut D,
    table: &mut Table<D::Socket>,
    index: u32,
    bytes: &[u8],
) -> Option<usize> {
    let (slot, busy) = table.both(index);
    let State::Discard { left } = &mut slot.state else { unreachable!("the caller has looked") };
    let bearable = left.take(bytes.len());
    let unread = &mut busy.expect("a body is being discarded").unread;
    let decoder = unread.as_mut().expect("a body is being discarded");
    let mut position = 0;
    loop {
        match decoder.decode(&bytes[position..], &terms.settings.http) {
            Ok(step) => {
                position += step.consumed;
                match step.event {
                    BodyEvent::Data(_) => {}
                    BodyEvent::More if !bearable => {
                        linger_for_upload(terms, driver, table, index, CloseReason::BodyUnread);
                        return None;
                    }
                    BodyEvent::More => return None,
                    BodyEvent::Complete(_) => break,
                }
            }
            Err(refusal) => {
                // Its request was answered: a second answer would be taken for that to the next one.
                note_refusal(terms, table, index, refusal, &bytes[position..]);
                linger(terms, driver, table, index, CloseReason::Refused);
                return None;
            }
        }
    }
    *unread = None;
    enter(terms, table, index, State::Idle);
    Some(position)
}

/// Takes bytes of a peer that has had its last answer.
pub(super) fn discard<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    count: usize,
) {
    if let State::Linger { reason, left } = &mut table[index].state
        && !left.take(count)
    {
        let reason = *reason;
        close(terms, ports, table, index, reason);
    }
}
