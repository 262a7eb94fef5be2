//! Where settings come from: a flag wins over its variable, a variable over the file, the file over the default. A secret may
//! stand in a file of its own as well.
//!
//! Only the value in force counts, and it is found here for every setting, not judged: a setting has at most one [`Value`], and
//! none where the default holds. An empty variable is unset, because that is what a compose file leaves behind for
//! "not set"; an empty flag, or an empty text in the file, is a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use baiwan::settings::{HIDDEN, KUBERNETES, Kind, Row, quoted};

use super::file::{self, Contents, Entry};
use super::flags::Flags;
use super::secret_file;
use super::settings::{on_one_line, rows};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable,
    /// In this line of the file, from 1.
    File(usize),
    /// As the content of this file, which nothing but the secret is in.
    SecretFile(PathBuf),
}

/// A value that was given for a setting.
pub(super) struct Value {
    pub(super) source: Source,
    pub(super) text: Result<String, Wrong>,
}

/// Why a value is none, whatever the setting.
pub(super) struct Wrong {
    /// The value as far as it may be shown.
    pub(super) shown: String,
    /// What is allowed.
    pub(super) allowed: String,
}

/// The values that were given. It has no `Debug`, because values may be secrets.
pub(crate) struct Values {
    given: BTreeMap<&'static str, Value>,
    /// What the file says of settings that a flag or a variable gives.
    overridden: BTreeMap<&'static str, Value>,
    /// The file's name as it is said.
    file: Option<String>,
    unknown: Vec<String>,
    in_kubernetes: bool,
}

impl Values {
    /// Finds them: in `flags`, in the environment that `variable` reads, and in the file that one of the two names.
    pub(crate) fn find(flags: &Flags, variable: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let value = |row: &'static Row| {
            let flag = flags.value(row).map(|value| Value::new(Source::Flag, value.to_owned(), row));
            flag.or_else(|| {
                let value = variable(row.name).filter(|value| !value.is_empty())?;
                Some(Value::new(Source::Variable, value, row))
            })
        };
        let given = rows().filter_map(|row| Some((row.name, value(row)?))).collect();
        let in_kubernetes = variable(KUBERNETES).is_some_and(|value| !value.is_empty());
        let mut found = Self { given, overridden: BTreeMap::new(), file: None, unknown: Vec::new(), in_kubernetes };
        for entry in found.read_file() {
            let (name, value) = (entry.row.name, Value::of_file(entry));
            match found.given.contains_key(name) {
                false => found.given.insert(name, value),
                true => found.overridden.insert(name, value),
            };
        }
        let directory = variable("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty());
        for row in rows().filter(|row| row.is_secret()) {
            found.read_secret(row.name, directory.as_deref().map(Path::new));
        }
        found
    }

    /// Takes a secret from the file that `NAME_FILE` names, else, where nothing gives it, from the directory of credentials.
    fn read_secret(&mut self, name: &'static str, directory: Option<&Path>) {
        let is_given = self.given.contains_key(name);
        if let Some(Value { text, .. }) = self.given.get_mut(&*format!("{name}_FILE")) {
            let Ok(path) = text else { return };
            let read = match is_given {
                true => Err(format!("this or {name}, and both are given")),
                false => secret_file::read(Path::new(path)),
            };
            match read {
                Ok(secret) => {
                    let value = Value { source: Source::SecretFile(PathBuf::from(&*path)), text: Ok(secret) };
                    self.given.insert(name, value);
                }
                Err(allowed) => *text = Err(Wrong { shown: quoted(path), allowed }),
            }
        } else if let Some(directory) = directory.filter(|_| !is_given) {
            self.given.extend(Value::of_credential(directory, name).map(|value| (name, value)));
        }
    }

    /// What the file says of settings, if one is named. When it cannot be read, its name becomes a wrong value.
    fn read_file(&mut self) -> Vec<Entry> {
        let Some(Value { text, .. }) = self.given.get_mut("CONFIG_FILE") else { return Vec::new() };
        let Ok(path) = text else { return Vec::new() };
        let name = on_one_line(path).into_owned();
        match file::read(Path::new(path)).and_then(|text| file::parse(&text, &name)) {
            Ok(Contents { entries, unknown }) => {
                self.file = Some(name);
                self.unknown = unknown;
                entries
            }
            Err(allowed) => {
                *text = Err(Wrong { shown: quoted(path), allowed });
                Vec::new()
            }
        }
    }

    /// What was given for the setting with this name.
    pub(super) fn given(&self, name: &str) -> Option<&Value> {
        self.given.get(name)
    }

    /// What the file says of settings that a flag or a variable gives, by name.
    pub(super) fn overridden(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.overridden.iter().map(|(name, value)| (*name, value))
    }

    /// Where in the file a setting stands that a flag or a variable gives.
    pub(super) fn overridden_at(&self, name: &str) -> String {
        match self.overridden.get(name).map(|value| &value.source) {
            Some(Source::File(line)) => self.place(*line),
            _ => String::new(),
        }
    }

    /// Whether it is known what the setting is: not where it may stand in a file that could not be read.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let is_read = self.given("CONFIG_FILE").is_none_or(|file| file.text.is_ok());
        is_read || self.given(name).is_some()
    }

    /// Whether Kubernetes has started this.
    pub(super) fn are_in_kubernetes(&self) -> bool {
        self.in_kubernetes
    }

    /// A line for each key of the file that is no setting.
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// What an error calls the setting: its name where it was set first, then where else it could be.
    pub(super) fn name(&self, row: &Row) -> String {
        let (name, flag) = (row.name, row.flag());
        match self.given(name).map(|value| &value.source) {
            Some(Source::File(line)) => format!("{} in {} (or {name}, --{flag})", row.key(), self.place(*line)),
            Some(Source::SecretFile(path)) => format!("{name} in {}", shown(path)),
            _ => format!("{name} (or --{flag})"),
        }
    }

    /// Where the setting was set, in words.
    pub(super) fn source(&self, row: &Row) -> String {
        match self.given(row.name).map(|value| &value.source) {
            Some(Source::Flag) => format!("flag --{}", row.flag()),
            Some(Source::Variable) => format!("variable {}", row.name),
            Some(Source::File(line)) => self.place(*line),
            Some(Source::SecretFile(path)) => format!("file {}", shown(path)),
            None => "default".to_owned(),
        }
    }

    /// File and line, as editors and compilers write them.
    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.file.as_deref().unwrap_or_default())
    }
}

fn shown(path: &Path) -> String {
    on_one_line(&path.to_string_lossy()).into_owned()
}

impl Value {
    fn new(source: Source, value: OsString, row: &Row) -> Self {
        let text = value.into_string().map_err(|value| {
            let shown = if row.is_secret() { HIDDEN.to_owned() } else { format!("{value:?}") };
            Wrong { shown, allowed: "UTF-8 text".to_owned() }
        });
        Self { source, text }
    }

    fn of_credential(directory: &Path, name: &str) -> Option<Self> {
        let (path, read) = match secret_file::credential(directory, name) {
            Ok(path) => path.map(|path| (path.clone(), secret_file::read(&path)))?,
            Err((path, allowed)) => (path, Err(allowed)),
        };
        let text = read.map_err(|allowed| Wrong { shown: "unusable".to_owned(), allowed });
        Some(Self { source: Source::SecretFile(path), text })
    }

    fn of_file(entry: Entry) -> Self {
        let allowed = match entry.row.kind {
            Kind::List => "a string or an array of strings",
            _ => "a string or a whole number",
        };
        let wrong = |kind| Wrong { shown: format!("of the type {kind}"), allowed: allowed.to_owned() };
        Self { source: Source::File(entry.line), text: entry.text.map_err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::row;
    use super::*;

    fn find(flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Values {
        let flags = flags.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        Values::find(&flags, |name| {
            let variable = variables.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| OsString::from(value))
        })
    }

    fn text(values: &Values, variable: &str) -> Option<String> {
        Some(values.given(variable)?.text.as_ref().ok()?.clone())
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
        for (variable, value, source) in
            [("PORT", "1", Source::Flag), ("HOST", "b", Source::Variable), ("WORKERS", "3", Source::File(3))]
        {
            assert_eq!(text(&values, variable).as_deref(), Some(value), "{variable}");
            assert_eq!(values.given(variable).unwrap().source, source, "{variable}");
        }
        assert!(values.given("LOG_LEVEL").is_none());
        let workers = row("WORKERS");
        assert_eq!(values.source(workers), format!("{config}:3"));
        assert_eq!(values.name(workers), format!("workers in {config}:3 (or WORKERS, --workers)"));
    }

    #[test]
    fn an_empty_variable_is_unset_and_an_empty_flag_is_a_value() {
        let values = find(&[("HOST", "")], &[("PORT", ""), ("HOST", "a")]);
        assert!(values.given("PORT").is_none());
        assert_eq!(values.given("HOST").unwrap().source, Source::Flag);
        assert_eq!(text(&values, "HOST").as_deref(), Some(""));
    }

    #[test]
    fn what_a_file_might_have_set_is_not_known_when_it_cannot_be_read() {
        let values = find(&[("CONFIG_FILE", "/none/such")], &[("PORT", "1")]);
        assert!(values.is_known("PORT") && !values.is_known("HOST"));
        assert!(find(&[], &[]).is_known("HOST"));
    }
}
