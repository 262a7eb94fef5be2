//! What a program says of a server before it starts.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::listen::Source;
use super::shutdown::Stop;
use crate::access_log::AccessLog;
use crate::cors::RefusalCors;
use crate::fd_tables::FdTables;
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::observe::{Exchange, Observer};
use crate::settings::{
    EventLoop, FIELDS_LIMITS, HEAD_LIMITS, Overload, Settings, SocketAccess, TARGET_LIMITS, nearest,
};
use crate::status::Health;

/// A server that was not started yet. Timeouts that are `None` are off.
#[must_use = "a builder does nothing until `serve`, `run` or `start`"]
#[derive(Debug)]
pub struct Builder {
    pub(super) sources: Vec<Source>,
    pub(super) settings: Settings,
    /// The environment asked for them, and not the program.
    pub(super) tables_by_environment: bool,
    /// What the names of variables begin with.
    pub(super) prefix: String,
    pub(super) reuse_port: bool,
    /// Who may connect to Unix sockets.
    pub(super) access: SocketAccess,
    pub(super) stop: Stop,
    pub(super) health: Health,
    #[cfg(feature = "admin")]
    pub(super) admin: Option<crate::Admin>,
}

impl Builder {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            sources: Vec::new(),
            settings,
            prefix: String::new(),
            tables_by_environment: false,
            reuse_port: false,
            access: SocketAccess::default(),
            stop: Stop::Signals,
            health: Health(Arc::new(OnceLock::new())),
            #[cfg(feature = "admin")]
            admin: None,
        }
    }

    /// Listens on an address: `HOST:PORT`, `[IPV6]:PORT`, `unix:/path` or `unix:@name`. May be called several times. Port 0 is a
    /// free port; see [`Running::addresses`](crate::Running::addresses).
    ///
    /// `[::]:PORT` serves both IP versions, or IPv6 alone where `0.0.0.0:PORT` is given too.
    ///
    /// At a path, a socket that nobody listens on any more is replaced, and nothing else; [`bind_mode`](Self::bind_mode) says who may
    /// connect. The file goes when a stop ends connections, unless another process has replaced it. A name with `@` is one of an abstract
    /// socket (Linux): there is no file, and so no permissions; any process of the same network namespace may connect.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.sources.push(Source::Address(address.to_string()));
        self
    }

    /// Takes over a socket that listens already: a [`std::net::TcpListener`], a [`std::os::unix::net::UnixListener`], or one
    /// from a service manager ([`activated_sockets`](crate::activated_sockets)). The file of a Unix socket stays at the end. For a listener of Tokio's, pass `listener.into_std()?`. The cores share it: each connection wakes all
    /// that sleep, and the first to accept has it. That is the price of losing no connection that waits when this server stops and the
    /// next takes over; with many cores it shows, and an address to [`bind`](Self::bind) costs less.
    ///
    /// The socket is changed for everybody who shares it: it becomes non-blocking, and over TCP it gets keep-alive and `TCP_NODELAY`,
    /// which the connections inherit.
    pub fn listener(mut self, listener: impl Into<OwnedFd>) -> Self {
        self.sources.push(Source::Socket(listener.into()));
        self
    }

    /// Lets other processes that ask for it too listen on the same TCP ports; the kernel spreads connections over all.
    /// Without it, a port that is taken is an error.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// The number of cores to serve on, at least 1. Default: those that the process may use, within its CPU quota.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = Some(workers.max(1));
        self
    }

    /// The most connections to hold, at least 1. One more is answered 503 and closed. What cannot be had is an error at start; the
    /// default, 1,000,000, is lowered to what files and memory allow.
    pub fn max_connections(mut self, connections: u64) -> Self {
        self.settings.max_connections = Some(connections);
        self
    }

    /// How many bytes a request's head may have, from its first line to the empty line, both included. Default 16 KiB; then
    /// 431. At least 256 and at most 64 KiB: any other number counts as the nearer of the two.
    ///
    /// A connection holds up to this number of bytes, or 16 KiB if that is more: while its head is not complete, for the time of
    /// [`header_timeout`](Self::header_timeout), and while requests wait behind one that is being answered. The
    /// [maximum of connections](Self::max_connections) does not count them: it leaves room for connections that are idle. With
    /// [`EventLoop::Portable`], hyper holds up to some 400 KiB, whatever the limit.
    ///
    /// # Example
    /// ```
    /// let app = axum::Router::new();
    /// // For clients that send a long token with each request.
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").head_limit(32 * 1024).fields_limit(200);
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn head_limit(mut self, bytes: usize) -> Self {
        self.settings.http.head_bytes_max = nearest(bytes, &HEAD_LIMITS);
        self
    }

    /// How many bytes a request's target may have, its query included. Default 8 KiB; then 414. At least 1; its head has a
    /// [limit](Self::head_limit) too.
    pub fn target_limit(mut self, bytes: usize) -> Self {
        self.settings.http.target_bytes_max = nearest(bytes, &TARGET_LIMITS);
        self
    }

    /// How many field lines a request's head may have, and the trailer section of its body. Default 100; then 431. At least 1
    /// and at most 255: any other number counts as the nearer of the two.
    pub fn fields_limit(mut self, fields: usize) -> Self {
        self.settings.http.fields_max = nearest(fields, &FIELDS_LIMITS);
        self
    }

    /// How long a request's head may take, from its first byte. Default 10 s; then 408.
    pub fn header_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.header_timeout = timeout;
        self
    }

    /// How long a connection may wait for its next request. Default 75 s.
    pub fn keep_alive_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.keep_alive_timeout = timeout;
        self
    }

    /// How long a request's body may take in all, from the end of its head; it ends while a handler waits for it. Default 1 h;
    /// then 408.
    pub fn body_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.body_timeout = timeout;
        self
    }

    /// How many bytes a second a request's body must bring while a handler waits for it, on average. A peer begins with 5
    /// seconds of patience and never has more than 30. Default 500; 0 is any; then 408.
    pub fn body_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.settings.body_rate_min = bytes_per_second;
        self
    }

    /// How many bytes a second a peer must take of an answer while bytes wait for it, on average. A peer begins with 5 seconds of patience
    /// and never has more than 30; what counts is the room that it makes. Default 500; 0 is any; then the connection is reset
    /// ([`WriteTooSlow`](crate::CloseReason::WriteTooSlow)). Time in which the app has nothing to send does not count. Has no effect with
    /// [`EventLoop::Portable`], nor after another protocol has been switched to.
    ///
    /// # Example
    /// ```
    /// let app = axum::Router::new();
    /// // Sensors behind slow radio links fetch their firmware.
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").write_min_rate(50);
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn write_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.settings.write_rate_min = bytes_per_second;
        self
    }

    /// How many bytes of a request's body axum's extractors (`Bytes`, `String`, `Json`, `Form`) may collect, where a route has
    /// no [`DefaultBodyLimit`](https://docs.rs/axum/latest/axum/extract/struct.DefaultBodyLimit.html) of its own. Default
    /// 2,097,152, which is axum's own; then 413. A body that is read as a stream is not concerned.
    pub fn buffered_body_limit(mut self, bytes: usize) -> Self {
        self.settings.buffered_body_bytes_max = bytes;
        self
    }

    /// How many bytes any request's body may have, streams included. Default unlimited; then 413, at once if its
    /// `Content-Length` says so. Has no effect with [`EventLoop::Portable`].
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.settings.http.body_bytes_max = bytes;
        self
    }

    /// How long a handler may take until its response head. Default off; then 503 with `Retry-After`.
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// How long a peer may take no byte of an answer. Default 30 s; then the connection is reset. On Linux a peer that has not taken
    /// 512 KiB yet must have made room for more by then, so that what its system acknowledges without it counts for nothing; and the
    /// kernel gives up a TCP peer after 12 minutes, whatever is set here.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.write_timeout = timeout;
        self
    }

    /// Whether a peer that has ended its direction while its request is being handled still gets the answer. Default no:
    /// it counts as gone and the handler is dropped, as with hyper.
    ///
    /// An answer of known length is sent as a whole. One of unknown length is sent while it goes on, and ends when nothing of it
    /// has come for a second; a stream of events (`text/event-stream`) ends at once.
    pub fn half_close(mut self, on: bool) -> Self {
        self.settings.half_close = on;
        self
    }

    /// How long a connection without a request may hold a stop: one that is idle, has sent half a head, or has switched to another
    /// protocol and is silent after it was told to end ([`Ending`](crate::Ending)). Default 5 s.
    pub fn shutdown_idle(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_idle = timeout;
        self
    }

    /// Whether the app answers `OPTIONS *`, which asks about the server as a whole (RFC 9110, section 9.3.7). Default no: the
    /// server answers it with 204 by itself, because a router has no route for it.
    ///
    /// # Example
    /// ```
    /// use axum::http::{Method, StatusCode, Uri};
    ///
    /// let app = axum::Router::new().fallback(async |method: Method, target: Uri| match target == "*" {
    ///     true => (StatusCode::OK, [("allow", "GET, HEAD, OPTIONS")]),
    ///     false => (StatusCode::NOT_FOUND, [("allow", "")]),
    /// });
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").options_asterisk(true);
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn options_asterisk(mut self, on: bool) -> Self {
        self.settings.options_asterisk = on;
        self
    }

    /// How long to go on serving as not ready, so that load balancers look away, before the stop begins. Default 0. One that is
    /// not less than [`shutdown_timeout`](Self::shutdown_timeout) is an error at start.
    pub fn shutdown_delay(mut self, delay: Duration) -> Self {
        self.settings.shutdown_delay = delay;
        self
    }

    /// How long a stop may take in all, the delay and the grace included. Default 25 s; what is open then is cut.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// How long tasks that handlers have spawned (`tokio::spawn`, `spawn_local`, `spawn_blocking`) may go on after the last connection has
    /// ended, within the [shutdown timeout](Self::shutdown_timeout). Default `None`: as long as that allows.
    ///
    /// The stop goes on as soon as no such task is alive on any core. All cores turn until then, so a task may use a connection that
    /// lives on another core. The app is dropped before, and with it what only the app holds, such as a pool or a client; what the
    /// program holds too may have tasks on the cores that end no earlier than the grace. So may what a factory
    /// ([`serve_with`](Self::serve_with)) leaves behind, what a static holds, and a task that is a loop without an end: with one of these,
    /// every stop lasts as long as the grace. The log says after a second how many tasks and blocking calls are waited for.
    ///
    /// A task that is alive at the end is dropped at its next `await`; a blocking call goes on for as long as the process does. The log
    /// says how many there were. The thread of a blocking call stays for a tenth of a second after it, and counts until then.
    pub fn shutdown_grace(mut self, grace: Option<Duration>) -> Self {
        self.settings.shutdown_grace = grace;
        self
    }

    /// Has a closure told of every exchange when it ends, whether it was answered, refused, timed out, failed or was cut:
    /// for metrics and access logs. Default: nobody is told, and nothing is kept for it.
    ///
    /// The closure is called on the threads of the cores, between requests: it must not block. If it panics, it is called for the
    /// next exchange all the same.
    ///
    /// With the feature `matched-path`, an app that is an axum `Router` tells the [route](Exchange::route) of each request by
    /// itself; in other apps, a `RouteLayer` does. Every request has one record, on every event loop. So has a connection
    /// beyond the maximum that is told so. Connections without a request have none, such as those that are dropped without a
    /// word, or are silent. What follows a 101 is not HTTP, and is not told of.
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// let bytes = Arc::new(AtomicU64::new(0));
    /// let total = Arc::clone(&bytes);
    /// let app = axum::Router::new().route("/users/{id}", axum::routing::get(|| async { "a user" }));
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").observe(move |exchange| {
    ///     total.fetch_add(exchange.bytes_out, Relaxed);
    ///     println!("{} {:?} {:?}", exchange.route, exchange.status, exchange.ended - exchange.begun);
    /// });
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn observe(mut self, observe: impl Fn(&Exchange<'_>) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Observer::new(observe));
        self
    }

    /// Has a line written for each exchange. Default [`AccessLog::off`]: nothing is written.
    ///
    /// A thread of its own writes them, from before the cores start until the last of them has ended. What is there at the server's end is
    /// written before [`Running::wait`](crate::Running::wait) returns, for which it waits a second at most.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").access_log(baiwan::AccessLog::file("/var/log/app/access.log"));
    /// # drop(server);
    /// ```
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.settings.access_log = log;
        self
    }

    /// Whether each request has an id ([`RequestId`](crate::RequestId)), which every answer says as `X-Request-Id`, those of the server's
    /// own too where the head of the request was read. Default no. An app that sets the field itself has its own there.
    ///
    /// A `traceparent` or an `X-Request-Id` of the request is believed if it comes from a [trusted proxy](Self::trusted_proxies), or where
    /// none is declared. With [`EventLoop::Portable`], what hyper answers by itself has no such field: heads that it cannot read.
    ///
    /// # Example
    /// ```
    /// let app = axum::Router::new().route("/", axum::routing::get(async |id: baiwan::RequestId| id.to_string()));
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").request_ids(true);
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn request_ids(mut self, on: bool) -> Self {
        self.settings.request_ids = on;
        self
    }

    /// Which pages of other sites may read what the server answers by itself (CORS): refusals, timeouts, failures of the app. Default
    /// [`RefusalCors::Off`]. An app that allows origins in a layer of its own says the same here, or a page learns of these answers only
    /// that its request failed.
    ///
    /// Such an answer allows the request's origin if that is listed. Where the head of the request could not be read, it names the
    /// origin that is listed, or `*` if there are several. With [`EventLoop::Portable`], what hyper answers by itself has no such fields: heads
    /// that it cannot read.
    ///
    /// # Example
    /// ```
    /// use axum::http::HeaderValue;
    /// use baiwan::RefusalCors;
    ///
    /// let origin = HeaderValue::from_static("https://app.example.org");
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").refusal_cors(RefusalCors::Origins(vec![origin]));
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn refusal_cors(mut self, cors: RefusalCors) -> Self {
        self.settings.refusal_cors = cors;
        self
    }

    /// A handle on the metrics of the server that this builder will start, which counts from its first call on. Without such a call nothing is counted.
    ///
    /// Serve what [`Metrics::render`] returns, or ask for its numbers; see [`Metrics`] for an example. Counting costs a request about 30
    /// nanoseconds. With the feature `matched-path`, requests are told apart by the route of an axum `Router`.
    #[cfg(feature = "metrics")]
    pub fn metrics(&mut self) -> Metrics {
        self.settings.metrics.get_or_insert_default().clone()
    }

    /// Whether connections over TCP send each answer at once, however small (`TCP_NODELAY`), instead of waiting for more to send
    /// with it. Default yes.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").tcp_nodelay(false);
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn tcp_nodelay(mut self, on: bool) -> Self {
        self.settings.tcp_nodelay = on;
        self
    }

    /// What a core does that gets more requests than it can answer. Default [`Overload::Off`]. Has no effect with
    /// [`EventLoop::Portable`].
    pub fn overload(mut self, overload: Overload) -> Self {
        self.settings.overload = overload;
        self
    }

    /// How cores wait for their connections. Default [`EventLoop::Auto`].
    pub fn event_loop(mut self, event_loop: EventLoop) -> Self {
        self.settings.event_loop = event_loop;
        self
    }

    /// Whether each core has an fd table of its own, and so the whole limit on open files. Default [`FdTables::Shared`]. Read
    /// what [`FdTables::PerCore`] forbids an app before you ask for it.
    pub fn fd_tables(mut self, fd_tables: FdTables) -> Self {
        (self.settings.fd_tables, self.tables_by_environment) = (fd_tables, false);
        self
    }

    /// Has the next process take over the listening sockets of this one without losing a connection, through a Unix socket at `path`
    /// (Linux). Default: none can. Every process, the first one too, is started with the same path.
    ///
    /// Where nobody listens at `path`, this is the first process: it binds its addresses, and listens at `path` too, for processes of its
    /// own user and of root. Else [`start`](Self::start) asks the process that listens there for its sockets, and starts with those of the
    /// addresses that this builder [binds](Self::bind), the admin side's included; port 0 is the port that it had. When all cores are up, the
    /// other process accepts no more, and this one begins to; the other one answers what it has accepted, as in any stop but without
    /// its [delay](Self::shutdown_delay), and ends. A start that fails leaves it serving as if nothing had happened.
    ///
    /// With another number of [`workers`](Self::workers) no socket is closed: cores have several, or share one until the next start without
    /// another process. Both processes write to the same log files meanwhile. [`Health::successor`](crate::Health::successor) says that a
    /// process has taken over, and which.
    ///
    /// # Example
    /// ```
    /// # let folder = std::env::temp_dir();
    /// # let path = folder.join(format!("baiwan-takeover-{}", std::process::id()));
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").takeover(&path);
    /// # if cfg!(all(target_os = "linux", not(baiwan_portable))) {
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # }
    /// # let _ = std::fs::remove_file(path);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn takeover(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.takeover = Some(path.into());
        self
    }

    /// How long a handler may block a core until [`Health::is_live`] says no, which has an orchestrator restart the server: at least 1 ms.
    /// Default 30 s.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").live_timeout(Duration::from_secs(60));
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn live_timeout(mut self, timeout: Duration) -> Self {
        self.settings.live_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// A poll of a handler that keeps its core for longer than this is counted by route, where there are
    /// [metrics](Self::metrics). Default 100 ms; `None` counts none. So are polls of its answer's body.
    #[cfg(feature = "metrics")]
    pub fn slow_poll(mut self, duration: Option<Duration>) -> Self {
        self.settings.slow_poll = duration;
        self
    }

    /// Stops the server when `stop` is ready, instead of on SIGTERM or SIGINT, which are then left as they are.
    ///
    /// Without this, both signals stop the server from when [`start`](Self::start) returns. Before that, and when no server of the process
    /// runs any more, they act as in any program: they end it. A process that is still there when the
    /// [shutdown timeout](Self::shutdown_timeout) is over, counted from the signal, is ended by it too, unless a server was started
    /// meanwhile; after a stop that took all of its time, a second later.
    ///
    /// None of this touches a signal that the program handled or ignored before its first server started. **A program that cleans up by
    /// itself when a signal comes must install its handler before it starts the server, or use this method**: a handler that is installed
    /// later is not seen, and the signal ends the process in the middle of the cleanup. `tokio::signal::unix::signal` installs it when it is
    /// called; `tokio::signal::ctrl_c` does so only when it is first awaited, so that a task which awaits it may be too late.
    ///
    /// In the first process of a container, where no signal of its own kills it, "ends" means that it exits with status 143 after SIGTERM and 130
    /// after SIGINT. Where `/proc` does not say what a signal does, as on other systems than Linux, signals only stop the server: Tokio's
    /// handlers stay, and nothing ends the process.
    pub fn shutdown(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Stop::When(Box::pin(stop));
        self
    }

    /// A handle on the state of the server that this builder will start.
    pub fn health(&self) -> Health {
        self.health.clone()
    }
}
