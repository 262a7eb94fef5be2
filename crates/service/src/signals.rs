//! Signals beside those that stop the server, which are the engine's: SIGHUP has the settings read anew, and those that change nothing are
//! said, though they end a process that does not ask for them.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Logs at most one line per interval and signal, however many arrive.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A signal that is ignored.
pub(crate) struct Ignored {
    arrivals: Signal,
    name: &'static str,
    why: &'static str,
}

/// Begins to ignore them, for as long as the process lives. To be called within a Tokio runtime.
pub(crate) fn ignore() -> io::Result<Vec<Ignored>> {
    const NO_FILE: &str = "the log goes to standard error, not to a file that could be opened again";
    let kinds = [(SignalKind::user_defined1(), "SIGUSR1", NO_FILE), (SignalKind::user_defined2(), "SIGUSR2", NO_FILE)];
    kinds.into_iter().map(|(kind, name, why)| Ok(Ignored { arrivals: signal(kind)?, name, why })).collect()
}

/// Begins to take SIGHUP, which has the settings read anew, for as long as the process lives: one that comes during the start is kept. None on
/// a terminal, where it ends the process, because the terminal is gone. To be called within a Tokio runtime.
pub(crate) fn hangups() -> io::Result<Option<Signal>> {
    (!io::stderr().is_terminal()).then(|| signal(SignalKind::hangup())).transpose()
}

/// Begins to handle SIGTERM and SIGINT, which stop the server and do nothing else, for as long as the process lives: once a program handles
/// them, the engine does not end the process by them. The service ends when its store is closed, which may take longer than a program is
/// given for what follows a stop. To be called within a Tokio runtime, before the server starts.
pub(crate) fn handle_stops() -> io::Result<()> {
    [SignalKind::terminate(), SignalKind::interrupt()].into_iter().try_for_each(|kind| signal(kind).map(drop))
}

impl Ignored {
    /// Says what the signal does not do, when it comes. Never ends.
    pub(crate) async fn say(mut self) -> Result<(), baiwan::Error> {
        while self.arrivals.recv().await.is_some() {
            info!("{} changes nothing: {}", self.name, self.why);
            tokio::time::sleep(LOG_INTERVAL).await;
        }
        Ok(())
    }
}
