//! The settings of `baiwan serve`: the variables that are served today, their defaults, units and what is allowed.
//!
//! Each field is a flag and an environment variable; its doc comment is its help. The parsers are pure: text in, value
//! or "what is allowed" out. A setting that nothing obeys yet is not here, so that `--help` never promises too much.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::EnvFilter;

/// The longest duration that a setting may have.
pub const DURATION_MAX: Duration = Duration::from_hours(24);
/// The most worker threads that may be asked for.
pub const WORKERS_MAX: usize = 1024;
/// The most connections that may be asked for.
pub const CONNECTIONS_MAX: u64 = 100_000_000;

const DURATION_ALLOWED: &str = "a duration up to 24h such as 500ms, 10s or 2m; 0 is none";

// clap takes the doc comments below as help, so they are written for the reader of `--help`.
/// The settings of `baiwan serve`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Address to listen on: an IP address or `localhost`; `::` is both IP versions
    #[arg(long, env = "HOST", hide_env_values = true, default_value = "0.0.0.0", value_name = "ADDRESS",
          value_parser = parse_host)]
    pub host: IpAddr,

    /// TCP port; 0 takes a free one, which the start-up block names
    #[arg(long, env = "PORT", hide_env_values = true, default_value = "8080", value_parser = parse_port)]
    pub port: u16,

    /// Worker threads [default: one per core, within the CPU quota]
    #[arg(long, env = "WORKERS", hide_env_values = true, value_name = "COUNT", value_parser = parse_workers)]
    pub workers: Option<usize>,

    /// Connections held at once; beyond them a new one gets a 503. When it is set and cannot be had, the start fails
    /// [default: 1000000, lowered to what files and memory allow]
    #[arg(long, env = "MAX_CONNECTIONS", hide_env_values = true, value_name = "COUNT",
          value_parser = parse_connections)]
    pub max_connections: Option<u64>,

    /// SQLite file; a relative path is taken from $STATE_DIRECTORY if that is set, else from the working directory
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = "sqlite:baiwan.db",
          value_name = "sqlite:PATH", value_parser = parse_database_url)]
    pub database_url: PathBuf,

    /// error, warn, info, debug, trace, or filter directives such as `info,baiwan=debug`
    #[arg(long, env = "LOG_LEVEL", hide_env_values = true, default_value = "info", value_name = "LEVEL",
          value_parser = parse_log_level)]
    pub log_level: String,

    /// auto, json or text; auto is JSON unless standard error is a terminal
    #[arg(long, env = "LOG_FORMAT", hide_env_values = true, default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Time for a request's head, from its first byte
    #[arg(long, env = "HEADER_TIMEOUT", hide_env_values = true, default_value = "10s", value_name = "DURATION")]
    pub header_timeout: Timeout,

    /// Time that a connection may be idle between requests
    #[arg(long, env = "KEEP_ALIVE_TIMEOUT", hide_env_values = true, default_value = "75s", value_name = "DURATION")]
    pub keep_alive_timeout: Timeout,

    /// Time for a request's whole body
    #[arg(long, env = "BODY_TIMEOUT", hide_env_values = true, default_value = "1h", value_name = "DURATION")]
    pub body_timeout: Timeout,

    /// Bytes a second that a request's body must bring on average, after 5 seconds of grace; 0 is any
    #[arg(long, env = "BODY_MIN_RATE", hide_env_values = true, default_value = "500", value_name = "BYTES",
          value_parser = parse_rate)]
    pub body_min_rate: u32,

    /// Time until a response begins
    #[arg(long, env = "REQUEST_TIMEOUT", hide_env_values = true, default_value = "30s", value_name = "DURATION")]
    pub request_timeout: Timeout,

    /// Time without progress in writing a response
    #[arg(long, env = "WRITE_TIMEOUT", hide_env_values = true, default_value = "30s", value_name = "DURATION")]
    pub write_timeout: Timeout,

    /// Time between "not ready" and closing at SIGTERM, for load balancers to notice
    #[arg(long, env = "SHUTDOWN_DELAY", hide_env_values = true, default_value = "0s", value_name = "DURATION")]
    pub shutdown_delay: Timeout,

    /// Time for the whole stop, the delay included; not 0
    #[arg(long, env = "SHUTDOWN_TIMEOUT", hide_env_values = true, default_value = "25s", value_name = "DURATION",
          value_parser = parse_shutdown_timeout)]
    pub shutdown_timeout: Duration,

    /// auto, epoll or portable (hyper on plain Tokio, for development)
    #[arg(long, env = "EVENT_LOOP", hide_env_values = true, default_value = "auto", value_name = "NAME")]
    pub event_loop: baiwan::EventLoop,

    /// shared or per-core; with per-core the limit on open files counts for each core and not for all together (Linux)
    #[arg(long, env = "FD_TABLES", hide_env_values = true, default_value = "shared", value_name = "NAME")]
    pub fd_tables: baiwan::FdTables,
}

impl Config {
    /// Checks what one value alone cannot show.
    ///
    /// # Errors
    ///
    /// One line that names the variables, their values and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let delay = self.shutdown_delay.0.unwrap_or_default();
        if delay >= self.shutdown_timeout {
            return Err(format!(
                "SHUTDOWN_DELAY (or --shutdown-delay) is {delay:?}; allowed is less than SHUTDOWN_TIMEOUT, which is {:?}",
                self.shutdown_timeout
            ));
        }
        if self.fd_tables == baiwan::FdTables::PerCore && self.event_loop == baiwan::EventLoop::Portable {
            return Err(
                "FD_TABLES (or --fd-tables) is \"per-core\"; allowed with EVENT_LOOP=portable is shared".to_owned()
            );
        }
        Ok(())
    }

    /// The database's absolute path. `state_directory` is the value of `$STATE_DIRECTORY`, a colon-separated list of
    /// which the first counts (systemd sets it).
    ///
    /// # Errors
    ///
    /// The working directory is needed and cannot be read.
    pub fn database_path(&self, state_directory: Option<&OsStr>) -> std::io::Result<PathBuf> {
        let first = state_directory.and_then(|list| std::env::split_paths(list).next());
        let directory = first.filter(|path| !path.as_os_str().is_empty());
        let path = match &directory {
            Some(directory) => directory.join(&self.database_url),
            None => self.database_url.clone(),
        };
        std::path::absolute(path)
    }
}

/// A duration that may be switched off with `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = parse_duration(text).ok_or(DURATION_ALLOWED)?;
        Ok(Self(Some(duration).filter(|duration| !duration.is_zero())))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => write!(f, "{duration:?}"),
            None => f.write_str("none"),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless standard error is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("auto, json or text"),
        }
    }
}

fn parse_host(text: &str) -> Result<IpAddr, &'static str> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an IP address such as 0.0.0.0, 127.0.0.1 or ::, or localhost")
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    const ALLOWED: &str = "a port from 0 to 65535 (0 takes a free one)";
    const KUBERNETES: &str = "a port from 0 to 65535; Kubernetes injects such a value for a Service: \
        set `enableServiceLinks: false` in the pod, or pass --port";
    if text.starts_with("tcp://") || text.starts_with("udp://") {
        return Err(KUBERNETES);
    }
    whole_number(text).and_then(|port| u16::try_from(port).ok()).ok_or(ALLOWED)
}

fn parse_workers(text: &str) -> Result<usize, String> {
    whole_number(text)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (1..=WORKERS_MAX).contains(count))
        .ok_or_else(|| format!("a whole number from 1 to {WORKERS_MAX}"))
}

fn parse_connections(text: &str) -> Result<u64, String> {
    whole_number(text)
        .filter(|count| (1..=CONNECTIONS_MAX).contains(count))
        .ok_or_else(|| format!("a whole number from 1 to {CONNECTIONS_MAX}"))
}

/// Digits only: no sign, no spaces.
fn whole_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_rate(text: &str) -> Result<u32, String> {
    whole_number(text)
        .and_then(|rate| u32::try_from(rate).ok())
        .ok_or_else(|| format!("a whole number of bytes a second from 0 (any) to {}", u32::MAX))
}

fn parse_database_url(text: &str) -> Result<PathBuf, &'static str> {
    const ALLOWED: &str = "sqlite:PATH, for example sqlite:baiwan.db or sqlite:/var/lib/baiwan/baiwan.db";
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return Err("sqlite:PATH; PostgreSQL is not served yet");
    }
    let path = text.strip_prefix("sqlite:").ok_or(ALLOWED)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path == ":memory:" {
        return Err("sqlite:PATH with a file; a database in memory would lose acknowledged writes");
    }
    if path.is_empty() || path.contains(['?', '\0']) {
        return Err(ALLOWED);
    }
    Ok(Path::new(path).to_owned())
}

fn parse_log_level(text: &str) -> Result<String, &'static str> {
    const ALLOWED: &str = "error, warn, info, debug, trace, or filter directives such as info,baiwan=debug";
    // A bare word that is no level would be taken as the name of a module, and a typo would silence the log.
    let is_level = |word: &str| word.parse::<tracing::Level>().is_ok() && !word.bytes().all(|b| b.is_ascii_digit());
    let plausible = text.split(',').all(|directive| directive.contains('=') || is_level(directive.trim()));
    if !plausible || EnvFilter::try_new(text).is_err() {
        return Err(ALLOWED);
    }
    Ok(text.to_owned())
}

fn parse_shutdown_timeout(text: &str) -> Result<Duration, &'static str> {
    let duration = parse_duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or("a duration from 1ms to 24h such as 500ms, 10s or 2m")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let duration = baiwan::parse_timeout(text).ok()?.unwrap_or_default();
    (duration <= DURATION_MAX).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_maximum() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Some(DURATION_MAX));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 s", "25h", "10d", "+1s", "99999999999999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
        assert_eq!("0s".parse(), Ok(Timeout(None)));
    }

    #[test]
    fn database_urls_name_a_file() {
        for (url, path) in [
            ("sqlite:baiwan.db", "baiwan.db"),
            ("sqlite://baiwan.db", "baiwan.db"),
            ("sqlite:/data/a.db", "/data/a.db"),
            ("sqlite:///data/a.db", "/data/a.db"),
        ] {
            assert_eq!(parse_database_url(url), Ok(PathBuf::from(path)), "{url}");
        }
        for wrong in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://x", "baiwan.db"] {
            assert!(parse_database_url(wrong).is_err(), "{wrong}");
        }
        assert!(parse_database_url("postgres://u:p@h/d").is_err_and(|line| line.contains("not served yet")));
    }

    #[test]
    fn a_level_that_is_a_typo_is_refused() {
        for right in ["info", "WARN", "info,baiwan=debug", "baiwan_service::store=trace"] {
            assert!(parse_log_level(right).is_ok(), "{right}");
        }
        for wrong in ["verbose", "infoo", "info,debugg", "baiwan=loud", "3"] {
            assert!(parse_log_level(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_addresses() {
        assert_eq!(parse_host("::"), Ok("::".parse().unwrap()));
        assert_eq!(parse_host("[::1]"), Ok("::1".parse().unwrap()));
        assert_eq!(parse_host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert!(parse_host("example.org").is_err());
    }
}
