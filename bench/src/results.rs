//! All figures of a run, and their form as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::bounds;
use crate::environment::Environment;
use crate::figures::{Figures, others_cores};
use crate::peers::{BAIWAN, Known};
use crate::rows::{Plan, Row};
use crate::summary::{Ratio, Summary};

/// What one server gave in one sitting.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// The number of the sitting within its row. Rounds of one sitting were measured back to back.
    pub(crate) sitting: usize,
    pub(crate) figures: Figures,
    /// Others took too much of the machine in this sitting: no figure comes from it.
    pub(crate) thrown_away: bool,
}

/// One server in one row.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cell {
    /// Of the server, or the load generator.
    pub(crate) name: String,
    /// Every round that did not fail, those that were thrown away among them.
    pub(crate) rounds: Vec<Round>,
    /// Why rounds failed.
    pub(crate) failures: Vec<String>,
    /// It has no such route, so there are neither.
    pub(crate) no_route: bool,
}

impl Cell {
    /// The rounds that count.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(|round| !round.thrown_away)
    }

    /// A figure in a sitting that counts.
    fn figure_in(&self, sitting: usize, figure: &str) -> Option<f64> {
        self.kept().find(|round| round.sitting == sitting)?.figures.get(figure).copied()
    }
}

/// One row.
pub(crate) struct RowResults {
    pub(crate) row: &'static Row,
    pub(crate) connections: usize,
    pub(crate) cells: Vec<Cell>,
    /// Why it was not measured at all.
    pub(crate) skipped: Option<String>,
}

impl RowResults {
    pub(crate) fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.name == name)
    }

    /// A figure of a server over all rounds that count; `None` when there is no such figure.
    pub(crate) fn summary(&self, name: &str, figure: &str) -> Option<Summary> {
        Summary::of(self.values(name, figure))
    }

    /// The sum of a figure of a server over all rounds that count.
    pub(crate) fn total(&self, name: &str, figure: &str) -> Option<f64> {
        self.values(name, figure).reduce(|sum, value| sum + value)
    }

    fn values(&self, name: &str, figure: &str) -> impl Iterator<Item = f64> {
        let rounds = self.cell(name).into_iter().flat_map(Cell::kept);
        rounds.filter_map(move |round| round.figures.get(figure).copied())
    }

    /// A server's figure divided by that of another, sitting by sitting: a machine that drifts between sittings moves both.
    pub(crate) fn ratio(&self, name: &str, to: &str, figure: &str) -> Option<Ratio> {
        let (cell, reference) = (self.cell(name)?, self.cell(to)?);
        let pairs = cell.kept().filter_map(|round| {
            let value = *round.figures.get(figure)?;
            Some((value, reference.figure_in(round.sitting, figure)?))
        });
        Ratio::of(pairs)
    }

    /// How many sittings there were, and how many of them were thrown away.
    pub(crate) fn sittings(&self) -> (usize, usize) {
        let rounds = || self.cells.iter().flat_map(|cell| &cell.rounds);
        let numbers =
            |rounds: &mut dyn Iterator<Item = &Round>| rounds.map(|round| round.sitting).collect::<BTreeSet<_>>();
        let all = numbers(&mut rounds());
        let thrown_away = numbers(&mut rounds().filter(|round| round.thrown_away));
        (all.len(), thrown_away.len())
    }

    fn json(&self) -> Value {
        let cells: BTreeMap<_, _> = self.cells.iter().map(|cell| (&cell.name, cell_json(cell))).collect();
        json!({
            "row": self.row.name,
            "title": self.row.title.replace('`', ""),
            "connections": self.connections,
            "promised": bounds::bounds(self.row.work),
            "skipped": self.skipped,
            "servers": cells,
        })
    }
}

fn cell_json(cell: &Cell) -> Value {
    let round =
        |round: &Round| json!({ "sitting": round.sitting, "thrown_away": round.thrown_away, "figures": round.figures });
    let rounds: Vec<Value> = cell.rounds.iter().map(round).collect();
    json!({ "rounds": rounds, "failures": cell.failures, "no_route": cell.no_route })
}

/// What a run has given so far.
pub(crate) struct Results<'a> {
    pub(crate) environment: Environment,
    pub(crate) plan: &'a Plan,
    pub(crate) quick: bool,
    pub(crate) known: &'a [Known],
    /// The rows that are to be measured.
    pub(crate) wanted: &'a [&'static Row],
    /// Those that were.
    pub(crate) rows: Vec<RowResults>,
}

impl Results<'_> {
    /// What other processes and other guests of the host used during the timed parts that count, in cores.
    pub(crate) fn others(&self) -> Option<Summary> {
        Summary::of(
            self.rows
                .iter()
                .flat_map(|row| &row.cells)
                .flat_map(Cell::kept)
                .filter_map(|round| others_cores(&round.figures)),
        )
    }

    /// How many sittings there were, and how many of them were thrown away.
    pub(crate) fn sittings(&self) -> (usize, usize) {
        let counts = self.rows.iter().map(RowResults::sittings);
        counts.fold((0, 0), |(all, thrown_away), row| (all + row.0, thrown_away + row.1))
    }

    /// The rows that are still to be measured.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static Row> {
        let is_there = |row: &Row| self.rows.iter().any(|results| results.row.name == row.name);
        self.wanted.iter().copied().filter(move |row| !is_there(row))
    }

    /// What a server is called in the report; a load generator has only its name.
    pub(crate) fn title(&self, name: &str) -> String {
        let Some(known) = self.known.iter().find(|known| known.peer.name == name) else { return name.to_owned() };
        match known.peer.is_limit() {
            true => format!("*{}*", known.peer.title),
            false => known.peer.title.clone(),
        }
    }

    /// Whether a measurement failed that nobody may fail: any of a quick pass, and any of Baiwan.
    pub(crate) fn has_failed(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.any(|cell| !cell.failures.is_empty() && (self.quick || cell.name == BAIWAN))
    }

    /// The raw figures.
    pub(crate) fn json(&self) -> Value {
        let environment = &self.environment;
        let servers = self.known.iter().map(|known| {
            let (version, missing) = (known.version.as_ref().ok(), known.version.as_ref().err());
            json!({ "name": known.peer.name, "title": known.peer.title, "version": version, "missing": missing })
        });
        json!({
            "date": environment.date,
            "kernel": environment.kernel,
            "cpu": environment.cpu,
            "cores": environment.cores,
            "memory_gib": environment.memory_gib,
            "rustc": environment.rustc,
            "wrk": environment.wrk,
            "commit": environment.commit,
            "crates": environment.crates.iter().cloned().collect::<BTreeMap<_, _>>(),
            "command": environment.command,
            "load_averages_before": environment.load_before,
            "quick": self.quick,
            "warm_seconds": self.plan.warm.as_secs_f64(),
            "timed_seconds": self.plan.timed.as_secs_f64(),
            "wrk_seconds": self.plan.wrk.as_secs_f64(),
            "others_cores_max": self.plan.others_cores_max,
            "sittings": self.sittings().0,
            "sittings_thrown_away": self.sittings().1,
            "servers": servers.collect::<Vec<_>>(),
            "missing_rows": self.missing().map(|row| row.name).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(RowResults::json).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Results that tests make up.

    use super::*;
    use crate::rows::ROWS;

    /// A cell with one figure, a round for each value, each in a sitting of its own.
    pub(crate) fn cell(name: &str, figure: &'static str, values: &[f64]) -> Cell {
        with_rounds(name, values.iter().map(|value| Figures::from([(figure, *value)])))
    }

    /// The same, with all figures of each round.
    pub(crate) fn with_rounds(name: &str, rounds: impl IntoIterator<Item = Figures>) -> Cell {
        let round = |(sitting, figures)| Round { sitting, figures, thrown_away: false };
        Cell { name: name.to_owned(), rounds: rounds.into_iter().enumerate().map(round).collect(), ..Cell::default() }
    }

    /// A server whose rounds all failed.
    pub(crate) fn failed(name: &str, cause: &str) -> Cell {
        Cell { name: name.to_owned(), failures: vec![cause.to_owned()], ..Cell::default() }
    }

    pub(crate) fn row(name: &str, cells: Vec<Cell>) -> RowResults {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        RowResults { row, connections: row.connections, cells, skipped: None }
    }

    /// Results of these rows and of all servers of the list, of which the last one is not here.
    pub(crate) fn with_results<T>(
        rows: Vec<RowResults>,
        wanted: &[&'static Row],
        test: impl FnOnce(&mut Results<'_>) -> T,
    ) -> T {
        let peers = crate::peers::parse(include_str!("../peers/peers.json")).unwrap();
        let mut known: Vec<Known> =
            peers.into_iter().map(|peer| Known { peer, version: Ok("1.2".to_owned()) }).collect();
        if let Some(last) = known.last_mut() {
            last.version = Err("cannot be started: it was not installed".to_owned());
        }
        let environment = Environment::read(&["--rounds".to_owned(), "1".to_owned()]);
        test(&mut Results { environment, plan: &Plan::FULL, quick: false, known: &known, wanted, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{cell, failed, row, with_results};
    use crate::figures::CPU_US;

    #[test]
    fn a_failed_round_of_baiwan_fails_a_run_and_one_of_another_server_only_a_quick_pass() {
        for (name, full, quick) in [("baiwan", true, true), ("nginx", false, true)] {
            let rows = vec![row("json", vec![cell("axum", CPU_US, &[1.0]), failed(name, "closed")])];
            with_results(rows, &[], |results| {
                assert_eq!(results.has_failed(), full, "{name}");
                results.quick = true;
                assert_eq!(results.has_failed(), quick, "{name}");
            });
        }
        with_results(vec![row("json", vec![cell("baiwan", CPU_US, &[1.0])])], &[], |results| {
            results.quick = true;
            assert!(!results.has_failed());
        });
    }

    #[test]
    fn a_ratio_is_of_those_that_were_measured_side_by_side() {
        // The machine became twice as slow in the second sitting and slower again in the third.
        let row = row("json", vec![cell("baiwan", CPU_US, &[2.0, 4.0, 9.0]), cell("nginx", CPU_US, &[2.2, 4.8, 9.0])]);
        let ratio = row.ratio("nginx", "baiwan", CPU_US).unwrap();
        assert_eq!((ratio.text(), ratio.is_equal()), ("equal (1.00 to 1.20)".to_owned(), true));
        assert_eq!(row.ratio("node", "baiwan", CPU_US), None);
    }

    #[test]
    fn a_server_alone_in_its_sitting_has_figures_and_no_ratio() {
        let mut nginx = cell("nginx", CPU_US, &[3.0, 5.0]);
        // Baiwan failed in the second one.
        let row_of = |nginx| row("json", vec![cell("baiwan", CPU_US, &[2.0]), nginx]);
        let ratio = row_of(nginx.clone()).ratio("nginx", "baiwan", CPU_US).unwrap();
        assert_eq!(ratio.text(), "1.50 (1.50 to 1.50)");
        assert_eq!(row_of(nginx.clone()).summary("nginx", CPU_US).unwrap().median, 4.0);
        nginx.rounds.remove(0);
        assert_eq!(row_of(nginx).ratio("nginx", "baiwan", CPU_US), None);
    }

    #[test]
    fn a_sitting_that_was_thrown_away_gives_no_figure_but_is_counted_and_kept_raw() {
        let mut cells = vec![cell("baiwan", CPU_US, &[2.0, 1.0]), cell("nginx", CPU_US, &[9.0, 1.5])];
        for cell in &mut cells {
            cell.rounds[0].thrown_away = true;
        }
        with_results(vec![row("json", cells)], &[], |results| {
            let row = &results.rows[0];
            assert_eq!(row.ratio("nginx", "baiwan", CPU_US).unwrap().text(), "1.50 (1.50 to 1.50)");
            assert_eq!(row.summary("nginx", CPU_US).unwrap().median, 1.5);
            assert_eq!((row.sittings(), results.sittings()), ((2, 1), (2, 1)));
            let json = results.json();
            assert_eq!(json["sittings_thrown_away"], 1);
            let raw = &json["rows"][0]["servers"]["nginx"]["rounds"];
            assert_eq!((&raw[0]["thrown_away"], &raw[0]["figures"][CPU_US]), (&true.into(), &9.0.into()));
            assert_eq!((&raw[1]["thrown_away"], &raw[1]["sitting"]), (&false.into(), &1.into()));
        });
    }
}
