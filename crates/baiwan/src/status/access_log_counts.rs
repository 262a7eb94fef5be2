//! What the access log counts, for whoever shows it: each core what it could not note, the writer what it could not write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The counters of one access log.
#[derive(Debug)]
pub(crate) struct AccessLogCounts {
    pub(crate) cores: Box<[CoreLogCounts]>,
    /// Exchanges whose lines could not be written.
    pub(crate) unwritten: AtomicU64,
    /// Of the writer's thread, in microseconds.
    pub(crate) cpu_us: AtomicU64,
}

/// What one core counts; aligned as its status is, because it does so for each exchange.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreLogCounts {
    /// Exchanges that have ended.
    pub(crate) exchanges: AtomicU64,
    /// Those of them for which there was no room.
    pub(crate) lost: AtomicU64,
}

impl AccessLogCounts {
    pub(crate) fn new(cores: usize) -> Self {
        let cores = (0..cores).map(|_| CoreLogCounts::default()).collect();
        Self { cores, unwritten: AtomicU64::new(0), cpu_us: AtomicU64::new(0) }
    }

    pub(crate) fn exchanges(&self) -> u64 {
        self.cores.iter().map(|core| core.exchanges.load(Relaxed)).sum()
    }

    /// Exchanges that are in no line, because a writer or an output was too slow or failed.
    pub(crate) fn dropped(&self) -> u64 {
        self.cores.iter().map(|core| core.lost.load(Relaxed)).sum::<u64>() + self.unwritten.load(Relaxed)
    }

    /// What the writer's thread has used of the processor.
    pub(crate) fn writer_cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Relaxed))
    }
}
