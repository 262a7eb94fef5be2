//! What is measured: the rows of the report, and how long each takes.

use std::time::Duration;

use crate::exchange::Exchange;

/// A row: one figure, or several that come from the same load, for every server.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// As the report calls it.
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) connections: usize,
}

/// How a row is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// One request outstanding on each connection, without pauses.
    Closed(Route),
    /// `GET /`, so many requests a second.
    FixedRate { per_second: u64 },
    /// Nothing but open connections.
    Hold(State),
}

/// A route that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Hello,
    Json,
    Echo,
    Sleep,
}

/// What a held connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Was answered once and waits for a request.
    Idle,
    /// Its handler never ends.
    Pending,
    /// Its stream had one event and stays open.
    Stream,
    /// A WebSocket that had one message each way and stays open.
    WebSocket,
}

impl Route {
    pub(crate) fn exchange(self) -> Exchange {
        match self {
            Self::Hello => Exchange::hello(),
            Self::Json => Exchange::json(),
            Self::Echo => Exchange::echo(),
            Self::Sleep => Exchange::sleep(),
        }
    }
}

const RATE: Work = Work::FixedRate { per_second: 10_000 };

/// All rows, in the order of the report.
pub(crate) const ROWS: [Row; 12] = [
    row("get-small", "`GET /`", Work::Closed(Route::Hello), 64),
    row("get-medium", "`GET /`", Work::Closed(Route::Hello), 1_000),
    row("get-large", "`GET /`", Work::Closed(Route::Hello), 9_000),
    row("json", "`GET /json`", Work::Closed(Route::Json), 64),
    row("echo", "`POST /echo`, 1 KiB each way", Work::Closed(Route::Echo), 64),
    row("sleep", "`GET /sleep`, the handler sleeps 1 ms", Work::Closed(Route::Sleep), 9_000),
    row("rate-small", "`GET /`", RATE, 64),
    row("rate-large", "`GET /`", RATE, 9_000),
    row("idle", "idle, was answered once", Work::Hold(State::Idle), 15_000),
    row("pending", "handler pending", Work::Hold(State::Pending), 15_000),
    row("sse", "SSE stream, one event sent", Work::Hold(State::Stream), 15_000),
    row("ws", "WebSocket, idle, one message echoed", Work::Hold(State::WebSocket), 15_000),
];

const fn row(name: &'static str, title: &'static str, work: Work, connections: usize) -> Row {
    Row { name, title, work, connections }
}

/// How thoroughly rows are measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) warm: Duration,
    pub(crate) timed: Duration,
    /// How long the kernel and the server may take to tidy up before memory is read.
    pub(crate) settle: Duration,
    /// How long the whole run may wait for other processes to end, and repeat what they disturbed.
    pub(crate) patience: Duration,
    /// Rows that want more connections get this many.
    pub(crate) connections_max: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        warm: Duration::from_secs(1),
        timed: Duration::from_secs(3),
        settle: Duration::from_secs(1),
        patience: Duration::from_secs(600),
        connections_max: usize::MAX,
    };

    /// Shows that everything works. Its figures are not worth quoting.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        warm: Duration::from_millis(100),
        timed: Duration::from_millis(400),
        settle: Duration::from_millis(300),
        patience: Duration::ZERO,
        connections_max: 500,
    };

    pub(crate) fn connections(&self, row: &Row) -> usize {
        row.connections.min(self.connections_max)
    }
}
