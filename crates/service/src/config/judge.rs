//! Judges all values and keeps a line for each that is wrong, so that nobody has to start once for every mistake.

use std::collections::BTreeSet;

use baiwan::settings::Setting;

use super::settings::row;
use super::sources::Values;

/// Judges values, one table after the other; [`verdict`](Self::verdict) comes last.
pub(super) struct Judge<'a> {
    values: &'a Values,
    wrong: BTreeSet<&'static str>,
    lines: Vec<String>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(values: &'a Values) -> Self {
        Self { values, wrong: BTreeSet::new(), lines: values.unknown().to_vec() }
    }

    /// Stores the values that were given for these settings. For a wrong one the default stays, so that the others can be
    /// judged; nobody gets to see it.
    pub(super) fn store<T>(&mut self, settings: &'static [Setting<T>], config: &mut T) {
        for Setting { row, set, .. } in settings {
            let Some(value) = self.values.given(row.name) else { continue };
            let allowed = match &value.text {
                Ok(text) => set(config, text).err(),
                Err(wrong) => Some(wrong.allowed.clone()),
            };
            if let Some(allowed) = allowed {
                self.refuse(row.name, &allowed);
            }
        }
    }

    /// Refuses the first of two settings that are right, each alone, and do not go together. What a file that cannot be read may
    /// say of them is not known.
    pub(super) fn refuse_together(&mut self, names: [&'static str; 2], allowed: &str) {
        if names.iter().all(|name| !self.wrong.contains(name) && self.values.is_known(name)) {
            self.refuse(names[0], allowed);
        }
    }

    /// Keeps a line that says what the value is, and what is allowed.
    fn refuse(&mut self, name: &'static str, allowed: &str) {
        let row = row(name);
        let shown = match self.values.given(name).map(|value| &value.text) {
            Some(Ok(text)) => row.shown(text),
            Some(Err(wrong)) => wrong.shown.clone(),
            None => "not set".to_owned(),
        };
        self.lines.push(format!("{} is {shown}; allowed is {allowed}", self.values.name(row)));
        self.wrong.insert(name);
    }

    /// One line for each wrong value, or that there is none.
    pub(super) fn verdict(self) -> Result<(), Vec<String>> {
        if self.lines.is_empty() { Ok(()) } else { Err(self.lines) }
    }
}
