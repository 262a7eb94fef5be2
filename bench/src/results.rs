//! All figures of a run, and their form as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::environment::Environment;
use crate::measure::{Figures, OTHERS_CORES};
use crate::promises;
use crate::rows::{Plan, ROUNDS, Row};
use crate::server::SERVERS;
use crate::summary::Summary;

/// The figures of one row: for each server, those of every round.
pub(crate) struct RowResults {
    pub(crate) row: &'static Row,
    pub(crate) connections: usize,
    pub(crate) rounds: [Vec<Figures>; SERVERS.len()],
}

impl RowResults {
    /// A figure of a server over all rounds; `None` when this row has no such figure.
    pub(crate) fn summary(&self, server: usize, figure: &str) -> Option<Summary> {
        Summary::of(self.rounds[server].iter().filter_map(|figures| figures.get(figure).copied()))
    }

    /// The sum of a figure of a server over all rounds.
    pub(crate) fn total(&self, server: usize, figure: &str) -> Option<f64> {
        self.rounds[server].iter().filter_map(|figures| figures.get(figure).copied()).reduce(|sum, value| sum + value)
    }

    /// The others' median divided by Baiwan's.
    pub(crate) fn ratio(&self, figure: &str) -> Option<f64> {
        let [baiwan, other] = [0, 1].map(|server| self.summary(server, figure));
        Some(other?.median / baiwan?.median)
    }

    fn json(&self) -> Value {
        let servers: BTreeMap<_, _> = SERVERS.iter().zip(&self.rounds).collect();
        json!({
            "row": self.row.name,
            "title": self.row.title.replace('`', ""),
            "connections": self.connections,
            "promised": promises::bounds(self.row.work),
            "rounds": servers,
        })
    }
}

/// What a run gave.
pub(crate) struct Results<'a> {
    pub(crate) environment: Environment,
    pub(crate) plan: &'a Plan,
    pub(crate) quick: bool,
    /// Measurements that were repeated because other processes disturbed them.
    pub(crate) repeated: usize,
    pub(crate) rows: Vec<RowResults>,
}

impl Results<'_> {
    /// What other processes and other guests of the host used during the timed parts, in cores: the median and the most.
    pub(crate) fn others(&self) -> Option<Summary> {
        let rounds = self.rows.iter().flat_map(|row| row.rounds.iter().flatten());
        Summary::of(rounds.filter_map(|figures| figures.get(OTHERS_CORES).copied()))
    }

    /// The raw figures.
    pub(crate) fn json(&self) -> Value {
        let environment = &self.environment;
        json!({
            "date": environment.date,
            "kernel": environment.kernel,
            "cpu": environment.cpu,
            "cores": environment.cores,
            "memory_gib": environment.memory_gib,
            "rustc": environment.rustc,
            "commit": environment.commit,
            "crates": environment.crates.iter().cloned().collect::<BTreeMap<_, _>>(),
            "command": environment.command,
            "load_averages_before": environment.load_before,
            "quick": self.quick,
            "rounds": self.plan.rounds.unwrap_or(ROUNDS),
            "warm_seconds": self.plan.warm.as_secs_f64(),
            "timed_seconds": self.plan.timed.as_secs_f64(),
            "repeated": self.repeated,
            "rows": self.rows.iter().map(RowResults::json).collect::<Vec<_>>(),
        })
    }
}
