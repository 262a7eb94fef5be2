//! The flags of the settings, for `serve` and `check-config`: made from the table, with values that nobody has judged.
//!
//! clap only finds the values. It neither reads the environment nor parses, because it would stop at the first wrong
//! value, and what is wrong is to be said all at once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use super::settings::{SETTINGS, Setting};

/// The flags that were given. It has no `Debug`, because values may be secrets.
pub(crate) struct Flags(BTreeMap<&'static str, OsString>);

impl Flags {
    /// The value that a setting's flag was given.
    pub(super) fn value(&self, setting: &Setting) -> Option<&OsStr> {
        self.0.get(setting.variable).map(OsString::as_os_str)
    }
}

/// From variables and the values of their flags.
impl FromIterator<(&'static str, OsString)> for Flags {
    fn from_iter<I: IntoIterator<Item = (&'static str, OsString)>>(given: I) -> Self {
        Self(given.into_iter().collect())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let value = |setting: &Setting| matches.get_one::<OsString>(setting.flag).cloned();
        Ok(SETTINGS.iter().filter_map(|setting| Some((setting.variable, value(setting)?))).collect())
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.append(&mut Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// Variable and default are text of the help: clap must not act on them.
fn argument(setting: &Setting) -> Arg {
    let Setting { variable, help, .. } = setting;
    Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .value_parser(value_parser!(OsString))
        .help(format!("{help} [env: {variable}] [default: {}]", setting.fallback.text()))
}
