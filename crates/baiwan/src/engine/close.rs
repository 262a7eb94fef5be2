//! What follows an answer: the rest of its body, the next request, or the end of the connection.
//!
//! A connection that ends does so in stages (RFC 9112, section 9.6): the last answer is sent, our direction is ended, what still comes in
//! is discarded, so that the peer can read the answer. One whose peer has said `close`, and so sends no more, needs no stages.
//!
//! The invariant: `close` is the only place where a connection ends, and it counts exactly one reason.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use baiwan_driver::{Close, Driver, Transmit};
use baiwan_http1::{ResponseContext, encode_short_answer};
use bytes::Bytes;
use http::{StatusCode, Version};
use tokio::time::Instant;

use super::answer::Extent;
use super::exchange::{Pending, Progress};
use super::feed::Feed;
use super::lifetime::idle_deadline;
use super::ports::Ports;
use super::table::{Busy, CompactPeer, Flags, Left, State, Table};
use super::terms::Terms;
use crate::BodyError;
use crate::body::Inlet;
use crate::clock::Tick;
use crate::gate::{Denial, Entry, PROBE_TIMEOUT, leave};
use crate::own_answer::{Asked, OwnAnswer};
use crate::recorder::Draft;
use crate::settings::Linger;
use crate::status::{CloseReason, add};

/// How long a handler may go on that has heard that its request's body will not come, and the pauses between two looks at it, at first and
/// at last.
const UNDO_TIME_MAX: Duration = Duration::from_secs(5);
const UNDO_LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// Puts a connection into a state, for as long as that may last. One that waits for its next request holds what is set aside, and
/// nothing else.
#[inline]
pub(super) fn enter<S>(terms: &Terms, table: &mut Table<S>, index: u32, state: State) {
    let (slot, busy) = table.both(index);
    let flags = slot.flags;
    let is_probe = flags.has(Flags::PROBE);
    let timeout = match state {
        State::Head if is_probe => {
            let deadline = slot.deadline;
            return table.enter(index, state, deadline);
        }
        State::Exchange | State::Flush { .. } => {
            let due = busy.map_or(Tick::NEVER, |busy| busy.due());
            return table.enter(index, state, due);
        }
        State::Idle => {
            if busy.is_some_and(|busy| busy.set_aside.is_none()) {
                table.deactivate(index);
            }
            match is_probe {
                true => Some(PROBE_TIMEOUT),
                false => {
                    let deadline = idle_deadline(terms, table, index, terms.idle_due);
                    return table.enter(index, state, deadline);
                }
            }
        }
        State::Head => terms.unless_stopping(terms.settings.header_timeout),
        State::Discard { .. } => Some(Linger::SHORT.timeout),
        State::Linger { .. } if flags.has(Flags::UPLOADING) => Some(Linger::UPLOAD.timeout),
        State::Linger { .. } => Some(Linger::SHORT.timeout),
    };
    table.enter(index, state, terms.deadline(timeout));
}

/// Goes on when everything is sent: as it was decided, if it was.
pub(super) fn flush<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    let last = match table[index].state {
        State::Flush { last } => last,
        _ => None,
    };
    flush_and(terms, table, index, last);
}

/// Nothing follows what is owed now.
pub(super) fn end_after_flush<S>(terms: &Terms, table: &mut Table<S>, index: u32, reason: CloseReason) {
    table[index].flags.clear(Flags::INPUT);
    flush_and(terms, table, index, Some(reason));
}

fn flush_and<S>(terms: &Terms, table: &mut Table<S>, index: u32, last: Option<CloseReason>) {
    let busy = table.activate(index);
    if busy.write_due == Tick::NEVER {
        busy.write_due = terms.deadline(terms.settings.write_timeout);
    }
    enter(terms, table, index, State::Flush { last });
    table.enqueue(index);
}

/// Everything is answered and sent: on to what waits, or to the next request.
pub(super) fn finish_answer<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    let (slot, busy) = table.both(index);
    let next = match busy {
        Some(busy) if busy.unread.is_some() => State::Discard { left: Left::new(Linger::SHORT.bytes_max) },
        Some(busy) => {
            if busy.set_aside.is_some() {
                slot.flags.set(Flags::INPUT);
            }
            State::Idle
        }
        None => State::Idle,
    };
    enter(terms, table, index, next);
    if table[index].has_request() {
        table.enqueue(index);
    }
}

/// Sends an answer of the server's own; then the connection lingers and closes.
pub(super) fn answer_and_close<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    status: StatusCode,
    text: &str,
    reason: CloseReason,
) {
    let head_request = table[index].flags.has(Flags::HEAD_REQUEST);
    let context = ResponseContext { head_request, version: Version::HTTP_11, keep_alive: false, may_switch: false };
    let client = table[index].peer.expand();
    let busy = table.activate(index);
    let mut bytes = Vec::new();
    OwnAnswer::new(status, text).write(&terms.settings, busy.asked(), |answer| {
        encode_short_answer(&mut bytes, answer, context, terms.clock.date());
    });
    (busy.set_aside, busy.unread) = (None, None);
    if terms.recorder().is_some() {
        let now = terms.recent_time().into_std();
        let draft = busy.draft.get_or_insert_with(|| Box::new(Draft::begin(None, client, now)));
        draft.handle_head(status, now);
        draft.bytes_out = bytes.len() as u64;
    }
    busy.output.push_back(Bytes::from(bytes));
    end_after_flush(terms, table, index, reason);
}

/// The next answer of the server's own is to a request whose head was not read as a whole.
pub(super) fn note_unread<S>(table: &mut Table<S>, index: u32) {
    *table.activate(index).asked_mut() = Asked::UNREAD;
}

/// The answer of the server's own that was just made is there because of what has this name: the record says so.
pub(super) fn note_denied<S>(table: &mut Table<S>, index: u32, name: &'static str) {
    if let Some(draft) = table.busy_mut(index).and_then(|busy| busy.draft.as_mut()) {
        draft.handle_denied(name);
    }
}

/// The app has no answer: ours instead, and the end.
pub(super) fn fail<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    let (status, text) = (StatusCode::INTERNAL_SERVER_ERROR, "the-request-could-not-be-handled");
    answer_and_close(terms, table, index, status, text, CloseReason::HandlerFailed);
}

/// As [`fail`], because the app panicked.
pub(super) fn fail_with_panic<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    add(&terms.status().handler_panics, 1);
    fail(terms, table, index);
}

/// Answers a peer that may not stay and whose head was not read. Whatever the load, this allocates nothing but for a HEAD, and where pages
/// of other sites may read the answer.
pub(super) fn turn_away<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    denial: Denial,
) {
    assert!(!denial.stays, "whoever may stay is not turned away");
    let slot = &table[index];
    if slot.flags.has(Flags::HEAD_REQUEST) {
        note_unread(table, index);
        answer_and_close(terms, table, index, denial.status, denial.text, denial.reason);
        return note_denied(table, index, denial.text);
    }
    let token = table.token(index);
    let front = denial.answer_unread(&terms.settings.refusal_cors);
    let answer = Transmit { socket: &slot.socket, token, front: &front, queue: [&[], &[]], cautious: false };
    let sent = &mut ports.outbox.sent;
    ports.driver.transmit(std::iter::once(answer), sent);
    let sent = sent.pop().and_then(Result::ok);
    if let Some(recorder) = terms.recorder() {
        let now = terms.recent_time().into_std();
        let mut draft = Draft::begin(None, slot.peer.expand(), now);
        draft.handle_denied(denial.text);
        draft.handle_head(denial.status, now);
        draft.bytes_out = sent.unwrap_or(0) as u64;
        draft.finish(recorder, Some(denial.reason), now);
    }
    // A connection that has just begun has room for so little, or is dead.
    match sent {
        Some(count) if count == front.len() => {
            linger(terms, &mut ports.driver, table, index, denial.reason);
        }
        _ => close(terms, ports, table, index, denial.reason),
    }
}

/// As [`linger`], for a peer that is still sending a well-framed body.
pub(super) fn linger_for_upload<D: Driver>(
    terms: &Terms,
    driver: &mut D,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
) {
    table[index].flags.set(Flags::UPLOADING);
    linger(terms, driver, table, index, reason);
}

/// Ends our direction, and discards what still comes in, so that the peer can read the last answer: closing with
/// bytes unread would reset the connection and could destroy it (RFC 9112, section 9.6).
pub(super) fn linger<D: Driver>(
    terms: &Terms,
    driver: &mut D,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
) {
    table.deactivate(index);
    let slot = &mut table[index];
    let bounds = if slot.flags.has(Flags::UPLOADING) { Linger::UPLOAD } else { Linger::SHORT };
    slot.flags.clear(Flags::INPUT);
    driver.shutdown_write(&slot.socket);
    enter(terms, table, index, State::Linger { reason, left: Left::new(bounds.bytes_max) });
    table.enqueue(index);
}

/// Ends a connection.
pub(super) fn close<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
) {
    close_as(terms, ports, table, index, reason, false);
}

/// Ends a connection that has had its last answer and whose peer sends nothing any more. What the kernel still has of that answer arrives,
/// whatever the reason is.
pub(super) fn close_answered<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
) {
    close_as(terms, ports, table, index, reason, true);
}

fn close_as<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
    is_answered: bool,
) {
    let told = !matches!(reason, CloseReason::DrainTimeout | CloseReason::CoreFailed);
    // What it holds is dropped last: that may panic, being the app's, and whoever sees it gone finds its connection counted.
    let ended = end_exchange_by(
        table,
        index,
        BodyError::Disconnected,
        if told { end_told } else { |exchange, _| drop(exchange) },
    );
    ports.outbox.forget(index);
    let (slot, mut busy) = table.remove(index);
    let cut = slot.flags.has(Flags::TORN)
        || matches!(
            reason,
            CloseReason::Reset
                | CloseReason::WriteTimeout
                | CloseReason::ClientOverLimit
                | CloseReason::WriteTooSlow
                | CloseReason::HandlerFailed
                | CloseReason::DrainTimeout
                | CloseReason::CoreFailed
        );
    let arrives = is_answered || matches!(slot.state, State::Linger { .. });
    let how = if cut && !arrives { Close::Reset } else { Close::Orderly };
    ports.driver.close(slot.socket, how);
    count_out(terms, slot.flags, slot.peer, reason);
    if let Some(busy) = &mut busy {
        end_record(terms, busy, Some(reason));
    }
    drop(ended);
}

/// What the gate counted a connection in as that it has taken.
pub(super) fn taken_as(terms: &Terms, flags: Flags, peer: CompactPeer) -> Entry {
    let clients = flags.has(Flags::CLIENT).then_some(&terms.board.server.bounds.clients);
    Entry::Taken(clients.and_then(|clients| clients.key(peer.peer())))
}

/// A connection is gone from this core.
pub(super) fn count_out(terms: &Terms, flags: Flags, peer: CompactPeer, reason: CloseReason) {
    let (server, core) = (&terms.board.server, terms.board.index);
    if !flags.has(Flags::UNCOUNTED) {
        leave(server, core, taken_as(terms, flags, peer));
    } else if flags.has(Flags::PROBE) {
        leave(server, core, Entry::Probe);
    }
    terms.status().count_close(reason);
}

/// Ends all connections.
pub(super) fn close_all<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    reason: CloseReason,
) {
    for index in 0..table.end() {
        if table.get(index).is_some() {
            close(terms, ports, table, index, reason);
        }
    }
}

/// Ends an exchange before its time, if there is one. Returns whether the head of its answer is on its way or gone. Where somebody may
/// still read the request's body, `failure` is heard before the handler is dropped, and it has a while to undo what it has begun.
pub(super) fn end_exchange<S>(table: &mut Table<S>, index: u32, failure: BodyError) -> bool {
    end_exchange_by(table, index, failure, end_told).is_some_and(|ended| ended.progress.head_sent())
}

/// An exchange that has ended before its time.
struct Ended {
    progress: Progress,
    /// What is left of it, to be dropped.
    _exchange: Option<Pending>,
}

/// As [`end_exchange`], with what becomes of a handler that may hear of the failure. Any other is dropped with what is returned.
fn end_exchange_by<S>(
    table: &mut Table<S>,
    index: u32,
    failure: BodyError,
    end_handler: fn(Pending, Arc<Inlet>),
) -> Option<Ended> {
    let mut exchange = take_exchange(table.busy_mut(index)?)?;
    let progress = exchange.course.progress;
    if progress.begun() == Some(Extent::UntilClose) {
        table[index].flags.set(Flags::TORN);
    }
    let Some(feed) = exchange.feed.take() else { return Some(Ended { progress, _exchange: Some(exchange) }) };
    note_upload(table, index, Some(&feed));
    feed.inlet.handle_failure(failure);
    if !feed.inlet.is_held() {
        return Some(Ended { progress, _exchange: Some(exchange) });
    }
    end_handler(exchange, feed.inlet.share());
    Some(Ended { progress, _exchange: None })
}

/// Ends a handler that may hear that its body will not come. One that hears of it when it is polled next has a while to undo what it has
/// begun, such as a file; nothing of its answer is sent.
fn end_told(mut exchange: Pending, inlet: Arc<Inlet>) {
    tokio::task::spawn_local(async move {
        let ends = Instant::now() + UNDO_TIME_MAX;
        let [mut pause, pause_max] = UNDO_LOOKS;
        let mut is_over = poll_fn(|cx| Poll::Ready(exchange.poll_unsent(cx).is_ready())).await;
        while !is_over && inlet.has_told_failure() && Instant::now() < ends {
            is_over = tokio::time::timeout(pause, poll_fn(|cx| exchange.poll_unsent(cx))).await.is_ok();
            pause = (pause * 2).min(pause_max);
        }
    });
}

/// Ends a connection in the middle of an answer, whose exchange has ended: after what is owed, because among that may be the
/// answer to an earlier request.
pub(super) fn cut_answer<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    reason: CloseReason,
) {
    // Without a limit nothing would end it if its peer did not read.
    let is_limited = terms.settings.write_timeout.is_some() || terms.settings.write_rate_min > 0;
    match table.owes(index) && is_limited {
        true => end_after_flush(terms, table, index, reason),
        false => close(terms, ports, table, index, reason),
    }
}

/// Takes the exchange of a connection out, and notes what was sent of its answer.
pub(super) fn take_exchange(busy: &mut Busy) -> Option<Pending> {
    let exchange = busy.exchange.take()?;
    (busy.request_due, busy.age_due) = (Tick::NEVER, Tick::NEVER);
    busy.stop_pace();
    if let Some(draft) = &mut busy.draft {
        exchange.note_in(draft);
    }
    Some(exchange)
}

/// The answer of a connection is sent, or will not be: its record is complete. `last` is why the connection ends, if it does.
pub(super) fn end_record(terms: &Terms, busy: &mut Busy, last: Option<CloseReason>) {
    let (Some(mut draft), Some(recorder)) = (busy.draft.take(), terms.recorder()) else { return };
    draft.bytes_out = draft.bytes_out.saturating_sub(busy.output.byte_count() as u64);
    draft.finish(recorder, last, terms.recent_time().into_std());
}

/// Notes whether the peer is in the middle of a body that nobody will read: then its last answer is to be read all the same.
pub(super) fn note_upload<S>(table: &mut Table<S>, index: u32, feed: Option<&Feed>) {
    if feed.is_some_and(|feed| !feed.decoder.is_complete()) {
        table[index].flags.set(Flags::UPLOADING);
    }
}
