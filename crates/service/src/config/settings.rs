//! The table of settings: for each its names, what holds when nobody sets it, how it may be shown, and its help.
//!
//! Everything that knows settings by name reads this table: the flags, the file, `check-config` and `--help`. What a
//! value may be is not here: [`Config`](super::Config) has a parser for each, and panics in every test if the table
//! lacks a setting that it asks for. A setting that nothing obeys yet is not here, so that `--help` never promises too
//! much.

use std::borrow::Cow;

/// What stands for a value that must not be shown.
pub(super) const HIDDEN: &str = "(hidden)";

/// How many characters of a wrong value are repeated: enough to recognise it.
const SHOWN_MAX: usize = 200;

/// One setting of `baiwan serve`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The environment variable, which is also the setting's name.
    pub(crate) variable: &'static str,
    /// The flag without its dashes: the variable in kebab case.
    pub(crate) flag: &'static str,
    /// What the help calls the value.
    pub(crate) value_name: &'static str,
    /// What holds when nobody sets it.
    pub(crate) fallback: Fallback,
    /// How the value is written and shown.
    pub(crate) kind: Kind,
    /// For the reader of `--help`.
    pub(crate) help: &'static str,
}

/// What holds when nobody sets a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// A value like one that is given.
    Value(&'static str),
    /// No value; the words say what that means.
    Unset(&'static str),
}

impl Fallback {
    /// As the help shows it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Value(text) | Self::Unset(text) => text,
        }
    }
}

/// How a value is written in a file, and what of it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Shown as it is.
    Plain,
    /// Shown as it is; in a file it may be an array.
    List,
    /// It may hold a password: of a wrong one only the scheme is shown.
    Url,
    /// Never shown.
    Secret,
}

impl Setting {
    /// The key in a file: the variable in snake case.
    pub(crate) fn key(&self) -> String {
        self.flag.replace('-', "_")
    }

    /// What may be shown of `text`, a value that may be wrong: in quotes, on one line, without secrets.
    pub(crate) fn shown(&self, text: &str) -> String {
        match self.kind {
            Kind::Plain | Kind::List => quoted(text),
            Kind::Url => quoted(&without_secrets(text)),
            Kind::Secret => HIDDEN.to_owned(),
        }
    }
}

/// The setting with this variable.
///
/// # Panics
///
/// No setting has it.
pub(crate) fn setting(variable: &str) -> &'static Setting {
    let found = SETTINGS.iter().find(|setting| setting.variable == variable);
    found.unwrap_or_else(|| unreachable!("{variable} is not in the table of settings"))
}

/// `text` as it is, but for what would make two lines of one or move a terminal's cursor.
pub(super) fn on_one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.escape_debug().to_string().into() } else { text.into() }
}

/// `text` in quotes on one line, and not all of a long one.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Only the scheme of a URL that may carry a password.
fn without_secrets(url: &str) -> Cow<'_, str> {
    match url.split_once(':') {
        Some((scheme, rest)) if !rest.is_empty() && scheme != "sqlite" => format!("{scheme}:…").into(),
        Some(_) => url.into(),
        None if url.is_empty() => url.into(),
        None => "…".into(),
    }
}

/// Every setting, in the order of the help.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        variable: "CONFIG_FILE",
        flag: "config-file",
        value_name: "PATH",
        fallback: Fallback::Unset("none"),
        kind: Kind::Plain,
        help: "TOML file of settings; its keys are the variables in lower case",
    },
    Setting {
        variable: "HOST",
        flag: "host",
        value_name: "ADDRESS",
        fallback: Fallback::Value("0.0.0.0"),
        kind: Kind::Plain,
        help: "Address to listen on: an IP address or `localhost`; `::` serves both IP versions",
    },
    Setting {
        variable: "PORT",
        flag: "port",
        value_name: "PORT",
        fallback: Fallback::Value("8080"),
        kind: Kind::Plain,
        help: "TCP port; 0 takes a free one, which the start-up block names",
    },
    Setting {
        variable: "WORKERS",
        flag: "workers",
        value_name: "COUNT",
        fallback: Fallback::Unset("one per core, within the CPU quota"),
        kind: Kind::Plain,
        help: "Worker threads",
    },
    Setting {
        variable: "MAX_CONNECTIONS",
        flag: "max-connections",
        value_name: "COUNT",
        fallback: Fallback::Unset("1000000, lowered to what files and memory allow"),
        kind: Kind::Plain,
        help: "Connections held at once; one more gets a 503. A value that is set and cannot be had is refused at start",
    },
    Setting {
        variable: "DATABASE_URL",
        flag: "database-url",
        value_name: "URL",
        fallback: Fallback::Value("sqlite:baiwan.db"),
        kind: Kind::Url,
        help: "sqlite:PATH, where a relative path is taken from $STATE_DIRECTORY if that is set, else from the working \
            directory; or postgres://USER:PASSWORD@HOST/DATABASE, better as a variable: `ps` shows flags to everybody",
    },
    Setting {
        variable: "DATABASE_CONNECTIONS",
        flag: "database-connections",
        value_name: "COUNT",
        fallback: Fallback::Value("20"),
        kind: Kind::Plain,
        help: "Connections to PostgreSQL, in all; SQLite needs none",
    },
    Setting {
        variable: "API_TOKEN",
        flag: "api-token",
        value_name: "TOKEN",
        fallback: Fallback::Unset("none"),
        kind: Kind::Secret,
        help: "Required for every change of a user, as `Authorization: Bearer TOKEN`: 16 to 512 characters. Better as a \
            variable: `ps` shows flags to everybody",
    },
    Setting {
        variable: "CORS_ORIGINS",
        flag: "cors-origins",
        value_name: "ORIGINS",
        fallback: Fallback::Value("none"),
        kind: Kind::List,
        help: "Pages that may call the API from a browser: none, * for all, or origins such as \
            https://app.example.org, separated by commas",
    },
    Setting {
        variable: "SERVER_HEADER",
        flag: "server-header",
        value_name: "TEXT",
        fallback: Fallback::Value("off"),
        kind: Kind::Plain,
        help: "The field `Server` of answers: off, or its text",
    },
    Setting {
        variable: "READY_REQUIRES",
        flag: "ready-requires",
        value_name: "WHAT",
        fallback: Fallback::Value("none"),
        kind: Kind::Plain,
        help: "What /health/ready checks besides the server itself: none, or store for the database",
    },
    Setting {
        variable: "LOG_LEVEL",
        flag: "log-level",
        value_name: "LEVEL",
        fallback: Fallback::Value("info"),
        kind: Kind::Plain,
        help: "error, warn, info, debug, trace, or filter directives such as `info,baiwan=debug`",
    },
    Setting {
        variable: "LOG_FORMAT",
        flag: "log-format",
        value_name: "FORMAT",
        fallback: Fallback::Value("auto"),
        kind: Kind::Plain,
        help: "auto, json or text; auto is JSON unless standard error is a terminal",
    },
    Setting {
        variable: "HEADER_TIMEOUT",
        flag: "header-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("10s"),
        kind: Kind::Plain,
        help: "Time for a request's head, from its first byte; then 408",
    },
    Setting {
        variable: "KEEP_ALIVE_TIMEOUT",
        flag: "keep-alive-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("75s"),
        kind: Kind::Plain,
        help: "Time that a connection may be idle between requests",
    },
    Setting {
        variable: "BODY_TIMEOUT",
        flag: "body-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("1h"),
        kind: Kind::Plain,
        help: "Time for a request's whole body; then 408",
    },
    Setting {
        variable: "BODY_MIN_RATE",
        flag: "body-min-rate",
        value_name: "BYTES",
        fallback: Fallback::Value("500"),
        kind: Kind::Plain,
        help: "Bytes a second that a request's body must bring on average, after 5 seconds of grace; then \
            408. 0 is any",
    },
    Setting {
        variable: "REQUEST_TIMEOUT",
        flag: "request-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("30s"),
        kind: Kind::Plain,
        help: "Time for a handler to begin its response; then 503",
    },
    Setting {
        variable: "WRITE_TIMEOUT",
        flag: "write-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("30s"),
        kind: Kind::Plain,
        help: "Longest pause in sending a response",
    },
    Setting {
        variable: "HALF_CLOSE",
        flag: "half-close",
        value_name: "CHOICE",
        fallback: Fallback::Value("on"),
        kind: Kind::Plain,
        help: "on answers a client that has ended its direction of the connection (`nc -N`), off treats it as gone",
    },
    Setting {
        variable: "SHUTDOWN_IDLE",
        flag: "shutdown-idle",
        value_name: "DURATION",
        fallback: Fallback::Value("5s"),
        kind: Kind::Plain,
        help: "Time that a connection without a request (idle, or with half a head) may hold up a stop",
    },
    Setting {
        variable: "SHUTDOWN_DELAY",
        flag: "shutdown-delay",
        value_name: "DURATION",
        fallback: Fallback::Value("0s"),
        kind: Kind::Plain,
        help: "Time to go on serving at SIGTERM while /health/ready is already 503, so that load balancers notice",
    },
    Setting {
        variable: "SHUTDOWN_TIMEOUT",
        flag: "shutdown-timeout",
        value_name: "DURATION",
        fallback: Fallback::Value("25s"),
        kind: Kind::Plain,
        help: "Time for the whole stop, the delay included; not 0",
    },
    Setting {
        variable: "EVENT_LOOP",
        flag: "event-loop",
        value_name: "NAME",
        fallback: Fallback::Value("auto"),
        kind: Kind::Plain,
        help: "auto, epoll or portable (hyper on plain Tokio, for development)",
    },
    Setting {
        variable: "FD_TABLES",
        flag: "fd-tables",
        value_name: "NAME",
        fallback: Fallback::Value("shared"),
        kind: Kind::Plain,
        help: "shared or per-core; with per-core the limit on open files counts for each core, not for all together \
            (Linux)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_and_key_are_the_variable_in_other_letters() {
        for setting in SETTINGS {
            assert_eq!(setting.flag.replace('-', "_").to_uppercase(), setting.variable);
            assert_eq!(setting.key().to_uppercase(), setting.variable);
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let url = setting("DATABASE_URL");
        assert_eq!(url.shown("mysql://ada:secret@host/db"), "\"mysql:…\"");
        assert_eq!(url.shown("secret"), "\"…\"");
        assert_eq!(url.shown("sqlite:"), "\"sqlite:\"");
        assert_eq!(url.shown(""), "\"\"");
        assert_eq!(setting("API_TOKEN").shown("secret"), "(hidden)");
        assert_eq!(setting("PORT").shown("a\nb"), "\"a\\nb\"");
        let long = setting("PORT").shown(&"ü".repeat(SHOWN_MAX + 1));
        assert_eq!(long, format!("\"{}\"…", "ü".repeat(SHOWN_MAX)));
        assert_eq!(setting("PORT").shown(&"ü".repeat(SHOWN_MAX)), format!("\"{}\"", "ü".repeat(SHOWN_MAX)));
    }
}
