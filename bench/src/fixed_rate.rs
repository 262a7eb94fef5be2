//! Load at a constant rate below saturation: request *k* is due at `start + k / rate`, whatever the server does.
//!
//! Latency counts from the time a request was due, so a server that stalls is charged for all that should have been sent
//! meanwhile. Requests go to the connection that has been idle longest. The client spins, because a sleep would be later than
//! the time that is due.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;

use crate::clock::{SECOND_NS, now_ns};
use crate::closed_loop::check_progress;
use crate::exchange::Exchange;
use crate::fleet::{Fleet, Wait};

/// How much load, and for how long.
pub(crate) struct Rate {
    pub(crate) per_second: u64,
    /// Sent before the timed part.
    pub(crate) warm_requests: u64,
    pub(crate) timed_requests: u64,
}

impl Rate {
    pub(crate) fn of(per_second: u64, warm: Duration, timed: Duration) -> Self {
        let requests = |duration: Duration| per_second * duration.as_millis() as u64 / 1000;
        Self { per_second, warm_requests: requests(warm), timed_requests: requests(timed) }
    }
}

/// Where the requests stand.
struct Progress {
    idle: VecDeque<usize>,
    /// For each connection: the number of its request.
    outstanding: Vec<u64>,
    sent: u64,
    answered: u64,
    latencies_ns: Vec<u64>,
}

/// Runs the load and returns the latencies of the timed part. `on_timed` is called at its begin, and when all is answered.
pub(crate) fn run(
    fleet: &mut Fleet,
    exchange: &Exchange,
    rate: &Rate,
    mut on_timed: impl FnMut() -> Result<()>,
) -> Result<Vec<u64>> {
    let total = rate.warm_requests + rate.timed_requests;
    let mut progress = Progress {
        idle: (0..fleet.len()).collect(),
        outstanding: vec![0; fleet.len()],
        sent: 0,
        answered: 0,
        latencies_ns: Vec::with_capacity(rate.timed_requests as usize),
    };
    let mut ready = Vec::new();
    let mut timed = false;
    let start = now_ns();
    let due = |request: u64| start + request * SECOND_NS / rate.per_second;
    let mut last = start;
    while progress.answered < total {
        if !timed && progress.sent >= rate.warm_requests {
            timed = true;
            on_timed()?;
        }
        while progress.sent < total && due(progress.sent) <= now_ns() {
            let Some(index) = progress.idle.pop_front() else { break };
            progress.outstanding[index] = progress.sent;
            progress.sent += 1;
            fleet.send(index, exchange)?;
        }
        fleet.wait(Wait::Spin, &mut ready)?;
        for &index in &ready {
            if fleet.receive(index, exchange)? {
                let request = progress.outstanding[index];
                if request >= rate.warm_requests {
                    progress.latencies_ns.push(now_ns() - due(request));
                }
                progress.answered += 1;
                progress.idle.push_back(index);
            }
        }
        check_progress(!ready.is_empty() || progress.sent == progress.answered, &mut last)?;
    }
    on_timed()?;
    Ok(progress.latencies_ns)
}
