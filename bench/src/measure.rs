//! One measurement: one row, one server, one round, with a server process of its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::clock::{SECOND_NS, now_ns, settle};
use crate::closed_loop::ClosedLoop;
use crate::connection::{ANSWER_TIMEOUT, Connection, Receiver};
use crate::exchange::{Exchange, number};
use crate::fixed_rate::{self, Rate};
use crate::fleet::{Fleet, describe};
use crate::kernel_memory;
use crate::proc_files;
use crate::rows::{Plan, Row, State, Work};
use crate::server::Server;
use crate::summary::percentile;
use crate::{churn, stalled, stop};

/// Server CPU for one request, in microseconds.
pub(crate) const CPU_US: &str = "cpu_us_per_request";
pub(crate) const REQUESTS_PER_SECOND: &str = "requests_per_second";
/// Latency from the time a request was due, in microseconds.
pub(crate) const P50_US: &str = "latency_p50_us";
pub(crate) const P99_US: &str = "latency_p99_us";
/// Memory of the server process for one connection.
pub(crate) const USER_BYTES: &str = "user_bytes_per_connection";
/// Kernel memory for one connection, the server's end.
pub(crate) const KERNEL_BYTES: &str = "kernel_bytes_per_connection";
/// The same, the client's end.
pub(crate) const CLIENT_KERNEL_BYTES: &str = "client_kernel_bytes_per_connection";
/// What other processes and other guests of the host used meanwhile, in cores.
pub(crate) const OTHERS_CORES: &str = "other_processes_cores";

/// What one measurement gave: figures by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Connections that a server has served and closed before its memory is first read.
const WARM_CONNECTIONS: usize = 200;

pub(crate) fn measure(row: &Row, plan: &Plan, server: &mut Server) -> Result<Figures> {
    let connections = plan.connections(row);
    match row.work {
        Work::Closed(route) => closed(server, plan, connections, &route.exchange()),
        Work::FixedRate { per_second } => rate(server, plan, connections, per_second),
        Work::Hold(state) => hold(server, plan, connections, state),
        Work::Stalled(stage) => stalled::measure(server, plan, connections, stage),
        Work::Churn => churn::measure(server, plan, connections),
        Work::Stop => stop::measure(server, plan, connections),
    }
}

fn closed(server: &Server, plan: &Plan, connections: usize, exchange: &Exchange) -> Result<Figures> {
    let mut fleet = Fleet::open(server.address(), connections, exchange)?;
    let mut load = ClosedLoop::start(&mut fleet, exchange)?;
    load.run(plan.warm.as_nanos() as u64)?;
    let before = Usage::read(server)?;
    let answered = load.run(plan.timed.as_nanos() as u64)?;
    let used = Usage::read(server)?.since(&before);
    load.finish()?;
    ensure!(answered > 0, "no request was answered in the timed part");
    Ok(used.per_request(answered))
}

fn rate(server: &Server, plan: &Plan, connections: usize, per_second: u64) -> Result<Figures> {
    let mut fleet = Fleet::open(server.address(), connections, &Exchange::hello())?;
    rate_figures(server, &mut fleet, &Rate::of(per_second, plan.warm, plan.timed))
}

/// `GET /` at a constant rate: latency, and the server's CPU.
pub(crate) fn rate_figures(server: &Server, fleet: &mut Fleet, rate: &Rate) -> Result<Figures> {
    let mut readings = Vec::new();
    let mut latencies = fixed_rate::run(fleet, &Exchange::hello(), rate, || {
        readings.push(Usage::read(server)?);
        Ok(())
    })?;
    let [before, after] = &readings[..] else { unreachable!("read at the begin and at the end of the timed part") };
    let mut figures = after.since(before).per_request(rate.timed_requests);
    latencies.sort_unstable();
    figures.insert(P50_US, percentile(&latencies, 50.0) as f64 / 1000.0);
    figures.insert(P99_US, percentile(&latencies, 99.0) as f64 / 1000.0);
    Ok(figures)
}

/// Memory of held connections.
///
/// On one host the kernel holds both ends. The client's end is measured apart, as the growth by sockets that are bound but not
/// yet connected: connecting adds nothing to it that stays. What the kernel grows by from then on is the server's end. The
/// client does not watch these connections, so that all of epoll's memory is the server's.
fn hold(server: &Server, plan: &Plan, count: usize, state: State) -> Result<Figures> {
    let mut receiver = Receiver::new();
    warm_up(server, &mut receiver)?;
    settle(plan.settle);
    let before = kernel_memory::bytes()?;
    let connections = (0..count).map(Connection::bound).collect::<Result<Vec<_>>>()?;
    settle(plan.settle);
    let (kernel, user) = (kernel_memory::bytes()?, server.user_bytes()?);
    for (index, connection) in connections.iter().enumerate() {
        connection.connect(server.address())?;
        enter(connection, state, &mut receiver).with_context(|| describe(index))?;
    }
    if state == State::Pending {
        wait_until_held(server, count as u64, &mut receiver)?;
    }
    settle(plan.settle);
    let (kernel_after, user_after) = (kernel_memory::bytes()?, server.user_bytes()?);
    for (index, connection) in connections.iter().enumerate() {
        connection.check_silent().with_context(|| describe(index))?;
    }
    let growth = |from: u64, to: u64| (to as f64 - from as f64) / count as f64;
    Ok(Figures::from([
        (USER_BYTES, growth(user, user_after)),
        (KERNEL_BYTES, growth(kernel, kernel_after)),
        (CLIENT_KERNEL_BYTES, growth(before, kernel)),
    ]))
}

/// What a server allocates once is there before its memory is first read.
pub(crate) fn warm_up(server: &Server, receiver: &mut Receiver) -> Result<()> {
    for index in 0..WARM_CONNECTIONS {
        let connection = Connection::bound(index)?;
        connection.connect(server.address())?;
        connection.ask(&Exchange::hello(), receiver)?;
    }
    Ok(())
}

/// Brings a connection into the state that is measured.
fn enter(connection: &Connection, state: State, receiver: &mut Receiver) -> Result<()> {
    match state {
        State::Idle => connection.ask(&Exchange::hello(), receiver).map(drop),
        State::Stream => connection.ask(&Exchange::stream(), receiver).map(drop),
        State::WebSocket => {
            connection.ask(&Exchange::switch(), receiver)?;
            connection.ask(&Exchange::message(), receiver).map(drop)
        }
        State::Pending => connection.send(&Exchange::pending()),
    }
}

/// Asks the server until so many handlers are pending.
fn wait_until_held(server: &Server, count: u64, receiver: &mut Receiver) -> Result<()> {
    let connection = Connection::bound(0)?;
    connection.connect(server.address())?;
    let deadline = now_ns() + ANSWER_TIMEOUT.as_nanos() as u64;
    loop {
        let answer = connection.ask(&Exchange::held(), receiver)?;
        let held = number(&answer).context("not a number")?;
        if held == count {
            return Ok(());
        }
        ensure!(now_ns() < deadline, "only {held} of {count} handlers are pending");
    }
}

/// CPU time and wall time at one moment, or between two.
struct Usage {
    server_ns: u64,
    /// Client and server.
    ours_ns: u64,
    machine_ns: u64,
    wall_ns: u64,
}

impl Usage {
    fn read(server: &Server) -> Result<Self> {
        Ok(Self {
            server_ns: server.cpu_ns()?,
            ours_ns: proc_files::cpu_ns(std::process::id())?,
            machine_ns: proc_files::machine_cpu_ns()?,
            wall_ns: now_ns(),
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            server_ns: self.server_ns - earlier.server_ns,
            ours_ns: self.ours_ns - earlier.ours_ns,
            machine_ns: self.machine_ns - earlier.machine_ns,
            wall_ns: self.wall_ns - earlier.wall_ns,
        }
    }

    fn per_request(&self, requests: u64) -> Figures {
        let others_ns = self.machine_ns.saturating_sub(self.ours_ns);
        Figures::from([
            (CPU_US, self.server_ns as f64 / requests as f64 / 1000.0),
            (REQUESTS_PER_SECOND, requests as f64 * SECOND_NS as f64 / self.wall_ns as f64),
            (OTHERS_CORES, others_ns as f64 / self.wall_ns as f64),
        ])
    }
}
