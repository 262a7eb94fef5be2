//! The report of a run in pairs, as Markdown and as JSON. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use super::cli::Run;
use super::ratios::Quartiles;
use super::rows::{Plan, Work};
use super::{Outcome, Pair};
use crate::bounds::Bound;
use crate::environment::Environment;
use crate::figures::{CPU_US, Figures, LOAD_CORES, P99_US, REQUESTS_PER_SECOND};
use crate::numbers::grouped;
use crate::peers::Known;

/// What the rows say, and what they do not.
const MEANING: &str = "\
## What the rows say

- CPU is the time of all threads of the server, user and system, and what a thread of the kernel does for it on its core, for one
  request. It is no latency, and no promise of throughput: a server that is asked less has other figures (`rate`).
- `get`, `pipelined`, `connect`, `echo`, `sleep`: closed loop, as in the table of all servers. Each connection asks again when it is
  answered; in `connect` each request has a connection of its own, and opening it counts. The loop over epoll reads no request: no
  server can be as cheap. In `bare` both servers have one function in the place of axum's router.
- `rate`: open loop. Requests are due at constant intervals, and latency counts from then. p99 is of the few thousand requests of a
  turn: it shows that CPU was not saved by waiting, and is no promise for an hour.
- `idle`: 64 connections that ask, on a server with idle connections beside them and on one without. `idle-0` is the same program
  twice, and shows how far a ratio may be from 1 by chance. What idle connections cost while nobody asks is not in it.
- `answer`: 16 connections, 4 for 10 MiB. Baiwan answers from memory and copies into the socket; nginx sends files from the kernel's cache
  (`sendfile`, without a copy, and kept open), as one sets it up for such files. axum on hyper runs the same app as Baiwan. The client
  reads and compares everything, and may be what limits throughput.
- `upload`: one connection, one body after the other. Baiwan's handler (axum's `Body`) counts what comes and keeps nothing. nginx has no
  handler: it answers at once and reads the body to forget it, which costs it less than each of its other ways; but a body of 1 MiB costs
  it less when it keeps all of it in memory (`upload-1m-kept`). To pass uploads on or to store them is another task, for both.
- `workers`: a handler that computes until its thread has had 1 ms of CPU time, on two workers and on one. It shows whether both cores
  are kept busy, not whether the machine's second core is as fast as its first. The load generator shares a core with the second
  worker, and its CPU time stands beside.
- A ratio holds for this machine, over loopback, and for the versions above.
";

/// The whole report.
pub(super) fn markdown(run: &Run, environment: &Environment, known: &[Known], outcomes: &[Outcome]) -> String {
    let mut text = String::from("# Baiwan in pairs\n\n");
    if run.is_quick {
        text.push_str("**A short pass: it shows that everything works. Do not quote it.**\n\n");
    }
    text += &setting(run, environment, known);
    text.push_str("\n| row | | connections | | Baiwan | beside | | ratio | middle half | aim |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        text += &lines(outcome);
    }
    text.push('\n');
    for remark in outcomes.iter().filter_map(remark) {
        let _ = writeln!(text, "- {remark}");
    }
    text.trim_end().to_owned() + "\n\n" + MEANING
}

fn setting(run: &Run, environment: &Environment, known: &[Known]) -> String {
    let Environment { date, kernel, cpu, cores, commit, command, rustc, .. } = environment;
    let plan = &run.plan;
    let versions: Vec<String> = known
        .iter()
        .filter_map(|known| Some(format!("{} ({})", known.peer.title, known.version.as_ref().ok()?)))
        .collect();
    let others = plan.others_cores_max.map_or(String::new(), |max| {
        format!(
            " A pair in which other processes and guests took more than {:.0} % of a core does not count.",
            max * 100.0
        )
    });
    format!(
        "Loopback, one core for the server and one for the load. {date}, {cores} cores, {cpu}, Linux {kernel}, {rustc}, sources {commit}.\n\
         Made with `{command}`.\n\n\
         The ratio is the median of the ratios of all pairs, beside the quartiles. A pair is one turn of Baiwan and one of the other, {warm} s\n\
         to warm up and {timed} s timed, one right after the other, in alternating order. Both servers run, and all connections are open, as\n\
         long as a sitting of {pairs} pairs; a row has {sittings} of them, each with new processes.{others} The figures are medians. Every answer\n\
         is compared.\n\n\
         Servers: {versions}.\n",
        warm = plan.warm.as_secs_f64(),
        timed = plan.timed.as_secs_f64(),
        pairs = plan.pairs,
        sittings = plan.sittings,
        versions = versions.join(", "),
    )
}

/// A line for each figure of a row.
fn lines(outcome: &Outcome) -> String {
    let Outcome { row, connections, idle, .. } = outcome;
    let counted = counted(&outcome.pairs);
    let mut text = String::new();
    for (index, figure) in row.figures().enumerate() {
        let (Some([ours, theirs]), Some(ratio)) = (medians(&counted, figure), ratio(&counted, figure)) else {
            continue;
        };
        let (unit, digits) = unit(figure);
        let name = if index == 0 { format!("`{}`", row.name) } else { String::new() };
        let connections = match idle {
            0 => grouped(*connections as f64, 0),
            _ => format!("{connections} and {} idle", grouped(*idle as f64, 0)),
        };
        let beside = match (row.ours.workers, row.ours.idle) {
            _ if row.theirs.server != row.ours.server => row.theirs.server,
            (1, 0) => "itself",
            (1, _) => "itself without",
            _ => "one worker",
        };
        let aim = if index == 0 { aim(row.aim, ratio.median) } else { String::new() };
        let _ = writeln!(
            text,
            "| {name} | {title} | {connections} | {unit} | {ours} | {beside} | {theirs} | {median:.3} | {low:.3} to {high:.3} | {aim} |",
            title = row.title,
            ours = grouped(ours, digits),
            theirs = grouped(theirs, digits),
            median = ratio.median,
            low = ratio.low,
            high = ratio.high,
        );
    }
    text
}

/// What has to be said of a row beside its figures.
fn remark(outcome: &Outcome) -> Option<String> {
    let (name, pairs) = (outcome.row.name, &outcome.pairs);
    let disturbed = pairs.iter().filter(|pair| pair.is_disturbed).count();
    match &outcome.failure {
        Some(failure) => Some(format!("**`{name}` was not measured: {failure}**")),
        None if disturbed == 0 => None,
        None => {
            let effect = if counted(pairs).len() < pairs.len() {
                "they do not count"
            } else {
                "all count, because there are too few others"
            };
            Some(format!("`{name}`: others took too much in {disturbed} of {} pairs; {effect}", pairs.len()))
        }
    }
}

/// One line for the terminal.
pub(super) fn in_short(outcome: &Outcome) -> String {
    let counted = counted(&outcome.pairs);
    let Some(ratio) = ratio(&counted, outcome.row.figure) else { return "nothing was measured".to_owned() };
    let aim = aim(outcome.row.aim, ratio.median);
    let Quartiles { low, median, high } = ratio;
    format!(
        "{median:.3} ({low:.3} to {high:.3}), {} pairs; aim: {}",
        counted.len(),
        if aim.is_empty() { "none" } else { &aim }
    )
}

/// Everything that was measured.
pub(super) fn json(run: &Run, environment: &Environment, known: &[Known], outcomes: &[Outcome]) -> Value {
    let Environment { date, kernel, cpu, cores, commit, command, rustc, .. } = environment;
    let plan = &run.plan;
    let versions: serde_json::Map<String, Value> =
        known.iter().map(|known| (known.peer.name.clone(), json!(known.version.as_ref().ok()))).collect();
    json!({
        "date": date, "kernel": kernel, "cpu": cpu, "cores": cores, "sources": commit, "command": command, "rustc": rustc,
        "quick": run.is_quick,
        "warm_seconds": plan.warm.as_secs_f64(), "timed_seconds": plan.timed.as_secs_f64(),
        "others_cores_max": plan.others_cores_max,
        "servers": versions,
        "rows": outcomes.iter().map(|outcome| of_row(outcome, plan)).collect::<Vec<_>>(),
    })
}

fn of_row(outcome: &Outcome, plan: &Plan) -> Value {
    let row = outcome.row;
    let counted = counted(&outcome.pairs);
    let compared = row.figures().map(|figure| {
        let value = json!({ "medians": medians(&counted, figure), "ratio": ratio(&counted, figure) });
        (figure.to_owned(), value)
    });
    let (at_most, at_least) = match row.aim {
        Bound::None => (None, None),
        Bound::AtMost(ratio) => (Some(ratio), None),
        Bound::AtLeast(ratio) => (None, Some(ratio)),
    };
    json!({
        "name": row.name, "title": row.title, "ours": row.ours.server, "theirs": row.theirs.server,
        "workers": [row.ours.workers, row.theirs.workers],
        "connections": outcome.connections, "idle": outcome.idle,
        "upload_bytes": if let Work::Upload { bytes, .. } = row.work { Some(plan.upload_bytes(bytes)) } else { None },
        "figure": row.figure, "aim": { "at_most": at_most, "at_least": at_least },
        "compared": compared.collect::<serde_json::Map<_, _>>(),
        "failure": outcome.failure, "seconds": outcome.seconds, "counted": counted.len(),
        "pairs": outcome.pairs.iter().map(|pair| json!({
            "sitting": pair.sitting, "counts": !pair.is_disturbed, "ours": pair.figures[0], "theirs": pair.figures[1],
        })).collect::<Vec<_>>(),
    })
}

/// The pairs that count: those that nobody disturbed, or all of them where that is most.
fn counted(pairs: &[Pair]) -> Vec<&[Figures; 2]> {
    let calm: Vec<_> = pairs.iter().filter(|pair| !pair.is_disturbed).map(|pair| &pair.figures).collect();
    if 2 * calm.len() < pairs.len() { pairs.iter().map(|pair| &pair.figures).collect() } else { calm }
}

/// Ours and theirs.
fn medians(pairs: &[&[Figures; 2]], figure: &str) -> Option<[f64; 2]> {
    let median = |side: usize| Quartiles::of(pairs.iter().filter_map(|pair| pair[side].get(figure).copied()));
    Some([median(0)?.median, median(1)?.median])
}

/// Of ours to theirs, pair by pair.
fn ratio(pairs: &[&[Figures; 2]], figure: &str) -> Option<Quartiles> {
    let ratios = pairs.iter().filter_map(|[ours, theirs]| Some(ours.get(figure)? / theirs.get(figure)?));
    Quartiles::of(ratios.filter(|ratio| ratio.is_finite()))
}

fn unit(figure: &str) -> (&'static str, usize) {
    match figure {
        CPU_US => ("CPU, µs", 2),
        P99_US => ("p99, µs", 0),
        REQUESTS_PER_SECOND => ("a second", 0),
        LOAD_CORES => ("the load's CPU, cores", 3),
        _ => ("", 2),
    }
}

fn aim(bound: Bound, ratio: f64) -> String {
    let (text, is_met) = match bound {
        Bound::None => return String::new(),
        Bound::AtMost(most) => (format!("at most {most}"), ratio <= most),
        Bound::AtLeast(least) => (format!("at least {least}"), ratio >= least),
    };
    if is_met { text } else { format!("{text}: missed") }
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    fn outcome(name: &str, ratios: &[(f64, bool)]) -> Outcome {
        let pair = |(ratio, is_disturbed): &(f64, bool)| Pair {
            sitting: 0,
            figures: [Figures::from([(CPU_US, 10.0 * ratio)]), Figures::from([(CPU_US, 10.0)])],
            is_disturbed: *is_disturbed,
        };
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        Outcome { row, connections: 64, idle: 0, pairs: ratios.iter().map(pair).collect(), failure: None, seconds: 1.0 }
    }

    #[test]
    fn a_line_has_the_median_of_the_ratios_and_says_whether_the_aim_was_missed() {
        let text = lines(&outcome("get-64-axum", &[(0.8, false), (0.9, false), (1.2, false)]));
        assert!(text.contains("| 9.00 | axum | 10.00 | 0.900 | 0.850 to 1.050 | at most 0.88: missed |"), "{text}");
        let text = in_short(&outcome("get-64-axum", &[(0.8, false)]));
        assert!(text.ends_with("aim: at most 0.88"), "{text}");
    }

    #[test]
    fn a_row_that_failed_or_was_disturbed_says_so() {
        assert_eq!(remark(&outcome("get-64-axum", &[(1.0, false)])), None);
        let text = |ratios| remark(&outcome("get-64-axum", ratios)).unwrap();
        assert!(text(&[(1.0, true), (1.0, false), (1.0, false)]).ends_with("in 1 of 3 pairs; they do not count"));
        assert!(text(&[(1.0, true), (1.0, true), (1.0, false)]).contains("in 2 of 3 pairs; all count"));
        let failed = Outcome { failure: Some("status: 404".to_owned()), ..outcome("idle-0", &[]) };
        assert!(remark(&failed).unwrap().contains("`idle-0` was not measured: status: 404"));
    }

    #[test]
    fn a_pair_that_others_disturbed_does_not_count_unless_most_were() {
        let ratio = |ratios| ratio(&counted(&outcome("get-64-axum", ratios).pairs), CPU_US).unwrap().median;
        assert_eq!(ratio(&[(1.0, false), (2.0, true), (1.0, false)]), 1.0);
        assert_eq!(ratio(&[(1.0, false), (2.0, true), (2.0, true)]), 2.0);
    }
}
