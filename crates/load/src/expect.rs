//! What is demanded of a run: `p99<50ms, errors=0`.
//!
//! ```text
//!   demands = demand *( "," demand )
//!   demand  = figure ( "<" / "<=" / ">" / ">=" / "=" / "==" ) value
//!   value   = number [ unit ]
//! ```
//!
//! A figure that the run did not give meets nothing: a latency demanded of a run without an answer is not met.

use std::fmt;
use std::str::FromStr;

use crate::report::{Expectation, Report};
use crate::units;

/// The most demands that one run is held to.
const DEMANDS_MAX: usize = 64;

/// What a figure counts, and so which units it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Time,
    Bytes,
    Share,
    Count,
    Rate,
}

/// What a run must have for a figure to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// The server's process.
    ServerPid,
    /// Answers that are streams of events.
    Events,
}

struct Figure {
    name: &'static str,
    kind: Kind,
    need: Need,
    read: fn(&Report) -> Option<f64>,
}

const fn figure(name: &'static str, kind: Kind, need: Need, read: fn(&Report) -> Option<f64>) -> Figure {
    Figure { name, kind, need, read }
}

/// Every figure that can be demanded.
static FIGURES: [Figure; 21] = [
    figure("p50", Kind::Time, Need::Nothing, |report| latency(report, report.latency.p50)),
    figure("p90", Kind::Time, Need::Nothing, |report| latency(report, report.latency.p90)),
    figure("p99", Kind::Time, Need::Nothing, |report| latency(report, report.latency.p99)),
    figure("p99.9", Kind::Time, Need::Nothing, |report| latency(report, report.latency.p99_9)),
    figure("p99.99", Kind::Time, Need::Nothing, |report| latency(report, report.latency.p99_99)),
    figure("max", Kind::Time, Need::Nothing, |report| latency(report, report.latency.max)),
    figure("mean", Kind::Time, Need::Nothing, |report| latency(report, report.latency.mean)),
    figure("errors", Kind::Count, Need::Nothing, |report| Some(errors(report))),
    figure("error_rate", Kind::Share, Need::Nothing, |report| {
        let all = errors(report) + report.requests.answered as f64;
        (all > 0.0).then(|| errors(report) / all)
    }),
    figure("rps", Kind::Rate, Need::Nothing, |report| Some(report.requests.per_second)),
    figure("lost", Kind::Count, Need::Nothing, |report| Some(report.connections.lost as f64)),
    figure("alive", Kind::Count, Need::Nothing, |report| Some(report.connections.alive as f64)),
    figure("opened", Kind::Count, Need::Nothing, |report| Some(report.connections.opened as f64)),
    figure("attempts_failed", Kind::Count, Need::Nothing, |report| Some(report.connections.attempts_failed as f64)),
    figure("connect_p99", Kind::Time, Need::Nothing, |report| {
        Some(report.connections.connect).filter(|connect| connect.count > 0).map(|connect| connect.p99)
    }),
    figure("send_delay_p99", Kind::Time, Need::Nothing, |report| {
        Some(report.send_delay).filter(|delay| delay.count > 0).map(|delay| delay.p99)
    }),
    figure("events", Kind::Count, Need::Events, |report| report.events.as_ref().map(|events| events.received as f64)),
    figure("events_missing", Kind::Count, Need::Events, |report| {
        report.events.as_ref().map(|events| events.missing as f64)
    }),
    figure("server_cpu", Kind::Time, Need::ServerPid, |report| report.server.as_ref()?.cpu_seconds_per_request),
    figure("user_bytes", Kind::Bytes, Need::ServerPid, |report| report.server.as_ref()?.user_bytes_per_connection),
    figure("kernel_bytes", Kind::Bytes, Need::ServerPid, |report| report.server.as_ref()?.kernel_bytes_per_connection),
];

fn latency(report: &Report, seconds: f64) -> Option<f64> {
    (report.latency.count > 0).then_some(seconds)
}

fn errors(report: &Report) -> f64 {
    report.errors.get("total").copied().unwrap_or_default() as f64
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

/// Longer ones first: `<=` begins like `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::More),
    ("=", Comparison::Equal),
];

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::More => value > limit,
            Self::AtLeast => value >= limit,
            // Both come of divisions and histograms: what differs in the tenth digit is the same.
            Self::Equal => (value - limit).abs() <= limit.abs() * 1e-9,
        }
    }
}

#[derive(Clone)]
struct Demand {
    text: String,
    figure: &'static Figure,
    comparison: Comparison,
    limit: f64,
}

/// Demands of a run.
#[derive(Clone, Default)]
pub struct Expectations(Vec<Demand>);

impl fmt::Debug for Expectations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|demand| &demand.text)).finish()
    }
}

impl FromStr for Expectations {
    type Err = String;

    /// Reads demands. The error says what is wrong and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        let demands: Vec<Demand> = text.split(',').map(|text| Demand::parse(text.trim())).collect::<Result<_, _>>()?;
        match demands.len() <= DEMANDS_MAX {
            true => Ok(Self(demands)),
            false => Err(format!("at most {DEMANDS_MAX} demands")),
        }
    }
}

impl Expectations {
    /// The first demand whose figure needs what `has` says is not there, and what that is.
    pub fn unmeasured(&self, has: impl Fn(Need) -> bool) -> Option<(&str, Need)> {
        let missing = self.0.iter().find(|demand| !has(demand.figure.need))?;
        Some((&missing.text, missing.figure.need))
    }

    /// Holds a run to the demands.
    pub fn judge(&self, report: &Report) -> Vec<Expectation> {
        let judged = self.0.iter().map(|demand| {
            let value = (demand.figure.read)(report);
            let met = value.is_some_and(|value| demand.comparison.holds(value, demand.limit));
            Expectation { text: demand.text.clone(), value, met }
        });
        judged.collect()
    }
}

impl Expectation {
    /// What was measured, in the unit of its figure.
    pub fn measured(&self) -> String {
        let kind = Demand::parse(&self.text).map(|demand| demand.figure.kind);
        match (self.value, kind) {
            (None, _) => "not measured".to_owned(),
            (Some(value), Ok(Kind::Time)) => units::time(value),
            (Some(value), Ok(Kind::Bytes)) => units::bytes(value),
            (Some(value), Ok(Kind::Share)) => units::percent(value),
            (Some(value), Ok(Kind::Rate)) => format!("{}/s", units::number(value)),
            (Some(value), Ok(Kind::Count) | Err(_)) => units::number(value),
        }
    }
}

impl Demand {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.find(['<', '>', '=']).map(|begin| text.split_at(begin));
        let Some((name, rest)) = parts else {
            return Err(format!("demands such as p99<50ms or errors=0; {text:?} compares nothing (<, <=, >, >= or =)"));
        };
        let name = name.trim();
        let Some(figure) = FIGURES.iter().find(|figure| figure.name == name) else {
            let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
            return Err(format!("a figure of {}; {name:?} is none", names.join(", ")));
        };
        let found = COMPARISONS.iter().find_map(|(sign, comparison)| Some((comparison, rest.strip_prefix(sign)?)));
        let (comparison, value) = found.expect("a sign was found above, and each is a comparison");
        let limit = figure.kind.parse(value.trim()).ok_or_else(|| {
            format!(
                "for {name} {}, as in {name}<{}; {:?} is none",
                figure.kind.allowed(),
                figure.kind.example(),
                value.trim()
            )
        })?;
        Ok(Self { text: text.to_owned(), figure, comparison: *comparison, limit })
    }
}

impl Kind {
    fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Time => &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)],
            Self::Bytes => &[
                ("", 1.0),
                ("B", 1.0),
                ("kB", 1e3),
                ("KiB", 1024.0),
                ("MB", 1e6),
                ("MiB", 1024.0 * 1024.0),
                ("GB", 1e9),
                ("GiB", 1024.0 * 1024.0 * 1024.0),
            ],
            Self::Share => &[("%", 0.01)],
            Self::Count => &[("", 1.0)],
            Self::Rate => &[("", 1.0), ("/s", 1.0)],
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Time => "a time with a unit (ns, us, µs, ms, s, m)",
            Self::Bytes => "a size (plain bytes, kB, KiB, MB, MiB, GB, GiB)",
            Self::Share => "a share in %",
            Self::Count => "a plain number",
            Self::Rate => "a number a second",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Time => "50ms",
            Self::Bytes => "256",
            Self::Share => "0.1%",
            Self::Count => "10",
            Self::Rate => "1000",
        }
    }

    /// Seconds, bytes, a share of 1, or a plain number. Only 0 needs no unit where others do.
    fn parse(self, text: &str) -> Option<f64> {
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().ok().filter(|_| number.starts_with(|letter: char| letter.is_ascii_digit()))?;
        let unit = unit.trim();
        let known = self.units().iter().find(|(name, _)| *name == unit);
        match known {
            Some((_, size)) => Some(number * size),
            None => (unit.is_empty() && number == 0.0).then_some(0.0),
        }
    }
}
