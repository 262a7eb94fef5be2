//! The thread of a core: its runtime, its listeners, its app, and then the loop that serves.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
use baiwan_driver::epoll::EpollDriver;
use tokio::runtime::LocalRuntime;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::finish_line::Finish;
use super::listen::BoundListener;
use super::parting::{Listeners, Place};
use super::shutdown::StopSignals;
use super::signals::Listening;
use super::start_line::StartLine;
use crate::Error;
use crate::app::App;
use crate::call_scope::leave_core;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
use crate::engine::Engine;
use crate::hyper::Portable;
use crate::reload::{InForce, Remake};
use crate::settings::EventLoop;
use crate::status::{Phase, Status};

/// The app of a core, and what makes it anew, where the program gave a way to.
pub(super) type Made<A> = (A, Option<Remake<A>>);

/// What the thread of a core needs to know.
pub(super) struct CoreThread {
    pub(super) index: usize,
    pub(super) event_loop: EventLoop,
    pub(super) in_force: Arc<InForce>,
    pub(super) status: Arc<Status>,
    /// Where signals stop the server.
    pub(super) listening: Option<Arc<Listening>>,
    /// Those signals, on the first core, which follows them.
    pub(super) signals: Option<StopSignals>,
    /// Somebody watches whether the core turns.
    pub(super) is_watched: bool,
    /// Another process serves until this one does.
    pub(super) is_heir: bool,
}

impl CoreThread {
    /// Starts the thread; what is returned yields how it has ended. It holds the server's `place` until then.
    pub(super) fn spawn<A: App>(
        self,
        make: impl FnOnce() -> Made<A> + Send + 'static,
        listeners: Listeners,
        line: StartLine,
        finish: Finish,
        place: Arc<Place>,
    ) -> Result<oneshot::Receiver<io::Result<()>>, Error> {
        let (done, is_done) = oneshot::channel();
        let name = format!("baiwan-core-{}", self.index);
        let body = move || {
            let outcome = self.run(make, listeners, &line, finish);
            // Whoever hears of the end may start the next server.
            drop(place);
            // Nobody listens any more if the server was dropped.
            let _ = done.send(outcome);
        };
        thread::Builder::new().name(name).spawn(body).map_err(Error::Thread)?;
        Ok(is_done)
    }

    /// Starts the core together with the others, and serves until it is stopped.
    fn run<A: App>(
        mut self,
        make: impl FnOnce() -> Made<A>,
        listeners: Listeners,
        line: &StartLine,
        finish: Finish,
    ) -> io::Result<()> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        finish.count_blocking_threads(builder.enable_all());
        if self.is_watched {
            self.tell_when_asleep(&mut builder);
        }
        let Some(runtime) = line.check(builder.build_local(Default::default()).map_err(Error::Start)) else {
            return Ok(());
        };
        if !line.wait_for_all() {
            return Ok(());
        }
        // What was opened so far is open in every table; what is opened from here on, in this one.
        let Some(listeners) = line.check(listeners.arrive()) else { return Ok(()) };
        // Until the thread ends, the server is one that listens for signals.
        let listening = self.listening.clone();
        let follower = self.follow_signals(&runtime, &finish);
        let (status, index) = (Arc::clone(&self.status), self.index);
        let outcome = runtime.block_on(self.serve(make, listeners, line));
        let left = match outcome {
            Ok(()) => runtime.block_on(finish.cross()),
            Err(_) => {
                finish.fail();
                Duration::ZERO
            }
        };
        // Nothing turns any more while the runtime ends, and nobody is to be blamed for that.
        status.cores[index].set_asleep(true);
        if let Some(follower) = follower {
            follower.abort();
        }
        runtime.shutdown_timeout(left);
        leave_core();
        drop(listening);
        outcome
    }

    /// Has the runtime say when its thread sleeps until something happens: for whoever watches whether it is blocked.
    fn tell_when_asleep(&self, runtime: &mut tokio::runtime::Builder) {
        let [falls_asleep, wakes] = [true, false].map(|asleep| {
            let (status, index) = (Arc::clone(&self.status), self.index);
            move || status.cores[index].set_asleep(asleep)
        });
        runtime.on_thread_park(falls_asleep).on_thread_unpark(wakes);
    }

    /// Has the first core follow the signals that stop the server, until the end.
    fn follow_signals(&mut self, runtime: &LocalRuntime, finish: &Finish) -> Option<AbortHandle> {
        let (listening, signals) = (self.listening.clone()?, self.signals.take()?);
        let (status, settings) = (Arc::clone(&self.status), self.in_force.settings());
        let own_task = finish.begin_own_task();
        let follower = runtime.spawn_local(async move {
            let _own_task = own_task;
            signals.follow(&listening, &status, &settings).await;
        });
        Some(follower.abort_handle())
    }

    async fn serve<A: App>(
        self,
        make: impl FnOnce() -> Made<A>,
        listeners: Vec<BoundListener>,
        line: &StartLine,
    ) -> io::Result<()> {
        let Self { index, event_loop, in_force, status, is_heir, .. } = self;
        let board = Arc::clone(&status);
        let may_serve = async || {
            // Until then a signal ends the process, and whoever was accepted with it.
            board.cores[index].until(|| board.phase() != Phase::Starting).await;
            // The start of another core has failed, or the other process serves on: nothing was accepted here.
            !(is_heir && board.phase() == Phase::Stopping)
        };
        let (app, remake) = make();
        #[cfg(all(target_os = "linux", not(baiwan_portable)))]
        if event_loop == EventLoop::Epoll {
            let engine = EpollDriver::new()
                .and_then(|driver| Engine::new(driver, app, &in_force, status, index, listeners))
                .map(|engine| engine.remaking(remake))
                .map_err(Error::Start);
            let Some(engine) = line.check(engine) else { return Ok(()) };
            line.report(Ok(()));
            return if may_serve().await { engine.run().await } else { Ok(()) };
        }
        debug_assert_eq!(event_loop, EventLoop::Portable, "another loop was refused before");
        let sockets = listeners.into_iter().map(|listener| (listener.address().clone(), listener.into_fd())).collect();
        let portable = Portable::new(app, remake, &in_force, status, index, sockets).map_err(Error::Start);
        let Some(portable) = line.check(portable) else { return Ok(()) };
        line.report(Ok(()));
        if may_serve().await { portable.run().await } else { Ok(()) }
    }
}
