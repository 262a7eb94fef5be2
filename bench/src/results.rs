//! All figures of a run, and their form as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::environment::Environment;
use crate::measure::{Figures, OTHERS_CORES};
use crate::peers::{BAIWAN, Known};
use crate::promises;
use crate::rows::{Plan, Row};
use crate::summary::Summary;

/// One server in one row.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cell {
    /// Of the server, or the load generator.
    pub(crate) name: String,
    /// The figures of every round that did not fail.
    pub(crate) rounds: Vec<Figures>,
    /// Why rounds failed.
    pub(crate) failures: Vec<String>,
    /// It has no such route, so there are neither.
    pub(crate) no_route: bool,
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

    /// A figure of a server over all rounds; `None` when there is no such figure.
    pub(crate) fn summary(&self, name: &str, figure: &str) -> Option<Summary> {
        Summary::of(self.cell(name)?.rounds.iter().filter_map(|figures| figures.get(figure).copied()))
    }

    /// The sum of a figure of a server over all rounds.
    pub(crate) fn total(&self, name: &str, figure: &str) -> Option<f64> {
        let rounds = self.cell(name)?.rounds.iter();
        rounds.filter_map(|figures| figures.get(figure).copied()).reduce(|sum, value| sum + value)
    }

    /// A server's median divided by that of another.
    pub(crate) fn ratio(&self, name: &str, to: &str, figure: &str) -> Option<f64> {
        Some(self.summary(name, figure)?.median / self.summary(to, figure)?.median)
    }

    fn json(&self) -> Value {
        let cells: BTreeMap<_, _> = self.cells.iter().map(|cell| (&cell.name, cell_json(cell))).collect();
        json!({
            "row": self.row.name,
            "title": self.row.title.replace('`', ""),
            "connections": self.connections,
            "promised": promises::bounds(self.row.work),
            "skipped": self.skipped,
            "servers": cells,
        })
    }
}

fn cell_json(cell: &Cell) -> Value {
    json!({ "rounds": cell.rounds, "failures": cell.failures, "no_route": cell.no_route })
}

/// What a run has given so far.
pub(crate) struct Results<'a> {
    pub(crate) environment: Environment,
    pub(crate) plan: &'a Plan,
    pub(crate) quick: bool,
    /// Measurements that were repeated because other processes disturbed them.
    pub(crate) repeated: usize,
    pub(crate) known: &'a [Known],
    /// The rows that are to be measured.
    pub(crate) wanted: &'a [&'static Row],
    /// Those that were.
    pub(crate) rows: Vec<RowResults>,
}

impl Results<'_> {
    /// What other processes and other guests of the host used during the timed parts, in cores: the median and the most.
    pub(crate) fn others(&self) -> Option<Summary> {
        let rounds = self.rows.iter().flat_map(|row| row.cells.iter().flat_map(|cell| &cell.rounds));
        Summary::of(rounds.filter_map(|figures| figures.get(OTHERS_CORES).copied()))
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
            "repeated": self.repeated,
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

    /// A cell with one figure, a round for each value.
    pub(crate) fn cell(name: &str, figure: &'static str, values: &[f64]) -> Cell {
        let rounds = values.iter().map(|value| Figures::from([(figure, *value)])).collect();
        Cell { name: name.to_owned(), rounds, ..Cell::default() }
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
        test(&mut Results { environment, plan: &Plan::FULL, quick: false, repeated: 0, known: &known, wanted, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{cell, failed, row, with_results};
    use crate::measure::CPU_US;

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
    fn a_ratio_is_of_medians() {
        let row = row("json", vec![cell("baiwan", CPU_US, &[2.0, 1.0, 9.0]), cell("nginx", CPU_US, &[5.0])]);
        assert_eq!(row.ratio("nginx", "baiwan", CPU_US), Some(2.5));
        assert_eq!(row.ratio("node", "baiwan", CPU_US), None);
    }
}
