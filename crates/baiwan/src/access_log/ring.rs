//! How records reach the writer: a ring of bytes for each core.
//!
//! The core notes and never waits; what finds no room is lost and counted. The writer looks every now and then, so a core wakes it only
//! where it sleeps for longer, or where the ring is half full.
//!
//! The invariant: a ring holds whole records, each of which stands for the exchanges that were left out before it, and for itself.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rtrb::RingBuffer;

use super::record::{End, RECORD_BYTES_MAX, Record};
use crate::observe::{Exchange, Outcome};
use crate::request_id::{RequestId, TraceContext};
use crate::status::AccessLogCounts;

/// Of one core: some 6,000 records of usual length.
pub(super) const RING_BYTES_MAX: usize = 1 << 20;
/// Of one core, however many there are.
const RING_BYTES_MIN: usize = 128 << 10;
/// Of all cores together, but for the minimum of each: once a ring has been full, its memory stays in use.
const RINGS_BYTES: usize = 7 << 20;

/// This part of a ring, its last, is for failures, which a flood of anything else must not push out.
const FAILURE_PART: usize = 8;

const _: () = assert!(RECORD_BYTES_MAX < RING_BYTES_MIN / FAILURE_PART / 8);

/// What each core may keep of what is not written yet.
fn ring_bytes(cores: usize) -> usize {
    (RINGS_BYTES / cores.max(1)).clamp(RING_BYTES_MIN, RING_BYTES_MAX)
}

/// What cores and writer tell each other.
#[derive(Debug)]
pub(super) struct Figures {
    /// What the times of records count from.
    pub(super) begun: Instant,
    /// One in how many exchanges is to be noted.
    pub(super) one_in: AtomicU64,
    /// The writer waits until somebody wakes it.
    pub(super) is_asleep: AtomicBool,
    pub(super) writer: OnceLock<Thread>,
    pub(super) counts: Arc<AccessLogCounts>,
    /// How often somebody has asked that all be written.
    pub(super) flushes_wanted: AtomicU64,
}

impl Figures {
    pub(super) fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// Notes the exchanges of one core. One of a connection that was moved to another thread is noted there, so there is a lock; it is the
/// core's own otherwise.
#[derive(Debug)]
pub(crate) struct Producer {
    ring: Mutex<Ring>,
    figures: Arc<Figures>,
    core: usize,
}

#[derive(Debug)]
struct Ring {
    /// None once the core has ended.
    records: Option<rtrb::Producer<u8>>,
    /// The record that is being made.
    record: Box<[u8; RECORD_BYTES_MAX]>,
    exchanges: u64,
    /// Exchanges since the last record that the next stands for.
    left_out: u64,
    lost: u64,
    /// The writer was woken because the ring is half full, and has not come yet.
    has_urged: bool,
}

/// A log whose writer runs: what it counts, and what each core notes with.
#[derive(Debug)]
pub(crate) struct AccessLogInForce {
    pub(crate) counts: Arc<AccessLogCounts>,
    producers: Mutex<Vec<Option<Producer>>>,
}

impl AccessLogInForce {
    pub(super) fn new(counts: Arc<AccessLogCounts>, producers: Vec<Producer>) -> Arc<Self> {
        Arc::new(Self { counts, producers: Mutex::new(producers.into_iter().map(Some).collect()) })
    }

    /// What a core notes with; it has it once.
    pub(crate) fn take(&self, core: usize) -> Option<Producer> {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.get_mut(core).and_then(Option::take)
    }
}

/// A ring for each core, and what the writer reads of it.
pub(super) fn rings(cores: usize, begun: Instant) -> (Arc<Figures>, Vec<Producer>, Vec<rtrb::Consumer<u8>>) {
    let figures = Arc::new(Figures {
        begun,
        one_in: AtomicU64::new(1),
        is_asleep: AtomicBool::new(false),
        writer: OnceLock::new(),
        counts: Arc::new(AccessLogCounts::new(cores)),
        flushes_wanted: AtomicU64::new(0),
    });
    let rings = (0..cores).map(|core| {
        let (records, consumer) = RingBuffer::new(ring_bytes(cores));
        let record = Box::new([0; RECORD_BYTES_MAX]);
        let ring = Ring { records: Some(records), record, exchanges: 0, left_out: 0, lost: 0, has_urged: false };
        (Producer { ring: Mutex::new(ring), figures: Arc::clone(&figures), core }, consumer)
    });
    let (producers, consumers) = rings.unzip();
    (figures, producers, consumers)
}

impl Producer {
    /// Notes an exchange that has ended. Never waits for the writer.
    pub(crate) fn note(&self, exchange: &Exchange<'_>) {
        // Nothing panics while the lock is held.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &self.figures.counts.cores[self.core];
        ring.exchanges += 1;
        counts.exchanges.store(ring.exchanges, Relaxed);
        // What a limit refuses is no failure: there may be floods of it.
        let has_failed = exchange.denied.is_none() && exchange.status.is_some_and(|status| status.is_server_error());
        let weight = match has_failed {
            true => 1,
            false if ring.left_out + 1 < self.figures.one_in.load(Relaxed) => {
                ring.left_out += 1;
                return;
            }
            false => std::mem::take(&mut ring.left_out) + 1,
        };
        if !ring.push(&record(exchange, weight, self.figures.begun), has_failed) {
            ring.lost += weight;
            counts.lost.store(ring.lost, Relaxed);
        }
        let is_urgent = ring.is_half_full();
        if (is_urgent && !ring.has_urged) || self.figures.is_asleep.load(Relaxed) {
            self.figures.is_asleep.store(false, Relaxed);
            self.figures.wake();
        }
        ring.has_urged = is_urgent;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let ring = self.ring.get_mut().unwrap_or_else(PoisonError::into_inner);
        // No line will stand for them.
        let lost = ring.lost + ring.left_out;
        self.figures.counts.cores[self.core].lost.store(lost, Relaxed);
        // The writer ends when it has nobody left to wait for.
        drop(ring.records.take());
        self.figures.wake();
    }
}

impl Ring {
    /// Returns whether there was room for a record of an exchange, which `has_failed` or not.
    fn push(&mut self, record: &Record<'_>, has_failed: bool) -> bool {
        let length = record.encode(&mut self.record);
        let Some(records) = &mut self.records else { return false };
        let kept_free = if has_failed { 0 } else { records.buffer().capacity() / FAILURE_PART };
        records.slots() >= length + kept_free && records.push_entire_slice(&self.record[..length]).is_ok()
    }

    fn is_half_full(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.slots() < records.buffer().capacity() / 2)
    }
}

fn record<'a>(exchange: &Exchange<'a>, weight: u64, begun: Instant) -> Record<'a> {
    let text = |text: Option<&'a str>| text.unwrap_or_default().as_bytes();
    // Some hundred years.
    let nanoseconds = |duration: Duration| duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos());
    Record {
        ended_ns: nanoseconds(exchange.ended.saturating_duration_since(begun)),
        duration_ns: nanoseconds(exchange.lasted),
        bytes_in: exchange.bytes_in,
        bytes_out: exchange.bytes_out,
        weight,
        status: exchange.status.map_or(0, |status| status.as_u16()),
        end: match exchange.outcome {
            Outcome::Answered => End::Answered,
            Outcome::Denied => End::Denied,
            Outcome::Ended(reason) => End::Closed(reason),
        },
        client: exchange.client,
        method: text(exchange.method.map(|method| method.as_str())),
        route: exchange.route.as_bytes(),
        path: text(exchange.path),
        request_id: exchange.id.map(RequestId::as_bytes).unwrap_or_default(),
        trace_id: text(exchange.id.and_then(RequestId::trace_context).map(TraceContext::trace_id)),
        denied: text(exchange.denied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cores_keep_no_more_than_a_few_megabytes() {
        for cores in [1, 2, 8, 16, 56] {
            assert!(cores * ring_bytes(cores) <= RINGS_BYTES, "{cores}");
        }
        assert_eq!((ring_bytes(2), ring_bytes(1024)), (RING_BYTES_MAX, RING_BYTES_MIN));
    }
}
