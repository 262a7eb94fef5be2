//! All rows, one after the other: the servers take turns in sittings, so that a drifting machine hits alike what is compared, and
//! what one of them fails at does not end the measurement of the others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bench::proc_files::MachineTime;

use crate::cli::Run;
use crate::clock::{now_ns, settle};
use crate::environment::Environment;
use crate::figures::Figures;
use crate::measure::measure;
use crate::peers::{AXUM, BAIWAN, Known, Peer, Places};
use crate::plots::{self, PLOTS};
use crate::progress::Progress;
use crate::readme;
use crate::report;
use crate::results::{Cell, Results, Round, RowResults};
use crate::rows::{Contest, GENERATORS, Plan, Row, Work};
use crate::server::{self, Cores, Server, SetUp};
use crate::sittings;

/// A disturbed sitting is repeated this often at the most.
const REPEATS_MAX: usize = 3;
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
        known,
        wanted: &run.rows,
        rows: Vec::new(),
    };
    let has_wrk = results.environment.wrk.is_some();
    let contests: Vec<Vec<Contestant<'_>>> = run.rows.iter().map(|row| contestants(row, known)).collect();
    let turns = run.rows.iter().zip(&contests).flat_map(|(row, contestants)| {
        std::iter::repeat_n(run.plan.turn(row), turns(row, contestants) * run.plan.rounds(row))
    });
    let progress = Progress::new(now_ns(), turns);
    let patience_ns = run.plan.patience.as_nanos() as u64;
    let mut bench = Bench { plan: &run.plan, places, cores: Cores::take()?, patience_ns, sitting: 0, progress };
    for (row, contestants) in run.rows.iter().zip(&contests) {
        let skipped = (row.needs_wrk() && !has_wrk).then(|| "wrk is not installed".to_owned());
        let mut measured = RowResults { row, connections: run.plan.connections(row), cells: Vec::new(), skipped };
        if measured.skipped.is_none() {
            measured.cells = bench.measure_row(row, contestants);
        }
        results.rows.push(measured);
        if let Some(folder) = &run.output {
            write(&results, folder, run.readme)?;
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

/// How many turns a row's contestants take in a round.
fn turns(row: &Row, contestants: &[Contestant<'_>]) -> usize {
    let taking: Vec<usize> = (0..contestants.len()).filter(|index| contestants[*index].peer.is_some()).collect();
    let reference = taking.iter().copied().find(|index| contestants[*index].name == row.contest().reference());
    sittings::of_round(&taking, reference, 0, row.work.needs_calm()).iter().map(Vec::len).sum()
}

/// The report, the raw figures, the plots, and the table for the README where that is what the run is for.
fn write(results: &Results<'_>, folder: &Path, readme: bool) -> Result<()> {
    let raw = serde_json::to_string_pretty(&results.json())? + "\n";
    let mut files = vec![("RESULTS.md".to_owned(), report::markdown(results)), ("results.json".to_owned(), raw)];
    if readme {
        files.push(("README-table.md".to_owned(), readme::table(results)));
    }
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
    /// The number of the next sitting.
    sitting: usize,
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
        let reference = row.contest().reference();
        let count = self.plan.rounds(row);
        for round in 0..count {
            let given_up = |cell: &Cell| cell.rounds.is_empty() && cell.failures.len() >= FAILURES_MAX;
            let taking = |index: &usize| contestants[*index].peer.is_some() && !given_up(&cells[*index]);
            let taking: Vec<usize> = (0..contestants.len()).filter(taking).collect();
            let reference = taking.iter().copied().find(|index| contestants[*index].name == reference);
            for sitting in sittings::of_round(&taking, reference, round, row.work.needs_calm()) {
                let what = format!("{}, round {} of {count}", row.name, round + 1);
                self.sit(row, &what, contestants, &sitting, &mut cells);
            }
        }
        cells
    }

    /// Measures servers back to back, and again if others disturbed one of them: at most [`REPEATS_MAX`] times, and as long as
    /// there is patience. Only the others' CPU time decides, never the figures.
    fn sit(&mut self, row: &Row, what: &str, contestants: &[Contestant<'_>], sitting: &[usize], cells: &mut [Cell]) {
        for repeat in 0..=REPEATS_MAX {
            let begin_ns = now_ns();
            if row.work.needs_calm() {
                self.wait_for_calm();
            }
            let mut measured: Vec<(usize, Figures)> = Vec::new();
            for index in sitting {
                let name = contestants[*index].name;
                let Some(peer) = contestants[*index].peer else { continue };
                eprintln!("[{}] {what}: {name}", self.progress.text(now_ns()));
                match self.measure_once(row, peer, name) {
                    Ok(figures) => measured.push((*index, figures)),
                    Err(error) => {
                        eprintln!("{what}: {name} failed: {error:#}");
                        cells[*index].failures.push(format!("{error:#}"));
                    }
                }
                if repeat == 0 {
                    self.progress.advance(self.plan.turn(row));
                }
            }
            let thrown_away =
                sittings::is_disturbed(measured.iter().map(|(_, figures)| figures), self.plan.others_cores_max);
            for (index, figures) in measured {
                cells[index].rounds.push(Round { sitting: self.sitting, figures, thrown_away });
            }
            self.sitting += 1;
            if !thrown_away {
                return;
            }
            eprintln!("{what}: thrown away, because others took too much of the machine");
            self.patience_ns = self.patience_ns.saturating_sub(now_ns() - begin_ns);
            if self.patience_ns == 0 {
                return;
            }
        }
    }

    /// Waits until others leave the machine alone, as long as there is patience.
    fn wait_for_calm(&mut self) {
        let Some(most) = self.plan.others_cores_max else { return };
        while self.patience_ns > 0 {
            let (start_ns, before) = (now_ns(), MachineTime::read());
            settle(CALM_SAMPLE);
            let wall_ns = now_ns() - start_ns;
            // What cannot be read cannot be waited for; the measurement will say so.
            let (Ok(before), Ok(after)) = (before, MachineTime::read()) else { return };
            if after.others_cores(before, 0, wall_ns) <= most {
                return;
            }
            self.patience_ns = self.patience_ns.saturating_sub(wall_ns);
        }
    }

    fn measure_once(&self, row: &Row, peer: &Peer, contestant: &str) -> Result<Figures> {
        // The other rows must not come near a deadline.
        let deadline = self.plan.stall.deadline.filter(|_| matches!(row.work, Work::Stalled(_)));
        let mut server = Server::start(peer, &self.places, &self.cores, SetUp { deadline, ..SetUp::USUAL })?;
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
