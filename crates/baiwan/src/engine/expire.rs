//! Deadlines that have passed.
//!
//! What a core that was busy has not looked at yet may have come in time: so each deadline is acted on only after a last look.
//!
//! The invariant: what is late is late by what the peer did, not by what this core did.

use std::io;

use baiwan_driver::Driver;
use baiwan_limits::MemoryLevel;
use http::StatusCode;

use super::TURN_TIME_MAX;
use super::apps::Apps;
use super::close::{
    answer_and_close, close, cut_answer, end_exchange, linger, linger_for_upload, note_unread, turn_away,
};
use super::lifetime;
use super::ports::Ports;
use super::receive::{process, receive_alone};
use super::table::{Flags, State, Table};
use super::terms::Terms;
use super::transmit::transmit;
use super::upload::{handle_end_while_answering, visit_exchange};
use crate::BodyError;
use crate::app::App;
use crate::clock::Tick;
use crate::delivery::Look;
use crate::gate::Denial;
use crate::status::CloseReason;

/// Deadlines looked at in one turn.
const TURN_EXPIRIES_MAX: usize = 4096;
/// What every head ends with.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// After this number of them the clock is looked at: what handlers do when they are dropped takes time, and a turn that lasts too long ends.
const LOOK_EXPIRIES: usize = 64;

/// Acts on the deadlines that have passed. `expired` is empty between its uses, and kept for its capacity.
pub(super) fn expire<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    expired: &mut Vec<u32>,
    area: &mut [u8],
) {
    let now = terms.clock.tick();
    for _ in 0..TURN_EXPIRIES_MAX / LOOK_EXPIRIES {
        table.expire(now, LOOK_EXPIRIES, expired);
        for index in expired.drain(..) {
            handle_deadline(terms, ports, table, apps, index, area);
        }
        let is_done = table.next_due().is_none_or(|due| due > now);
        if is_done || terms.precise_time().duration_since(terms.clock.now()) > TURN_TIME_MAX {
            return;
        }
    }
}

fn handle_deadline<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    area: &mut [u8],
) {
    let slot = &table[index];
    match slot.state {
        State::Idle | State::Head if waits_for_its_turn(table, index) => put_off(terms, table, index),
        State::Idle | State::Head if slot.flags.has(Flags::PROBE) => {
            if !goes_on(terms, ports, table, apps, index, area) {
                turn_away(terms, ports, table, index, Denial::TOO_MANY_CONNECTIONS);
            }
        }
        State::Idle => close_if_silent(terms, ports, table, apps, index, area),
        State::Head => {
            if !goes_on(terms, ports, table, apps, index, area) {
                give_up_head(terms, table, index);
            }
        }
        State::Exchange => handle_exchange_deadline(terms, ports, table, index, area),
        State::Flush { .. } => try_once_more(terms, ports, table, index),
        State::Discard { .. } => {
            if !goes_on(terms, ports, table, apps, index, area) {
                linger_for_upload(terms, &mut ports.driver, table, index, CloseReason::BodyUnread);
            }
        }
        State::Linger { reason, .. } => close(terms, ports, table, index, reason),
    }
}

fn handle_exchange_deadline<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    area: &mut [u8],
) {
    let now = terms.clock.tick();
    let busy = table.activate(index);
    let (status, reason, failure) = if busy.write_due <= now || busy.delivery.due() <= now {
        return try_once_more(terms, ports, table, index);
    } else if busy.pace_due() <= now {
        if !busy.exchange.as_ref().is_some_and(|exchange| exchange.awaits_body()) {
            // The handler has dropped the body, so nobody waits for it any more.
            busy.stop_pace();
            return table.update_deadline(index);
        }
        let Some(reason) = why_body_is_late(terms, ports, table, index, area) else { return };
        (StatusCode::REQUEST_TIMEOUT, reason, BodyError::TimedOut)
    } else if busy.request_due > now {
        debug_assert!(busy.age_due <= now, "one of the four has passed");
        if !lifetime::tell_or_give_up(terms, table, index) {
            return;
        }
        (StatusCode::SERVICE_UNAVAILABLE, CloseReason::AgeTimeout, BodyError::Over)
    } else if busy.exchange.as_ref().is_some_and(|exchange| exchange.is_woken() && !exchange.course.was_polled_late) {
        // It may be ready, and is polled in its order before anything is decided.
        return table.set_deadline(index, Tick(now.0 + 1));
    } else if busy.exchange.as_ref().is_some_and(|exchange| exchange.course.progress.head_sent()) {
        if !busy.output.is_empty() {
            // It is the peer that takes its time, which the write timeout judges.
            busy.request_due = Tick::NEVER;
            return handle_end_while_answering(terms, ports, table, index);
        }
        // The peer has ended its direction, and nothing more comes of its answer.
        (StatusCode::SERVICE_UNAVAILABLE, CloseReason::PeerClosed, BodyError::Disconnected)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, CloseReason::RequestTimeout, BodyError::Over)
    };
    match end_exchange(table, index, failure) {
        true => cut_answer(terms, ports, table, index, reason),
        false => answer_and_close(terms, table, index, status, reason.name(), reason),
    }
}

/// Receives what may have come while the core could not look. Returns whether the connection goes on with that, or is gone: if not, what it
/// has to send is late.
fn goes_on<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    area: &mut [u8],
) -> bool {
    receive_alone(terms, ports, table, apps, index, area);
    transmit(terms, ports, table);
    let now = terms.clock.tick();
    let Some(slot) = table.get(index) else { return true };
    let goes_on = !slot.state.receives() || slot.deadline > now;
    if !goes_on && waits_for_its_turn(table, index) {
        put_off(terms, table, index);
        return true;
    }
    goes_on
}

/// Whether requests that are there as a whole wait for their turn. Who sends a head byte by byte gets no more time on a busy core.
fn waits_for_its_turn<S>(table: &Table<S>, index: u32) -> bool {
    let waits = table[index].flags.has(Flags::INPUT);
    let holds_head = || {
        let set_aside = table.busy(index).map_or(&[][..], |busy| busy.set_aside_bytes());
        set_aside.windows(HEAD_END.len()).any(|bytes| bytes == HEAD_END)
    };
    waits && (table[index].state != State::Head || holds_head())
}

/// Has the requests of a connection served before anything is decided.
fn put_off<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    table.set_deadline(index, Tick(terms.clock.tick().0 + 1));
    table.enqueue(index);
}

fn give_up_head<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    let (status, reason) = match terms.board.is_stopping() {
        true => (StatusCode::SERVICE_UNAVAILABLE, CloseReason::Drained),
        false => (StatusCode::REQUEST_TIMEOUT, CloseReason::HeaderTimeout),
    };
    note_unread(table, index);
    answer_and_close(terms, table, index, status, reason.name(), reason);
}

/// A body may have come that a busy core has not received yet: whether it has shows in a last attempt. If it has not: which
/// of the two limits it has broken.
fn why_body_is_late<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    area: &mut [u8],
) -> Option<CloseReason> {
    table[index].flags.set(Flags::READABLE);
    visit_exchange(terms, ports, table, index, area);
    let now = terms.clock.tick();
    let busy = table.busy(index)?;
    match busy.exchange.is_some() && busy.pace_due() <= now {
        false => None,
        true if busy.body_ends <= now => Some(CloseReason::BodyTimeout),
        true => Some(CloseReason::BodyTooSlow),
    }
}

/// The kernel says that there is room only when there is much. A peer that reads slowly but steadily has made some: whether it has shows
/// in a last attempt, and in what the kernel still holds beyond the peer's window.
fn try_once_more<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32) {
    ports.outbox.add_queue(table, index);
    transmit(terms, ports, table);
    if !table.owes(index) {
        return;
    }
    let (now, rate) = (terms.clock.tick(), terms.settings.write_rate_min);
    let (slot, Some(busy)) = table.both(index) else { return };
    let look = match rate {
        0 => Look { progress: false, too_slow: false },
        _ => busy.delivery.look(&terms.clock, rate, D::excess_bytes(&slot.socket)),
    };
    if busy.write_due <= now && !look.progress {
        return close(terms, ports, table, index, CloseReason::WriteTimeout);
    } else if look.too_slow {
        return close(terms, ports, table, index, CloseReason::WriteTooSlow);
    } else if busy.write_due <= now {
        busy.write_due = terms.deadline(terms.settings.write_timeout);
    }
    table.update_deadline(index);
}

/// Closes an idle connection, unless a request has come at the last moment, or while the core could not look.
fn close_if_silent<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    area: &mut [u8],
) {
    let reason = match terms.board.is_stopping() {
        true => CloseReason::Drained,
        false if lifetime::is_over(terms, table, index) => CloseReason::Age,
        false if terms.board.memory_pressure().level > MemoryLevel::Enough => CloseReason::MemoryPressure,
        false => CloseReason::KeepAliveTimeout,
    };
    // Empty lines may have come before.
    let waiting = table.busy(index).map_or(0, |busy| busy.set_aside_bytes().len());
    let bytes_max = terms.set_aside_bytes_max() - waiting;
    let outcome = ports.driver.receive_into(&table[index].socket, &mut area[..bytes_max]);
    let is_there = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    let Some(count) = outcome.ok().filter(|count| *count > 0) else {
        return end_silent(terms, ports, table, index, reason, is_there);
    };
    terms.note_arrival();
    process(terms, ports, table, apps, index, &area[..count]);
    transmit(terms, ports, table);
    let now = terms.clock.tick();
    // What has come begins no request.
    if table.get(index).is_some_and(|slot| slot.is_quiet() && slot.deadline <= now) {
        end_silent(terms, ports, table, index, reason, true);
    }
}

/// Ends an idle connection whose peer may still be there. One that is merely old has a peer that may be about to ask: it sees the end of our
/// direction before anything else, and not that its request was answered with a reset.
fn end_silent<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
    is_there: bool,
) {
    match is_there && reason == CloseReason::Age {
        true => linger(terms, &mut ports.driver, table, index, reason),
        false => close(terms, ports, table, index, reason),
    }
}
