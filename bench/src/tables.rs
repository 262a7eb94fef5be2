//! The tables of the report: one for each group of rows, servers as lines, the best first. Pure.

use std::cmp::Ordering;
use std::fmt::Write;

use baiwan_load::kernel_memory;

use crate::figures::{
    CLIENT_CPU_US, CLIENT_KERNEL_BYTES, CPU_US, KERNEL_BYTES, MEAN_MS, P50_US, P99_US, REQUESTS_PER_SECOND, START_MS,
    USER_BYTES,
};
use crate::generator::SHARE_MAX;
use crate::numbers::{NONE, grouped, ratio, spread};
use crate::peers::BAIWAN;
use crate::results::{Cell, Results, RowResults};
use crate::rows::Group;
use crate::summary::Summary;
use crate::wrk;

/// Footnotes, each with its own number.
#[derive(Default)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    /// The mark of a footnote.
    pub(crate) fn mark(&mut self, text: &str) -> String {
        let place = self.0.iter().position(|note| note == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        format!("[^{}]", place + 1)
    }

    /// What failed in a cell of a row, as a footnote's mark; empty if nothing did.
    pub(crate) fn failures(&mut self, row: &RowResults, name: &str) -> String {
        let Some(cell) = row.cell(name).filter(|cell| !cell.failures.is_empty()) else { return String::new() };
        let (failed, all) = (cell.failures.len(), cell.failures.len() + cell.rounds.len());
        let cause = cell.failures.first().map_or("", |cause| cause);
        // A line feed or a bar would end the footnote, or a cell.
        let cause = cause.replace('\n', " ").replace('|', "\\|");
        self.mark(&format!("{}: {failed} of {all} rounds failed: {cause}", row.row.name))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, note) in self.0.iter().enumerate() {
            let _ = writeln!(text, "\n[^{}]: {note}", index + 1);
        }
        text
    }
}

/// A figure of a table, for each of its rows.
struct Column {
    figure: &'static str,
    title: &'static str,
    digits: usize,
}

const fn column(figure: &'static str, title: &'static str, digits: usize) -> Column {
    Column { figure, title, digits }
}

/// How a group is shown. The first column is its main figure: it has a spread and a ratio to Baiwan, and is sorted by.
struct Table {
    title: &'static str,
    columns: &'static [Column],
    most_first: bool,
}

const CPU: &[Column] = &[column(CPU_US, "CPU, µs", 2), column(REQUESTS_PER_SECOND, "requests/s", 0)];
const LATENCY: &[Column] = &[column(P99_US, "p99, µs", 0), column(P50_US, "p50, µs", 0), column(CPU_US, "CPU, µs", 2)];
const START: &[Column] = &[column(START_MS, "ms", 1)];
const GENERATOR: &[Column] = &[column(CLIENT_CPU_US, "own CPU, µs", 2), column(REQUESTS_PER_SECOND, "requests/s", 0)];
const MEMORY: &[Column] = &[column(USER_BYTES, "user, bytes", 0), column(KERNEL_BYTES, "kernel, bytes", 0)];

fn table(group: Group) -> Option<Table> {
    let (title, columns) = match group {
        Group::Get => ("Server CPU, closed loop: `GET /`", CPU),
        Group::Check => ("Server CPU, closed loop, from another generator: `GET /` from wrk", CPU),
        Group::Body => ("Server CPU, closed loop, 64 connections: bodies", CPU),
        Group::Connection => {
            ("Server CPU, closed loop, 64 connections: 16 requests outstanding on each, and one request on each", CPU)
        }
        Group::Sleep => ("Server CPU, closed loop: `GET /sleep`, whose handler sleeps 1 ms", CPU),
        Group::Rate => ("Latency at a fixed rate: `GET /`", LATENCY),
        Group::Mixed => ("Latency at a fixed rate: `GET /mixed`, of which 1 % compute for 10 ms", LATENCY),
        Group::Wrk => {
            const WRK: &[Column] = &[
                column(REQUESTS_PER_SECOND, "requests/s", 0),
                column(MEAN_MS, "mean latency, ms", 1),
                column(CPU_US, "CPU, µs", 2),
            ];
            return Some(Table { title: "wrk: `GET /`", columns: WRK, most_first: true });
        }
        Group::Memory => ("Memory for one connection", MEMORY),
        Group::WebSocket => ("Memory for one WebSocket", MEMORY),
        Group::StartUp => ("From the start of the process to the first answer", START),
        Group::Generator => ("The load generators themselves", GENERATOR),
        Group::Promise => return None,
    };
    Some(Table { title, columns, most_first: false })
}

/// The section of a group, if any of its rows was measured and it has a table.
pub(crate) fn section(results: &Results<'_>, group: Group, notes: &mut Notes) -> String {
    let rows: Vec<&RowResults> = results.rows.iter().filter(|row| row.row.group == group).collect();
    let (Some(table), false) = (table(group), rows.is_empty()) else { return String::new() };
    let mut text = format!("\n## {}\n\n{}\n", table.title, introduction(results, group, &rows));
    for row in &rows {
        if let Some(reason) = &row.skipped {
            let _ = writeln!(text, "\nNot measured: `{}`, because {reason}.", row.row.name);
        }
    }
    let rows: Vec<&RowResults> = rows.into_iter().filter(|row| row.skipped.is_none()).collect();
    let names = sorted(&rows, &table);
    let without = without_route(&rows, &names);
    if !without.is_empty() {
        let titles: Vec<String> = without.iter().map(|name| results.title(name)).collect();
        let _ = writeln!(text, "\nWithout such a route: {}.", titles.join(", "));
    }
    if names.is_empty() {
        return text;
    }
    let reference = rows[0].row.contest().reference();
    let to = if reference == BAIWAN { "Baiwan" } else { reference };
    let (mut head, mut line) = (String::from("\n| |"), String::from("|---|"));
    for row in &rows {
        for (index, column) in table.columns.iter().enumerate() {
            let _ = write!(head, " {}: {} |{}", heading(row), column.title, ratio_title(index, to));
            line.push_str(if index == 0 { "---|---|" } else { "---|" });
        }
    }
    let _ = writeln!(text, "{head}\n{line}");
    for name in names {
        let _ = write!(text, "| {} |", results.title(name));
        for row in &rows {
            text.push_str(&cells(row, name, reference, &table, notes));
        }
        text.push('\n');
    }
    text
}

fn ratio_title(index: usize, to: &str) -> String {
    if index == 0 { format!(" × {to} |") } else { String::new() }
}

/// Its title, and how many connections it has had where they are fewer: in a quick pass.
fn heading(row: &RowResults) -> String {
    match row.connections < row.row.connections {
        true => format!("{}, here {}", row.row.title, grouped(row.connections as f64, 0)),
        false => row.row.title.to_owned(),
    }
}

/// The servers of the rows, the best first; those without a figure in the first row go by the next, and come last.
fn sorted<'a>(rows: &[&'a RowResults], table: &Table) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.cells) {
        if !names.contains(&&cell.name[..]) && rows.iter().any(|row| has_anything(row, &cell.name)) {
            names.push(&cell.name);
        }
    }
    let figure = table.columns[0].figure;
    let compare = |one: &str, other: &str| {
        let medians = rows.iter().map(|row| [one, other].map(|name| row.summary(name, figure).map(|sum| sum.median)));
        let orders = medians.map(|[one, other]| match (one, other) {
            (Some(one), Some(other)) if table.most_first => other.total_cmp(&one),
            (Some(one), Some(other)) => one.total_cmp(&other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    };
    names.sort_by(|one, other| compare(one, other));
    names
}

/// Servers that no line of the table is about, because they have none of the routes.
fn without_route<'a>(rows: &[&'a RowResults], names: &[&str]) -> Vec<&'a str> {
    let mut without: Vec<&str> = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.no_route) {
        if !names.contains(&&cell.name[..]) && !without.contains(&&cell.name[..]) {
            without.push(&cell.name);
        }
    }
    without
}

/// Figures, or failures that are told.
fn has_anything(row: &RowResults, name: &str) -> bool {
    row.cell(name).is_some_and(|cell| !cell.rounds.is_empty() || !cell.failures.is_empty())
}

/// The cells of one server in one row.
fn cells(row: &RowResults, name: &str, reference: &str, table: &Table, notes: &mut Notes) -> String {
    let mut text = String::new();
    let failures = notes.failures(row, name);
    for (index, column) in table.columns.iter().enumerate() {
        let summary = row.summary(name, column.figure);
        let cell = match (summary, row.cell(name)) {
            (Some(summary), _) if index == 0 => spread(summary, column.digits) + &failures,
            (Some(summary), _) => grouped(summary.median, column.digits),
            (None, Some(cell)) if index == 0 && cell.no_route => "no route".to_owned(),
            (None, Some(_)) if index == 0 && !failures.is_empty() => format!("**failed**{failures}"),
            (None, Some(cell)) if index == 0 && !cell.rounds.is_empty() => "**disturbed**".to_owned(),
            (None, _) => NONE.to_owned(),
        };
        let _ = write!(text, " {cell} |");
        if index == 0 {
            let ratio =
                if name == reference { "1".to_owned() } else { ratio(row.ratio(name, reference, column.figure)) };
            let _ = write!(text, " {ratio} |");
        }
    }
    text
}

fn introduction(results: &Results<'_>, group: Group, rows: &[&RowResults]) -> String {
    match group {
        Group::Get | Group::Body | Group::Connection | Group::Sleep => {
            "CPU is the time of the server's threads, user and system, and of the kernel's thread for the soft interrupts of the\n\
             server's core, for one request. Each connection has one request outstanding and sends the next when its answer is\n\
             there, but for those that say otherwise."
                .to_owned()
        }
        Group::Check => format!(
            "`{}`: how many requests a server finds when it wakes up depends on how fast its peer is, and what a request costs\n\
             depends on that. So this is the first row of the table above with a generator that is not Baiwan's. Opening is part\n\
             of it.",
            wrk::words(1, rows[0].connections, results.plan.wrk).join(" ")
        ),
        Group::Rate => "Requests are due at constant intervals, and latency counts from when a request was due.".to_owned(),
        Group::Mixed => "As above. Every server computes on the thread that serves: what comes meanwhile waits.".to_owned(),
        Group::Wrk => {
            let plan = results.plan;
            let words = wrk::words(plan.wrk_threads, plan.wrk_connections, plan.wrk).join(" ");
            format!(
                "`{words}`, one core for all of its threads. Opening is part of it, and its latencies leave out the time\n\
                 that requests waited for a turn."
            )
        }
        Group::Memory => memory_introduction(rows),
        Group::WebSocket => "As above; only of the servers that serve the app with WebSockets.".to_owned(),
        Group::StartUp => "The first answer is one to `GET /`.".to_owned(),
        Group::Generator => format!(
            "The CPU time that sending a request and taking its answer costs the load generator that made this report, and\n\
             `{wrk}`, in turns against Baiwan over {connections} connections, from the first connection to the last. It is to\n\
             be at most {SHARE_MAX} of wrk's.",
            wrk = wrk::words(1, rows[0].connections, results.plan.wrk).join(" "),
            connections = grouped(rows[0].connections as f64, 0),
        ),
        Group::Promise => String::new(),
    }
}

fn memory_introduction(rows: &[&RowResults]) -> String {
    let rounds = rows.iter().flat_map(|row| row.cells.iter().flat_map(Cell::kept));
    let client = Summary::of(rounds.filter_map(|round| round.figures.get(CLIENT_KERNEL_BYTES).copied()));
    format!(
        "User memory is the growth of the server's proportional set size (PSS), divided by {held} connections held. Kernel\n\
         memory is {source}.\n\
         On loopback the kernel holds both ends of a connection. The client's end is measured first, as sockets that are bound\n\
         and not yet connected: {client} bytes. What grows from then on is the server's end. Socket buffers are empty.",
        held = grouped(rows[0].connections as f64, 0),
        source = kernel_memory::source(),
        client = client.map_or_else(|| NONE.to_owned(), |client| spread(client, 0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{cell, failed, row, with_results};

    fn lines(rows: impl FnOnce() -> Vec<RowResults>, group: Group) -> Vec<String> {
        let text = with_results(rows(), &[], |results| {
            let mut notes = Notes::default();
            section(results, group, &mut notes) + &notes.markdown()
        });
        text.lines().map(str::to_owned).collect()
    }

    fn position(lines: &[String], begin: &str) -> usize {
        lines.iter().position(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {lines:#?}"))
    }

    #[test]
    fn servers_are_sorted_by_the_main_figure_and_compared_with_baiwan() {
        let rows = || {
            let slow = cell("node", CPU_US, &[32.0, 27.0]);
            vec![row("get-small", vec![cell("baiwan", CPU_US, &[8.0, 6.0, 7.0]), slow, cell("epoll", CPU_US, &[3.5])])]
        };
        let lines = lines(rows, Group::Get);
        let places =
            ["| *limit: a loop over epoll*", "| Baiwan |", "| Node's http |"].map(|begin| position(&lines, begin));
        assert!(places.is_sorted(), "{lines:#?}");
        assert_eq!(lines[places[1]], "| Baiwan | 7.00 (6.00 to 8.00) | 1 | - |");
        assert_eq!(lines[places[2]], "| Node's http | 29.50 (27.00 to 32.00) | 4.25 (4.00 to 4.50) | - |");
    }

    #[test]
    fn with_wrk_more_is_better() {
        let cells = || vec![cell("baiwan", REQUESTS_PER_SECOND, &[100.0]), cell("axum", REQUESTS_PER_SECOND, &[200.0])];
        let lines = lines(|| vec![row("wrk", cells())], Group::Wrk);
        assert!(position(&lines, "| axum on hyper |") < position(&lines, "| Baiwan |"), "{lines:#?}");
    }

    #[test]
    fn what_failed_is_told_with_its_cause_and_stands_last() {
        let rows = || {
            let mut some = cell("axum", P99_US, &[100.0]);
            some.failures.push("reset | again".to_owned());
            let none = failed("node", "does not keep up");
            vec![row("rate-small", vec![none, some, cell("baiwan", P99_US, &[200.0])])]
        };
        let lines = lines(rows, Group::Rate);
        assert!(lines[position(&lines, "| Node's http |")].starts_with("| Node's http | **failed**[^"), "{lines:#?}");
        assert!(position(&lines, "| Node's http |") > position(&lines, "| Baiwan |"), "{lines:#?}");
        assert!(lines[position(&lines, "| axum")].starts_with("| axum on hyper | 100 (100 to 100)[^"), "{lines:#?}");
        let notes: Vec<_> = lines.iter().filter(|line| line.starts_with("[^")).collect();
        assert!(notes[1].ends_with("rate-small: 1 of 1 rounds failed: does not keep up"), "{notes:?}");
        assert!(notes[0].ends_with("rate-small: 1 of 2 rounds failed: reset \\| again"), "{notes:?}");
    }

    #[test]
    fn a_server_without_a_route_says_so_beside_its_other_rows() {
        let rows = || {
            let mut without = cell("nginx", CPU_US, &[]);
            without.no_route = true;
            vec![
                row("json", vec![cell("baiwan", CPU_US, &[1.0]), cell("nginx", CPU_US, &[2.0])]),
                row(
                    "echo",
                    vec![cell("baiwan", CPU_US, &[1.0]), without.clone(), Cell { name: "uring".into(), ..without }],
                ),
            ]
        };
        let lines = lines(rows, Group::Body);
        let nginx = &lines[position(&lines, "| nginx |")];
        assert_eq!(nginx, "| nginx | 2.00 (2.00 to 2.00) | 2.00 (2.00 to 2.00) | - | no route | - | - |");
        position(&lines, "Without such a route: *limit: a loop over io_uring*.");
    }

    #[test]
    fn a_server_whose_every_sitting_was_thrown_away_is_disturbed() {
        let rows = || {
            let mut disturbed = cell("nginx", CPU_US, &[9.0]);
            disturbed.rounds[0].thrown_away = true;
            vec![row("get-small", vec![cell("baiwan", CPU_US, &[2.0]), disturbed])]
        };
        let lines = lines(rows, Group::Get);
        assert_eq!(lines[position(&lines, "| nginx |")], "| nginx | **disturbed** | - | - |");
    }

    #[test]
    fn a_row_that_was_skipped_says_why() {
        let skipped = || {
            let mut row = row("wrk", Vec::new());
            row.skipped = Some("wrk is not installed".to_owned());
            vec![row]
        };
        let lines = lines(skipped, Group::Wrk);
        position(&lines, "Not measured: `wrk`, because wrk is not installed.");
    }
}
