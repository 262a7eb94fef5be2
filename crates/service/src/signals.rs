//! Signals that change nothing, though they end a process that does not ask for them: others send them to have a program read
//! its settings anew, or open its log file again. Those that stop the server are the engine's, but only stop it.

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
    let mut kinds =
        vec![(SignalKind::user_defined1(), "SIGUSR1", NO_FILE), (SignalKind::user_defined2(), "SIGUSR2", NO_FILE)];
    // A process whose terminal is gone ends.
    if !io::stderr().is_terminal() {
        kinds.push((SignalKind::hangup(), "SIGHUP", "settings are read at the start"));
    }
    kinds.into_iter().map(|(kind, name, why)| Ok(Ignored { arrivals: signal(kind)?, name, why })).collect()
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
