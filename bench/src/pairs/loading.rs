//! A sitting with the load generator: one for each side, whose connections stay open while the other has its turns.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, anyhow, ensure};
use baiwan_load::{Observer, Phase, Report, Run, Second};
use bench::proc_files::{MachineTime, SoftInterrupts, SoftTime};

use super::rows::Plan;
use super::turns::{OURS, THEIRS, Taker, Turns};
use crate::clock::{SECOND_NS, now_ns};
use crate::exchange::Exchange;
use crate::figures::{Figures, LOAD_CORES};
use crate::load::{self, Course};
use crate::rows::Pace;
use crate::server::Server;

/// Loads both servers in turns. Returns what each pair gave, ours first.
pub(super) fn sit(
    servers: [&Server; 2],
    exchange: &Exchange,
    pace: Pace,
    connections: usize,
    plan: &Plan,
) -> Result<Vec<[Figures; 2]>> {
    let turns = Turns::new(pace != Pace::ConnectEach, plan.pairs);
    let sides = servers.map(|server| Target {
        address: server.address(),
        pid: server.pid(),
        soft_interrupts: server.soft_interrupts(),
    });
    let run = |side: usize| load_in_turns(&sides[side], exchange, pace, connections, plan, turns.of(side));
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(THEIRS));
        let ours = run(OURS);
        (ours, theirs.join().unwrap_or_else(|_| Err(anyhow!("its load panicked"))))
    });
    let (ours, theirs) = (ours.context("Baiwan")?, theirs.context("the other")?);
    Ok(ours.into_iter().zip(theirs).map(|(ours, theirs)| [ours, theirs]).collect())
}

/// A server, as its load knows it.
struct Target {
    address: SocketAddrV4,
    pid: u32,
    soft_interrupts: SoftInterrupts,
}

/// One side: what each of its turns gave.
fn load_in_turns(
    target: &Target,
    exchange: &Exchange,
    pace: Pace,
    connections: usize,
    plan: &Plan,
    taker: Taker<'_>,
) -> Result<Vec<Figures>> {
    let course = Course { warm: plan.warm, timed: plan.timed, grace: None };
    let mut load_plan = load::plan(target.address, exchange, pace, connections, course);
    let opening = load_plan.phases.len() - 3;
    let turn = load_plan.phases[opening..opening + 2].to_vec();
    load_plan.phases.splice(opening..opening + 2, std::iter::repeat_n(turn, plan.pairs).flatten());
    let run = Run {
        command: String::new(),
        url: format!("http://{}", target.address),
        workers: Some(1),
        server_pid: Some(target.pid),
        every: load::NEVER,
        worker: &load::worker,
    };
    let mut pacer =
        Pacer { taker, soft_interrupts: target.soft_interrupts, warms_up: false, begins: Vec::new(), ends: Vec::new() };
    let report = baiwan_load::run(&load_plan, &run, &mut pacer)?;
    ensure!(!report.interrupted, "the load was stopped");
    let timed = (0..plan.pairs).map(|pair| opening + 2 * pair + 1);
    timed.map(|phase| pacer.figures(&report, phase, connections, pace)).collect()
}

/// Begins a phase that begins a turn when the turn has come, and keeps what the machine had used at both ends of each phase.
struct Pacer<'a> {
    taker: Taker<'a>,
    soft_interrupts: SoftInterrupts,
    /// The phase before was a warm-up: the turn goes on.
    warms_up: bool,
    begins: Vec<Option<Moment>>,
    /// Of the phases before the last.
    ends: Vec<Option<Moment>>,
}

#[derive(Clone, Copy)]
struct Moment {
    machine: MachineTime,
    soft: SoftTime,
    at_ns: u64,
}

impl Pacer<'_> {
    fn moment(&self) -> Option<Moment> {
        Some(Moment { machine: MachineTime::read().ok()?, soft: self.soft_interrupts.read(), at_ns: now_ns() })
    }

    fn figures(&self, report: &Report, phase: usize, connections: usize, pace: Pace) -> Result<Figures> {
        load::check(report, phase, connections, pace)?;
        let part = &report.phases[phase];
        let ends = self.begins.get(phase).copied().flatten().zip(self.ends.get(phase).copied().flatten());
        let (begin, end) = ends.context("/proc/stat cannot be read")?;
        let (soft, wall_ns) = (end.soft.since(begin.soft), end.at_ns - begin.at_ns);
        let ours_s = part.client_cpu_seconds + part.server_cpu_seconds.unwrap_or_default();
        let ours_ns = (ours_s * SECOND_NS as f64) as u64 + soft.sum_ns();
        let mut figures = load::figures(part, soft, end.machine.others_cores(begin.machine, ours_ns, wall_ns));
        figures.insert(LOAD_CORES, part.client_cpu_seconds * SECOND_NS as f64 / wall_ns as f64);
        Ok(figures)
    }
}

impl Observer for Pacer<'_> {
    fn phase(&mut self, _index: usize, phase: &Phase) {
        let is_warm_up = matches!(phase, Phase::Closed { warm_up: true, .. } | Phase::Rate { warm_up: true, .. });
        if !self.begins.is_empty() {
            self.ends.push(self.moment());
        }
        if !std::mem::replace(&mut self.warms_up, is_warm_up) {
            self.taker.wait_next();
        }
        self.begins.push(self.moment());
    }

    fn second(&mut self, _second: &Second) {}
}
