//! What has changed between two readings of the settings: what may come into force in a running service, what needs a restart, and what
//! a flag or a variable overrides.
//!
//! The invariant: a setting whose row is not [`reloadable`](baiwan::settings::Row::reloadable) keeps the value in force. Nothing that is
//! said repeats a secret.

use std::collections::BTreeMap;

use baiwan::Secret;
use baiwan::settings::{Kind, Row};

use super::Config;
use super::settings::{row, rows, values};
use super::sources::{Value, Values};

/// What a reading has given that a [`Config`] does not show, as digests.
#[derive(Debug)]
pub(crate) struct Traces {
    secrets: BTreeMap<&'static str, Secret>,
    overridden: BTreeMap<&'static str, Secret>,
}

impl Traces {
    pub(crate) fn of(values: &Values) -> Self {
        let digest = |value: &Value| match &value.text {
            Ok(text) => Secret::new(text),
            Err(wrong) => Secret::new(&wrong.shown),
        };
        let secret = |row: &'static Row| Some((row.name, digest(values.given(row.name)?)));
        Self {
            secrets: rows().filter(|row| row.is_secret()).filter_map(secret).collect(),
            overridden: values.overridden().map(|(name, value)| (name, digest(value))).collect(),
        }
    }

    /// Whether a secret is another one. Where one of the two is not given, the values show it.
    fn has_other_secret(&self, later: &Self, name: &str) -> bool {
        self.secrets.get(name).zip(later.secrets.get(name)).is_some_and(|(before, after)| before != after)
    }
}

/// What comes of a reading.
#[derive(Debug)]
pub(crate) struct Change {
    /// What is to be in force: what can change as it was read, the rest as it was.
    pub(crate) config: Config,
    /// Each setting of it that changes, with its values.
    pub(crate) changed: Vec<String>,
    /// A line for each setting that would change after a restart.
    pub(crate) needs_restart: Vec<String>,
    /// A line for each value of the file that has changed and that a flag or a variable overrides.
    pub(crate) overridden: Vec<String>,
}

impl Change {
    /// What `read`, which was made of `values`, changes while `in_force` is what is served. Both have their traces.
    ///
    /// # Errors
    ///
    /// A line for each setting that does not go with one that cannot change.
    pub(crate) fn between(
        (in_force, before): (&Config, &Traces),
        (read, after): (&Config, &Traces),
        values: &Values,
    ) -> Result<Self, Vec<String>> {
        let config = in_force.changed_to(read);
        let wrong: Vec<_> = config
            .server
            .conflicts("")
            .into_iter()
            .map(|(names, allowed)| refusal(&config, names[0], &allowed))
            .collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        for (row, old, new) in differences((in_force, before), (read, after)) {
            match row.reloadable {
                true => changed.push(shown_change(row, &old, &new)),
                false => needs_restart.push(format!(
                    "{} has changed in {}; that needs a restart, and {} stays in force",
                    row.name,
                    values.source(row),
                    if old == new { "the value before" } else { &old }
                )),
            }
        }
        let is_new = |name: &str| before.overridden.get(name) != after.overridden.get(name);
        let overridden = values.overridden().filter(|(name, _)| is_new(name)).map(|(name, _)| {
            let (row, place) = (row(name), values.overridden_at(name));
            format!("{} has changed in {place}, but the {} wins", row.key(), values.source(row))
        });
        Ok(Self { config, changed, needs_restart, overridden: overridden.collect() })
    }
}

/// The settings that differ, with the values that are shown of each.
fn differences(
    (one, before): (&Config, &Traces),
    (other, after): (&Config, &Traces),
) -> Vec<(&'static Row, String, String)> {
    let of_server = one.server.differences(&other.server);
    let pairs = values(one).zip(values(other)).map(|((row, old), (_, new))| (row, old, new));
    pairs
        .filter(|(row, old, new)| {
            old != new || of_server.contains(&row.name) || before.has_other_secret(after, row.name)
        })
        .collect()
}

fn shown_change(row: &Row, old: &str, new: &str) -> String {
    match row.kind {
        Kind::Secret | Kind::Url if old == new => row.name.to_owned(),
        _ => format!("{} {new} (was {old})", row.name),
    }
}

fn refusal(config: &Config, name: &str, allowed: &str) -> String {
    let shown = values(config).find(|(row, _)| row.name == name).map(|(row, value)| row.shown(&value));
    format!("{name} is {}; allowed is {allowed}, or a restart", shown.unwrap_or_default())
}

impl Config {
    /// These settings, with those of `new` that can change while the service runs.
    fn changed_to(&self, new: &Self) -> Self {
        let mut changed = self.clone();
        changed.server = self.server.changed_to(&new.server);
        changed.api_token = new.api_token.clone();
        changed.api_token_file = new.api_token_file.clone();
        changed.admin.token = new.admin.token.clone();
        changed.admin.token_file = new.admin.token_file.clone();
        changed.cors_origins = new.cors_origins.clone();
        changed.server_header = new.server_header.clone();
        changed.log_level = new.log_level.clone();
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::flags::Flags;
    use super::super::settings::OWN;
    use super::*;

    /// Another value than the default for each of the service's own settings; files hold it.
    fn other(name: &str) -> &'static str {
        match name {
            "DATABASE_URL" => "sqlite:other.db",
            "DATABASE_CONNECTIONS" | "RATE_LIMIT_INSTANCES" | "ADMIN_PORT" => "7",
            "API_TOKEN" | "ADMIN_TOKEN" => "0123456789abcdef",
            "ADMIN_HOST" => "off",
            "CORS_ORIGINS" => "*",
            "RATE_LIMIT_STORE" => "redis://127.0.0.1/",
            "READY_REQUIRES" => "store",
            "LOG_LEVEL" => "debug",
            "LOG_FORMAT" => "json",
            _ => "/a/path",
        }
    }

    fn read(directory: &std::path::Path, file: &str, flags: &[(&'static str, &str)]) -> (Config, Values, Traces) {
        let path = directory.join("a.toml");
        std::fs::write(&path, file).unwrap();
        let flags: Flags = flags.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        let variable = |name: &str| (name == "CONFIG_FILE").then(|| path.clone().into_os_string());
        let values = Values::find(&flags, variable);
        let config = Config::read(&values, false).unwrap();
        let traces = Traces::of(&values);
        (config, values, traces)
    }

    #[test]
    fn what_the_table_says_may_change_is_what_changes() {
        for setting in OWN {
            let (before, mut new) = (Config::default(), Config::default());
            let name = setting.row.name;
            (setting.set)(&mut new, other(name)).unwrap_or_else(|allowed| panic!("{name}: {allowed}"));
            assert_ne!((setting.show)(&before), (setting.show)(&new), "{name}");
            let changed = before.changed_to(&new);
            let expected = if setting.row.reloadable { &new } else { &before };
            assert_eq!((setting.show)(&changed), (setting.show)(expected), "{name} is marked, or not, and must obey");
        }
    }

    #[test]
    fn a_change_says_what_comes_into_force_what_does_not_and_why() {
        let directory = tempfile::tempdir().unwrap();
        let flags = [("HEADER_TIMEOUT", "3s"), ("WORKERS", "1")];
        let first = read(
            directory.path(),
            "api_token = '0123456789abcdef'\nheader_timeout = '4s'\nworkers = 2\nport = 1\nrate_limit = 50",
            &flags,
        );
        let second = read(
            directory.path(),
            "api_token = '0123456789abcdeg'\nheader_timeout = '5s'\nworkers = 2\nport = 2\nrate_limit = '3000/min'\nkeep_alive_timeout = '9s'",
            &flags,
        );
        let change = Change::between((&first.0, &first.2), (&second.0, &second.2), &second.1).unwrap();
        assert_eq!(change.changed, ["RATE_LIMIT 3000/min (was 50/s)", "KEEP_ALIVE_TIMEOUT 9s (was 75s)", "API_TOKEN"]);
        let file = directory.path().join("a.toml");
        let file = file.to_str().unwrap();
        assert_eq!(
            change.needs_restart,
            [format!("PORT has changed in {file}:4; that needs a restart, and 1 stays in force")]
        );
        assert_eq!(
            change.overridden,
            [format!("header_timeout has changed in {file}:2, but the flag --header-timeout wins")]
        );
        assert_eq!(
            (change.config.server.binding.addresses(), change.config.server.header_timeout),
            (first.0.server.binding.addresses(), first.0.server.header_timeout)
        );
        let again = Change::between((&change.config, &second.2), (&second.0, &second.2), &second.1).unwrap();
        assert!(again.changed.is_empty() && again.overridden.is_empty(), "{again:?}");
        assert_eq!(again.needs_restart.len(), 1, "it is said until the restart");
    }

    #[test]
    fn a_limit_that_is_set_to_its_default_is_a_change_because_it_counts_for_this_machine_too() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (read(directory.path(), "", &[]), read(directory.path(), "rate_limit = 100", &[]));
        let change = Change::between((&first.0, &first.2), (&second.0, &second.2), &second.1).unwrap();
        assert_eq!(change.changed, ["RATE_LIMIT 100/s (was 100/s)"]);
        assert!(!change.config.server.rate_limit.scope.exempts_loopback);
    }

    #[test]
    fn what_does_not_go_with_a_setting_that_cannot_change_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = read(directory.path(), "event_loop = 'portable'", &[]);
        let second =
            read(directory.path(), "proxy_protocol = 'on'\ntrusted_proxies = '10.0.0.0/8'\nevent_loop = 'epoll'", &[]);
        let wrong = Change::between((&first.0, &first.2), (&second.0, &second.2), &second.1).unwrap_err();
        assert_eq!(
            wrong,
            [
                "PROXY_PROTOCOL is \"on\"; allowed is off, because EVENT_LOOP is portable, here or by default, or a restart"
            ]
        );
    }
}
