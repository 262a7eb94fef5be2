//! Exchanges that go on: those for which something has happened that their handler or body waits for.
//!
//! What they make of their answers is owed by the connection from then on, and leaves with what others owe.
//!
//! Tokio gives the core's future a budget for each of its polls, which what handlers wait for spends (a channel, a timer), so that one that is
//! always ready does not keep its core. Each poll of an exchange may spend all of it, as a task may, and what it has spent is given back
//! after that poll: neither the next exchange nor a new request of the same turn goes without because of it. One that has spent its
//! budget is woken when the turn is over, and is polled in the next.
//!
//! The invariant: a turn polls a bounded number of them, in the order in which they were woken, so that those that are received from
//! have their turn, too.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use baiwan_driver::{Driver, Token};
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

use super::TURN_TIME_MAX;
use super::chunks::Chunks;
use super::close::{cut_answer, end_after_flush, end_exchange, fail, flush, note_upload, take_exchange};
use super::exchange::Progress;
use super::lifetime::reason_after_answer;
use super::ports::Ports;
use super::route::obey_route;
use super::table::Table;
use super::terms::Terms;
use crate::BodyError;
use crate::clock::Tick;
use crate::status::CloseReason;

/// Exchanges that are polled in one turn.
const TURN_POLLS_MAX: usize = 64;
/// After this number of them the clock is looked at: a turn that lasts too long polls no more.
const LOOK_POLLS: usize = 8;

/// Room for this many tokens is never given back. One large burst must not hold its room for ever.
const ROOM_KEPT: usize = 1024;

/// What others have said to the engine; empty between turns, but for those that wait for the next.
#[derive(Debug, Default)]
pub(super) struct Messages {
    tokens: Vec<Token>,
    /// Connections whose exchange is to be polled, and in which turn that was heard.
    woken: VecDeque<(Token, Instant)>,
}

impl Messages {
    /// Whether exchanges wait to be polled.
    pub(super) fn has_work(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Since when the exchange waits that will be polled next.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.woken.front().map(|(_, since)| *since)
    }

    /// Gives back the room of a burst that is over.
    fn shrink(&mut self) {
        // The inbox has the other of two lists that change places, and it comes here in the next turn.
        if self.tokens.capacity() > ROOM_KEPT {
            self.tokens.shrink_to(ROOM_KEPT);
        }
        if self.woken.capacity() > ROOM_KEPT && self.woken.is_empty() {
            self.woken.shrink_to(ROOM_KEPT);
        }
    }
}

/// Looks after the connections whose exchange or body has news.
pub(super) fn take_messages<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    messages: &mut Messages,
) {
    messages.shrink();
    let Messages { tokens, woken } = messages;
    terms.board.inbox().take(tokens);
    for token in tokens.drain(..) {
        let Some(index) = table.find(token) else { continue };
        match table.busy(index).and_then(|busy| busy.exchange.as_ref()) {
            Some(exchange) if exchange.is_woken() => woken.push_back((token, terms.clock.now())),
            // A body is wanted, or will not be read.
            Some(_) => table.enqueue(index),
            None => {}
        }
    }
    for polled in 1..=TURN_POLLS_MAX {
        // Gives back what is spent while it lives. Nobody is woken where there is none: the next turn follows at once.
        let Poll::Ready(_budget) = poll_proceed(&mut Context::from_waker(Waker::noop())) else { return };
        let Some((token, _)) = woken.pop_front() else { return };
        if let Some(index) = table.find(token) {
            advance(terms, ports, table, index);
        }
        if polled % LOOK_POLLS == 0 && terms.precise_time().duration_since(terms.clock.now()) > TURN_TIME_MAX {
            return;
        }
    }
}

/// Polls an exchange, and goes on as far as that allows.
fn advance<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32) {
    let Some(busy) = table.busy_mut(index) else { return };
    let Some(exchange) = busy.exchange.as_mut().filter(|exchange| exchange.is_woken()) else { return };
    let mut made = Chunks::None;
    exchange.course.was_polled_late = busy.request_due <= terms.clock.tick();
    let was_waiting = exchange.course.progress == Progress::Waiting;
    if let Some(told) = exchange.poll(&mut made)
        && !obey_route(terms, ports, table, index, &told)
    {
        return;
    }
    let Some(busy) = table.busy_mut(index) else { return };
    let Some(exchange) = &mut busy.exchange else { return };
    exchange.handle_taken(made.byte_count());
    let (progress, status) = (exchange.course.progress, exchange.course.status);
    if (was_waiting && progress != Progress::Waiting) || !made.is_empty() {
        // It has answered, or is not as silent as a peer that has ended its direction is to find it.
        busy.request_due = Tick::NEVER;
    }
    busy.output.append(&mut made);
    if let (Some(draft), Some(status)) = (&mut busy.draft, status)
        && !draft.has_head()
    {
        draft.handle_head(status, terms.recent_time().into_std());
    }
    match progress {
        Progress::Waiting | Progress::Responding { .. } => {
            table.update_deadline(index);
            table.enqueue(index);
        }
        Progress::Finished { keep_alive } => finish_exchange(terms, table, index, keep_alive),
        Progress::Failed { begun: Some(_) } => {
            end_exchange(table, index, BodyError::Over);
            cut_answer(terms, ports, table, index, CloseReason::HandlerFailed);
        }
        Progress::Failed { begun: None } => {
            end_exchange(table, index, BodyError::Over);
            fail(terms, table, index);
        }
    }
}

/// All of the answer is there; what is left is to send it.
fn finish_exchange<S>(terms: &Terms, table: &mut Table<S>, index: u32, keep_alive: bool) {
    let busy = table.activate(index);
    let mut exchange = take_exchange(busy).expect("an exchange has finished");
    let feed = exchange.feed.take().filter(|feed| !feed.decoder.is_complete());
    if !keep_alive {
        note_upload(table, index, feed.as_deref());
        return end_after_flush(terms, table, index, reason_after_answer(terms, table, index));
    }
    busy.unread = feed.map(|feed| Box::new(feed.decoder));
    flush(terms, table, index);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_burst_is_given_back_when_the_burst_is_over() {
        let mut messages = Messages::default();
        let burst = (0..100_000).map(Token);
        messages.tokens.extend(burst.clone());
        messages.woken.extend(burst.map(|token| (token, Instant::now())));
        messages.tokens.clear();
        messages.shrink();
        assert!(messages.tokens.capacity() <= ROOM_KEPT, "nothing is in it between turns");
        assert_eq!(messages.woken.len(), 100_000, "they wait to be polled");
        messages.woken.clear();
        messages.shrink();
        assert!(messages.woken.capacity() <= ROOM_KEPT);
    }
}
