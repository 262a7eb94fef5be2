//! One slot: all that an idle connection owns, and what a busy one holds beside it.

use std::num::NonZeroU32;

use baiwan_driver::Peer;
use baiwan_http1::{BodyDecoder, HeadDecoder};
use tokio::time::Instant;

use super::peer::CompactPeer;
use super::slab::Slab;
use super::state::State;
use super::wheel;
use crate::clock::Tick;
use crate::delivery::Delivery;
use crate::engine::chunks::Chunks;
use crate::engine::exchange::Pending;
use crate::own_answer::Asked;
use crate::pace::Pace;
use crate::recorder::Draft;

/// What is known about a connection beside its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct Flags(u32);

impl Flags {
    pub(in crate::engine) const NONE: Self = Self(0);
    /// There may be something to receive: set by an event, cleared by an empty or a short receive.
    pub(in crate::engine) const READABLE: Self = Self(1);
    /// The peer has ended its direction. Stays.
    pub(in crate::engine) const HANGUP: Self = Self(2);
    /// The kernel refused bytes, and an event will say when there is room.
    pub(in crate::engine) const BLOCKED: Self = Self(4);
    /// The connection is in the ready queue.
    pub(in crate::engine) const QUEUED: Self = Self(8);
    /// What is set aside may hold a whole head.
    pub(in crate::engine) const INPUT: Self = Self(16);
    /// A part of its last answer would look like the whole one if the connection ended in order.
    pub(in crate::engine) const TORN: Self = Self(32);
    /// Not counted among the connections: turned away at the maximum, the server's or that of one client.
    pub(in crate::engine) const UNCOUNTED: Self = Self(64);
    /// The request that is being answered is a HEAD: its answer has no body, errors included.
    pub(in crate::engine) const HEAD_REQUEST: Self = Self(128);
    /// The connection has a part in the batch that leaves next; it has one at the most.
    pub(in crate::engine) const SENDING: Self = Self(256);
    /// The last answer leaves in the middle of a well-framed body: the peer has time to send the rest, and to read.
    pub(in crate::engine) const UPLOADING: Self = Self(512);
    /// Read beyond the maximum of connections, for a request for the server's health. It is `UNCOUNTED` too.
    pub(in crate::engine) const PROBE: Self = Self(1024);
    /// An app of the connection's own is kept.
    pub(in crate::engine) const APP: Self = Self(2048);
    /// A header of the PROXY protocol comes before the first request.
    pub(in crate::engine) const PROXIED: Self = Self(4096);
    /// Counted among those of its client, who is the peer.
    pub(in crate::engine) const CLIENT: Self = Self(8192);

    /// What it has sent has waited too long on an overloaded core: it is refused. Set for one visit only.
    pub(in crate::engine) const LATE: Self = Self(1 << 14);
    /// The peer has shown that it reads. Stays.
    pub(in crate::engine) const READER: Self = Self(1 << 15);
    /// The connection is in the queue of those that wait for their request to be served.
    pub(in crate::engine) const WAITING: Self = Self(1 << 16);
    /// A receive has found nothing. Stays: it says something of connections that are new.
    pub(in crate::engine) const SILENT: Self = Self(1 << 17);
    /// The peer has said that the request which is being answered is its last, and nothing was there behind it.
    pub(in crate::engine) const PARTING: Self = Self(1 << 18);

    /// The bits from this one on count what the kernel has taken of large answers.
    const TAKEN_SHIFT: u32 = 24;
    /// In units of this number of bytes. What it takes less of at once is not counted.
    const TAKEN_UNIT: usize = 16 << 10;
    const TAKEN_UNITS_MAX: u32 = u32::MAX >> Self::TAKEN_SHIFT;

    /// The kernel has taken `count` bytes at once. Returns whether the count has just come to its end, at almost 4 MiB.
    #[inline]
    pub(in crate::engine) fn add_taken(&mut self, count: usize) -> bool {
        let units = (count / Self::TAKEN_UNIT).min((Self::TAKEN_UNITS_MAX - self.taken_units()) as usize) as u32;
        self.0 += units << Self::TAKEN_SHIFT;
        units > 0 && self.taken_units() == Self::TAKEN_UNITS_MAX
    }

    /// Bytes that the kernel has taken of large answers since the connection began, at least, as far as they are counted.
    #[inline]
    pub(in crate::engine) fn taken(self) -> u64 {
        u64::from(self.taken_units()) * Self::TAKEN_UNIT as u64
    }

    fn taken_units(self) -> u32 {
        self.0 >> Self::TAKEN_SHIFT
    }

    /// Whether it has one of those of `other`.
    pub(in crate::engine) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(in crate::engine) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(in crate::engine) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Slots in a chunk: with 64 bytes each, 64 KiB.
const SLOTS_CHUNK: usize = 1024;

/// The connections of a core.
pub(super) type Slots<S> = Slab<Slot<S>, SLOTS_CHUNK>;

/// Where a part lives that only some connections have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(NonZeroU32);

impl Key {
    /// The key of what was inserted at `index`.
    pub(super) fn new(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    #[inline]
    pub(super) fn index(self) -> u32 {
        self.0.get() - 1
    }
}

/// All that an idle connection owns.
// Aligned so that a slot is found by a shift, and one more key finds room.
#[derive(Debug)]
#[repr(align(8))]
pub(in crate::engine) struct Slot<S> {
    pub(in crate::engine) socket: S,
    pub(in crate::engine) deadline: Tick,
    pub(in crate::engine) link: wheel::Link,
    pub(in crate::engine) peer: CompactPeer,
    pub(in crate::engine) state: State,
    pub(in crate::engine) flags: Flags,
    pub(super) busy: Option<Key>,
}

/// What a connection holds while it is not idle.
#[derive(Debug)]
pub(in crate::engine) struct Busy {
    /// Received and not parsed; none where there are no bytes.
    pub(in crate::engine) set_aside: Option<Box<SetAside>>,
    /// Owed to the peer, in order.
    pub(in crate::engine) output: Chunks,
    /// A handler or response body that is being waited for.
    pub(in crate::engine) exchange: Option<Pending>,
    /// The record of the exchange that is going on, or whose answer is being sent, if somebody wants one.
    pub(in crate::engine) draft: Option<Box<Draft>>,
    /// What the request that is being answered asked for, if that matters to an answer of the server's own.
    pub(in crate::engine) asked: Option<Box<Asked>>,
    /// The rest of a request's body that nobody reads any more (`Discard`).
    pub(in crate::engine) unread: Option<Box<BodyDecoder>>,
    /// How long the request's body is waited for, once somebody has waited.
    pub(in crate::engine) pace: Option<Box<Pace>>,
    /// The whole of the request's body must be there by then.
    pub(in crate::engine) body_ends: Tick,
    pub(in crate::engine) request_due: Tick,
    /// A peer that has taken nothing is given up then.
    pub(in crate::engine) write_due: Tick,
    /// When the age of its connection is reached, then when the exchange that goes on has had its grace.
    pub(in crate::engine) age_due: Tick,
    /// How fast the peer takes what is owed.
    pub(in crate::engine) delivery: Delivery,
}

/// What was received and is not parsed: part of a head, or requests that wait for their turn.
#[derive(Debug)]
pub(in crate::engine) struct SetAside {
    /// At least one, and at most `Terms::set_aside_bytes_max`.
    pub(in crate::engine) bytes: Vec<u8>,
    /// How much of them is checked already.
    pub(in crate::engine) head: HeadDecoder,
    /// When those had come that wait for the next turn, if somebody wants records.
    pub(in crate::engine) arrived: Option<Instant>,
}

impl Busy {
    pub(in crate::engine) fn new() -> Self {
        Self {
            set_aside: None,
            output: Chunks::None,
            exchange: None,
            draft: None,
            asked: None,
            unread: None,
            pace: None,
            body_ends: Tick::NEVER,
            request_due: Tick::NEVER,
            write_due: Tick::NEVER,
            age_due: Tick::NEVER,
            delivery: Delivery::default(),
        }
    }

    /// What was received and is not parsed.
    #[inline]
    pub(in crate::engine) fn set_aside_bytes(&self) -> &[u8] {
        self.set_aside.as_ref().map_or(&[], |set_aside| &set_aside.bytes)
    }

    /// Has more wait behind that.
    pub(in crate::engine) fn set_aside_more(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let empty = || Box::new(SetAside { bytes: Vec::new(), head: HeadDecoder::default(), arrived: None });
        self.set_aside.get_or_insert_with(empty).bytes.extend_from_slice(bytes);
    }

    /// What was asked for.
    pub(in crate::engine) fn asked(&self) -> &Asked {
        self.asked.as_deref().unwrap_or(const { &Asked::NONE })
    }

    /// The same, to change it.
    pub(in crate::engine) fn asked_mut(&mut self) -> &mut Asked {
        self.asked.get_or_insert_default()
    }

    /// Keeps what was asked for.
    pub(in crate::engine) fn ask(&mut self, asked: Asked) {
        self.asked = (asked != Asked::NONE).then(|| Box::new(asked));
    }

    /// How long the request's body is waited for.
    pub(in crate::engine) fn pace_mut(&mut self) -> &mut Pace {
        self.pace.get_or_insert_with(|| Box::new(Pace::begin(self.body_ends)))
    }

    /// Nobody waits for the request's body any more.
    pub(in crate::engine) fn stop_pace(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.stop();
        }
    }

    /// Until when the request's body is waited for; never, when nobody waits.
    pub(in crate::engine) fn pace_due(&self) -> Tick {
        self.pace.as_ref().map_or(Tick::NEVER, |pace| pace.due())
    }

    /// The least of the deadlines that an exchange can have.
    pub(in crate::engine) fn due(&self) -> Tick {
        self.request_due.min(self.pace_due()).min(self.write_due).min(self.delivery.due()).min(self.age_due)
    }
}

impl<S> Slot<S> {
    pub(in crate::engine) fn new(socket: S, peer: Peer) -> Self {
        Self {
            socket,
            deadline: Tick::NEVER,
            link: wheel::Link::UNLINKED,
            peer: CompactPeer::from(peer),
            state: State::Idle,
            flags: Flags::NONE,
            busy: None,
        }
    }

    /// Stores a new deadline. Returns whether the wheel must know: most deadlines move away, and then it looks here in time.
    pub(in crate::engine) fn put_off(&mut self, deadline: Tick) -> bool {
        self.deadline = deadline;
        !self.link.fires_by(deadline)
    }

    /// Whether the connection waits for a request, and has none that waits for it.
    pub(in crate::engine) fn is_quiet(&self) -> bool {
        self.state == State::Idle && !self.flags.has(Flags::INPUT)
    }

    /// Whether a request may be there.
    pub(in crate::engine) fn has_request(&self) -> bool {
        self.flags.has(Flags::INPUT) || self.flags.has(Flags::READABLE)
    }
}

impl<S> wheel::Slots for Slots<S> {
    fn link(&mut self, index: u32) -> &mut wheel::Link {
        &mut self[index].link
    }

    fn deadline(&self, index: u32) -> Tick {
        self[index].deadline
    }
}

#[cfg(test)]
mod tests {
    use baiwan_driver::epoll::Socket;

    use super::*;

    #[test]
    fn promise_2_an_idle_connection_is_one_small_slot() {
        const { assert!(Slots::<Socket>::ENTRY_BYTES == 64) };
    }

    #[test]
    fn what_a_busy_connection_holds_is_small() {
        const { assert!(Slab::<Busy, 1>::ENTRY_BYTES <= 136) };
    }

    #[test]
    fn large_answers_are_counted_beside_the_flags() {
        let all = Flags::PARTING;
        let mut flags = all;
        assert!(!flags.add_taken(16_383) && flags.taken() == 0);
        assert!(!flags.add_taken(65_600) && flags.taken() == 65_536);
        assert!(!flags.add_taken(250 * 16_384) && flags.add_taken(1 << 30) && flags.taken() == 255 * 16_384);
        assert!(!flags.add_taken(16_384), "it came to its end before");
        assert!(flags.has(all) && flags.0 << 8 == all.0 << 8);
    }

    #[test]
    fn a_slot_has_room_for_the_key_of_one_more_part() {
        const KEY: usize = size_of::<Option<Key>>();
        const FIELDS: usize = size_of::<Socket>()
            + size_of::<Tick>()
            + size_of::<wheel::Link>()
            + size_of::<CompactPeer>()
            + size_of::<State>()
            + size_of::<Flags>()
            + KEY;
        const { assert!(FIELDS + KEY <= size_of::<Slot<Socket>>()) };
    }
}
