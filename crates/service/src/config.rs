//! The settings of `baiwan serve`: from flags, variables and a file to what is in force.
//!
//! ```text
//!   flags ─────┐
//!   variables ─┼─► sources: the value in force of each ─► judge, parsers: what is right ─► Config ─► serve, check
//!   file ──────┘
//! ```
//!
//! What settings there are, their names, help and parsers, is one table (`settings`), which begins with that of the engine.
//! Invariant: everything that is wrong is said at once, one line each, and no line repeats a secret.

mod admin_side;
mod change;
pub(crate) mod check;
mod file;
pub(crate) mod flags;
mod judge;
mod limit_store;
mod parsers;
mod reading;
mod secret_file;
mod settings;
pub(crate) mod sources;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use baiwan::settings::{Settings, TABLE};
use baiwan::{AccessLog, Quota};
use http::HeaderValue;

use self::judge::Judge;
use self::settings::OWN;
use self::sources::Values;
use crate::store::Location;

pub use self::admin_side::AdminSettings;
pub(crate) use self::change::{Change, Traces};
pub use self::limit_store::LimitStore;
pub(crate) use self::parsers::parse_log_level;
pub use self::parsers::{CorsOrigins, DATABASE_CONNECTIONS_MAX, LogFormat, ORIGINS_MAX, ReadyRequires};
pub(crate) use self::reading::Again;
pub use self::reading::Reading;
pub use self::settings::{defaults, rows};
/// A secret that requests must know.
pub use baiwan::Secret;

/// Requests of each client a second.
const RATE_LIMIT_DEFAULT: u32 = 100;

/// The settings of `baiwan serve`, all of them right.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that settings were read from, as it was named.
    pub file: Option<PathBuf>,
    /// The settings whose default is that of Kubernetes, where this runs.
    pub kubernetes_defaults: Vec<&'static str>,
    /// What the engine is told.
    pub server: Settings,
    /// The database as it was written; [`location`](Self::location) is where it is.
    pub database: Location,
    /// Connections to PostgreSQL, in all; 1 to [`DATABASE_CONNECTIONS_MAX`]. SQLite needs none.
    pub database_connections: usize,
    /// Demanded for every write of a user; None lets anyone write.
    pub api_token: Option<Secret>,
    /// The file that the database's URL was read from, if one was named.
    pub database_url_file: Option<PathBuf>,
    /// The file that the token was read from, if one was named.
    pub api_token_file: Option<PathBuf>,
    /// The admin side.
    pub admin: AdminSettings,
    /// Whose pages may call the API from a browser.
    pub cors_origins: CorsOrigins,
    /// The field `Server` of answers; None leaves it out.
    pub server_header: Option<HeaderValue>,
    /// Where the budgets of the rate limit are kept.
    pub rate_limit_store: LimitStore,
    /// Among how many instances a budget is parted while that store is away; None counts them.
    pub rate_limit_instances: Option<u32>,
    /// What `/health/ready` asks beside the server itself.
    pub ready_requires: ReadyRequires,
    /// A level, or filter directives of `tracing-subscriber`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Whether an empty database gets users to look at. Only the flag `--demo` sets it.
    pub demo: bool,
}

/// What holds when nobody sets anything. Five settings of the server differ from those of an app of one's own.
impl Default for Config {
    fn default() -> Self {
        let mut server = Settings::default();
        server.request_timeout = Some(Duration::from_secs(30));
        server.half_close = true;
        server.shutdown_grace = Some(Duration::from_secs(1));
        server.access_log = AccessLog::stdout();
        // Whoever tries it out on one machine is not in the way of the limit. One that is set counts for them, too.
        server.rate_limit.quota = Quota::per_second(RATE_LIMIT_DEFAULT).ok();
        server.rate_limit.scope.exempts_loopback = true;
        Self {
            file: None,
            kubernetes_defaults: Vec::new(),
            server,
            database: Location::Sqlite("baiwan.db".into()),
            database_connections: 20,
            api_token: None,
            database_url_file: None,
            api_token_file: None,
            admin: AdminSettings::default(),
            cors_origins: CorsOrigins::None,
            server_header: None,
            rate_limit_store: LimitStore::Memory,
            rate_limit_instances: None,
            ready_requires: ReadyRequires::Nothing,
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
            demo: false,
        }
    }
}

/// How lines of the log are to look, even where other settings are wrong; text, where this one cannot be read.
pub(crate) fn log_format(values: &Values) -> LogFormat {
    match values.given("LOG_FORMAT").map(|value| &value.text) {
        Some(Ok(text)) => text.parse().unwrap_or(LogFormat::Text),
        None if values.is_known("LOG_FORMAT") => LogFormat::Auto,
        _ => LogFormat::Text,
    }
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
        let mut config = Self { demo, ..Self::default() };
        judge.store(TABLE, &mut config.server);
        judge.store(OWN, &mut config);
        if values.are_in_kubernetes() {
            // What a file that cannot be read says of it is not known.
            let is_given = |name: &str| values.given(name).is_some() || !values.is_known(name);
            config.kubernetes_defaults = config.server.take_kubernetes_defaults(is_given);
        }
        for (names, allowed) in config.server.conflicts("") {
            judge.refuse_together(names, &allowed);
        }
        judge.verdict().map(|()| config)
    }

    /// Where the database is, as far as the environment of this process and its working directory say: as it was set where that cannot be read.
    pub(crate) fn place(&self) -> Location {
        self.location_here().unwrap_or_else(|_| self.database.clone())
    }

    /// Where the database is, by the environment of this process and its working directory.
    ///
    /// # Errors
    ///
    /// A line that says what to do.
    pub(crate) fn location_here(&self) -> anyhow::Result<Location> {
        self.location(std::env::var_os("STATE_DIRECTORY").as_deref())
            .context("the working directory cannot be read; set DATABASE_URL to an absolute path")
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
