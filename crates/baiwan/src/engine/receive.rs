//! Ready connections: what arrives becomes heads and bodies.
//!
//! Connections that expect a new request are received from in batches, into the core's one area; bytes are copied out of it
//! only if they must wait. A body is received when its handler asks for it, and only then.
//!
//! The invariant: while an exchange lasts, nothing but its body is received, and at most `SET_ASIDE_BYTES_MAX` bytes wait.

use std::io;
use std::time::Duration;

use baiwan_driver::{Driver, Received};
use baiwan_http1::{BodyEvent, CONTINUE, HeadDecoder, Refusal, RequestHead, is_head_request};
use bytes::Bytes;
use http::{Method, StatusCode};

use super::connection::{Flags, State};
use super::exchange::{Extent, Link, OUTPUT_BYTES_MAX, Phase};
use super::feed::decode_body;
use super::respond::Step;
use super::{
    BATCH_MAX, BODY_BYTES_MAX, Engine, RECEIVE_BYTES_MAX, SET_ASIDE_BYTES_MAX, TRANSMIT_DELAY_MAX,
    TURN_CONNECTIONS_MAX, TURN_TIME_MAX, has_budget, receives,
};
use crate::BodyError;
use crate::app::App;
use crate::say::say;
use crate::status::CloseReason;

/// Requests that are answered at once on one connection in one turn.
const INLINE_ANSWERS_MAX: usize = 16;
/// An answer of unknown length goes on while something of it comes at least this often, once its peer has ended its direction.
const HALF_CLOSED_SILENCE_MAX: Duration = Duration::from_secs(1);
/// Bytes of a refused request that a log line shows.
const SAMPLE_BYTES_MAX: usize = 120;

/// What a receive says about a connection, beside its bytes.
enum Arrival {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

impl<D: Driver, A: App> Engine<D, A> {
    /// Serves ready connections, batch by batch, up to the turn's maximum.
    pub(super) fn serve_ready(&mut self) {
        let mut left = self.ready.len().min(TURN_CONNECTIONS_MAX);
        while left > 0 {
            let visits = left.min(BATCH_MAX);
            left -= visits;
            for _ in 0..visits {
                // Whoever was queued may be gone since.
                let token = self.ready.pop_front().expect("no more are visited than were queued");
                if let Some(index) = self.connections.find(token) {
                    self.visit(index);
                }
            }
            self.receive_batch();
            self.transmit();
            if !has_budget() || self.clock.precise().duration_since(self.clock.now()) > TURN_TIME_MAX {
                return;
            }
        }
    }

    /// Does what one ready connection needs; puts it into the batch if that is to receive.
    fn visit(&mut self, index: u32) {
        let slot = self.connections.get_mut(index).expect("the caller has it");
        slot.flags.clear(Flags::QUEUED);
        let (state, flags) = (slot.state, slot.flags);
        let owes = slot.owes();
        if owes && !flags.has(Flags::BLOCKED) {
            self.outgoing_queue(index);
        }
        match state {
            State::Exchange => self.visit_exchange(index),
            // Nothing new before all is sent that is owed.
            _ if owes => {}
            State::Flush => self.handle_flushed(index),
            _ if flags.has(Flags::INPUT) => self.process_set_aside(index),
            _ if flags.has(Flags::READABLE) && receives(state) => {
                let slot = self.connections.get(index).expect("visited");
                match slot.active.as_ref().is_some_and(|active| !active.set_aside.is_empty()) {
                    true => self.receive_rest_of_head(index),
                    false => self.lists.batch.push(index),
                }
            }
            _ => {}
        }
    }

    /// Receives from the connections of the batch and processes what each has sent.
    fn receive_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.lists.batch);
        let mut area = std::mem::take(&mut self.area);
        let mut received = std::mem::take(&mut self.lists.received);
        let sockets = batch.iter().map(|index| &self.connections.get(*index).expect("in the batch").socket);
        self.driver.receive(sockets, RECEIVE_BYTES_MAX, &mut area, &mut received);
        debug_assert_eq!(received.len(), batch.len(), "the area has room for a whole batch");
        for (index, Received { start, outcome }) in batch.drain(..).zip(received.drain(..)) {
            let arrival = self.arrival(index, outcome, RECEIVE_BYTES_MAX);
            self.handle_arrival(index, arrival, &area[start..]);
            self.transmit_if_late();
        }
        self.lists.batch = batch;
        self.lists.received = received;
        self.area = area;
    }

    /// Receives once into the area. The caller takes the area out while it looks at the bytes.
    fn receive_once(&mut self, index: u32, bytes_max: usize) -> Arrival {
        let slot = self.connections.get(index).expect("the caller has it");
        let outcome = self.driver.receive_into(&slot.socket, &mut self.area[..bytes_max]);
        self.arrival(index, outcome, bytes_max)
    }

    /// Keeps `READABLE` true to its meaning: an empty or a short receive has emptied the socket, unless the end of the
    /// stream, which is announced only once, is still behind the bytes.
    fn arrival(&mut self, index: u32, outcome: io::Result<usize>, bytes_max: usize) -> Arrival {
        let slot = self.connections.get_mut(index).expect("the caller has it");
        match outcome {
            Ok(0) => Arrival::End,
            Ok(count) => {
                if count < bytes_max && !slot.flags.has(Flags::HANGUP) {
                    slot.flags.clear(Flags::READABLE);
                }
                Arrival::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.flags.clear(Flags::READABLE);
                Arrival::Nothing
            }
            Err(_) => Arrival::Failed,
        }
    }

    /// Acts on what a receive brought, outside of an exchange; `area` begins with its bytes.
    fn handle_arrival(&mut self, index: u32, arrival: Arrival, area: &[u8]) {
        match arrival {
            Arrival::Bytes(count) => self.handle_bytes(index, &area[..count]),
            Arrival::End => self.handle_end(index),
            Arrival::Failed => self.close(index, CloseReason::Reset),
            Arrival::Nothing => {}
        }
    }

    /// The peer has ended its direction, and everything before that was processed.
    fn handle_end(&mut self, index: u32) {
        let slot = self.connections.get(index).expect("the caller has it");
        let reason = match slot.state {
            State::Linger => slot.reason,
            State::Drain => CloseReason::BodyUnread,
            State::Idle | State::Head | State::Exchange | State::Flush => CloseReason::PeerClosed,
        };
        self.close(index, reason);
    }

    fn handle_bytes(&mut self, index: u32, bytes: &[u8]) {
        let slot = self.connections.get_mut(index).expect("the caller has it");
        match slot.state {
            State::Idle | State::Head => self.process(index, bytes),
            State::Drain => self.discard_body(index, bytes),
            State::Linger => self.discard(index, bytes.len()),
            State::Exchange | State::Flush => unreachable!("nothing is received in {:?}", slot.state),
        }
        self.enqueue_if_readable(index);
    }

    fn enqueue_if_readable(&mut self, index: u32) {
        if let Some(slot) = self.connections.get(index)
            && slot.flags.has(Flags::READABLE)
            && receives(slot.state)
        {
            self.enqueue(index);
        }
    }

    pub(super) fn receive_rest_of_head(&mut self, index: u32) {
        let slot = self.connections.get(index).expect("visited");
        let waiting = slot.active.as_ref().map_or(0, |active| active.set_aside.len());
        // A head of so many bytes was refused before it came to this.
        debug_assert!(waiting < SET_ASIDE_BYTES_MAX);
        let arrival = self.receive_once(index, SET_ASIDE_BYTES_MAX - waiting);
        let area = std::mem::take(&mut self.area);
        self.handle_arrival(index, arrival, &area);
        self.area = area;
    }

    fn process_set_aside(&mut self, index: u32) {
        self.process(index, &[]);
        self.enqueue_if_readable(index);
        self.transmit_if_late();
    }

    /// Answers the requests in what was set aside and `bytes`, in order, until one has to wait or the bytes are used up.
    pub(super) fn process(&mut self, index: u32, bytes: &[u8]) {
        let mut slot = self.connections.get_mut(index).expect("the caller has it");
        if slot.flags.has(Flags::SENDING) {
            // What the connection has in this batch must leave before there is more.
            self.transmit();
            let Some(left) = self.connections.get_mut(index) else { return };
            slot = left;
        }
        slot.flags.clear(Flags::INPUT);
        let was = slot.state;
        let (mut kept, mut decoder) = match &mut slot.active {
            Some(active) => (std::mem::take(&mut active.set_aside), std::mem::take(&mut active.head)),
            None => (Vec::new(), Default::default()),
        };
        if !kept.is_empty() {
            kept.extend_from_slice(bytes);
        }
        let begin = self.out.len();
        let input = if kept.is_empty() { bytes } else { &kept[..] };
        let (wait, position) = self.answer(index, input, &mut decoder, begin);
        self.outgoing_area(index, begin);
        if let Wait::Nothing = wait {
            return;
        }
        self.set_aside(index, kept, bytes, position, decoder);
        let slot = self.connections.get_mut(index).expect("the caller has it");
        match wait {
            Wait::Nothing | Wait::Exchange => {}
            // An answer that is sent from where it is comes first; what was set aside is looked at when it is out.
            _ if slot.owes() => self.flush(index),
            Wait::Request => self.become_idle(index),
            // Empty lines are no request: what was waited for is waited for as before.
            Wait::Head if !slot.holds_request() => {
                if was != State::Idle || position > 0 {
                    self.become_idle(index);
                }
            }
            Wait::Head => {
                slot.state = State::Head;
                if (was != State::Head || position > 0) && !slot.flags.has(Flags::PROBE) {
                    let timeout = self.unless_stopping(self.settings.header_timeout);
                    self.set_deadline(index, self.clock.deadline(timeout));
                }
            }
            Wait::Turn => {
                slot.flags.set(Flags::INPUT);
                // A head that has begun keeps its deadline, however busy the core is.
                if was != State::Head || position > 0 {
                    self.become_idle(index);
                }
                self.enqueue(index);
            }
        }
    }

    /// Answers what `input` holds; the answers begin at `begin` of the area. Returns what comes next, and how many bytes of the
    /// input are done with.
    fn answer(&mut self, index: u32, input: &[u8], decoder: &mut HeadDecoder, begin: usize) -> (Wait, usize) {
        let mut position = 0;
        let mut answers = 0;
        loop {
            let rest = &input[position..];
            if rest.is_empty() {
                return (Wait::Request, position);
            }
            let slot = self.connections.get_mut(index).expect("the caller has it");
            slot.flags.clear(Flags::HEAD_REQUEST);
            let is_probe = slot.flags.has(Flags::PROBE);
            if slot.owes() || !self.may_answer_another(begin, answers) {
                return (Wait::Turn, position);
            }
            let decoded = decoder.decode(rest, &self.settings.http);
            if !matches!(decoded, Ok(Some(_))) && is_head_request(rest) {
                // What the server says by itself, now or when the rest is late, has no body then.
                self.connections.get_mut(index).expect("the caller has it").flags.set(Flags::HEAD_REQUEST);
            }
            let (mut head, consumed) = match decoded {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return (Wait::Head, position),
                Err(refusal) => {
                    self.refuse(index, refusal, &rest[decoder.refused_at().min(rest.len())..]);
                    return (Wait::Nothing, position);
                }
            };
            if is_probe {
                if !asks_for_health(&head) {
                    if head.request.method() == Method::HEAD {
                        self.connections.get_mut(index).expect("the caller has it").flags.set(Flags::HEAD_REQUEST);
                    }
                    self.turn_away(index);
                    return (Wait::Nothing, position);
                }
                head.keep_alive = false;
            } else if self.may_switch(&head) {
                // What was answered before leaves first; then this head is looked at once more.
                if self.out.len() > begin {
                    return (Wait::Turn, position);
                }
                self.give_to_hyper(index, rest);
                return (Wait::Nothing, position);
            }
            position += consumed;
            match self.begin_exchange(index, head, &input[position..]) {
                Step::Answered { body_bytes } => position += body_bytes,
                Step::Pending { body_bytes } => return (Wait::Exchange, position + body_bytes),
                Step::Over => return (Wait::Nothing, position),
            }
            answers += 1;
        }
    }

    /// Whether a connection whose answers of this turn begin at `begin` may have one more before the others have theirs.
    fn may_answer_another(&self, begin: usize, answers: usize) -> bool {
        let bytes = self.out.len() - begin;
        let late = || answers > 0 && self.clock.precise().duration_since(self.transmitted) > TRANSMIT_DELAY_MAX;
        answers < INLINE_ANSWERS_MAX && bytes < OUTPUT_BYTES_MAX && has_budget() && !late()
    }

    /// Keeps what comes from `position` on, of `kept`, if that is where the bytes are, otherwise of `bytes`; and how much of it
    /// the decoder has looked at.
    fn set_aside(&mut self, index: u32, mut kept: Vec<u8>, bytes: &[u8], position: usize, head: HeadDecoder) {
        if kept.is_empty() {
            kept.extend_from_slice(&bytes[position..]);
        } else {
            kept.drain(..position);
        }
        if kept.is_empty() {
            return;
        }
        assert!(kept.len() <= SET_ASIDE_BYTES_MAX, "what waits is bounded by what is received");
        let active = self.connections.get_mut(index).expect("the caller has it").activate();
        (active.set_aside, active.head) = (kept, head);
    }

    /// Sees to an exchange that is ready for something: its body, or the peer's end.
    pub(super) fn visit_exchange(&mut self, index: u32) {
        let slot = self.connections.get(index).expect("visited");
        let exchange = slot.active.as_ref().and_then(|active| active.exchange.as_ref());
        let Some(exchange) = exchange else { return };
        let (open, wanted) = exchange.link.with_feed(|feed| match feed {
            Some(feed) => (!feed.decoder.is_complete(), feed.stream.is_wanted()),
            None => (false, false),
        });
        if open && wanted {
            self.feed(index);
        } else if !open && slot.flags.has(Flags::HANGUP) {
            self.handle_end_while_answering(index);
        }
    }

    /// The peer has ended its direction while its request is being answered: it has gone, or (half-close) still listens. Which of
    /// the two shows only when something is sent, so it is given the rest of an answer that has an end, and no more.
    pub(super) fn handle_end_while_answering(&mut self, index: u32) {
        let active = self.connections.get_mut(index).expect("visited").activate();
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
    fn feed(&mut self, index: u32) {
        let slot = self.connections.get_mut(index).expect("visited");
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
            self.enqueue(index);
        }
        if !readable {
            return self.wait_for_body(index);
        }
        // Never more than the body has left, so that what follows it stays in the kernel.
        let bytes_max = left.map_or(SET_ASIDE_BYTES_MAX, |left| left.min(BODY_BYTES_MAX as u64) as usize);
        match self.receive_once(index, bytes_max) {
            Arrival::Bytes(count) => {
                let area = std::mem::take(&mut self.area);
                self.hand_over(index, &link, &area[..count]);
                self.area = area;
            }
            Arrival::Nothing => self.wait_for_body(index),
            Arrival::End => {
                stream.handle_failure(BodyError::Disconnected);
                if self.settings.half_close && self.connections.get(index).is_some_and(|slot| slot.owes()) {
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
        let active = self.connections.get_mut(index).expect("visited").activate();
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
        let slot = self.connections.get_mut(index).expect("the caller has it");
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
                    self.enqueue(index);
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
    fn discard_body(&mut self, index: u32, bytes: &[u8]) {
        let limits = self.settings.http;
        let slot = self.connections.get_mut(index).expect("the caller has it");
        let bearable = slot.discard(bytes.len());
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
        slot.state = State::Idle;
        self.process(index, &bytes[position..]);
    }

    fn discard(&mut self, index: u32, count: usize) {
        let slot = self.connections.get_mut(index).expect("the caller has it");
        if !slot.discard(count) {
            let reason = slot.reason;
            self.close(index, reason);
        }
    }

    /// Answers what the peer did wrong, and lingers. `wrong` begins with the line that broke the rule, or close before it.
    pub(super) fn refuse(&mut self, index: u32, refusal: Refusal, wrong: &[u8]) {
        self.note_refusal(index, refusal, wrong);
        let flags = &mut self.connections.get_mut(index).expect("the caller has it").flags;
        // Only what is large and nothing else is sent on to its end by a client that means well.
        match refusal.status() {
            StatusCode::PAYLOAD_TOO_LARGE => flags.set(Flags::UPLOADING),
            _ => flags.clear(Flags::UPLOADING),
        }
        self.answer_and_close(index, refusal.status(), refusal.name(), CloseReason::Refused);
    }

    /// Shows an operator which rule was broken, by whom, and how.
    fn note_refusal(&self, index: u32, refusal: Refusal, wrong: &[u8]) {
        self.core.status().count_refusal(refusal);
        let peer = || self.connections.get(index).expect("the caller has it").peer.expand();
        if let Some(hint) = self.core.status.hints.due(refusal, self.clock.now()) {
            say(|| tracing::warn!(peer = %peer(), "{hint}"));
        }
        say(|| tracing::debug!(rule = refusal.name(), peer = %peer(), sample = %Sample(wrong), "refused a request"));
    }
}

/// Whether a request is one that is answered beyond the maximum of connections: an orchestrator restarts a server whose
/// health it cannot ask for, and that would cut everybody.
fn asks_for_health(head: &RequestHead) -> bool {
    head.request.uri().path().starts_with("/health/")
}

/// The beginning of what a peer sent, fit for a log: everything but plain ASCII is escaped.
struct Sample<'a>(&'a [u8]);

impl std::fmt::Display for Sample<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(SAMPLE_BYTES_MAX)];
        write!(f, "{}{}", shown.escape_ascii(), if shown.len() < self.0.len() { "…" } else { "" })
    }
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
    /// The connection takes no more requests, or is closed.
    Nothing,
}
