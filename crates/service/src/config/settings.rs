//! The table of the service's own settings, and all settings of `baiwan serve`: first those of the server, then these.
//!
//! Everything that knows settings by name reads it: the flags, the file, `check-config`, `--help` and `docs/settings.md`. A
//! setting that nothing obeys yet is not here, so that `--help` never promises too much.

use std::borrow::Cow;
use std::path::PathBuf;

use baiwan::settings::{HIDDEN, Kind, OFF, Row, Setting, TABLE, parse_count, store};

use super::Config;
use super::parsers::{self, DATABASE_CONNECTIONS_MAX};

/// Every setting of `baiwan serve`, in the order of the help.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().map(|setting| &setting.row).chain(OWN.iter().map(|setting| &setting.row))
}

/// The values in force of all [`rows`], as they would be written.
pub(crate) fn values(config: &Config) -> impl Iterator<Item = (&'static Row, String)> {
    let of_server = TABLE.iter().map(|setting| (&setting.row, (setting.show)(&config.server)));
    of_server.chain(OWN.iter().map(|setting| (&setting.row, (setting.show)(config))))
}

/// What holds when nobody sets a setting: a value like one that is given, or words.
pub fn defaults() -> Vec<(&'static Row, Cow<'static, str>)> {
    let of = |(row, value): (&'static Row, String)| (row, row.default.map_or(value.into(), Cow::Borrowed));
    values(&Config::default()).map(of).collect()
}

/// The row with this name.
///
/// # Panics
///
/// No setting has it.
pub(crate) fn row(name: &str) -> &'static Row {
    rows().find(|row| row.name == name).unwrap_or_else(|| unreachable!("{name} is not in the table of settings"))
}

/// `text` as it is, but for what would make two lines of one or move a terminal's cursor.
pub(super) fn on_one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.escape_debug().to_string().into() } else { text.into() }
}

/// Any text is a path.
fn parse_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text.into()))
}

/// More instances than anybody has.
const INSTANCES_MAX: u64 = 10_000;
const COUNTED: &str = "counted";

/// What is shown of a setting that nobody has set and that has no default.
const NOT_SET: &str = "not set";

fn shown_path(path: Option<&PathBuf>) -> String {
    path.map_or(NOT_SET.to_owned(), |path| path.display().to_string())
}

/// The settings that the service has beside those of its server.
pub(super) static OWN: &[Setting<Config>] = &[
    Setting {
        row: Row {
            default: Some(NOT_SET),
            ..Row::new("CONFIG_FILE", "PATH", "TOML file of settings; its keys are the variables in lower case")
        },
        set: |config, text| store(&mut config.file, parse_path(text)),
        show: |config| shown_path(config.file.as_ref()),
    },
    Setting {
        row: Row {
            kind: Kind::Url,
            ..Row::new(
                "DATABASE_URL",
                "URL",
                "`sqlite:PATH`, where a relative path starts in `$STATE_DIRECTORY` if that is set, else in the working \
                 directory; or `postgres://USER:PASSWORD@HOST/DATABASE`, with `?sslmode=verify-full` for TLS to a server \
                 that is checked. With a password better not a flag: `ps` shows flags to everybody",
            )
        },
        set: |config, text| store(&mut config.database, text.parse()),
        show: |config| config.database.to_string(),
    },
    Setting {
        row: Row {
            default: Some(NOT_SET),
            ..Row::new(
                "DATABASE_URL_FILE",
                "PATH",
                "File whose content is `DATABASE_URL`; only one of the two may be given",
            )
        },
        set: |config, text| store(&mut config.database_url_file, parse_path(text)),
        show: |config| shown_path(config.database_url_file.as_ref()),
    },
    Setting {
        row: Row::new("DATABASE_CONNECTIONS", "COUNT", "Connections to PostgreSQL, in all; SQLite needs none"),
        set: |config, text| {
            let count = parse_count(text, DATABASE_CONNECTIONS_MAX as u64);
            store(&mut config.database_connections, count.map(|count| count as usize))
        },
        show: |config| config.database_connections.to_string(),
    },
    Setting {
        row: Row {
            kind: Kind::Secret,
            default: Some(NOT_SET),
            ..Row::new(
                "API_TOKEN",
                "TOKEN",
                "Required for every change of a user, as `Authorization: Bearer TOKEN`: 16 to 512 characters. Without it \
                 everyone may write. Better not a flag: `ps` shows flags to everybody",
            ).reloadable()
        },
        set: |config, text| store(&mut config.api_token, parsers::parse_token(text).map(Some)),
        show: |config| if config.api_token.is_some() { HIDDEN } else { NOT_SET }.to_owned(),
    },
    Setting {
        row: Row {
            default: Some(NOT_SET),
            ..Row::new("API_TOKEN_FILE", "PATH", "File whose content is `API_TOKEN`; only one of the two may be given").reloadable()
        },
        set: |config, text| store(&mut config.api_token_file, parse_path(text)),
        show: |config| shown_path(config.api_token_file.as_ref()),
    },
    Setting {
        row: Row::new(
            "ADMIN_HOST",
            "ADDRESS",
            "Address of the admin side (metrics, health, dashboard), as in `HOST`; `off` is none. On one that is not a loopback address, all but \
             metrics and health needs `ADMIN_TOKEN`",
        ),
        set: |config, text| config.admin.set_host(text),
        show: |config| config.admin.host.map_or(OFF.to_owned(), |host| host.to_string()),
    },
    Setting {
        row: Row::new(
            "ADMIN_PORT",
            "PORT",
            "TCP port of the admin side; `0` takes a free one. One that is in use is refused if this or `ADMIN_HOST` is set; else there is a \
             warning and no admin side",
        ),
        set: |config, text| config.admin.set_port(text),
        show: |config| config.admin.port.to_string(),
    },
    Setting {
        row: Row {
            kind: Kind::Secret,
            default: Some(NOT_SET),
            ..Row::new(
                "ADMIN_TOKEN",
                "TOKEN",
                "Required for all of the admin side but metrics and health, as a bearer token or as the password of any user: 16 to 512 \
                 characters. Better not a flag: `ps` shows flags to everybody",
            ).reloadable()
        },
        set: |config, text| store(&mut config.admin.token, parsers::parse_token(text).map(Some)),
        show: |config| if config.admin.token.is_some() { HIDDEN } else { NOT_SET }.to_owned(),
    },
    Setting {
        row: Row {
            default: Some(NOT_SET),
            ..Row::new(
                "ADMIN_TOKEN_FILE",
                "PATH",
                "File whose content is `ADMIN_TOKEN`; only one of the two may be given",
            ).reloadable()
        },
        set: |config, text| store(&mut config.admin.token_file, parse_path(text)),
        show: |config| shown_path(config.admin.token_file.as_ref()),
    },
    Setting {
        row: Row {
            kind: Kind::List,
            ..Row::new(
                "CORS_ORIGINS",
                "ORIGINS",
                "Pages that may call the API from a browser: `off`, `*` for all, or origins such as \
                 `https://app.example.org`, separated by commas",
            ).reloadable()
        },
        set: |config, text| store(&mut config.cors_origins, text.parse()),
        show: |config| config.cors_origins.to_string(),
    },
    Setting {
        row: Row::new("SERVER_HEADER", "TEXT", "Text of the field `Server` in answers, or `off`").reloadable(),
        set: |config, text| store(&mut config.server_header, parsers::parse_server_header(text)),
        show: |config| {
            let text = config.server_header.as_ref().map(|text| String::from_utf8_lossy(text.as_bytes()));
            text.unwrap_or(OFF.into()).into_owned()
        },
    },
    Setting {
        row: Row {
            kind: Kind::Url,
            ..Row::new(
                "RATE_LIMIT_STORE",
                "URL",
                "`memory`, or the Redis or Valkey server in which all instances share the budgets of `RATE_LIMIT`: \
                 `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` for TLS. With a password better not a flag: `ps` shows \
                 flags to everybody",
            )
        },
        set: |config, text| store(&mut config.rate_limit_store, text.parse()),
        show: |config| config.rate_limit_store.to_string(),
    },
    Setting {
        row: Row {
            default: Some(COUNTED),
            ..Row::new(
                "RATE_LIMIT_INSTANCES",
                "COUNT",
                "Among how many instances a budget is parted while `RATE_LIMIT_STORE` is away; by default those that it counted last",
            )
        },
        set: |config, text| {
            let count = match text {
                COUNTED => Ok(None),
                _ => parse_count(text, INSTANCES_MAX).map(|count| Some(count as u32)),
            };
            store(&mut config.rate_limit_instances, count.map_err(|allowed| format!("{allowed}; or {COUNTED}")))
        },
        show: |config| config.rate_limit_instances.map_or(COUNTED.to_owned(), |count| count.to_string()),
    },
    Setting {
        row: Row::new(
            "READY_REQUIRES",
            "WHAT",
            "What `/health/ready` checks besides the server itself: `off`, or `store` for the database",
        ),
        set: |config, text| store(&mut config.ready_requires, text.parse()),
        show: |config| config.ready_requires.to_string(),
    },
    Setting {
        row: Row::new(
            "LOG_LEVEL",
            "LEVEL",
            "`error`, `warn`, `info`, `debug`, `trace`, or filter directives such as `info,baiwan=debug`",
        ).reloadable(),
        set: |config, text| store(&mut config.log_level, parsers::parse_log_level(text)),
        show: |config| config.log_level.clone(),
    },
    Setting {
        row: Row::new("LOG_FORMAT", "FORMAT", "`json`, `text`, or `auto`: JSON unless standard error is a terminal"),
        set: |config, text| store(&mut config.log_format, text.parse()),
        show: |config| config.log_format.to_string(),
    },
];
