//! SIGTERM and SIGINT in a process that serves: whose they are, and what becomes of a process that does not end by them.
//!
//! Tokio's handlers stay for as long as the process lives, so without this nothing would end a program whose server has stopped.
//! A signal's default action is armed while no server serves. A program that has a main loop of its own beside the server is ended by
//! a watchdog when the time of the stop is over.
//!
//! It is *not* here that a server stops (`shutdown`, `running`). A signal that the program handled or ignored before its first server
//! started is the program's: neither the default action nor the watchdog touches it.
//!
//! The invariant: the default action is armed only while no server serves, and only for a signal that had it at first.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::Error;
use crate::say::say;

/// The time that a program has at least for what follows a stop, such as closing its database.
const CLEANUP_MIN: Duration = Duration::from_secs(1);

/// A signal that stops servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StopSignal {
    Terminate = SIGTERM as isize,
    Interrupt = SIGINT as isize,
}

/// Signals take their default action: no server serves that listens for them.
static ARMED: AtomicBool = AtomicBool::new(false);
static SERVERS: Mutex<Servers> = Mutex::new(Servers { defaults: None, next: 0, listening: Vec::new() });

/// The servers that stop on signals.
#[derive(Debug)]
struct Servers {
    /// The signals that had their default action before the first server came.
    defaults: Option<Vec<StopSignal>>,
    /// The number of the next server.
    next: u64,
    /// The number of each that serves, and how long its stop may take.
    listening: Vec<(u64, Duration)>,
}

fn servers() -> MutexGuard<'static, Servers> {
    // Nothing panics while the lock is held.
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Servers {
    /// Whether every server with a lower number has ended.
    fn none_before(&self, number: u64) -> bool {
        self.listening.iter().all(|(known, _)| *known >= number)
    }
}

/// A server that stops on signals. Its cores hold it: it ends with the last of them.
#[derive(Debug)]
pub(super) struct Listening {
    shutdown_timeout: Duration,
    /// Set when the server serves.
    number: OnceLock<u64>,
    /// Somebody waits for the server, and leads it through its stop.
    waited_for: AtomicBool,
    watchdog: SyncSender<Alarm>,
}

/// A signal that has come.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    signal: StopSignal,
    /// The longest stop of the servers that have heard of it.
    timeout: Duration,
    /// The number of the first server that has not.
    next: u64,
}

impl Listening {
    /// For a server that is about to start. Until it [serves](Self::serve), signals act as they did before. To be called before Tokio is
    /// asked for them, and before fd tables part: the watchdog keeps the table of the caller.
    pub(super) fn begin(shutdown_timeout: Duration) -> Result<Arc<Self>, Error> {
        let mut servers = servers();
        if servers.listening.is_empty() {
            ARMED.store(true, SeqCst);
        }
        if servers.defaults.is_none() {
            let defaults =
                [StopSignal::Terminate, StopSignal::Interrupt].into_iter().filter(|signal| signal.is_default());
            let defaults: Vec<_> = defaults.collect();
            for signal in &defaults {
                signal.register_default().map_err(Error::Signals)?;
            }
            servers.defaults = Some(defaults);
        }
        let (watchdog, alarms) = sync_channel::<Alarm>(1);
        let thread = std::thread::Builder::new().name("baiwan-watchdog".to_owned());
        // Without it, the process is ended by whoever sent the signal.
        let _ = thread.spawn(move || alarms.recv().map(watch));
        Ok(Arc::new(Self { shutdown_timeout, number: OnceLock::new(), waited_for: AtomicBool::new(false), watchdog }))
    }

    /// From here on signals stop the server, and do not end the process by themselves.
    pub(super) fn serve(&self) {
        let mut servers = servers();
        let number = servers.next;
        servers.next += 1;
        if self.number.set(number).is_ok() {
            servers.listening.push((number, self.shutdown_timeout));
            ARMED.store(false, SeqCst);
        }
    }

    /// Has the process end by a signal that has come, when the time of the stop is over and it is still there.
    pub(super) fn handle_signal(&self, signal: StopSignal) {
        let servers = servers();
        if servers.defaults.as_ref().is_some_and(|defaults| defaults.contains(&signal))
            && let Some(timeout) = servers.listening.iter().map(|(_, timeout)| *timeout).max()
        {
            // One is enough.
            let _ = self.watchdog.try_send(Alarm { signal, timeout, next: servers.next });
        }
    }

    /// Somebody leads the server through its stop from here on.
    pub(super) fn handle_wait(&self) {
        self.waited_for.store(true, Relaxed);
    }

    /// Whether somebody leads the server through its stop.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waited_for.load(Relaxed)
    }

    /// The server listens no more. May be called several times.
    pub(super) fn end(&self) {
        let mut servers = servers();
        servers.listening.retain(|(number, _)| Some(number) != self.number.get());
        if servers.listening.is_empty() {
            ARMED.store(true, SeqCst);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the watchdog does when a signal has come.
fn watch(alarm: Alarm) {
    let Alarm { signal, timeout, next } = alarm;
    let in_time = timeout.saturating_sub(CLEANUP_MIN);
    pause(in_time);
    let has_cleaned_up = servers().none_before(next);
    pause(timeout - in_time);
    if !has_cleaned_up {
        pause(CLEANUP_MIN);
    }
    // A server that was started after the signal does not end by it.
    if !servers().listening.iter().any(|(number, _)| *number >= next) {
        say(|| tracing::warn!("the time for the stop is over, and the program has not ended: the signal ends it"));
        signal.end_process();
    }
}

fn pause(duration: Duration) {
    let (_nobody, never) = sync_channel::<()>(0);
    let _ = never.recv_timeout(duration);
}

impl StopSignal {
    /// Whether the signal has its default action: the program neither handles nor ignores it. Where the system does not say, as on
    /// others than Linux, it is taken not to have: then all is left as Tokio has it.
    fn is_default(self) -> bool {
        let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
        !["SigIgn:", "SigCgt:"].iter().any(|field| self.is_in(&status, field))
    }

    /// Has the signal end the process while it is armed.
    fn register_default(self) -> std::io::Result<()> {
        let signal = self as i32;
        match is_init() {
            true => flag::register_conditional_shutdown(signal, self.exit_status(), &ARMED)?,
            false => flag::register_conditional_default(signal, &ARMED)?,
        };
        Ok(())
    }

    /// Ends the process by the signal.
    fn end_process(self) {
        if is_init() {
            low_level::exit(self.exit_status());
        }
        let _ = low_level::emulate_default_handler(self as i32);
    }

    /// What a shell says of a process that has ended by the signal.
    fn exit_status(self) -> i32 {
        128 + self as i32
    }

    /// Whether the signal is in a set of `/proc/self/status`: hexadecimal digits, signal 1 in the lowest bit.
    fn is_in(self, status: &str, field: &str) -> bool {
        let set = status.lines().find_map(|line| line.strip_prefix(field));
        set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set >> (self as i32 - 1) & 1 == 1)
    }
}

/// Whether the process is the first one of a container: no signal of its own kills it, so it has to exit.
fn is_init() -> bool {
    std::process::id() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_signals_is_read_as_the_kernel_writes_it() {
        let status = "Name:\ttest\nSigIgn:\t0000000000000002\nSigCgt:\t0000000180004440\n";
        assert!(StopSignal::Interrupt.is_in(status, "SigIgn:") && !StopSignal::Terminate.is_in(status, "SigIgn:"));
        assert!(StopSignal::Terminate.is_in(status, "SigCgt:") && !StopSignal::Interrupt.is_in(status, "SigCgt:"));
        assert!(!StopSignal::Terminate.is_in("", "SigCgt:"));
    }
}
