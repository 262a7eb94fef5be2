//! The thread of a core: its runtime, its listeners, its app, and then the loop that serves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalRuntime;

use super::listen::BoundListener;
use super::parting::Listeners;
use super::start_line::StartLine;
use crate::Error;
use crate::app::App;
use crate::portable::Portable;
use crate::settings::{EventLoop, Settings};
use crate::status::Status;

/// How long tasks and blocking calls that outlive the last connection may hold up the end of a core.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread of a core needs to know.
pub(super) struct CoreThread {
    pub(super) index: usize,
    pub(super) event_loop: EventLoop,
    pub(super) settings: Arc<Settings>,
    pub(super) status: Arc<Status>,
}

impl CoreThread {
    /// Starts the core together with the others, and serves until it is stopped.
    pub(super) fn run<A: App>(
        self,
        make: impl FnOnce() -> A,
        listeners: Listeners,
        line: &StartLine,
    ) -> io::Result<()> {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                line.report(Err(Error::Start(error)));
                return Ok(());
            }
        };
        if !line.wait_for_all() {
            return Ok(());
        }
        // What was opened so far is open in every table; what is opened from here on, in this one.
        let listeners = match listeners.arrive() {
            Ok(listeners) => listeners,
            Err(error) => {
                line.report(Err(error));
                return Ok(());
            }
        };
        let outcome = match self.event_loop {
            EventLoop::Portable => self.run_portable(&runtime, make, listeners, line),
            _ => self.run_engine(&runtime, make, listeners, line),
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
        line: &StartLine,
    ) -> io::Result<()> {
        use baiwan_driver::epoll::EpollDriver;

        use crate::engine::Engine;

        runtime.block_on(async {
            let app = make();
            let engine = EpollDriver::new()
                .and_then(|driver| Engine::new(driver, app, self.settings, self.status, self.index, listeners));
            match started(engine, line) {
                Some(engine) => engine.run().await,
                None => Ok(()),
            }
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn run_engine<A: App>(
        self,
        runtime: &LocalRuntime,
        make: impl FnOnce() -> A,
        listeners: Vec<BoundListener>,
        line: &StartLine,
    ) -> io::Result<()> {
        self.run_portable(runtime, make, listeners, line)
    }

    fn run_portable<A: App>(
        self,
        runtime: &LocalRuntime,
        make: impl FnOnce() -> A,
        listeners: Vec<BoundListener>,
        line: &StartLine,
    ) -> io::Result<()> {
        let sockets = listeners.into_iter().map(|listener| (listener.address().clone(), listener.into_fd())).collect();
        runtime.block_on(async {
            let app = make();
            let portable = Portable::new(app, self.settings, self.status, self.index, sockets);
            match started(portable, line) {
                Some(portable) => portable.run().await,
                None => Ok(()),
            }
        })
    }
}

/// The loop, if it could be made; which of the two, the starting thread is told.
fn started<L>(made: io::Result<L>, line: &StartLine) -> Option<L> {
    match made {
        Ok(made) => {
            line.report(Ok(()));
            Some(made)
        }
        Err(error) => {
            line.report(Err(Error::Start(error)));
            None
        }
    }
}
