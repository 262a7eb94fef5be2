//! Where the store is: `DATABASE_URL`, read.
//!
//! Text in, a place or "what is allowed" out; nothing is opened here, and a relative path stays relative. Invariant: neither what
//! is shown of a place nor a refusal holds a password, or any other piece of the URL that might be one.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, TargetSessionAttrs};

use super::tls_mode::TlsMode;

const ALLOWED: &str = "sqlite:PATH, for example sqlite:baiwan.db or sqlite:/var/lib/baiwan/baiwan.db, or \
    postgres://USER:PASSWORD@HOST/DATABASE";
const IN_MEMORY: &str = "sqlite:PATH with a file; a database in memory would lose acknowledged writes";
const POSTGRES_ALLOWED: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with parameters such as \
    ?host=/run/postgresql or ?connect_timeout=3";
const PARAMETERS: [&str; 20] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];
const BAD_PORT: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, where PORT is a number from 1 to 65535, and an IPv6 address \
    stands in brackets: [::1]:5432";
const BAD_PATH: &str =
    "postgres://USER:PASSWORD@HOST:PORT/DATABASE with one DATABASE; a / within its name is written %2F";
const NO_VALUE: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE?NAME=VALUE&NAME=VALUE; a parameter has no =";
const NO_USER: &str = "postgres://USER@HOST/DATABASE; USER is missing";
const NO_HOST: &str = "postgres://USER@HOST/DATABASE, or postgres://USER@/DATABASE?host=/run/postgresql for a directory of \
    sockets; HOST is missing";
const NOT_ENCODED: &str =
    "postgres://USER:PASSWORD@HOST/DATABASE; within its parts, @ is written %40, / %2F, ? %3F and : %3A";
const UNEVEN: &str =
    "postgres://USER@HOST:PORT,HOST:PORT/DATABASE; there must be one PORT for each HOST, or one for all";
const UNBOUND: &str = "channel_binding=require together with sslmode=require, verify-ca or verify-full; there is nothing to bind to without TLS";
const READ_ONLY: &str = "postgres://USER@HOST/DATABASE of a server that takes writes: target_session_attrs=read-write";

/// The port where a PostgreSQL server listens if nobody says otherwise.
const PORT_DEFAULT: u16 = 5432;

/// A place for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file, which need not exist.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres(PostgresUrl),
}

impl FromStr for Location {
    type Err = Cow<'static, str>;

    /// The error is what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sqlite", path)) => Ok(Self::Sqlite(parse_path(path)?)),
            Some(("postgres" | "postgresql", _)) => text.parse().map(Self::Postgres),
            _ => Err(ALLOWED.into()),
        }
    }
}

/// As `DATABASE_URL` takes it, but for the password and the parameters of a server's.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Two slashes at the beginning are the URL's.
            Self::Sqlite(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(f, "sqlite://{}", path.display())
            }
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    let path = text.strip_prefix("//").unwrap_or(text);
    if path == ":memory:" {
        return Err(IN_MEMORY);
    }
    // With a line end in its name, which a file of settings may add unseen, it would be another, empty database.
    if path.is_empty() || path.contains('?') || path.contains(char::is_control) {
        return Err(ALLOWED);
    }
    Ok(Path::new(path).to_owned())
}

/// A database on a PostgreSQL server, and as whom to go there. Shown without password and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    config: Box<Config>,
    tls: TlsMode,
}

impl PostgresUrl {
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn tls_mode(&self) -> &TlsMode {
        &self.tls
    }

    /// Nothing that is sent there is encrypted, on purpose.
    pub(super) fn is_without_tls(&self) -> bool {
        self.tls == TlsMode::Disable
    }

    /// How connections are secured, in words; None where none leaves this machine.
    pub(crate) fn security(&self) -> Option<String> {
        #[cfg(unix)]
        if self.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
            && !self.config.get_hosts().is_empty()
        {
            return None;
        }
        Some(self.tls.to_string())
    }

    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// A server takes the user's name for that of the database if none is given.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }

    /// How many hosts are tried, one after the other.
    pub(super) fn hosts(&self) -> usize {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len())
    }
}

impl FromStr for PostgresUrl {
    type Err = Cow<'static, str>;

    /// The error is what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or(POSTGRES_ALLOWED)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // The parser takes everything before the first `@` for credentials, and what follows for a host: half a password would be
        // taken for one of the names, which are shown.
        if authority.matches('@').count() > 1 || path.contains('@') {
            return Err(NOT_ENCODED.into());
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (credentials, places) = authority.split_once('@').unwrap_or(("", authority));
        check_places(places)?;
        let database = path.trim_start_matches('/');
        if database.contains('/') {
            return Err(BAD_PATH.into());
        }
        let mut given = vec![
            ("sslmode", false),
            ("sslrootcert", false),
            ("user", !credentials.is_empty() && !credentials.starts_with(':')),
            ("password", credentials.contains(':')),
            ("dbname", !database.is_empty()),
        ];
        check_query(query, &mut given)?;
        let (tls, query) = TlsMode::take(query)?;
        let before = text.split_once('?').map_or(text, |(before, _)| before);
        let parsed = if query.is_empty() { before.to_owned() } else { format!("{before}?{query}") };
        let mut config = Config::from_str(&parsed).map_err(|error| wrong_value(&error))?;
        config.ssl_mode(tls.ssl_mode());
        check(&config, &tls)?;
        Ok(Self { config: Box::new(config), tls })
    }
}

fn check_places(places: &str) -> Result<(), &'static str> {
    for place in places.split(',') {
        let port = match place.strip_prefix('[') {
            Some(rest) => match rest.split_once(']').ok_or(BAD_PORT)?.1 {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or(BAD_PORT)?),
            },
            None => place.split_once(':').map(|(_, port)| port),
        };
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(BAD_PORT);
        }
    }
    Ok(())
}

/// `given` is what the parts before the parameters have said already. A name may be half a password: only those that are known
/// are repeated.
fn check_query(query: &str, given: &mut [(&'static str, bool)]) -> Result<(), Cow<'static, str>> {
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        if !parameter.contains('=') {
            return Err(NO_VALUE.into());
        }
        let (name, _) = form_urlencoded::parse(parameter.as_bytes()).next().unwrap_or_default();
        // What libpq knows of TLS is refused in words of its own.
        if !name.starts_with("ssl") && !PARAMETERS.contains(&&*name) {
            let known = PARAMETERS.join(", ");
            return Err(format!("{POSTGRES_ALLOWED}; one is none that is known here: {known}").into());
        }
        if let Some((name, was_given)) = given.iter_mut().find(|(given, _)| *given == name)
            && std::mem::replace(was_given, true)
        {
            return Err(format!("{POSTGRES_ALLOWED}; {name} is given twice").into());
        }
    }
    Ok(())
}

/// Which parameter the parser does not like: it says so in its words only.
fn wrong_value(error: &tokio_postgres::Error) -> Cow<'static, str> {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match PARAMETERS.iter().find(|name| reason == format!("invalid value for option `{name}`")) {
        Some(name) => format!("{POSTGRES_ALLOWED}; {name} has a value that it cannot have").into(),
        None => POSTGRES_ALLOWED.into(),
    }
}

fn check(config: &Config, tls: &TlsMode) -> Result<(), &'static str> {
    if config.get_user().is_none_or(str::is_empty) {
        return Err(NO_USER);
    }
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let is_unnamed = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    let count = hosts.len().max(addresses.len());
    if count == 0 || hosts.iter().any(is_unnamed) {
        return Err(NO_HOST);
    }
    if ports.contains(&0) {
        return Err(BAD_PORT);
    }
    if [hosts.len(), addresses.len()].iter().any(|&given| given != 0 && given != count)
        || (ports.len() > 1 && ports.len() != count)
    {
        return Err(UNEVEN);
    }
    if config.get_channel_binding() == ChannelBinding::Require && !matches!(tls, TlsMode::Require(_)) {
        return Err(UNBOUND);
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        return Err(READ_ONLY);
    }
    Ok(())
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, addresses, ports) = (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        write!(f, "postgres://{}@", encoded(self.user().as_bytes()))?;
        for index in 0..self.hosts() {
            let host = match hosts.get(index) {
                Some(Host::Tcp(name)) if name.contains(':') => format!("[{name}]"),
                Some(Host::Tcp(name)) => encoded(name.as_bytes()),
                #[cfg(unix)]
                Some(Host::Unix(directory)) => encoded(directory.as_os_str().as_encoded_bytes()),
                None => match addresses.get(index) {
                    Some(IpAddr::V6(address)) => format!("[{address}]"),
                    Some(IpAddr::V4(address)) => address.to_string(),
                    None => String::new(),
                },
            };
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT_DEFAULT);
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}:{port}")?;
        }
        write!(f, "/{}", encoded(self.database().as_bytes()))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encoded, but for what needs it nowhere in a URL (RFC 3986, section 2.3).
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        url.parse::<Location>().unwrap_or_else(|allowed| panic!("{url}: {allowed}")).to_string()
    }

    #[test]
    fn database_urls_name_a_file() {
        for (url, path, expected) in [
            ("sqlite:baiwan.db", "baiwan.db", "sqlite:baiwan.db"),
            ("sqlite://baiwan.db", "baiwan.db", "sqlite:baiwan.db"),
            ("sqlite:/data/a.db", "/data/a.db", "sqlite:/data/a.db"),
            ("sqlite:///data/a.db", "/data/a.db", "sqlite:/data/a.db"),
            ("sqlite:////data/a.db", "//data/a.db", "sqlite:////data/a.db"),
        ] {
            let location = Location::Sqlite(PathBuf::from(path));
            assert_eq!(url.parse().as_ref(), Ok(&location), "{url}");
            assert_eq!(shown(url), expected);
            assert_eq!(expected.parse(), Ok(location), "what is shown is a URL of the same place");
        }
        for wrong in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://x", "baiwan.db", ""] {
            assert!(wrong.parse::<Location>().is_err_and(|allowed| allowed.contains("sqlite:PATH")), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_shown_without_password_and_parameters() {
        for (url, expected) in [
            ("postgres://ada:secret@db.example.org/users", "postgres://ada@db.example.org:5432/users"),
            ("postgresql://ada:secret@db:5433", "postgres://ada@db:5433/ada"),
            ("postgres://ada@a:1,b/x?connect_timeout=3", "postgres://ada@a:1,b:5432/x"),
            ("postgres://ada@[::1]:6000/x", "postgres://ada@[::1]:6000/x"),
            ("postgres://a%40b:s%2Fecret@h/my%20users", "postgres://a%40b@h:5432/my%20users"),
            ("postgres://ada:secret@/x?host=/run/postgresql", "postgres://ada@%2Frun%2Fpostgresql:5432/x"),
            ("postgres://%2Frun%2Fpostgresql/x?user=ada&password=secret", "postgres://ada@%2Frun%2Fpostgresql:5432/x"),
            ("postgres:///x?user=ada&hostaddr=127.0.0.1&port=7", "postgres://ada@127.0.0.1:7/x"),
            ("postgres://ada@h/x?sslmode=prefer", "postgres://ada@h:5432/x"),
            ("postgres://ada@h/x?sslmode=disable&application_name=x", "postgres://ada@h:5432/x"),
            ("postgres://ada@h/x?channel_binding=require&sslmode=verify-full", "postgres://ada@h:5432/x"),
            ("postgres://ada@h/x?sslmode=verify-ca&sslrootcert=/secret.pem", "postgres://ada@h:5432/x"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
            let location: Location = url.parse().unwrap();
            let debugged = format!("{location:?}");
            assert!(debugged.contains(expected) && !debugged.contains("secret"), "{debugged}");
            let Location::Postgres(parsed) = location else { panic!("{url} is a server's") };
            let again: PostgresUrl = parsed.to_string().parse().unwrap();
            assert_eq!(again.to_string(), expected, "what is shown is a URL of the same place");
        }
    }

    #[test]
    fn what_a_server_is_not_reached_with_is_refused_and_never_repeated() {
        for (url, expected) in [
            ("postgres:secret", "postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
            ("postgres://ada@h:secret/x", "PORT is a number from 1 to 65535"),
            ("postgres://ada@h:/x", "PORT is a number"),
            ("postgres://ada@h:0/x", "PORT is a number"),
            ("postgres://ada@h/x?host=i&port=0&port=5432", "PORT is a number"),
            ("postgres://ada@a,b:65536/x", "PORT is a number"),
            ("postgres://ada@::1/x", "in brackets"),
            ("postgres://ada@[::1/x", "in brackets"),
            ("postgres://ada@[::1]secret/x", "in brackets"),
            ("postgres://ada@h/x?secret=1", "one is none that is known here: user, "),
            ("postgres://ada@h/x?secret", "has no ="),
            ("postgres://ada@h/x?connect_timeout=secret", "connect_timeout has a value that it cannot have"),
            ("postgres://ada@h/x?hostaddr=secret", "hostaddr has a value"),
            ("postgres://ada@h/x?target_session_attrs=secret", "target_session_attrs has a value"),
            ("postgres://ada@h/x/secret", "with one DATABASE"),
            ("postgres://ada@h/x?dbname=secret", "dbname is given twice"),
            ("postgres://ada@h?dbname=x&dbname=secret", "dbname is given twice"),
            ("postgres://ada@h/x?user=secret", "user is given twice"),
            ("postgres://ada:secret@h/x?password=secret", "password is given twice"),
            ("postgres://ada@h/x?sslmode=disable&sslrootcert=secret", "sslmode=require, verify-ca or verify-full"),
            ("postgres://ada@h/x?sslmode=require&sslmode=secret", "sslmode is given twice"),
            ("postgres://ada@h/x?sslcert=secret", "client certificates"),
            ("postgres://h/x", "USER is missing"),
            ("postgres://:secret@h/x", "USER is missing"),
            ("postgres://ada:secret@/x", "HOST is missing"),
            ("postgres://ada:secret@:5433/x", "HOST is missing"),
            ("postgres://ada:sec@ret@h/x", "%40"),
            ("postgres://ada:sec/ret@h/x", "%40"),
            ("postgres://h/x?user=ada&password=sec@ret", "%40"),
            ("postgres://ada@h/x?port=5433", "one PORT for each HOST"),
            ("postgres://ada@a,b/x?hostaddr=127.0.0.1", "one PORT for each HOST"),
            ("postgres://ada:secret@h/x?sslmode=verify-ca", "sslrootcert=PATH of your own authority"),
            ("postgres://ada:secret@h/x?sslmode=allow", "MODE is disable, prefer, require"),
            ("postgres://ada:secret@h/x?channel_binding=require", "nothing to bind to"),
            ("postgres://ada:secret@h/x?target_session_attrs=read-only", "takes writes"),
        ] {
            let allowed = url.parse::<Location>().expect_err(url);
            assert!(allowed.contains(expected) && !allowed.contains("secret"), "{url}: {allowed}");
        }
    }
}
