//! The process that runs: it keeps a handle on each listening socket, and gives them to the process that asks at the door.
//!
//! ```text
//!   waits at the door ─▶ an attempt: hello → sockets → ready → released ─▶ the server is told, and drains
//!      ▲  ▲                  │ failed: refuses, and says why
//!      │  └──────────────────┘
//!      └ ends, and closes the handles, when the server stops: an attempt that is under way is refused
//! ```
//!
//! It has a thread and a runtime of its own, so that a server whose cores are stuck can be replaced. Where each core has an fd table, the
//! handles are on their way until all tables have parted, and then are in that of this thread: see `parting`.
//!
//! The invariant: when a stop closes the listeners of the cores, no handle is left here that would keep their sockets open.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use baiwan_driver::{Address, BoundListener, FileIdentity, MESSAGE_FDS_MAX, SocketFile, effective_user, send_fds};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalRuntime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::super::parting::Listeners;
use super::super::side_thread::SideThread;
use super::ATTEMPT_MAX;
use super::message::{FILE_BYTES_MAX, FILES_MAX, Message, Role};
use crate::Error;
use crate::fd_tables::FdTables;
use crate::files::{ACCEPT_PAUSE, explain};
use crate::say::say;
use crate::socket_files::SocketFiles;
use crate::status::{Phase, Status};

/// The keeper of a server that starts or runs. It ends when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Keeper {
    path: PathBuf,
    /// Of the door's file. None if nothing stood at the path when this process got the door.
    door_file: Option<FileIdentity>,
    roles: Vec<Role>,
    /// The sockets, until the server serves, and so every core has the table that it will have.
    on_its_way: Vec<Listeners>,
    /// Where they are expected.
    arrival: Option<oneshot::Sender<Sockets>>,
    #[expect(dead_code, reason = "it ends the thread when it is dropped, before that is waited for")]
    end: oneshot::Sender<Infallible>,
    #[expect(dead_code, reason = "it is waited for when it is dropped")]
    thread: SideThread,
}

/// What is handed over.
#[derive(Debug)]
struct Sockets {
    /// That of the door: removed before the door is closed, unless it is handed over.
    file: Option<SocketFile>,
    all: Vec<(Role, BoundListener)>,
}

impl Keeper {
    /// Starts the thread, which waits until the server [serves](Self::handle_serving). The door is at `path`, and is
    /// `door_file` there.
    pub(super) fn begin(
        path: PathBuf,
        door_file: Option<FileIdentity>,
        kept: Vec<(Role, BoundListener)>,
        fd_tables: FdTables,
        status: &Arc<Status>,
    ) -> Result<Self, Error> {
        let (roles, mut listeners): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let mut chunks = Vec::new();
        while !listeners.is_empty() {
            let rest = listeners.split_off(listeners.len().min(MESSAGE_FDS_MAX));
            chunks.push(std::mem::replace(&mut listeners, rest));
        }
        let on_its_way = Listeners::send(chunks, fd_tables).map_err(Error::Start)?;
        let (arrival, arrived) = oneshot::channel();
        let (end, ends) = oneshot::channel();
        let (report, reports) = std::sync::mpsc::sync_channel(1);
        let status = Arc::clone(status);
        let thread = SideThread::begin("baiwan-takeover", move |_| {
            let runtime = match Builder::new_current_thread().enable_all().build_local(Default::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(Error::Start(error)))),
            };
            let _ = report.send(Ok(()));
            run(&runtime, arrived, ends, &status);
        });
        let thread = thread.map_err(Error::Thread)?;
        reports.recv().unwrap_or(Ok(()))?;
        Ok(Self { path, door_file, roles, on_its_way, arrival: Some(arrival), end, thread })
    }

    /// The server serves: from here on another process may take over. One that came this far does not fail.
    pub(in super::super) fn handle_serving(&mut self) {
        let mut sockets = Vec::with_capacity(self.roles.len());
        for listeners in std::mem::take(&mut self.on_its_way) {
            match listeners.take() {
                Ok(listeners) => sockets.extend(listeners),
                Err(error) => return say(|| tracing::error!(%error, "no other process can take over")),
            }
        }
        let all = self.roles.iter().copied().zip(sockets).collect();
        let file = self.door_file.map(|identity| SocketFile::taken_over(&self.path, identity));
        let sockets = Sockets { file, all };
        if let Some(arrival) = self.arrival.take() {
            // A thread that has ended by a panic hands over nothing.
            let _ = arrival.send(sockets);
        }
    }
}

/// Hands over once, unless the server stops before.
fn run(
    runtime: &LocalRuntime,
    arrived: oneshot::Receiver<Sockets>,
    ends: oneshot::Receiver<Infallible>,
    status: &Arc<Status>,
) {
    let handed_over = runtime.block_on(async {
        let Ok(sockets) = arrived.await else { return None };
        status.succession.begin();
        let stops = async {
            tokio::select! {
                _ = ends => {}
                () = status.succession.until_closing() => {}
            }
        };
        keep(sockets, &status.socket_files, stops).await
    });
    // No handle is left: `keep` has ended.
    if let Some(pid) = handed_over {
        // Whoever sees the server drain sees why.
        status.succession.set_successor(pid);
        status.advance(Phase::Draining);
    }
    status.succession.end();
    if let Some(pid) = handed_over {
        say(|| {
            tracing::info!(
                pid,
                "another process has taken over: this one accepts no more, answers what it has, and ends"
            )
        });
    }
}

/// Waits for a process that takes over, and returns its number when one has. None when the server `stops` before, or where the system has no
/// files for that.
async fn keep(sockets: Sockets, files: &SocketFiles, stops: impl Future<Output = ()>) -> Option<u32> {
    let door = match sockets.door() {
        Ok(door) => door,
        Err(error) => {
            let error = explain(&error);
            say(|| tracing::error!(error, "no other process can take over"));
            return None;
        }
    };
    let mut stops = pin!(stops);
    loop {
        let mut peer = tokio::select! {
            () = &mut stops => return None,
            peer = Peer::next(&door) => peer,
        };
        let attempt = within(ATTEMPT_MAX, attempt(&mut peer, &sockets, files));
        let outcome = tokio::select! {
            // In this order: whoever comes after a process that has died is not to hear that it takes over.
            biased;
            outcome = attempt => outcome,
            () = &mut stops => Err(Failure::Stops),
            never = refuse_others(&door) => match never {},
        };
        let pid = peer.pid;
        match outcome {
            Ok(()) => {
                if let Some(file) = sockets.file {
                    file.keep();
                }
                files.keep();
                return Some(pid);
            }
            // Somebody has only looked whether anybody listens.
            Err(Failure::Silent) => {}
            // Without a word, that process would take this one for one that was killed and has left its files.
            Err(Failure::Stops) => {
                peer.refuse(&Failure::Stops.to_string()).await;
                say(|| tracing::warn!(pid, "the other process does not take over: this one stops"));
                return None;
            }
            Err(failure) => {
                let reason = failure.to_string();
                if !matches!(failure, Failure::Gone | Failure::Declined(_)) {
                    peer.refuse(&reason).await;
                }
                say(|| tracing::warn!(pid, reason, "the other process does not take over: this one serves on"));
            }
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it closed the connection without a word")]
    Silent,
    #[error("it ended before it was ready")]
    Gone,
    #[error("the server stops")]
    Stops,
    #[error("it gave up: {0}")]
    Declined(String),
    #[error("it is a process of the user {0}, who is not trusted")]
    Foreign(u32),
    #[error("it was not ready within {0:?}")]
    TooSlow(Duration),
    #[error("it sent {0}")]
    Wrong(String),
    #[error("the connection to it failed: {}", explain(.0))]
    System(io::Error),
}

async fn within(length: Duration, attempt: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    timeout(length, attempt).await.unwrap_or(Err(Failure::TooSlow(length)))
}

/// Takes one process from its first word to its last. When this is `Ok`, there is no way back.
async fn attempt(peer: &mut Peer, sockets: &Sockets, files: &SocketFiles) -> Result<(), Failure> {
    if !is_trusted(peer.user, effective_user()) {
        return Err(Failure::Foreign(peer.user));
    }
    peer.expect(&Message::Hello).await.map_err(|failure| match failure {
        Failure::Gone if peer.received.is_empty() => Failure::Silent,
        failure => failure,
    })?;
    let to_hand_over = sockets.to_hand_over(files);
    let (pid, count) = (peer.pid, to_hand_over.len());
    say(|| {
        tracing::info!(pid, sockets = count, "another process takes over: this one serves on until that one is ready")
    });
    for chunk in to_hand_over.chunks(MESSAGE_FDS_MAX) {
        let roles = chunk.iter().map(|(role, _)| *role).collect();
        let fds: Vec<_> = chunk.iter().map(|(_, listener)| listener.as_fd()).collect();
        peer.send(&Message::Sockets { pid: std::process::id(), total: count, roles }, &fds).await?;
    }
    peer.expect(&Message::Ready).await?;
    peer.send(&Message::Released(as_lines(files.paths())), &[]).await
}

/// Those paths that can be told in a line.
fn as_lines(paths: Vec<PathBuf>) -> Vec<String> {
    let lines = paths.into_iter().filter_map(|path| path.into_os_string().into_string().ok());
    lines.filter(|path| !path.contains('\n') && path.len() <= FILE_BYTES_MAX).take(FILES_MAX).collect()
}

/// Goes on until it is dropped.
async fn refuse_others(door: &UnixListener) -> Infallible {
    loop {
        let peer = Peer::next(door).await;
        peer.refuse("another process is taking over already; try again when it has").await;
    }
}

/// Whether a process of this user may have the sockets of one of the user `own`.
pub(super) fn is_trusted(user: u32, own: u32) -> bool {
    user == own || user == 0
}

impl Sockets {
    /// All but the Unix sockets to which their paths do not lead any more. The other process finds there what it would find at any start.
    fn to_hand_over(&self, files: &SocketFiles) -> Vec<&(Role, BoundListener)> {
        let leads_to = |(role, listener): &&(Role, BoundListener)| match listener.address() {
            Address::Unix(path) if *role == Role::Server && files.has_lost(path) => {
                let path = path.display();
                say(|| tracing::warn!(%path, "does not hand over a Unix socket: its file was removed or replaced"));
                false
            }
            _ => true,
        };
        self.all.iter().filter(leads_to).collect()
    }

    /// The door, to accept at.
    fn door(&self) -> io::Result<UnixListener> {
        let mut doors = self.all.iter().filter(|(role, _)| *role == Role::Door);
        let door = doors.next().ok_or(io::ErrorKind::NotFound)?.1.try_clone()?;
        UnixListener::from_std(StdUnixListener::from(door.into_fd()))
    }
}

/// A process at the door.
struct Peer {
    stream: UnixStream,
    received: Vec<u8>,
    user: u32,
    /// 0 where the system does not say.
    pid: u32,
}

impl Peer {
    /// Waits for the next one.
    async fn next(door: &UnixListener) -> Self {
        loop {
            match door.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
                Ok((of, stream)) => {
                    let pid = of.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
                    return Self { stream, received: Vec::new(), user: of.uid(), pid };
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn expect(&mut self, expected: &Message) -> Result<(), Failure> {
        loop {
            match Message::take(&mut self.received).map_err(Failure::Wrong)? {
                Some(message) if message == *expected => return Ok(()),
                Some(Message::Refused(why)) => return Err(Failure::Declined(why)),
                Some(message) => return Err(Failure::Wrong(message.unexpected())),
                None => {}
            }
            let mut buffer = [0; 1024];
            let receive = || self.stream.try_read(&mut buffer);
            match self.stream.async_io(Interest::READABLE, receive).await {
                Ok(0) => return Err(Failure::Gone),
                Ok(taken) => self.received.extend(&buffer[..taken]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Failure::Gone),
                Err(error) => return Err(Failure::System(error)),
            }
        }
    }

    async fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let bytes = message.encode();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let send = || send_fds(self.stream.as_fd(), &bytes[sent..], fds);
            match self.stream.async_io(Interest::WRITABLE, send).await {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Gone),
                Err(error) => return Err(Failure::System(error)),
            }
        }
        Ok(())
    }

    /// Says why it comes to nothing. One that does not read is not waited for.
    async fn refuse(&self, why: &str) {
        let _ = timeout(ACCEPT_PAUSE, self.send(&Message::Refused(why.to_owned()), &[])).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of that user, which has said hello and goes on to be there; and the other end of its connection.
    fn peer(user: u32) -> (Peer, UnixStream) {
        let (stream, other) = UnixStream::pair().unwrap();
        (Peer { stream, received: Message::Hello.encode(), user, pid: 7 }, other)
    }

    async fn outcome(peer: &mut Peer) -> Result<(), Failure> {
        let sockets = Sockets { file: None, all: Vec::new() };
        within(ATTEMPT_MAX, attempt(peer, &sockets, &SocketFiles::default())).await
    }

    #[test]
    fn processes_of_the_same_user_and_of_root_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    #[tokio::test]
    async fn a_process_of_another_user_is_sent_nothing() {
        let (mut peer, other) = peer(effective_user() + 1);
        assert!(matches!(outcome(&mut peer).await, Err(Failure::Foreign(_))));
        drop(peer);
        let sent = other.async_io(Interest::READABLE, || other.try_read(&mut [0])).await;
        assert_eq!(sent.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_become_ready_is_given_up() {
        let (mut peer, _other) = peer(effective_user());
        let failure = outcome(&mut peer).await.unwrap_err();
        assert_eq!(failure.to_string(), "it was not ready within 60s");
    }

    #[tokio::test]
    async fn a_process_that_ends_or_declines_before_it_is_ready_is_not_waited_for() {
        let refused = Message::Refused("a reason".to_owned());
        for (said, expected) in [(None, "it ended before it was ready"), (Some(refused), "it gave up: a reason")] {
            let (mut peer, other) = peer(effective_user());
            peer.received.extend(said.iter().flat_map(Message::encode));
            let _other = Some(other).filter(|_| said.is_some());
            let failure = outcome(&mut peer).await.unwrap_err();
            assert_eq!(failure.to_string(), expected);
        }
    }
}
