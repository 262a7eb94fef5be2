//! The settings of `baiwan serve`: from flags, variables and a file to what is in force.
//!
//! ```text
//!   flags ─────┐
//!   variables ─┼─► sources: the value in force of each ─► judge, parsers: what is right ─► Config ─► serve, check
//!   file ──────┘
//! ```
//!
//! What settings there are, their names, defaults and help, is one table (`settings`). Invariant: everything that is
//! wrong is said at once, one line each, and no line repeats a secret.

pub(crate) mod check;
mod file;
pub(crate) mod flags;
mod judge;
mod parsers;
mod secret;
mod settings;
pub(crate) mod sources;

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;

use self::judge::Judge;
use self::sources::Values;
use crate::store::Location;

pub use self::parsers::{
    CONNECTIONS_MAX, CorsOrigins, DATABASE_CONNECTIONS_MAX, DURATION_MAX, LogFormat, ORIGINS_MAX, ReadyRequires,
    Timeout, WORKERS_MAX,
};
pub(crate) use self::parsers::{parse_length, whole_number};
pub use self::secret::Secret;

/// The settings of `baiwan serve`, all of them right.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that settings were read from, as it was named.
    pub file: Option<PathBuf>,
    /// The address to listen on; `::` is both IP versions.
    pub host: IpAddr,
    /// The TCP port; 0 takes a free one.
    pub port: u16,
    /// Worker threads; None is one per core, within the CPU quota.
    pub workers: Option<usize>,
    /// Connections held at once; None is the engine's default, which it may lower, while a number must be had.
    pub max_connections: Option<u64>,
    /// The database as it was written; [`location`](Self::location) is where it is.
    pub database: Location,
    /// Connections to PostgreSQL, in all; 1 to [`DATABASE_CONNECTIONS_MAX`]. SQLite needs none.
    pub database_connections: usize,
    /// Demanded for every write of a user; None lets anyone write.
    pub api_token: Option<Secret>,
    /// Whose pages may call the API from a browser.
    pub cors_origins: CorsOrigins,
    /// The field `Server` of answers; None leaves it out.
    pub server_header: Option<HeaderValue>,
    /// What `/health/ready` asks beside the server itself.
    pub ready_requires: ReadyRequires,
    /// A level, or filter directives of `tracing-subscriber`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// For a request's head, from its first byte.
    pub header_timeout: Timeout,
    /// For the next request.
    pub keep_alive_timeout: Timeout,
    /// For a request's whole body.
    pub body_timeout: Timeout,
    /// Bytes a second that a request's body must bring on average; 0 is any.
    pub body_min_rate: u32,
    /// Until a response begins.
    pub request_timeout: Timeout,
    /// Without progress in writing a response.
    pub write_timeout: Timeout,
    /// Whether a client that has ended its direction is answered.
    pub half_close: bool,
    /// How long a connection without a request may hold up a stop.
    pub shutdown_idle: Timeout,
    /// Between "not ready" and closing; less than [`shutdown_timeout`](Self::shutdown_timeout).
    pub shutdown_delay: Timeout,
    /// For the whole stop, the delay included; not 0.
    pub shutdown_timeout: Duration,
    /// What moves the bytes.
    pub event_loop: baiwan::EventLoop,
    /// Whether each core has an fd table of its own; never with [`Portable`](baiwan::EventLoop::Portable).
    pub fd_tables: baiwan::FdTables,
    /// Whether an empty database gets users to look at. Only the flag `--demo` sets it.
    pub demo: bool,
}

/// How lines of the log are to look, even where other settings are wrong; text, where this one cannot be read.
pub(crate) fn log_format(values: &Values) -> LogFormat {
    let Some(Ok(text)) = &values.of("LOG_FORMAT").text else { return LogFormat::Text };
    if values.is_known("LOG_FORMAT") { text.parse().unwrap_or(LogFormat::Text) } else { LogFormat::Text }
}

impl Config {
    /// Judges all of `values`.
    ///
    /// # Errors
    ///
    /// One line for each wrong value that names the setting, its value and what is allowed, and one for each key of the
    /// file that is no setting.
    pub(crate) fn read(values: &Values, demo: bool) -> Result<Self, Vec<String>> {
        let mut judge = Judge::new(values);
        let config = Self {
            file: judge.optional("CONFIG_FILE", PathBuf::from_str),
            host: judge.required("HOST", parsers::parse_host),
            port: judge.required("PORT", parsers::parse_port),
            workers: judge.optional("WORKERS", parsers::parse_workers),
            max_connections: judge.optional("MAX_CONNECTIONS", parsers::parse_connections),
            database: judge.required("DATABASE_URL", Location::from_str),
            database_connections: judge.required("DATABASE_CONNECTIONS", parsers::parse_database_connections),
            api_token: judge.optional("API_TOKEN", parsers::parse_token),
            cors_origins: judge.required("CORS_ORIGINS", CorsOrigins::from_str),
            server_header: judge.required("SERVER_HEADER", parsers::parse_server_header),
            ready_requires: judge.required("READY_REQUIRES", ReadyRequires::from_str),
            log_level: judge.required("LOG_LEVEL", parsers::parse_log_level),
            log_format: judge.required("LOG_FORMAT", LogFormat::from_str),
            header_timeout: judge.required("HEADER_TIMEOUT", Timeout::from_str),
            keep_alive_timeout: judge.required("KEEP_ALIVE_TIMEOUT", Timeout::from_str),
            body_timeout: judge.required("BODY_TIMEOUT", Timeout::from_str),
            body_min_rate: judge.required("BODY_MIN_RATE", parsers::parse_rate),
            request_timeout: judge.required("REQUEST_TIMEOUT", Timeout::from_str),
            write_timeout: judge.required("WRITE_TIMEOUT", Timeout::from_str),
            half_close: judge.required("HALF_CLOSE", parsers::parse_switch),
            shutdown_idle: judge.required("SHUTDOWN_IDLE", Timeout::from_str),
            shutdown_delay: judge.required("SHUTDOWN_DELAY", Timeout::from_str),
            shutdown_timeout: judge.required("SHUTDOWN_TIMEOUT", parse_length),
            event_loop: judge.required("EVENT_LOOP", baiwan::EventLoop::from_str),
            fd_tables: judge.required("FD_TABLES", baiwan::FdTables::from_str),
            demo,
        };
        config.check_together(&mut judge);
        judge.verdict().map(|()| config)
    }

    /// Checks what one value alone cannot show, where its parts are right.
    fn check_together(&self, judge: &mut Judge<'_>) {
        let delay = self.shutdown_delay.0.unwrap_or_default();
        if judge.are_right(["SHUTDOWN_DELAY", "SHUTDOWN_TIMEOUT"]) && delay >= self.shutdown_timeout {
            let timeout = self.shutdown_timeout;
            let verdict = format!("allowed is less than SHUTDOWN_TIMEOUT, which is {timeout:?}");
            judge.refuse("SHUTDOWN_DELAY", &verdict);
        }
        if judge.are_right(["FD_TABLES", "EVENT_LOOP"])
            && self.fd_tables == baiwan::FdTables::PerCore
            && self.event_loop == baiwan::EventLoop::Portable
        {
            judge.refuse("FD_TABLES", "allowed with EVENT_LOOP=portable is shared");
        }
    }

    /// Where the database is: for SQLite an absolute path. `state_directory` is the value of `$STATE_DIRECTORY`, a
    /// colon-separated list of which the first counts (systemd sets it).
    ///
    /// # Errors
    ///
    /// The working directory is needed and cannot be read.
    pub fn location(&self, state_directory: Option<&OsStr>) -> io::Result<Location> {
        let Location::Sqlite(path) = &self.database else { return Ok(self.database.clone()) };
        let first = state_directory.and_then(|list| std::env::split_paths(list).next());
        let directory = first.filter(|path| !path.as_os_str().is_empty());
        let path = match &directory {
            Some(directory) => directory.join(path),
            None => path.clone(),
        };
        std::path::absolute(path).map(Location::Sqlite)
    }
}
