//! Leads the worker processes through the phases of a plan, and makes one report of what they count.

use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use baiwan_driver::{Address, raise_file_limit};
use baiwan_task::{FailureKind, Group, TaskGroup};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::message::{self, Event};
use crate::plan::{Phase, Plan, Share};
use crate::record::Record;
use crate::report::{Report, Second};

/// Files of a worker that are not connections.
const FILES_RESERVED: u64 = 64;
/// See [`Run::every`].
pub const SECOND: Duration = Duration::from_secs(1);
/// How long to wait for somebody to listen at the address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages of workers that may wait to be counted; then the workers wait.
const MESSAGES_MAX: usize = 64;
/// How long workers may take to end, once their input has.
const END_TIMEOUT: Duration = Duration::from_secs(5);

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
/// When nothing listens at the address, a worker cannot be started, or one fails: what to tell the user, in one line.
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
    probe(&plan.address)?;
    let mut team = Team::start(plan, run, group).await?;
    let mut record = Record::start(run.server_pid, team.workers.len() as u64);
    let mut stops = Stops::listen()?;
    let mut ticks = interval_at(Instant::now() + run.every, run.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interrupted = false;
    for (index, phase) in plan.phases.iter().enumerate() {
        if interrupted {
            break;
        }
        observer.phase(index, phase);
        record.begin(phase);
        ticks.reset();
        team.tell(&message::Command::Begin(index)).await?;
        interrupted = team.carry_out(&mut record, observer, &mut ticks, &mut stops).await?;
        let (open, outstanding) = team.gauges();
        record.end(open, outstanding);
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
        Address::Unix(path) => UnixStream::connect(path).map(drop),
        Address::Abstract(name) => {
            SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name)).map(drop)
        }
    };
    outcome.with_context(|| format!("nothing answers at {address}"))
}

/// SIGINT and SIGTERM.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
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

/// One worker process, as seen from here.
struct Worker {
    child: Child,
    input: ChildStdin,
    open: u64,
    outstanding: u64,
    /// It has not ended the phase.
    works: bool,
}

/// All workers.
struct Team {
    workers: Vec<Worker>,
    events: mpsc::Receiver<(usize, Event)>,
}

impl Team {
    async fn start(plan: &Plan, run: &Run<'_>, group: &Group<anyhow::Error>) -> Result<Self> {
        let files = raise_file_limit().soft.saturating_sub(FILES_RESERVED).max(1);
        let needed = plan.connections.div_ceil(files).max(1);
        let of = run.workers.unwrap_or(needed);
        if of < needed {
            bail!(
                "{} connections need {needed} workers: a process may open {files} files (ulimit -n)",
                plan.connections
            );
        }
        let (sender, events) = mpsc::channel(MESSAGES_MAX);
        let mut team = Self { workers: Vec::new(), events };
        for index in 0..of {
            let output = team.add(&mut (run.worker)()).with_context(|| format!("cannot start worker {index}"))?;
            group.spawn(listen(index as usize, output, sender.clone())).await;
            let first = message::Command::Plan(Box::new(plan.clone()), Share { index, of });
            team.tell_one(index as usize, &first).await?;
        }
        for _ in 0..of {
            match team.events.recv().await {
                Some((_, Event::Ready)) => {}
                Some((_, Event::Failed(reason))) => bail!("a worker failed: {reason}"),
                _ => bail!("a worker did not start"),
            }
        }
        Ok(team)
    }

    fn add(&mut self, command: &mut Command) -> Result<ChildStdout> {
        // Ctrl-C in a terminal is for this process alone: it stops the workers in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let command = std::mem::replace(command, Command::new(""));
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { bail!("it has no pipes") };
        self.workers.push(Worker { child, input, open: 0, outstanding: 0, works: false });
        Ok(output)
    }

    async fn tell(&mut self, command: &message::Command) -> Result<()> {
        for index in 0..self.workers.len() {
            self.tell_one(index, command).await?;
        }
        Ok(())
    }

    async fn tell_one(&mut self, index: usize, command: &message::Command) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let worker = &mut self.workers[index];
        worker.works |= matches!(command, message::Command::Begin(_));
        worker.input.write_all(&line).await.with_context(|| format!("worker {index} is gone"))
    }

    /// Waits until all workers have ended their phase. Whether they were told to.
    async fn carry_out(
        &mut self,
        record: &mut Record,
        observer: &mut dyn Observer,
        ticks: &mut Interval,
        stops: &mut Stops,
    ) -> Result<bool> {
        let mut stopped = false;
        while self.workers.iter().any(|worker| worker.works) {
            tokio::select! {
                event = self.events.recv() => {
                    let Some((index, event)) = event else { bail!("the workers are gone") };
                    self.take_in(index, event, record)?;
                }
                _ = ticks.tick() => {
                    let (open, outstanding) = self.gauges();
                    observer.second(&record.second(open, outstanding));
                }
                () = stops.next() => {
                    if stopped {
                        bail!("stopped before the workers had ended");
                    }
                    stopped = true;
                    self.tell(&message::Command::Stop).await?;
                }
            }
        }
        Ok(stopped)
    }

    fn take_in(&mut self, index: usize, event: Event, record: &mut Record) -> Result<()> {
        let worker = &mut self.workers[index];
        let tally = match event {
            Event::Counted(tally) => tally,
            Event::Ended(tally) => {
                worker.works = false;
                tally
            }
            Event::Failed(reason) => bail!("worker {index} failed: {reason}"),
            Event::Ready => bail!("worker {index} began anew"),
        };
        (worker.open, worker.outstanding) = (tally.open, tally.outstanding);
        record.add(&tally);
        Ok(())
    }

    /// Connections open and requests outstanding, of all.
    fn gauges(&self) -> (u64, u64) {
        let workers = self.workers.iter();
        workers.fold((0, 0), |sum, worker| (sum.0 + worker.open, sum.1 + worker.outstanding))
    }

    /// Ends the workers: their input ends, and they with it.
    async fn end(mut self) {
        self.events.close();
        let children: Vec<Child> = self.workers.into_iter().map(|worker| worker.child).collect();
        for mut child in children {
            // Whoever does not end in time is killed when it is dropped.
            let _ = tokio::time::timeout(END_TIMEOUT, child.wait()).await;
        }
    }
}

/// Passes on what a worker says. Its end, too, unless nobody listens any more.
async fn listen(index: usize, output: ChildStdout, sender: mpsc::Sender<(usize, Event)>) -> Result<()> {
    let mut lines = BufReader::new(output).lines();
    loop {
        let event = match lines.next_line().await {
            Ok(Some(line)) => serde_json::from_str(&line).unwrap_or_else(|error| Event::Failed(error.to_string())),
            Ok(None) => Event::Failed("it has ended".to_owned()),
            Err(error) => Event::Failed(error.to_string()),
        };
        let is_last = matches!(event, Event::Failed(_));
        if sender.send((index, event)).await.is_err() || is_last {
            return Ok(());
        }
    }
}
