//! Whether Baiwan kept what it promises under attack and at its end: the lines of the report that stand beside a bound. Pure.
//!
//! A figure that misses its bound is shown as it is, with a mark; one that could not be measured is marked too. Nothing fails
//! because of it: this is a report, not a test.

use std::fmt::Write;

use crate::bounds::{Bound, Line, lines};
use crate::numbers::{NONE, grouped, spread};
use crate::peers::{AXUM, BAIWAN};
use crate::results::RowResults;
use crate::rows::{CHURN_TIMES, Work};
use crate::stalled;
use crate::tables::Notes;

/// The servers that this section is about.
const SERVERS: [&str; 2] = [BAIWAN, AXUM];

/// What the rounds say about a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Kept,
    /// Some rounds missed it, but not their median.
    MissedInSome,
    Missed,
    NotMeasured,
}

/// The section of the report, if any of its rows was measured.
pub(crate) fn section(rows: &[RowResults], notes: &mut Notes) -> String {
    let (mut text, mut last) = (String::new(), None);
    for row in rows {
        let (spreads, totals) = lines(row.row.work);
        if spreads.is_empty() || SERVERS.iter().all(|server| row.cell(server).is_none()) {
            continue;
        }
        if text.is_empty() {
            text.push_str(
                "\n## Promises\n\n\
                 What Baiwan promises stands beside what was measured. **missed**: the median, or the sum, is not what was\n\
                 promised; *missed in some*: only some rounds are not. Nothing is promised for axum on hyper, which has no\n\
                 deadlines in its default settings.\n",
            );
        }
        // Rows of one kind share a table.
        let kind = std::mem::discriminant(&row.row.work);
        if last.replace(kind) != Some(kind) {
            text.push_str(&introduction(row));
            text.push_str("\n| | connections | | promised | Baiwan | axum on hyper |\n|---|---|---|---|---|---|\n");
        }
        for line in totals {
            let cells = SERVERS.map(|server| row.total(server, line.figure));
            let verdict = judge(line.bound, cells[0].map(|total| [total; 3]));
            text.push_str(&table_line(
                row,
                line,
                verdict,
                cells.map(|cell| cell.map(|sum| grouped(sum, line.digits))),
                notes,
            ));
        }
        for line in spreads {
            let cells = SERVERS.map(|server| row.summary(server, line.figure));
            let verdict = judge(line.bound, cells[0].map(|summary| [summary.min, summary.median, summary.max]));
            text.push_str(&table_line(
                row,
                line,
                verdict,
                cells.map(|cell| cell.map(|cell| spread(cell, line.digits))),
                notes,
            ));
        }
    }
    text
}

fn introduction(row: &RowResults) -> String {
    match row.row.work {
        Work::Stalled(_) => format!(
            "\n### Stalled connections\n\n\
             Each was answered once, then sends a part of a request and nothing more. Beside them {connections} connections ask for\n\
             `GET /`, {rate} times a second in all. Memory is the growth of the server's PSS from before they were opened. CPU is\n\
             that of the whole server while nobody sends anything. Times of cuts are after Baiwan's deadlines: 10 s for a head, 5 s\n\
             for a body that brings nothing more.\n",
            connections = stalled::BESIDE_CONNECTIONS,
            rate = grouped(stalled::BESIDE_PER_SECOND.into(), 0),
        ),
        Work::Churn => format!(
            "\n### Come and gone\n\n\
             {all} connections in all are opened, answered once and closed, every second one by a reset; once in the middle, as\n\
             many as the table says are open at once. Memory is the server's PSS.\n",
            all = grouped((row.connections * CHURN_TIMES) as f64, 0),
        ),
        Work::Stop => format!(
            "\n### Stop under full load\n\n\
             Every connection always has a request outstanding (`GET /`, `POST /echo`, `GET /sleep`), every fourth a pipelined pair,\n\
             when SIGTERM comes. Counts are sums of {rounds} stops; what was received is what the server itself has counted.\n",
            rounds = row.cell(BAIWAN).map_or(0, |cell| cell.kept().count()),
        ),
        _ => "\n### Idle connections\n".to_owned(),
    }
}

fn table_line(
    row: &RowResults,
    line: &Line,
    verdict: Verdict,
    cells: [Option<String>; SERVERS.len()],
    notes: &mut Notes,
) -> String {
    let mut cells = SERVERS.into_iter().zip(cells).map(|(server, cell)| {
        let failures = notes.failures(row, server);
        let none = if failures.is_empty() { NONE } else { "**failed**" };
        cell.unwrap_or_else(|| none.to_owned()) + &failures
    });
    let [baiwan, axum] = std::array::from_fn(|_| cells.next().unwrap_or_default());
    let promised = match line.bound {
        Bound::None => String::new(),
        Bound::AtMost(bound) => format!("≤ {}", number(bound)),
        Bound::AtLeast(bound) => format!("≥ {}", number(bound)),
    };
    let mark = match verdict {
        Verdict::Kept => "",
        Verdict::MissedInSome => " *missed in some*",
        Verdict::Missed => " **missed**",
        Verdict::NotMeasured => " **not measured**",
    };
    let mut text = String::new();
    let connections = grouped(row.connections as f64, 0);
    let _ =
        writeln!(text, "| {} | {connections} | {} | {promised} | {baiwan}{mark} | {axum} |", row.row.title, line.title);
    text
}

/// A bound, without digits that say nothing.
fn number(bound: f64) -> String {
    grouped(bound, usize::from(bound.fract() != 0.0))
}

/// The figure is the least, the median and the most of the rounds.
fn judge(bound: Bound, figure: Option<[f64; 3]>) -> Verdict {
    let keeps = |value: f64| match bound {
        Bound::None => true,
        Bound::AtMost(bound) => value <= bound,
        Bound::AtLeast(bound) => value >= bound,
    };
    match figure {
        None if bound == Bound::None => Verdict::Kept,
        None => Verdict::NotMeasured,
        Some([_, median, _]) if !keeps(median) => Verdict::Missed,
        Some([min, _, max]) if !keeps(min) || !keeps(max) => Verdict::MissedInSome,
        Some(_) => Verdict::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::results::samples;
    use crate::rows::ROWS;
    use crate::stop;

    fn results(name: &str, baiwan: &[Figures]) -> RowResults {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let cell = samples::with_rounds(BAIWAN, baiwan.to_vec());
        RowResults { row, connections: row.connections, cells: vec![cell], skipped: None }
    }

    fn shown(rows: &[RowResults]) -> String {
        section(rows, &mut Notes::default())
    }

    fn found(text: &str, title: &str) -> String {
        text.lines().find(|line| line.contains(title)).unwrap().to_owned()
    }

    #[test]
    fn a_missed_bound_is_shown_with_its_figure() {
        let rounds = [1.5, 2.5, 3.5].map(|ratio| Figures::from([(stalled::P99_RATIO, ratio)]));
        let text = shown(&[results("stalled-head", &rounds)]);
        assert!(found(&text, "while / before").ends_with("| ≤ 2 | 2.50 (1.50 to 3.50) **missed** | - |"), "{text}");
        let text = shown(&[results("stalled-head", &[&rounds[..1], &rounds].concat())]);
        assert!(found(&text, "while / before").contains("2.00 (1.50 to 3.50) *missed in some*"), "{text}");
    }

    #[test]
    fn a_bound_without_a_figure_is_not_kept() {
        let text = shown(&[results("stalled-head", &[Figures::from([(stalled::CUT_PERCENT, 99.0)])])]);
        assert!(found(&text, "last cut").contains("| - **not measured** |"), "{text}");
        assert!(found(&text, "cut while watched").contains("**missed**"), "{text}");
        assert!(found(&text, "p99 beside them, before").ends_with("|  | - | - |"), "{text}");
    }

    #[test]
    fn one_lost_request_in_all_rounds_is_seen() {
        let rounds = [0.0, 1.0, 0.0].map(|lost| Figures::from([(stop::LOST, lost), (stop::SENT, 1000.0)]));
        let text = shown(&[results("stop", &rounds)]);
        assert!(found(&text, "lost |").contains("| ≤ 0 | 1 **missed** |"), "{text}");
        assert!(found(&text, "sent whole").contains("| 3,000 |"), "{text}");
    }
}
