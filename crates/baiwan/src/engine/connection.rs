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
//! | `Drain` | the rest of a body nobody reads | `DRAIN_TIMEOUT` | closed |
//! | `Linger` | the peer's end of stream | `DRAIN_TIMEOUT` | closed |
//!
//! The invariant: an `Idle` slot holds no [`Active`], and so nothing on the heap.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;

use baiwan_driver::Peer;
use baiwan_http1::{BodyDecoder, HeadDecoder};
use bytes::Bytes;
use tokio::task::AbortHandle;

use super::exchange::Link;
use super::feed::DISCARD_BYTES_MAX;
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
    pub(super) discarded: Discarded,
    pub(super) active: Option<Box<Active>>,
}

/// What was discarded in `Drain` or `Linger`, in units of 256 bytes, rounded up each time: a slot has one byte for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Discarded(u8);

impl Discarded {
    pub(super) const NOTHING: Self = Self(0);
    const UNIT_BYTES: usize = 256;

    /// Adds so many bytes. Returns whether all of it still stays below [`DISCARD_BYTES_MAX`].
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let units = u8::try_from(bytes.div_ceil(Self::UNIT_BYTES)).ok();
        match units.and_then(|units| self.0.checked_add(units)) {
            Some(sum) => *self = Self(sum),
            None => return false,
        }
        true
    }
}

const _: () = assert!(DISCARD_BYTES_MAX == (u8::MAX as usize + 1) * Discarded::UNIT_BYTES);

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
            discarded: Discarded::NOTHING,
            active: None,
        }
    }

    pub(super) fn activate(&mut self) -> &mut Active {
        self.active.get_or_insert_with(|| Box::new(Active::new()))
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

/// A peer's address in 23 bytes instead of 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactPeer {
    ip: [u8; 16],
    scope: [u8; 4],
    port: [u8; 2],
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
    Unix,
}

impl From<Peer> for CompactPeer {
    fn from(peer: Peer) -> Self {
        let mut compact = Self { ip: [0; 16], scope: [0; 4], port: [0; 2], family: Family::Unix };
        if let Peer::Ip(address) = peer {
            compact.port = address.port().to_ne_bytes();
            match address {
                SocketAddr::V4(address) => {
                    compact.ip[..4].copy_from_slice(&address.ip().octets());
                    compact.family = Family::V4;
                }
                SocketAddr::V6(address) => {
                    compact.ip = address.ip().octets();
                    compact.scope = address.scope_id().to_ne_bytes();
                    compact.family = Family::V6;
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
            Family::V6 => {
                let scope = u32::from_ne_bytes(self.scope);
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(self.ip), port, 0, scope))
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
