//! Leads the worker processes through the phases of a plan, and makes one report of what they count.

use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use baiwan_driver::Address;
use baiwan_task::{FailureKind, Group, TaskGroup, timeout};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::files;
use crate::message;
use crate::plan::{Phase, Plan};
use crate::record::Record;
use crate::report::{Report, Second};
use crate::team::Team;

/// See [`Run::every`].
pub const SECOND: Duration = Duration::from_secs(1);
/// How long to wait for somebody to listen at the address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all workers together may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a run needs to know beside its plan.
pub struct Run<'a> {
    /// How it was called, and what is asked: for the report.
    pub command: String,
    /// See `command`.
    pub url: String,
    /// Worker processes. None: as few as the limit of open files allows.
    pub workers: Option<u64>,
    /// The server's process, where it is to be watched.
    pub server_pid: Option<u32>,
    /// How often the observer is told, and a point of the report's series is made: [`SECOND`], usually.
    pub every: Duration,
    /// Makes the command that starts a worker: a program that calls [`worker::run`](crate::worker).
    pub worker: &'a dyn Fn() -> Command,
}

/// Is told how a run goes.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, index: usize, phase: &Phase);
    /// Another [`Run::every`] has passed.
    fn second(&mut self, second: &Second);
}

/// Carries out a plan. Ctrl-C and SIGTERM end it in order, with the report so far; the second one, at once.
///
/// # Errors
/// When nothing listens at the address, or a worker cannot be started: what to tell the user, in one line. A worker that dies later
/// costs its share; the report says so.
pub fn run(plan: &Plan, run: &Run<'_>, observer: &mut dyn Observer) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    // No worker is listened to after the run.
    let conducted = runtime.block_on(TaskGroup::new().scope(async |group| conduct(plan, run, observer, &group).await));
    conducted.map_err(|failures| match failures.into_first().into_kind() {
        FailureKind::Error(error) => error,
        FailureKind::Panicked(panic) => panic.resume(),
        other => anyhow!("the run was given up: {other:?}"),
    })
}

async fn conduct(
    plan: &Plan,
    run: &Run<'_>,
    observer: &mut dyn Observer,
    group: &Group<anyhow::Error>,
) -> Result<Report> {
    let of = files::workers(plan.connections, run.workers).map_err(anyhow::Error::msg)?;
    probe(&plan.address)?;
    let starting = Team::start(plan, of, run.worker, group);
    let mut team = timeout(format!("starting {of} workers"), START_TIMEOUT, starting).await??;
    let mut record = Record::start(run.server_pid, of);
    let mut pulse = Pulse { ticks: ticks(run.every), watch: ticks(SECOND), stops: StopSignals::listen()? };
    let mut interrupted = false;
    for (index, phase) in plan.phases.iter().enumerate() {
        if interrupted {
            break;
        }
        observer.phase(index, phase);
        record.begin(phase);
        pulse.ticks.reset();
        team.tell(&message::Command::Begin(index), &mut record).await?;
        interrupted = carry_out(&mut team, &mut record, observer, &mut pulse).await? || team.is_gone();
        let (open, outstanding) = team.gauges();
        record.end(team.heard_at_ns(), open, outstanding);
        // What is left of a second belongs to no other phase, and all seconds together are the whole.
        if *phase != Phase::Close {
            observer.second(&record.second(open, outstanding));
        }
    }
    let report = record.report(plan, run.command.clone(), run.url.clone(), interrupted);
    team.end().await;
    Ok(report)
}

/// Whether anybody listens. Better one line now than a million errors later.
fn probe(address: &str) -> Result<()> {
    let outcome = match address.parse()? {
        Address::Tcp(address) => TcpStream::connect_timeout(&address, PROBE_TIMEOUT).map(drop),
        Address::Unix(path) => SocketAddr::from_pathname(path).and_then(probe_unix),
        Address::Abstract(name) => SocketAddr::from_abstract_name(name).and_then(probe_unix),
    };
    outcome.with_context(|| format!("nothing answers at {address}"))
}

/// `connect` knows no time limit here: where the line of a listener is full, it waits for a place, for ever.
fn probe_unix(address: SocketAddr) -> io::Result<()> {
    let (sender, outcome) = sync_channel(1);
    thread::spawn(move || sender.send(UnixStream::connect_addr(&address).map(drop)));
    outcome.recv_timeout(PROBE_TIMEOUT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// What makes the coordinator look up: beside what workers say.
struct Pulse {
    /// The observer is to be told.
    ticks: Interval,
    /// Workers are to be looked after.
    watch: Interval,
    stops: StopSignals,
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits until all workers that are left have ended their phase. Whether they were told to.
async fn carry_out(
    team: &mut Team,
    record: &mut Record,
    observer: &mut dyn Observer,
    pulse: &mut Pulse,
) -> Result<bool> {
    let mut stopped = false;
    while team.works() {
        tokio::select! {
            heard = team.hear() => team.take_in(heard, record).await,
            _ = pulse.ticks.tick() => {
                let (open, outstanding) = team.gauges();
                observer.second(&record.second(open, outstanding));
            }
            _ = pulse.watch.tick() => team.give_up_the_silent(record).await,
            () = pulse.stops.next() => {
                if stopped {
                    bail!("stopped before the workers had ended");
                }
                stopped = true;
                team.tell(&message::Command::Stop, record).await?;
            }
        }
    }
    Ok(stopped)
}

/// SIGINT and SIGTERM, as often as they come.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
