//! All rows, one after the other: the servers take turns, so that a drifting machine hits all alike, and what one of them fails
//! at does not end the measurement of the others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::Run;
use crate::clock::{now_ns, settle};
use crate::environment::Environment;
use crate::generator::GENERATORS;
use crate::measure::{Figures, OTHERS_CORES, measure};
use crate::peers::{AXUM, BAIWAN, Known, Peer, Places};
use crate::plots::{self, PLOTS};
use crate::proc_files;
use crate::progress::Progress;
use crate::report;
use crate::results::{Cell, Results, RowResults};
use crate::rows::{Contest, Plan, Row, Work};
use crate::server::{self, Cores, Server};

/// A measurement during which other processes used more of a core than this is repeated.
const OTHERS_CORES_MAX: f64 = 0.1;
/// How long the machine is watched before a measurement.
const CALM_SAMPLE: Duration = Duration::from_millis(400);
/// A server that fails so often without a single success is not tried again.
const FAILURES_MAX: usize = 2;

/// Measures, writes the files after each row, and returns the report and whether nothing failed that must not.
pub(crate) fn measure_all(run: &Run, words: &[String], known: &[Known], places: Places) -> Result<(String, bool)> {
    let connections_max = run.rows.iter().map(|row| run.plan.connections(row)).max().unwrap_or(0);
    server::check_file_limit(connections_max)?;
    let mut results = Results {
        environment: Environment::read(words),
        plan: &run.plan,
        quick: run.quick,
        repeated: 0,
        known,
        wanted: &run.rows,
        rows: Vec::new(),
    };
    let has_wrk = results.environment.wrk.is_some();
    let contests: Vec<Vec<Contestant<'_>>> = run.rows.iter().map(|row| contestants(row, known)).collect();
    let turns = run.rows.iter().zip(&contests).flat_map(|(row, contestants)| {
        let measured = contestants.iter().filter(|contestant| contestant.peer.is_some()).count();
        std::iter::repeat_n(run.plan.turn(row), measured * run.plan.rounds(row))
    });
    let progress = Progress::new(now_ns(), turns);
    let patience_ns = run.plan.patience.as_nanos() as u64;
    let mut bench = Bench { plan: &run.plan, places, cores: Cores::take()?, patience_ns, repeated: 0, progress };
    for (row, contestants) in run.rows.iter().zip(&contests) {
        let skipped = (row.needs_wrk() && !has_wrk).then(|| "wrk is not installed".to_owned());
        let mut measured = RowResults { row, connections: run.plan.connections(row), cells: Vec::new(), skipped };
        if measured.skipped.is_none() {
            measured.cells = bench.measure_row(row, contestants);
        }
        results.rows.push(measured);
        results.repeated = bench.repeated;
        if let Some(folder) = &run.output {
            write(&results, folder)?;
        }
    }
    Ok((report::markdown(&results), !results.has_failed()))
}

/// Who takes turns in a row.
struct Contestant<'a> {
    name: &'a str,
    /// The server; absent where it has no such route.
    peer: Option<&'a Peer>,
}

fn contestants<'a>(row: &Row, known: &'a [Known]) -> Vec<Contestant<'a>> {
    let here = known.iter().filter(|known| known.version.is_ok()).map(|known| &known.peer);
    match row.contest() {
        Contest::Servers => {
            let of = |peer: &'a Peer| Contestant {
                name: &peer.name,
                peer: Some(peer).filter(|_| peer.serves(row.routes())),
            };
            here.map(of).collect()
        }
        Contest::Promised => here
            .filter(|peer| [BAIWAN, AXUM].contains(&&peer.name[..]))
            .map(|peer| Contestant { name: &peer.name, peer: Some(peer) })
            .collect(),
        Contest::Generators => {
            let baiwan = here.into_iter().find(|peer| peer.name == BAIWAN);
            let of = |baiwan| GENERATORS.map(|name| Contestant { name, peer: Some(baiwan) });
            baiwan.into_iter().flat_map(of).collect()
        }
    }
}

/// The report, the raw figures and the plots.
fn write(results: &Results<'_>, folder: &Path) -> Result<()> {
    let raw = serde_json::to_string_pretty(&results.json())? + "\n";
    let mut files = vec![("RESULTS.md".to_owned(), report::markdown(results)), ("results.json".to_owned(), raw)];
    for plot in &PLOTS {
        files.extend(plots::svg(results, plot).map(|svg| (format!("plots/{}.svg", plot.name), svg)));
    }
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot create {}", plots.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What all measurements share.
struct Bench<'a> {
    plan: &'a Plan,
    places: Places,
    cores: Cores,
    patience_ns: u64,
    repeated: usize,
    progress: Progress,
}

impl Bench<'_> {
    fn measure_row(&mut self, row: &Row, contestants: &[Contestant<'_>]) -> Vec<Cell> {
        let cell = |contestant: &Contestant<'_>| Cell {
            name: contestant.name.to_owned(),
            no_route: contestant.peer.is_none(),
            ..Cell::default()
        };
        let mut cells: Vec<Cell> = contestants.iter().map(cell).collect();
        let count = self.plan.rounds(row);
        for round in 1..=count {
            for (contestant, cell) in contestants.iter().zip(&mut cells) {
                let Some(peer) = contestant.peer else { continue };
                if cell.rounds.is_empty() && cell.failures.len() >= FAILURES_MAX {
                    self.progress.advance(self.plan.turn(row));
                    continue;
                }
                let left = self.progress.text(now_ns());
                eprintln!("[{left}] {}: {}, round {round} of {count}", row.name, contestant.name);
                match self.measure_calm(row, peer, contestant.name) {
                    Ok(figures) => cell.rounds.push(figures),
                    Err(error) => {
                        eprintln!("{}: {} failed: {error:#}", row.name, contestant.name);
                        cell.failures.push(format!("{error:#}"));
                    }
                }
                self.progress.advance(self.plan.turn(row));
            }
        }
        cells
    }

    /// Waits until other processes leave the machine alone, measures, and repeats what they disturbed all the same, as long as
    /// there is patience; returns what was disturbed least. Only the others' CPU time decides, never the figures.
    fn measure_calm(&mut self, row: &Row, peer: &Peer, contestant: &str) -> Result<Figures> {
        let others = |figures: &Figures| figures.get(OTHERS_CORES).copied().unwrap_or(0.0);
        if !row.work.needs_calm() {
            return self.measure_once(row, peer, contestant);
        }
        self.wait_for_calm()?;
        let mut best = self.measure_once(row, peer, contestant)?;
        while others(&best) > OTHERS_CORES_MAX && self.patience_ns > 0 {
            self.repeated += 1;
            self.wait_for_calm()?;
            let start = now_ns();
            let figures = self.measure_once(row, peer, contestant)?;
            self.patience_ns = self.patience_ns.saturating_sub(now_ns() - start);
            if others(&figures) < others(&best) {
                best = figures;
            }
        }
        Ok(best)
    }

    fn wait_for_calm(&mut self) -> Result<()> {
        while self.patience_ns > 0 {
            let (start, used) = (now_ns(), proc_files::machine_cpu_ns()?);
            settle(CALM_SAMPLE);
            let (wall_ns, used_ns) = (now_ns() - start, proc_files::machine_cpu_ns()? - used);
            if used_ns as f64 <= OTHERS_CORES_MAX * wall_ns as f64 {
                break;
            }
            self.patience_ns = self.patience_ns.saturating_sub(wall_ns);
        }
        Ok(())
    }

    fn measure_once(&self, row: &Row, peer: &Peer, contestant: &str) -> Result<Figures> {
        // The other rows must not come near a deadline.
        let deadline = self.plan.stall.deadline.filter(|_| matches!(row.work, Work::Stalled(_)));
        let mut server = Server::start(peer, &self.places, &self.cores, deadline)?;
        measure(row, self.plan, &mut server, contestant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::with_results;
    use crate::rows::ROWS;

    fn turns(name: &str) -> Vec<(String, bool)> {
        with_results(Vec::new(), &[], |results| {
            let row = ROWS.iter().find(|row| row.name == name).unwrap();
            let contestants = contestants(row, results.known);
            contestants.iter().map(|contestant| (contestant.name.to_owned(), contestant.peer.is_some())).collect()
        })
    }

    #[test]
    fn servers_that_are_not_here_take_no_turns_and_those_without_a_route_are_named() {
        let turns = turns("echo");
        assert!(
            turns.contains(&("axum".to_owned(), true)) && turns.contains(&("epoll".to_owned(), false)),
            "{turns:?}"
        );
        // The last of the list, which the sample leaves out.
        assert!(turns.iter().all(|(name, _)| name != "node"), "{turns:?}");
    }

    #[test]
    fn promises_are_for_baiwan_and_axum_and_generators_are_compared_with_each_other() {
        let names = |name: &str| turns(name).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("ws"), ["baiwan", "axum"]);
        assert_eq!(names("stop"), ["baiwan", "axum"]);
        assert_eq!(names("generator"), GENERATORS);
    }
}
