//! Readiness inside Tokio, and batches of socket calls.
//!
//! A [`Driver`] is the edge between an engine that owns its connections as plain state and the kernel that owns their sockets.
//! It reports which sockets became ready, and moves bytes for many of them in one call. It is *not* a runtime: it starts no
//! task, keeps no buffer and no connection state; it waits as a guest of the Tokio runtime that polls it, or for a short time by itself.
//!
//! | backend | what it is |
//! |---|---|
//! | [`epoll`] | Linux: one epoll instance nested in Tokio's |
//! | [`sim`] | a network in memory, for tests: deterministic, single-threaded |
//!
//! The one invariant: no operation outlives its call. Memory is lent for the time of a call only, so a socket can be closed
//! whenever the engine likes.
//!
//! ```text
//!   poll_wait or
//!   wait_directly ──▶ events ──▶ accept ──▶ receive ──▶ … ──▶ transmit ──▶ watch  (a new connection)
//!                           └──▶ receive ──▶ … ──▶ transmit                       (an old one)
//!                                                     └──▶ close / release        (either)
//! ```

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

mod account;
mod activation;
mod address;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod alarm;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub mod epoll;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod fd_table;
mod kind;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod listen;
mod machine;
mod name;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod option;
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
mod portable_listen;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod rights;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod send;
pub mod sim;
mod socket_file;

use bytes::Bytes;

pub use account::{group_id, user_id};
pub use activation::{ActivatedSocket, activated_sockets};
pub use address::{Address, AddressError, Peer};
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use alarm::Alarm;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use fd_table::{Handover, unshare_fd_table};
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use listen::{BACKLOG_MAX, BoundListener};
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use machine::{FileLimit, give_back_memory, raise_file_limit};
pub use machine::{open_files, read_kilobytes, thread_cpu_time};
pub use name::{local_address, local_unix_address, peer_unix_address};
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use option::{excess_bytes, held_bytes};
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
pub use portable_listen::BoundListener;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use rights::{MESSAGE_FDS_MAX, effective_user, peer_user, receive_fds, send_fds};
pub use socket_file::{FileAccess, FileIdentity, SocketFile};

/// How to open a listening socket.
#[derive(Clone, Copy, Default, Debug)]
pub struct ListenOptions {
    /// Several sockets may listen on the same port; the kernel spreads connections over them by hash. Ignored for Unix
    /// sockets, and where there are no drivers but [`sim`].
    pub reuse_port: bool,
    /// `[::]` serves IPv6 alone; without it, both versions.
    pub ipv6_only: bool,
    /// Who may connect, where a Unix socket is bound at a path.
    pub file: FileAccess,
}

/// The interface between an engine and the sockets of one core.
///
/// The order of calls: [`add_listener`](Driver::add_listener) once for each listener; then, again and again,
/// [`poll_wait`](Driver::poll_wait) until it is pending. A readable listener is accepted from; an accepted socket is
/// [watched](Driver::watch) once the engine has a place, and so a token, for it. Before that it can be received from and sent to
/// already: one that closes soon is never watched. A readable socket is received from until the kernel has no more: listeners are
/// level-triggered, sockets are edge-triggered.
///
/// Every method but `poll_wait` and `wait_directly` returns at once; only the latter blocks the thread.
pub trait Driver {
    /// A connected socket. Dropping it closes it.
    type Socket: fmt::Debug;
    /// A listening socket that belongs to this driver. Dropping it closes it.
    type Listener: fmt::Debug;
    /// A listening socket that is not yet part of a driver, and may have come from another thread.
    type Bound;
    /// Whether sockets have a descriptor that [`release`](Driver::release) can give away.
    const RELEASES: bool;

    /// Waits, as part of the task that `cx` stands for, until at least one event is there, then replaces the contents of
    /// `events` with at most [`Events::capacity`] of them. More may be there: call again before waiting elsewhere.
    ///
    /// # Errors
    /// Only when the kernel's readiness interface itself fails, which an engine cannot survive.
    fn poll_wait(&mut self, cx: &mut Context<'_>, events: &mut Events) -> Poll<io::Result<()>>;

    /// Begins a time of at most `duration` in which [`wait_directly`](Driver::wait_directly) waits. Returns whether it has begun: not every
    /// backend can wait without a runtime.
    fn begin_direct(&mut self, duration: Duration) -> bool {
        let _ = duration;
        false
    }

    /// As [`poll_wait`](Driver::poll_wait), on the thread itself: nothing else runs there until an event comes, a signal, or the end of the
    /// time that [`begin_direct`](Driver::begin_direct) has begun. Returns whether that goes on. Events may have come in either case.
    ///
    /// # Errors
    /// As [`poll_wait`](Driver::poll_wait).
    fn wait_directly(&mut self, events: &mut Events) -> io::Result<bool> {
        events.clear();
        Ok(false)
    }

    /// Takes a listener in. It is reported with `token`, as readable, for as long as connections wait in its backlog.
    ///
    /// # Errors
    /// What the system says about registering it.
    fn add_listener(&mut self, bound: Self::Bound, token: Token) -> io::Result<Self::Listener>;

    /// Stops (`false`) or resumes (`true`) the reports of a listener. Connections stay in its backlog meanwhile.
    ///
    /// # Errors
    /// What the system says about registering it.
    fn set_listening(&mut self, listener: &Self::Listener, token: Token, on: bool) -> io::Result<()>;

    /// Appends at most `max` waiting connections to `accepted`. A connection that died while it waited is skipped.
    fn accept(
        &mut self,
        listener: &Self::Listener,
        max: usize,
        accepted: &mut Vec<Accepted<Self::Socket>>,
    ) -> AcceptEnd;

    /// Starts the reports of a socket, under `token`, until it is closed or released. What is already there is reported too, so nothing
    /// is lost between a receive that came first and this.
    ///
    /// # Errors
    /// What the system says about registering it (out of memory, or of epoll watches).
    fn watch(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()>;

    /// Receives once from each of `sockets` into `area`, one behind the other, and appends one [`Received`] for each to
    /// `received`. At most `bytes_max` are taken from one socket. Ends early, with fewer results than sockets, when less than
    /// `bytes_max` is left of the area. A backend that can do better than one call after the other has its own.
    fn receive<'a>(
        &mut self,
        sockets: impl Iterator<Item = &'a Self::Socket>,
        bytes_max: usize,
        area: &mut [u8],
        received: &mut Vec<Received>,
    ) where
        Self: 'a,
    {
        let mut start = 0;
        for socket in sockets {
            let Some(room) = area.get_mut(start..start + bytes_max) else { return };
            let outcome = self.receive_into(socket, room);
            let taken = *outcome.as_ref().unwrap_or(&0);
            received.push(Received { start, outcome });
            start += taken;
        }
    }

    /// Receives once into `buffer`. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise the connection is dead.
    fn receive_into(&mut self, socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends, for each entry, as much as the kernel takes, and appends one result for each to `sent`: the bytes taken.
    /// Where that is less than was offered, an event says when there is room again: a socket that was not watched yet is, under
    /// the token of its entry; if that fails, the error is [`Unwatched`]. `WouldBlock` means none was taken. Of a long queue only the first chunks are offered: bytes may
    /// be left although none was refused.
    fn transmit<'a>(
        &mut self,
        entries: impl Iterator<Item = Transmit<'a, Self::Socket>>,
        sent: &mut Vec<io::Result<usize>>,
    ) where
        Self: 'a;

    /// Says to the peer that no more bytes will follow; receiving goes on. Errors show at the next receive.
    fn shutdown_write(&mut self, socket: &Self::Socket);

    /// Closes a socket.
    fn close(&mut self, socket: Self::Socket, how: Close);

    /// The descriptor of a socket, lent to whoever wants to know more of it; `None` where sockets have none.
    fn descriptor(socket: &Self::Socket) -> Option<BorrowedFd<'_>>;

    /// By how much the bytes that the system holds for a socket's peer are more than the room that the peer has announced; below zero, the room
    /// that is left. 0 where that cannot be told.
    fn excess_bytes(socket: &Self::Socket) -> i64;

    /// The peer of a socket reads what it is sent: from here on the system may hold more for it, where it holds less than is best for
    /// throughput. What is sent to it is no longer sent with [`Transmit::cautious`].
    fn hold_more(socket: &Self::Socket);

    /// Gives a socket away: it is no longer watched and belongs to whoever holds the descriptor.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where sockets have no descriptor.
    fn release(&mut self, socket: Self::Socket) -> io::Result<OwnedFd>;

    /// Starts to connect, from the address `source` where one is given: each has ports of its own, about 28,000 of them. The
    /// socket is watched under `token` at once; being writable means that it is connected, and the first receive or transmit
    /// tells of a failure. A Unix socket has no source.
    ///
    /// # Errors
    /// What the system says at once.
    fn connect(&mut self, address: &Address, source: Option<IpAddr>, token: Token) -> io::Result<Self::Socket>;
}

/// What an engine calls a socket or listener when it registers it; comes back in each [`Event`].
///
/// Sockets are closed while events about them may still be on the way, and places are used again: put a generation into the
/// upper half, and drop an event whose generation is not the current one. `u64::MAX - 1` is the
/// driver's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u64);

/// One socket or listener became ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The name given at registration.
    pub token: Token,
    /// There is something to receive or to accept, possibly the end of the stream.
    pub readable: bool,
    /// There is room to send again.
    pub writable: bool,
    /// The peer has ended its direction (FIN). Bytes sent before may still wait to be received.
    pub hangup: bool,
    /// The connection is dead in both directions (reset or failed).
    pub reset: bool,
}

/// A list of events with a maximum, reused from turn to turn.
#[derive(Debug)]
pub struct Events {
    pub(crate) list: Vec<Event>,
    pub(crate) capacity: usize,
}

impl Events {
    /// Room for `capacity` events. It bounds what one turn of an engine has to do.
    ///
    /// # Panics
    /// If `capacity` is 0.
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity > 0, "a list of no events would never report any");
        Self { list: Vec::with_capacity(capacity), capacity }
    }

    /// The most events that one wait reports.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many events the last wait reported.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no event is there.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The `index`-th event of the last wait.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, index: usize) -> Event {
        self.list[index]
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list.iter().copied()
    }

    /// Forgets all events.
    pub fn clear(&mut self) {
        self.list.clear();
    }
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its socket, non-blocking, not yet watched.
    pub socket: S,
    /// Who is at the other end.
    pub peer: Peer,
}

/// Why accepting ended.
#[derive(Debug)]
pub enum AcceptEnd {
    /// No connection is waiting any more.
    Drained,
    /// The maximum was reached; more may be waiting. If so, the next wait reports the listener again.
    Max,
    /// The system is out of something (files, memory). Existing connections are not affected; try again a little later, not
    /// at once.
    Exhausted(io::Error),
}

/// What one receive of a batch brought.
#[derive(Debug)]
pub struct Received {
    /// Where in the area the bytes start.
    pub start: usize,
    /// How many there are. `Ok(0)` is the end of the stream, `WouldBlock` means that nothing is there.
    pub outcome: io::Result<usize>,
}

/// What one connection has to send: first `front`, then the chunks of both parts of `queue`, in order.
#[derive(Debug)]
pub struct Transmit<'a, S> {
    /// Where to.
    pub socket: &'a S,
    /// The token that the socket is, or will be, watched under.
    pub token: Token,
    /// Bytes that lie in the engine's transmit area.
    pub front: &'a [u8],
    /// Bytes that the connection holds itself and that are sent from where they are.
    pub queue: [&'a [Bytes]; 2],
    /// The peer has not shown yet that it reads, so the system is given no more for it than what [`Driver::hold_more`] lifts.
    pub cautious: bool,
}

/// Why a send failed whose peer has no room, if the socket cannot be watched: nothing would say when there is room again. That is the
/// system's fault, not the peer's.
///
/// ```
/// use std::io;
///
/// use baiwan_driver::Unwatched;
///
/// let failed = io::Error::from(Unwatched(io::ErrorKind::OutOfMemory.into()));
/// let Unwatched(cause) = failed.downcast().unwrap();
/// assert_eq!(cause.kind(), io::ErrorKind::OutOfMemory);
/// ```
#[derive(Debug)]
pub struct Unwatched(pub io::Error);

impl fmt::Display for Unwatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot watch a connection: {}", self.0)
    }
}

impl std::error::Error for Unwatched {}

impl From<Unwatched> for io::Error {
    fn from(unwatched: Unwatched) -> Self {
        Self::other(unwatched)
    }
}

/// How a socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// What was sent still arrives, then the end of the stream.
    Orderly,
    /// What was not delivered yet is dropped and the peer sees a reset.
    Reset,
}
