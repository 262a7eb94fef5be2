//! The worker processes of a run, as seen from the coordinator: started, told, listened to, ended.
//!
//! A worker that dies, or says nothing for too long, is given up: the others go on, and the record says what is missing. Invariant:
//! one that was given up works no more and counts for nothing that is open.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use baiwan_task::Group;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::now_ns;
use crate::files;
use crate::message::{self, Event};
use crate::plan::{Plan, Share};
use crate::record::Record;

/// Messages of workers that may wait to be counted; then the workers wait.
const MESSAGES_MAX: usize = 64;
/// How long workers may take to end, once their input has.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the exit status of a worker may take, once its output has ended.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Looks, a second apart, at which a worker that works has said nothing. It reports ten times a second.
const SILENT_LOOKS_MAX: u32 = 30;

/// One worker process.
struct Worker {
    child: Child,
    /// None: it was given up.
    input: Option<ChildStdin>,
    open: u64,
    outstanding: u64,
    /// It has not ended the phase.
    works: bool,
    /// Looks since it last said something.
    silent: u32,
}

/// All workers.
pub(crate) struct Team {
    workers: Vec<Worker>,
    events: mpsc::Receiver<Heard>,
    /// When one of them last had something to say.
    heard_at_ns: u64,
}

/// What one of the workers has said. None: its output has ended.
pub(crate) type Heard = (usize, Option<Event>);

impl Team {
    /// Starts `of` workers with `command`, each with its share of the plan, and waits until all are ready.
    pub(crate) async fn start(
        plan: &Plan,
        of: u64,
        command: &dyn Fn() -> Command,
        group: &Group<anyhow::Error>,
    ) -> Result<Self> {
        let (sender, events) = mpsc::channel(MESSAGES_MAX);
        let mut team = Self { workers: Vec::new(), events, heard_at_ns: now_ns() };
        for index in 0..of {
            let output = team.add(&mut command()).with_context(|| {
                format!("cannot start worker {} of {of} (ulimit -n is {})", index + 1, files::file_limit())
            })?;
            group.spawn(listen(index as usize, output, sender.clone())).await;
            let first = message::Command::Plan(Box::new(plan.clone()), Share { index, of });
            if !team.tell_one(index as usize, &first).await? {
                bail!("worker {} of {of} did not start", index + 1);
            }
        }
        for _ in 0..of {
            match team.events.recv().await {
                Some((_, Some(Event::Ready))) => {}
                Some((_, Some(Event::Failed(reason)))) => bail!("a worker failed: {reason}"),
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
        let (input, Some(output)) = (child.stdin.take(), child.stdout.take()) else { bail!("it has no pipes") };
        self.workers.push(Worker { child, input, open: 0, outstanding: 0, works: false, silent: 0 });
        Ok(output)
    }

    /// Whether any worker is in the middle of a phase.
    pub(crate) fn works(&self) -> bool {
        self.workers.iter().any(|worker| worker.works)
    }

    /// Whether no worker is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.workers.iter().all(|worker| worker.input.is_none())
    }

    /// Tells all that are left. One that cannot be told is given up.
    pub(crate) async fn tell(&mut self, command: &message::Command, record: &mut Record) -> Result<()> {
        for index in 0..self.workers.len() {
            if self.workers[index].input.is_some() && !self.tell_one(index, command).await? {
                self.give_up(index, None, record).await;
            }
        }
        Ok(())
    }

    /// Whether the worker could be told.
    async fn tell_one(&mut self, index: usize, command: &message::Command) -> Result<bool> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let worker = &mut self.workers[index];
        let Some(input) = &mut worker.input else { return Ok(false) };
        worker.works |= matches!(command, message::Command::Begin(_));
        worker.silent = 0;
        Ok(input.write_all(&line).await.is_ok())
    }

    /// What a worker says next.
    pub(crate) async fn hear(&mut self) -> Heard {
        match self.events.recv().await {
            Some(heard) => heard,
            // Each listener tells of the end of its worker, and that is the last of it.
            None => std::future::pending().await,
        }
    }

    /// Counts what a worker has said. One that has failed or ended is given up.
    pub(crate) async fn take_in(&mut self, (index, event): Heard, record: &mut Record) {
        let worker = &mut self.workers[index];
        if worker.input.is_none() {
            return;
        }
        worker.silent = 0;
        let tally = match event {
            Some(Event::Counted(tally)) => tally,
            Some(Event::Ended(tally)) => {
                worker.works = false;
                tally
            }
            Some(Event::Failed(reason)) => return self.give_up(index, Some(reason), record).await,
            Some(Event::Ready) => return self.give_up(index, Some("it began anew".to_owned()), record).await,
            None => return self.give_up(index, None, record).await,
        };
        (worker.open, worker.outstanding) = (tally.open, tally.outstanding);
        self.heard_at_ns = now_ns();
        record.add(&tally);
    }

    /// To be called once a second: gives up those that work and have said nothing for too long. Looks are counted, and not time: where
    /// this process was stopped for a while, its workers are not to blame.
    pub(crate) async fn give_up_the_silent(&mut self, record: &mut Record) {
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            worker.silent += 1;
            if worker.works && worker.silent > SILENT_LOOKS_MAX {
                let how = format!("it said nothing for {SILENT_LOOKS_MAX} s");
                self.give_up(index, Some(how), record).await;
            }
        }
    }

    /// A worker is gone, or is made to go. Without a reason, its exit status is one.
    async fn give_up(&mut self, index: usize, how: Option<String>, record: &mut Record) {
        let worker = &mut self.workers[index];
        worker.input = None;
        (worker.works, worker.open, worker.outstanding) = (false, 0, 0);
        let how = match how {
            Some(how) => how,
            None => match timeout(STATUS_TIMEOUT, worker.child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                _ => "its output ended".to_owned(),
            },
        };
        // It may have ended by itself.
        let _ = worker.child.start_kill();
        record.worker_died(how);
    }

    /// When a worker last had something to say.
    pub(crate) fn heard_at_ns(&self) -> u64 {
        self.heard_at_ns
    }

    /// Connections open and requests outstanding, of all.
    pub(crate) fn gauges(&self) -> (u64, u64) {
        let workers = self.workers.iter();
        workers.fold((0, 0), |sum, worker| (sum.0 + worker.open, sum.1 + worker.outstanding))
    }

    /// Ends the workers: their input ends, and they with it.
    pub(crate) async fn end(mut self) {
        self.events.close();
        let end = Instant::now() + END_TIMEOUT;
        let children: Vec<Child> = self.workers.into_iter().map(|worker| worker.child).collect();
        for mut child in children {
            // Whoever does not end in time is killed when it is dropped.
            let _ = timeout_at(end, child.wait()).await;
        }
    }
}

/// Passes on what a worker says. Its end, too, unless nobody listens any more.
async fn listen(index: usize, output: ChildStdout, sender: mpsc::Sender<Heard>) -> Result<()> {
    let mut lines = BufReader::new(output).lines();
    loop {
        let event = match lines.next_line().await {
            Ok(Some(line)) => {
                Some(serde_json::from_str(&line).unwrap_or_else(|error| Event::Failed(error.to_string())))
            }
            Ok(None) => None,
            Err(error) => Some(Event::Failed(error.to_string())),
        };
        let is_last = matches!(event, None | Some(Event::Failed(_)));
        if sender.send((index, event)).await.is_err() || is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A team of processes that say nothing.
    fn silent(of: usize) -> Team {
        let (_sender, events) = mpsc::channel(1);
        let mut team = Team { workers: Vec::new(), events, heard_at_ns: 0 };
        for _ in 0..of {
            let _output = team.add(&mut Command::new("cat")).unwrap();
        }
        team
    }

    fn deaths(record: &Record) -> u64 {
        let plan = Plan::new("", 1);
        record.report(&plan, String::new(), String::new(), false).client.workers_died
    }

    #[tokio::test]
    async fn a_worker_that_says_nothing_for_too_many_looks_is_given_up_and_no_other() {
        let (mut team, mut record) = (silent(2), Record::start(None, 2));
        team.tell(&message::Command::Begin(0), &mut record).await.unwrap();
        for _ in 0..SILENT_LOOKS_MAX {
            team.give_up_the_silent(&mut record).await;
        }
        assert_eq!(deaths(&record), 0);
        team.take_in((0, Some(Event::Counted(Box::default()))), &mut record).await;
        team.give_up_the_silent(&mut record).await;
        assert!(team.works() && team.workers[1].input.is_none() && deaths(&record) == 1);
        team.take_in((1, Some(Event::Ended(Box::default()))), &mut record).await;
        team.take_in((0, Some(Event::Ended(Box::default()))), &mut record).await;
        for _ in 0..=SILENT_LOOKS_MAX {
            team.give_up_the_silent(&mut record).await;
        }
        assert_eq!(deaths(&record), 1, "one that has nothing to do may be silent");
        assert!(!team.works() && !team.is_gone() && team.heard_at_ns() > 0);
        team.end().await;
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_is_told_with_its_status_and_once() {
        let (mut team, mut record) = (silent(1), Record::start(None, 1));
        team.tell(&message::Command::Begin(0), &mut record).await.unwrap();
        team.workers[0].child.start_kill().unwrap();
        for _ in 0..2 {
            team.take_in((0, None), &mut record).await;
        }
        assert!(team.is_gone() && !team.works() && deaths(&record) == 1);
    }
}
