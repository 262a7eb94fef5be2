//! What makes a server stop: signals, or a future of the user's; and the steps of the stop.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::signals::{Listening, StopSignal};
use crate::Error;
use crate::settings::Settings;
use crate::status::{Phase, Status};

/// What a server waits for before it stops.
pub(crate) enum Stop {
    /// SIGTERM or SIGINT.
    Signals,
    /// Until this is ready.
    When(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signals => f.write_str("Signals"),
            Self::When(_) => f.write_str("When(..)"),
        }
    }
}

/// The signals that stop a server, as they come.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Starts to listen; may be called on any thread.
    pub(super) fn listen() -> Result<Self, Error> {
        let listen = || -> io::Result<Self> {
            Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
        };
        let listen_anywhere = || match tokio::runtime::Handle::try_current() {
            Ok(_) => listen(),
            Err(_) => {
                // Whichever runtime hears of a signal tells all who listen, so this one may go.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
                let _within = runtime.enter();
                listen()
            }
        };
        listen_anywhere().map_err(Error::Signals)
    }

    /// Waits for the next one.
    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }

    /// Has the process end in time after the first of them, and leads the server through its stop if nobody else does.
    pub(super) async fn follow(mut self, listening: &Listening, status: &Status, settings: &Settings) {
        listening.handle_signal(self.next().await);
        if !listening.is_waited_for() {
            StopRequests::Signals(self).lead(status, settings).await;
        }
    }
}

/// The requests to stop, one after the other.
pub(crate) enum StopRequests {
    Signals(StopSignals),
    /// None when it was ready.
    When(Option<Pin<Box<dyn Future<Output = ()> + Send>>>),
}

impl std::fmt::Debug for StopRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signals(_) => f.write_str("Signals"),
            Self::When(_) => f.write_str("When(..)"),
        }
    }
}

impl StopRequests {
    /// Starts to listen. From here on the signals do not end the process by themselves.
    pub(super) fn listen(stop: Stop) -> Result<Self, Error> {
        match stop {
            Stop::When(future) => Ok(Self::When(Some(future))),
            Stop::Signals => StopSignals::listen().map(Self::Signals),
        }
    }

    /// Waits for the next request to stop, and says which signal it was. A future asks once, signals as often as they come.
    pub(super) async fn next(&mut self) -> Option<StopSignal> {
        match self {
            Self::Signals(signals) => Some(signals.next().await),
            Self::When(asked) => {
                match asked {
                    Some(future) => future.await,
                    None => std::future::pending().await,
                }
                *asked = None;
                None
            }
        }
    }

    /// Takes the server through its stop, from its first request on, until it ends at once: after a second request.
    pub(super) async fn lead(&mut self, status: &Status, settings: &Settings) {
        status.succession.close().await;
        if status.succession.successor().is_some() {
            // Clients are served by the process that has taken over, and this one ends already: the first request changes nothing.
            self.next().await;
        } else {
            advance(status, Phase::NotReady).await;
            tokio::select! {
                _ = self.next() => return advance(status, Phase::Stopping).await,
                () = tokio::time::sleep(settings.shutdown_delay) => advance(status, Phase::Draining).await,
            }
        }
        self.next().await;
        advance(status, Phase::Stopping).await;
    }
}

/// Goes on to a phase, and is pending once, so that whoever polls sees it before the end (see [`Health::phase`](crate::Health::phase)).
async fn advance(status: &Status, phase: Phase) {
    status.advance(phase);
    tokio::task::yield_now().await;
}
