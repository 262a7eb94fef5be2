//! A connection as the engine knows it: one slot, and what it holds while it is not idle.
//!
//! ```text
//!             bytes, not a whole head        head complete
//!   ┌─────── Idle ─────────────▶ Head ─────────────────┐
//!   │         ▲ │                                      ▼
//!   │         │ └───────────── head complete ──▶ (handler is polled once)
//!   │         │                                   │ ready      │ pending
//!   │         │◀── answered, all sent ────────────┤            ▼
//!   │         │                                   │         Exchange ── task finished
//!   │         │◀── all sent ── Flush ◀────────────┘            │
//!   │         │                 │ ▲                            │
//!   │         │◀─ body over ─ Drain └──────────────────────────┘
//!   │                           │
//!   └──▶ closed ◀── Linger ◀────┘  write side shut, input discarded
//! ```
//!
//! | state | waits for | deadline | when it passes |
//! |---|---|---|---|
//! | `Idle` | the first byte of a request | keep-alive timeout | closed |
//! | `Head` | the rest of the head | header timeout, from the first byte | 408, closed |
//! | `Exchange` | the handler, its body, the request's body | the least of: request timeout (until the response head), body, write | 503; 408; reset |
//! | `Flush` | room to send | write timeout, from the last progress | reset |
//! | `Drain` | the rest of a body nobody reads | `Linger::SHORT` | lingers |
//! | `Linger` | the peer's end of stream | `Linger::SHORT`, or `Linger::UPLOAD` in the middle of a body | closed |
//!
//! The invariant: an `Idle` slot holds no [`Active`], and so nothing on the heap; but for bytes that begin no request (empty
//! lines, at most `leading_crlf_max` of them), and requests that wait for their turn (`Flags::INPUT`).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;

use baiwan_driver::Peer;
use baiwan_http1::{BodyDecoder, HeadDecoder, begins_request};
use bytes::Bytes;
use tokio::task::AbortHandle;

use super::exchange::Link;
use super::pace::Pace;
use super::slab::Slab;
use super::wheel::{self, Slots};
use crate::clock::Tick;
use crate::status::CloseReason;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    Idle,
    Head,
    Exchange,
    Flush,
    Drain,
    Linger,
}

/// What is known about a connection beside its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// There may be something to receive: set by an event, cleared by an empty or a short receive.
    pub(super) const READABLE: Self = Self(1);
    /// The peer has ended its direction. Stays.
    pub(super) const HANGUP: Self = Self(2);
    /// The kernel refused bytes, and an event will say when there is room.
    pub(super) const BLOCKED: Self = Self(4);
    /// The connection is in the ready queue.
    pub(super) const QUEUED: Self = Self(8);
    /// What is set aside may hold a whole head.
    pub(super) const INPUT: Self = Self(16);
    /// Nothing more is answered: when all is sent, linger.
    pub(super) const CLOSING: Self = Self(32);
    /// Not counted among the connections: turned away at the maximum.
    pub(super) const UNCOUNTED: Self = Self(64);
    /// The request that is being answered is a HEAD: its answer has no body, errors included.
    pub(super) const HEAD_REQUEST: Self = Self(128);
    /// The connection has a part in the batch that leaves next; it has one at the most.
    pub(super) const SENDING: Self = Self(256);
    /// The last answer leaves in the middle of a well-framed body: the peer has time to send the rest, and to read.
    pub(super) const UPLOADING: Self = Self(512);
    /// Read beyond the maximum of connections, for a request for the server's health. It is `UNCOUNTED` too.
    pub(super) const PROBE: Self = Self(1024);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// All that an idle connection owns.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) socket: S,
    pub(super) deadline: Tick,
    pub(super) link: wheel::Link,
    pub(super) peer: CompactPeer,
    pub(super) state: State,
    pub(super) flags: Flags,
    /// The reason to count once the connection has lingered.
    pub(super) reason: CloseReason,
    /// Bytes that may still be discarded in `Drain` or `Linger`.
    pub(super) discardable: u32,
    pub(super) active: Option<Box<Active>>,
}

/// What a connection holds while it is not idle.
#[derive(Debug)]
pub(super) struct Active {
    /// Received and not parsed: part of a head, or requests that wait for their turn. At most `SET_ASIDE_BYTES_MAX`.
    pub(super) set_aside: Vec<u8>,
    /// How much of `set_aside` is checked already.
    pub(super) head: HeadDecoder,
    /// Owed to the peer, in order.
    pub(super) output: VecDeque<Bytes>,
    pub(super) exchange: Option<Exchange>,
    /// The rest of a request's body that nobody reads any more (`Drain`).
    pub(super) unread: Option<BodyDecoder>,
    pub(super) request_due: Tick,
    /// How long the request's body is waited for.
    pub(super) pace: Pace,
    pub(super) write_due: Tick,
}

/// A handler or response body that is being waited for, in a task of its own.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) link: Rc<Link>,
    pub(super) task: AbortHandle,
}

impl Exchange {
    /// Whether somebody may still read the request's body.
    pub(super) fn awaits_body(&self) -> bool {
        self.link.with_feed(|feed| feed.as_ref().is_some_and(|feed| feed.stream.is_held()))
    }
}

impl Active {
    pub(super) fn new() -> Self {
        Self {
            set_aside: Vec::new(),
            head: HeadDecoder::default(),
            output: VecDeque::new(),
            exchange: None,
            unread: None,
            request_due: Tick::NEVER,
            pace: Pace::NONE,
            write_due: Tick::NEVER,
        }
    }

    /// The least of the deadlines that an exchange can have.
    pub(super) fn due(&self) -> Tick {
        self.request_due.min(self.pace.due()).min(self.write_due)
    }
}

impl<S> Slot<S> {
    pub(super) fn new(socket: S, peer: Peer) -> Self {
        Self {
            socket,
            deadline: Tick::NEVER,
            link: wheel::Link::UNLINKED,
            peer: CompactPeer::from(peer),
            state: State::Idle,
            flags: Flags::NONE,
            reason: CloseReason::PeerClosed,
            discardable: 0,
            active: None,
        }
    }

    /// Stores a new deadline. Returns whether the wheel must know: most deadlines move away, and then it looks here in time.
    pub(super) fn put_off(&mut self, deadline: Tick) -> bool {
        self.deadline = deadline;
        !self.link.fires_by(deadline)
    }

    pub(super) fn activate(&mut self) -> &mut Active {
        self.active.get_or_insert_with(|| Box::new(Active::new()))
    }

    /// Whether part of a request, or a whole one, is set aside.
    pub(super) fn holds_request(&self) -> bool {
        self.active.as_ref().is_some_and(|active| begins_request(&active.set_aside))
    }

    /// Counts bytes that are discarded. Returns whether more may come.
    pub(super) fn discard(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.discardable.checked_sub(bytes));
        self.discardable = left.unwrap_or(0);
        left.is_some()
    }

    pub(super) fn owes(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !active.output.is_empty())
    }
}

impl<S> Slots for Slab<Slot<S>> {
    fn link(&mut self, index: u32) -> &mut wheel::Link {
        &mut self.get_mut(index).expect("a linked slot is in use").link
    }

    fn deadline(&self, index: u32) -> Tick {
        self.get(index).expect("a linked slot is in use").deadline
    }
}

/// A peer's address in 19 bytes instead of 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactPeer {
    ip: [u8; 16],
    port: [u8; 2],
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
    /// A link-local address, with its scope in `SCOPE_BYTES`.
    V6Scoped,
    Unix,
}

/// Bytes of a link-local address that are zero (RFC 4291, section 2.5.6). No other kind of peer has a scope.
const SCOPE_BYTES: std::ops::Range<usize> = 4..8;

impl From<Peer> for CompactPeer {
    fn from(peer: Peer) -> Self {
        let mut compact = Self { ip: [0; 16], port: [0; 2], family: Family::Unix };
        if let Peer::Ip(address) = peer {
            compact.port = address.port().to_ne_bytes();
            match address {
                SocketAddr::V4(address) => {
                    compact.ip[..4].copy_from_slice(&address.ip().octets());
                    compact.family = Family::V4;
                }
                SocketAddr::V6(address) => {
                    compact.ip = address.ip().octets();
                    compact.family = Family::V6;
                    if address.scope_id() != 0 && compact.ip[SCOPE_BYTES] == [0; 4] {
                        compact.ip[SCOPE_BYTES].copy_from_slice(&address.scope_id().to_ne_bytes());
                        compact.family = Family::V6Scoped;
                    }
                }
            }
        }
        compact
    }
}

impl CompactPeer {
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.family, Family::Unix)
    }

    pub(super) fn expand(&self) -> SocketAddr {
        let [a, b, c, d, ..] = self.ip;
        let port = u16::from_ne_bytes(self.port);
        let v4 = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        match self.family {
            Family::V4 => SocketAddr::new(v4, port),
            Family::V6 => SocketAddr::new(Ipv6Addr::from(self.ip).into(), port),
            Family::V6Scoped => {
                let (mut ip, mut scope) = (self.ip, [0; 4]);
                scope.swap_with_slice(&mut ip[SCOPE_BYTES]);
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, u32::from_ne_bytes(scope)))
            }
            Family::Unix => Peer::Unix.socket_address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn promise_2_an_idle_connection_is_one_small_slot() {
        const { assert!(Slab::<Slot<baiwan_driver::epoll::Socket>>::ENTRY_BYTES <= 64) };
    }

    #[test]
    fn a_peer_survives_being_made_small() {
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535", "[fe80::1%7]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(CompactPeer::from(Peer::Ip(address)).expand(), address);
        }
        assert_eq!(CompactPeer::from(Peer::Unix).expand(), Peer::Unix.socket_address());
    }
}
