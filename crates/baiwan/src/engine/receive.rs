//! Ready connections: what arrives becomes heads and bodies.
//!
//! Connections that expect a new request are received from in batches, into the core's one area; bytes are copied out of it
//! only if they must wait. A body is received when its handler asks for it, and only then.
//!
//! The invariant: while an exchange lasts, nothing but its body is received, and at most `SET_ASIDE_BYTES_MAX` bytes wait.

use std::io;

use baiwan_driver::{Driver, Received};
use baiwan_http1::{HeadDecoder, Refusal, is_head_request};
use http::{Method, StatusCode};

use super::exchange::OUTPUT_BYTES_MAX;
use super::respond::Step;
use super::table::{Flags, State};
use super::{
    BATCH_MAX, Engine, RECEIVE_BYTES_MAX, SET_ASIDE_BYTES_MAX, TRANSMIT_DELAY_MAX, TURN_CONNECTIONS_MAX, TURN_TIME_MAX,
    has_budget,
};
use crate::app::App;
use crate::gate::{Asker, Verdict, admit_request};
use crate::say::say;
use crate::status::CloseReason;

/// Requests that are answered at once on one connection in one turn.
const INLINE_ANSWERS_MAX: usize = 16;
/// Bytes of a refused request that a log line shows.
const SAMPLE_BYTES_MAX: usize = 120;

/// What a receive says about a connection, beside its bytes.
pub(super) enum Arrival {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

impl<D: Driver, A: App> Engine<D, A> {
    /// Serves ready connections, batch by batch, up to the turn's maximum.
    pub(super) fn serve_ready(&mut self, area: &mut [u8]) {
        let mut left = self.table.queued().min(TURN_CONNECTIONS_MAX);
        while left > 0 {
            let visits = left.min(BATCH_MAX);
            left -= visits;
            for _ in 0..visits {
                // Whoever was queued may be gone since.
                if let Some(index) = self.table.next_queued() {
                    self.visit(index, area);
                }
            }
            self.receive_batch(area);
            self.transmit();
            if !has_budget() || self.clock.precise().duration_since(self.clock.now()) > TURN_TIME_MAX {
                return;
            }
        }
    }

    /// Does what one ready connection needs; puts it into the batch if that is to receive.
    fn visit(&mut self, index: u32, area: &mut [u8]) {
        let slot = &mut self.table[index];
        slot.flags.clear(Flags::QUEUED);
        let (state, flags) = (slot.state, slot.flags);
        let owes = slot.owes();
        if owes && !flags.has(Flags::BLOCKED) {
            self.outgoing_queue(index);
        }
        match state {
            State::Exchange => self.visit_exchange(index, area),
            // Nothing new before all is sent that is owed.
            _ if owes => {}
            State::Flush { .. } => self.handle_flushed(index),
            _ if flags.has(Flags::INPUT) => self.process_set_aside(index),
            _ if flags.has(Flags::READABLE) && state.receives() => {
                let slot = &self.table[index];
                match slot.active.as_ref().is_some_and(|active| !active.set_aside.is_empty()) {
                    true => self.receive_rest_of_head(index, area),
                    false => self.lists.batch.push(index),
                }
            }
            _ => {}
        }
    }

    /// Receives from the connections of the batch and processes what each has sent.
    fn receive_batch(&mut self, area: &mut [u8]) {
        let mut batch = std::mem::take(&mut self.lists.batch);
        let mut received = std::mem::take(&mut self.lists.received);
        let sockets = batch.iter().map(|index| &self.table[*index].socket);
        self.driver.receive(sockets, RECEIVE_BYTES_MAX, area, &mut received);
        debug_assert_eq!(received.len(), batch.len(), "the area has room for a whole batch");
        for (index, Received { start, outcome }) in batch.drain(..).zip(received.drain(..)) {
            let arrival = self.arrival(index, outcome, RECEIVE_BYTES_MAX);
            self.handle_arrival(index, arrival, &area[start..]);
            self.transmit_if_late();
        }
        self.lists.batch = batch;
        self.lists.received = received;
    }

    /// Receives once into the area.
    pub(super) fn receive_once(&mut self, index: u32, area: &mut [u8]) -> Arrival {
        let slot = &self.table[index];
        let outcome = self.driver.receive_into(&slot.socket, area);
        self.arrival(index, outcome, area.len())
    }

    /// Keeps `READABLE` true to its meaning: an empty or a short receive has emptied the socket, unless the end of the
    /// stream, which is announced only once, is still behind the bytes.
    fn arrival(&mut self, index: u32, outcome: io::Result<usize>, bytes_max: usize) -> Arrival {
        let slot = &mut self.table[index];
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
        let slot = &self.table[index];
        let reason = match slot.state {
            State::Linger { reason, .. } => reason,
            State::Discard { .. } => CloseReason::BodyUnread,
            State::Idle | State::Head | State::Exchange | State::Flush { .. } => CloseReason::PeerClosed,
        };
        self.close(index, reason);
    }

    fn handle_bytes(&mut self, index: u32, bytes: &[u8]) {
        let slot = &mut self.table[index];
        match slot.state {
            State::Idle | State::Head => self.process(index, bytes),
            State::Discard { .. } => self.discard_body(index, bytes),
            State::Linger { .. } => self.discard(index, bytes.len()),
            State::Exchange | State::Flush { .. } => unreachable!("nothing is received in {:?}", slot.state),
        }
        self.enqueue_if_readable(index);
    }

    fn enqueue_if_readable(&mut self, index: u32) {
        if let Some(slot) = self.table.get(index)
            && slot.flags.has(Flags::READABLE)
            && slot.state.receives()
        {
            self.table.enqueue(index);
        }
    }

    pub(super) fn receive_rest_of_head(&mut self, index: u32, area: &mut [u8]) {
        let slot = &self.table[index];
        let waiting = slot.active.as_ref().map_or(0, |active| active.set_aside.len());
        // A head that fills this was refused before.
        debug_assert!(waiting < SET_ASIDE_BYTES_MAX);
        let arrival = self.receive_once(index, &mut area[..SET_ASIDE_BYTES_MAX - waiting]);
        self.handle_arrival(index, arrival, area);
    }

    fn process_set_aside(&mut self, index: u32) {
        self.process(index, &[]);
        self.enqueue_if_readable(index);
        self.transmit_if_late();
    }

    /// Answers the requests in what was set aside and `bytes`, in order, until one has to wait or the bytes are used up.
    pub(super) fn process(&mut self, index: u32, bytes: &[u8]) {
        let mut slot = &mut self.table[index];
        if slot.flags.has(Flags::SENDING) {
            // What the connection has in this batch must leave before there is more.
            self.transmit();
            let Some(left) = self.table.get_mut(index) else { return };
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
        let slot = &mut self.table[index];
        match wait {
            Wait::Nothing | Wait::Exchange => {}
            // An answer that is sent from where it is comes first; what was set aside is looked at when it is out.
            _ if slot.owes() => self.flush(index),
            Wait::Request => self.enter(index, State::Idle),
            // Empty lines are no request: what was waited for is waited for as before.
            Wait::Head if !slot.holds_request() => {
                if was != State::Idle || position > 0 {
                    self.enter(index, State::Idle);
                }
            }
            Wait::Head => {
                if was != State::Head || position > 0 {
                    self.enter(index, State::Head);
                }
            }
            Wait::Turn => {
                slot.flags.set(Flags::INPUT);
                // A head that has begun keeps its deadline, however busy the core is.
                if was != State::Head || position > 0 {
                    self.enter(index, State::Idle);
                }
                self.table.enqueue(index);
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
            let slot = &mut self.table[index];
            slot.flags.clear(Flags::HEAD_REQUEST);
            let is_probe = slot.flags.has(Flags::PROBE);
            if slot.owes() || !self.may_answer_another(begin, answers) {
                return (Wait::Turn, position);
            }
            let decoded = decoder.decode(rest, &self.settings.http);
            if !matches!(decoded, Ok(Some(_))) && is_head_request(rest) {
                // What the server says by itself, now or when the rest is late, has no body then.
                self.table[index].flags.set(Flags::HEAD_REQUEST);
            }
            let (mut head, consumed) = match decoded {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return (Wait::Head, position),
                Err(refusal) => {
                    self.refuse(index, refusal, &rest[decoder.refused_at().min(rest.len())..]);
                    return (Wait::Nothing, position);
                }
            };
            let asker = Asker { is_probe, is_stopping: self.core.stopping.get() };
            match admit_request(asker, head.request.uri()) {
                Verdict::Pass { last } => head.keep_alive &= !last,
                Verdict::Refused(denial) => {
                    if head.request.method() == Method::HEAD {
                        self.table[index].flags.set(Flags::HEAD_REQUEST);
                    }
                    self.turn_away(index, denial);
                    return (Wait::Nothing, position);
                }
            }
            if !is_probe && self.may_switch(&head) {
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
        let active = self.table[index].activate();
        (active.set_aside, active.head) = (kept, head);
    }

    /// Answers what the peer did wrong, and lingers. `wrong` begins with the line that broke the rule, or close before it.
    pub(super) fn refuse(&mut self, index: u32, refusal: Refusal, wrong: &[u8]) {
        self.note_refusal(index, refusal, wrong);
        let flags = &mut self.table[index].flags;
        // Only what is large and nothing else is sent on to its end by a client that means well.
        match refusal.status() {
            StatusCode::PAYLOAD_TOO_LARGE => flags.set(Flags::UPLOADING),
            _ => flags.clear(Flags::UPLOADING),
        }
        self.answer_and_close(index, refusal.status(), refusal.name(), CloseReason::Refused);
    }

    /// Shows an operator which rule was broken, by whom, and how.
    pub(super) fn note_refusal(&self, index: u32, refusal: Refusal, wrong: &[u8]) {
        self.core.status().count_refusal(refusal);
        let peer = || self.table[index].peer.expand();
        if let Some(hint) = self.core.status.hints.due(refusal, self.clock.now()) {
            say(|| tracing::warn!(peer = %peer(), "{hint}"));
        }
        say(|| tracing::debug!(rule = refusal.name(), peer = %peer(), sample = %Sample(wrong), "refused a request"));
    }
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
