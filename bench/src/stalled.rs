//! Connections that stall in the middle of a request, and a client beside them that does not.
//!
//! ```text
//! all open, each answered once → load beside them (before) → all stall → load beside them (while) → quiet → until all are cut
//! ```
//!
//! A connection counts as cut at the end of its stream, in order or not. Its time begins before its last bytes are sent, so a
//! cut is never taken for later than it is by more than the client's own delay, nor for early when it is not.

use std::time::Duration;

use anyhow::Result;

use crate::clock::{SECOND_NS, now_ns, settle};
use crate::connection::{Arrival, Receiver};
use crate::exchange::Exchange;
use crate::figures::{Figures, OTHERS_CORES, P50_US, P99_US, USER_BYTES};
use crate::fleet::Fleet;
use crate::hold::warm_up;
use crate::load::{self, Course};
use crate::rows::{Pace, Plan, Stage};
use crate::server::Server;

pub(crate) const P50_BEFORE_US: &str = "latency_p50_before_us";
pub(crate) const P50_WHILE_US: &str = "latency_p50_while_us";
pub(crate) const P99_BEFORE_US: &str = "latency_p99_before_us";
pub(crate) const P99_WHILE_US: &str = "latency_p99_while_us";
pub(crate) const P99_RATIO: &str = "latency_p99_while_to_before";
/// Of the server, for one stalled connection and second.
pub(crate) const STALLED_CPU_US: &str = "cpu_us_per_connection_and_second";
/// Of the server, for all of them.
pub(crate) const STALLED_CPU_PERCENT: &str = "cpu_percent_of_a_core";
/// Connections that were cut while they were watched.
pub(crate) const CUT_PERCENT: &str = "cut_percent";
/// Connections that were answered 408 before.
pub(crate) const TOLD_PERCENT: &str = "answered_408_percent";
/// The first sign of an end on any connection, after its deadline.
pub(crate) const CUT_FIRST_MS: &str = "first_cut_after_deadline_ms";
/// The end of the last connection, after its deadline.
pub(crate) const CUT_LAST_MS: &str = "last_cut_after_deadline_ms";

/// The client beside the stalled connections.
pub(crate) const BESIDE_CONNECTIONS: usize = 16;
pub(crate) const BESIDE_PER_SECOND: u32 = 1_000;

/// How long before the first deadline the quiet time ends at the latest.
const QUIET_MARGIN: Duration = Duration::from_millis(200);
const TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 ";

impl Stage {
    /// What is sent before the silence.
    fn beginning(self) -> &'static [u8] {
        match self {
            Self::Head => b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Ag",
            Self::Body => {
                b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 64\r\n\r\n0123456789abcdef0123456789abcdef"
            }
            Self::Chunk => b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n40;name=val",
        }
    }

    /// Baiwan's own deadlines. All that a stalled body brings comes with its head, so it has the grace of a body and has
    /// earned nothing more.
    pub(crate) fn deadline(self) -> Duration {
        match self {
            Self::Head => Duration::from_secs(10),
            Self::Body | Self::Chunk => Duration::from_secs(5),
        }
    }
}

pub(crate) fn measure(server: &Server, plan: &Plan, count: usize, stage: Stage) -> Result<Figures> {
    let (hello, stall) = (Exchange::hello(), plan.stall);
    let deadline_ns = stall.deadline.unwrap_or(stage.deadline()).as_nanos() as u64;
    warm_up(server, &mut Receiver::new())?;
    let pace = Pace::Rate { per_second: BESIDE_PER_SECOND };
    // What becomes of its latency is what is measured, so nobody is asked to keep up.
    let course = Course { warm: stall.warm, timed: stall.timed, grace: None };
    let beside = || load::measure(server, &hello, pace, BESIDE_CONNECTIONS, course);
    settle(plan.settle);
    let user = server.user_bytes()?;
    let mut stalled = Fleet::open(server.address(), count, &hello)?;

    let before = beside()?;
    let began = begin_all(&stalled, stage)?;
    let meanwhile = beside()?;
    let mut figures = latencies(&before, &meanwhile);
    figures.insert(USER_BYTES, (server.user_bytes()? as f64 - user as f64) / count as f64);
    let first_deadline = began[0] + deadline_ns;
    let left = Duration::from_nanos(first_deadline.saturating_sub(now_ns())).saturating_sub(QUIET_MARGIN);
    let quiet = quiet_figures(server, stall.quiet.min(left), count)?;
    // What overran the deadline was not measured while they stalled.
    let in_time = !left.is_zero() && now_ns() < first_deadline;
    if in_time {
        figures.extend(quiet);
    } else {
        eprintln!("the machine was too slow: the first deadlines passed before the end of the measurement");
    }

    let cuts = watch(&mut stalled, began[0] + stall.watched.as_nanos() as u64)?;
    figures.extend(cut_figures(&cuts, &began, deadline_ns, in_time));
    Ok(figures)
}

/// Sends on every connection what it sends before it stalls. Returns when each began to.
fn begin_all(stalled: &Fleet, stage: Stage) -> Result<Vec<u64>> {
    let begin = |index| {
        let now = now_ns();
        anyhow::ensure!(stalled.send_or_end(index, stage.beginning())?, "connection {index} was closed by the server");
        Ok(now)
    };
    (0..stalled.len()).map(begin).collect()
}

fn latencies(before: &Figures, meanwhile: &Figures) -> Figures {
    Figures::from([
        (P50_BEFORE_US, before[P50_US]),
        (P50_WHILE_US, meanwhile[P50_US]),
        (P99_BEFORE_US, before[P99_US]),
        (P99_WHILE_US, meanwhile[P99_US]),
        (P99_RATIO, meanwhile[P99_US] / before[P99_US]),
        // Each of the two can be disturbed.
        (OTHERS_CORES, before[OTHERS_CORES].max(meanwhile[OTHERS_CORES])),
    ])
}

/// The server's CPU time while nobody sends anything.
fn quiet_figures(server: &Server, quiet: Duration, count: usize) -> Result<Figures> {
    let (begin, used) = (now_ns(), server.cpu_ns()?);
    settle(quiet);
    let (cpu_ns, wall_ns) = ((server.cpu_ns()? - used) as f64, (now_ns() - begin) as f64);
    let connection_seconds = count as f64 * wall_ns / SECOND_NS as f64;
    Ok(Figures::from([
        (STALLED_CPU_US, cpu_ns / 1000.0 / connection_seconds),
        (STALLED_CPU_PERCENT, 100.0 * cpu_ns / wall_ns),
    ]))
}

/// How a stalled connection ended.
#[derive(Clone, Copy, Default, Debug)]
struct Cut {
    /// The first byte or the end, whatever came first.
    first_ns: Option<u64>,
    end_ns: Option<u64>,
    /// It was answered 408.
    told: bool,
}

/// Watches until all are cut, or for as long as they are watched.
fn watch(stalled: &mut Fleet, until_ns: u64) -> Result<Vec<Cut>> {
    let mut cuts = vec![Cut::default(); stalled.len()];
    let mut left = cuts.len();
    let mut ready = Vec::new();
    while left > 0 && now_ns() < until_ns {
        stalled.wait(&mut ready)?;
        for &index in &ready {
            let cut = &mut cuts[index];
            while cut.end_ns.is_none() {
                let arrival = stalled.arrival(index)?;
                let now = now_ns();
                match arrival {
                    Arrival::Nothing => break,
                    Arrival::Bytes(bytes) => cut.told |= cut.first_ns.is_none() && bytes.starts_with(TIMEOUT_ANSWER),
                    Arrival::End => {
                        cut.end_ns = Some(now);
                        left -= 1;
                        stalled.end(index);
                    }
                }
                cut.first_ns.get_or_insert(now);
            }
        }
    }
    Ok(cuts)
}

/// The figures of the cuts; `began` is when each connection's deadline began. Unless they were watched `in_time`, before the
/// first deadline, nothing can be said about the first; and nothing about the last before it has come.
fn cut_figures(cuts: &[Cut], began: &[u64], deadline_ns: u64, in_time: bool) -> Figures {
    let after_deadline =
        |(time_ns, began): (Option<u64>, &u64)| Some((time_ns? as f64 - (began + deadline_ns) as f64) / 1_000_000.0);
    let percent = |count: usize| 100.0 * count as f64 / cuts.len() as f64;
    let ended = cuts.iter().filter(|cut| cut.end_ns.is_some()).count();
    let mut figures = Figures::from([
        (CUT_PERCENT, percent(ended)),
        (TOLD_PERCENT, percent(cuts.iter().filter(|cut| cut.told).count())),
    ]);
    let firsts = cuts.iter().map(|cut| cut.first_ns).zip(began).filter_map(after_deadline);
    if let Some(first) = firsts.min_by(f64::total_cmp).filter(|_| in_time) {
        figures.insert(CUT_FIRST_MS, first);
    }
    let lasts = cuts.iter().map(|cut| cut.end_ns).zip(began).filter_map(after_deadline);
    if let Some(last) = lasts.max_by(f64::total_cmp).filter(|_| ended == cuts.len()) {
        figures.insert(CUT_LAST_MS, last);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn cut(first_ms: u64, end_ms: u64) -> Cut {
        Cut { first_ns: Some(first_ms * MS), end_ns: Some(end_ms * MS), told: true }
    }

    #[test]
    fn a_cut_is_measured_from_its_own_deadline() {
        let figures = cut_figures(&[cut(1_040, 1_050), cut(1_300, 1_400)], &[10 * MS, 310 * MS], 1_000 * MS, true);
        assert_eq!((figures[CUT_FIRST_MS], figures[CUT_LAST_MS]), (-10.0, 90.0));
        assert_eq!((figures[CUT_PERCENT], figures[TOLD_PERCENT]), (100.0, 100.0));
    }

    #[test]
    fn the_last_cut_is_not_known_before_it_has_come() {
        let figures = cut_figures(&[cut(1_040, 1_050), Cut::default()], &[0, 0], 1_000 * MS, true);
        assert_eq!((figures[CUT_PERCENT], figures[TOLD_PERCENT], figures[CUT_FIRST_MS]), (50.0, 50.0, 40.0));
        assert_eq!(figures.get(CUT_LAST_MS), None);
    }

    #[test]
    fn nothing_is_said_about_the_first_cut_when_nobody_watched() {
        let figures = cut_figures(&[cut(1_040, 1_050)], &[0], 1_000 * MS, false);
        assert_eq!((figures.get(CUT_FIRST_MS), figures[CUT_LAST_MS]), (None, 50.0));
    }

    #[test]
    fn a_stalled_request_has_begun_and_not_ended() {
        let end = |bytes: &[u8]| memchr::memmem::find(bytes, b"\r\n\r\n").map(|end| end + 4);
        let [head, body, chunk] = [Stage::Head, Stage::Body, Stage::Chunk].map(Stage::beginning);
        assert_eq!(end(head), None);
        let part = &body[end(body).unwrap()..];
        assert!(!part.is_empty() && part.len() < 64);
        let line = &chunk[end(chunk).unwrap()..];
        assert!(line.contains(&b';') && !line.contains(&b'\n'));
    }
}
