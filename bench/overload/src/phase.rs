//! What became of the requests of one phase.

use std::time::Duration;

use serde_json::{Value, json};

/// A client waits this long for its answer; what comes later is of no use to it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Status(u16),
    /// The connection was lost.
    Failed,
    /// No connection was free for as long as a client waits.
    Unsent,
}

/// One request: when it was due, from the begin of its phase, how long it took from then, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) due: Duration,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

impl Record {
    fn is_admitted(&self) -> bool {
        matches!(self.outcome, Outcome::Status(200))
    }

    fn is_good(&self) -> bool {
        self.is_admitted() && self.took <= PATIENCE
    }

    fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Status(503))
    }
}

/// The figures of a phase that was due to last for `length`, at `multiple` times the capacity.
pub(crate) fn figures(multiple: f64, length: Duration, records: &[Record]) -> Value {
    let count = |holds: fn(&Record) -> bool| records.iter().filter(|record| holds(record)).count();
    let good = count(Record::is_good);
    let mut took: Vec<Duration> =
        records.iter().filter(|record| record.is_admitted()).map(|record| record.took).collect();
    took.sort_unstable();
    let last_bad = records.iter().filter(|record| !record.is_good() || record.took > Duration::from_millis(100));
    json!({
        "multiple": multiple,
        "due": records.len(),
        "goodput": good as f64 / length.as_secs_f64(),
        "p50_ms": milliseconds(&took, 0.5),
        "p99_ms": milliseconds(&took, 0.99),
        "refused": count(Record::is_refused),
        "late": count(Record::is_admitted) - good,
        "unsent": count(|record| matches!(record.outcome, Outcome::Unsent)),
        "failed": count(|record| matches!(record.outcome, Outcome::Failed)),
        // The last request that was not answered with 200 within 100 ms was due then.
        "troubled_until_s": last_bad.map(|record| record.due.as_secs_f64()).fold(0.0, f64::max),
    })
}

/// The latency of which a share is not above, of latencies in ascending order.
pub(crate) fn milliseconds(took: &[Duration], share: f64) -> Option<f64> {
    let last = took.len().checked_sub(1)?;
    Some(took[(last as f64 * share).ceil() as usize].as_secs_f64() * 1000.0)
}
