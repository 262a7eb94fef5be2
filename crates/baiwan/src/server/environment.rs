//! A builder from what the environment says.

use std::time::Duration;

use super::{Builder, Server};
use crate::Error;
use crate::settings::{Settings, parse_timeout};

impl Server {
    /// A builder with what the environment says: `HOST` and `PORT` (default `0.0.0.0` and `8080`), `WORKERS`,
    /// `MAX_CONNECTIONS`, `HEADER_TIMEOUT`, `KEEP_ALIVE_TIMEOUT`, `BODY_TIMEOUT`, `BODY_MIN_RATE`, `REQUEST_TIMEOUT`,
    /// `WRITE_TIMEOUT`, `HALF_CLOSE`, `SHUTDOWN_IDLE`, `SHUTDOWN_DELAY`, `SHUTDOWN_TIMEOUT`, `EVENT_LOOP` and `FD_TABLES`. A variable that is empty counts as
    /// not set.
    ///
    /// `FD_TABLES=per-core` is obeyed for an app from a factory ([`Builder::serve_with`]) and refused at start for one that the
    /// cores clone: whoever sets it cannot know what the clones share, and to share too much corrupts other clients'
    /// connections; see [`FdTables::PerCore`].
    ///
    /// # Errors
    /// [`Error::Variable`] names the first variable with a wrong value, the value, and what is allowed.
    pub fn from_env() -> Result<Builder, Error> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Builder, Error> {
        let read = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let wrong = |name: &'static str, value: &str, allowed: &str| Error::Variable {
            name,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        let number = |name: &'static str, least: u64, allowed: &str| match read(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>().ok().filter(|number| *number >= least) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, &text, allowed)),
            },
        };
        let timeout = |name: &'static str, default: Option<Duration>| match read(name) {
            None => Ok(default),
            Some(text) => parse_timeout(&text).map_err(|allowed| wrong(name, &text, allowed)),
        };
        let port = match read("PORT") {
            None => 8080,
            Some(text) => text.parse::<u16>().map_err(|_| wrong("PORT", &text, allowed_port(&text)))?,
        };
        let host = read("HOST").unwrap_or_else(|| "0.0.0.0".to_owned());
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let mut builder = Self::builder().bind(format!("{host}:{port}"));
        builder.workers = number("WORKERS", 1, "a number of threads, at least 1")?.map(|workers| workers as usize);
        builder.max_connections = number("MAX_CONNECTIONS", 1, "a number of connections, at least 1")?;
        let defaults = Settings::default();
        builder.settings = Settings {
            header_timeout: timeout("HEADER_TIMEOUT", defaults.header_timeout)?,
            keep_alive_timeout: timeout("KEEP_ALIVE_TIMEOUT", defaults.keep_alive_timeout)?,
            body_timeout: timeout("BODY_TIMEOUT", defaults.body_timeout)?,
            body_rate_min: match read("BODY_MIN_RATE") {
                None => defaults.body_rate_min,
                Some(text) => text.parse().map_err(|_| wrong("BODY_MIN_RATE", &text, "bytes a second; 0 is any"))?,
            },
            request_timeout: timeout("REQUEST_TIMEOUT", defaults.request_timeout)?,
            write_timeout: timeout("WRITE_TIMEOUT", defaults.write_timeout)?,
            half_close: match read("HALF_CLOSE").as_deref() {
                None => defaults.half_close,
                Some("on") => true,
                Some("off") => false,
                Some(text) => return Err(wrong("HALF_CLOSE", text, "on or off")),
            },
            shutdown_idle: match read("SHUTDOWN_IDLE") {
                None => defaults.shutdown_idle,
                Some(_) => timeout("SHUTDOWN_IDLE", None)?.unwrap_or_default(),
            },
            shutdown_delay: timeout("SHUTDOWN_DELAY", None)?.unwrap_or_default(),
            shutdown_timeout: timeout("SHUTDOWN_TIMEOUT", Some(defaults.shutdown_timeout))?.unwrap_or_default(),
            ..defaults
        };
        if let Some(text) = read("EVENT_LOOP") {
            builder.event_loop = text.parse().map_err(|allowed| wrong("EVENT_LOOP", &text, allowed))?;
        }
        if let Some(text) = read("FD_TABLES") {
            builder.fd_tables = text.parse().map_err(|allowed| wrong("FD_TABLES", &text, allowed))?;
            builder.tables_by_environment = true;
        }
        Ok(builder)
    }
}

fn allowed_port(text: &str) -> &'static str {
    match text.contains("://") {
        true => {
            "a number from 0 to 65535; Kubernetes sets such a value for a service: `enableServiceLinks: false` prevents it"
        }
        false => "a number from 0 to 65535",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::listen::Source;

    fn from(variables: &[(&str, &str)]) -> Result<Builder, Error> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Server::from_variables(find)
    }

    #[test]
    fn the_environment_is_read_and_an_empty_variable_is_not_set() {
        let builder = from(&[("HOST", "::1"), ("PORT", "0"), ("REQUEST_TIMEOUT", "5s"), ("WORKERS", "")]).unwrap();
        assert!(matches!(&builder.sources[..], [Source::Address(address)] if address == "[::1]:0"));
        assert_eq!(builder.settings.request_timeout, Some(Duration::from_secs(5)));
        assert_eq!(builder.workers, None);
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value() {
        for (name, value) in [
            ("PORT", "tcp://10.0.0.1:80"),
            ("WORKERS", "0"),
            ("MAX_CONNECTIONS", "many"),
            ("KEEP_ALIVE_TIMEOUT", "75"),
            ("BODY_TIMEOUT", "1 h"),
            ("BODY_MIN_RATE", "-1"),
            ("EVENT_LOOP", "kqueue"),
            ("FD_TABLES", "2"),
        ] {
            let message = from(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }
}
