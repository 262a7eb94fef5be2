//! What a server is told: where to listen, how many threads, timeouts, sizes, behaviour.
//!
//! ```text
//!   variables ─► Server::from_env ─┐
//!   flags, file, variables ────────┼─► TABLE: set, show ─► Settings ─► engine, portable loop
//!   (the ready service)            │
//!   Builder's methods ─────────────┘
//! ```
//!
//! The invariant: what a setting is called, how it is written and what it may be stands in one row of [`TABLE`], so that a text
//! that is refused at one door is refused at every door, in the same words. What a program sets through `Builder` has a type instead. The default is in [`Settings::default`].

mod bind;
mod change;
mod event_loop;
mod limits;
mod overload;
mod setting;
mod table;
mod value;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baiwan_http1::Limits;
use baiwan_limits::{ConnectionAges, Proxies};

use crate::access_log::{AccessLog, AccessLogInForce};
use crate::app::BUFFERED_BODY_BYTES_UNTOLD;
use crate::cors::RefusalCors;
use crate::fd_tables::FdTables;
use crate::files::TURNED_AWAY_MAX;
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::per_client::{ClientCounts, PerClient};
use crate::rate_limit::RateLimit;
use crate::recorder::{Audience, Recorder};
use crate::status::{Bounds, LIVE_TIMEOUT, Status};

pub use self::bind::Binding;
pub(crate) use self::bind::{MODE_ALLOWED, SocketAccess, can_connect, parse_account, shown_mode};
pub use self::event_loop::EventLoop;
pub use self::limits::RateLimits;
pub(crate) use self::limits::nearest_ipv6_prefix;
pub use self::overload::Overload;
pub use self::setting::{HIDDEN, KUBERNETES, Kind, Row, Setting, quoted, store};
pub use self::table::TABLE;
pub use self::value::{
    CONNECTIONS_MAX, DURATION_MAX, OFF, WORKERS_MAX, is_off, parse_count, parse_host, parse_length, parse_port,
    parse_timeout, whole_number,
};
pub(crate) use self::value::{FIELDS_LIMITS, HEAD_LIMITS, TARGET_LIMITS, nearest};

/// How long an exchange, or a connection that has switched protocols, may go on when its connection has reached its age.
pub(crate) const AGE_GRACE: Duration = Duration::from_secs(30);

/// No stop takes longer, whatever it is allowed.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is received and discarded from a peer that was told that its connection ends, so that it can read why (RFC 9112,
/// section 9.6): the bounds of a close in stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Linger {
    /// The peer's end of stream is waited for this long.
    pub(crate) timeout: Duration,
    /// More bytes than this end the connection.
    pub(crate) bytes_max: u32,
}

impl Linger {
    /// For a peer that broke a rule, or that owes nothing; and for a body that nobody reads, after which the connection goes
    /// on.
    pub(crate) const SHORT: Self = Self { timeout: Duration::from_secs(1), bytes_max: 64 * 1024 };
    /// For a peer in the middle of a well-framed body. Many clients, and most proxies, read no answer before they have sent all.
    pub(crate) const UPLOAD: Self = Self { timeout: Duration::from_secs(5), bytes_max: 32 * 1024 * 1024 };
}

/// The settings of a server: the same for every core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub binding: Binding,
    /// Worker threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// Connections held at once. `None` is the default, which may be lowered, while a number must be had.
    pub max_connections: Option<u64>,
    /// Which peers say who the client is, and in which field.
    pub proxies: Proxies,
    /// Their connections begin with the PROXY protocol, which says who has connected to them.
    pub proxy_protocol: bool,
    /// From the first byte of a head to its last. `None`: no limit, here and below.
    pub header_timeout: Option<Duration>,
    /// Until the next request.
    pub keep_alive_timeout: Option<Duration>,
    /// Of one client at once; trusted proxies may have any number, here and below.
    pub max_connections_per_ip: Option<NonZeroU32>,
    /// Of one client a second, and as many at once.
    pub new_connections_per_ip: Option<NonZeroU32>,
    /// Since it was accepted; each connection's own is spread around this.
    pub max_connection_age: Option<Duration>,
    /// Of one connection.
    pub max_connection_requests: Option<NonZeroU32>,
    /// From the head of a request to the end of its body.
    pub body_timeout: Option<Duration>,
    /// Bytes a second that a body must bring while it is waited for; 0 is any.
    pub body_rate_min: u32,
    /// Bytes a second that a peer must take of an answer while bytes wait for it; 0 is any.
    pub write_rate_min: u32,
    /// From the head of a request to the head of its answer.
    pub request_timeout: Option<Duration>,
    /// Without any progress in sending.
    pub write_timeout: Option<Duration>,
    /// A peer that has ended its direction still gets its answer.
    pub half_close: bool,
    /// How long a connection may hold a stop without a request: idle, or with half a head.
    pub shutdown_idle: Duration,
    /// Between "not ready" and closing.
    pub shutdown_delay: Duration,
    /// For the whole stop, the delay included.
    pub shutdown_timeout: Duration,
    /// For tasks that handlers spawned, after the last connection. `None`: what is left of the stop's time.
    pub shutdown_grace: Option<Duration>,
    /// What moves the bytes.
    pub event_loop: EventLoop,
    /// What a core does that cannot keep up.
    pub overload: Overload,
    /// Whether each core has an fd table of its own.
    pub fd_tables: FdTables,
    /// The Unix socket through which the next process takes over the listening sockets. None: none can.
    pub takeover: Option<PathBuf>,
    /// A core that has neither turned nor come further for this long makes the server one that does not live.
    pub live_timeout: Duration,
    /// A poll of a handler that takes longer is counted, where there are metrics.
    pub slow_poll: Option<Duration>,
    /// How often each client may ask.
    pub rate_limit: RateLimits,
    /// Where a line for each exchange goes.
    pub access_log: AccessLog,
    /// The log in force, once the server starts.
    pub(crate) access_log_in_force: Option<Arc<AccessLogInForce>>,
    /// Requests have ids, which their answers say.
    pub(crate) request_ids: bool,
    /// The limit in force, once the server starts.
    pub(crate) rate_limit_in_force: Option<Arc<RateLimit>>,
    /// What one client may have of the connections, once the server starts, if that is limited.
    pub(crate) clients_in_force: Option<Arc<PerClient>>,
    /// How long connections may live, once the server starts, if not for ever.
    pub(crate) ages_in_force: Option<Arc<ConnectionAges>>,
    /// Of heads and bodies.
    pub(crate) http: Limits,
    /// Bytes of a request's body that axum's extractors collect, unless a route says otherwise. Streams are not concerned.
    pub(crate) buffered_body_bytes_max: usize,
    /// Connections beyond the maximum that a core tells so at the same time, and accepts at once; at least 1.
    pub(crate) turned_away_max: usize,
    /// `OPTIONS *` is the app's to answer.
    pub(crate) options_asterisk: bool,
    /// Connections over TCP send small answers at once.
    pub(crate) tcp_nodelay: bool,
    /// Which pages of other sites may read what the server answers by itself.
    pub(crate) refusal_cors: RefusalCors,
    /// Who is told of every exchange.
    pub(crate) observer: Option<Observer>,
    /// Where exchanges are counted.
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Metrics>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            binding: Binding::default(),
            workers: None,
            max_connections: None,
            proxies: Proxies::default(),
            proxy_protocol: false,
            header_timeout: Some(Duration::from_secs(10)),
            keep_alive_timeout: Some(Duration::from_secs(75)),
            max_connections_per_ip: None,
            new_connections_per_ip: None,
            max_connection_age: None,
            max_connection_requests: None,
            body_timeout: Some(Duration::from_hours(1)),
            body_rate_min: 500,
            write_rate_min: 500,
            request_timeout: None,
            write_timeout: Some(Duration::from_secs(30)),
            half_close: false,
            shutdown_idle: Duration::from_secs(5),
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(25),
            shutdown_grace: None,
            event_loop: EventLoop::Auto,
            overload: Overload::Off,
            fd_tables: FdTables::Shared,
            takeover: None,
            live_timeout: LIVE_TIMEOUT,
            slow_poll: Some(Duration::from_millis(100)),
            rate_limit: RateLimits::default(),
            access_log: AccessLog::off(),
            access_log_in_force: None,
            request_ids: false,
            rate_limit_in_force: None,
            clients_in_force: None,
            ages_in_force: None,
            http: Limits::default(),
            buffered_body_bytes_max: BUFFERED_BODY_BYTES_UNTOLD,
            turned_away_max: TURNED_AWAY_MAX,
            options_asterisk: false,
            tcp_nodelay: true,
            refusal_cors: RefusalCors::Off,
            observer: None,
            #[cfg(feature = "metrics")]
            metrics: None,
        }
    }
}

/// The CPUs that the process may use, within its quota; 1 if the system does not say.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Settings {
    /// The number of threads: as was set, else one for each CPU.
    pub fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(cpu_count)
    }

    /// How long a poll of a handler may take until it is counted, if anybody counts.
    pub(crate) fn slow_poll_counted(&self) -> Option<Duration> {
        #[cfg(feature = "metrics")]
        return self.slow_poll.filter(|_| self.metrics.is_some());
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// With what cores share that is made of settings.
    pub(crate) fn in_force(mut self) -> Self {
        self.rate_limit_in_force = self.rate_limit.in_force(None);
        self.clients_in_force = self.clients(None).map(Arc::new);
        self.ages_in_force = self.ages();
        self
    }

    fn clients(&self, before: Option<&PerClient>) -> Option<PerClient> {
        PerClient::new(self.max_connections_per_ip, self.new_connections_per_ip, &self.proxies, before)
    }

    fn ages(&self) -> Option<Arc<ConnectionAges>> {
        self.max_connection_age.map(|age| Arc::new(ConnectionAges::new(age)))
    }

    /// Who is told of the exchanges of the `core`-th core, if anybody wants to know.
    pub(crate) fn recorder(&self, status: &Arc<Status>, core: usize) -> Option<Arc<Recorder>> {
        let audience = Audience {
            app: self.observer.clone(),
            #[cfg(feature = "metrics")]
            metrics: self.metrics.as_ref().map(|metrics| metrics.core(status, core)),
            access_log: self.access_log_in_force.as_ref().and_then(|log| log.take(core)),
        };
        Recorder::of_core(audience, status, core)
    }

    /// What is counted of clients, and what bounds each turn of a core.
    pub(crate) fn bounds(&self) -> Bounds {
        let clients = ClientCounts::new(self.rate_limit.scope.ipv6_prefix);
        Bounds::new(clients, self.live_timeout, self.slow_poll_counted())
    }

    /// How long a connection that begins now may live.
    pub(crate) fn draw_age(&self) -> Option<Duration> {
        self.ages_in_force.as_deref().map(ConnectionAges::draw)
    }

    /// Takes the defaults that hold in Kubernetes, and names the settings whose defaults these are. What was given is left as it is, and
    /// a default that does not go with it is not taken.
    pub fn take_kubernetes_defaults(&mut self, is_given: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let mut taken = Vec::new();
        for Setting { row, set, .. } in TABLE {
            let Some(default) = row.kubernetes_default.filter(|_| !is_given(row.name)) else { continue };
            let mut settings = self.clone();
            let is_set = set(&mut settings, default).is_ok();
            if is_set && !settings.conflicts("").iter().any(|(names, _)| names.contains(&row.name)) {
                *self = settings;
                taken.push(row.name);
            }
        }
        taken
    }

    /// What no value shows alone: settings that do not go together, the one to change first, and what is allowed for it.
    /// `prefix` stands before the names of settings.
    pub fn conflicts(&self, prefix: &str) -> Vec<([&'static str; 2], String)> {
        let mut conflicts = self.binding.conflicts(prefix);
        if self.shutdown_delay >= self.shutdown_timeout {
            let timeout = value::shown_span(self.shutdown_timeout);
            let allowed = format!("less than {prefix}SHUTDOWN_TIMEOUT, which is {timeout}");
            conflicts.push((["SHUTDOWN_DELAY", "SHUTDOWN_TIMEOUT"], allowed));
        }
        if self.fd_tables == FdTables::PerCore && self.event_loop == EventLoop::Portable {
            let allowed = format!("shared, because {prefix}EVENT_LOOP is portable");
            conflicts.push((["FD_TABLES", "EVENT_LOOP"], allowed));
        }
        if let Err(allowed) = self.rate_limit.quota_in_force() {
            conflicts.push((
                ["RATE_LIMIT_BURST", "RATE_LIMIT"],
                allowed.replace("RATE_LIMIT", &format!("{prefix}RATE_LIMIT")),
            ));
        }
        if self.proxies.is_empty() && self.proxies.field().is_some() {
            let allowed = format!("off, unless {prefix}TRUSTED_PROXIES says whose field it is");
            conflicts.push((["CLIENT_IP_HEADER", "TRUSTED_PROXIES"], allowed));
        }
        if self.proxy_protocol && self.proxies.is_empty() {
            let allowed = format!("off, unless {prefix}TRUSTED_PROXIES says who begins with it");
            conflicts.push((["PROXY_PROTOCOL", "TRUSTED_PROXIES"], allowed));
        } else if self.proxy_protocol && self.event_loop.resolve() == EventLoop::Portable {
            let allowed = format!("off, because {prefix}EVENT_LOOP is portable, here or by default");
            conflicts.push((["PROXY_PROTOCOL", "EVENT_LOOP"], allowed));
        }
        conflicts
    }
}
