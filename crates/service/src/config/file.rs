//! The TOML file of settings: what it says of each, and which of its keys are no settings. Pure, but for [`read`].
//!
//! A key is a variable in lower case, and stands at the top, not in a table. What is said of a file names its lines and
//! never repeats them: one may hold a secret.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use toml::de::{DeInteger, DeTable, DeValue};

use baiwan::settings::{Kind, Row, quoted};

use super::settings::rows;

/// A larger file is not one of settings.
const BYTES_MAX: u64 = 1024 * 1024;
/// A longer key is like no other.
const KEY_BYTES_MAX: usize = 64;
/// How many letters may be wrong in a key that is recognised.
const MISTAKES_MAX: usize = 2;
/// How long a pipe may say nothing.
const PIPE_PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What a file says.
pub(super) struct Contents {
    /// Its settings, in the order of the file.
    pub(super) entries: Vec<Entry>,
    /// A line to print for each key that is no setting.
    pub(super) unknown: Vec<String>,
}

/// What a file says of one setting.
pub(super) struct Entry {
    pub(super) row: &'static Row,
    /// The number of its line, from 1.
    pub(super) line: usize,
    /// The value as a variable would have it; the error is the type of one that none could have.
    pub(super) text: Result<String, &'static str>,
}

/// The text of the file at `path`. The error says what is allowed and why this is not.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let bytes = read_bytes(path, BYTES_MAX).map_err(|error| format!("a file that can be read: {error}"))?;
    let bytes = bytes.ok_or("a file of at most 1 MiB")?;
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        format!("TOML, which line {line} is not: it is not UTF-8 text")
    })
}

/// What is in the file at `path`; None if that is more than `bytes_max`.
pub(super) fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe that nobody writes to would wait without end, and there is no log yet to say so.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let mut file = file.take(bytes_max + 1);
    let mut bytes = Vec::new();
    loop {
        let mut ready = [PollFd::new(file.get_ref(), PollFlags::IN)];
        if poll(&mut ready, Some(&PIPE_PATIENCE))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it is a pipe, and nothing came for 5 seconds"));
        }
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= bytes_max)),
            // Whoever writes to it has more to come.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads `text`, the contents of a file that is called `name` in what is said of it. The error says what is allowed and
/// why this is not.
pub(super) fn parse(text: &str, name: &str) -> Result<Contents, String> {
    let table = DeTable::parse(text).map_err(|error| match error.span() {
        Some(span) => format!("TOML, which line {} is not: {}", line_at(text.as_bytes(), span.start), error.message()),
        None => format!("TOML: {}", error.message()),
    })?;
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut contents = Contents { entries: Vec::new(), unknown: Vec::new() };
    for (key, value) in keys {
        let line = line_at(text.as_bytes(), key.span().start);
        let known = rows().find(|row| is_allowed(row) && row.key() == *key.get_ref());
        match known {
            Some(row) => contents.entries.push(Entry { row, line, text: text_of(value.get_ref(), row.kind) }),
            None => contents.unknown.push(unknown(key.get_ref(), &format!("{name}:{line}"))),
        }
    }
    Ok(contents)
}

/// A file does not name the file.
fn is_allowed(row: &Row) -> bool {
    row.name != "CONFIG_FILE"
}

fn line_at(bytes: &[u8], offset: usize) -> usize {
    1 + bytes.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

fn text_of(value: &DeValue<'_>, kind: Kind) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(decimal(number)),
        DeValue::Array(items) if kind == Kind::List => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            let texts = texts.ok_or("array of other things than strings")?;
            Ok(if texts.is_empty() { "none".to_owned() } else { texts.join(",") })
        }
        other => Err(other.type_str()),
    }
}

/// What does not fit into 128 bits is left as it is: no setting takes it.
fn decimal(number: &DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |value| value.to_string())
}

fn unknown(key: &str, place: &str) -> String {
    let key_shown = quoted(key);
    match likely(key) {
        Some(row) if is_allowed(row) => {
            format!("{key_shown} in {place} is no setting; the likely one is {}", row.key())
        }
        Some(_) => format!("{key_shown} in {place} cannot be set in a file; allowed is CONFIG_FILE or --config-file"),
        None => format!(
            "{key_shown} in {place} is no setting; allowed are the variables of `baiwan serve --help` in lower case"
        ),
    }
}

/// The setting that is meant by a key with a few wrong letters.
fn likely(key: &str) -> Option<&'static Row> {
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    let mistakes = |row: &&Row| distance(&key, &row.key());
    let nearest = rows().min_by_key(mistakes)?;
    // All letters of a short key may be wrong, and then it is like any other.
    (mistakes(&nearest) <= MISTAKES_MAX.min(key.chars().count() / 2)).then_some(nearest)
}

/// The letters that must be added, left out or replaced to make one of the other (Wagner and Fischer, 1974).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, with) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *with);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        parse(text, "a.toml").unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        parse(text, "a.toml").err().unwrap_or_else(|| panic!("{text} is TOML"))
    }

    #[test]
    fn values_become_what_a_variable_would_have() {
        for (text, value) in [
            ("port = 80", "80"),
            ("port = 8_080", "8080"),
            ("port = 0x50", "80"),
            ("port = +80", "80"),
            ("port = -1", "-1"),
            ("port = \"80\"", "80"),
            ("log_level = 'info'", "info"),
            ("api_token = \"\"", ""),
            ("cors_origins = \"*\"", "*"),
            ("cors_origins = []", "none"),
            ("cors_origins = [\n  'https://a.org',\n  'https://b.org',\n]", "https://a.org,https://b.org"),
        ] {
            let entries = contents(text).entries;
            assert_eq!(entries.len(), 1, "{text}");
            assert_eq!(entries[0].text.as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_no_variable_could_have_is_named_by_its_type() {
        for (text, kind) in [
            ("port = 80.5", "float"),
            ("port = true", "boolean"),
            ("port = [80]", "array"),
            ("port = ['80']", "array"),
            ("cors_origins = [1]", "array of other things than strings"),
            ("port = 2026-01-01", "datetime"),
            ("[port]\nnumber = 80", "table"),
        ] {
            assert_eq!(contents(text).entries[0].text, Err(kind), "{text}");
        }
    }

    #[test]
    fn entries_know_their_lines() {
        let contents = contents("# first\n\nport = 80\nworkers = 2\n");
        let lines: Vec<_> = contents.entries.iter().map(|entry| (entry.row.name, entry.line)).collect();
        assert_eq!(lines, [("PORT", 3), ("WORKERS", 4)]);
        assert!(contents.unknown.is_empty());
    }

    #[test]
    fn an_unknown_key_gets_a_line_that_names_the_likely_one() {
        for (key, likely) in [
            ("prot", "port"),
            ("PORT", "port"),
            ("header-timeout", "header_timeout"),
            ("keepalive_timeout", "keep_alive_timeout"),
            ("cors_origin", "cors_origins"),
        ] {
            let expected = format!("{key:?} in a.toml:2 is no setting; the likely one is {likely}");
            assert_eq!(contents(&format!("\n{key} = 1")).unknown, [expected]);
        }
        for (text, key) in
            [("listen = 1", "listen"), ("[server]\nport = 1", "server"), ("demo = true", "demo"), ("x = 1", "x")]
        {
            let unknown = contents(text).unknown;
            assert!(unknown.len() == 1 && unknown[0].contains("--help"), "{text}: {unknown:?}");
            assert!(unknown[0].starts_with(&format!("{key:?} in a.toml:1 ")), "{text}: {unknown:?}");
        }
        let config = contents("config_file = 'b.toml'").unknown;
        assert_eq!(
            config,
            ["\"config_file\" in a.toml:1 cannot be set in a file; allowed is CONFIG_FILE or --config-file"]
        );
        assert_eq!(contents("b = 1\nport = 1\na = 1").unknown.len(), 2);
    }

    #[test]
    fn what_is_no_toml_is_said_with_its_line_and_without_its_text() {
        for (text, line) in [
            ("port = 80\nport = 81", 2),
            ("port = 80\n\nsecret", 3),
            ("api_token = secret", 1),
            ("\napi_token = \"secret\nport = 1", 2),
            ("port == 1", 1),
        ] {
            let refused = refused(text);
            assert!(refused.starts_with(&format!("TOML, which line {line} is not: ")), "{text}: {refused}");
            assert!(!refused.contains("secret") && !refused.contains('\n'), "{text}: {refused}");
        }
    }

    #[test]
    fn distances_are_the_letters_that_differ() {
        for (one, other, letters) in
            [("", "", 0), ("port", "port", 0), ("prot", "port", 2), ("", "abc", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (letters, letters), "{one} {other}");
        }
    }
}
