//! Where settings come from: a flag wins over its variable, a variable over the file, the file over the default.
//!
//! Only the value in force counts, and it is found here for every setting, not judged. Invariant: each setting of the
//! table has exactly one [`Value`]. An empty variable is unset, because that is what a compose file leaves behind for
//! "not set"; an empty flag, or an empty text in the file, is a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::file::{self, Contents, Entry};
use super::flags::Flags;
use super::settings::{Fallback, HIDDEN, Kind, SETTINGS, Setting, on_one_line, setting};

/// Where the value in force was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable,
    /// In this line of the file, from 1.
    File(usize),
    Default,
}

/// The value in force of one setting.
pub(super) struct Value {
    pub(super) source: Source,
    /// None when it is unset.
    pub(super) text: Option<Result<String, Wrong>>,
}

/// Why a value is none, whatever the setting.
pub(super) struct Wrong {
    /// The value as far as it may be shown.
    pub(super) shown: String,
    /// What is allowed.
    pub(super) allowed: String,
}

/// The values in force. It has no `Debug`, because values may be secrets.
pub(crate) struct Values {
    values: BTreeMap<&'static str, Value>,
    /// The file's name as it is said.
    file: Option<String>,
    unknown: Vec<String>,
}

impl Values {
    /// Finds them: in `flags`, in the environment that `variable` reads, and in the file that one of the two names.
    pub(crate) fn find(flags: &Flags, variable: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let given = |setting: &'static Setting| {
            let flag = flags.value(setting).map(|value| Value::given(Source::Flag, value.to_owned(), setting));
            flag.or_else(|| {
                let value = variable(setting.variable).filter(|value| !value.is_empty())?;
                Some(Value::given(Source::Variable, value, setting))
            })
        };
        let mut values: BTreeMap<_, _> =
            SETTINGS.iter().filter_map(|setting| Some((setting.variable, given(setting)?))).collect();
        let mut found = Self { values: BTreeMap::new(), file: None, unknown: Vec::new() };
        if let Some(config) = values.get_mut("CONFIG_FILE") {
            for entry in found.read_file(config) {
                values.entry(entry.setting.variable).or_insert_with(|| Value::of_file(entry));
            }
        }
        for setting in SETTINGS {
            values.entry(setting.variable).or_insert_with(|| Value::of_default(setting));
        }
        found.values = values;
        found
    }

    /// What the file that `config` names says of settings. When it cannot be read, `config` becomes a wrong value.
    fn read_file(&mut self, config: &mut Value) -> Vec<Entry> {
        let Some(Ok(path)) = &config.text else { return Vec::new() };
        let name = on_one_line(path).into_owned();
        match file::read(Path::new(path)).and_then(|text| file::parse(&text, &name)) {
            Ok(Contents { entries, unknown }) => {
                self.file = Some(name);
                self.unknown = unknown;
                entries
            }
            Err(allowed) => {
                let shown = setting("CONFIG_FILE").shown(path);
                config.text = Some(Err(Wrong { shown, allowed }));
                Vec::new()
            }
        }
    }

    /// The value in force of the setting with this variable.
    pub(super) fn of(&self, variable: &str) -> &Value {
        &self.values[setting(variable).variable]
    }

    /// Whether it is known what the setting is: not where it may stand in a file that could not be read.
    pub(super) fn is_known(&self, variable: &str) -> bool {
        let is_read = !matches!(self.of("CONFIG_FILE").text, Some(Err(_)));
        is_read || self.of(variable).source != Source::Default
    }

    /// A line for each key of the file that is no setting.
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// What an error calls the setting: its name where it was set first, then where else it could be.
    pub(super) fn name(&self, setting: &Setting) -> String {
        let Setting { variable, flag, .. } = setting;
        match self.line(setting) {
            Some(line) => format!("{} in {line} (or {variable}, --{flag})", setting.key()),
            None => format!("{variable} (or --{flag})"),
        }
    }

    /// Where the setting was set, in words.
    pub(super) fn source(&self, setting: &Setting) -> String {
        match self.of(setting.variable).source {
            Source::Flag => format!("flag --{}", setting.flag),
            Source::Variable => format!("variable {}", setting.variable),
            Source::File(_) => self.line(setting).unwrap_or_default(),
            Source::Default => "default".to_owned(),
        }
    }

    /// File and line, as editors and compilers write them.
    fn line(&self, setting: &Setting) -> Option<String> {
        match self.of(setting.variable).source {
            Source::File(line) => Some(format!("{}:{line}", self.file.as_deref().unwrap_or_default())),
            _ => None,
        }
    }
}

impl Value {
    fn given(source: Source, value: OsString, setting: &Setting) -> Self {
        let text = value
            .into_string()
            .map_err(|value| Wrong { shown: not_text(&value, setting.kind), allowed: "UTF-8 text".to_owned() });
        Self { source, text: Some(text) }
    }

    fn of_file(entry: Entry) -> Self {
        let allowed = match entry.setting.kind {
            Kind::List => "a string or an array of strings",
            _ => "a string or a whole number",
        };
        let wrong = |kind| Wrong { shown: format!("of the type {kind}"), allowed: allowed.to_owned() };
        let text = entry.text.map_err(wrong);
        Self { source: Source::File(entry.line), text: Some(text) }
    }

    fn of_default(setting: &Setting) -> Self {
        let text = match setting.fallback {
            Fallback::Value(text) => Some(Ok(text.to_owned())),
            Fallback::Unset(_) => None,
        };
        Self { source: Source::Default, text }
    }
}

fn not_text(value: &OsStr, kind: Kind) -> String {
    match kind {
        Kind::Plain | Kind::List => format!("{value:?}"),
        Kind::Url | Kind::Secret => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Values {
        let flags = flags.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        Values::find(&flags, |name| {
            let variable = variables.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| OsString::from(value))
        })
    }

    fn text(values: &Values, variable: &str) -> Option<String> {
        match &values.of(variable).text {
            Some(Ok(text)) => Some(text.clone()),
            _ => None,
        }
    }

    #[test]
    fn each_source_wins_over_those_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        std::fs::write(&path, "port = 3\nhost = 'c'\nworkers = 3\n").unwrap();
        let config = path.to_str().unwrap();
        let values = find(
            &[("CONFIG_FILE", config), ("PORT", "1")],
            &[("CONFIG_FILE", "/none/such"), ("PORT", "2"), ("HOST", "b")],
        );
        for (variable, value, source) in [
            ("PORT", Some("1"), Source::Flag),
            ("HOST", Some("b"), Source::Variable),
            ("WORKERS", Some("3"), Source::File(3)),
            ("LOG_LEVEL", Some("info"), Source::Default),
            ("MAX_CONNECTIONS", None, Source::Default),
        ] {
            assert_eq!(text(&values, variable).as_deref(), value, "{variable}");
            assert_eq!(values.of(variable).source, source, "{variable}");
        }
        let workers = setting("WORKERS");
        assert_eq!(values.source(workers), format!("{config}:3"));
        assert_eq!(values.name(workers), format!("workers in {config}:3 (or WORKERS, --workers)"));
    }

    #[test]
    fn an_empty_variable_is_unset_and_an_empty_flag_is_a_value() {
        let values = find(&[("HOST", "")], &[("PORT", ""), ("HOST", "a")]);
        assert_eq!(values.of("PORT").source, Source::Default);
        assert_eq!(values.of("HOST").source, Source::Flag);
        assert_eq!(text(&values, "HOST").as_deref(), Some(""));
    }

    #[test]
    fn what_a_file_might_have_set_is_not_known_when_it_cannot_be_read() {
        let values = find(&[("CONFIG_FILE", "/none/such")], &[("PORT", "1")]);
        assert!(values.is_known("PORT") && !values.is_known("HOST"));
        assert!(find(&[], &[]).is_known("HOST"));
    }
}
