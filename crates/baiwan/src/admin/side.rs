//! The thread of the admin side, from before the first core to after the last one.
//!
//! ```text
//!   start    binds the listener ─▶ thread and runtime are there ─▶ cores start ─▶ the listener is handed over: it accepts
//!   end      the cores have ended ─▶ the side is dropped ─▶ listener and connections are closed, and the thread ends
//! ```
//!
//! With an fd table for each core, the runtime must be there before the first table parts, so that cores can wake what waits on it; and
//! the listener must be in no table then, or it would stay open in theirs. So the caller holds it until that has happened. What checks
//! open must be in no table either: they begin when the server has started, and so have what the cores connect to.
//!
//! The invariant: when a side was dropped, nobody listens any more, unless something blocks its thread for longer than [`END_MAX`].

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::checks::{Checks, RunsEnd};
use super::connections::serve;
use super::routes::Site;
use crate::Error;
use crate::files::explain;
use crate::say::say;

/// How long the end waits for checks and looks that go on.
const CALLS_END_MAX: Duration = Duration::from_millis(500);
/// How long whoever drops a side waits for its thread.
const END_MAX: Duration = Duration::from_secs(1);

/// An admin side that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSide {
    address: SocketAddr,
    /// Where its listener is expected.
    listener: Option<oneshot::Sender<StdTcpListener>>,
    end: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
    /// As `ended`, for whoever waits without blocking. None if somebody has.
    is_ended: Option<oneshot::Receiver<()>>,
}

impl AdminSide {
    /// Starts the thread, which waits for its [listener](Self::listen). `make` is called there. With `awaits_start`, it accepts nothing before
    /// the server serves.
    ///
    /// # Errors
    /// When the system has no thread or no files for it.
    pub(super) fn start(
        address: SocketAddr,
        checks: Checks,
        make: impl FnOnce() -> Site + Send + 'static,
        awaits_start: bool,
    ) -> Result<Self, Error> {
        let (report, reports) = sync_channel(1);
        let (end, ends) = oneshot::channel();
        let (listener, listeners) = oneshot::channel();
        let (alive, ended) = sync_channel(1);
        let (alive_too, is_ended) = oneshot::channel();
        let body = move || {
            let _alive: (SyncSender<()>, oneshot::Sender<()>) = (alive, alive_too);
            let runtime = match Builder::new_current_thread().enable_all().build_local(Default::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(Error::Start(error)))),
            };
            let _ = report.send(Ok(()));
            let left = runtime.block_on(async {
                let checks_end = RunsEnd::new();
                tokio::select! {
                    _ = ends => {}
                    () = run(listeners, checks, &checks_end, make, awaits_start) => {}
                }
                let begin = Instant::now();
                checks_end.come(CALLS_END_MAX).await;
                CALLS_END_MAX.saturating_sub(begin.elapsed())
            });
            runtime.shutdown_timeout(left);
        };
        thread::Builder::new().name("baiwan-admin".to_owned()).spawn(body).map_err(Error::Thread)?;
        reports.recv().unwrap_or(Ok(()))?;
        Ok(Self { address, listener: Some(listener), end: Some(end), ended, is_ended: Some(is_ended) })
    }

    /// Gives it the socket on which it listens.
    pub(crate) fn listen(&mut self, listener: StdTcpListener) {
        if let Some(way) = self.listener.take() {
            // A thread that has ended by a panic accepts nothing.
            let _ = way.send(listener);
        }
    }

    /// Ends it, and waits until it has ended, but for no longer than [`END_MAX`].
    pub(crate) async fn end(&mut self) {
        drop(self.end.take());
        if let Some(is_ended) = &mut self.is_ended {
            // Nothing is ever sent, as below.
            let _ = timeout(END_MAX, is_ended).await;
            self.is_ended = None;
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminSide {
    fn drop(&mut self) {
        drop(self.end.take());
        // Whoever has waited need not wait again.
        let length = if self.is_ended.is_some() { END_MAX } else { Duration::ZERO };
        // Nothing is ever sent: it is the end of the thread that is waited for.
        let _ = self.ended.recv_timeout(length);
    }
}

async fn run(
    listener: oneshot::Receiver<StdTcpListener>,
    checks: Checks,
    checks_end: &RunsEnd,
    make: impl FnOnce() -> Site,
    awaits_start: bool,
) {
    let site = Rc::new(make());
    let watched = Rc::clone(&site);
    drop(tokio::task::spawn_local(async move { watched.watch().await }));
    let Ok(listener) = listener.await else { return std::future::pending().await };
    let (starting, checks_end) = (Rc::clone(&site), checks_end.clone());
    drop(tokio::task::spawn_local(async move {
        starting.until_started().await;
        checks.begin(&checks_end);
    }));
    if awaits_start {
        site.until_started().await;
    }
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    match listener {
        Ok(listener) => {
            tokio::select! {
                never = serve(&listener, &site) => match never {},
                () = site.until_handed_over() => {}
            }
            // The process that has taken over answers there; whoever waits for an answer gets it here.
            drop(listener);
            std::future::pending().await
        }
        Err(error) => {
            let error = explain(&error);
            say(|| tracing::error!(error, "the admin side cannot listen"));
            std::future::pending().await
        }
    }
}
