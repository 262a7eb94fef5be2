//! What makes a server stop: signals, or a future of the user's.

use std::future::Future;
use std::pin::Pin;

use crate::Error;

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

/// The requests to stop, one after the other.
pub(crate) struct StopRequests {
    stop: Stop,
    signals: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl StopRequests {
    /// Starts to listen. From here on the signals do not end the process by themselves.
    pub(crate) fn listen(stop: Stop) -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};

        let signals = match stop {
            Stop::When(_) => None,
            Stop::Signals => {
                let terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
                let interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
                Some((terminate, interrupt))
            }
        };
        Ok(Self { stop, signals })
    }

    /// Waits for the next request to stop. A future asks once, signals as often as they come.
    pub(crate) async fn next(&mut self) {
        if let Some((terminate, interrupt)) = &mut self.signals {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
        if let Stop::When(future) = std::mem::replace(&mut self.stop, Stop::Signals) {
            return future.await;
        }
        std::future::pending().await
    }
}
