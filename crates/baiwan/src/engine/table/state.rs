//! The states of a connection.
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
//!   │         │◀ body over ─ Discard └──────────────────────────┘
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
//! | `Discard` | the rest of a body nobody reads | `Linger::SHORT` | lingers |
//! | `Linger` | the peer's end of stream | `Linger::SHORT`, or `Linger::UPLOAD` in the middle of a body | closed |
//!
//! | from | may become |
//! |---|---|
//! | `Idle` | `Idle`, `Head`, `Exchange`, `Flush`, `Linger` |
//! | `Head` | `Idle`, `Head`, `Exchange`, `Flush`, `Linger` |
//! | `Exchange` | `Flush` |
//! | `Flush` | `Idle`, `Flush`, `Discard`, `Linger` |
//! | `Discard` | `Idle`, `Linger` |
//! | `Linger` | |
//!
//! Any of them may end. The invariant: an `Idle` slot holds no `Busy`, and so nothing on the heap; but for bytes that begin no request
//! (empty lines, at most `leading_crlf_max` of them), and requests that wait for their turn (`Flags::INPUT`).

use crate::status::{CloseReason, ConnectionState};

/// What a connection waits for, with what is valid meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum State {
    Idle,
    Head,
    Exchange,
    /// `last` is why the connection ends when all is sent; none where it goes on.
    Flush {
        last: Option<CloseReason>,
    },
    /// `left` is what is still received of a body that nobody reads.
    Discard {
        left: Left,
    },
    /// `reason` is counted at the end, `left` is what is still received until then.
    Linger {
        reason: CloseReason,
        left: Left,
    },
}

/// The states' names, in the order of their numbers.
#[cfg(test)]
const NAMES: [&str; 6] = ["Idle", "Head", "Exchange", "Flush", "Discard", "Linger"];

/// Which states may follow each, as bits of their numbers.
const EDGES: [u8; 6] = [
    bits(&[IDLE, HEAD, EXCHANGE, FLUSH, LINGER]),
    bits(&[IDLE, HEAD, EXCHANGE, FLUSH, LINGER]),
    bits(&[FLUSH]),
    bits(&[IDLE, FLUSH, DISCARD, LINGER]),
    bits(&[IDLE, LINGER]),
    bits(&[]),
];

const IDLE: usize = 0;
const HEAD: usize = 1;
const EXCHANGE: usize = 2;
const FLUSH: usize = 3;
const DISCARD: usize = 4;
const LINGER: usize = 5;

const fn bits(states: &[usize]) -> u8 {
    let (mut bits, mut at) = (0, 0);
    while at < states.len() {
        bits |= 1 << states[at];
        at += 1;
    }
    bits
}

impl State {
    /// How many states there are.
    pub(super) const COUNT: usize = EDGES.len();

    /// What each is to an operator, by its number.
    pub(super) const SHOWN: [ConnectionState; Self::COUNT] = [
        ConnectionState::Idle,
        ConnectionState::Receiving,
        ConnectionState::Handling,
        ConnectionState::Sending,
        ConnectionState::Receiving,
        ConnectionState::Closing,
    ];

    /// Whether the engine receives of its own accord.
    pub(in crate::engine) fn receives(self) -> bool {
        matches!(self, Self::Idle | Self::Head | Self::Discard { .. } | Self::Linger { .. })
    }

    /// Whether what arrives next is a request.
    pub(in crate::engine) fn expects_request(self) -> bool {
        matches!(self, Self::Idle | Self::Head)
    }

    /// Whether `next` may follow.
    pub(super) fn may_become(self, next: Self) -> bool {
        EDGES[self.number()] & (1 << next.number()) != 0
    }

    /// Its number, from 0 on.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Idle => IDLE,
            Self::Head => HEAD,
            Self::Exchange => EXCHANGE,
            Self::Flush { .. } => FLUSH,
            Self::Discard { .. } => DISCARD,
            Self::Linger { .. } => LINGER,
        }
    }
}

/// Bytes that may still be discarded: a number of 32 bits without its alignment, for which a slot has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct Left([u8; 4]);

impl Left {
    pub(in crate::engine) fn new(bytes: u32) -> Self {
        Self(bytes.to_ne_bytes())
    }

    /// Counts bytes that are discarded. Returns whether more may come.
    pub(in crate::engine) fn take(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| u32::from_ne_bytes(self.0).checked_sub(bytes));
        *self = Self::new(left.unwrap_or(0));
        left.is_some()
    }
}

/// Which edges were taken, for the simulator.
#[cfg(any(test, feature = "simulation"))]
pub(in crate::engine) mod taken {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::State;
    #[cfg(test)]
    use super::{EDGES, NAMES};

    static TAKEN: AtomicU64 = AtomicU64::new(0);

    pub(super) fn note(from: State, to: State) {
        TAKEN.fetch_or(1 << (from.number() * 8 + to.number()), Relaxed);
    }

    /// Edges that no connection of this process has taken.
    #[cfg(test)]
    pub(in crate::engine) fn missing() -> Vec<(&'static str, &'static str)> {
        let taken = TAKEN.load(Relaxed);
        let edges = (0..NAMES.len()).flat_map(|from| (0..NAMES.len()).map(move |to| (from, to)));
        let missing = edges.filter(|(from, to)| EDGES[*from] & (1 << to) != 0 && taken & (1 << (from * 8 + to)) == 0);
        missing.map(|(from, to)| (NAMES[from], NAMES[to])).collect()
    }
}

/// Notes an edge that a connection takes.
pub(super) fn note_edge(from: State, to: State) {
    #[cfg(any(test, feature = "simulation"))]
    taken::note(from, to);
    #[cfg(not(any(test, feature = "simulation")))]
    let _ = (from, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_edges_above_is_the_one_that_is_asserted() {
        let rows = include_str!("state.rs").lines().skip_while(|line| !line.contains("| may become |")).skip(2);
        let documented: Vec<String> =
            rows.take_while(|line| line.starts_with("//! |")).map(ToOwned::to_owned).collect();
        let asserted = NAMES.iter().zip(EDGES).map(|(name, edges)| {
            let next = (0..NAMES.len()).filter(|next| edges & (1 << next) != 0);
            let next: Vec<String> = next.map(|next| format!("`{}`", NAMES[next])).collect();
            format!("//! | `{name}` | {}{}|", next.join(", "), if next.is_empty() { "" } else { " " })
        });
        assert_eq!(documented, asserted.collect::<Vec<_>>());
    }

    #[test]
    fn what_is_discarded_is_counted_to_the_byte() {
        let mut left = Left::new(10);
        assert!(left.take(3) && left.take(7) && left.take(0));
        assert!(!left.take(1) && left.take(0));
    }
}
