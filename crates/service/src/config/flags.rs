//! The flags of the settings, for `serve` and `check-config`: made from the table, with values that nobody has judged.
//!
//! clap only finds the values. It neither reads the environment nor parses, because it would stop at the first wrong
//! value, and what is wrong is to be said all at once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use baiwan::settings::Row;

use super::settings::{defaults, on_one_line, rows};

/// The flags that were given. It has no `Debug`, because values may be secrets.
pub(crate) struct Flags(BTreeMap<&'static str, OsString>);

impl Flags {
    /// The value that a setting's flag was given.
    pub(super) fn value(&self, row: &Row) -> Option<&OsStr> {
        self.0.get(row.name).map(OsString::as_os_str)
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
        defaults().into_iter().fold(command, |command, (row, default)| command.arg(argument(row, &default)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let value = |row: &Row| matches.get_one::<OsString>(&row.flag()).cloned();
        Ok(rows().filter_map(|row| Some((row.name, value(row)?))).collect())
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.append(&mut Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// The words of a command line as a shell takes them, but for the values of what may be a secret.
pub(crate) fn shown(words: &[OsString]) -> String {
    let mut is_secret = false;
    let mut shown = Vec::new();
    for word in words {
        let word = word.to_string_lossy();
        let (name, value) = word.split_once('=').map_or((&*word, None), |(name, value)| (name, Some(value)));
        let row = rows().find(|row| name.strip_prefix("--") == Some(&row.flag()));
        let holds_secret = row.is_some_and(Row::is_secret);
        shown.push(match value {
            _ if std::mem::take(&mut is_secret) => "…".to_owned(),
            Some(_) if holds_secret => format!("{name}=…"),
            _ => {
                is_secret = holds_secret;
                as_a_word(&word)
            }
        });
    }
    shown.join(" ")
}

fn as_a_word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_=+./:,@%".contains(letter);
    let text = on_one_line(text);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Variable and default are text of the help: clap must not act on them.
fn argument(row: &Row, default: &str) -> Arg {
    Arg::new(row.flag()).long(row.flag()).value_name(row.value).value_parser(value_parser!(OsString)).help(format!(
        "{} [env: {}] [default: {default}]",
        row.help(),
        row.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_a_shell_takes_it_and_without_secrets() {
        for (words, expected) in [
            (&["--port", "1"][..], "--port 1"),
            (&["--port=1", "--demo"], "--port=1 --demo"),
            (&["--server-header", "it's", "--host", ""], r"--server-header 'it'\''s' --host ''"),
            (&["--log-level", "a\nb"], r"--log-level 'a\nb'"),
            (&["--api-token", "secret", "--port", "1"], "--api-token … --port 1"),
            (&["--api-token=secret", "1"], "--api-token=… 1"),
            (&["--database-url", "postgres://ada:secret@h/x", "--demo"], "--database-url … --demo"),
        ] {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            assert_eq!(shown(&words), expected);
        }
    }
}
