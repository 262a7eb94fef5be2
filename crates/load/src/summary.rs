//! A run in words and figures, for a terminal 80 columns wide.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::latencies::Quantiles;
use crate::report::{Report, Server};
use crate::units::{bytes, count, number, percent, span, time};

/// A generator that uses so much of its workers' cores measures itself.
const SATURATED: f64 = 0.9;
/// Sending that is late by so much of the latency is part of what is told.
const LATE: f64 = 0.1;
/// A shorter phase says little about how busy a process is.
const LASTING: f64 = 1.0;
const LABEL: usize = 14;
const LINE: usize = 80;

/// The summary of a run, with a line feed at its end.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", report.url);
    let phases: Vec<String> =
        report.phases.iter().map(|phase| format!("{} {}", phase.name, span(phase.seconds))).collect();
    row(&mut text, "phases", &phases.join(", "));
    if report.interrupted {
        row(&mut text, "", "stopped before its end");
    }
    if let Some(line) = deaths(report) {
        row(&mut text, "", &line);
    }
    row(&mut text, "connections", &connections(report));
    if report.connections.attempts_failed > 0 {
        let failed = report.connections.attempts_failed;
        let attempts = if failed == 1 { "attempt" } else { "attempts" };
        row(&mut text, "", &format!("{} {attempts} to connect failed", count(failed)));
    }
    words(&mut text, &report.connections.failures);
    if report.requests.sent > 0 || report.errors.get("total").is_some_and(|total| *total > 0) {
        row(&mut text, "requests", &requests(report));
    }
    errors(&mut text, report);
    if report.statuses.keys().any(|status| status != "200") {
        let statuses: Vec<String> =
            report.statuses.iter().map(|(status, times)| format!("{status}: {}", count(*times))).collect();
        row(&mut text, "statuses", &statuses.join(", "));
    }
    if let Some(line) = limited(report) {
        row(&mut text, "", line);
    }
    if let Some(events) = &report.events {
        let missing = if events.missing > 0 { format!("; {} missing", count(events.missing)) } else { String::new() };
        let line = format!("{} received, {}/s{missing}", count(events.received), number(events.per_second));
        row(&mut text, "events", &line);
    }
    let sizes = [report.bytes.sent, report.bytes.received].map(|size| bytes(size as f64));
    row(&mut text, "bytes", &format!("{} sent, {} received", sizes[0], sizes[1]));
    for (index, line) in report.server.iter().flat_map(server).enumerate() {
        row(&mut text, if index == 0 { "server" } else { "" }, &line);
    }
    row(&mut text, "generator", &client(report));
    table(&mut text, report);
    if let Some(doubt) = doubt(report) {
        let _ = writeln!(text, "\n{}", wrapped(&doubt));
    }
    expectations(&mut text, report);
    text
}

/// Lines of at most 80 letters, as far as words allow.
fn wrapped(sentence: &str) -> String {
    let mut text = String::new();
    let mut length = 0;
    for word in sentence.split(' ') {
        let letters = word.chars().count();
        let (gap, begin) = if length == 0 { ("", 0) } else { (" ", length + 1) };
        if begin + letters <= LINE || length == 0 {
            text.push_str(gap);
            length = begin + letters;
        } else {
            text.push('\n');
            length = letters;
        }
        text.push_str(word);
    }
    text
}

/// One sentence where the generator itself may be what was measured.
pub fn doubt(report: &Report) -> Option<String> {
    let workers = report.client.workers.max(1) as f64;
    // Of the run as a whole, and of each loop that lasted: to hold connections afterwards takes nothing.
    let loops = report.phases.iter().filter(|phase| phase.name.ends_with(" loop") && phase.seconds >= LASTING);
    let spans = loops.map(|phase| (phase.client_cpu_seconds, phase.seconds));
    let spans = spans.chain([(report.client.cpu_seconds, report.seconds.max(f64::MIN_POSITIVE))]);
    let busy = spans.map(|(cpu, seconds)| cpu / (seconds * workers)).fold(0.0, f64::max);
    let is_open_loop = report.phases.iter().any(|phase| phase.name == "open loop");
    let (delay, latency) = (report.send_delay.p99, report.latency.p99);
    let late = is_open_loop && delay > LATE * latency;
    match (busy >= SATURATED, late) {
        (true, _) => Some(format!(
            "The load generator itself was saturated: {} of {} in use, so the server can do better than this; \
             give it more cores, or ask for less.",
            percent(busy.min(1.0)),
            if workers > 1.0 { format!("its {workers} workers' cores") } else { "its one worker's core".to_owned() },
        )),
        (false, true) => Some(format!(
            "Requests left late, 1 % of them by {} or more, of {} of latency: either all connections waited for answers, \
             or the generator did not keep up; more --connections tell which.",
            time(delay),
            time(latency),
        )),
        (false, false) => None,
    }
}

fn row(text: &mut String, label: &str, line: &str) {
    let _ = writeln!(text, "  {label:<LABEL$}{line}");
}

fn connections(report: &Report) -> String {
    let connections = &report.connections;
    let (opened, wanted) = (count(connections.opened), count(connections.wanted));
    // With a connection for each request, that many are opened over and over.
    let mut line = match report.phases.iter().any(|phase| phase.name == "open") {
        true => format!("{opened} of {wanted} opened"),
        false => format!("{opened} opened, up to {wanted} at a time"),
    };
    if connections.open_seconds > 0.0 && report.phases.iter().any(|phase| phase.name == "open") {
        let _ = write!(line, " in {}", span(connections.open_seconds));
    }
    let _ = write!(line, ", {} lost", count(connections.lost));
    if connections.reopened > 0 {
        let _ = write!(line, ", {} reopened", count(connections.reopened));
    }
    let _ = write!(line, ", {} alive at the end", count(connections.alive));
    line
}

fn requests(report: &Report) -> String {
    let (answered, sent) = (report.requests.answered, report.requests.sent);
    let mut line = format!("{} answered, {}/s", count(answered), number(report.requests.per_second));
    if sent > answered {
        let _ = write!(line, "; {} sent", count(sent));
    }
    line
}

/// Where a limit was measured, and not the server.
fn limited(report: &Report) -> Option<&'static str> {
    let answers: u64 = report.statuses.values().sum();
    let refused = report.statuses.get("429").copied().unwrap_or_default();
    // Of at most 66 letters.
    (2 * refused > answers).then_some("most were refused by a rate limit; RATE_LIMIT=off serves all")
}

fn errors(text: &mut String, report: &Report) {
    let causes = report.errors.iter().filter(|(cause, times)| *cause != "total" && **times > 0);
    let causes: Vec<String> = causes.map(|(cause, times)| format!("{cause} {}", count(*times))).collect();
    let total = report.errors.get("total").copied().unwrap_or_default();
    if total == 0 {
        row(text, "errors", "0");
        return;
    }
    row(text, "errors", &format!("{}: {}", count(total), causes.join(", ")));
    words(text, &report.error_details);
}

/// Reasons in words, the most frequent first.
fn words(text: &mut String, reasons: &BTreeMap<String, u64>) {
    let mut reasons: Vec<(&String, &u64)> = reasons.iter().collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    for (words, times) in reasons {
        row(text, "", &format!("{:>9}  {}", count(*times), one_line(words)));
    }
}

/// One sentence where workers died: figures are missing then.
pub fn deaths(report: &Report) -> Option<String> {
    let client = &report.client;
    let how: Vec<&str> = client.deaths.keys().map(String::as_str).collect();
    (client.workers_died > 0).then(|| {
        let (died, workers) = (count(client.workers_died), count(client.workers));
        format!("{died} of {workers} workers died ({}): their counts from then on are lost", one_line(&how.join("; ")))
    })
}

/// What a peer has said is shown, not obeyed: no control character reaches the terminal.
pub(crate) fn one_line(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What is told of the server, line by line.
pub(crate) fn server(server: &Server) -> Vec<String> {
    let per_request = server.cpu_seconds_per_request.map(|cpu| format!("{} for a request", time(cpu)));
    let cpu = format!("CPU {}", time(server.cpu_seconds));
    let memory = format!(
        "user memory {} before, {} at most",
        bytes(server.user_bytes_before as f64),
        bytes(server.user_bytes_max as f64)
    );
    let mut lines = vec![[Some(cpu), per_request].into_iter().flatten().collect::<Vec<_>>().join(", "), memory];
    let each = [("user", server.user_bytes_per_connection), ("kernel, both ends", server.kernel_bytes_per_connection)];
    let each: Vec<String> =
        each.iter().filter_map(|(whose, size)| size.map(|size| format!("{} ({whose})", bytes(size)))).collect();
    if !each.is_empty() {
        lines.push(format!("memory for a connection: {}", each.join(", ")));
    }
    lines
}

/// What is told of this program.
pub(crate) fn client(report: &Report) -> String {
    let client = &report.client;
    let workers =
        if client.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", count(client.workers)) };
    let each = client.cpu_seconds_per_request.map(|cpu| format!(", {} for a request", time(cpu))).unwrap_or_default();
    format!("{workers}, CPU {}{each}, memory {}", time(client.cpu_seconds), bytes(client.user_bytes as f64))
}

/// The distributions that a run has, with their names.
pub(crate) fn distributions(report: &Report) -> Vec<(&'static str, Quantiles)> {
    let events = report.events.as_ref();
    let is_open_loop = report.phases.iter().any(|phase| phase.name == "open loop");
    let all = [
        ("latency", Some(report.latency)),
        ("send delay", Some(report.send_delay).filter(|_| is_open_loop)),
        ("connect", Some(report.connections.connect)),
        ("event delay", events.map(|events| events.delay)),
        ("event interval", events.map(|events| events.interval)),
    ];
    all.into_iter().filter_map(|(name, told)| Some((name, told.filter(|told| told.count > 0)?))).collect()
}

/// Names and figures of a distribution, in the order of a table.
pub(crate) fn columns(told: &Quantiles) -> [(&'static str, f64); 7] {
    [
        ("mean", told.mean),
        ("p50", told.p50),
        ("p90", told.p90),
        ("p99", told.p99),
        ("p99.9", told.p99_9),
        ("p99.99", told.p99_99),
        ("max", told.max),
    ]
}

fn table(text: &mut String, report: &Report) {
    let rows = distributions(report);
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n  {:LABEL$}", "");
    for (name, _) in columns(&Quantiles::default()) {
        let _ = write!(text, "{name:>9}");
    }
    text.push('\n');
    for (name, told) in &rows {
        let _ = write!(text, "  {name:<LABEL$}");
        for (_, seconds) in columns(told) {
            let _ = write!(text, "{:>9}", time(seconds));
        }
        text.push('\n');
    }
}

fn expectations(text: &mut String, report: &Report) {
    if report.expectations.is_empty() {
        return;
    }
    text.push('\n');
    for (index, expectation) in report.expectations.iter().enumerate() {
        let verdict = if expectation.met { "met" } else { "NOT MET" };
        let line = format!("{:<24}{verdict:<9}{}", expectation.text, expectation.measured());
        row(text, if index == 0 { "expected" } else { "" }, &line);
    }
}
