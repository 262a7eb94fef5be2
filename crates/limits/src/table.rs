//! The table of a rate limit: fixed in size, shared by all cores, without lock, sweep or allocation.
//!
//! A key's hash names one line of eight entries, which is one cache line, and a tag. An entry is one word:
//!
//! ```text
//!  63        40 39                                        0
//! ┌────────────┬───────────────────────────────────────────┐
//! │ tag, not 0 │ theoretical arrival time, in 2^-20 s      │
//! └────────────┴───────────────────────────────────────────┘
//! ```
//!
//! An arrival time that has passed says nothing: such an entry is free. So is one that lies further ahead than any quota reaches
//! (the time wraps after 12 days, so an old entry can look like a debt again, for an hour at most). Where all eight are taken, the
//! least debt gives way, and is counted.
//!
//! The invariant: *a request is let through only once it has been charged to every entry of its line with its tag, and has looked
//! at the line again after its last charge and found no other.* Two cores that do not see each other may insert the same key twice.
//! Of these entries one is committed first. Whoever is let through has charged an entry, at that time or later, and looked again
//! after that, so it has found the first one and charged it, too: the first entry knows of all that were let through, and one word
//! cannot be charged beyond its bound. Charges and looks are sequentially consistent for this. A request that is refused, or that
//! is charged twice in such a race, is charged too much, never too little. Only an eviction loses what an entry knew, and is counted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::client_hash::ClientHash;
use crate::sync::{AtomicU64, Ordering, zeroed};

/// Entries of one line: as many as a cache line holds. The models have few, so that all orders can be tried.
const ENTRIES: usize = if cfg!(baiwan_shuttle) { 2 } else { 8 };
const LINE_BYTES: usize = 64;

/// Entries of a table of the usual size, 16 MiB.
pub(crate) const ENTRIES_DEFAULT: usize = 2_097_152;

const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Ticks of a second.
pub(crate) const TICKS: u64 = 1 << 20;

/// No debt reaches further, in ticks: a burst comes back within an hour, and rounding adds less than 1 %.
const DEBT_MAX: u64 = 1 << 32;
const _: () = assert!(DEBT_MAX > crate::quota::BURST_SECONDS_MAX as u64 * TICKS / 100 * 101);

/// By how much time must advance until all cores are told, in ticks (1 ms). Rare enough to cost nothing.
const STEP: u64 = 1 << 10;

/// How often one check looks at its line, at the most. Each look but the last lost a race with another check, which got on.
const LOOKS_MAX: usize = 64;

/// The entries of all limits that share it.
///
/// Memory is taken from the system as it is first used, 16 MiB in a table of the usual size, and never more.
///
/// Of `n` keys that are in debt at a time, chance puts more than eight into some lines, and there the one with the least debt loses
/// its entry, which gives its client a fresh burst. With 1,000,000 such keys in 2,097,152 entries this meets fewer than 1 % of them;
/// [`evictions`](Self::evictions) counts. A key takes the entry of another for its own with a chance of at most 8 / 2^24 (one in two million); the two then
/// share a budget. Nobody can aim at either, because the hash has a random secret.
#[derive(Debug)]
pub struct Table {
    words: Box<[AtomicU64]>,
    /// The first word that starts a cache line.
    first: usize,
    lines: u64,
    secret: RandomState,
    clients: ClientHash,
    /// The newest time that any check came with, in ticks, at most [`STEP`] behind. No check counts by an older one.
    newest: AtomicU64,
    /// Where ticks start: the time of the first check.
    base: OnceLock<Instant>,
    evictions: Evictions,
}

/// On a cache line of its own: a flood of new keys writes it often.
#[derive(Debug)]
#[repr(align(64))]
struct Evictions(AtomicU64);

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) admitted: bool,
    /// How far ahead the arrival time is, in ticks: with the charge if it was admitted, else without.
    pub(crate) debt: u64,
}

/// What became of a charge to one entry.
enum Charged {
    Yes {
        debt: u64,
    },
    No {
        debt: u64,
    },
    /// It was another word by then.
    Changed,
    /// It is of another key with the same tag.
    OfAnother,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// A table of 2,097,152 entries, 16 MiB.
    pub fn new() -> Self {
        Self::with_entries(ENTRIES_DEFAULT)
    }

    /// A table of this many entries, rounded up to whole lines of eight, at least one and at most 2^32 lines. An entry is 8 bytes.
    pub fn with_entries(entries: usize) -> Self {
        let lines = entries.div_ceil(ENTRIES).clamp(1, 1 << 32);
        let words = zeroed(lines * ENTRIES + LINE_BYTES / size_of::<u64>() - 1);
        // A model's words are larger than the word itself.
        let first = if cfg!(baiwan_shuttle) { 0 } else { words.as_ptr().align_offset(LINE_BYTES) };
        let secret = RandomState::new();
        Self {
            words,
            first,
            lines: lines as u64,
            clients: ClientHash::new(&secret),
            secret,
            newest: AtomicU64::new(0),
            base: OnceLock::new(),
            evictions: Evictions(AtomicU64::new(0)),
        }
    }

    /// How many entries lost their place while their key was in debt.
    pub fn evictions(&self) -> u64 {
        self.evictions.0.load(Ordering::Relaxed)
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.lines as usize * ENTRIES
    }

    /// A hasher with the table's secret.
    pub(crate) fn hasher(&self) -> impl Hasher + use<> {
        self.secret.build_hasher()
    }

    /// The hash of clients, with secrets of the table.
    #[inline]
    pub(crate) fn clients(&self) -> &ClientHash {
        &self.clients
    }

    /// The time in ticks since the first check of this table. What is earlier than that is 0.
    pub(crate) fn ticks(&self, now: Instant) -> u64 {
        ticks_floor(now.saturating_duration_since(*self.base.get_or_init(|| now)))
    }

    /// Charges `cost` to the key of this hash if its debt does not exceed `tolerance` then. All times are ticks; `now` counts from
    /// [`ticks`](Self::ticks).
    ///
    /// A cost of 0 is admitted and a cost above the tolerance refused; neither changes the table.
    pub(crate) fn charge(&self, hash: u64, tolerance: u64, cost: u64, now: u64) -> Charge {
        let line = self.line(hash);
        let tag = tag(hash);
        if cost == 0 || cost > tolerance {
            return Charge { admitted: cost == 0, debt: self.debt(line, tag, tolerance, now) };
        }
        // A bit for each entry that this check has been charged to.
        let mut charged = 0;
        let mut debt_most = 0;
        for _ in 0..LOOKS_MAX {
            let mut uncharged = with_tag(line, tag) & !charged;
            let mut look_again = false;
            while uncharged != 0 {
                let index = uncharged.trailing_zeros() as usize;
                uncharged &= uncharged - 1;
                match self.charge_entry(&line[index], tag, tolerance, cost, now) {
                    Charged::Yes { debt } => {
                        charged |= 1 << index;
                        debt_most = debt_most.max(debt);
                        look_again = true;
                    }
                    Charged::Changed => look_again = true,
                    Charged::OfAnother => {}
                    Charged::No { debt } => return Charge { admitted: false, debt },
                }
            }
            if look_again {
                continue;
            }
            if charged != 0 {
                return Charge { admitted: true, debt: debt_most };
            }
            if let Some(index) = self.insert(line, tag, tolerance, cost, now) {
                charged = 1 << index;
                debt_most = cost;
            }
        }
        Charge { admitted: false, debt: debt_most }
    }

    /// Charges one entry of the key, once.
    #[inline]
    fn charge_entry(&self, place: &AtomicU64, tag: u64, tolerance: u64, cost: u64, now: u64) -> Charged {
        let word = place.load(Ordering::SeqCst);
        let now = self.advance(now);
        if !has_tag(word, tag) {
            return Charged::Changed;
        }
        match own_debt(word, now, tolerance) {
            None => Charged::OfAnother,
            Some(debt) if debt + cost > tolerance => Charged::No { debt },
            Some(debt) if replace(place, word, entry(tag, now + debt + cost)) => Charged::Yes { debt: debt + cost },
            Some(_) => Charged::Changed,
        }
    }

    /// The largest debt of the key.
    fn debt(&self, line: &[AtomicU64; ENTRIES], tag: u64, tolerance: u64, now: u64) -> u64 {
        let words = line.each_ref().map(|place| place.load(Ordering::SeqCst));
        let now = self.advance(now);
        let own = words.iter().filter(|word| has_tag(**word, tag)).filter_map(|word| own_debt(*word, now, tolerance));
        own.max().unwrap_or(0)
    }

    /// Puts a new entry into the place of a free one, else of the one with the least debt; `None` if another check was there
    /// first.
    #[cold]
    fn insert(&self, line: &[AtomicU64; ENTRIES], tag: u64, tolerance: u64, cost: u64, now: u64) -> Option<usize> {
        let words = line.each_ref().map(|place| place.load(Ordering::SeqCst));
        let now = self.advance(now);
        // Another check of the key may have come between.
        if words.iter().any(|word| has_tag(*word, tag) && own_debt(*word, now, tolerance).is_some()) {
            return None;
        }
        let (index, word) = words.into_iter().enumerate().min_by_key(|(_, word)| debt(*word, now))?;
        if !replace(&line[index], word, entry(tag, now + cost)) {
            return None;
        }
        if debt(word, now) > 0 {
            self.evictions.0.fetch_add(1, Ordering::Relaxed);
        }
        Some(index)
    }

    /// The time to count by: that of the caller, or a newer one.
    ///
    /// It is read after the words that are judged by it: whoever wrote one had told the newest time before that, to within [`STEP`], so
    /// no entry of the same key is further ahead than its tolerance and a step.
    #[inline]
    fn advance(&self, now: u64) -> u64 {
        let newest = self.newest.load(Ordering::SeqCst);
        if now < newest.saturating_add(STEP) {
            return now.max(newest);
        }
        now.max(self.newest.fetch_max(now, Ordering::SeqCst))
    }

    #[inline]
    fn line(&self, hash: u64) -> &[AtomicU64; ENTRIES] {
        let index = ((hash & u64::from(u32::MAX)) * self.lines) >> 32;
        &self.words[self.first..].as_chunks().0[index as usize]
    }
}

/// From the end of the hash that does not name the line.
fn tag(hash: u64) -> u64 {
    (hash >> TIME_BITS).max(1)
}

/// A bit for each entry with the tag, the lowest for the first.
#[inline]
fn with_tag(line: &[AtomicU64; ENTRIES], tag: u64) -> u8 {
    let begin = tag << TIME_BITS;
    // A comparison, and an addition with carry.
    let has_tag = |place: &AtomicU64| u32::from(place.load(Ordering::SeqCst) ^ begin < 1 << TIME_BITS);
    line.iter().rev().fold(0, |found, place| found + found + has_tag(place)) as u8
}

fn has_tag(word: u64, tag: u64) -> bool {
    word >> TIME_BITS == tag
}

fn entry(tag: u64, arrival: u64) -> u64 {
    tag << TIME_BITS | arrival & TIME_MASK
}

/// How far ahead the arrival time is, in ticks; 0 if the entry is empty or expired.
fn debt(word: u64, now: u64) -> u64 {
    let ahead = word.wrapping_sub(now) & TIME_MASK;
    if word == 0 || ahead > DEBT_MAX + STEP { 0 } else { ahead }
}

/// The debt of an entry with the tag of a key with this tolerance; `None` if the entry is of another key, because it lies further
/// ahead than one of this could.
fn own_debt(word: u64, now: u64, tolerance: u64) -> Option<u64> {
    Some(debt(word, now)).filter(|debt| *debt <= tolerance + STEP)
}

fn replace(place: &AtomicU64, old: u64, new: u64) -> bool {
    place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn ticks_floor(time: Duration) -> u64 {
    time.as_secs() * TICKS + u64::from(time.subsec_nanos()) * TICKS / 1_000_000_000
}

/// The time of this many ticks, not rounded down.
pub(crate) fn duration_ceil(ticks: u64) -> Duration {
    Duration::new(ticks / TICKS, 0) + Duration::from_nanos((ticks % TICKS * 1_000_000_000).div_ceil(TICKS))
}

#[cfg(all(test, baiwan_shuttle))]
mod models;
