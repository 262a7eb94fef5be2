//! Plots of the report, as SVG files: bars to the right, servers as groups, the best first. Pure.
//!
//! A page shows such a file on a light or a dark ground and does not tell it which, so text, lines and bars have colours that are
//! read on both, and there is no ground of its own. A figure that failed or was not measured is a word in the place of its bar.

use std::fmt::Write;

use baiwan_load::plot::escaped;

use crate::figures::{CPU_US, P99_US, USER_BYTES};
use crate::numbers::grouped;
use crate::results::{Results, RowResults};

/// A plot: one bar of each row for every server.
pub(crate) struct Plot {
    /// Of the file, without its ending.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rows: &'static [&'static str],
    figure: &'static str,
    digits: usize,
    is_logarithmic: bool,
}

/// All plots, in the order of the report.
pub(crate) const PLOTS: [Plot; 3] = [
    Plot {
        name: "cpu",
        title: "Server CPU per request, GET /, closed loop, µs",
        rows: &["get-small", "get-medium", "get-large"],
        figure: CPU_US,
        digits: 1,
        is_logarithmic: false,
    },
    Plot {
        name: "memory",
        title: "User memory per idle connection, bytes (logarithmic)",
        rows: &["idle"],
        figure: USER_BYTES,
        digits: 0,
        is_logarithmic: true,
    },
    Plot {
        name: "latency",
        title: "p99 latency at a fixed rate, GET /, µs (logarithmic)",
        rows: &["rate-slow", "rate-small", "rate-large"],
        figure: P99_US,
        digits: 0,
        is_logarithmic: true,
    },
];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 232.0;
/// The figure stands behind its bar.
const RIGHT: f64 = 672.0;
const TOP: f64 = 58.0;
const BAR: f64 = 13.0;
const GAP: f64 = 9.0;
const TEXT: &str = "#7d8590";
const LINE: &str = "#7d85904d";
/// Of the bars of a group; the first is the lightest load.
const COLOURS: [&str; 3] = ["#5b9bd5", "#c58a2b", "#b5658f"];
const OWN_WEIGHT: &str = " font-weight=\"bold\"";

/// A server's bars.
struct Bars {
    title: String,
    is_own: bool,
    /// One for each row; the word where there is none.
    values: Vec<Result<f64, &'static str>>,
}

/// The plot as an SVG file, if any of its rows was measured.
pub(crate) fn svg(results: &Results<'_>, plot: &Plot) -> Option<String> {
    let rows: Vec<&RowResults> =
        plot.rows.iter().filter_map(|name| results.rows.iter().find(|row| row.row.name == *name)).collect();
    let names: Vec<&str> = rows.iter().map(|row| row.row.title).collect();
    let bars = bars(results, plot, &rows);
    let span = Span::of(bars.iter().flat_map(|bars| &bars.values).filter_map(|value| value.ok()), plot.is_logarithmic)?;
    let below = TOP + bars.len() as f64 * (names.len() as f64 * BAR + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\" role=\"img\" aria-label=\"{title}\">\n\
         <text x=\"8\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n",
        height = below + 28.0,
        title = escaped(plot.title),
    );
    legend(&mut svg, &names);
    for tick in span.ticks() {
        let x = span.place(tick);
        let _ = writeln!(svg, "<path stroke=\"{LINE}\" d=\"M{x:.1} {TOP}V{below:.1}\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            below + 16.0,
            grouped(tick, usize::from(tick > 0.0 && tick < 1.0))
        );
    }
    let mut y = TOP + GAP / 2.0;
    for bars in &bars {
        group(&mut svg, bars, &span, plot.digits, y);
        y += bars.values.len() as f64 * BAR + GAP;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The bars of every server that has at least one or failed, the best first.
fn bars(results: &Results<'_>, plot: &Plot, rows: &[&RowResults]) -> Vec<Bars> {
    let mut all = Vec::new();
    for known in results.known {
        let name = &known.peer.name[..];
        let value = |row: &&RowResults| {
            let has_failed = row.cell(name).is_some_and(|cell| !cell.failures.is_empty());
            let summary = row.summary(name, plot.figure);
            summary.map(|summary| summary.median).ok_or(if has_failed { "failed" } else { "not measured" })
        };
        let values: Vec<_> = rows.iter().map(value).collect();
        if values.iter().any(|value| *value != Err("not measured")) {
            all.push(Bars { title: known.peer.title.clone(), is_own: name == crate::peers::BAIWAN, values });
        }
    }
    let key = |bars: &Bars| bars.values.first().and_then(|value| value.ok()).unwrap_or(f64::INFINITY);
    all.sort_by(|one, other| key(one).total_cmp(&key(other)));
    all
}

fn legend(svg: &mut String, names: &[&str]) {
    const LETTER: f64 = 7.0;
    if names.len() < 2 {
        return;
    }
    let mut x = 8.0;
    for (name, colour) in names.iter().zip(COLOURS) {
        let _ = writeln!(svg, "<rect x=\"{x:.1}\" y=\"31\" width=\"11\" height=\"11\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"41\">{}</text>", x + 16.0, escaped(name));
        x += 40.0 + name.chars().count() as f64 * LETTER;
    }
}

fn group(svg: &mut String, bars: &Bars, span: &Span, digits: usize, begin: f64) {
    let weight = if bars.is_own { OWN_WEIGHT } else { "" };
    let middle = begin + bars.values.len() as f64 * BAR / 2.0 + 4.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\"{weight}>{}</text>",
        LEFT - 8.0,
        escaped(&bars.title)
    );
    for (index, (value, colour)) in bars.values.iter().zip(COLOURS).enumerate() {
        let y = begin + index as f64 * BAR;
        let (end, text) = match value {
            Ok(value) => (span.place(*value).max(LEFT + 1.0), grouped(*value, digits)),
            Err(word) => (LEFT, (*word).to_owned()),
        };
        if value.is_ok() {
            let (top, width, height) = (y + 1.0, end - LEFT, BAR - 2.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
            );
        }
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\"{weight}>{text}</text>", end + 5.0, y + 10.5);
    }
}

/// From where to where bars can reach.
struct Span {
    begin: f64,
    end: f64,
    is_logarithmic: bool,
}

impl Span {
    /// None where there is nothing to draw.
    fn of(values: impl Iterator<Item = f64>, is_logarithmic: bool) -> Option<Self> {
        let drawable = values.filter(|value| value.is_finite() && (*value > 0.0 || !is_logarithmic));
        let (low, high) =
            drawable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let (begin, end) = match is_logarithmic {
            // A bar of the least figure is still seen.
            true => (power_below(low / 1.5), 10.0 * power_below(high * 0.999)),
            false => (0.0, high.max(f64::MIN_POSITIVE)),
        };
        Some(Self { begin, end, is_logarithmic })
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.begin) / self.begin).ln() / (self.end / self.begin).ln(),
            false => value / self.end,
        };
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Round values.
    fn ticks(&self) -> Vec<f64> {
        let at_most = |tick: &f64| *tick <= self.end * 1.000_001;
        match self.is_logarithmic {
            true => std::iter::successors(Some(self.begin), |tick| Some(tick * 10.0)).take_while(at_most).collect(),
            false => {
                let power = power_below(self.end / 4.0);
                let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
                let step = steps.into_iter().find(|step| self.end / step <= 6.0).unwrap_or(10.0 * power);
                (0..=6).map(|index| f64::from(index) * step).take_while(at_most).collect()
            }
        }
    }
}

/// The power of ten at or below.
fn power_below(value: f64) -> f64 {
    10f64.powf(value.log10().floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{cell, failed, row, with_results};

    fn drawn(plot: usize, rows: Vec<RowResults>) -> Option<String> {
        with_results(rows, &[], |results| svg(results, &PLOTS[plot]))
    }

    fn widths(svg: &str) -> Vec<f64> {
        let bars = svg.lines().filter(|line| line.starts_with("<rect") && line.contains(&format!("x=\"{LEFT}\"")));
        bars.map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_figures_and_the_best_stands_first() {
        let cells = vec![cell("baiwan", CPU_US, &[5.0]), cell("axum", CPU_US, &[10.0]), cell("epoll", CPU_US, &[2.5])];
        let svg = drawn(0, vec![row("get-small", cells)]).unwrap();
        let widths = widths(&svg);
        assert_eq!(widths.len(), 3);
        assert!((widths[0] * 2.0 - widths[1]).abs() < 0.2 && (widths[1] * 2.0 - widths[2]).abs() < 0.2, "{widths:?}");
        assert!(svg.find("loop over epoll") < svg.find("Baiwan") && svg.find("Baiwan") < svg.find("axum"), "{svg}");
    }

    #[test]
    fn ten_times_as_much_is_always_as_much_longer_on_a_logarithmic_axis() {
        let figures = [("baiwan", 50.0), ("nginx", 500.0), ("axum", 5_000.0)];
        let cells = figures.map(|(name, value)| cell(name, USER_BYTES, &[value])).into();
        let widths = widths(&drawn(1, vec![row("idle", cells)]).unwrap());
        assert!(widths[0] > 1.0 && (widths[2] - 2.0 * widths[1] + widths[0]).abs() < 0.3, "{widths:?}");
    }

    #[test]
    fn a_bar_that_is_not_there_says_why() {
        let rows = vec![
            row("rate-slow", vec![cell("baiwan", P99_US, &[50.0]), cell("node", P99_US, &[90.0])]),
            row("rate-small", vec![cell("baiwan", P99_US, &[60.0]), failed("node", "does not keep up")]),
        ];
        let svg = drawn(2, rows).unwrap();
        assert!(svg.contains(">failed</text>") && !svg.contains("not measured"), "{svg}");
        assert_eq!(widths(&svg).len(), 3);
        assert_eq!(drawn(2, Vec::new()), None);
        assert_eq!(drawn(0, vec![row("get-small", vec![failed("node", "reset")])]), None);
    }
}
