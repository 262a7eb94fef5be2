//! What is measured: the rows of the report, and how long each takes.

use std::time::Duration;

use crate::exchange::Exchange;
use crate::peers::BAIWAN;

/// A row: one figure, or several that come from the same load, for every server that can do it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// As the report calls it, beside other rows of its group.
    pub(crate) title: &'static str,
    pub(crate) group: Group,
    pub(crate) work: Work,
    pub(crate) connections: usize,
}

/// The table that a row stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    Get,
    Check,
    Body,
    Connection,
    Sleep,
    Rate,
    Mixed,
    Wrk,
    Memory,
    WebSocket,
    StartUp,
    Generator,
    Promise,
}

/// How a row is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// Requests from the load generator.
    Load { route: Route, pace: Pace },
    /// `GET /` from wrk with a number of threads.
    Wrk { threads: usize },
    /// `GET /` to Baiwan from the load generator and from wrk; their own CPU time is what is measured.
    Generator,
    /// From the start of the process to the first answer.
    StartUp,
    /// Nothing but open connections.
    Hold(State),
    /// Connections that stop in the middle of a request, beside a client that does not.
    Stalled(Stage),
    /// [`CHURN_TIMES`] as many connections come and go; at one moment, the row's number is there at once.
    Churn,
    /// SIGTERM while every connection is busy.
    Stop,
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Closed loop: a number of requests outstanding on each connection, without pauses.
    Closed { pipeline: u32 },
    /// The same, and each request has a connection of its own.
    ConnectEach,
    /// Open loop: a constant rate, without waiting for earlier answers.
    Rate { per_second: u32 },
}

/// Who takes turns in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contest {
    /// Every server that serves the row's routes.
    Servers,
    /// Baiwan and axum, because these rows are about what Baiwan promises.
    Promised,
    /// The load generator and wrk.
    Generators,
}

/// The load generators, in the order of their turns.
pub(crate) const GENERATORS: [&str; 2] = [OWN, WRK];
/// Of this workspace.
pub(crate) const OWN: &str = "baiwan load";
/// What the own one is compared with.
pub(crate) const WRK: &str = "wrk";

/// How many times its most connections at once a row with [`Work::Churn`] opens and closes in all.
pub(crate) const CHURN_TIMES: usize = 20;

/// A route that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Hello,
    Json,
    Echo,
    Sleep,
    Mixed,
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
    /// The same, with a read buffer of 4 KiB.
    SmallWebSocket,
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

impl Contest {
    /// Whom the others are compared with.
    pub(crate) fn reference(self) -> &'static str {
        match self {
            Self::Servers | Self::Promised => BAIWAN,
            Self::Generators => WRK,
        }
    }
}

impl Row {
    pub(crate) fn contest(&self) -> Contest {
        match (self.work, self.group) {
            (Work::Generator, _) => Contest::Generators,
            (_, Group::Promise | Group::WebSocket) => Contest::Promised,
            _ => Contest::Servers,
        }
    }

    /// What a server must serve to be measured.
    pub(crate) fn routes(&self) -> &'static [&'static str] {
        match self.work {
            Work::Load { route, .. } => route.paths(),
            Work::Hold(State::Pending) => &["/pending", "/held"],
            Work::Hold(State::Stream) => &["/sse"],
            Work::Hold(State::WebSocket) => &["/ws"],
            Work::Hold(State::SmallWebSocket) => &["/ws-small"],
            Work::Stalled(_) | Work::Stop => &["/", "/echo"],
            Work::Wrk { .. } | Work::Generator | Work::StartUp | Work::Hold(State::Idle) | Work::Churn => &["/"],
        }
    }

    /// Whether it is done with a program that need not be there.
    pub(crate) fn needs_wrk(&self) -> bool {
        matches!(self.work, Work::Wrk { .. } | Work::Generator)
    }
}

impl Work {
    /// Whether its figures depend on who else runs. Memory and counts do not.
    pub(crate) fn needs_calm(self) -> bool {
        match self {
            Self::Load { .. } | Self::Wrk { .. } | Self::Generator | Self::StartUp | Self::Stalled(_) => true,
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
            Self::Mixed => Exchange::mixed(),
        }
    }

    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Hello => &["/"],
            Self::Json => &["/json"],
            Self::Echo => &["/echo"],
            Self::Sleep => &["/sleep"],
            Self::Mixed => &["/mixed"],
        }
    }
}

/// All rows, in the order of the report.
pub(crate) const ROWS: [Row; 26] = [
    row("get-small", "64 connections", Group::Get, closed(Route::Hello), 64),
    row("get-medium", "1,000 connections", Group::Get, closed(Route::Hello), 1_000),
    row("get-large", "9,000 connections", Group::Get, closed(Route::Hello), 9_000),
    row("get-wrk", "64 connections", Group::Check, Work::Wrk { threads: 1 }, 64),
    row("json", "`GET /json`", Group::Body, closed(Route::Json), 64),
    row("echo", "`POST /echo`, 1 KiB", Group::Body, closed(Route::Echo), 64),
    row("pipelined", "pipelined", Group::Connection, PIPELINED, 64),
    row("connect", "connect, ask, close", Group::Connection, CONNECT, 64),
    row("sleep", "9,000 connections", Group::Sleep, closed(Route::Sleep), 9_000),
    row("rate-small", "10,000/s over 64", Group::Rate, rate(Route::Hello, 10_000), 64),
    row("rate-large", "10,000/s over 9,000", Group::Rate, rate(Route::Hello, 10_000), 9_000),
    row("rate-slow", "2,000/s over 64", Group::Rate, rate(Route::Hello, 2_000), 64),
    row("mixed", "1,000/s over 64", Group::Mixed, rate(Route::Mixed, 1_000), 64),
    row("wrk", "wrk", Group::Wrk, Work::Wrk { threads: 100 }, 10_000),
    row("idle", "idle, was answered once", Group::Memory, Work::Hold(State::Idle), 15_000),
    row("pending", "handler pending", Group::Memory, Work::Hold(State::Pending), 15_000),
    row("sse", "SSE stream, one event sent", Group::Memory, Work::Hold(State::Stream), 15_000),
    row("ws", "one message echoed", Group::WebSocket, Work::Hold(State::WebSocket), 15_000),
    row("ws-small", "the same, `read_buffer_size(4096)`", Group::WebSocket, Work::Hold(State::SmallWebSocket), 15_000),
    row("start", "start", Group::StartUp, Work::StartUp, 1),
    row("generator", "1,000 connections", Group::Generator, Work::Generator, 1_000),
    row("stalled-head", "half a head", Group::Promise, Work::Stalled(Stage::Head), 10_000),
    row("stalled-body", "half a body, with its length", Group::Promise, Work::Stalled(Stage::Body), 10_000),
    row("stalled-chunk", "half a chunk-size line", Group::Promise, Work::Stalled(Stage::Chunk), 10_000),
    row("churn", "connect, `GET /`, close", Group::Promise, Work::Churn, 10_000),
    row("stop", "SIGTERM at full load", Group::Promise, Work::Stop, 64),
];

const PIPELINED: Work = Work::Load { route: Route::Hello, pace: Pace::Closed { pipeline: 16 } };
const CONNECT: Work = Work::Load { route: Route::Hello, pace: Pace::ConnectEach };

const fn row(name: &'static str, title: &'static str, group: Group, work: Work, connections: usize) -> Row {
    Row { name, title, group, work, connections }
}

const fn closed(route: Route) -> Work {
    Work::Load { route, pace: Pace::Closed { pipeline: 1 } }
}

const fn rate(route: Route, per_second: u32) -> Work {
    Work::Load { route, pace: Pace::Rate { per_second } }
}

/// Turns of each server in the rows that matter most.
pub(crate) const ROUNDS_MAIN: usize = 5;
/// Those rows.
const MAIN: [&str; 2] = ["get-small", "get-large"];
/// Turns of each server in the other rows.
pub(crate) const ROUNDS: usize = 3;
/// The same, where a round is one stop.
pub(crate) const ROUNDS_STOP: usize = 20;
/// Turns of each server in the rows of the README; memory hardly differs between rounds.
pub(crate) const ROUNDS_README: usize = 5;
pub(crate) const ROUNDS_README_MEMORY: usize = 2;
/// The rows that the README quotes.
pub(crate) const README: [&str; 13] = [
    "get-small",
    "get-medium",
    "get-large",
    "get-wrk",
    "json",
    "echo",
    "pipelined",
    "connect",
    "sleep",
    "rate-large",
    "idle",
    "pending",
    "sse",
];
/// wrk runs this many times as long as other loads: 30 s.
const WRK_TIMES: u32 = 10;

/// How many turns each server has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rounds {
    /// As many as the row asks for.
    Usual,
    /// More of the rows that the README quotes, and shorter ones.
    Readme,
    /// The same number in every row.
    Each(usize),
}

/// How thoroughly rows are measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: Rounds,
    pub(crate) warm: Duration,
    pub(crate) timed: Duration,
    /// How much later than at the end of the timed part a fixed rate may be answered.
    pub(crate) grace: Option<Duration>,
    /// How long wrk runs, in whole seconds.
    pub(crate) wrk: Duration,
    /// wrk's threads and connections at the most: a quick pass has fewer.
    pub(crate) wrk_threads: usize,
    pub(crate) wrk_connections: usize,
    /// How long the kernel and the server may take to tidy up before memory is read.
    pub(crate) settle: Duration,
    /// How long the whole run may wait for other processes to end, and repeat what they disturbed.
    pub(crate) patience: Duration,
    /// A sitting in which others used more of a core is thrown away. None: none is.
    pub(crate) others_cores_max: Option<f64>,
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
        rounds: Rounds::Usual,
        warm: Duration::from_secs(1),
        timed: Duration::from_secs(3),
        grace: Some(Duration::from_millis(750)),
        wrk: Duration::from_secs(30),
        wrk_threads: 100,
        wrk_connections: 10_000,
        settle: Duration::from_secs(1),
        patience: Duration::from_secs(600),
        others_cores_max: Some(0.05),
        connections_max: usize::MAX,
        stall: &Stall {
            warm: Duration::from_millis(500),
            timed: Duration::from_secs(2),
            quiet: Duration::from_secs(3),
            watched: Duration::from_secs(20),
            deadline: None,
        },
    };

    /// The rows of the README in about 20 minutes, and a few more if others disturb it. Many short rounds say more of a ratio
    /// than few long ones.
    pub(crate) const README: Self = Self {
        rounds: Rounds::Readme,
        warm: Duration::from_millis(400),
        timed: Duration::from_millis(1500),
        wrk: Duration::from_secs(2),
        patience: Duration::from_secs(240),
        ..Self::FULL
    };

    /// Shows that everything works. Its figures are not worth quoting.
    pub(crate) const QUICK: Self = Self {
        rounds: Rounds::Each(1),
        warm: Duration::from_millis(100),
        timed: Duration::from_millis(300),
        // Whoever runs it may do other things meanwhile.
        grace: None,
        wrk: Duration::from_secs(1),
        wrk_threads: 4,
        wrk_connections: 100,
        settle: Duration::from_millis(200),
        patience: Duration::ZERO,
        others_cores_max: None,
        connections_max: 500,
        stall: &Stall {
            warm: Duration::from_millis(100),
            timed: Duration::from_millis(200),
            quiet: Duration::from_millis(100),
            watched: Duration::from_millis(1500),
            deadline: Some(Duration::from_millis(800)),
        },
    };

    /// Sets how long the timed parts last.
    pub(crate) fn set_timed(&mut self, timed: Duration) {
        (self.timed, self.wrk) = (timed, timed * WRK_TIMES);
    }

    pub(crate) fn connections(&self, row: &Row) -> usize {
        let most = if let Work::Wrk { .. } = row.work { self.wrk_connections } else { self.connections_max };
        row.connections.min(most)
    }

    /// Turns of each server in a row.
    pub(crate) fn rounds(&self, row: &Row) -> usize {
        match (self.rounds, row.work) {
            (Rounds::Each(rounds), _) => rounds,
            (Rounds::Readme, Work::Hold(_)) => ROUNDS_README_MEMORY,
            (Rounds::Readme, _) => ROUNDS_README,
            (Rounds::Usual, Work::Stop) => ROUNDS_STOP,
            (Rounds::Usual, _) if MAIN.contains(&row.name) => ROUNDS_MAIN,
            (Rounds::Usual, _) => ROUNDS,
        }
    }

    /// About how long one turn takes: what tells how long a run goes on.
    pub(crate) fn turn(&self, row: &Row) -> Duration {
        const START: Duration = Duration::from_millis(300);
        const OPENING: Duration = Duration::from_micros(100);
        let connections = self.connections(row) as u32;
        let own = match row.work {
            Work::Load { .. } => self.warm + self.timed,
            Work::Wrk { .. } | Work::Generator => self.wrk,
            Work::StartUp => Duration::ZERO,
            Work::Hold(_) => 3 * self.settle,
            Work::Stalled(stage) => {
                let deadline = self.stall.deadline.unwrap_or(stage.deadline());
                self.settle + 2 * (self.stall.warm + self.stall.timed) + deadline.max(self.stall.watched / 2)
            }
            Work::Churn => 4 * self.settle + OPENING * connections * CHURN_TIMES as u32,
            Work::Stop => self.warm,
        };
        START + own + OPENING * connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_rows_of_a_group_stand_together() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            let before = index.checked_sub(1).map(|index| ROWS[index].group);
            let is_first = ROWS[..index].iter().all(|other| other.group != row.group);
            assert!(is_first || before == Some(row.group), "{}", row.name);
        }
        assert!(MAIN.iter().chain(&README).all(|name| ROWS.iter().any(|row| row.name == *name)));
    }

    #[test]
    fn only_promises_are_for_two_servers() {
        let names =
            |contest| -> Vec<&str> { ROWS.iter().filter(|row| row.contest() == contest).map(|row| row.name).collect() };
        let promised = ["ws", "ws-small", "stalled-head", "stalled-body", "stalled-chunk", "churn", "stop"];
        assert_eq!(names(Contest::Promised), promised);
        assert_eq!(names(Contest::Generators), ["generator"]);
    }
}
