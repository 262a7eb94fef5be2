//! Answers on their way out.
//!
//! What was encoded in a batch lies in the core's transmit area, one range for each connection, and leaves with one call to
//! the driver. What the kernel does not take is copied out of the area and kept by the connection, which then does nothing else
//! until it is gone.
//!
//! The invariant: after `transmit` the area is empty.

use std::io;

use baiwan_driver::{Driver, Transmit, Unwatched};
use bytes::Bytes;

use super::TRANSMIT_AREA_BYTES;
use super::close::{close, close_answered, end_record, finish_answer, flush, linger};
use super::ports::{Part, Ports};
use super::table::{Busy, Flags, Slot, State, Table};
use super::terms::Terms;
use crate::clock::Tick;
use crate::delivery::DOUBTED_BYTES;
use crate::status::CloseReason;

/// Sends early when the answers that wait are many or old.
pub(super) fn transmit_if_late<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>) {
    let outbox = &ports.outbox;
    if outbox.parts.is_empty() {
        return;
    }
    // Where records are made, the clock was just looked at.
    let now = || if terms.recorder().is_some() { terms.recent_time() } else { terms.precise_time() };
    if outbox.bytes.len() >= TRANSMIT_AREA_BYTES || outbox.is_late(now()) {
        transmit(terms, ports, table);
    }
}

/// Sends everything that waits.
pub(super) fn transmit<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>) {
    if ports.outbox.parts.is_empty() {
        ports.outbox.clear(terms.precise_time());
    } else {
        let mut sent = std::mem::take(&mut ports.outbox.sent);
        let mut parts = std::mem::take(&mut ports.outbox.parts);
        let entries = parts.iter().map(|part| {
            let (slot, busy) = (&table[part.index], table.busy(part.index));
            Transmit {
                socket: &slot.socket,
                token: table.token(part.index),
                front: &ports.outbox.bytes[part.start..part.end],
                queue: busy.map_or([&[], &[]], |busy| busy.output.as_slices()),
                cautious: is_doubtful(slot, busy),
            }
        });
        ports.driver.transmit(entries, &mut sent);
        // What ends with this in a record ended now.
        let now = terms.precise_time();
        for (part, outcome) in parts.drain(..).zip(sent.drain(..)) {
            handle_sent(terms, ports, table, part, outcome);
        }
        (ports.outbox.parts, ports.outbox.sent) = (parts, sent);
        ports.outbox.clear(now);
    }
}

fn handle_sent<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    part: Part,
    outcome: io::Result<usize>,
) {
    let Part { index, start, end } = part;
    let (count, blocked) = match outcome {
        Ok(count) => (count, false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, true),
        Err(error) => return handle_failure(terms, ports, table, index, error),
    };
    let (slot, busy) = table.both(index);
    slot.flags.clear(Flags::SENDING);
    // Bytes may have been taken although no event said that there is room: the last attempt of `try_once_more`.
    match blocked {
        true => slot.flags.set(Flags::BLOCKED),
        false => slot.flags.clear(Flags::BLOCKED),
    }
    let front = &ports.outbox.bytes[start..end];
    let owes = match busy {
        _ if count < front.len() => {
            let rest = Bytes::copy_from_slice(&front[count..]);
            let busy = table.activate(index);
            if let Some(exchange) = &mut busy.exchange {
                exchange.handle_kept(rest.len());
            }
            busy.output.push_front(rest);
            let (slot, busy) = table.both(index);
            note_taken::<D>(slot, busy, count);
            true
        }
        Some(busy) => {
            // Also where all of it was taken: what room the peer has made for that earns patience for what has to wait later.
            note_taken::<D>(slot, Some(&mut *busy), count);
            let from_queue = count - front.len();
            busy.output.take_sent(from_queue);
            if let Some(exchange) = &mut busy.exchange {
                exchange.handle_sent(from_queue);
            }
            let owes = !busy.output.is_empty();
            if !owes {
                busy.write_due = Tick::NEVER;
                busy.delivery.stop(&terms.clock, terms.settings.write_rate_min);
            }
            owes
        }
        None => {
            note_taken::<D>(slot, None, count);
            false
        }
    };
    if !owes {
        return handle_flushed(terms, ports, table, index);
    }
    if blocked {
        note_waiting::<D>(terms, table, index);
    }
    // That the kernel takes more is no sign that a peer reads which has not shown it: the look when its time is over says more.
    let is_judged_later = is_doubtful(&table[index], table.busy(index)) && terms.settings.write_rate_min > 0;
    let busy = table.activate(index);
    if (count > 0 && !is_judged_later) || busy.write_due == Tick::NEVER {
        busy.write_due = terms.deadline(terms.settings.write_timeout);
    }
    match table[index].state {
        State::Exchange => table.update_deadline(index),
        _ => flush(terms, table, index),
    }
    if !blocked {
        table.enqueue(index);
    }
}

/// Nothing more of an answer can be sent.
#[cold]
fn handle_failure<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    error: io::Error,
) {
    let reason = match error.downcast() {
        Ok(Unwatched(error)) => {
            ports.outbox.unwatched.push(error);
            table[index].flags.set(Flags::TORN);
            CloseReason::System
        }
        Err(_) => CloseReason::Reset,
    };
    close(terms, ports, table, index, reason);
}

/// Whether the peer has taken so little that it may not read. What it took of answers before counts too: all of that but what the kernel holds
/// for such a peer at the most has reached its system.
#[inline]
fn is_doubtful<S>(slot: &Slot<S>, busy: Option<&Busy>) -> bool {
    !slot.flags.has(Flags::READER)
        && slot.flags.taken() < DOUBTED_BYTES
        && busy.is_none_or(|busy| busy.delivery.is_doubtful())
}

/// The kernel has taken `count` bytes for the peer.
#[inline]
fn note_taken<D: Driver>(slot: &mut Slot<D::Socket>, busy: Option<&mut Busy>, count: usize) {
    let has_shown = busy.is_some_and(|busy| busy.delivery.handle_taken(count));
    if (slot.flags.add_taken(count) || has_shown) && !slot.flags.has(Flags::READER) {
        slot.flags.set(Flags::READER);
        D::hold_more(&slot.socket);
    }
}

/// Bytes wait for the peer, and the kernel takes no more.
fn note_waiting<D: Driver>(terms: &Terms, table: &mut Table<D::Socket>, index: u32) {
    let (slot, busy) = table.both(index);
    if let Some(busy) = busy {
        busy.delivery.start(&terms.clock, terms.settings.write_rate_min, || D::excess_bytes(&slot.socket));
    }
}

/// Everything that was owed is sent.
pub(super) fn handle_flushed<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32) {
    let (state, flags) = (table[index].state, table[index].flags);
    if let State::Flush { last } = state
        && let Some(busy) = table.busy_mut(index)
    {
        end_record(terms, busy, last);
    }
    match state {
        State::Exchange => table.update_deadline(index),
        State::Flush { last: Some(reason) } if flags.has(Flags::TORN) => close(terms, ports, table, index, reason),
        State::Flush { last: Some(reason) } if has_parted(flags) => {
            close_answered(terms, ports, table, index, reason);
        }
        State::Flush { last: Some(reason) } => linger(terms, &mut ports.driver, table, index, reason),
        State::Flush { last: None } => finish_answer(terms, table, index),
        State::Idle | State::Head | State::Discard { .. } | State::Linger { .. } => {}
    }
}

/// Whether the peer sends nothing any more that could destroy its last answer. One that has said `close` must not (RFC 9112, section 9.6).
fn has_parted(flags: Flags) -> bool {
    flags.has(Flags::PARTING) && !flags.has(Flags::READABLE)
}

#[cfg(test)]
mod tests {
    use baiwan_driver::Peer;

    use super::*;

    #[test]
    fn a_peer_is_believed_by_what_it_took_of_all_its_answers() {
        const ANSWER_BYTES: usize = 64 << 10;
        let mut slot = Slot::new((), Peer::Unix);
        let answers = (1..100).find(|_| {
            slot.flags.add_taken(ANSWER_BYTES);
            !is_doubtful(&slot, None)
        });
        assert_eq!(answers, Some(DOUBTED_BYTES as usize / ANSWER_BYTES));
    }
}
