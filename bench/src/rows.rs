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
    /// Connections that stop in the middle of a request, beside a client that does not.
    Stalled(Stage),
    /// [`CHURN_TIMES`] as many connections come and go; at one moment, the row's number is there at once.
    Churn,
    /// SIGTERM while every connection is busy.
    Stop,
}

/// How many times its most connections at once a row with [`Work::Churn`] opens and closes in all.
pub(crate) const CHURN_TIMES: usize = 20;

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

/// Where a stalled connection has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// In the middle of a head.
    Head,
    /// In the middle of a body whose length is known.
    Body,
    /// In the middle of a line with a chunk's size.
    Chunk,
}

impl Work {
    /// Whether its figures depend on who else runs. Memory and counts do not.
    pub(crate) fn needs_calm(self) -> bool {
        match self {
            Self::Closed(_) | Self::FixedRate { .. } | Self::Stalled(_) => true,
            Self::Hold(_) | Self::Churn | Self::Stop => false,
        }
    }
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
pub(crate) const ROWS: [Row; 17] = [
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
    row("stalled-head", "half a head", Work::Stalled(Stage::Head), 10_000),
    row("stalled-body", "half a body, with its length", Work::Stalled(Stage::Body), 10_000),
    row("stalled-chunk", "half a chunk-size line", Work::Stalled(Stage::Chunk), 10_000),
    row("churn", "connect, `GET /`, close", Work::Churn, 10_000),
    row("stop", "SIGTERM at full load", Work::Stop, 64),
];

const fn row(name: &'static str, title: &'static str, work: Work, connections: usize) -> Row {
    Row { name, title, work, connections }
}

/// Turns of each server, where a plan does not say otherwise.
pub(crate) const ROUNDS: usize = 5;
/// The same, in rows of which one round takes long.
pub(crate) const ROUNDS_LONG: usize = 3;
/// The same, where a round is one stop.
pub(crate) const ROUNDS_STOP: usize = 20;

/// How thoroughly rows are measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// For every row, instead of its own number.
    pub(crate) rounds: Option<usize>,
    pub(crate) warm: Duration,
    pub(crate) timed: Duration,
    /// How long the kernel and the server may take to tidy up before memory is read.
    pub(crate) settle: Duration,
    /// How long the whole run may wait for other processes to end, and repeat what they disturbed.
    pub(crate) patience: Duration,
    /// Rows that want more connections get this many.
    pub(crate) connections_max: usize,
    pub(crate) stall: &'static Stall,
}

/// The course of a row with stalled connections. The load must end before the server's shortest deadline.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    /// Load of the client beside them, before they stall and again while they do; what comes first is not timed.
    pub(crate) warm: Duration,
    pub(crate) timed: Duration,
    /// Nothing happens at all, so that what the server uses is theirs. It ends before the first deadline in any case.
    pub(crate) quiet: Duration,
    /// From when they stall until those that are still there count as not cut.
    pub(crate) watched: Duration,
    /// The server's deadlines, where they are not to be its own.
    pub(crate) deadline: Option<Duration>,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: None,
        warm: Duration::from_secs(1),
        timed: Duration::from_secs(3),
        settle: Duration::from_secs(1),
        patience: Duration::from_secs(600),
        connections_max: usize::MAX,
        stall: &Stall {
            warm: Duration::from_millis(500),
            timed: Duration::from_secs(2),
            quiet: Duration::from_secs(3),
            watched: Duration::from_secs(20),
            deadline: None,
        },
    };

    /// Shows that everything works. Its figures are not worth quoting.
    pub(crate) const QUICK: Self = Self {
        rounds: Some(1),
        warm: Duration::from_millis(100),
        timed: Duration::from_millis(400),
        settle: Duration::from_millis(300),
        patience: Duration::ZERO,
        connections_max: 500,
        stall: &Stall {
            warm: Duration::from_millis(100),
            timed: Duration::from_millis(200),
            quiet: Duration::from_millis(100),
            watched: Duration::from_millis(1500),
            deadline: Some(Duration::from_millis(800)),
        },
    };

    pub(crate) fn connections(&self, row: &Row) -> usize {
        row.connections.min(self.connections_max)
    }

    /// Turns of each server in a row.
    pub(crate) fn rounds(&self, row: &Row) -> usize {
        self.rounds.unwrap_or(match row.work {
            Work::Closed(_) | Work::FixedRate { .. } | Work::Hold(_) => ROUNDS,
            Work::Stalled(_) | Work::Churn => ROUNDS_LONG,
            Work::Stop => ROUNDS_STOP,
        })
    }
}
