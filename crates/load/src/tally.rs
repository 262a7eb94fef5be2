//! What happened, counted: by a worker in a second, and summed over workers and seconds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::latencies::Latencies;

/// Different texts about errors that are kept; further ones count without a text.
const DETAILS_MAX: usize = 32;

/// Why a request was not answered, or not as it should be. Each request that was due is an answer or one error; an attempt to connect
/// is none, unless a request waited for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCause {
    /// A connection could not be opened.
    Connect,
    /// The connection ended in the middle of an exchange, in order.
    Closed,
    /// The connection failed or was reset in the middle of an exchange.
    Reset,
    /// No whole answer in time.
    Timeout,
    /// What came is not HTTP/1.1, or came without being asked for.
    Malformed,
    /// Another status than the one expected.
    Status,
    /// Another body than the one expected.
    Body,
    /// Due, but never sent: no connection was free until the end.
    Unsent,
}

impl ErrorCause {
    /// All, in the order of a report.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Closed,
        Self::Reset,
        Self::Timeout,
        Self::Malformed,
        Self::Status,
        Self::Body,
        Self::Unsent,
    ];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Status => "status",
            Self::Body => "body",
            Self::Unsent => "unsent",
        }
    }
}

impl fmt::Display for ErrorCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts and distributions. Everything adds up, but for the two gauges: they are as they were last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Requests that were given to a connection, one that was still to be opened for it too.
    pub sent: u64,
    /// Right answers.
    pub answered: u64,
    /// From when a request was due to the last byte of its answer. Requests that timed out are here with their age.
    pub latency: Latencies,
    /// From when a request was due to when it was given to a connection.
    pub send_delay: Latencies,
    /// From the first packet to the connection being there.
    pub connect: Latencies,
    /// By cause.
    pub errors: BTreeMap<ErrorCause, u64>,
    /// The same in words, as far as there are any.
    pub details: BTreeMap<String, u64>,
    /// Answers by status, right or wrong.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes that the kernel took.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Connections that were opened; with a first answer, where one is asked for.
    pub opened: u64,
    /// Connections that ended although nobody had said that they would.
    pub lost: u64,
    /// Connections that were opened again.
    pub reopened: u64,
    /// Attempts to connect that came to nothing.
    pub attempts_failed: u64,
    /// Why, in words; and why connections were lost that no request was on.
    pub failures: BTreeMap<String, u64>,
    /// Events of streams.
    pub events: u64,
    /// Events whose numbers were jumped over.
    pub events_missing: u64,
    /// From the time that an event carries to its arrival.
    pub event_delay: Latencies,
    /// From one event of a stream to the next.
    pub event_interval: Latencies,
    /// Connections that are open now.
    pub open: u64,
    /// Requests that are outstanding now.
    pub outstanding: u64,
}

impl Tally {
    /// Counts `count` errors of a cause; `detail` says more, where there is more to say.
    pub fn error(&mut self, cause: ErrorCause, count: u64, detail: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        *self.errors.entry(cause).or_default() += count;
        add_words(&mut self.details, detail(), count);
    }

    /// Keeps the reason why a connection was not opened, or was lost.
    pub fn failure(&mut self, words: String) {
        add_words(&mut self.failures, words, 1);
    }

    /// All errors.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what came after it, in the same worker.
    pub fn add(&mut self, later: &Self) {
        self.add_beside(later);
        self.open = later.open;
        self.outstanding = later.outstanding;
    }

    /// Adds what another worker counted at the same time.
    pub fn add_beside(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.opened += other.opened;
        self.lost += other.lost;
        self.reopened += other.reopened;
        self.attempts_failed += other.attempts_failed;
        self.events += other.events;
        // It counts what a server claims, which may be any number.
        self.events_missing = self.events_missing.saturating_add(other.events_missing);
        self.open += other.open;
        self.outstanding += other.outstanding;
        self.latency.add(&other.latency);
        self.send_delay.add(&other.send_delay);
        self.connect.add(&other.connect);
        self.event_delay.add(&other.event_delay);
        self.event_interval.add(&other.event_interval);
        for (cause, count) in &other.errors {
            *self.errors.entry(*cause).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (words, count) in &other.details {
            add_words(&mut self.details, words.clone(), *count);
        }
        for (words, count) in &other.failures {
            add_words(&mut self.failures, words.clone(), *count);
        }
    }

    /// Takes everything out; the gauges stay.
    pub fn take(&mut self) -> Self {
        let fresh = Self { open: self.open, outstanding: self.outstanding, ..Self::default() };
        std::mem::replace(self, fresh)
    }
}

fn add_words(all: &mut BTreeMap<String, u64>, words: String, count: u64) {
    if all.len() < DETAILS_MAX || all.contains_key(&words) {
        *all.entry(words).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_gauges_are_the_last() {
        let mut worker = Tally { answered: 3, open: 10, ..Tally::default() };
        worker.error(ErrorCause::Status, 2, || "status 503".to_owned());
        let first = worker.take();
        assert_eq!((worker.answered, worker.open, worker.errors_total()), (0, 10, 0));
        worker.answered = 4;
        worker.open = 9;
        worker.error(ErrorCause::Status, 1, || "status 503".to_owned());
        let mut sum = first;
        sum.add(&worker);
        assert_eq!((sum.answered, sum.open, sum.errors[&ErrorCause::Status], sum.details["status 503"]), (7, 9, 3, 3));
        let mut all = Tally::default();
        all.add_beside(&sum);
        all.add_beside(&sum);
        assert_eq!((all.answered, all.open), (14, 18));
    }

    #[test]
    fn texts_are_bounded_and_counts_are_not() {
        let mut tally = Tally::default();
        for index in 0..1000 {
            tally.error(ErrorCause::Body, 1, || format!("body {index}"));
        }
        assert_eq!((tally.errors_total(), tally.details.len()), (1000, DETAILS_MAX));
    }
}
