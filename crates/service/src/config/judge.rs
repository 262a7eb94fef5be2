//! Judges all values and keeps a line for each that is wrong, so that nobody has to start once for every mistake.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::settings::{Fallback, setting};
use super::sources::Values;

/// Judges values, one setting after the other; [`verdict`](Self::verdict) comes last.
pub(super) struct Judge<'a> {
    values: &'a Values,
    wrong: BTreeSet<&'static str>,
    lines: Vec<String>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(values: &'a Values) -> Self {
        Self { values, wrong: BTreeSet::new(), lines: values.unknown().to_vec() }
    }

    /// The value of a setting that may be unset; also None when it is wrong. The error of `parse` says what is allowed.
    pub(super) fn optional<T, E: Display>(
        &mut self,
        variable: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let allowed = match self.values.of(variable).text.as_ref()? {
            Ok(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(allowed) => allowed.to_string(),
            },
            Err(wrong) => wrong.allowed.clone(),
        };
        self.refuse(variable, &format!("allowed is {allowed}"));
        None
    }

    /// The value of a setting that has a default, which also stands in for a wrong one: the others can then be judged,
    /// and nobody gets to see it, because there is no [`verdict`](Self::verdict) but the lines.
    pub(super) fn required<T, E: Display>(
        &mut self,
        variable: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        self.optional(variable, &parse).unwrap_or_else(|| {
            let Fallback::Value(text) = setting(variable).fallback else {
                unreachable!("{variable} has a default");
            };
            parse(text).unwrap_or_else(|_| unreachable!("the default of {variable} is right"))
        })
    }

    /// Whether the settings are known and right so far, and so can be compared.
    pub(super) fn are_right(&self, variables: [&str; 2]) -> bool {
        variables.iter().all(|variable| !self.wrong.contains(variable) && self.values.is_known(variable))
    }

    /// Keeps a line that says what the value is, and then `verdict`.
    pub(super) fn refuse(&mut self, variable: &'static str, verdict: &str) {
        let setting = setting(variable);
        let shown = match &self.values.of(variable).text {
            Some(Ok(text)) => setting.shown(text),
            Some(Err(wrong)) => wrong.shown.clone(),
            None => setting.fallback.text().to_owned(),
        };
        self.lines.push(format!("{} is {shown}; {verdict}", self.values.name(setting)));
        self.wrong.insert(variable);
    }

    /// One line for each wrong value, or that there is none.
    pub(super) fn verdict(self) -> Result<(), Vec<String>> {
        if self.lines.is_empty() { Ok(()) } else { Err(self.lines) }
    }
}
