//! Ratios that may be quoted: Baiwan beside one other at a time, in many short turns.
//!
//! ```text
//!   sitting:  start both, open all connections │ A B │ B A │ A B │ B A │ close      (another process of each in the next sitting)
//!   pair:     two turns, one right after the other; each warms up, then is timed
//!   row:      the median of the ratios of all pairs, and their quartiles
//! ```
//!
//! A machine drifts within seconds. Turns of less than a second that follow each other meet the same machine, so their ratio is worth
//! more than either figure. This is *not* the table of all servers, which `scoreboard` makes. Invariant: while one side has its turn,
//! nobody asks the other.

pub(crate) mod cli;
mod loading;
mod ratios;
mod report;
mod rows;
mod turns;
mod uploading;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use baiwan_driver::raise_file_limit;

use self::cli::Run;
use self::rows::{Plan, ROWS, Row, Side, Work};
use self::uploading::Upload;
use crate::clock::now_ns;
use crate::connection::{Connection, Receiver};
use crate::environment::Environment;
use crate::exchange::Exchange;
use crate::figures::{Figures, others_cores};
use crate::fleet::describe;
use crate::peers::{Known, Peer, Places};
use crate::server::{Cores, FILES_RESERVED, Server, SetUp};

/// Files of this process that are no idle connections, beside those that a server keeps for itself.
const OWN_FILES: usize = 64;

/// Sittings that a row may have beyond those that are planned, where others have disturbed many pairs.
const EXTRA_MAX: usize = 2;

/// What a row gave.
struct Outcome {
    row: &'static Row,
    /// What was there in fact: fewer than the row wants in a short pass, or where the limit of open files is low.
    connections: usize,
    idle: usize,
    pairs: Vec<Pair>,
    /// Why it could not be measured.
    failure: Option<String>,
    seconds: f64,
}

/// Two turns.
struct Pair {
    sitting: usize,
    /// Ours first.
    figures: [Figures; 2],
    /// Others took too much of the machine: it does not count.
    is_disturbed: bool,
}

/// The names of the rows, and what they are.
pub(crate) fn list() -> String {
    let line = |row: &Row| {
        let Row { name, title, theirs, connections, .. } = row;
        format!("{name:15} {} beside {} ({connections} connections)\n", title.replace('`', ""), theirs.server)
    };
    ROWS.iter().map(line).collect()
}

/// The servers that the rows of a run need.
pub(crate) fn servers(run: &Run) -> Vec<String> {
    run.rows.iter().flat_map(|row| [row.ours, row.theirs]).map(|side| side.server.to_owned()).collect()
}

/// Measures, writes the files after each row, and returns the report and whether every row was measured.
pub(crate) fn measure_all(run: &Run, words: &[String], known: &[Known], places: &Places) -> Result<(String, bool)> {
    let environment = Environment::read(words);
    let cores = Cores::take()?;
    let mut bench =
        Bench { plan: &run.plan, places, cores: &cores, known, patience_ns: run.plan.patience.as_nanos() as u64 };
    let mut outcomes = Vec::new();
    for (index, row) in run.rows.iter().enumerate() {
        let outcome = bench.measure(row);
        let said = match &outcome.failure {
            Some(failure) => format!("failed: {failure}"),
            None => report::in_short(&outcome),
        };
        eprintln!("[{}/{}] {}: {said} ({:.0} s)", index + 1, run.rows.len(), row.name, outcome.seconds);
        outcomes.push(outcome);
        if let Some(folder) = &run.output {
            write(folder, run, &environment, known, &outcomes)?;
        }
    }
    let is_clean = outcomes.iter().all(|outcome| outcome.failure.is_none());
    Ok((report::markdown(run, &environment, known, &outcomes), is_clean))
}

/// The report and the raw figures.
fn write(folder: &Path, run: &Run, environment: &Environment, known: &[Known], outcomes: &[Outcome]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let raw = serde_json::to_string_pretty(&report::json(run, environment, known, outcomes))? + "\n";
    for (name, text) in [("RESULTS.md", report::markdown(run, environment, known, outcomes)), ("pairs.json", raw)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What all rows share.
struct Bench<'a> {
    plan: &'a Plan,
    places: &'a Places,
    cores: &'a Cores,
    known: &'a [Known],
    patience_ns: u64,
}

impl Bench<'_> {
    fn measure(&mut self, row: &'static Row) -> Outcome {
        let connections = row.connections.min(self.plan.connections_max);
        let idle = row.ours.idle.min(self.plan.connections_max).min(idle_max(connections));
        let mut outcome = Outcome { row, connections, idle, pairs: Vec::new(), failure: None, seconds: 0.0 };
        let begin_ns = now_ns();
        for sitting in 0..self.plan.sittings + EXTRA_MAX {
            let sitting_ns = now_ns();
            let counted = outcome.pairs.iter().filter(|pair| !pair.is_disturbed).count();
            let is_extra = sitting >= self.plan.sittings;
            if is_extra && (counted >= self.plan.counted_min() || self.patience_ns == 0) {
                break;
            }
            match self.sit(row, connections, idle) {
                Ok(pairs) => outcome.pairs.extend(pairs.into_iter().map(|figures| self.pair(sitting, figures))),
                Err(error) => {
                    outcome.failure = Some(format!("{error:#}"));
                    break;
                }
            }
            if is_extra {
                self.patience_ns = self.patience_ns.saturating_sub(now_ns() - sitting_ns);
            }
        }
        outcome.seconds = (now_ns() - begin_ns) as f64 / 1e9;
        outcome
    }

    fn pair(&self, sitting: usize, figures: [Figures; 2]) -> Pair {
        let most = figures.iter().filter_map(others_cores).fold(0.0, f64::max);
        Pair { sitting, figures, is_disturbed: self.plan.others_cores_max.is_some_and(|max| most > max) }
    }

    /// Starts both servers, measures some pairs, and ends both.
    fn sit(&self, row: &Row, connections: usize, idle: usize) -> Result<Vec<[Figures; 2]>> {
        let (ours, theirs) = (self.start(row.ours)?, self.start(row.theirs)?);
        let _idle = open_idle(&ours, idle)?;
        match row.work {
            Work::Load { exchange, pace } => loading::sit([&ours, &theirs], &exchange(), pace, connections, self.plan),
            Work::Upload { bytes, path_of_nginx } => {
                let bytes = self.plan.upload_bytes(bytes);
                let ours = Upload::connect(&ours, row.ours.server, bytes, path_of_nginx)?;
                let theirs = Upload::connect(&theirs, row.theirs.server, bytes, path_of_nginx)?;
                uploading::sit([ours, theirs], self.plan)
            }
        }
    }

    fn start(&self, side: Side) -> Result<Server> {
        let peer = self.peer(side.server)?;
        let set_up = SetUp { workers: side.workers, ..SetUp::USUAL };
        Server::start(peer, self.places, self.cores, set_up).with_context(|| side.server.to_owned())
    }

    fn peer(&self, name: &str) -> Result<&Peer> {
        let known = self.known.iter().find(|known| known.peer.name == name).context("no such server")?;
        match &known.version {
            Ok(_) => Ok(&known.peer),
            Err(reason) => Err(anyhow!("{name} is not here: {reason}")),
        }
    }
}

/// How many idle connections the limit of open files allows to this process and to a server, beside those that ask.
fn idle_max(connections: usize) -> usize {
    let files = usize::try_from(raise_file_limit().soft).unwrap_or(usize::MAX);
    files.saturating_sub(FILES_RESERVED as usize + OWN_FILES + connections)
}

/// Opens connections, each of which is answered once and then says nothing.
fn open_idle(server: &Server, count: usize) -> Result<Vec<Connection>> {
    let (hello, mut receiver) = (Exchange::hello(), Receiver::new());
    let open = |index| {
        let connection = Connection::bound(index)?;
        connection.connect(server.address())?;
        connection.ask(&hello, &mut receiver).with_context(|| describe(index))?;
        Ok(connection)
    };
    (0..count).map(open).collect()
}
