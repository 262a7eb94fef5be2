//! From a builder to running cores, and back to a stop.
//!
//! Each core is a thread with a Tokio runtime of its own, on which one future serves that core's share of the connections.
//! Everything that can fail at start fails in [`Builder::start`], before a connection is accepted.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use baiwan_driver::Address;
use tokio::runtime::LocalRuntime;
use tokio::sync::oneshot;

use crate::Error;
use crate::app::App;
use crate::capacity::{self, Capacity};
use crate::files::Files;
use crate::hyper::Portable;
use crate::listen::{self, BoundListener, Source};
use crate::memory::MemoryLimit;
use crate::say::say;
use crate::settings::{EventLoop, Settings, parse_timeout};
use crate::shutdown::{Stop, Stops};
use crate::status::{Health, Phase, Status};
use crate::tables::{FdTables, Home, Listeners, Place};

/// How long tasks and blocking calls that outlive the last connection may hold up the end of a core.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves an app on an address until SIGTERM or SIGINT, then stops in order.
///
/// `address` is `HOST:PORT`, `[IPV6]:PORT` (`[::]:8080` serves IPv4 too), `unix:/path` or `unix:@name` (an abstract socket, on
/// Linux). The app is an axum `Router` or any
/// other tower service that can be cloned; each core gets a clone. Defaults are those of [`Server::builder`].
///
/// On a signal the server accepts no more, answers every request that it has received, and returns after 25 seconds at the
/// latest; a second signal ends it at once.
///
/// # Errors
/// When the address cannot be listened on, or a core fails.
///
/// # Example
/// ```no_run
/// # async fn example(app: axum::Router) -> Result<(), baiwan::Error> {
/// baiwan::serve("0.0.0.0:8080", app).await
/// # }
/// ```
pub async fn serve<A>(address: impl fmt::Display, app: A) -> Result<(), Error>
where
    A: App + Send,
{
    Server::builder().bind(address).serve(app).await
}

/// The way to a [`Builder`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// A builder with the defaults: one core for each that the process may use, up to 1,000,000 connections as far as files
    /// and memory allow, stop on SIGTERM or SIGINT.
    pub fn builder() -> Builder {
        Builder {
            sources: Vec::new(),
            workers: None,
            max_connections: None,
            settings: Settings::default(),
            event_loop: EventLoop::Auto,
            fd_tables: FdTables::Shared,
            tables_by_environment: false,
            reuse_port: false,
            stop: Stop::Signals,
            health: Health(Arc::new(OnceLock::new())),
        }
    }

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

/// A server that was not started yet. Timeouts that are `None` are off.
#[must_use = "a builder does nothing until `serve`, `run` or `start`"]
#[derive(Debug)]
pub struct Builder {
    sources: Vec<Source>,
    workers: Option<usize>,
    max_connections: Option<u64>,
    settings: Settings,
    event_loop: EventLoop,
    fd_tables: FdTables,
    /// The environment asked for them, and not the program.
    tables_by_environment: bool,
    reuse_port: bool,
    stop: Stop,
    health: Health,
}

impl Builder {
    /// Listens on an address: `HOST:PORT`, `[IPV6]:PORT`, `unix:/path` or `unix:@name`. May be called several times. Port 0 is a
    /// free port; see [`Running::addresses`].
    ///
    /// At a path, a socket that nobody listens on any more is replaced, and nothing else. A name with `@` is one of an abstract
    /// socket (Linux): there is no file, and so no permissions; any process of the same network namespace may connect.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.sources.push(Source::Address(address.to_string()));
        self
    }

    /// Takes over a socket that listens already: a [`std::net::TcpListener`], a [`std::os::unix::net::UnixListener`], or one
    /// inherited from a supervisor. The cores share it.
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
        self.workers = Some(workers.max(1));
        self
    }

    /// The most connections to hold. One more is answered 503 and closed. What cannot be had is an error at start; the
    /// default, 1,000,000, is lowered to what files and memory allow.
    pub fn max_connections(mut self, connections: u64) -> Self {
        self.max_connections = Some(connections);
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

    /// How many bytes of a request's body axum's extractors (`Bytes`, `String`, `Json`, `Form`) may collect, where a route has
    /// no [`DefaultBodyLimit`](https://docs.rs/axum/latest/axum/extract/struct.DefaultBodyLimit.html) of its own. Default
    /// 1 MiB; then 413. A body that is read as a stream is not concerned.
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

    /// How long a peer may take no byte of an answer. Default 30 s; then the connection is reset. On Linux the
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
    /// protocol and is silent. Default 5 s.
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

    /// How long to go on serving as not ready, so that load balancers look away, before the stop begins. Default 0.
    pub fn shutdown_delay(mut self, delay: Duration) -> Self {
        self.settings.shutdown_delay = delay;
        self
    }

    /// How long a stop may take in all, the delay included. Default 25 s; what is open then is cut.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// How cores wait for their connections. Default [`EventLoop::Auto`].
    pub fn event_loop(mut self, event_loop: EventLoop) -> Self {
        self.event_loop = event_loop;
        self
    }

    /// Whether each core has an fd table of its own, and so the whole limit on open files. Default [`FdTables::Shared`]. Read
    /// what [`FdTables::PerCore`] forbids an app before you ask for it.
    pub fn fd_tables(mut self, fd_tables: FdTables) -> Self {
        (self.fd_tables, self.tables_by_environment) = (fd_tables, false);
        self
    }

    /// Stops the server when `stop` is ready, instead of on SIGTERM or SIGINT.
    pub fn shutdown(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Stop::When(Box::pin(stop));
        self
    }

    /// A handle on the state of the server that this builder will start.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves `app` until the server is told to stop and has done so.
    ///
    /// # Errors
    /// When it cannot start, or a core fails.
    pub async fn serve<A: App + Send>(self, app: A) -> Result<(), Error> {
        self.start(app)?.wait().await
    }

    /// As [`serve`](Self::serve), with an app for each core, made on its thread by `factory(core)`: for apps that are not
    /// `Send`, or that want a pool for each core.
    ///
    /// # Errors
    /// When it cannot start, or a core fails.
    pub async fn serve_with<A, F>(self, factory: F) -> Result<(), Error>
    where
        A: App,
        F: Fn(usize) -> A + Send + Sync + 'static,
    {
        self.start_with(factory)?.wait().await
    }

    /// As [`serve`](Self::serve), for a `main` that is not async: blocks until the server has stopped.
    ///
    /// # Errors
    /// When it cannot start, a core fails, or this is called within a Tokio runtime, which it would block.
    pub fn run<A: App + Send>(self, app: A) -> Result<(), Error> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::BlockingInRuntime);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
        runtime.block_on(self.serve(app))
    }

    /// Starts to serve, and returns at once: every address is bound and every core runs.
    ///
    /// # Errors
    /// When it cannot start. Nothing is left running then.
    pub fn start<A: App + Send>(self, app: A) -> Result<Running, Error> {
        if self.fd_tables == FdTables::PerCore && self.tables_by_environment {
            return Err(Error::FdTables(
                "for this app: its cores may share files; its author can make one for each (serve_with)",
            ));
        }
        let workers = self.worker_count();
        let makers = std::iter::repeat_n(app, workers).map(|app| move || app).collect();
        self.start_cores(makers)
    }

    /// As [`start`](Self::start), with an app for each core, made on its thread by `factory(core)`.
    ///
    /// # Errors
    /// When it cannot start. Nothing is left running then.
    pub fn start_with<A, F>(self, factory: F) -> Result<Running, Error>
    where
        A: App,
        F: Fn(usize) -> A + Send + Sync + 'static,
    {
        let factory = Arc::new(factory);
        let maker = |core| {
            let factory = Arc::clone(&factory);
            move || factory(core)
        };
        let makers = (0..self.worker_count()).map(maker).collect();
        self.start_cores(makers)
    }

    /// Decides how many connections there may be, and says it where that is trouble.
    fn capacity(&self, workers: usize) -> Result<Capacity, Error> {
        let files = Files::of_process(self.fd_tables, self.sources.len());
        let memory = MemoryLimit::read(Path::new("/"));
        let capacity = capacity::decide(self.max_connections, workers, files, memory.as_ref())?;
        for warning in &capacity.warnings {
            say(|| tracing::warn!("{warning}"));
        }
        Ok(capacity)
    }

    fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    }

    fn start_cores<A, M>(self, makers: Vec<M>) -> Result<Running, Error>
    where
        A: App,
        M: FnOnce() -> A + Send + 'static,
    {
        let workers = makers.len();
        let event_loop = self.event_loop.resolve();
        if event_loop == EventLoop::Epoll && !cfg!(target_os = "linux") {
            return Err(Error::EventLoop(event_loop.name()));
        }
        let home = match self.fd_tables {
            FdTables::Shared => None,
            FdTables::PerCore if event_loop == EventLoop::Portable => {
                return Err(Error::FdTables("with EVENT_LOOP=portable: use shared, or another event loop, on Linux"));
            }
            FdTables::PerCore => Some(Home::here()?),
        };
        let place = Arc::new(Place::take(self.fd_tables)?);
        let capacity = self.capacity(workers)?;
        let bound = listen::bind(self.sources, workers, self.reuse_port)?;
        let listeners = Listeners::send(bound.cores, self.fd_tables).map_err(Error::Start)?;
        // Held until every core has its own, so that those of a core that fails are closed with it.
        let _ways: Vec<_> = listeners.iter().filter_map(Listeners::way).collect();
        let status = Status::new(workers, capacity.max_connections, capacity.max_connections_per_core);
        let settings = Arc::new(Settings { turned_away_max: capacity.turned_away_max, ..self.settings });
        // From here on a failure must stop the cores that run already: dropping `running` does.
        let mut running = Running {
            status: Arc::clone(&status),
            settings: Arc::clone(&settings),
            cores: Vec::new(),
            addresses: bound.addresses,
            event_loop,
            home,
            capacity,
            stop: Some(self.stop),
        };
        let mut starts = Vec::new();
        for (index, (make, listeners)) in makers.into_iter().zip(listeners).enumerate() {
            let (start, gate) = Start::new(index);
            let (done, is_done) = oneshot::channel();
            let (settings, status, place) = (Arc::clone(&settings), Arc::clone(&status), Arc::clone(&place));
            let core = Core { index, event_loop, settings, status };
            let body = move || {
                let outcome = core.run(make, listeners, gate);
                // Whoever hears of the end may start the next server.
                drop(place);
                // Nobody listens any more if the server was dropped.
                let _ = done.send(outcome);
            };
            thread::Builder::new().name(format!("baiwan-core-{index}")).spawn(body).map_err(Error::Thread)?;
            running.cores.push(is_done);
            starts.push(start);
        }
        drop(place);
        start_all(&starts)?;
        status.advance(Phase::Serving);
        // The handle was made with this builder, which starts one server.
        let _ = self.health.0.set(status);
        Ok(running)
    }
}

/// Takes all cores through their start. Where one fails, the others find their gate closed, or are stopped.
fn start_all(starts: &[Start]) -> Result<(), Error> {
    // What a core must be able to wake is there when every runtime is: only then may tables part.
    starts.iter().try_for_each(Start::wait)?;
    for start in starts {
        // A core that has ended meanwhile says why below.
        let _ = start.go.send(());
    }
    starts.iter().try_for_each(Start::wait)
}

/// The start of a core, as the starting thread sees it.
struct Start {
    index: usize,
    reports: Receiver<Result<(), Error>>,
    go: SyncSender<()>,
}

/// The start of a core, as the core sees it: it reports twice, and passes the gate in between.
struct Gate {
    reports: SyncSender<Result<(), Error>>,
    go: Receiver<()>,
}

impl Start {
    fn new(index: usize) -> (Self, Gate) {
        let (report, reports) = sync_channel(2);
        let (go, gone) = sync_channel(1);
        (Self { index, reports, go }, Gate { reports: report, go: gone })
    }

    /// Waits for the core's next report.
    fn wait(&self) -> Result<(), Error> {
        self.reports.recv().unwrap_or(Err(Error::CorePanicked(self.index)))
    }
}

impl Gate {
    /// Says how far the core has come. Nobody hears it where another core has failed.
    fn report(&self, outcome: Result<(), Error>) {
        let _ = self.reports.send(outcome);
    }

    /// Waits until all cores have come so far; `false` if one has not.
    fn pass(&self) -> bool {
        self.report(Ok(()));
        self.go.recv().is_ok()
    }
}

/// What the thread of a core needs to know.
struct Core {
    index: usize,
    event_loop: EventLoop,
    settings: Arc<Settings>,
    status: Arc<Status>,
}

impl Core {
    fn run<A: App>(self, make: impl FnOnce() -> A, listeners: Listeners, gate: Gate) -> io::Result<()> {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                gate.report(Err(Error::Start(error)));
                return Ok(());
            }
        };
        if !gate.pass() {
            return Ok(());
        }
        // What was opened so far is open in every table; what is opened from here on, in this one.
        let listeners = match listeners.arrive() {
            Ok(listeners) => listeners,
            Err(error) => {
                gate.report(Err(error));
                return Ok(());
            }
        };
        let outcome = match self.event_loop {
            EventLoop::Portable => self.run_portable(&runtime, make, listeners, &gate),
            _ => self.run_engine(&runtime, make, listeners, &gate),
        };
        runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
        outcome
    }

    #[cfg(target_os = "linux")]
    fn run_engine<A: App>(
        self,
        runtime: &LocalRuntime,
        make: impl FnOnce() -> A,
        listeners: Vec<BoundListener>,
        gate: &Gate,
    ) -> io::Result<()> {
        use baiwan_driver::epoll::EpollDriver;

        use crate::engine::Engine;

        runtime.block_on(async {
            let app = make();
            let engine = EpollDriver::new()
                .and_then(|driver| Engine::new(driver, app, self.settings, self.status, self.index, listeners));
            match engine {
                Ok(engine) => {
                    gate.report(Ok(()));
                    engine.run().await
                }
                Err(error) => {
                    gate.report(Err(Error::Start(error)));
                    Ok(())
                }
            }
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn run_engine<A: App>(
        self,
        runtime: &LocalRuntime,
        make: impl FnOnce() -> A,
        listeners: Vec<BoundListener>,
        gate: &Gate,
    ) -> io::Result<()> {
        self.run_portable(runtime, make, listeners, gate)
    }

    fn run_portable<A: App>(
        self,
        runtime: &LocalRuntime,
        make: impl FnOnce() -> A,
        listeners: Vec<BoundListener>,
        gate: &Gate,
    ) -> io::Result<()> {
        runtime.block_on(async {
            let app = make();
            match Portable::new(app, self.settings, self.status, self.index, listeners) {
                Ok(portable) => {
                    gate.report(Ok(()));
                    portable.run().await
                }
                Err(error) => {
                    gate.report(Err(Error::Start(error)));
                    Ok(())
                }
            }
        })
    }
}

/// A server that serves. Dropping it cuts every connection and ends its cores.
#[derive(Debug)]
pub struct Running {
    status: Arc<Status>,
    settings: Arc<Settings>,
    cores: Vec<oneshot::Receiver<io::Result<()>>>,
    addresses: Vec<Address>,
    event_loop: EventLoop,
    /// Where it must be waited for, if that matters.
    home: Option<Home>,
    capacity: Capacity,
    stop: Option<Stop>,
}

impl Running {
    /// Where the server listens, in the order of the calls of [`Builder::bind`] and [`Builder::listener`], as text: with the
    /// ports that the system chose.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }

    /// The event loop that was chosen.
    pub fn event_loop(&self) -> EventLoop {
        self.event_loop
    }

    /// The number of cores.
    pub fn workers(&self) -> usize {
        self.cores.len()
    }

    /// The maximum of connections in force, and what was lowered and why.
    pub fn limits(&self) -> &Capacity {
        &self.capacity
    }

    /// Waits until the server is told to stop, and until it has.
    ///
    /// # Errors
    /// When signals cannot be listened for, or a core fails; the other cores are stopped then. And with
    /// [`FdTables::PerCore`] on another runtime than the one on which the server was started.
    pub async fn wait(mut self) -> Result<(), Error> {
        self.home.map_or(Ok(()), Home::check)?;
        let stop = self.stop.take().unwrap_or(Stop::Signals);
        let mut stops = Stops::listen(stop)?;
        let cores = std::mem::take(&mut self.cores);
        let ended = all_ended(cores);
        tokio::pin!(ended);
        tokio::select! {
            // Without a stop, cores end only by failing.
            outcome = &mut ended => return outcome,
            () = stops.next() => {}
        }
        self.advance(Phase::NotReady).await;
        let next = tokio::select! {
            outcome = &mut ended => return outcome,
            () = stops.next() => Phase::Stopping,
            () = tokio::time::sleep(self.settings.shutdown_delay) => Phase::Draining,
        };
        self.advance(next).await;
        loop {
            tokio::select! {
                outcome = &mut ended => return outcome,
                () = stops.next() => self.advance(Phase::Stopping).await,
            }
        }
    }

    /// Goes on to a phase, and is pending once, so that whoever polls sees it before the end (see [`Health::phase`]).
    async fn advance(&self, phase: Phase) {
        self.status.advance(phase);
        tokio::task::yield_now().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.status.advance(Phase::Stopping);
    }
}

/// Waits for all cores in order, or for the first that failed.
async fn all_ended(mut cores: Vec<oneshot::Receiver<io::Result<()>>>) -> Result<(), Error> {
    use std::task::Poll;

    let mut ended = vec![false; cores.len()];
    std::future::poll_fn(|cx| {
        for (index, core) in cores.iter_mut().enumerate() {
            if ended[index] {
                continue;
            }
            match std::pin::Pin::new(core).poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(Ok(()))) => ended[index] = true,
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(Error::Core(error))),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Error::CorePanicked(index))),
            }
        }
        match ended.iter().all(|ended| *ended) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

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
