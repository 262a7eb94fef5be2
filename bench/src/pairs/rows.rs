//! What is measured in pairs: the rows, what is wanted of each, and how long each takes.

use std::time::Duration;

use crate::bounds::Bound;
use crate::exchange::Exchange;
use crate::figures::{CPU_US, LOAD_CORES, P99_US, REQUESTS_PER_SECOND};
use crate::peers::{AXUM, BAIWAN};
use crate::rows::Pace;

pub(super) const NGINX: &str = "nginx";
const EPOLL: &str = "epoll";
const BARE: &str = "bare";
const HYPER: &str = "hyper";
const MAY: &str = "may";
const FASTHTTP: &str = "fasthttp";
/// Servers of a short pass: those of the build that other short passes need, and nginx.
const QUICK: [&str; 5] = [BAIWAN, AXUM, NGINX, EPOLL, HYPER];

/// A row: Baiwan beside one other.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) ours: Side,
    pub(super) theirs: Side,
    pub(super) work: Work,
    pub(super) connections: usize,
    /// What is compared, and what is wanted of the ratio.
    pub(super) figure: &'static str,
    pub(super) aim: Bound,
    /// What is shown beside it.
    pub(super) beside: &'static [&'static str],
}

/// A server, as it takes part in a row.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) server: &'static str,
    /// Threads of the server. With two, the second is on the client's core.
    pub(super) workers: usize,
    /// Connections that were answered once and stay open beside those that ask. The limit of open files may allow fewer.
    pub(super) idle: usize,
}

/// What is done in a turn.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Requests from the load generator.
    Load { exchange: fn() -> Exchange, pace: Pace },
    /// Bodies of this number of bytes to `/count`, or to another path of nginx, one after the other on one connection.
    Upload { bytes: u64, path_of_nginx: &'static str },
}

const HELLO: Work = load(Exchange::hello, 1);
const PIPELINED: Work = load(Exchange::hello, 16);
const ECHO: Work = load(Exchange::echo, 1);
const SLEEP: Work = load(Exchange::sleep, 1);
const WORK: Work = load(Exchange::work, 1);
const CONNECT: Work = Work::Load { exchange: || Exchange::hello().closing(), pace: Pace::ConnectEach };
const RATE: Work = Work::Load { exchange: Exchange::hello, pace: Pace::Rate { per_second: 10_000 } };
const SPEED: &[&str] = &[REQUESTS_PER_SECOND];

/// All rows, in the order of the report.
pub(super) const ROWS: [Row; 29] = [
    row("get-64-axum", "`GET /`", AXUM, 64, HELLO).at_most(0.88),
    row("get-1000-axum", "`GET /`", AXUM, 1_000, HELLO).at_most(0.76),
    row("get-9000-axum", "`GET /`", AXUM, 9_000, HELLO).at_most(0.58),
    row("get-64-epoll", "`GET /`", EPOLL, 64, HELLO).at_most(1.12),
    row("get-1000-epoll", "`GET /`", EPOLL, 1_000, HELLO).at_most(1.12),
    row("get-9000-epoll", "`GET /`", EPOLL, 9_000, HELLO).at_most(1.08),
    row("bare-64-hyper", "`GET /`, no router", HYPER, 64, HELLO).with_ours(BARE),
    row("rate-axum", "`GET /`, 10,000 a second", AXUM, 9_000, RATE).at_most(1.0).beside(&[P99_US]),
    row("rate-nginx", "`GET /`, 10,000 a second", NGINX, 9_000, RATE).at_most(1.0).beside(&[P99_US]),
    row("pipelined-axum", "`GET /`, 16 outstanding", AXUM, 64, PIPELINED).at_most(0.2),
    row("pipelined-may", "`GET /`, 16 outstanding", MAY, 64, PIPELINED),
    row("connect-nginx", "connect, `GET /`, close", NGINX, 64, CONNECT).at_most(1.0),
    row("echo-fasthttp", "`POST /echo`, 1 KiB", FASTHTTP, 64, ECHO).at_most(0.85),
    row("sleep-may", "`GET /sleep`, 1 ms", MAY, 9_000, SLEEP).at_most(1.0),
    row("idle-0", "`GET /`, the same twice", BAIWAN, 64, HELLO),
    row("idle-1000", "`GET /` beside idle connections", BAIWAN, 64, HELLO).with_idle(1_000).at_most(1.03),
    row("idle-19000", "`GET /` beside idle connections", BAIWAN, 64, HELLO).with_idle(19_000).at_most(1.03),
    row("answer-0", "`GET /bytes/0`", NGINX, 16, load(|| Exchange::bytes(0), 1)),
    row("answer-1k", "`GET /bytes/1024`", NGINX, 16, load(|| Exchange::bytes(1 << 10), 1)),
    row("answer-64k", "`GET /bytes/65536`", NGINX, 16, load(|| Exchange::bytes(64 << 10), 1)).beside(SPEED),
    row("answer-1m", "`GET /bytes/1048576`", NGINX, 16, load(|| Exchange::bytes(1 << 20), 1)).beside(SPEED),
    row("answer-10m", "`GET /bytes/10485760`", NGINX, 4, load(|| Exchange::bytes(10 << 20), 1)).beside(SPEED),
    row("answer-64k-axum", "`GET /bytes/65536`", AXUM, 16, load(|| Exchange::bytes(64 << 10), 1)).beside(SPEED),
    row("answer-1m-axum", "`GET /bytes/1048576`", AXUM, 16, load(|| Exchange::bytes(1 << 20), 1)).beside(SPEED),
    row("upload-1m", "`POST /count`, 1 MiB", NGINX, 1, upload(1 << 20, "/count")).beside(SPEED),
    row("upload-1m-kept", "the same, nginx keeps it", NGINX, 1, upload(1 << 20, "/keep")).beside(SPEED),
    row("upload-64m", "`POST /count`, 64 MiB", NGINX, 1, upload(64 << 20, "/count")).beside(SPEED),
    row("upload-1g", "`POST /count`, 1 GiB", NGINX, 1, upload(1 << 30, "/count")).beside(SPEED),
    row("workers", "`GET /work`, 1 ms of CPU", BAIWAN, 64, WORK).with_two_workers(1.8),
];

const fn row(name: &'static str, title: &'static str, server: &'static str, connections: usize, work: Work) -> Row {
    Row {
        name,
        title,
        ours: Side::of(BAIWAN),
        theirs: Side::of(server),
        work,
        connections,
        figure: CPU_US,
        aim: Bound::None,
        beside: &[],
    }
}

const fn load(exchange: fn() -> Exchange, pipeline: u32) -> Work {
    Work::Load { exchange, pace: Pace::Closed { pipeline } }
}

const fn upload(bytes: u64, path_of_nginx: &'static str) -> Work {
    Work::Upload { bytes, path_of_nginx }
}

impl Side {
    const fn of(server: &'static str) -> Self {
        Self { server, workers: 1, idle: 0 }
    }
}

impl Row {
    const fn at_most(mut self, ratio: f64) -> Self {
        self.aim = Bound::AtMost(ratio);
        self
    }

    const fn beside(mut self, figures: &'static [&'static str]) -> Self {
        self.beside = figures;
        self
    }

    const fn with_ours(mut self, server: &'static str) -> Self {
        self.ours.server = server;
        self
    }

    const fn with_idle(mut self, idle: usize) -> Self {
        self.ours.idle = idle;
        self
    }

    /// Two workers, of whose answers there are to be so many times those of one.
    const fn with_two_workers(mut self, ratio: f64) -> Self {
        self.ours.workers = 2;
        self.figure = REQUESTS_PER_SECOND;
        self.aim = Bound::AtLeast(ratio);
        self.beside = &[LOAD_CORES];
        self
    }

    /// Whether it is part of a short pass.
    pub(super) fn is_quick(&self) -> bool {
        QUICK.contains(&self.theirs.server)
    }

    /// The figures that the report shows.
    pub(super) fn figures(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.figure).chain(self.beside.iter().copied())
    }
}

/// How thoroughly rows are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Sittings of a row, each with new processes: two processes of one program may differ for as long as they live, because of
    /// where their memory happens to lie.
    pub(super) sittings: usize,
    /// How long the whole run may go on with more sittings of rows in which others have disturbed many pairs.
    pub(super) patience: Duration,
    /// Pairs of a sitting.
    pub(super) pairs: usize,
    /// Of each turn, before it is timed.
    pub(super) warm: Duration,
    /// Of each turn.
    pub(super) timed: Duration,
    /// A pair in which others used more of a core does not count. None: all count.
    pub(super) others_cores_max: Option<f64>,
    /// Rows that want more connections, idle or not, get this many.
    pub(super) connections_max: usize,
    /// Uploads that are to be longer are cut to this.
    pub(super) upload_bytes_max: u64,
}

impl Plan {
    pub(super) const FULL: Self = Self {
        sittings: 3,
        patience: Duration::from_secs(60),
        pairs: 4,
        warm: Duration::from_millis(150),
        timed: Duration::from_millis(500),
        others_cores_max: Some(0.05),
        connections_max: usize::MAX,
        upload_bytes_max: u64::MAX,
    };

    /// Shows that everything works. Its figures are not worth quoting.
    pub(super) const QUICK: Self = Self {
        sittings: 1,
        patience: Duration::ZERO,
        pairs: 2,
        warm: Duration::from_millis(30),
        timed: Duration::from_millis(120),
        others_cores_max: None,
        connections_max: 500,
        upload_bytes_max: 64 << 20,
    };

    /// How long an upload is.
    pub(super) fn upload_bytes(&self, bytes: u64) -> u64 {
        bytes.min(self.upload_bytes_max)
    }

    /// How many pairs of a row must count, or another sitting is due.
    pub(super) fn counted_min(&self) -> usize {
        self.sittings * self.pairs / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_is_about_baiwan() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!([BAIWAN, BARE].contains(&row.ours.server), "{}", row.name);
            assert!(row.theirs.idle == 0 && row.theirs.workers == 1, "{}", row.name);
        }
    }

    #[test]
    fn both_servers_of_a_row_take_the_same_number_of_pairs_first() {
        for plan in [Plan::FULL, Plan::QUICK] {
            assert!(plan.pairs.is_multiple_of(2) && plan.sittings > 0);
        }
    }
}
