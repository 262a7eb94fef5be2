//! A worker: one process, one thread, one loop over its share of the connections.
//!
//! ```text
//!   turn:  commands → events → receive → expire → retry, start what is due → transmit → report → (wait)
//! ```
//!
//! It speaks with the coordinator over its standard input and output, and ends when its input does. Invariant: it waits only when
//! nothing is left to do that no event, command or alarm will announce.

mod asking;
mod connection;
mod events;
mod fleet;
mod opening;
mod reader;
mod supply;

use std::future::poll_fn;
use std::io::{self, Write};
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use self::asking::Asking;
use self::fleet::Fleet;
use self::opening::Opening;
use self::supply::{Arrivals, Supply};
use crate::clock::{SECOND_NS, now_ns};
use crate::message::{Command, Event};
use crate::plan::{Phase, Plan, Share};

/// How often the coordinator is told what happened.
const REPORT_NS: u64 = SECOND_NS / 10;
/// Turns without giving the runtime a chance.
const TURNS_MAX: usize = 64;
/// Commands that may wait; there is never more than one of each kind.
const COMMANDS_MAX: usize = 4;
/// Without a time limit on answers, a worker that cannot open connections gives up after this time without any progress.
const OPENING_PATIENCE_NS: u64 = 10 * SECOND_NS;

/// Runs a worker on the standard input and output of this process, until its input ends.
///
/// # Errors
/// When it cannot speak with the coordinator, or the event loop fails. The coordinator is told before.
pub fn run() -> anyhow::Result<()> {
    let outcome = serve();
    if let Err(error) = &outcome {
        // If this fails too, the coordinator sees the end of the output.
        let _ = tell(&Event::Failed(format!("{error:#}")));
    }
    outcome
}

fn serve() -> anyhow::Result<()> {
    let mut first = String::new();
    io::stdin().read_line(&mut first).context("there is no plan")?;
    let Command::Plan(plan, share) = serde_json::from_str(&first)? else { bail!("the first line is no plan") };
    baiwan_driver::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    std::thread::spawn(move || read_commands(&sender));
    runtime.block_on(async {
        let fleet = Fleet::new(&plan, share)?;
        let mut worker = Worker { plan: *plan, share, fleet, commands, doing: Doing::Nothing, alarm_at: None };
        tell(&Event::Ready)?;
        poll_fn(|cx| worker.poll(cx)).await
    })
}

/// Passes the commands on. The channel closes with the input.
fn read_commands(sender: &mpsc::Sender<Command>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        let Ok(command) = serde_json::from_str(&line) else { return };
        if sender.blocking_send(command).is_err() {
            return;
        }
    }
}

fn tell(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line).and_then(|()| output.flush()).context("the coordinator is gone")
}

struct Worker {
    plan: Plan,
    share: Share,
    fleet: Fleet,
    commands: mpsc::Receiver<Command>,
    doing: Doing,
    /// What the alarm is set to.
    alarm_at: Option<u64>,
}

/// What goes on.
enum Doing {
    Nothing,
    Phase { work: Work, next_report: u64 },
}

/// A phase, as this worker carries it out.
enum Work {
    Open(Opening),
    Requests(Asking),
    Hold { end: u64 },
    Close { next: u32 },
}

impl Worker {
    /// One stretch of turns. Ready when the input has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        for _ in 0..TURNS_MAX {
            match self.turn(cx) {
                Ok(Turn::Again) => {}
                Ok(Turn::Waits) => return Poll::Pending,
                Ok(Turn::Yields) => break,
                Ok(Turn::End) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> anyhow::Result<Turn> {
        // Only a channel that was seen empty wakes the task, so one command is not enough.
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            let Some(command) = command else { return Ok(Turn::End) };
            self.obey(command)?;
        }
        let quiet = match self.fleet.poll_events(cx) {
            Poll::Ready(outcome) => {
                outcome.context("waiting for events failed")?;
                false
            }
            Poll::Pending => true,
        };
        self.fleet.receive();
        let now = now_ns();
        self.fleet.expire(now);
        self.advance(now);
        self.fleet.transmit();
        self.report(now)?;
        if !quiet || self.fleet.has_work() {
            return Ok(Turn::Again);
        }
        self.set_alarm(now)
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Plan(..) => bail!("a second plan"),
            Command::Begin(index) => {
                let phase = self.plan.phases.get(index).context("a phase that is not in the plan")?.clone();
                let now = now_ns();
                self.doing = Doing::Phase { work: self.begin(&phase, now), next_report: now + REPORT_NS };
            }
            Command::Stop => self.end()?,
        }
        Ok(())
    }

    fn begin(&mut self, phase: &Phase, now: u64) -> Work {
        let share = self.share;
        let asking = share.among_first(self.plan.active_count());
        // A stream that was lost is asked for again in whichever phase that is.
        self.fleet.ask_first = self.plan.events || matches!(phase, Phase::Open { ask: true, .. });
        if let Phase::Open { opening_max, .. } = phase {
            self.fleet.opening_max = share.part_min_1(*opening_max);
        }
        match *phase {
            Phase::Open { ramp, .. } => Work::Open(Opening::begin(ramp, now)),
            Phase::Closed { duration, requests, each, outstanding_max, .. } => {
                self.fleet.begin_requests();
                let left = asking.map_or(Some(0), |asking| requests.map(|requests| asking.part(requests)));
                let end = duration.map(|duration| now + duration.as_nanos() as u64);
                let mut asking = Asking::begin(Supply::Closed { left, end }, now);
                asking.each = each.unwrap_or(u32::MAX);
                asking.outstanding_max = outstanding_max.map_or(u64::MAX, |all| share.part_min_1(all));
                Work::Requests(asking)
            }
            Phase::Rate { per_second, duration, .. } => {
                self.fleet.begin_requests();
                let arrivals = Arrivals::new(now, per_second, duration, asking);
                Work::Requests(Asking::begin(Supply::Open(arrivals), now))
            }
            Phase::Hold { duration } => Work::Hold { end: now + duration.as_nanos() as u64 },
            Phase::Close => {
                self.fleet.begin_closing();
                Work::Close { next: 0 }
            }
        }
    }

    /// Does what is due, and ends the phase when all is done.
    fn advance(&mut self, now: u64) {
        let Doing::Phase { work, next_report } = &mut self.doing else { return };
        let patience = self.plan.timeout.map_or(OPENING_PATIENCE_NS, |timeout| timeout.as_nanos() as u64);
        let is_over = match work {
            Work::Open(opening) => opening.advance(&mut self.fleet, patience, now),
            Work::Requests(asking) => asking.advance(&mut self.fleet, patience, now),
            Work::Hold { end } => {
                self.fleet.retry(now);
                now >= *end
            }
            Work::Close { next } => {
                *next = self.fleet.close_from(*next);
                *next == self.fleet.len()
            }
        };
        if is_over {
            // The report at the end of the turn says so.
            *next_report = 0;
        }
    }

    /// Sends what has been counted, again and again and at the end.
    fn report(&mut self, now: u64) -> anyhow::Result<()> {
        let Doing::Phase { next_report, .. } = &mut self.doing else { return Ok(()) };
        if *next_report == 0 {
            return self.end();
        }
        if now >= *next_report {
            // Not from when it was due: a worker that is late would be busy with nothing but reports.
            *next_report = now + REPORT_NS;
            let tally = self.fleet.tally.take();
            tell(&Event::Counted(Box::new(tally)))?;
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Doing::Phase { work, .. } = std::mem::replace(&mut self.doing, Doing::Nothing) else { return Ok(()) };
        if let Work::Requests(mut asking) = work {
            // Those that waited for a connection must not vanish because the phase ends early.
            self.fleet.unsent(asking.supply.stop(now_ns()));
        }
        let tally = self.fleet.tally.take();
        tell(&Event::Ended(Box::new(tally)))
    }

    /// Waits, unless something has become due since `now`, the moment of this turn. What was due by then was done, or cannot
    /// be done before an event or a later moment: to look again at once would be to look for ever.
    fn set_alarm(&mut self, now: u64) -> anyhow::Result<Turn> {
        let Doing::Phase { work, next_report } = &self.doing else { return Ok(Turn::Waits) };
        let fleet = &mut self.fleet;
        let own = match work {
            Work::Open(opening) => [opening.next_due(fleet, now), None, None],
            Work::Requests(asking) => asking.moments(fleet),
            Work::Hold { end } => [Some(*end), None, None],
            Work::Close { .. } => return Ok(Turn::Yields),
        };
        let all = own.into_iter().chain([Some(*next_report), fleet.next_retry(), fleet.next_scan()]);
        let moment = all.flatten().filter(|moment| *moment > now).min().unwrap_or(u64::MAX);
        if moment <= now_ns() {
            return Ok(Turn::Yields);
        }
        if self.alarm_at != Some(moment) {
            self.alarm_at = Some(moment);
            fleet.wake_at(moment).context("cannot set the alarm")?;
        }
        Ok(Turn::Waits)
    }
}

/// What is to come after a turn.
enum Turn {
    /// Another: there is more to do.
    Again,
    /// Another, after the runtime has looked for events: only it can see that there are any.
    Yields,
    /// Nothing, until the task is woken.
    Waits,
    End,
}
