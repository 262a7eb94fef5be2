//! A server that serves, until it is told to stop and has.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use baiwan_driver::Address;
use tokio::sync::oneshot;

#[cfg(feature = "admin")]
use super::administration::{Administration, ports};
use super::beside::Beside;
use super::parting::Home;
use super::reloader::Reloader;
use super::shutdown::StopRequests;
use super::signals::{Listening, StopSignal};
use super::takeover::Inheritance;
use crate::Error;
use crate::access_log;
#[cfg(feature = "admin")]
use crate::admin::Told;
use crate::capacity::Capacity;
use crate::reload::InForce;
use crate::say::say;
use crate::settings::{EventLoop, Settings};
use crate::status::{Phase, Status};

/// How long a server whose time is over waits for cores that close no connection: one whose thread a handler blocks hears of nothing.
const CUT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A server that serves. Dropping it cuts every connection and ends its cores.
///
/// Dropping it also ends the threads beside the cores, and waits for them: no time worth mentioning, but up to a second each for an
/// admin side of which a check blocks its thread, and for whoever is just writing to a log that nobody reads. The
/// thread on which it is dropped does nothing else meanwhile. [`wait`](Self::wait) waits for the admin side without blocking its thread.
#[derive(Debug)]
pub struct Running {
    pub(super) status: Arc<Status>,
    /// Those of the start.
    pub(super) settings: Arc<Settings>,
    pub(super) in_force: Arc<InForce>,
    /// What the names of variables begin with.
    pub(super) prefix: String,
    pub(super) cores: Vec<oneshot::Receiver<io::Result<()>>>,
    pub(super) addresses: Vec<Address>,
    pub(super) event_loop: EventLoop,
    /// Where it must be waited for, if that matters.
    pub(super) home: Option<Home>,
    pub(super) capacity: Capacity,
    /// From which process it has taken over, if it has.
    pub(super) predecessor: Option<u32>,
    pub(super) stops: StopRequests,
    /// Ends with the server.
    pub(super) beside: Beside,
    /// None where there is no access log.
    pub(super) access_log: Option<access_log::Writer>,
    /// Held by the cores; nobody holds it where signals do not stop the server.
    pub(super) listening: Weak<Listening>,
}

impl Running {
    /// Where the server listens, in the order of the calls of [`Builder::bind`](crate::Builder::bind) and [`Builder::listener`](crate::Builder::listener), as text: with the
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

    /// The process from which this one has taken over the listening sockets ([`Builder::takeover`](crate::Builder::takeover)), if it has: its number,
    /// as that process knows it.
    pub fn predecessor(&self) -> Option<u32> {
        self.predecessor
    }

    /// Where the [admin side](crate::Builder::admin) listens, with the port that the system chose. None where there is none.
    #[cfg(feature = "admin")]
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.beside.admin.as_ref().map(Administration::address)
    }

    /// A handle that changes settings of this server while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            in_force: Arc::clone(&self.in_force),
            status: Arc::clone(&self.status),
            prefix: self.prefix.clone(),
            #[cfg(feature = "admin")]
            rows: self.beside.in_force.clone(),
        }
    }

    /// Starts the admin side, if there shall be one.
    #[cfg(feature = "admin")]
    pub(super) fn begin_admin(
        &mut self,
        admin: Option<crate::Admin>,
        health: crate::Health,
        inheritance: Option<&mut Inheritance>,
    ) -> Result<(), Error> {
        let (Some(admin), Some(metrics)) = (admin, &self.settings.metrics) else { return Ok(()) };
        let facts = self.facts();
        self.beside.in_force = facts.in_force.clone();
        let told = Told {
            health,
            metrics: metrics.clone(),
            ports: ports(&self.addresses),
            ipv6_prefix: self.settings.rate_limit.scope.ipv6_prefix,
            facts,
            awaits_start: inheritance.as_ref().is_some_and(|inheritance| inheritance.predecessor().is_some()),
        };
        self.beside.admin = Administration::begin(admin, told, self.settings.fd_tables, &self.addresses, inheritance)?;
        Ok(())
    }

    /// Notes from whom the server takes over, and starts whoever hands over to the next process. The admin side has what it wants by now.
    pub(super) fn begin_succession(&mut self, inheritance: Option<&mut Inheritance>) -> Result<(), Error> {
        let Some(inheritance) = inheritance else { return Ok(()) };
        // A core with a table of its own would keep a copy, and the port would go on to listen without anybody who accepts.
        drop(inheritance.take_admin());
        self.predecessor = inheritance.predecessor();
        self.beside.keeper = Some(inheritance.begin_keeper(self.settings.fd_tables, &self.status)?);
        Ok(())
    }

    /// Waits until the server is told to stop, and until it has.
    ///
    /// Signals are listened for since the start: one that came in between is obeyed now. Where nobody waits, a server that stops on
    /// signals goes through its stop all the same.
    ///
    /// # Errors
    /// When a core fails; the other cores are stopped then. And with [`FdTables::PerCore`](crate::FdTables::PerCore) on another
    /// runtime than the one on which the server was started.
    pub async fn wait(mut self) -> Result<(), Error> {
        self.home.map_or(Ok(()), Home::check)?;
        let ended = self.until_ended().await;
        if let Some(log) = &mut self.access_log {
            log.flush().await;
        }
        ended?;
        self.beside.end().await;
        // The first core follows the signals, too, so this may be the first poll since the last phase: whoever polls sees it before the end.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn until_ended(&mut self) -> Result<(), Error> {
        if let Some(listening) = self.listening.upgrade() {
            listening.handle_wait();
        }
        let mut cores: Vec<_> = std::mem::take(&mut self.cores).into_iter().map(Some).collect();
        tokio::select! {
            // Without a stop, cores end only by failing.
            outcome = all_ended(&mut cores) => return outcome,
            signal = self.stops.next() => self.handle_signal(signal),
            // Its stop has begun then.
            () = self.status.succession.until_handed_over() => tokio::task::yield_now().await,
        }
        tokio::select! {
            outcome = all_ended(&mut cores) => return outcome,
            () = self.stops.lead(&self.status, &self.settings) => {}
            // Cores that are able to end have ended by then.
            () = tokio::time::sleep(self.settings.shutdown_timeout) => {}
        }
        let mut connections = self.status.connections();
        loop {
            if let Ok(outcome) = tokio::time::timeout(CUT_PAUSE_MAX, all_ended(&mut cores)).await {
                return outcome;
            }
            // A million takes its time to close.
            let before = std::mem::replace(&mut connections, self.status.connections());
            if before == connections {
                break;
            }
        }
        let missing: Vec<_> = (0..cores.len()).filter(|core| cores[*core].is_some()).collect();
        say(
            || tracing::warn!(cores = ?missing, "the server is given up: these cores do not end, so handlers may block their threads"),
        );
        Ok(())
    }
}

impl Running {
    /// Has the process end in time by a signal that has come. The first core does so too, if its thread is free.
    fn handle_signal(&self, signal: Option<StopSignal>) {
        if let (Some(signal), Some(listening)) = (signal, self.listening.upgrade()) {
            listening.handle_signal(signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.status.advance(Phase::Stopping);
        if let Some(listening) = self.listening.upgrade() {
            listening.end();
        }
    }
}

/// Waits for all cores, which leave the list as they end, or for the first that failed.
async fn all_ended(cores: &mut [Option<oneshot::Receiver<io::Result<()>>>]) -> Result<(), Error> {
    std::future::poll_fn(|cx| {
        for (index, core) in cores.iter_mut().enumerate() {
            let Some(ended) = core else { continue };
            match Pin::new(ended).poll(cx) {
                Poll::Pending => continue,
                Poll::Ready(Ok(Ok(()))) => {}
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(Error::Core(error))),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Error::CorePanicked(index))),
            }
            *core = None;
        }
        if cores.iter().all(Option::is_none) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
