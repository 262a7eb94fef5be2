//! The report as Markdown. Every number in it was measured in the same run.

use std::fmt::Write;

use crate::kernel_memory;
use crate::measure::{CLIENT_KERNEL_BYTES, CPU_US, KERNEL_BYTES, P50_US, P99_US, REQUESTS_PER_SECOND, USER_BYTES};
use crate::promises;
use crate::results::{Results, RowResults};
use crate::rows::{ROUNDS, ROUNDS_LONG, ROUNDS_STOP, Work};
use crate::summary::Summary;

/// In the place of a figure that a row does not have.
pub(crate) const NONE: &str = "-";

/// The whole report.
pub(crate) fn markdown(results: &Results<'_>) -> String {
    let rows = &results.rows;
    let mut text = String::from("# Baiwan and axum on hyper, the same app\n\n");
    if results.quick {
        text.push_str("**A short pass with few connections: it shows that everything works. Do not quote it.**\n\n");
    }
    text.push_str(&setting(results));
    let closed: Vec<_> = rows.iter().filter(|row| matches!(row.row.work, Work::Closed(_))).collect();
    let rates: Vec<_> = rows.iter().filter(|row| matches!(row.row.work, Work::FixedRate { .. })).collect();
    let held: Vec<_> = rows.iter().filter(|row| matches!(row.row.work, Work::Hold(_))).collect();
    if !closed.is_empty() {
        text.push_str(&closed_table(&closed));
    }
    if !rates.is_empty() {
        text.push_str(&rate_table(&rates));
    }
    if !held.is_empty() {
        text.push_str(&memory_table(&held));
    }
    text.push_str(&promises::section(rows));
    text.push_str(&headline(rows));
    text
}

fn setting(results: &Results<'_>) -> String {
    let Results { environment, plan, .. } = results;
    let others = results.others().map_or_else(
        || "not measured".to_owned(),
        |others| format!("{:.2} of a core (median), {:.2} (most)", others.median, others.max),
    );
    format!(
        "Loopback, {cores} cores, one server core: the server has one core, the client another. {date}.\n\n\
         | | |\n|---|---|\n\
         | kernel | Linux {kernel} |\n\
         | machine | {cpu}, {cores} cores, {memory:.1} GiB |\n\
         | rustc | {rustc} |\n\
         | crates | {crates} |\n\
         | sources | {commit} |\n\
         | command | `{command}` |\n\
         | rounds | {rounds}, for each server in turns, {warm} s to warm up, {timed} s timed |\n\
         | load before the run | {load} |\n\
         | other processes and guests during timed parts | {others}; {repeated} measurements repeated |\n\n\
         Figures are medians of the rounds, with the least and the most in brackets; ratios are of medians. Every round has a\n\
         server process of its own. Both servers: the same router, build profile, dependencies and allocator (the system's).\n",
        cores = environment.cores,
        date = environment.date,
        kernel = environment.kernel,
        cpu = environment.cpu,
        memory = environment.memory_gib,
        rustc = environment.rustc,
        crates = environment.crates_text(),
        commit = environment.commit,
        command = environment.command,
        rounds = plan.rounds.map_or_else(usual_rounds, |rounds| rounds.to_string()),
        warm = plan.warm.as_secs_f64(),
        timed = plan.timed.as_secs_f64(),
        load = environment.load_before,
        repeated = results.repeated,
    )
}

fn usual_rounds() -> String {
    format!("{ROUNDS} ({ROUNDS_LONG} with stalled connections and of churn, {ROUNDS_STOP} stops)")
}

fn closed_table(rows: &[&RowResults]) -> String {
    let mut text = String::from(
        "\n## Server CPU, closed loop\n\n\
         Each connection has one request outstanding. CPU is the time of the server's threads, user and system, for one request.\n\n\
         | request | connections | Baiwan, µs | axum on hyper, µs | axum / Baiwan | Baiwan, requests/s | axum, requests/s |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let [baiwan, axum] = pair(row, CPU_US, 2);
        let [baiwan_rate, axum_rate] = [0, 1].map(|server| median(row, server, REQUESTS_PER_SECOND, 0));
        let ratio = ratio(row, CPU_US);
        let (title, connections) = (row.row.title, grouped(row.connections as f64, 0));
        let cells = format!("{baiwan} | {axum} | {ratio} | {baiwan_rate} | {axum_rate}");
        let _ = writeln!(text, "| {title} | {connections} | {cells} |");
    }
    text
}

fn rate_table(rows: &[&RowResults]) -> String {
    let mut text = String::from(
        "\n## Latency at a fixed rate, below saturation\n\n\
         Requests are due at constant intervals, and latency counts from when a request was due.\n\n\
         | request | connections | rate | | Baiwan | axum on hyper | axum / Baiwan |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Work::FixedRate { per_second } = row.row.work else { continue };
        let (title, connections) = (row.row.title, grouped(row.connections as f64, 0));
        let rate = grouped(per_second as f64, 0);
        for (label, figure, digits) in [("p50, µs", P50_US, 0), ("p99, µs", P99_US, 0), ("CPU, µs", CPU_US, 2)] {
            let [baiwan, axum] = pair(row, figure, digits);
            let ratio = ratio(row, figure);
            let _ = writeln!(text, "| {title} | {connections} | {rate}/s | {label} | {baiwan} | {axum} | {ratio} |");
        }
    }
    text
}

fn memory_table(rows: &[&RowResults]) -> String {
    let mut text = format!(
        "\n## Memory for one connection\n\n\
         User memory is the growth of the server's proportional set size (PSS), divided by the connections held. Kernel memory is\n\
         {source}.\n\
         On loopback the kernel holds both ends of a connection. The client's end is measured first, as sockets that are bound and\n\
         not yet connected; what grows from then on is the server's end. Socket buffers are empty.\n\n\
         | connection | held | | Baiwan, bytes | axum on hyper, bytes | axum / Baiwan |\n|---|---|---|---|---|---|\n",
        source = kernel_memory::source(),
    );
    for row in rows {
        let (title, connections) = (row.row.title, grouped(row.connections as f64, 0));
        for (label, figure) in [
            ("user", USER_BYTES),
            ("kernel, server's end", KERNEL_BYTES),
            ("kernel, client's end", CLIENT_KERNEL_BYTES),
        ] {
            let [baiwan, axum] = pair(row, figure, 0);
            let ratio = if figure == USER_BYTES { ratio(row, figure) } else { NONE.to_owned() };
            let _ = writeln!(text, "| {title} | {connections} | {label} | {baiwan} | {axum} | {ratio} |");
        }
    }
    text
}

/// The four figures to quote, as far as their rows were measured.
fn headline(rows: &[RowResults]) -> String {
    const FIGURES: [(&str, &str, &str, &str, usize); 4] = [
        ("idle", USER_BYTES, "user memory of an idle connection", "bytes", 0),
        ("get-small", CPU_US, "server CPU of a GET, closed loop", "µs", 2),
        ("get-large", CPU_US, "server CPU of a GET, closed loop", "µs", 2),
        ("rate-large", P99_US, "p99 latency at a fixed rate", "µs", 0),
    ];
    let mut text = String::from(
        "\n## In short\n\n| | connections | Baiwan | axum on hyper | axum / Baiwan |\n|---|---|---|---|---|\n",
    );
    let heading = text.len();
    for (name, figure, title, unit, digits) in FIGURES {
        let Some(row) = rows.iter().find(|row| row.row.name == name) else { continue };
        let [baiwan, axum] = [0, 1].map(|server| median(row, server, figure, digits));
        let connections = grouped(row.connections as f64, 0);
        let ratio = ratio(row, figure);
        let _ = writeln!(text, "| {title} | {connections} | {baiwan} {unit} | {axum} {unit} | {ratio} |");
    }
    if text.len() > heading { text } else { String::new() }
}

fn pair(row: &RowResults, figure: &str, digits: usize) -> [String; 2] {
    [0, 1].map(|server| row.summary(server, figure).map_or_else(|| NONE.to_owned(), |summary| spread(summary, digits)))
}

pub(crate) fn spread(summary: Summary, digits: usize) -> String {
    let [median, min, max] = [summary.median, summary.min, summary.max].map(|value| grouped(value, digits));
    format!("{median} ({min} to {max})")
}

fn median(row: &RowResults, server: usize, figure: &str, digits: usize) -> String {
    row.summary(server, figure).map_or_else(|| NONE.to_owned(), |summary| grouped(summary.median, digits))
}

fn ratio(row: &RowResults, figure: &str) -> String {
    match row.ratio(figure) {
        Some(ratio) if ratio.is_finite() && ratio >= 10.0 => format!("{ratio:.0}"),
        Some(ratio) if ratio.is_finite() => format!("{ratio:.2}"),
        _ => NONE.to_owned(),
    }
}

/// A number with commas between thousands.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", &text[..]), |text| ("-", text));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::from(sign);
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Figures;
    use crate::rows::ROWS;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.4, 0), "999");
        assert_eq!(grouped(-12_345.678, 2), "-12,345.68");
        assert_eq!(grouped(0.5, 2), "0.50");
    }

    #[test]
    fn the_headline_quotes_medians_and_their_ratio() {
        let row = ROWS.iter().find(|row| row.name == "idle").unwrap();
        let rounds = |bytes: [f64; 3]| bytes.map(|bytes| Figures::from([(USER_BYTES, bytes)])).to_vec();
        let rounds = [rounds([70.0, 64.0, 60.0]), rounds([6_400.0, 1.0, 9_000.0])];
        let text = headline(&[RowResults { row, connections: 15_000, rounds }]);
        assert!(text.ends_with("| 15,000 | 64 bytes | 6,400 bytes | 100 |\n"), "{text}");
    }
}
