//! What is said once the service listens: one aligned block for people, or one JSON line with the same fields.

use std::fmt::Write;
use std::net::SocketAddr;

use baiwan::settings::{OFF, Setting, Settings, TABLE};
use baiwan::{FdTables, RateLimitMode};
use tracing::info;

use crate::activation::Given;
use crate::config::{Config, CorsOrigins, LimitStore, ReadyRequires};
use crate::logs;
use crate::notify;
use crate::store::Location;

/// What came out of the start: the settings as they are in force.
#[derive(Debug)]
pub struct Startup<'a> {
    /// The settings as asked for.
    pub config: &'a Config,
    /// Where the server listens, as the engine writes it: `ADDRESS:PORT`, or something that no browser opens.
    pub addresses: Vec<String>,
    /// Where the admin side listens, if there is one.
    pub admin: Option<SocketAddr>,
    /// Which of the sockets were opened by the service manager.
    pub given: Given,
    /// The event loop that was chosen.
    pub event_loop: String,
    /// Worker threads.
    pub workers: usize,
    /// Connections that may be held.
    pub connections_max: u64,
    /// What was lowered, and why; whole sentences of the engine.
    pub notes: Vec<String>,
    /// Where the database is, without its secrets.
    pub database: String,
}

/// Of an admin side that others can reach, and that nobody has to show a token to.
const METRICS_ONLY: &str = "not set: metrics and health only";
const HOW_TO_STOP: &str = "Ctrl-C or SIGTERM";

impl Startup<'_> {
    /// Says it on standard error, in the format of the log, and then to systemd.
    pub fn announce(&self, json: bool) {
        self.say(json);
        notify::ready(&self.status());
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&self) -> String {
        let (links, admin) = (self.links().join(" "), self.admin_link());
        format!("serving at most {} connections on {links}; admin side: {admin}", self.connections_max)
    }

    fn say(&self, json: bool) {
        if !json {
            logs::print_to_stderr(&self.block());
            return;
        }
        info!(
            version = env!("CARGO_PKG_VERSION"),
            addresses = self.links().join(" "),
            admin = self.admin_link(),
            admin_token = self.admin_token(),
            access_log = self.shown("ACCESS_LOG"),
            sockets = self.sockets(),
            event_loop = self.event_loop,
            fd_tables = self.fd_tables(),
            workers = self.workers,
            max_connections = self.connections_max,
            notes = self.notes.join("; "),
            timeouts = self.timeouts(),
            rate_limit = self.rate_limit(),
            body_min_rate = self.config.server.body_rate_min,
            write_min_rate = self.config.server.write_rate_min,
            shutdown = self.shutdown(),
            database = self.database,
            database_connections = self.database_connections(),
            database_tls = self.database_security(),
            api_token = self.api_token(),
            cors_origins = %self.config.cors_origins,
            ready_requires = %self.config.ready_requires,
            server_header = self.server_header(),
            settings = self.settings(),
            stop = HOW_TO_STOP,
            "baiwan is ready"
        );
    }

    fn block(&self) -> String {
        let mut limits = vec![format!("{} connections", self.connections_max)];
        limits.extend(self.notes.iter().cloned());
        limits.push(self.rate_limit());
        let mut database = vec![self.database.clone()];
        database.extend(self.database_connections().map(|count| format!("{count} connections in all")));
        database.extend(self.database_security());
        let mut listening = self.links();
        listening.extend(self.given.notes().into_iter().map(ToOwned::to_owned));
        let rows = [
            ("listening", listening),
            ("admin", vec![self.admin_row()]),
            ("access log", vec![self.access_log()]),
            ("event loop", vec![self.event_loop.clone()]),
            ("fd tables", self.fd_tables().map(ToOwned::to_owned).into_iter().collect()),
            ("workers", vec![self.workers.to_string()]),
            ("limits", limits),
            ("timeouts", vec![self.timeouts()]),
            ("body rate", vec![self.body_rate()]),
            ("shutdown", vec![self.shutdown()]),
            ("database", database),
            ("api token", vec![self.api_token().to_owned()]),
            ("origins", vec![self.origins()]),
            ("ready", vec![self.ready().to_owned()]),
            ("server", vec![self.server_header()]),
            ("settings", self.settings().into_iter().collect()),
            ("stop", vec![HOW_TO_STOP.to_owned()]),
        ];
        let mut block = format!("baiwan {} is ready\n", env!("CARGO_PKG_VERSION"));
        for (label, lines) in rows {
            for (index, line) in lines.iter().enumerate() {
                let label = if index == 0 { label } else { "" };
                let _ = writeln!(block, "  {label:<10}  {line}");
            }
        }
        block
    }

    /// Which limit is in force, whom it exempts, and how to turn it off.
    fn rate_limit(&self) -> String {
        let limits = &self.config.server.rate_limit;
        let Some(quota) = limits.quota_in_force().ok().flatten() else {
            return match self.config.rate_limit_store {
                LimitStore::Memory => "no rate limit".to_owned(),
                LimitStore::Redis(_) => "no rate limit, so RATE_LIMIT_STORE has no effect".to_owned(),
            };
        };
        let mut line = format!("{quota} from each client (RATE_LIMIT; off turns it off)");
        let exempt = limits.scope.exempts_loopback.then(|| "this machine".to_owned());
        let networks = Some(limits.scope.exempt.to_string()).filter(|networks| !networks.is_empty());
        let exempt: Vec<_> = exempt.into_iter().chain(networks).collect();
        if !exempt.is_empty() {
            let _ = write!(line, ", but not from {}", exempt.join(","));
        }
        if let LimitStore::Redis(url) = &self.config.rate_limit_store {
            let _ = write!(line, ", shared with all instances in {url}");
        }
        if limits.mode == RateLimitMode::Report {
            line += "; only reported (RATE_LIMIT_MODE)";
        }
        line
    }

    fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for text in &self.addresses {
            let Ok(address) = text.parse::<SocketAddr>() else {
                links.push(text.clone());
                continue;
            };
            links.push(format!("http://{address}"));
            if address.ip().is_unspecified() {
                // The address for all interfaces is not one that every browser opens.
                links.push(format!("http://localhost:{}", address.port()));
            }
        }
        links
    }

    /// What is said of sockets from the service manager, if there are any.
    fn sockets(&self) -> Option<String> {
        Some(self.given.notes().join("; ")).filter(|notes| !notes.is_empty())
    }

    /// The address of the admin side as a browser opens it.
    fn admin_link(&self) -> String {
        self.admin.map_or(OFF.to_owned(), |address| format!("http://{address}"))
    }

    /// What the admin side demands of those who want more than metrics and health. None where there is none.
    fn admin_token(&self) -> Option<&'static str> {
        let address = self.admin?;
        Some(match self.config.admin.token {
            Some(_) => "demanded",
            None if address.ip().to_canonical().is_loopback() => "not set: this machine only",
            None => METRICS_ONLY,
        })
    }

    /// Where the dashboard is, too, if there is one.
    fn admin_row(&self) -> String {
        let Some(token) = self.admin_token() else { return OFF.to_owned() };
        let dashboard = if token == METRICS_ONLY { "" } else { " (dashboard)" };
        format!("{}{dashboard}; token {token} (ADMIN_TOKEN)", self.admin_link())
    }

    /// Where a line for each request goes, and how many lines a second are written.
    fn access_log(&self) -> String {
        let place = match &*self.shown("ACCESS_LOG") {
            OFF => return OFF.to_owned(),
            "on" => "standard output".to_owned(),
            path => path.to_owned(),
        };
        match &*self.shown("ACCESS_LOG_SAMPLE") {
            OFF => format!("{place} (ACCESS_LOG)"),
            lines => {
                format!("{place} (ACCESS_LOG), a part of what is above {lines} lines a second (ACCESS_LOG_SAMPLE)")
            }
        }
    }

    /// A setting of the server as it is in force.
    fn shown(&self, name: &str) -> String {
        let setting = TABLE.iter().find(|setting| setting.row.name == name);
        setting.map(|setting| (setting.show)(&self.config.server)).unwrap_or_default()
    }

    /// Said only where it is not what everybody expects.
    fn fd_tables(&self) -> Option<&'static str> {
        let fd_tables = self.config.server.fd_tables;
        Some(fd_tables.name()).filter(|_| fd_tables != FdTables::Shared)
    }

    /// None where the database needs none.
    fn database_connections(&self) -> Option<usize> {
        match self.config.database {
            Location::Sqlite(_) => None,
            Location::Postgres(_) => Some(self.config.database_connections),
        }
    }

    /// How connections to the database are secured; None where none leaves this machine.
    fn database_security(&self) -> Option<String> {
        match &self.config.database {
            Location::Sqlite(_) => None,
            Location::Postgres(url) => url.security(),
        }
    }

    fn api_token(&self) -> &'static str {
        match self.config.api_token {
            Some(_) => "demanded for writes",
            None => "not set: anyone may write",
        }
    }

    fn origins(&self) -> String {
        match &self.config.cors_origins {
            CorsOrigins::None => "none but its own".to_owned(),
            CorsOrigins::Any => "* (all)".to_owned(),
            origins @ CorsOrigins::List(_) => origins.to_string(),
        }
    }

    fn ready(&self) -> &'static str {
        match self.config.ready_requires {
            ReadyRequires::Nothing => "whether or not the database answers",
            ReadyRequires::Store => "while the database answers",
        }
    }

    fn server_header(&self) -> String {
        let text = self.config.server_header.as_ref().map(|text| String::from_utf8_lossy(text.as_bytes()));
        text.unwrap_or("off".into()).into_owned()
    }

    fn body_rate(&self) -> String {
        match self.config.server.body_rate_min {
            0 => OFF.to_owned(),
            rate => format!("at least {rate} bytes a second"),
        }
    }

    /// The file that settings were read from, if there was one.
    fn settings(&self) -> Option<String> {
        self.config.file.as_ref().map(|path| path.display().to_string())
    }

    /// All but those of a stop and of the whole server, by their names: `header 10s` for `HEADER_TIMEOUT`.
    fn timeouts(&self) -> String {
        let named = |setting: &Setting<Settings>| {
            let of =
                setting.row.flag().strip_suffix("-timeout").filter(|of| !["shutdown", "live"].contains(of))?.to_owned();
            Some(format!("{of} {}", (setting.show)(&self.config.server)))
        };
        TABLE.iter().filter_map(named).collect::<Vec<_>>().join(", ")
    }

    fn shutdown(&self) -> String {
        let [delay, idle, timeout] =
            ["SHUTDOWN_DELAY", "SHUTDOWN_IDLE", "SHUTDOWN_TIMEOUT"].map(|name| self.shown(name));
        let of_kubernetes = self.config.kubernetes_defaults.contains(&"SHUTDOWN_DELAY");
        let why = if of_kubernetes { " (the default in Kubernetes)" } else { "" };
        format!("delay {delay}{why}, idle connections {idle}, at most {timeout} in all")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};
    use crate::config::Secret;

    #[test]
    fn the_block_is_aligned_and_names_what_was_lowered() {
        let arguments = ["baiwan", "serve", "--request-timeout", "0", "--shutdown-delay", "500ms"];
        let Ok(Command::Serve(config, _)) = cli::parse(arguments.map(Into::into)) else {
            panic!("the settings are right")
        };
        let startup = Startup {
            addresses: vec!["0.0.0.0:8080".to_owned(), "[::1]:81".to_owned()],
            event_loop: "epoll".to_owned(),
            workers: 2,
            connections_max: 19_900,
            notes: vec!["lowered from 1000000: this process may open 20000 files".to_owned()],
            database: "sqlite:/var/lib/baiwan/baiwan.db".into(),
            ..with(&config, Some(([127, 0, 0, 1], 9090).into()))
        };
        let expected = format!(
            "baiwan {} is ready
  listening   http://0.0.0.0:8080
              http://localhost:8080
              http://[::1]:81
  admin       http://127.0.0.1:9090 (dashboard); token not set: this machine only (ADMIN_TOKEN)
  access log  standard output (ACCESS_LOG), a part of what is above 10000 lines a second (ACCESS_LOG_SAMPLE)
  event loop  epoll
  workers     2
  limits      19900 connections
              lowered from 1000000: this process may open 20000 files
              100/s from each client (RATE_LIMIT; off turns it off), but not from this machine
  timeouts    header 10s, keep-alive 75s, body 1h, request off, write 30s
  body rate   at least 500 bytes a second
  shutdown    delay 500ms, idle connections 5s, at most 25s in all
  database    sqlite:/var/lib/baiwan/baiwan.db
  api token   not set: anyone may write
  origins     none but its own
  ready       whether or not the database answers
  server      off
  stop        Ctrl-C or SIGTERM
",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(startup.block(), expected);
        let mut config = (*config).clone();
        config.server.fd_tables = FdTables::PerCore;
        let startup = Startup { config: &config, ..startup };
        assert_eq!(startup.block(), expected.replace("  workers", "  fd tables   per-core\n  workers"));
    }

    #[test]
    fn the_block_says_what_was_set() {
        let mut config = Config {
            api_token: Some(Secret::new("0123456789abcdef")),
            file: Some("/etc/baiwan.toml".into()),
            cors_origins: "https://a.org,http://b.org:81".parse().unwrap(),
            ready_requires: ReadyRequires::Store,
            server_header: Some(http::HeaderValue::from_static("ours")),
            database: "postgres://ada:secret@host/users".parse().unwrap(),
            ..Config::default()
        };
        config.server.body_rate_min = 0;
        config.server.rate_limit.quota = "60/min burst 5".parse().ok();
        config.server.rate_limit.scope.exempts_loopback = false;
        config.server.rate_limit.scope.exempt = "10.0.0.0/8,::1".parse().unwrap();
        config.server.rate_limit.mode = RateLimitMode::Report;
        let block = with(&config, None).block();
        let rows = "              20 connections in all
              TLS if the server offers it, with any certificate (sslmode=prefer)
  api token   demanded for writes
  origins     https://a.org,http://b.org:81
  ready       while the database answers
  server      ours
  settings    /etc/baiwan.toml
  stop";
        assert!(block.contains("  body rate   off\n"), "{block}");
        let limit = "60/min burst 5 from each client (RATE_LIMIT; off turns it off), but not from 10.0.0.0/8,::1; only reported";
        assert!(block.contains(limit), "{block}");
        assert!(block.contains(rows) && !block.contains("secret"), "{block}");
    }

    /// Of a server that listens nowhere.
    fn with<'a>(config: &'a Config, admin: Option<SocketAddr>) -> Startup<'a> {
        Startup {
            config,
            addresses: Vec::new(),
            admin,
            given: Given::default(),
            event_loop: String::new(),
            workers: 1,
            connections_max: 1,
            notes: Vec::new(),
            database: config.database.to_string(),
        }
    }

    #[test]
    fn the_start_says_where_the_access_log_goes() {
        let sampled = "a part of what is above 10000 lines a second (ACCESS_LOG_SAMPLE)";
        for (arguments, expected) in [
            (&[][..], format!("standard output (ACCESS_LOG), {sampled}")),
            (&["--access-log", "off"], "off".to_owned()),
            (&["--access-log", "/var/log/baiwan.log"], format!("/var/log/baiwan.log (ACCESS_LOG), {sampled}")),
            (&["--access-log", "./a", "--access-log-sample", "off"], "./a (ACCESS_LOG)".to_owned()),
        ] {
            let all = ["baiwan", "serve"].iter().chain(arguments).map(Into::into);
            let Ok(Command::Serve(config, _)) = cli::parse(all) else { panic!("{arguments:?} are right") };
            let block = with(&config, None).block();
            assert!(block.contains(&format!("\n  access log  {expected}\n")), "{block}");
        }
    }

    #[test]
    fn sockets_from_a_service_manager_are_said_beside_the_addresses() {
        let startup = Startup {
            config: &Config::default(),
            addresses: vec!["unix:/run/baiwan.sock".to_owned()],
            admin: None,
            given: Given { server: true, admin: true },
            event_loop: String::new(),
            workers: 1,
            connections_max: 1,
            notes: Vec::new(),
            database: String::new(),
        };
        let expected = "  listening   unix:/run/baiwan.sock
              sockets of the service manager (LISTEN_FDS), so HOST, PORT and BIND are not used
              the admin side's socket, too, so ADMIN_HOST and ADMIN_PORT are not used
  admin ";
        assert!(startup.block().contains(expected), "{}", startup.block());
    }

    #[test]
    fn the_admin_side_is_named_with_who_may_see_it() {
        let loopback = Some(([127, 0, 0, 1], 9090).into());
        for (admin, token, expected) in [
            (None, true, "off"),
            (loopback, false, "http://127.0.0.1:9090 (dashboard); token not set: this machine only (ADMIN_TOKEN)"),
            (loopback, true, "http://127.0.0.1:9090 (dashboard); token demanded (ADMIN_TOKEN)"),
            (
                Some(([0; 4], 81).into()),
                false,
                "http://0.0.0.0:81; token not set: metrics and health only (ADMIN_TOKEN)",
            ),
        ] {
            let mut config = Config::default();
            config.admin.token = token.then(|| Secret::new("0123456789abcdef"));
            let block = with(&config, admin).block();
            assert!(block.contains(&format!("\n  admin       {expected}\n")), "{block}");
        }
    }

    #[test]
    fn a_delay_that_nobody_has_set_is_said_to_be_the_default_in_kubernetes() {
        let mut config = Config::default();
        assert!(
            with(&config, None).block().contains("  shutdown    delay off, idle connections 5s, at most 25s in all\n")
        );
        config.kubernetes_defaults = config.server.take_kubernetes_defaults(|_| false);
        let expected = "  shutdown    delay 5s (the default in Kubernetes), idle connections 5s, at most 25s in all\n";
        assert!(with(&config, None).block().contains(expected));
    }
}
