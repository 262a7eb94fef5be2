//! Signals that change nothing, though they end a process that does not ask for them: others send them to have a program read
//! its settings anew, or open its log file again. Those that stop the server are the engine's, but only stop it.

use std::io::{self, IsTerminal};
use std::task::{Context, Waker};
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

/// SIGTERM and SIGINT, which stop the server and do nothing else: once a program handles them, the engine does not end the process by
/// them. The service ends when its store is closed, which may take longer than a program is given for what follows a stop.
pub(crate) struct Stops([Signal; 2]);

impl Stops {
    /// Begins to handle them, for as long as the process lives. To be called within a Tokio runtime, before the server starts.
    pub(crate) fn handle() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]))
    }

    /// Whether one has come already: to be asked when the server has started, which may not have heard of it.
    pub(crate) fn has_come(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.0.iter_mut().any(|signal| signal.poll_recv(&mut cx).is_ready())
    }
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

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_that_comes_during_the_start_is_seen_after_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut stops = Stops::handle().unwrap();
            assert!(!stops.has_come());
            kill_process(getpid(), Signal::TERM).unwrap();
            while !stops.has_come() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
}
