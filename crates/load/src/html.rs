//! A run as one HTML page that needs nothing else: figures, charts, phases. Readable on a phone, light or dark.

use std::fmt::Write;

use crate::plot::{self, Axis, BarChart, LineChart, Scale, escaped};
use crate::report::{Report, Second};
use crate::summary;
use crate::units::{bytes, count, number, percent, short, span, time};

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/style.css");
/// A line has no more points; longer runs are drawn in pieces of several seconds.
const POINTS_MAX: usize = 240;

/// The page.
pub fn page(report: &Report) -> String {
    let parts = [
        ("title", escaped(&report.url)),
        ("style", format!("{}{STYLE}", plot::STYLE)),
        ("about", about(report)),
        ("verdict", verdict(report)),
        ("tiles", tiles(report)),
        ("charts", charts(report)),
        ("latencies", latencies(report)),
        ("errors", errors(report)),
        ("phases", phases(report)),
        ("machine", machine(report)),
    ];
    // What is put in is not looked through again: text of the run may look like a place.
    let mut page = String::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("places of the page are closed");
        let (_, part) = parts.iter().find(|(known, _)| *known == name).expect("places of the page are known");
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    page
}

fn about(report: &Report) -> String {
    let stopped = if report.interrupted { " It was stopped before its end." } else { "" };
    format!("<p class=\"quiet\">{}, {}.{stopped}</p>\n", escaped(&report.started), span(report.seconds))
}

fn verdict(report: &Report) -> String {
    let mut html = String::new();
    for note in summary::deaths(report).into_iter().chain(summary::doubt(report)) {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(&note));
    }
    if report.expectations.is_empty() {
        return html;
    }
    html.push_str("<ul class=\"verdict\">\n");
    for expectation in &report.expectations {
        let (class, verdict) = if expectation.met { ("good", "met") } else { ("bad", "not met") };
        let (text, measured) = (escaped(&expectation.text), escaped(&expectation.measured()));
        let _ = writeln!(html, "<li class=\"{class}\"><code>{text}</code> {verdict}: {measured}</li>");
    }
    html.push_str("</ul>\n");
    html
}

fn tiles(report: &Report) -> String {
    let connections = &report.connections;
    let total = report.errors.get("total").copied().unwrap_or_default();
    let asked = total + report.requests.answered;
    let rate = if asked > 0 && total > 0 { percent(total as f64 / asked as f64) } else { String::new() };
    let has_latency = report.latency.count > 0;
    let mut tiles = vec![
        (
            "connections",
            count(connections.alive),
            format!("alive of {}, {} lost", count(connections.wanted), count(connections.lost)),
        ),
        ("errors", count(total), rate),
    ];
    if report.requests.answered > 0 {
        tiles.push((
            "requests/s",
            number(report.requests.per_second),
            format!("{} answered", count(report.requests.answered)),
        ));
    }
    if has_latency {
        tiles.push(("latency, p50", time(report.latency.p50), format!("p90 {}", time(report.latency.p90))));
        tiles.push(("latency, p99", time(report.latency.p99), format!("max {}", time(report.latency.max))));
    }
    if let Some(events) = &report.events {
        tiles.push(("events/s", number(events.per_second), format!("{} missing", count(events.missing))));
    }
    if let Some(server) = &report.server {
        if let Some(cpu) = server.cpu_seconds_per_request {
            tiles.push(("server CPU", time(cpu), "for a request".to_owned()));
        }
        if let Some(size) = server.user_bytes_per_connection {
            let kernel = server.kernel_bytes_per_connection.map(|size| format!("; kernel {}", bytes(size)));
            tiles.push(("user memory", bytes(size), format!("for a connection{}", kernel.unwrap_or_default())));
        }
    }
    let tile = |(name, figure, more): &(&str, String, String)| {
        format!(
            "<div class=\"tile\"><span>{name}</span><b>{}</b><span>{}</span></div>\n",
            escaped(figure),
            escaped(more)
        )
    };
    tiles.iter().map(tile).collect()
}

fn charts(report: &Report) -> String {
    let mut html = String::new();
    if !report.latency_curve.is_empty() {
        html.push_str(&curve(report));
    }
    let pieces = pieces(&report.series);
    let marks: Vec<(f64, String)> = report.phases.iter().map(|phase| (phase.begin, phase.name.clone())).collect();
    let seconds = Axis { title: "seconds", scale: Scale::Linear, text: short };
    let mut over_time = |title: &str, unit: &str, scale, text, lines: &[Reading]| {
        let lines =
            lines.iter().map(|(name, read)| (*name, pieces.iter().map(|piece| (piece.at, read(piece))).collect()));
        html.push_str(&plot::line_chart(&LineChart {
            title,
            x: seconds,
            y: Axis { title: unit, scale, text },
            lines: lines.collect(),
            marks: marks.clone(),
        }));
    };
    if report.series.iter().any(|second| second.answered > 0) {
        let lines: [Reading; 3] = [("p50", |piece| piece.p50), ("p99", |piece| piece.p99), ("max", |piece| piece.max)];
        over_time("Latency over time", "", Scale::Logarithmic, time, &lines);
        over_time("Throughput", "requests/s", Scale::Linear, short, &[("requests/s", |piece| piece.answered)]);
    }
    if report.events.is_some() {
        over_time("Events", "events/s", Scale::Linear, short, &[("events/s", |piece| piece.events)]);
    }
    let lines: [Reading; 2] = [("open", |piece| piece.open), ("requests outstanding", |piece| piece.outstanding)];
    over_time("Connections", "", Scale::Linear, short, &lines);
    if report.series.iter().any(|second| second.errors > 0) {
        over_time("Errors", "errors/s", Scale::Linear, short, &[("errors/s", |piece| piece.errors)]);
    }
    let causes = report.errors.iter().filter(|(cause, times)| *cause != "total" && **times > 0);
    let groups: Vec<(String, Vec<f64>)> = causes.map(|(cause, times)| (cause.clone(), vec![*times as f64])).collect();
    if !groups.is_empty() {
        let axis = Axis { title: "errors", scale: Scale::Linear, text: short };
        html.push_str(&plot::bar_chart(&BarChart { title: "Errors by cause", axis, names: Vec::new(), groups }));
    }
    html
}

fn curve(report: &Report) -> String {
    // Nothing lies at 100 % on such an axis: the longest stands where its rank is.
    let last = 1.0 - 1.0 / (report.latency.count.max(2) as f64);
    let curve: Vec<(f64, f64)> = report.latency_curve.iter().map(|(quantile, at)| (quantile.min(last), *at)).collect();
    let send_delay = report.phases.iter().any(|phase| phase.name == "open loop") && report.send_delay.count > 0;
    let told = report.send_delay;
    let points = [(0.5, told.p50), (0.9, told.p90), (0.99, told.p99), (0.999, told.p99_9), (0.9999, told.p99_99)];
    let mut lines = vec![("latency", curve)];
    if send_delay {
        lines.push(("send delay", points.into_iter().filter(|(quantile, _)| *quantile <= last).collect()));
    }
    let quantile = |quantile: f64| format!("{}%", rounded(quantile * 100.0));
    plot::line_chart(&LineChart {
        title: "Latency by percentile",
        x: Axis { title: "of requests at most", scale: Scale::Quantile, text: quantile },
        y: Axis { title: "", scale: Scale::Logarithmic, text: time },
        lines,
        marks: Vec::new(),
    })
}

/// Up to five decimals, without zeros at the end.
fn rounded(value: f64) -> String {
    format!("{value:.5}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A line's name and what it shows.
type Reading = (&'static str, fn(&Piece) -> f64);

/// Some seconds together: counts a second, the middle of the medians, the worst of the rest.
struct Piece {
    at: f64,
    open: f64,
    outstanding: f64,
    answered: f64,
    errors: f64,
    events: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

fn pieces(series: &[Second]) -> Vec<Piece> {
    let size = series.len().div_ceil(POINTS_MAX).max(1);
    let mut begin = 0.0;
    let piece = |seconds: &[Second]| {
        let last = &seconds[seconds.len() - 1];
        let length = (last.at - std::mem::replace(&mut begin, last.at)).max(1e-3);
        let rate = |read: fn(&Second) -> u64| seconds.iter().map(read).sum::<u64>() as f64 / length;
        let most = |read: fn(&Second) -> f64| seconds.iter().map(read).fold(0.0, f64::max);
        let mut medians: Vec<f64> = seconds.iter().map(|second| second.p50).filter(|p50| *p50 > 0.0).collect();
        medians.sort_by(f64::total_cmp);
        Piece {
            at: last.at,
            open: last.open as f64,
            outstanding: last.outstanding as f64,
            answered: rate(|second| second.answered),
            errors: rate(|second| second.errors),
            events: rate(|second| second.events),
            p50: medians.get(medians.len() / 2).copied().unwrap_or_default(),
            p99: most(|second| second.p99),
            max: most(|second| second.max),
        }
    };
    series.chunks(size).map(piece).collect()
}

/// A table; the first column holds words. Cells are text, not HTML.
fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = format!("<section><h2>{title}</h2><div class=\"wide\"><table>\n<tr>");
    head.iter().for_each(|cell| html.push_str(&format!("<th>{}</th>", escaped(cell))));
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        row.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escaped(cell))));
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div></section>\n");
    html
}

fn latencies(report: &Report) -> String {
    let distributions = summary::distributions(report);
    let Some((_, first)) = distributions.first() else { return String::new() };
    let head: Vec<&str> = std::iter::once("")
        .chain(summary::columns(first).map(|(name, _)| name))
        .chain(std::iter::once("count"))
        .collect();
    let rows = distributions.iter().map(|(name, told)| {
        let figures = summary::columns(told).map(|(_, seconds)| time(seconds));
        std::iter::once((*name).to_owned()).chain(figures).chain(std::iter::once(count(told.count))).collect()
    });
    table("Times", &head, &rows.collect::<Vec<_>>())
}

fn errors(report: &Report) -> String {
    let mut html = String::new();
    for (title, reasons) in
        [("Errors in words", &report.error_details), ("Failed connections in words", &report.connections.failures)]
    {
        let mut reasons: Vec<(&String, &u64)> = reasons.iter().collect();
        reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let rows: Vec<Vec<String>> =
            reasons.iter().map(|(words, times)| vec![(*words).clone(), count(**times)]).collect();
        if !rows.is_empty() {
            html.push_str(&table(title, &["", "count"], &rows));
        }
    }
    if report.statuses.keys().any(|status| status != "200") {
        let rows: Vec<Vec<String>> =
            report.statuses.iter().map(|(status, times)| vec![status.clone(), count(*times)]).collect();
        html.push_str(&table("Statuses", &["", "answers"], &rows));
    }
    html
}

fn phases(report: &Report) -> String {
    let rows = report.phases.iter().map(|phase| {
        let latency = |seconds: f64| if phase.latency.count > 0 { time(seconds) } else { String::new() };
        let server = phase.server_cpu_seconds.map(time).unwrap_or_default();
        vec![
            phase.name.clone(),
            span(phase.seconds),
            count(phase.open),
            count(phase.answered),
            count(phase.errors),
            count(phase.lost),
            latency(phase.latency.p50),
            latency(phase.latency.p99),
            server,
            phase.server_user_bytes.map(|size| bytes(size as f64)).unwrap_or_default(),
            time(phase.client_cpu_seconds),
        ]
    });
    let head = [
        "",
        "lasted",
        "open",
        "answered",
        "errors",
        "lost",
        "p50",
        "p99",
        "server CPU",
        "server memory",
        "generator CPU",
    ];
    table("Phases", &head, &rows.collect::<Vec<_>>())
}

fn machine(report: &Report) -> String {
    let server = report.server.iter().flat_map(summary::server);
    let mut rows: Vec<Vec<String>> = server.map(|line| vec!["server".to_owned(), line]).collect();
    rows.push(vec!["generator".to_owned(), summary::client(report)]);
    let sizes = [report.bytes.sent, report.bytes.received].map(|size| bytes(size as f64));
    rows.push(vec!["bytes".to_owned(), format!("{} sent, {} received", sizes[0], sizes[1])]);
    rows.push(vec!["command".to_owned(), report.command.clone()]);
    table("Both ends", &[], &rows).replacen("<table>", "<table class=\"words\">", 1)
}
