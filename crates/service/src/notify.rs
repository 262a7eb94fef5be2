//! What systemd is told of the service (`Type=notify`, sd_notify(3)): that it is ready, that it reads its settings anew, that it stops, and,
//! again and again, that it lives. Where `NOTIFY_SOCKET` is unset nothing is done.
//!
//! ```text
//!   starting ── ready ──▶ serving ── stopping ──▶ stopping
//!   EXTEND_TIMEOUT_USEC   WATCHDOG=1 while live   WATCHDOG=1: what bounds a stop is its own timeout
//!                            └────── handed_over ──▶ silent: another process is the service's main one
//! ```
//!
//! The words are those of the crate `sd-notify`. Messages are sent here: that crate knows no abstract sockets, waits without end for
//! a manager that reads nothing, and needs a free fd for each message, of which a server at its maximum has none.
//!
//! Invariant: nothing here fails its caller or holds it for more than a second (`SEND_MAX`). A message that cannot be sent is a line of the log, and
//! so are not those after it until one was sent again.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use baiwan::Health;
use sd_notify::NotifyState;
use tracing::warn;

/// How long a message may wait for room in the manager's queue.
const SEND_MAX: Duration = Duration::from_secs(1);
/// Between two beats, unless half of `WATCHDOG_USEC` is less.
const BEAT: Duration = Duration::from_secs(10);
/// Beats come no faster, whatever `WATCHDOG_USEC` is.
const BEAT_MIN: Duration = Duration::from_millis(1);
/// What each beat adds to the time for the start: three beats, so that a late one does no harm.
const START_EXTENSION: Duration = Duration::from_secs(30);
/// A start that takes longer is not extended any more.
const START_MAX: Duration = Duration::from_secs(3600);
/// Beyond `SHUTDOWN_TIMEOUT`, to close the store and to write the last lines of the log.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// The manager of this process, which is looked for once.
static MANAGER: OnceLock<Option<Manager>> = OnceLock::new();

/// Who is told.
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    phase: Mutex<Phase>,
    server: OnceLock<Health>,
    /// This process has said that it is the main one, so another one was told about the watchdog.
    has_taken_over: AtomicBool,
    /// The last message could not be sent.
    is_failing: AtomicBool,
}

/// What the service is doing, as far as the manager is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Starting,
    Serving,
    Stopping,
    /// Another process is the service's main one, and it speaks for the service.
    HandedOver,
}

/// Sends beats until it is dropped.
#[derive(Debug)]
pub struct Heartbeat(#[expect(dead_code, reason = "that it is dropped is what matters")] SyncSender<()>);

/// Whether a manager has said where it is to be told.
pub(crate) fn is_asked_for() -> bool {
    name().is_some()
}

/// Looks for a manager, and begins to tell it that the start goes on, and later that the service lives. To be called when there is a log, and
/// before fds may become scarce. None where there is nobody to tell.
///
/// Beats come from a thread of their own, which stands still neither with the cores nor with the store.
pub fn begin() -> Option<Heartbeat> {
    let manager = manager()?;
    let watchdog = watchdog_period(env::var_os("WATCHDOG_USEC").as_deref());
    let (end, ended) = sync_channel::<()>(0);
    let beat = move || {
        let pause = watchdog.unwrap_or(BEAT).min(BEAT);
        let mut lasted = Duration::ZERO;
        // Nothing is ever sent.
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let phase = manager.phase();
            lasted += pause;
            let is_live = || manager.server.get().is_some_and(Health::is_live);
            let has_watchdog = watchdog.is_some() || manager.has_taken_over.load(Ordering::Relaxed);
            match beat(phase, lasted, has_watchdog, is_live) {
                Some(message) => manager.send(&[NotifyState::Custom(&message)]),
                None if !has_watchdog && phase != Phase::Starting => return,
                None => {}
            }
        }
    };
    match thread::Builder::new().name("baiwan-systemd".to_owned()).spawn(beat) {
        Ok(_) => Some(Heartbeat(end)),
        Err(error) => {
            warn!("systemd will not hear that the service lives, because there is no thread to say it: {error}");
            None
        }
    }
}

/// Whether the service lives is, from now on, whether this server does.
pub fn watch(server: &Health) {
    if let Some(manager) = manager() {
        // There is one server in a process.
        let _ = manager.server.set(server.clone());
    }
}

/// The start is over, or the settings were read anew. `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(Some(Phase::Serving), &[NotifyState::Ready, NotifyState::Status(&on_one_line(status))]);
}

/// The settings are being read anew. To be followed by [`ready`], whatever came of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // systemd wants both in one message.
        Ok(now) => tell(None, &[NotifyState::Reloading, now]),
        Err(error) => warn!("systemd is not told of the reload, because there is no monotonic clock: {error}"),
    }
}

/// The stop begins. It takes `at_most` this time, and what closing the store takes.
pub fn stopping(at_most: Duration) {
    let extension = extension(at_most.saturating_add(STOP_MARGIN));
    let states = [NotifyState::Stopping, NotifyState::Status("stopping"), NotifyState::Custom(&extension)];
    tell(Some(Phase::Stopping), &states);
}

/// This process has failed, and `why` is what `systemctl status` shows. Nothing is said while another process serves, which listens at `door`
/// (`TAKEOVER`): the service is well then, and its state is that process's.
pub fn failed(why: &str, door: Option<&Path>) {
    if door.is_none_or(|door| UnixStream::connect(door).is_err()) {
        tell(None, &[NotifyState::Status(&on_one_line(why))]);
    }
}

/// The service's main process is the one with this id. If it is this one, the watchdog is fed from now on, whether there is one or not: systemd
/// tells only processes that it has started itself.
pub fn main_pid(pid: u32) {
    if pid == std::process::id()
        && let Some(manager) = manager()
    {
        manager.has_taken_over.store(true, Ordering::Relaxed);
    }
    tell(None, &[NotifyState::MainPid(pid)]);
}

/// Another process is the service's main one. This one says nothing more: that it stops would be taken for the service's stop.
pub fn handed_over() {
    if let Some(manager) = manager() {
        manager.set_phase(Phase::HandedOver);
    }
}

fn manager() -> Option<&'static Manager> {
    MANAGER.get_or_init(|| Manager::at(&name()?)).as_ref()
}

fn name() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

fn tell(phase: Option<Phase>, states: &[NotifyState<'_>]) {
    let Some(manager) = manager().filter(|manager| manager.phase() != Phase::HandedOver) else { return };
    if let Some(phase) = phase {
        manager.set_phase(phase);
    }
    manager.send(states);
}

impl Manager {
    /// None, and a line of the log, where nothing can be sent.
    fn at(name: &OsStr) -> Option<Self> {
        let opened = address(name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND_MAX))?;
            Ok((socket, address))
        });
        match opened {
            Ok((socket, address)) => Some(Self {
                socket,
                address,
                phase: Mutex::new(Phase::Starting),
                server: OnceLock::new(),
                has_taken_over: AtomicBool::new(false),
                is_failing: AtomicBool::new(false),
            }),
            Err(error) => {
                warn!("systemd is told nothing: NOTIFY_SOCKET is {name:?}: {error}");
                None
            }
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let message = states.iter().map(|state| format!("{state}\n")).collect::<String>();
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.address);
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        if let Err(error) = sent
            && !was_failing
        {
            warn!("systemd could not be told {:?}: {error}", on_one_line(message.trim_end()));
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

/// What a beat says in that phase; the process has lasted so long.
fn beat(phase: Phase, lasted: Duration, has_watchdog: bool, is_live: impl FnOnce() -> bool) -> Option<String> {
    match phase {
        Phase::Starting if lasted <= START_MAX => Some(extension(START_EXTENSION)),
        Phase::Serving if has_watchdog && is_live() => Some(NotifyState::Watchdog.to_string()),
        // Cores that have ended turn no more.
        Phase::Stopping if has_watchdog => Some(NotifyState::Watchdog.to_string()),
        _ => None,
    }
}

/// How often the watchdog wants to be fed: twice in the time after which the manager ends the process. None where it does not.
///
/// Which process `WATCHDOG_PID` names does not matter, because systemd judges by `NotifyAccess` whom it listens to: after a take-over the
/// main process is not the one that it started.
fn watchdog_period(usec: Option<&OsStr>) -> Option<Duration> {
    let usec: u64 = usec?.to_str()?.parse().ok().filter(|usec| *usec > 0)?;
    Some((Duration::from_micros(usec) / 2).max(BEAT_MIN))
}

/// `sd-notify` has a type for it that ends at 71 minutes.
fn extension(length: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
}

/// Each line of a message is a word of its own to the manager.
fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A path, or the name of an abstract socket after an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither an absolute path nor an abstract name (@name)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: fn() -> bool = || true;
    const STUCK: fn() -> bool = || false;

    #[test]
    fn the_watchdog_is_fed_while_the_server_lives_and_a_stop_is_bounded_by_its_own_timeout() {
        let fed = Some("WATCHDOG=1".to_owned());
        assert_eq!(beat(Phase::Serving, START_MAX, true, LIVE), fed);
        assert_eq!(beat(Phase::Serving, START_MAX, true, STUCK), None);
        assert_eq!(beat(Phase::Serving, START_MAX, false, LIVE), None);
        assert_eq!(beat(Phase::Stopping, START_MAX, true, STUCK), fed);
        assert_eq!(beat(Phase::HandedOver, START_MAX, true, LIVE), None);
    }

    #[test]
    fn a_long_start_is_extended_but_not_for_ever() {
        let extended = Some("EXTEND_TIMEOUT_USEC=30000000".to_owned());
        assert_eq!(beat(Phase::Starting, BEAT, false, STUCK), extended);
        assert_eq!(beat(Phase::Starting, START_MAX, true, STUCK), extended);
        assert_eq!(beat(Phase::Starting, START_MAX + BEAT, true, STUCK), None);
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time() {
        let period = |text: &str| watchdog_period(Some(OsStr::new(text)));
        assert_eq!(period("30000000"), Some(Duration::from_secs(15)));
        assert_eq!(period("1"), Some(BEAT_MIN));
        for none in ["", "0", "-1", "30s", "18446744073709551616"] {
            assert_eq!(period(none), None, "{none}");
        }
        assert_eq!(watchdog_period(None), None);
    }

    #[test]
    fn a_manager_has_a_path_or_an_abstract_name() {
        let found = address(OsStr::new("/run/systemd/notify")).unwrap();
        assert_eq!(found.as_pathname(), Some("/run/systemd/notify".as_ref()));
        for other in ["", "run/notify", "vsock:2:1234"] {
            assert_eq!(address(OsStr::new(other)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{other}");
        }
        // Longer than any address is.
        assert!(address(OsStr::new(&format!("/{}", "x".repeat(200)))).is_err());
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(on_one_line("a\nSTOPPING=1\r\u{1b}[2J"), "a STOPPING=1  [2J");
    }
}
