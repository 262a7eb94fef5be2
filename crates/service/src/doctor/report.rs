//! What was found: a verdict for each thing that bounds connections, as text or JSON.

use std::fmt::Write;

use baiwan_load::units;
use serde_json::{Value, json};

use super::source::Unknown;

/// What a value means for the connections that were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is enough, or does not matter here.
    Ok,
    /// The connections can be held; but not under all circumstances, or not at once.
    Warning,
    /// The connections cannot be held.
    Fails,
    /// The value cannot be read.
    Unknown,
}

impl Verdict {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that bounds connections.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is enough.
    pub verdict: Verdict,
    /// The present value, in words.
    pub present: String,
    /// What is needed, in words.
    pub need: String,
    /// Commands or settings of which each would do, the best first. None where nothing needs to be set.
    pub remedies: Vec<String>,
    /// The present value, where it is a number. No limit is `None`.
    pub value: Option<u64>,
    /// What is needed, where that is a number.
    pub needed: Option<u64>,
}

impl Check {
    /// A value that is enough.
    pub(super) fn new(name: &'static str, present: impl Into<String>, need: impl Into<String>) -> Self {
        let (present, need) = (present.into(), need.into());
        Self { name, verdict: Verdict::Ok, present, need, remedies: Vec::new(), value: None, needed: None }
    }

    /// A value that cannot be read.
    pub(super) fn unknown(name: &'static str, why: &Unknown, need: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::new(name, why.to_string(), need) }
    }

    pub(super) fn numbers(self, value: Option<u64>, needed: Option<u64>) -> Self {
        Self { value, needed, ..self }
    }

    pub(super) fn warns(self, remedies: impl IntoIterator<Item = String>) -> Self {
        Self { verdict: Verdict::Warning, remedies: remedies.into_iter().collect(), ..self }
    }

    pub(super) fn fails(self, remedies: impl IntoIterator<Item = String>) -> Self {
        Self { verdict: Verdict::Fails, remedies: remedies.into_iter().collect(), ..self }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "verdict": self.verdict.name(),
            "present": self.present,
            "need": self.need,
            "value": self.value,
            "needed": self.needed,
            "remedies": self.remedies,
        })
    }

    /// One line where nothing is to be done, and else what to do below it.
    pub(super) fn lines(&self) -> String {
        let mut lines = format!("{:<8} {:<28} {}\n", self.verdict.name(), self.name, self.present);
        let mut below = |label: &str, text: &str| {
            let _ = writeln!(lines, "{:<8} {:<28} {label:<5} {text}", "", "");
        };
        below("need", &self.need);
        for (index, remedy) in self.remedies.iter().enumerate() {
            below(if index == 0 { "set" } else { "or" }, remedy);
        }
        lines
    }
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Connections that were asked for.
    pub connections: u64,
    /// How many of them files, memory and settings allow.
    pub possible: u64,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether the connections can be held: nothing fails.
    pub fn can_be_held(&self) -> bool {
        self.with(Verdict::Fails).next().is_none()
    }

    /// The checks with that verdict.
    pub(super) fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.verdict == verdict)
    }

    /// For people: what fails first.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for verdict in [Verdict::Fails, Verdict::Warning, Verdict::Unknown, Verdict::Ok] {
            self.with(verdict).for_each(|check| text += &check.lines());
        }
        let (connections, possible) = (units::count(self.connections), units::count(self.possible));
        let failing: Vec<_> = self.with(Verdict::Fails).map(|check| check.name).collect();
        text + &match self.can_be_held() {
            true => format!("\n{connections} connections can be held\n"),
            false if self.possible < self.connections => {
                format!("\n{connections} connections cannot be held, but {possible}: {}\n", failing.join(", "))
            }
            false => format!("\n{connections} connections cannot be held: {}\n", failing.join(", ")),
        }
    }

    /// For programs.
    pub fn json(&self) -> String {
        let report = json!({
            "connections": self.connections,
            "can_be_held": self.can_be_held(),
            "possible": self.possible,
            "checks": self.checks.iter().map(Check::json).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}
