//! Requests from the load generator, which is this program as a process of its own; see the crate `baiwan-load`.
//!
//! Opening and closing connections are phases of their own, which are not timed, and so is warming up. A wrong answer, an error
//! or a lost connection in the timed phase fails the measurement, and so does a server that does not keep up with a fixed rate:
//! its latencies would only tell how long the measurement took.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use baiwan_load::{Observer, Phase, PhaseReport, Plan, Report, Run, Second, Sources};
use bench::proc_files::{MachineTime, SoftInterrupts, SoftTime};

use crate::clock::{SECOND_NS, now_ns};
use crate::exchange::Exchange;
use crate::figures::{CPU_US, Figures, OTHERS_CORES, P50_US, P99_US, REQUESTS_PER_SECOND};
use crate::rows::Pace;
use crate::server::Server;

/// The word that makes this program a worker of the load generator.
pub(crate) const WORKER: &str = "load-worker";

/// Connections that are opened at the same time: they fit into the backlog that any server asks for.
const OPENING_MAX: u64 = 100;
/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same at a fixed rate, where a server that does not keep up is given up on this time after the end.
const TIMEOUT_RATE: Duration = Duration::from_secs(5);
/// Addresses to connect from: ports of one would not suffice for all connections that are open or closing.
const SOURCES: Sources = Sources { first: IpAddr::V4(Ipv4Addr::new(127, 2, 0, 1)), count: 1 << 10 };
/// Nobody is told how a run goes: reading the server's memory meanwhile would disturb it.
pub(crate) const NEVER: Duration = Duration::from_secs(86_400);

/// How long the parts of a load are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) warm: Duration,
    pub(crate) timed: Duration,
    /// A server that answers the requests of a fixed rate so much later does not keep up. None: that is not asked.
    pub(crate) grace: Option<Duration>,
}

/// Runs a load and returns the figures of its timed part.
pub(crate) fn measure(
    server: &Server,
    exchange: &Exchange,
    pace: Pace,
    connections: usize,
    course: Course,
) -> Result<Figures> {
    let (report, usage) = run(&plan(server.address(), exchange, pace, connections, course), server)?;
    // The phases before the last, which closes.
    let timed = report.phases.len().checked_sub(2).context("the load was stopped")?;
    check(&report, timed, connections, pace)?;
    if let (Pace::Rate { per_second }, Some(grace)) = (pace, course.grace) {
        check_rate(&report.phases[timed], per_second, course.timed + grace)?;
    }
    Ok(figures(&report.phases[timed], usage.soft_time(timed), usage.others_cores(&report, timed)))
}

/// Carries out a plan against a server.
pub(crate) fn run(plan: &Plan, server: &Server) -> Result<(Report, MachineUsage)> {
    let run = Run {
        command: String::new(),
        url: format!("http://{}", server.address()),
        workers: Some(1),
        server_pid: Some(server.pid()),
        every: NEVER,
        worker: &worker,
    };
    let mut usage = MachineUsage::new(server.soft_interrupts());
    let report = baiwan_load::run(plan, &run, &mut usage)?;
    ensure!(!report.interrupted, "the load was stopped");
    Ok((report, usage))
}

/// The command that starts a worker: this program.
pub(crate) fn worker() -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "bench".into());
    let mut command = Command::new(program);
    command.arg(WORKER);
    command
}

/// Opening, unless each request opens a connection of its own; warming up; the timed part; closing.
pub(crate) fn plan(address: SocketAddrV4, exchange: &Exchange, pace: Pace, connections: usize, course: Course) -> Plan {
    let phase = |duration, warm_up| match pace {
        Pace::Rate { per_second } => Phase::Rate { per_second: per_second.into(), duration, warm_up },
        Pace::Closed { .. } | Pace::ConnectEach => closed(duration, warm_up),
    };
    let connect_each = pace == Pace::ConnectEach;
    let opening = Phase::Open { ramp: Duration::ZERO, ask: true, opening_max: OPENING_MAX };
    // Where each request opens a connection, none is opened before.
    let phases = (!connect_each).then_some(opening).into_iter();
    Plan {
        request: exchange.request().to_vec(),
        pipeline: if let Pace::Closed { pipeline } = pace { pipeline } else { 1 },
        connect_each,
        timeout: Some(if matches!(pace, Pace::Rate { .. }) { TIMEOUT_RATE } else { TIMEOUT }),
        expect_status: Some(200),
        expect_body: exchange.body().map(<[u8]>::to_vec),
        phases: phases.chain([phase(course.warm, true), phase(course.timed, false), Phase::Close]).collect(),
        ..bare(address, connections)
    }
}

/// A plan without requests and phases. A connection that is lost stays lost, and counts.
pub(crate) fn bare(address: SocketAddrV4, connections: usize) -> Plan {
    Plan { sources: Some(SOURCES), timeout: Some(TIMEOUT), ..Plan::new(address.to_string(), connections as u64) }
}

pub(crate) fn closed(duration: Duration, warm_up: bool) -> Phase {
    Phase::Closed { duration: Some(duration), requests: None, each: None, outstanding_max: None, warm_up }
}

/// Fails unless all connections were there and every request of the timed phase was answered right.
pub(crate) fn check(report: &Report, timed: usize, connections: usize, pace: Pace) -> Result<()> {
    let phase = &report.phases[timed];
    if phase.errors > 0 || phase.lost > 0 {
        let mut causes: Vec<_> = report.error_details.iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let causes: Vec<String> = causes.iter().take(2).map(|(cause, count)| format!("{cause} ({count})")).collect();
        bail!(
            "{} errors and {} lost connections beside {} answers: {}",
            phase.errors,
            phase.lost,
            phase.answered,
            causes.join("; ")
        );
    }
    if pace != Pace::ConnectEach {
        let open = report.phases[..=timed].iter().map(|phase| phase.open).min().unwrap_or_default();
        ensure!(open == connections as u64, "only {open} of {connections} connections were open");
    }
    ensure!(phase.answered > 0, "no request was answered in the timed part");
    Ok(())
}

fn check_rate(phase: &PhaseReport, per_second: u32, most: Duration) -> Result<()> {
    let rate = phase.answered as f64 / phase.seconds;
    ensure!(
        phase.seconds <= most.as_secs_f64(),
        "does not keep up: {rate:.0} requests/s were answered, {per_second} were asked for"
    );
    Ok(())
}

/// What a timed part gave.
pub(crate) fn figures(phase: &PhaseReport, soft: SoftTime, others_cores: f64) -> Figures {
    const MICROSECONDS: f64 = 1e6;
    let mut figures = Figures::from([
        (REQUESTS_PER_SECOND, phase.answered as f64 / phase.seconds),
        (P50_US, phase.latency.p50 * MICROSECONDS),
        (P99_US, phase.latency.p99 * MICROSECONDS),
        (OTHERS_CORES, others_cores),
    ]);
    if let Some(seconds) = phase.server_cpu_seconds {
        let seconds = seconds + soft.server_ns as f64 / SECOND_NS as f64;
        figures.insert(CPU_US, seconds * MICROSECONDS / phase.answered as f64);
    }
    figures
}

/// What the whole machine has used at the begin of each phase, where the one before ends.
pub(crate) struct MachineUsage {
    soft_interrupts: SoftInterrupts,
    moments: Vec<Option<Moment>>,
}

#[derive(Clone, Copy)]
struct Moment {
    machine: MachineTime,
    soft: SoftTime,
    at_ns: u64,
}

impl MachineUsage {
    fn new(soft_interrupts: SoftInterrupts) -> Self {
        Self { soft_interrupts, moments: Vec::new() }
    }

    /// The begin of a phase that another one follows, and its end.
    fn ends_of(&self, phase: usize) -> Option<(Moment, Moment)> {
        let moment = |index: usize| self.moments.get(index).copied().flatten();
        Some((moment(phase)?, moment(phase + 1)?))
    }

    /// What the soft interrupts of both cores used in a phase.
    fn soft_time(&self, phase: usize) -> SoftTime {
        self.ends_of(phase).map(|(begin, end)| end.soft.since(begin.soft)).unwrap_or_default()
    }

    /// What others than server and load used in a phase, in cores.
    pub(crate) fn others_cores(&self, report: &Report, phase: usize) -> f64 {
        let Some((begin, end)) = self.ends_of(phase) else { return 0.0 };
        let soft_ns = self.soft_time(phase).sum_ns();
        let phase = &report.phases[phase];
        let ours_s = phase.client_cpu_seconds + phase.server_cpu_seconds.unwrap_or_default();
        let ours_ns = (ours_s * SECOND_NS as f64) as u64 + soft_ns;
        end.machine.others_cores(begin.machine, ours_ns, end.at_ns - begin.at_ns)
    }
}

impl Observer for MachineUsage {
    fn phase(&mut self, _index: usize, _phase: &Phase) {
        let moment = |machine| Moment { machine, soft: self.soft_interrupts.read(), at_ns: now_ns() };
        self.moments.push(MachineTime::read().ok().map(moment));
    }

    fn second(&mut self, _second: &Second) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Pace = Pace::Closed { pipeline: 16 };
    const COURSE: Course =
        Course { warm: Duration::from_secs(1), timed: Duration::from_secs(3), grace: Some(Duration::from_secs(1)) };

    fn report(phases: &[(u64, u64, u64)]) -> Report {
        let phase = |(open, answered, errors): &(u64, u64, u64)| PhaseReport {
            open: *open,
            answered: *answered,
            errors: *errors,
            seconds: 3.0,
            ..PhaseReport::default()
        };
        let json = serde_json::json!({
            "version": 1, "started": "", "command": "", "url": "", "interrupted": false, "seconds": 1.0,
            "connections": baiwan_load::Connections::default(), "requests": baiwan_load::Requests::default(),
            "latency": baiwan_load::Quantiles::default(), "latency_curve": [],
            "send_delay": baiwan_load::Quantiles::default(), "errors": {}, "error_details": { "status: 503": 7 },
            "statuses": {}, "bytes": baiwan_load::Bytes::default(), "events": null, "server": null,
            "client": baiwan_load::Client::default(),
            "phases": phases.iter().map(phase).collect::<Vec<_>>(), "series": [], "expectations": [],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_the_kernel_does_for_a_server_in_a_thread_of_its_own_is_part_of_its_cpu_time() {
        let phase =
            PhaseReport { answered: 1_000, seconds: 1.0, server_cpu_seconds: Some(0.009), ..PhaseReport::default() };
        let soft = SoftTime { client_ns: 5_000_000, server_ns: 1_000_000 };
        assert!((figures(&phase, soft, 0.0)[CPU_US] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn an_error_in_the_timed_phase_fails_with_its_cause_and_one_before_does_not() {
        check(&report(&[(64, 64, 2), (64, 100, 1), (64, 1_000, 0), (0, 0, 0)]), 2, 64, CLOSED).unwrap();
        let wrong = check(&report(&[(64, 64, 0), (64, 100, 0), (64, 1_000, 7), (0, 0, 0)]), 2, 64, CLOSED);
        let message = wrong.unwrap_err().to_string();
        assert!(message.contains("7 errors") && message.contains("status: 503 (7)"), "{message}");
    }

    #[test]
    fn connections_that_are_not_there_fail_unless_each_request_has_its_own() {
        let missing = report(&[(63, 64, 0), (63, 100, 0), (63, 1_000, 0), (0, 0, 0)]);
        assert!(check(&missing, 2, 64, CLOSED).unwrap_err().to_string().contains("63 of 64"));
        check(&missing, 2, 64, Pace::ConnectEach).unwrap();
    }

    #[test]
    fn a_server_that_does_not_keep_up_is_told_from_one_that_does() {
        let phase = |seconds| PhaseReport { answered: 30_000, seconds, ..PhaseReport::default() };
        check_rate(&phase(3.02), 10_000, COURSE.timed + Duration::from_secs(1)).unwrap();
        let message = check_rate(&phase(6.0), 10_000, COURSE.timed + Duration::from_secs(1)).unwrap_err().to_string();
        assert!(message.contains("5000 requests/s were answered, 10000 were"), "{message}");
    }

    #[test]
    fn opening_is_a_phase_of_its_own_unless_each_request_opens() {
        let address = "127.0.0.1:80".parse().unwrap();
        let names = |pace| -> Vec<&str> {
            plan(address, &Exchange::hello(), pace, 64, COURSE).phases.iter().map(Phase::name).collect()
        };
        assert_eq!(names(CLOSED), ["open", "warm-up", "closed loop", "close"]);
        assert_eq!(names(Pace::ConnectEach), ["warm-up", "closed loop", "close"]);
        assert_eq!(names(Pace::Rate { per_second: 10 }), ["open", "warm-up", "open loop", "close"]);
        assert_eq!(plan(address, &Exchange::hello(), CLOSED, 64, COURSE).pipeline, 16);
    }
}
