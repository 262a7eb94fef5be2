//! The admin side: what an operator and a monitor ask, on a port, a thread, a runtime and connections of its own.
//!
//! ```text
//!   Admin (what the program says) ─► bind ─► AdminSide: a thread ─► connections ─► routes ─┬─ metrics, health: for all
//!                                                        └─ checks, every 5 s              └─ access ─► clients, log level, pages
//! ```
//!
//! It answers when every connection of the server is taken and when handlers block all cores, because nothing in it waits for a
//! core. It is *not* the server's own HTTP: hyper serves it.
//!
//! | file | part |
//! |---|---|
//! | `side` | the thread, from before the first core to after the last one |
//! | `connections` | which connections there are |
//! | `routes` | from a request to what answers it |
//! | `scrapes` | the texts of `/metrics`, which everybody may ask for |
//! | `access`, `secret` | who may see what |
//! | `health`, `checks` | `/health` and what is below; the app's own checks |
//! | `shown` | what a scrape shows of them |
//! | `clients`, `held` | `/clients`; who holds how many connections |
//! | `dashboard`, `moment` | the page at `/`, and what it shows: the server, once a second |
//! | `answer` | what all answers have in common |
//!
//! The invariant: nothing here is waited for by a core, and nothing here waits for one.

mod access;
mod answer;
mod checks;
mod clients;
mod connections;
mod dashboard;
mod health;
mod held;
mod moment;
mod routes;
mod scrapes;
mod secret;
mod shown;
mod side;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use baiwan_driver::{Address, BoundListener};

use self::access::Access;
use self::checks::Checks;
use self::clients::Clients;
use self::connections::CONNECTIONS_MAX;
use self::dashboard::Board;
use self::health::Condition;
use self::routes::{LogLevel, Site};
use self::scrapes::Scrapes;
use self::shown::Shown;
use crate::Error;
use crate::dashboard::Facts;
use crate::metrics::Metrics;
use crate::say::say;
use crate::status::Health;

pub(crate) use self::moment::wall_ms;
pub use self::secret::{AdminToken, Secret, TOKEN_FORM};
pub(crate) use self::side::AdminSide;

/// Files of an admin side that are not open before the server starts: its connections, and what its checks open.
pub const ADMIN_FILES: u64 = CONNECTIONS_MAX as u64 + 8;

/// The admin side of a server: metrics, health, and what an operator wants to know, on an address of its own.
///
/// It has a thread and connections of its own, so it answers when every connection of the server is taken, when handlers block all
/// cores, and until the last connection has ended in a stop.
///
/// | path | answer | for whom |
/// |---|---|---|
/// | `GET /metrics` | Prometheus's text format, or OpenMetrics for who accepts that | everybody |
/// | `GET /health` | each check by name; 503 when one fails | everybody |
/// | `GET /health/live` | 503 when one handler has held a core for [`live_timeout`](crate::Builder::live_timeout) | everybody |
/// | `GET /health/ready` | 503 before the start, in a stop, when full, and when a required check fails | everybody |
/// | `GET /health/startup` | 503 until the server has started | everybody |
/// | `GET /clients` | the twenty who hold most connections, ask most, and are refused most | the operator |
/// | `GET`, `PUT /log-level` | the level of the log, which the body of a PUT changes | the operator |
/// | `GET /` | the dashboard: a page with the last 15 minutes, live | the operator |
///
/// The operator is whoever brings the [token](Self::token). Without a token it is whoever asks on a loopback address, by a loopback name,
/// not from the page of another site, and not through a proxy that says so (`Forwarded`, `X-Forwarded-For`, `Via`); elsewhere the
/// operator's part is not there then. Metrics and health need no token: everybody who reaches the address can read them, and metrics show
/// the routes and how much they are used.
///
/// # Example
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// use axum::{Router, routing::get};
/// use baiwan::{Admin, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = Router::new().route("/", get(|| async { "hello" }));
/// let admin = Admin::bind("127.0.0.1:0").check("disk", || async { tokio::fs::metadata(".").await.map(drop) });
/// let running = Server::builder().bind("127.0.0.1:0").admin(admin).start(app)?;
///
/// let mut client = TcpStream::connect(running.admin_address().unwrap())?;
/// client.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 "));
/// # Ok(())
/// # }
/// ```
pub struct Admin {
    /// As it was given; words for a socket.
    address: String,
    /// The socket that was handed in, if one was.
    socket: Option<OwnedFd>,
    token: AdminToken,
    /// Somebody gave a token that cannot be one.
    has_wrong_token: bool,
    checks: Checks,
    log_level: Option<LogLevel>,
    /// What to change when the address is in use, where nobody has asked for it: then the server does without.
    optional: Option<&'static str>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, token, checks, .. } = self;
        f.debug_struct("Admin")
            .field("address", address)
            .field("token", token)
            .field("checks", checks)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// An admin side on an address, `HOST:PORT` or `[IPV6]:PORT`. Port 0 is a free port; see
    /// [`Running::admin_address`](crate::Running::admin_address). An address that cannot be listened on is an error at start.
    pub fn bind(address: impl fmt::Display) -> Self {
        Self {
            address: address.to_string(),
            socket: None,
            token: AdminToken::default(),
            has_wrong_token: false,
            checks: Checks::default(),
            log_level: None,
            optional: None,
        }
    }

    /// An admin side on a socket over TCP that listens already, such as one from a supervisor. Who is the operator depends on the
    /// address that it is bound to. A Unix socket is an error at start.
    ///
    /// # Example
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").admin(baiwan::Admin::listener(listener));
    /// let running = server.start(axum::Router::new())?;
    /// assert_eq!(running.admin_address(), Some(address));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listener(listener: impl Into<OwnedFd>) -> Self {
        Self { socket: Some(listener.into()), ..Self::bind("the given socket") }
    }

    /// Demands this token for everything but metrics and health, on loopback addresses, too: as `Authorization: Bearer TOKEN`, or as the
    /// password of any user, which is what browsers ask for. Choose one that cannot be guessed, such as `openssl rand -hex 32` makes.
    ///
    /// Anything but 16 to 512 characters of `A-Z a-z 0-9 - . _ ~ + /` and, at the end, `=` is [an error](Error::AdminToken) at start; so is
    /// the empty text that a variable which is not set often becomes.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let token = Secret::of_token(token);
        self.has_wrong_token = token.is_none();
        self.token.set(token);
        self
    }

    /// As [`token`](Self::token).
    #[doc(hidden)]
    #[must_use]
    pub fn secret(mut self, token: Secret) -> Self {
        self.token.set(Some(token));
        self.has_wrong_token = false;
        self
    }

    /// The token, to change it while the server runs.
    #[doc(hidden)]
    #[must_use]
    pub fn token_in_force(&self) -> AdminToken {
        self.token.clone()
    }

    /// Runs a check every 5 seconds, away from the requests, and shows under this name in `/health` whether it succeeded. It may take a
    /// second; one that takes longer, or panics, has failed. The log says when a check begins to fail, with the error, and when it succeeds
    /// again.
    ///
    /// Each run is on a thread on which blocking is allowed, within the admin side's own runtime: a pool or client whose tasks belong to
    /// the runtime of `main` works, connections of one core do not.
    #[must_use]
    pub fn check<F, C, E>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.checks.add(name.into(), false, check);
        self
    }

    /// As [`check`](Self::check); and while it has not succeeded, `/health/ready` of the admin side is 503.
    #[must_use]
    pub fn required_check<F, C, E>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.checks.add(name.into(), true, check);
        self
    }

    /// Lets the operator see and change the level of the log: what `get` says, and what `set` makes of the body of a `PUT`. The error of
    /// `set` says what is allowed, such as `error, warn, info, debug or trace`. Both are called on the thread that answers probes, so they must
    /// not block it.
    #[must_use]
    pub fn log_level(
        mut self,
        get: impl Fn() -> String + Send + 'static,
        set: impl Fn(&str) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.log_level = Some(LogLevel { get: Box::new(get), set: Box::new(set) });
        self
    }

    /// An address that is in use is a warning that names this setting, and no error.
    #[doc(hidden)]
    #[must_use]
    pub fn optional(mut self, setting: &'static str) -> Self {
        self.optional = Some(setting);
        self
    }

    /// Listens on the address, on the socket that was there `before` if it is one of that address; nothing is accepted yet. None if the
    /// address is in use and nobody has asked for it. `taken_by` says which address of the server itself takes one from it.
    pub(crate) fn listen(
        mut self,
        before: Option<TcpListener>,
        taken_by: impl Fn(&Address) -> Option<Address>,
    ) -> Result<Option<Listening>, Error> {
        if self.has_wrong_token {
            return Err(Error::AdminToken { allowed: TOKEN_FORM });
        }
        if let Some(socket) = self.socket.take() {
            return self.listen_on(socket).map(Some);
        }
        let failed = |source| Error::Admin { address: self.address.clone(), source };
        let address = self.tcp_address()?;
        let before = before.filter(|before| before.local_addr().is_ok_and(|found| is_at(found, address)));
        let bound = before.map_or_else(|| TcpListener::bind(address), Ok).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => taken_by(&Address::Tcp(address)).map_or(error, |server| taken(&server)),
            _ => error,
        });
        match bound {
            Ok(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                Ok(Some(Listening { listener, address, admin: self }))
            }
            Err(source) => {
                let error = failed(source);
                let absence = self.optional.and_then(|setting| absence(&error, setting)).ok_or(error)?;
                say(|| tracing::warn!("{absence}"));
                Ok(None)
            }
        }
    }

    fn listen_on(self, socket: OwnedFd) -> Result<Listening, Error> {
        let bound = BoundListener::from_fd(socket).and_then(|bound| match *bound.address() {
            Address::Tcp(address) => Ok((bound, address)),
            _ => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is a Unix socket, and the admin side needs one over TCP",
            )),
        });
        match bound {
            Ok((bound, address)) => Ok(Listening { listener: bound.into_fd().into(), address, admin: self }),
            Err(source) => Err(Error::Admin { address: self.address, source }),
        }
    }

    fn tcp_address(&self) -> Result<SocketAddr, Error> {
        match self.address.parse() {
            Ok(Address::Tcp(address)) => Ok(address),
            _ => Err(Error::AdminAddress { address: self.address.clone() }),
        }
    }

    /// Whether it could listen beside the server; it listens for a moment. If not, and if nobody has asked for it, that is a sentence.
    /// `taken_by` is as for [`listen`](Self::listen).
    pub(crate) fn rehearse(mut self, taken_by: impl Fn(&Address) -> Option<Address>) -> Result<Option<String>, Error> {
        let setting = self.optional.take();
        if self.socket.is_some() {
            return self.listen(None, taken_by).map(|_| None);
        }
        let address = Address::Tcp(self.tcp_address()?);
        let outcome = match taken_by(&address) {
            Some(server) => Err(Error::Admin { address: self.address, source: taken(&server) }),
            None => self.listen(None, taken_by).map(drop),
        };
        let Err(error) = outcome else { return Ok(None) };
        setting.and_then(|setting| absence(&error, setting)).map(Some).ok_or(error)
    }
}

/// Whether a socket at `found` is one that `wanted` asks for; port 0 is any.
fn is_at(found: SocketAddr, wanted: SocketAddr) -> bool {
    found.ip() == wanted.ip() && (wanted.port() == 0 || found.port() == wanted.port())
}

/// The server itself is who listens there.
fn taken(server: &Address) -> io::Error {
    let said = format!("the server itself listens there, on {server}; choose another port for one of the two");
    io::Error::new(ErrorKind::AddrInUse, said)
}

/// What is said of an admin side that nobody has asked for, and that is not there because its address is in use. None if it was not that.
fn absence(error: &Error, setting: &str) -> Option<String> {
    let is_in_use = matches!(error, Error::Admin { source, .. } if source.kind() == ErrorKind::AddrInUse);
    is_in_use.then(|| format!("there is no admin side: {error}; {setting} says where it shall be, or that it is off"))
}

/// An admin side whose address is bound.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    address: SocketAddr,
    admin: Admin,
}

/// What an admin side tells of.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    /// Where the server listens.
    pub(crate) ports: BTreeSet<u16>,
    /// Bits of an IPv6 address that are one client.
    pub(crate) ipv6_prefix: u8,
    /// What the dashboard shows that stays as it is.
    pub(crate) facts: Facts,
    /// Nothing is accepted before the server serves: until then, another process answers at the same socket.
    pub(crate) awaits_start: bool,
}

impl Listening {
    /// Starts the thread. The listener comes back: it is to be given to the side when every core is where it belongs.
    pub(crate) fn start(self, told: Told) -> Result<(AdminSide, TcpListener), Error> {
        let Self { listener, address, admin } = self;
        let Admin { token, checks, log_level, .. } = admin;
        let Told { health, metrics, ports, ipv6_prefix, facts, awaits_start } = told;
        let verdicts = checks.verdicts();
        metrics.add_part(Shown { health: health.clone(), checks: verdicts.clone() });
        let make = move || Site {
            access: Access { token, bound: address },
            condition: Condition::new(health, verdicts),
            scrapes: Scrapes::new(metrics.clone()),
            metrics,
            clients: Clients::new(ports, ipv6_prefix),
            board: Board::new(facts),
            log_level,
        };
        Ok((AdminSide::start(address, checks, make, awaits_start)?, listener))
    }
}
