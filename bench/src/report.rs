//! The report as Markdown. Every number in it was measured in the same run.

use std::fmt::Write;

use crate::figures::{CPU_US, P99_US, USER_BYTES};
use crate::numbers::{NONE, grouped, ratio};
use crate::peers::{AXUM, BAIWAN};
use crate::plots::PLOTS;
use crate::promises;
use crate::results::{Results, RowResults};
use crate::rows::{Group, ROUNDS, ROUNDS_MAIN, ROUNDS_README, ROUNDS_README_MEMORY, ROUNDS_STOP, ROWS, Rounds, Row};
use crate::tables::{self, Notes};

/// The whole report.
pub(crate) fn markdown(results: &Results<'_>) -> String {
    let mut text = String::from("# Baiwan beside other servers\n\n");
    if results.quick {
        text.push_str("**A short pass with few connections: it shows that everything works. Do not quote it.**\n\n");
    }
    text.push_str(&coverage(results));
    text.push_str(&setting(results));
    text.push_str(&headline(results));
    for plot in PLOTS.iter().filter(|plot| results.rows.iter().any(|row| plot.rows.contains(&row.row.name))) {
        let _ = write!(text, "\n![{}](plots/{}.svg)\n", plot.title, plot.name);
    }
    text.push_str(&servers(results));
    let mut notes = Notes::default();
    let mut last = None;
    for row in &ROWS {
        if last.replace(row.group) != Some(row.group) && row.group != Group::Promise {
            text.push_str(&tables::section(results, row.group, &mut notes));
        }
    }
    text.push_str(&promises::section(&results.rows, &mut notes));
    text + &notes.markdown()
}

/// Which rows are not in it, and why.
fn coverage(results: &Results<'_>) -> String {
    let names = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| row.name).collect::<Vec<_>>().join(", ");
    let missing = names(&mut results.missing().map(|row| row as &Row));
    let is_wanted = |row: &&Row| results.wanted.iter().any(|wanted| wanted.name == row.name);
    let left_out = names(&mut ROWS.iter().filter(|row| !is_wanted(row)));
    let mut text = String::new();
    if !missing.is_empty() {
        let _ = writeln!(text, "**The run has not ended, or was cut. These rows are missing: {missing}.**\n");
    }
    if !left_out.is_empty() {
        let _ = writeln!(text, "A run of a part; these rows were not asked for: {left_out}.\n");
    }
    text
}

fn setting(results: &Results<'_>) -> String {
    let Results { environment, plan, .. } = results;
    let others = results.others().map_or_else(
        || "not measured".to_owned(),
        |others| format!("{:.2} of a core (median), {:.2} (most)", others.median, others.max),
    );
    let (sittings, thrown_away) = results.sittings();
    let limit = plan.others_cores_max.map_or_else(
        || "none is in a short pass".to_owned(),
        |max| format!("others took more than {:.0} % of a core", max * 100.0),
    );
    format!(
        "Loopback, {cores} cores, one server core: the server has one core, the load another. {date}.\n\n\
         | | |\n|---|---|\n\
         | kernel | Linux {kernel} |\n\
         | machine | {cpu}, {cores} cores, {memory:.1} GiB |\n\
         | rustc | {rustc} |\n\
         | crates | {crates} |\n\
         | wrk | {wrk} |\n\
         | sources | {commit} |\n\
         | command | `{command}` |\n\
         | rounds | {rounds}, for each server in turns, {warm} s to warm up, {timed} s timed (wrk {wrk_s} s) |\n\
         | load before the run | {load} |\n\
         | other processes and guests during timed parts | {others} |\n\
         | sittings thrown away | {thrown_away} of {sittings}: {limit} |\n\n\
         Figures are medians of the rounds, with the least and the most in brackets. A ratio is the median of the ratios of all\n\
         rounds, with the least and the most: in a sitting, Baiwan is measured right before or right after whom it is compared\n\
         with, in alternating order. Where the least and the most are on both sides of 1, the two are *equal*. A sitting in which\n\
         others took too much is thrown away and repeated; what it gave is in results.json all the same. Every round has a\n\
         server process of its own. Opening and closing connections is not timed, but where a row says so. Every answer is\n\
         compared, but by wrk; a cell whose rounds had an error or a wrong answer says so, with the cause.\n",
        cores = environment.cores,
        date = environment.date,
        kernel = environment.kernel,
        cpu = environment.cpu,
        memory = environment.memory_gib,
        rustc = environment.rustc,
        crates = environment.crates_text(),
        wrk = environment.wrk.as_deref().unwrap_or("not installed"),
        commit = environment.commit,
        command = environment.command,
        rounds = rounds(plan.rounds),
        warm = plan.warm.as_secs_f64(),
        timed = plan.timed.as_secs_f64(),
        wrk_s = plan.wrk.as_secs(),
        load = environment.load_before,
    )
}

fn rounds(rounds: Rounds) -> String {
    match rounds {
        Rounds::Usual => format!("{ROUNDS} (get-small and get-large {ROUNDS_MAIN}, stop {ROUNDS_STOP})"),
        Rounds::Readme => format!("{ROUNDS_README} (memory {ROUNDS_README_MEMORY})"),
        Rounds::Each(rounds) => rounds.to_string(),
    }
}

/// What was measured, how it is set up, and what is not here.
fn servers(results: &Results<'_>) -> String {
    let mut text = String::from(
        "\n## Servers\n\n\
         How each is set up, and how to get it: [bench/peers](/bench/peers/README.md). Those named *limit* are loops that read\n\
         nothing and answer always the same: nothing that speaks HTTP can use less.\n\n\
         | | version | |\n|---|---|---|\n",
    );
    for known in results.known {
        let version = match &known.version {
            Ok(version) => version.clone(),
            Err(reason) => format!("**not measured**: {}", reason.replace('|', "\\|")),
        };
        let _ = writeln!(text, "| {} | {version} | {} |", results.title(&known.peer.name), known.peer.note);
    }
    text
}

/// The figures to quote, as far as their rows were measured.
fn headline(results: &Results<'_>) -> String {
    const FIGURES: [(&str, &str, &str, &str, usize); 5] = [
        ("get-small", CPU_US, "server CPU of a GET, closed loop", "µs", 2),
        ("get-large", CPU_US, "server CPU of a GET, closed loop", "µs", 2),
        ("rate-large", P99_US, "p99 latency at a fixed rate", "µs", 0),
        ("idle", USER_BYTES, "user memory of an idle connection", "bytes", 0),
        ("pending", USER_BYTES, "user memory of a pending handler", "bytes", 0),
    ];
    let mut text = String::from(
        "\n## In short\n\n\
         | | connections | Baiwan | axum on hyper | axum / Baiwan | best of the others |\n|---|---|---|---|---|---|\n",
    );
    let heading = text.len();
    for (name, figure, title, unit, digits) in FIGURES {
        let Some(row) = results.rows.iter().find(|row| row.row.name == name) else { continue };
        let [baiwan, axum] = [BAIWAN, AXUM].map(|server| {
            let summary = row.summary(server, figure);
            summary.map_or_else(|| NONE.to_owned(), |summary| format!("{} {unit}", grouped(summary.median, digits)))
        });
        let connections = grouped(row.connections as f64, 0);
        let best = best(results, row, figure, digits, unit);
        let ratio = ratio(row.ratio(AXUM, BAIWAN, figure));
        let _ = writeln!(text, "| {title} | {connections} | {baiwan} | {axum} | {ratio} | {best} |");
    }
    if text.len() > heading { text } else { String::new() }
}

/// Who has least of a figure, limits and Baiwan apart.
fn best(results: &Results<'_>, row: &RowResults, figure: &str, digits: usize, unit: &str) -> String {
    let is_limit = |name: &str| results.known.iter().any(|known| known.peer.name == name && known.peer.is_limit());
    let others = row.cells.iter().filter(|cell| cell.name != BAIWAN && !is_limit(&cell.name));
    let medians = others.filter_map(|cell| Some((row.summary(&cell.name, figure)?.median, &cell.name)));
    let best = medians.min_by(|one, other| one.0.total_cmp(&other.0));
    best.map_or_else(
        || NONE.to_owned(),
        |(median, name)| format!("{} {unit}, {}", grouped(median, digits), results.title(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{cell, row, with_results};

    #[test]
    fn the_headline_quotes_medians_and_the_best_that_is_no_limit() {
        let cells = vec![
            cell("baiwan", USER_BYTES, &[70.0, 64.0, 60.0]),
            cell("axum", USER_BYTES, &[6_400.0, 1.0, 9_000.0]),
            cell("epoll", USER_BYTES, &[1.0]),
            cell("nginx", USER_BYTES, &[300.0]),
        ];
        let text = with_results(vec![row("idle", cells)], &[], |results| headline(results));
        let line = "| 15,000 | 64 bytes | 6,400 bytes | equal (0.02 to 150) | 300 bytes, nginx |\n";
        assert!(text.ends_with(line), "{text}");
    }

    #[test]
    fn a_report_of_a_run_that_was_cut_names_what_is_missing() {
        let wanted: Vec<&'static Row> = ROWS.iter().take(3).collect();
        let text = with_results(vec![row("get-small", vec![cell("baiwan", CPU_US, &[1.0])])], &wanted, |results| {
            markdown(results)
        });
        assert!(text.contains("These rows are missing: get-medium, get-large."), "{text}");
        assert!(text.contains("not asked for: get-wrk, json, echo"), "{text}");
        assert!(text.contains("plots/cpu.svg") && !text.contains("plots/memory.svg"), "{text}");
    }

    #[test]
    fn a_report_says_how_much_was_thrown_away_and_why() {
        let mut cells = vec![cell("baiwan", CPU_US, &[1.0, 2.0, 3.0]), cell("axum", CPU_US, &[2.0, 4.0])];
        cells[1].rounds[1].thrown_away = true;
        cells[0].rounds[1].thrown_away = true;
        let text = with_results(vec![row("get-small", cells)], &[], |results| markdown(results));
        assert!(text.contains("| sittings thrown away | 1 of 3: others took more than 5 % of a core |"), "{text}");
    }

    #[test]
    fn a_server_that_is_not_here_is_named_with_the_cause() {
        let text = with_results(Vec::new(), &[], |results| markdown(results));
        let line = text.lines().find(|line| line.contains("**not measured**")).unwrap();
        assert!(line.contains("it was not installed"), "{line}");
    }
}
