//! Keeps what a run has given so far, and makes the report of it.

use std::collections::BTreeMap;

use crate::clock::{SECOND_NS, now_ns};
use crate::kernel_memory;
use crate::plan::{Phase, Plan};
use crate::process;
use crate::report::{
    Bytes, Client, Connections, Events, PhaseReport, REPORT_VERSION, Report, Requests, Second, Server,
};
use crate::tally::Tally;

/// CPU time and memory at one moment. What cannot be read, because a process has ended, is absent.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    server_cpu_ns: Option<u64>,
    server_user_bytes: Option<u64>,
    client_cpu_ns: u64,
    kernel_bytes: Option<u64>,
}

impl Usage {
    fn read(server_pid: Option<u32>) -> Self {
        Self {
            server_cpu_ns: server_pid.and_then(|pid| process::cpu_ns(pid).ok()),
            server_user_bytes: server_pid.and_then(|pid| process::user_bytes(pid).ok()),
            client_cpu_ns: process::own_cpu_ns(server_pid).unwrap_or_default(),
            kernel_bytes: server_pid.and_then(|_| kernel_memory::bytes().ok()),
        }
    }
}

/// A phase that has ended, or goes on.
struct Part {
    phase: Phase,
    begin_ns: u64,
    end_ns: u64,
    before: Usage,
    after: Usage,
    tally: Tally,
}

/// A run so far.
pub(crate) struct Record {
    server_pid: Option<u32>,
    begin_ns: u64,
    started: String,
    start_usage: Usage,
    workers: u64,
    /// How workers died.
    deaths: BTreeMap<String, u64>,
    parts: Vec<Part>,
    series: Vec<Second>,
    /// What has come since the last second was told.
    second: Tally,
    user_bytes_max: u64,
}

impl Record {
    pub(crate) fn start(server_pid: Option<u32>, workers: u64) -> Self {
        Self {
            server_pid,
            begin_ns: now_ns(),
            started: format!("{:.0}", jiff::Timestamp::now()),
            start_usage: Usage::read(server_pid),
            workers,
            deaths: BTreeMap::new(),
            parts: Vec::new(),
            series: Vec::new(),
            second: Tally::default(),
            user_bytes_max: 0,
        }
    }

    pub(crate) fn begin(&mut self, phase: &Phase) {
        let (before, now) = (Usage::read(self.server_pid), now_ns());
        let tally = Tally::default();
        self.parts.push(Part { phase: phase.clone(), begin_ns: now, end_ns: now, before, after: before, tally });
    }

    /// Adds what one worker counted.
    pub(crate) fn add(&mut self, tally: &Tally) {
        self.second.add_beside(tally);
        if let Some(part) = self.parts.last_mut() {
            part.tally.add_beside(tally);
        }
    }

    /// A worker is gone, with what it had not told yet.
    pub(crate) fn worker_died(&mut self, how: String) {
        *self.deaths.entry(how).or_default() += 1;
    }

    /// Ends a second, or what there is of one at the end of a phase, with the gauges of all workers, and returns it.
    pub(crate) fn second(&mut self, open: u64, outstanding: u64) -> Second {
        let tally = std::mem::take(&mut self.second);
        let latency = tally.latency.quantiles();
        let second = Second {
            at: seconds(now_ns() - self.begin_ns),
            phase: self.parts.len().saturating_sub(1),
            open,
            outstanding,
            answered: tally.answered,
            errors: tally.errors_total(),
            events: tally.events,
            p50: latency.p50,
            p99: latency.p99,
            max: latency.max,
        };
        self.series.push(second.clone());
        let user_bytes = self.server_pid.and_then(|pid| process::user_bytes(pid).ok());
        self.user_bytes_max = self.user_bytes_max.max(user_bytes.unwrap_or_default());
        second
    }

    /// Ends a phase, with the gauges of all workers, as of the moment at which the last of them had something to say: to wait for one
    /// that says nothing is no part of it.
    pub(crate) fn end(&mut self, at_ns: u64, open: u64, outstanding: u64) {
        let Some(part) = self.parts.last_mut() else { return };
        part.end_ns = at_ns.max(part.begin_ns);
        part.after = Usage::read(self.server_pid);
        (part.tally.open, part.tally.outstanding) = (open, outstanding);
        self.user_bytes_max = self.user_bytes_max.max(part.after.server_user_bytes.unwrap_or_default());
    }

    pub(crate) fn report(&self, plan: &Plan, command: String, url: String, interrupted: bool) -> Report {
        let measured: Vec<&Part> = self.parts.iter().filter(|part| part.phase.is_measured()).collect();
        let mut tally = Tally::default();
        measured.iter().for_each(|part| tally.add_beside(&part.tally));
        let elapsed = seconds(measured.iter().map(|part| part.end_ns - part.begin_ns).sum());
        let per_second = |count: u64| if elapsed > 0.0 { count as f64 / elapsed } else { 0.0 };
        Report {
            version: REPORT_VERSION,
            started: self.started.clone(),
            command,
            url,
            interrupted,
            seconds: elapsed,
            connections: self.connections(plan),
            requests: Requests {
                sent: tally.sent,
                answered: tally.answered,
                per_second: answered_per_second(&measured),
            },
            latency: tally.latency.quantiles(),
            latency_curve: tally.latency.curve(),
            send_delay: tally.send_delay.quantiles(),
            errors: self.errors(),
            error_details: self.sum(|phase| !phase.is_warm_up(), |tally| &tally.details),
            statuses: tally.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect(),
            bytes: Bytes { sent: tally.bytes_sent, received: tally.bytes_received },
            events: plan.events.then(|| self.events(per_second(tally.events))),
            server: self.server_pid.map(|pid| self.server(pid, &measured, tally.answered)),
            client: self.client(&measured, tally.answered),
            phases: self.parts.iter().map(|part| self.phase(part)).collect(),
            series: self.series.clone(),
            expectations: Vec::new(),
        }
    }

    fn connections(&self, plan: &Plan) -> Connections {
        let mut connect = crate::Latencies::default();
        self.parts.iter().for_each(|part| connect.add(&part.tally.connect));
        let count = |of: fn(&Tally) -> u64| self.parts.iter().map(|part| of(&part.tally)).sum();
        let opening = self.parts.iter().find(|part| matches!(part.phase, Phase::Open { .. }));
        let alive = self.parts.iter().rfind(|part| part.phase != Phase::Close).map_or(0, |part| part.tally.open);
        Connections {
            wanted: plan.connections,
            opened: count(|tally| tally.opened),
            lost: count(|tally| tally.lost),
            reopened: count(|tally| tally.reopened),
            attempts_failed: count(|tally| tally.attempts_failed),
            failures: self.sum(|_| true, |tally| &tally.failures),
            alive,
            open_seconds: opening.map_or(0.0, |part| seconds(part.end_ns - part.begin_ns)),
            connect: connect.quantiles(),
        }
    }

    /// Events of the whole run: the first come while other streams are still being opened.
    fn events(&self, per_second: f64) -> Events {
        let mut tally = Tally::default();
        self.parts.iter().for_each(|part| tally.add_beside(&part.tally));
        Events {
            received: tally.events,
            per_second,
            missing: tally.events_missing,
            delay: tally.event_delay.quantiles(),
            interval: tally.event_interval.quantiles(),
        }
    }

    /// Errors of the whole run but for its warm-up: those of opening are no less errors.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors: BTreeMap<String, u64> = crate::ErrorCause::ALL.map(|cause| (cause.to_string(), 0)).into();
        let counted = self.parts.iter().filter(|part| !part.phase.is_warm_up());
        for (cause, count) in counted.flat_map(|part| &part.tally.errors) {
            *errors.entry(cause.to_string()).or_default() += count;
        }
        errors.insert("total".to_owned(), errors.values().sum());
        errors
    }

    fn sum(
        &self,
        counts: impl Fn(&Phase) -> bool,
        map: impl Fn(&Tally) -> &BTreeMap<String, u64>,
    ) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for (name, count) in self.parts.iter().filter(|part| counts(&part.phase)).flat_map(|part| map(&part.tally)) {
            *sum.entry(name.clone()).or_default() += count;
        }
        sum
    }

    fn server(&self, pid: u32, measured: &[&Part], answered: u64) -> Server {
        let cpu_ns: u64 = measured.iter().filter_map(|part| server_cpu_ns(part)).sum();
        let opening = self.parts.iter().find(|part| matches!(part.phase, Phase::Open { .. }));
        let grown = |of: fn(&Usage) -> Option<u64>| {
            let part = opening.filter(|part| part.tally.open > 0)?;
            let (before, after) = (of(&self.start_usage)?, of(&part.after)?);
            Some((after as f64 - before as f64) / part.tally.open as f64)
        };
        Server {
            pid,
            cpu_seconds: seconds(cpu_ns),
            cpu_seconds_per_request: (answered > 0).then(|| seconds(cpu_ns) / answered as f64),
            user_bytes_before: self.start_usage.server_user_bytes.unwrap_or_default(),
            user_bytes_max: self.user_bytes_max,
            user_bytes_per_connection: grown(|usage| usage.server_user_bytes),
            kernel_bytes_per_connection: grown(|usage| usage.kernel_bytes),
        }
    }

    fn client(&self, measured: &[&Part], answered: u64) -> Client {
        let cpu_ns: u64 = measured.iter().map(|part| client_cpu_ns(part)).sum();
        Client {
            workers: self.workers,
            workers_died: self.deaths.values().sum(),
            deaths: self.deaths.clone(),
            cpu_seconds: seconds(cpu_ns),
            cpu_seconds_per_request: (answered > 0).then(|| seconds(cpu_ns) / answered as f64),
            user_bytes: process::own_user_bytes(self.server_pid).unwrap_or_default(),
        }
    }

    fn phase(&self, part: &Part) -> PhaseReport {
        PhaseReport {
            name: part.phase.name().to_owned(),
            begin: seconds(part.begin_ns - self.begin_ns),
            seconds: seconds(part.end_ns - part.begin_ns),
            sent: part.tally.sent,
            answered: part.tally.answered,
            errors: part.tally.errors_total(),
            lost: part.tally.lost,
            open: part.tally.open,
            latency: part.tally.latency.quantiles(),
            server_cpu_seconds: server_cpu_ns(part).map(seconds),
            server_user_bytes: part.after.server_user_bytes,
            client_cpu_seconds: seconds(client_cpu_ns(part)),
        }
    }
}

/// Right answers a second of those phases in which any are asked for: to hold connections after a load makes it no slower.
fn answered_per_second(measured: &[&Part]) -> f64 {
    let asking = measured.iter().filter(|part| !matches!(part.phase, Phase::Hold { .. }));
    let (answered, ns) =
        asking.fold((0, 0), |(answered, ns), part| (answered + part.tally.answered, ns + part.end_ns - part.begin_ns));
    if ns > 0 { answered as f64 / seconds(ns) } else { 0.0 }
}

fn server_cpu_ns(part: &Part) -> Option<u64> {
    // A server that was started anew has used less than the one before.
    Some(part.after.server_cpu_ns?.saturating_sub(part.before.server_cpu_ns?))
}

fn client_cpu_ns(part: &Part) -> u64 {
    part.after.client_cpu_ns.saturating_sub(part.before.client_cpu_ns)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}
