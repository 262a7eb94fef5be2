//! The table of figures that the README quotes, made of a run's results. Pure.

use std::fmt::Write;

use crate::figures::{CPU_US, USER_BYTES};
use crate::numbers::{NONE, grouped, ratio};
use crate::peers::{BAIWAN, README_SERVERS};
use crate::results::{Results, RowResults};
use crate::rows::README;

/// What stands first in a line. Lines that follow one of the same words leave them out.
fn words(row: &str) -> &'static str {
    match row {
        "get-small" | "get-medium" | "get-large" => "server CPU for a GET, as fast as it goes",
        "get-wrk" => "the same, asked by wrk",
        "json" => "for JSON",
        "echo" => "for a POST of 1 KiB",
        "pipelined" => "for a GET, 16 of them outstanding on each connection",
        "connect" => "for a connection, a GET and its end",
        "sleep" => "for a handler that sleeps 1 ms",
        "rate-large" => "for a GET at 10,000 requests/s, below saturation",
        "idle" => "user memory of an idle connection that was answered once",
        "pending" => "of a connection whose handler waits",
        "sse" => "of an SSE stream",
        _ => "",
    }
}

/// The table: of CPU, what Baiwan uses and how many times that the others use; of memory, bytes.
pub(crate) fn table(results: &Results<'_>) -> String {
    let mut text = String::from("| | connections |");
    for server in README_SERVERS {
        let times = if server == BAIWAN { "" } else { ", × Baiwan" };
        let _ = write!(text, " {}{times} |", results.title(server));
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(README_SERVERS.len()));
    let mut last = "";
    for row in README.iter().filter_map(|name| results.rows.iter().find(|row| row.row.name == *name)) {
        let words = words(row.row.name);
        let _ = write!(text, "| {} | {} |", if words == last { "" } else { words }, grouped(row.connections as f64, 0));
        for server in README_SERVERS {
            let _ = write!(text, " {} |", cell(row, server));
        }
        text.push('\n');
        last = words;
    }
    text
}

fn cell(row: &RowResults, server: &str) -> String {
    let is_memory = !row.row.work.needs_calm();
    let (figure, unit, digits) = if is_memory { (USER_BYTES, "bytes", 0) } else { (CPU_US, "µs", 2) };
    if server != BAIWAN && !is_memory {
        return ratio(row.ratio(server, BAIWAN, figure));
    }
    let summary = row.summary(server, figure);
    summary.map_or_else(|| NONE.to_owned(), |summary| format!("{} {unit}", grouped(summary.median, digits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{cell, row, with_results};

    #[test]
    fn cpu_is_told_as_ratios_and_memory_in_bytes_whoever_wins() {
        let cpu = |values: [&[f64]; 3]| {
            let [baiwan, axum, may] = values;
            vec![cell("baiwan", CPU_US, baiwan), cell("axum", CPU_US, axum), cell("may", CPU_US, may)]
        };
        let rows = vec![
            row("get-small", cpu([&[8.0, 10.0], &[8.4, 9.9], &[6.0, 8.0]])),
            row("get-large", cpu([&[10.0], &[15.0], &[11.0]])),
            row("idle", vec![cell("baiwan", USER_BYTES, &[61.0]), cell("axum", USER_BYTES, &[21_651.0])]),
        ];
        let text = with_results(rows, &[], |results| table(results));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("| | connections | Baiwan | axum on hyper, × Baiwan | actix-web, × Baiwan |"));
        assert_eq!(
            lines[2],
            "| server CPU for a GET, as fast as it goes | 64 | 9.00 µs | equal (0.99 to 1.05) | - | - | - | 0.78 (0.75 to 0.80) |"
        );
        assert!(lines[3].starts_with("|  | 9,000 | 10.00 µs | 1.50 (1.50 to 1.50) |"), "{text}");
        assert!(lines[4].starts_with(
            "| user memory of an idle connection that was answered once | 15,000 | 61 bytes | 21,651 bytes |"
        ));
    }

    #[test]
    fn every_row_of_the_readme_has_words() {
        assert!(README.iter().all(|name| !words(name).is_empty()));
    }
}
