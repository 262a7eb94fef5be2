//! Ready connections: what arrives becomes heads and bodies.
//!
//! Connections that expect a new request are received from in batches, into the core's one area; bytes are copied out of it
//! only if they must wait. A body is received when its handler asks for it, and only then.
//!
//! The invariant: while an exchange lasts, nothing but its body is received, and at most
//! `Terms::set_aside_bytes_max` bytes wait.

use baiwan_driver::{self as driver, Driver};
use baiwan_http1::{BodyFraming, HeadDecoder, RequestHead, begins_request, is_head_request};
use baiwan_limits::MemoryLevel;
use http::header::CONNECTION;
use http::{HeaderMap, Method, Request, Version};

use super::admit::admit;
use super::apps::Apps;
use super::arrival::{Arrival, receive_once};
use super::close::{answer_and_close, close, enter, fail_with_panic, flush, note_denied, note_unread};
use super::deny::deny;
use super::exchange::OUTPUT_BYTES_MAX;
use super::lifetime::take_request;
use super::ports::{Outbox, Ports};
use super::proxied::{Begun, begin_proxied};
use super::refuse::refuse;
use super::respond::{DecodedHead, Received, Step, begin_exchange, begin_record, keep_record};
use super::set_aside::{append, set_aside};
use super::table::{Flags, State, Table};
use super::terms::Terms;
use super::transmit::{handle_flushed, transmit, transmit_if_late};
use super::upgrade::{give_to_hyper, may_switch};
use super::upload::{discard, discard_body, visit_exchange};
use super::{BATCH_MAX, RECEIVE_BYTES_MAX, TURN_CONNECTIONS_MAX, TURN_TIME_MAX, has_budget};
use crate::app::App;
use crate::client::request_id;
use crate::gate::Denial;
use crate::rate_limit::Left;
use crate::request_id::RequestId;
use crate::status::{CloseReason, add};

/// Requests that are answered at once on one connection in one turn.
const INLINE_ANSWERS_MAX: usize = 16;

/// The connections that are received from together; empty between its uses, kept for its capacity.
#[derive(Debug, Default)]
pub(super) struct Batch {
    indexes: Vec<u32>,
    received: Vec<driver::Received>,
}

/// What the requests of a connection wait for when processing ends.
enum Wait {
    /// The next request.
    Request,
    /// The rest of a head.
    Head,
    /// The next turn.
    Turn,
    /// The exchange that was begun.
    Exchange,
    /// hyper, which gets the connection with the rest of the bytes, and what is left of its client's limit.
    Hyper(Option<Left>),
    /// The connection takes no more requests, or is closed.
    Nothing,
}

/// Serves ready connections, batch by batch, up to the turn's maximum.
pub(super) fn serve_ready<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    batch: &mut Batch,
    area: &mut [u8],
) {
    let mut left = table.queued().min(TURN_CONNECTIONS_MAX);
    while left > 0 {
        let visits = left.min(BATCH_MAX);
        left -= visits;
        for _ in 0..visits {
            // Whoever was queued may be gone since.
            if let Some(index) = table.next_queued()
                && visit(terms, ports, table, apps, index, area)
            {
                batch.indexes.push(index);
            }
        }
        receive_batch(terms, ports, table, apps, batch, area);
        transmit(terms, ports, table);
        if !has_budget() || terms.precise_time().duration_since(terms.clock.now()) > TURN_TIME_MAX {
            return;
        }
    }
}

/// Serves one connection by itself.
pub(super) fn serve_one<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    batch: &mut Batch,
    area: &mut [u8],
    index: u32,
) {
    if visit(terms, ports, table, apps, index, area) {
        batch.indexes.push(index);
        receive_batch(terms, ports, table, apps, batch, area);
    }
}

/// Does what one ready connection needs. Returns whether that is to be received from with the batch.
#[inline(always)]
fn visit<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    area: &mut [u8],
) -> bool {
    let (slot, busy) = table.both(index);
    let (state, flags) = (slot.state, slot.flags);
    let (mut owes, mut holds_input) = (false, false);
    if let Some(busy) = busy {
        (owes, holds_input) = (!busy.output.is_empty(), busy.set_aside.is_some());
    }
    if owes && !flags.has(Flags::BLOCKED) {
        ports.outbox.add_queue(table, index);
    }
    match state {
        State::Exchange => visit_exchange(terms, ports, table, index, area),
        // Nothing new before all is sent that is owed.
        _ if owes => {}
        State::Flush { .. } => handle_flushed(terms, ports, table, index),
        _ if flags.has(Flags::INPUT) => {
            terms.note_earlier_arrival(table.busy(index).and_then(|busy| busy.set_aside.as_ref()?.arrived));
            process(terms, ports, table, apps, index, &[]);
            enqueue_if_readable(table, index);
            transmit_if_late(terms, ports, table);
        }
        _ if flags.has(Flags::READABLE) && state.receives() => {
            if !holds_input {
                return true;
            }
            receive_alone(terms, ports, table, apps, index, area);
        }
        _ => {}
    }
    false
}

/// Receives from the connections of the batch and processes what each has sent.
fn receive_batch<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    batch: &mut Batch,
    area: &mut [u8],
) {
    let Batch { indexes, received } = batch;
    let sockets = indexes.iter().map(|index| &table[*index].socket);
    ports.driver.receive(sockets, RECEIVE_BYTES_MAX, area, received);
    terms.note_arrival();
    debug_assert_eq!(received.len(), indexes.len(), "the area has room for a whole batch");
    for (index, driver::Received { start, outcome }) in indexes.drain(..).zip(received.drain(..)) {
        let arrival = Arrival::note(&mut table[index], outcome, RECEIVE_BYTES_MAX);
        handle_arrival(terms, ports, table, apps, index, arrival, &area[start..]);
        transmit_if_late(terms, ports, table);
    }
}

/// Acts on what a receive brought, outside of an exchange; `area` begins with its bytes.
fn handle_arrival<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    arrival: Arrival,
    area: &[u8],
) {
    match arrival {
        Arrival::Bytes(count) => handle_bytes(terms, ports, table, apps, index, &area[..count]),
        Arrival::End => handle_end(terms, ports, table, index),
        Arrival::Failed => close(terms, ports, table, index, CloseReason::Reset),
        Arrival::Nothing => {}
    }
}

/// The peer has ended its direction, and everything before that was processed.
fn handle_end<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32) {
    let reason = match table[index].state {
        State::Linger { reason, .. } => reason,
        State::Discard { .. } => CloseReason::BodyUnread,
        State::Idle | State::Head | State::Exchange | State::Flush { .. } => CloseReason::PeerClosed,
    };
    close(terms, ports, table, index, reason);
}

fn handle_bytes<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    bytes: &[u8],
) {
    match table[index].state {
        State::Idle | State::Head => process(terms, ports, table, apps, index, bytes),
        State::Discard { .. } => {
            if let Some(next) = discard_body(terms, &mut ports.driver, table, index, bytes) {
                process(terms, ports, table, apps, index, &bytes[next..]);
            }
        }
        State::Linger { .. } => discard(terms, ports, table, index, bytes.len()),
        state @ (State::Exchange | State::Flush { .. }) => unreachable!("nothing is received in {state:?}"),
    }
    enqueue_if_readable(table, index);
}

fn enqueue_if_readable<S>(table: &mut Table<S>, index: u32) {
    if let Some(slot) = table.get(index)
        && slot.flags.has(Flags::READABLE)
        && slot.state.receives()
    {
        table.enqueue(index);
    }
}

/// Receives from one connection by itself, outside of an exchange, and processes what it has sent.
pub(super) fn receive_alone<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    area: &mut [u8],
) {
    let waiting = table.busy(index).map_or(0, |busy| busy.set_aside_bytes().len());
    // A head that fills this was refused before.
    let bytes_max = terms.set_aside_bytes_max() - waiting;
    debug_assert!(bytes_max > 0);
    let arrival = receive_once(&mut ports.driver, table, index, &mut area[..bytes_max]);
    terms.note_arrival();
    handle_arrival(terms, ports, table, apps, index, arrival, area);
}

/// Answers the requests in what was set aside and `bytes`, in order, until one has to wait or the bytes are used up.
pub(super) fn process<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    bytes: &[u8],
) {
    if table[index].flags.has(Flags::SENDING) {
        // What the connection has in this batch must leave before there is more.
        transmit(terms, ports, table);
        if table.get(index).is_none() {
            return;
        }
    }
    let (slot, busy) = table.both(index);
    slot.flags.clear(Flags::INPUT);
    let (was, is_proxied) = (slot.state, slot.flags.has(Flags::PROXIED));
    let (mut kept, mut decoder) = match busy.and_then(|busy| busy.set_aside.take()) {
        Some(set_aside) => (set_aside.bytes, set_aside.head),
        None => (Vec::new(), Default::default()),
    };
    if !kept.is_empty() {
        append(&mut kept, bytes, terms.set_aside_bytes_max());
    }
    let begin = ports.outbox.bytes.len();
    let input = if kept.is_empty() { bytes } else { &kept[..] };
    let (wait, position) = match begin_proxied(terms, ports, table, index, is_proxied, input) {
        Begun::After(first) => {
            let (wait, position) = answer(terms, ports, table, apps, index, &input[first..], &mut decoder);
            (wait, first + position)
        }
        Begun::Partial => (Wait::Head, 0),
        Begun::Refused => (Wait::Nothing, 0),
    };
    ports.outbox.add_area(table, index, begin);
    match wait {
        Wait::Nothing => return,
        Wait::Hyper(left) => return give_to_hyper(terms, ports, table, apps, index, &input[position..], left),
        Wait::Request | Wait::Head | Wait::Turn | Wait::Exchange => {}
    }
    set_aside(terms, table, index, kept, bytes, position, decoder);
    match wait {
        Wait::Nothing | Wait::Hyper(_) | Wait::Exchange => {}
        // An answer that is sent from where it is comes first; what was set aside is looked at when it is out.
        _ if table.owes(index) => flush(terms, table, index),
        Wait::Request => enter(terms, table, index, State::Idle),
        Wait::Head => {
            // Empty lines are no request: what was waited for is waited for as before. A PROXY header may begin with them.
            let (slot, busy) = table.both(index);
            let has_begun_header = slot.flags.has(Flags::PROXIED) && busy.is_some_and(|busy| busy.set_aside.is_some());
            let has_begun = has_begun_header || table.holds_request(index);
            let next = if has_begun { State::Head } else { State::Idle };
            if was != next || position > 0 {
                enter(terms, table, index, next);
            }
        }
        Wait::Turn => {
            table[index].flags.set(Flags::INPUT);
            if terms.recorder().is_some()
                && let Some(set_aside) = table.busy_mut(index).and_then(|busy| busy.set_aside.as_mut())
            {
                set_aside.arrived = Some(terms.arrival());
            }
            // A head that has begun keeps its deadline, however busy the core is.
            if was != State::Head || position > 0 {
                enter(terms, table, index, State::Idle);
            }
            table.enqueue(index);
        }
    }
}

/// Answers what `input` holds. Returns what comes next, and how many bytes of the input are done with.
fn answer<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    input: &[u8],
    decoder: &mut HeadDecoder,
) -> (Wait, usize) {
    let (begin, mut position, mut answers) = (ports.outbox.bytes.len(), 0, 0);
    loop {
        let rest = &input[position..];
        if rest.is_empty() {
            return (Wait::Request, position);
        }
        let (slot, busy) = table.both(index);
        slot.flags.clear(Flags::HEAD_REQUEST);
        let (flags, is_probe) = (slot.flags, slot.flags.has(Flags::PROBE));
        let owes = busy.is_some_and(|busy| {
            busy.asked = None;
            !busy.output.is_empty()
        });
        if owes || !may_answer_another(terms, &ports.outbox, begin, answers) {
            return (Wait::Turn, position);
        }
        let mut decoded = decoder.decode_into(rest, &terms.settings.http, &mut apps.reused.spare.headers);
        if is_head(&decoded, rest) {
            // What the server says by itself, now or when the rest is late, has no body then.
            slot.flags.set(Flags::HEAD_REQUEST);
        }
        // It stays where it is until somebody takes it: it is large.
        let (head, consumed) = match &mut decoded {
            Ok(Some((head, consumed))) => (head, *consumed),
            Ok(None) if has_no_memory_for(terms, rest) => {
                refuse_rest_of_head(terms, table, index);
                return (Wait::Nothing, position);
            }
            Ok(None) => return (Wait::Head, position),
            Err(refusal) => {
                note_unread(table, index);
                refuse(terms, table, index, *refusal, &rest[decoder.refused_at().min(rest.len())..]);
                return (Wait::Nothing, position);
            }
        };
        // The gate may make it the last as well: its peer does not know that yet.
        let parts = says_last(head) && rest.len() == consumed;
        let switches = !is_probe && may_switch::<D>(head);
        if switches && ports.outbox.bytes.len() > begin {
            // What was answered before leaves first; then this head is looked at once more.
            return (Wait::Turn, position);
        }
        let id = request_id(&terms.settings, || table[index].peer.peer(), &head.request, head.is_named);
        let admitted = admit(terms, table, index, flags, switches, head);
        if let Ok(left) = admitted
            && switches
        {
            record_without_app(terms, table, index, &head.request, consumed, id);
            return (Wait::Hyper(left), position);
        }
        if admitted.as_ref().is_err_and(|denial| !denial.stays) && ports.outbox.bytes.len() > begin {
            // The same, because the end comes with this answer. A field of proxies that is not believed is counted twice then.
            return (Wait::Turn, position);
        }
        position += consumed;
        let route = admitted.as_ref().ok().and_then(|_| apps.known_route(terms.recorder(), head.request.uri()));
        let (rest, left) = (&input[position..], *admitted.as_ref().unwrap_or(&None));
        count_request(terms, table, index, head, rest, parts);
        let received = Received { head_bytes: consumed, rest, left, route, id };
        let step = match &admitted {
            Err(denial) => deny(terms, ports, table, index, denial, head, received),
            Ok(_) => match apps.of_route::<D>(table, index, route) {
                Some(callee) => {
                    begin_exchange(terms, &mut ports.outbox.bytes, table, callee, index, &mut decoded, received)
                }
                None => fail_without_app(terms, table, index, &head.request, received),
            },
        };
        match step {
            Step::Answered { body_bytes } => position += body_bytes,
            Step::Pending { body_bytes } => return (Wait::Exchange, position + body_bytes),
            Step::Over => return (Wait::Nothing, position),
        }
        answers += 1;
    }
}

/// Notes that its peer `parts` with this request, or that the connection is old enough for it to be the last; `rest` came behind its head.
#[inline]
fn count_request<S>(terms: &Terms, table: &mut Table<S>, index: u32, head: &mut RequestHead, rest: &[u8], parts: bool) {
    if parts {
        table[index].flags.set(Flags::PARTING);
    }
    head.keep_alive &= !take_request(terms, table, index, head.framing, rest);
}

/// Whether the peer has said `close` with a request that nothing belongs to but its head. In HTTP/1.0 one that says nothing means its last
/// request too, but nothing forbids it to send more.
#[inline]
fn says_last(head: &RequestHead) -> bool {
    !head.keep_alive
        && head.framing == BodyFraming::None
        && head.request.method().is_safe()
        && (head.request.version() > Version::HTTP_10 || says_only_close(head.request.headers()))
}

fn says_only_close(headers: &HeaderMap) -> bool {
    headers.get(CONNECTION).is_some_and(|options| options.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Whether a head that has begun would have to wait where requests are refused: who sends half of one is not waited for, because what
/// arrives meanwhile of many such is what memory runs out of.
fn has_no_memory_for(terms: &Terms, input: &[u8]) -> bool {
    terms.board.memory_pressure().level >= MemoryLevel::Refusing && begins_request(input)
}

/// Begins the record of a request that is not given to the app, if somebody wants one.
fn record_without_app<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    request: &Request<()>,
    head_bytes: usize,
    id: Option<RequestId>,
) {
    let mut draft = begin_record(terms, table, index, request, head_bytes, id.as_ref());
    keep_record(terms, table, index, &mut draft, id);
}

/// Answers a request whose head has begun, instead of waiting for the rest of it: the memory is short.
fn refuse_rest_of_head<S>(terms: &Terms, table: &mut Table<S>, index: u32) {
    note_unread(table, index);
    let Denial { status, text, reason, .. } = Denial::MEMORY_PRESSURE;
    answer_and_close(terms, table, index, status, text, reason);
    note_denied(table, index, text);
}

/// Whether a request is a HEAD; of one whose head is not there, or was refused, `input` tells.
#[inline]
fn is_head(decoded: &DecodedHead, input: &[u8]) -> bool {
    match decoded {
        Ok(Some((head, _))) => head.request.method() == Method::HEAD,
        Ok(None) | Err(_) => is_head_request(input),
    }
}

/// Answers a request whose app panicked when it was made.
#[cold]
fn fail_without_app<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    request: &Request<()>,
    received: Received<'_>,
) -> Step {
    add(&terms.status().requests, 1);
    record_without_app(terms, table, index, request, received.head_bytes, received.id);
    fail_with_panic(terms, table, index);
    Step::Over
}

/// Whether a connection whose answers of this turn begin at `begin` may have one more before the others have theirs.
#[inline]
fn may_answer_another(terms: &Terms, outbox: &Outbox, begin: usize, answers: usize) -> bool {
    let bytes = outbox.bytes.len() - begin;
    let late = || answers > 0 && outbox.is_late(terms.precise_time());
    answers < INLINE_ANSWERS_MAX && bytes < OUTPUT_BYTES_MAX && has_budget() && !late()
}
