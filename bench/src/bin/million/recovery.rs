//! kill -9 of the server under load, and a restart: how long it takes until 99 % of the connections are back.

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::Result;
use baiwan_load::{Observer, Phase, Plan, Report, Run, Second};
use serde_json::json;

use crate::cli::Options;
use crate::holding::{self, OPENING_MAX};
use crate::report::{self, Outcome, Wanted};
use crate::servers::{self, Server};

/// How often the number of connections is looked at.
const EVERY: Duration = Duration::from_millis(50);
const BEFORE: Duration = Duration::from_secs(5);
const DURING: Duration = Duration::from_secs(20);
const AFTER: Duration = Duration::from_secs(5);
/// The share that must be back.
const BACK: f64 = 0.99;

/// The phases, by their place in the plan.
const STEADY: usize = 1;
const KILLED: usize = 2;
const AGAIN: usize = 3;

pub(crate) fn run(options: &Options, words: &[String]) -> Result<Outcome> {
    let server = Server::start(options.server, false, options.connections)?;
    let address = server.address;
    let request = holding::request(options.server, &server);
    let mut watch = Watch {
        server,
        wanted: (options.connections as f64 * BACK).ceil() as u64,
        killed: None,
        fell: false,
        back: None,
        user_bytes_max: 0,
        failure: None,
    };
    let plan = plan(options, address, request);
    let run = Run {
        command: report::command(words),
        url: format!("http://{address}"),
        workers: None,
        server_pid: None,
        every: EVERY,
        worker: &crate::worker,
    };
    let load = baiwan_load::run(&plan, &run, &mut watch)?;
    if let Some(failure) = watch.failure.take() {
        return Err(failure.context("cannot restart the server"));
    }
    Ok(outcome(options, &watch, &load))
}

fn plan(options: &Options, address: SocketAddrV4, request: Vec<u8>) -> Plan {
    let rate = |duration| Phase::Rate { per_second: options.rate, duration, warm_up: false };
    Plan {
        request,
        reconnect: true,
        sources: Some(holding::sources()),
        timeout: Some(holding::TIMEOUT),
        expect_status: Some(200),
        phases: vec![
            Phase::Open { ramp: Duration::ZERO, ask: true, opening_max: OPENING_MAX },
            rate(BEFORE),
            rate(DURING),
            rate(AFTER),
            Phase::Close,
        ],
        ..Plan::new(address.to_string(), options.connections)
    }
}

fn outcome(options: &Options, watch: &Watch, load: &Report) -> Outcome {
    let phase = |index: usize| load.phases.get(index).cloned().unwrap_or_default();
    let [steady, killed, again] = [STEADY, KILLED, AGAIN].map(phase);
    let rows = [
        ("open before", steady.open.to_string()),
        (
            "from the kill until 99 % are open again",
            watch.back.map_or("never while it was watched".to_owned(), |back| format!("{:.2} s", back.as_secs_f64())),
        ),
        ("open at the end", again.open.to_string()),
        ("requests a second meanwhile", format!("{:.0}", options.rate)),
        ("latency before: p50, p99, p99.9, max", report::quantiles(&steady)),
        ("in the 20 s from the kill on", report::quantiles(&killed)),
        ("after", report::quantiles(&again)),
        ("requests that were cut by the kill", killed.errors.to_string()),
        ("errors after", again.errors.to_string()),
        ("the new server's memory at most (PSS)", report::mebibytes(watch.user_bytes_max)),
    ];
    let mut markdown = report::heading("Killed and back", options, &watch.server, load);
    markdown.push_str("| | |\n|---|---|\n");
    for (label, value) in &rows {
        let _ = writeln!(markdown, "| {label} | {value} |");
    }
    let wanted = Wanted(vec![
        ("99 % are back while it is watched", watch.back.is_some()),
        ("all are open at the end, no errors after", again.open == options.connections && again.errors == 0),
        ("the run was whole", !load.interrupted && load.client.workers_died == 0),
    ]);
    markdown.push_str(&wanted.markdown());
    let json = json!({
        "server": watch.server.title,
        "connections": options.connections,
        "back_seconds": watch.back.map(|back| back.as_secs_f64()),
        "server_user_bytes_max": watch.user_bytes_max,
        "wanted": wanted.json(),
        "load": load,
    });
    Outcome { markdown, json, wanted }
}

/// Kills the server when its phase begins, starts it again, and sees when the connections are back.
struct Watch {
    server: Server,
    wanted: u64,
    killed: Option<Instant>,
    fell: bool,
    back: Option<Duration>,
    user_bytes_max: u64,
    failure: Option<anyhow::Error>,
}

impl Observer for Watch {
    fn phase(&mut self, index: usize, phase: &Phase) {
        crate::say(if index == KILLED { "killed" } else { phase.name() });
        if index == KILLED {
            self.killed = Some(servers::now());
            self.failure = self.server.kill_and_restart().err();
        }
    }

    fn second(&mut self, second: &Second) {
        let Some(killed) = self.killed else { return };
        self.user_bytes_max = self.user_bytes_max.max(self.server.user_bytes());
        self.fell |= second.open < self.wanted;
        if self.fell && self.back.is_none() && second.open >= self.wanted {
            self.back = Some(killed.elapsed());
        }
    }
}
