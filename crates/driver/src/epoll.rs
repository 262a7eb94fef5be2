//! The Linux backend: one epoll instance per core, nested in Tokio's own.
//!
//! Tokio waits on one descriptor, ours, and hears of it only that something happened; the events themselves are fetched here.
//! Sockets are edge-triggered and watched for input only, so an idle connection costs no event; interest in output is added
//! when the kernel refuses bytes for the first time. Listeners are level-triggered. One that is shared by cores wakes all of
//! them, and the first to accept has it. `EPOLLEXCLUSIVE` has no effect through nested instances (`bench/listeners` counts it).
//!
//! The invariant: Tokio is waited for only after our instance reported fewer events than asked for, that is, was seen empty; and,
//! where a listener may still have connections that it was asked for before, was looked at once more since.
//!
//! A direct wait asks our instance, not Tokio's, and so saves one of two system calls for each wake-up. Its end is an alarm among the
//! sockets, set once for many waits: a timeout of some microseconds at each wait costs the kernel more than the call that is saved.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::option::{self, PIECE_BYTES_MIN, set_number};
use crate::send::{send, send_gathered, send_pieces};
use crate::{
    AcceptEnd, Accepted, Address, Alarm, BoundListener, Close, Driver, Event, Events, Peer, Token, Transmit, Unwatched,
};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Connections that died in the backlog are skipped; this many in one call, so that a storm of them cannot hold the core. When
/// nothing else came out of a call, the refusals do not concern single connections, whatever they say.
const ACCEPT_SKIPS_MAX: usize = 64;

/// The token of the driver's own alarm.
const ALARM: Token = Token(u64::MAX - 1);

const SOCKET_FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const INPUT: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
const INPUT_AND_OUTPUT: EventFlags = INPUT.union(EventFlags::OUT);

/// Readiness through epoll, bytes through `recv`, `send` and `sendmsg`.
pub struct EpollDriver {
    epoll: AsyncFd<OwnedFd>,
    /// Where the kernel writes its events; emptied before each wait.
    raw: Vec<epoll::Event>,
    /// A listener was left with connections, perhaps, after it was reported: Tokio hears of it only when another one comes.
    unsettled: bool,
    /// Ends direct waits.
    alarm: Alarm,
    /// It has been set, and was not seen to ring.
    is_direct: bool,
}

/// A TCP or Unix connection.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// A TCP or Unix listener.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl EpollDriver {
    /// Opens the epoll instance and registers it with the Tokio runtime that this is called within.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    ///
    /// # Panics
    /// Outside of a Tokio runtime with I/O enabled.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        // SAFETY: `fd` is an open epoll descriptor that the `AsyncFd` owns from here on; it is never taken out or replaced,
        // and `OwnedFd::as_raw_fd` always returns the descriptor that it owns.
        let epoll = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
        let alarm = add_alarm(&epoll, ALARM)?;
        Ok(Self { epoll, raw: Vec::new(), unsettled: false, alarm, is_direct: false })
    }

    /// A clock that reports itself, as readable, under `token`.
    ///
    /// # Errors
    /// When the process is out of files or memory.
    pub fn add_alarm(&mut self, token: Token) -> io::Result<Alarm> {
        add_alarm(&self.epoll, token)
    }

    fn note_fetched(&mut self, fetched: Fetched) {
        self.unsettled = fetched.may_be_more;
        self.is_direct &= !fetched.rang;
    }

    /// Has a socket reported when there is room to send, too, whether it was watched before or not.
    fn watch_output(&self, socket: &Socket, token: Token) -> Result<(), Unwatched> {
        let data = EventData::new_u64(token.0);
        let outcome = match epoll::modify(&self.epoll, &socket.0, data, INPUT_AND_OUTPUT) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, &socket.0, data, INPUT_AND_OUTPUT),
            outcome => outcome,
        };
        outcome.map_err(|error| Unwatched(watch_error(error)))
    }
}

impl fmt::Debug for EpollDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollDriver").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Driver for EpollDriver {
    type Socket = Socket;
    type Listener = Listener;
    type Bound = BoundListener;

    const RELEASES: bool = true;

    fn poll_wait(&mut self, cx: &mut Context<'_>, events: &mut Events) -> Poll<io::Result<()>> {
        events.clear();
        loop {
            let readiness = self.epoll.poll_read_ready(cx)?;
            if readiness.is_pending() && !self.unsettled {
                return Poll::Pending;
            }
            let fetched = match fetch(self.epoll.get_ref(), &mut self.raw, events, Some(&NOW)) {
                Err(Errno::INTR) => continue,
                outcome => outcome?,
            };
            if let Poll::Ready(mut readiness) = readiness
                && !fetched.may_be_more
            {
                readiness.clear_ready();
            }
            self.note_fetched(fetched);
            if !events.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn begin_direct(&mut self, duration: Duration) -> bool {
        self.is_direct = self.alarm.ring_in(duration).is_ok();
        self.is_direct
    }

    fn wait_directly(&mut self, events: &mut Events) -> io::Result<bool> {
        events.clear();
        if self.is_direct {
            match fetch(self.epoll.get_ref(), &mut self.raw, events, None) {
                Err(Errno::INTR) => {}
                outcome => self.note_fetched(outcome?),
            }
        }
        Ok(self.is_direct)
    }

    fn add_listener(&mut self, bound: BoundListener, token: Token) -> io::Result<Listener> {
        let listener = Listener(bound.into_fd());
        self.set_listening(&listener, token, true)?;
        Ok(listener)
    }

    fn set_listening(&mut self, listener: &Listener, token: Token, on: bool) -> io::Result<()> {
        let outcome = match on {
            true => epoll::add(&self.epoll, &listener.0, EventData::new_u64(token.0), EventFlags::IN),
            false => epoll::delete(&self.epoll, &listener.0),
        };
        match outcome {
            // It is as it was asked to be: an earlier change failed.
            Err(Errno::EXIST) if on => Ok(()),
            Err(Errno::NOENT) if !on => Ok(()),
            outcome => outcome.map_err(watch_error),
        }
    }

    fn accept(&mut self, listener: &Listener, max: usize, accepted: &mut Vec<Accepted<Socket>>) -> AcceptEnd {
        let end = accept_up_to(max, accepted, || {
            let (fd, name) = net::acceptfrom_with(&listener.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            let peer = name.and_then(|name| SocketAddr::try_from(name).ok()).map_or(Peer::Unix, Peer::Ip);
            Ok(Accepted { socket: Socket(fd), peer })
        });
        self.unsettled |= matches!(end, AcceptEnd::Max);
        end
    }

    fn watch(&mut self, socket: &Socket, token: Token) -> io::Result<()> {
        match epoll::add(&self.epoll, &socket.0, EventData::new_u64(token.0), INPUT) {
            // A short send was first.
            Err(Errno::EXIST) => Ok(()),
            outcome => outcome.map_err(watch_error),
        }
    }

    fn receive_into(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match net::recv(&socket.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                Ok((_, taken)) => return Ok(taken),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transmit<'a>(&mut self, entries: impl Iterator<Item = Transmit<'a, Socket>>, sent: &mut Vec<io::Result<usize>>) {
        for entry in entries {
            let is_alone = entry.queue.iter().all(|part| part.is_empty());
            let (outcome, offered) = match entry.cautious {
                _ if is_alone && (!entry.cautious || entry.front.len() < PIECE_BYTES_MIN) => {
                    (send(&entry.socket.0, entry.front), entry.front.len())
                }
                true => send_pieces(&entry.socket.0, entry.front, entry.queue),
                false => send_gathered(&entry.socket.0, entry.front, entry.queue),
            };
            let taken = match &outcome {
                Ok(taken) => *taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => offered,
            };
            // A short send says that the buffer is full. Adding the interest reports at once if there is room again already.
            let armed = match taken < offered {
                true => self.watch_output(entry.socket, entry.token),
                false => Ok(()),
            };
            sent.push(armed.map_err(io::Error::from).and(outcome));
        }
    }

    fn shutdown_write(&mut self, socket: &Socket) {
        let _ = net::shutdown(&socket.0, Shutdown::Write);
    }

    fn close(&mut self, socket: Socket, how: Close) {
        if how == Close::Reset {
            let _ = sockopt::set_socket_linger(&socket.0, Some(Duration::ZERO));
        }
        // The last descriptor of a socket takes its registration with it.
        drop(socket);
    }

    fn descriptor(socket: &Socket) -> Option<BorrowedFd<'_>> {
        Some(socket.0.as_fd())
    }

    fn excess_bytes(socket: &Socket) -> i64 {
        option::excess_bytes(&socket.0)
    }

    fn hold_more(socket: &Socket) {
        // A Unix socket has no such option, and goes on as before.
        let _ = option::set_unsent_max(&socket.0, option::UNSENT_BYTES_MAX_OF_SYSTEM);
    }

    fn release(&mut self, socket: Socket) -> io::Result<OwnedFd> {
        match epoll::delete(&self.epoll, &socket.0) {
            // It was not watched yet.
            Ok(()) | Err(Errno::NOENT) => Ok(socket.0),
            Err(error) => Err(error.into()),
        }
    }

    fn connect(&mut self, address: &Address, source: Option<IpAddr>, token: Token) -> io::Result<Socket> {
        let (fd, outcome) = match address {
            Address::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let fd = net::socket_with(family, SocketType::STREAM, SOCKET_FLAGS, None)?;
                sockopt::set_tcp_nodelay(&fd, true)?;
                if let Some(source) = source {
                    choose_port_when_connecting(&fd)?;
                    net::bind(&fd, &SocketAddr::new(source, 0))?;
                }
                let outcome = net::connect(&fd, address);
                (fd, outcome)
            }
            Address::Unix(path) => connect_unix(&SocketAddrUnix::new(path.as_path())?)?,
            Address::Abstract(name) => connect_unix(&SocketAddrUnix::new_abstract_name(name.as_bytes())?)?,
        };
        match outcome {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(&self.epoll, &fd, EventData::new_u64(token.0), INPUT_AND_OUTPUT).map_err(watch_error)?;
        Ok(Socket(fd))
    }
}

/// What a look at the instance has brought beside events.
struct Fetched {
    /// It reported as many events as were asked for.
    may_be_more: bool,
    /// The driver's own alarm was among them.
    rang: bool,
}

/// Appends what the instance reports within `timeout`, or without a limit, to `events`, which is empty.
fn fetch(
    epoll: &OwnedFd,
    raw: &mut Vec<epoll::Event>,
    events: &mut Events,
    timeout: Option<&Timespec>,
) -> Result<Fetched, Errno> {
    raw.clear();
    raw.reserve(events.capacity());
    // `spare_capacity` may be larger than asked for; the bound on a turn is the caller's.
    let room = &mut raw.spare_capacity_mut()[..events.capacity()];
    let (seen, _) = epoll::wait(epoll, room, timeout)?;
    events.list.extend(seen.iter().map(|event| decode(*event)).filter(|event| event.token != ALARM));
    Ok(Fetched { may_be_more: seen.len() == events.capacity(), rang: events.len() < seen.len() })
}

fn add_alarm(epoll: &impl AsFd, token: Token) -> io::Result<Alarm> {
    let alarm = Alarm::new()?;
    epoll::add(epoll, &alarm, EventData::new_u64(token.0), EventFlags::IN | EventFlags::ET)?;
    Ok(alarm)
}

fn connect_unix(name: &SocketAddrUnix) -> io::Result<(OwnedFd, Result<(), Errno>)> {
    let fd = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
    let outcome = net::connect(&fd, name);
    Ok((fd, outcome))
}

/// What epoll says when it takes a descriptor in. "No space left on device" would send its reader to the disks
/// (epoll_ctl(2), `ENOSPC`).
fn watch_error(error: Errno) -> io::Error {
    match error {
        Errno::NOSPC => {
            io::Error::other("this user has no more epoll watches: raise fs.epoll.max_user_watches (sysctl)")
        }
        error => error.into(),
    }
}

/// `IP_BIND_ADDRESS_NO_PORT` (ip(7)): binding to an address takes no port yet. Then a port is free for a connection as long as
/// no other goes from it to the same peer, not as long as nobody uses it at all. It holds for IPv6 as well.
fn choose_port_when_connecting(fd: &OwnedFd) -> io::Result<()> {
    set_number(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Accepts until the backlog is empty, `max` connections are there, or the system refuses more than single connections.
fn accept_up_to<S>(
    max: usize,
    accepted: &mut Vec<Accepted<S>>,
    mut accept: impl FnMut() -> Result<Accepted<S>, Errno>,
) -> AcceptEnd {
    let (mut taken, mut skipped) = (0, 0);
    while taken < max {
        match accept() {
            Ok(connection) => {
                accepted.push(connection);
                taken += 1;
            }
            Err(Errno::AGAIN) => return AcceptEnd::Drained,
            Err(error) if !concerns_one_connection(error) => return AcceptEnd::Exhausted(error.into()),
            Err(error) => {
                skipped += 1;
                if skipped == ACCEPT_SKIPS_MAX {
                    return if taken == 0 { AcceptEnd::Exhausted(error.into()) } else { AcceptEnd::Max };
                }
            }
        }
    }
    AcceptEnd::Max
}

/// Whether an error of accept says only that the connection about to come out is gone (accept(2), "Error handling"), that a
/// firewall forbids it, or that a signal came.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
    )
}

fn decode(event: epoll::Event) -> Event {
    let flags = event.flags;
    Event {
        token: Token(event.data.u64()),
        readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
        writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
        hangup: flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
        reset: flags.contains(EventFlags::ERR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of calls that end so, one after the other; the last ending repeats. Also says how many calls there were.
    fn accept(endings: &[Result<(), Errno>], max: usize) -> (AcceptEnd, usize, usize) {
        let (mut accepted, mut calls) = (Vec::new(), 0);
        let end = accept_up_to(max, &mut accepted, || {
            let ending = endings[calls.min(endings.len() - 1)];
            calls += 1;
            ending.map(|()| Accepted { socket: (), peer: Peer::Unix })
        });
        (end, accepted.len(), calls)
    }

    #[test]
    fn a_lack_of_epoll_watches_is_not_called_one_of_disk_space() {
        let said = watch_error(Errno::NOSPC).to_string();
        assert!(said.contains("fs.epoll.max_user_watches") && !said.contains("device"), "{said}");
        assert_eq!(watch_error(Errno::NOMEM).raw_os_error(), Some(Errno::NOMEM.raw_os_error()));
    }

    #[tokio::test]
    async fn a_peer_is_not_blamed_for_a_socket_that_cannot_be_watched() {
        let driver = EpollDriver::new().unwrap();
        // epoll takes no regular files.
        let file = Socket(std::fs::File::open("Cargo.toml").unwrap().into());
        let Unwatched(cause) =
            io::Error::from(driver.watch_output(&file, Token(1 << 32)).unwrap_err()).downcast().unwrap();
        assert_eq!(cause.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    }

    #[test]
    fn row_47_a_refusal_of_one_connection_is_skipped() {
        for error in [Errno::CONNABORTED, Errno::INTR, Errno::PERM, Errno::PROTO, Errno::NETDOWN, Errno::TIMEDOUT] {
            let (end, accepted, _) = accept(&[Ok(()), Err(error), Ok(()), Err(error), Err(Errno::AGAIN)], 64);
            assert!(matches!(end, AcceptEnd::Drained), "{error}: {end:?}");
            assert_eq!(accepted, 2, "{error}");
        }
    }

    #[test]
    fn row_47_a_lack_of_files_or_memory_ends_the_call() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL, Errno::BADF] {
            let (end, accepted, calls) = accept(&[Ok(()), Err(error)], 64);
            assert!(matches!(&end, AcceptEnd::Exhausted(said) if said.raw_os_error() == Some(error.raw_os_error())));
            assert_eq!((accepted, calls), (1, 2), "{error}");
        }
    }

    #[test]
    fn row_47_a_refusal_that_does_not_end_is_waited_out() {
        for error in [Errno::PERM, Errno::CONNABORTED, Errno::INTR] {
            let (end, _, calls) = accept(&[Err(error)], 64);
            assert!(matches!(&end, AcceptEnd::Exhausted(said) if said.raw_os_error() == Some(error.raw_os_error())));
            assert_eq!(calls, ACCEPT_SKIPS_MAX);
            // Among many, some may still get through: then there may be more.
            let (end, accepted, calls) = accept(&[Ok(()), Err(error)], 64);
            assert!(matches!(end, AcceptEnd::Max), "{end:?}");
            assert_eq!((accepted, calls), (1, 1 + ACCEPT_SKIPS_MAX));
        }
    }
}
