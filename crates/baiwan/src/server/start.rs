//! Starts the cores: everything that can fail at start fails here.

use std::path::Path;
use std::sync::Arc;

use super::beside::Beside;
use super::check::check;
use super::core_thread::{CoreThread, Made};
use super::finish_line::FinishLine;
use super::listen::Source;
use super::parting::{Home, Listeners, Place};
use super::shutdown::{Stop, StopRequests, StopSignals};
use super::signals::Listening;
use super::start_line::{Start, start_all};
use super::takeover;
use super::{Builder, Running, listen, parting};
use crate::Error;
use crate::access_log;
use crate::app::App;
use crate::backlog;
use crate::call_scope::listen_to_rate_limits;
use crate::capacity::{self, Capacity};
use crate::fd_tables::FdTables;
use crate::files::{Files, Sides};
use crate::memory::MemoryLimit;
use crate::reload::InForce;
use crate::say::say;
use crate::settings::{EventLoop, Settings};
use crate::status::{Phase, Status};

impl Builder {
    /// Serves `app` until the server is told to stop and has done so.
    ///
    /// # Errors
    /// When it cannot start, or a core fails.
    pub async fn serve<A>(self, app: A) -> Result<(), Error>
    where
        A: App + Send, // An app that is not `Send` is served by `serve_with(|core| ..)`.
    {
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

    /// Starts to serve, and returns at once: every address is bound, every core runs, and signals are listened for. One that comes
    /// before [`Running::wait`] stops the server in order.
    ///
    /// # Errors
    /// When it cannot start. Nothing is left running then.
    pub fn start<A: App + Send>(self, app: A) -> Result<Running, Error> {
        if self.settings.fd_tables == FdTables::PerCore && self.tables_by_environment {
            return Err(Error::FdTables(
                "the cores of this app may share files; its author can make an app for each core (serve_with)",
            ));
        }
        let workers = self.settings.worker_count();
        let makers = std::iter::repeat_n(app, workers).map(|app| move || (app, None)).collect();
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
            move || -> Made<A> { (factory(core), Some(Box::new(move || factory(core)))) }
        };
        let makers = (0..self.settings.worker_count()).map(maker).collect();
        self.start_cores(makers)
    }

    /// Listening sockets that each core still opens.
    fn files_to_open(&self) -> usize {
        self.sources.iter().filter(|source| !source.is_bound()).count()
    }

    /// What is beside the cores and keeps files open.
    fn sides(&self) -> Sides {
        #[cfg(feature = "admin")]
        let admin_files = self.admin.as_ref().map_or(0, |_| crate::admin::ADMIN_FILES);
        #[cfg(not(feature = "admin"))]
        let admin_files = 0;
        let takeover_addresses = self.settings.takeover.as_ref().map(|_| self.sources.len() as u64);
        Sides { admin_files, takeover_addresses }
    }

    /// Decides how many connections there may be, where as many files will be open beside those that are open now.
    fn capacity(&self, workers: usize, files_to_come: u64) -> Result<Capacity, Error> {
        let root = Path::new("/");
        let files = Files::of_process(self.settings.fd_tables, self.files_to_open()).with(files_to_come);
        let files = files.with_sides(self.sides(), workers as u64);
        let memory = MemoryLimit::read(root);
        let wanted = self.settings.max_connections;
        let mut capacity = capacity::decide(&self.prefix, wanted, workers, files, memory.as_ref())?;
        // Of those alone is the length known that was asked for.
        if self.sources.iter().any(|source| matches!(source, Source::Address(_))) {
            capacity.notes.extend(backlog::note(root, capacity.max_connections));
        }
        Ok(capacity)
    }

    /// The capacity that is in force from here on; says it where that is trouble.
    fn capacity_in_force(&self, workers: usize) -> Result<Capacity, Error> {
        let capacity = self.capacity(workers, 0)?;
        for warning in &capacity.warnings {
            say(|| tracing::warn!("{warning}"));
        }
        Ok(capacity)
    }

    /// Refuses what [`start`](Self::start) would refuse here and now, in the same words, and starts nothing: for `check-config --here`.
    /// As many files as `files_to_come` will be open at the start beside those that are open now. Gives what would be in force.
    ///
    /// # Errors
    /// Each that the start would have: only the first of them, if it is about settings, and else all.
    #[doc(hidden)]
    pub fn rehearse(self, files_to_come: u64) -> Result<Capacity, Vec<Error>> {
        self.resolve_event_loop().and_then(|_| self.check()).map_err(|error| vec![error])?;
        let tables = parting::rehearse(self.settings.fd_tables);
        let capacity = self.capacity(self.settings.worker_count(), files_to_come);
        // The process that serves would hand over its sockets.
        let is_served = self.settings.takeover.as_deref().is_some_and(takeover::is_served);
        let listening = self.listen_options().and_then(|options| match is_served {
            true => Ok(()),
            false => listen::rehearse(&self.sources, options),
        });
        #[cfg(feature = "admin")]
        let admin = self.admin.filter(|_| !is_served).map_or(Ok(None), |admin| {
            let servers = listen::unbound(&self.sources);
            admin.rehearse(|address| listen::taken_by(address, &servers))
        });
        #[cfg(not(feature = "admin"))]
        let admin: Result<Option<String>, Error> = Ok(None);
        match (tables, capacity, listening, admin) {
            (Ok(()), Ok(mut capacity), Ok(()), Ok(absence)) => {
                capacity.notes.extend(absence);
                Ok(capacity)
            }
            (tables, capacity, listening, admin) => {
                Err([tables.err(), capacity.err(), listening.err(), admin.err()].into_iter().flatten().collect())
            }
        }
    }

    /// The event loop to use, if this system and the other settings have it.
    fn resolve_event_loop(&self) -> Result<EventLoop, Error> {
        let event_loop = self.settings.event_loop.resolve();
        if event_loop == EventLoop::Epoll && !cfg!(all(target_os = "linux", not(baiwan_portable))) {
            return Err(Error::EventLoop(event_loop.name()));
        }
        if self.settings.fd_tables == FdTables::PerCore && event_loop == EventLoop::Portable {
            return Err(Error::FdTables(
                "EVENT_LOOP=portable has one table; use shared, or another event loop, on Linux",
            ));
        }
        Ok(event_loop)
    }

    /// Refuses what a program has set and no other door would take, in the same words.
    fn check(&self) -> Result<(), Error> {
        check(&self.settings, &self.prefix)
    }

    fn start_cores<A, M>(self, makers: Vec<M>) -> Result<Running, Error>
    where
        A: App,
        M: FnOnce() -> Made<A> + Send + 'static,
    {
        let workers = makers.len();
        let event_loop = self.resolve_event_loop()?;
        let home = match self.settings.fd_tables {
            FdTables::Shared => None,
            FdTables::PerCore => Some(Home::here()?),
        };
        self.check()?;
        let place = Arc::new(Place::take(self.settings.fd_tables)?);
        let capacity = self.capacity_in_force(workers)?;
        let options = self.listen_options()?;
        let (bound, mut inheritance) =
            takeover::listen(self.settings.takeover.as_deref(), self.sources, workers, options)?;
        if !self.settings.tcp_nodelay {
            bound.set_tcp_nodelay(false).map_err(Error::Start)?;
        }
        let listeners = Listeners::send(bound.cores, self.settings.fd_tables).map_err(Error::Start)?;
        // Held until every core has its own, so that those of a core that fails are closed with it.
        let _ways: Vec<_> = listeners.iter().filter_map(Listeners::way).collect();
        let status =
            Status::with(self.settings.bounds(), workers, capacity.max_connections, capacity.max_connections_per_core);
        status.socket_files.put(bound.files);
        let settings = Settings { turned_away_max: capacity.turned_away_max, ..self.settings };
        let (in_force, access_log) = begin_settings(settings, &status, workers, event_loop)?;
        let settings = in_force.settings();
        let finish_line = FinishLine::new(Arc::clone(&status), Arc::clone(&settings));
        let stops_on_signals = matches!(self.stop, Stop::Signals);
        let listening = stops_on_signals.then(|| Listening::begin(settings.shutdown_timeout)).transpose()?;
        // From here on a failure must stop the cores that run already: dropping `running` does.
        let mut running = Running {
            status: Arc::clone(&status),
            settings: Arc::clone(&settings),
            in_force: Arc::clone(&in_force),
            prefix: self.prefix,
            cores: Vec::new(),
            addresses: bound.addresses,
            event_loop,
            home,
            capacity,
            predecessor: None,
            stops: StopRequests::listen(self.stop)?,
            access_log,
            beside: Beside::begin(&settings, &status)?,
            listening: listening.as_ref().map(Arc::downgrade).unwrap_or_default(),
        };
        #[cfg(feature = "admin")]
        running.begin_admin(self.admin, self.health.clone(), inheritance.as_mut())?;
        running.begin_succession(inheritance.as_mut())?;
        let (is_watched, is_heir) = (running.beside.watches_cores(), running.predecessor.is_some());
        // Both hear of every signal from here on; until the server serves, one ends the process.
        let mut signals = listening.is_some().then(StopSignals::listen).transpose()?;
        // The handle was made with this builder, which starts one server. A core may answer before the last one runs.
        let _ = self.health.0.set(Arc::clone(&status));
        let mut starts = Vec::new();
        for (index, (make, listeners)) in makers.into_iter().zip(listeners).enumerate() {
            let (start, line) = Start::new(index);
            let (in_force, status, place) = (Arc::clone(&in_force), Arc::clone(&status), Arc::clone(&place));
            let finish = finish_line.finish(index);
            let (listening, signals) = (listening.clone(), signals.take());
            let core = CoreThread { index, event_loop, in_force, status, listening, signals, is_watched, is_heir };
            running.cores.push(core.spawn(make, listeners, line, finish, place)?);
            starts.push(start);
        }
        drop(place);
        start_all(&starts)?;
        running.beside.handle_parted()?;
        inheritance.map_or(Ok(()), |inheritance| inheritance.finish(&status))?;
        if let Some(listening) = listening {
            listening.serve();
        }
        status.advance(Phase::Serving);
        running.beside.handle_serving();
        Ok(running)
    }
}

/// Puts settings in force: what cores share of them is there, the access log is written, and metrics say what does not change.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "only metrics say which event loop it is"))]
fn begin_settings(
    settings: Settings,
    status: &Arc<Status>,
    workers: usize,
    event_loop: EventLoop,
) -> Result<(Arc<InForce>, Option<access_log::Writer>), Error> {
    let mut settings = settings.in_force();
    listen_to_rate_limits();
    let access_log = begin_access_log(&mut settings, status, workers)?;
    #[cfg(feature = "metrics")]
    begin_metrics(&settings, status, event_loop);
    Ok((InForce::new(Arc::new(settings)), access_log))
}

/// Starts the writer of the access log, if there is to be one. Its thread has the fd table of this one, whatever tables the cores have.
fn begin_access_log(
    settings: &mut Settings,
    status: &Status,
    workers: usize,
) -> Result<Option<access_log::Writer>, Error> {
    if settings.access_log.is_off() {
        return Ok(None);
    }
    let (writer, in_force) = access_log::Writer::start(&settings.access_log, workers).map_err(Error::Thread)?;
    // A status is that of one server.
    let _ = status.access_log.set(Arc::clone(&in_force.counts));
    settings.access_log_in_force = Some(in_force);
    Ok(Some(writer))
}

/// Has the metrics say what does not change while the server runs.
#[cfg(feature = "metrics")]
fn begin_metrics(settings: &Settings, status: &Arc<Status>, event_loop: EventLoop) {
    let Some(metrics) = &settings.metrics else { return };
    let facts = crate::metrics::Facts {
        event_loop: event_loop.name(),
        fd_tables: settings.fd_tables.name(),
        memory_limit_bytes: MemoryLimit::read(Path::new("/")).map(|limit| limit.bytes),
    };
    metrics.begin(status, facts);
    metrics.set_rate_limit(settings.rate_limit.per_second());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Server;

    #[test]
    fn what_no_other_door_would_take_is_refused_at_the_start_too() {
        let builder = || Server::builder().bind("127.0.0.1:0");
        let (delay, timeout) = (Duration::from_secs(30), Duration::from_secs(25));
        for (builder, expected) in [
            (builder().max_connections(0), "MAX_CONNECTIONS is \"0\"; allowed is a whole number from 1 to "),
            (
                builder().shutdown_delay(delay).shutdown_timeout(timeout),
                "SHUTDOWN_DELAY is \"30s\"; allowed is less than SHUTDOWN_TIMEOUT, which is 25s",
            ),
        ] {
            let error = builder.start(tower::service_fn(answer)).err().map(|error| error.to_string());
            assert!(error.as_deref().is_some_and(|error| error.starts_with(expected)), "{error:?}");
        }
    }

    #[cfg(feature = "axum")]
    #[test]
    fn what_is_bound_before_the_start_is_counted_among_the_open_files_alone() {
        use crate::server::Source;

        let early = Server::builder().bind_now(Source::Address("127.0.0.1:0".to_owned())).unwrap();
        assert_eq!(early.files_to_open(), 0);
        assert_eq!(early.bind("127.0.0.1:0").files_to_open(), 1);
    }

    async fn answer(_: http::Request<crate::Body>) -> Result<http::Response<crate::Body>, std::convert::Infallible> {
        Ok(http::Response::new(crate::Body::empty()))
    }
}
