//! What sending a request costs the load generator itself, and wrk: both in turns against Baiwan, the same request, as many
//! connections, one thread, from the first connection to the last.

use std::time::Duration;

use anyhow::{Result, ensure};
use baiwan_load::{Phase, Plan as LoadPlan};

use crate::figures::{CLIENT_CPU_US, Figures, OTHERS_CORES, REQUESTS_PER_SECOND};
use crate::load;
use crate::rows::{OWN, Plan};
use crate::server::Server;
use crate::wrk;

/// The share of wrk's CPU time that the own load generator is to use at the most.
pub(crate) const SHARE_MAX: f64 = 0.75;

pub(crate) fn measure(server: &Server, plan: &Plan, connections: usize, generator: &str) -> Result<Figures> {
    match generator {
        OWN => own(server, plan.wrk, connections),
        _ => {
            let outcome = wrk::run(server, 1, connections, plan.wrk)?;
            let requests = outcome.said.requests as f64;
            Ok(figures(outcome.cpu_ns as f64 / 1000.0, requests, plan.wrk, outcome.others_cores))
        }
    }
}

fn own(server: &Server, duration: Duration, connections: usize) -> Result<Figures> {
    const OPEN: Phase = Phase::Open { ramp: Duration::ZERO, ask: false, opening_max: 100 };
    const TIMED: usize = 1;
    let load_plan = LoadPlan {
        // What wrk sends.
        request: format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()).into_bytes(),
        phases: vec![OPEN, load::closed(duration, false), Phase::Close],
        ..load::bare(server.address(), connections)
    };
    let (report, usage) = load::run(&load_plan, server)?;
    let errors: u64 = report.phases.iter().map(|phase| phase.errors + phase.lost).sum();
    ensure!(errors == 0 && report.requests.answered > 0, "{errors} errors: {:?}", report.error_details);
    let cpu_us = report.phases.iter().map(|phase| phase.client_cpu_seconds).sum::<f64>() * 1e6;
    Ok(figures(cpu_us, report.requests.answered as f64, duration, usage.others_cores(&report, TIMED)))
}

fn figures(cpu_us: f64, requests: f64, duration: Duration, others_cores: f64) -> Figures {
    Figures::from([
        (CLIENT_CPU_US, cpu_us / requests),
        (REQUESTS_PER_SECOND, requests / duration.as_secs_f64()),
        (OTHERS_CORES, others_cores),
    ])
}
