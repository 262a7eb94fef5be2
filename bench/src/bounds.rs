//! What Baiwan promises: the figures of each kind of row, and the bound of those about which something is promised. Pure.

use serde_json::{Value, json};

use crate::churn;
use crate::figures::USER_BYTES;
use crate::rows::{State, Work};
use crate::stalled;
use crate::stop;

/// The limit of a figure that keeps a promise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bound {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// A figure of the report, and what was promised about it.
pub(crate) struct Line {
    pub(crate) figure: &'static str,
    pub(crate) title: &'static str,
    pub(crate) digits: usize,
    pub(crate) bound: Bound,
}

const fn line(figure: &'static str, title: &'static str, digits: usize, bound: Bound) -> Line {
    Line { figure, title, digits, bound }
}

const IDLE: [Line; 1] = [line(USER_BYTES, "user memory, bytes", 0, Bound::AtMost(256.0))];

/// No CPU at all cannot be seen from outside: the least that a server does is to look at its clock.
const STALLED: [Line; 12] = [
    line(stalled::P50_BEFORE_US, "p50 beside them, before, µs", 0, Bound::None),
    line(stalled::P50_WHILE_US, "p50 beside them, while they stall, µs", 0, Bound::None),
    line(stalled::P99_BEFORE_US, "p99 beside them, before, µs", 0, Bound::None),
    line(stalled::P99_WHILE_US, "p99 beside them, while they stall, µs", 0, Bound::None),
    line(stalled::P99_RATIO, "p99, while / before", 2, Bound::AtMost(2.0)),
    line(USER_BYTES, "user memory of each, bytes", 0, Bound::AtMost(4096.0)),
    line(stalled::STALLED_CPU_US, "server CPU for each and second, µs", 3, Bound::None),
    line(stalled::STALLED_CPU_PERCENT, "server CPU for all, % of a core", 2, Bound::AtMost(0.1)),
    line(stalled::CUT_PERCENT, "cut while watched, %", 1, Bound::AtLeast(100.0)),
    line(stalled::TOLD_PERCENT, "answered 408, %", 1, Bound::None),
    line(stalled::CUT_FIRST_MS, "first cut after its deadline, ms", 0, Bound::AtLeast(0.0)),
    line(stalled::CUT_LAST_MS, "last cut after its deadline, ms", 0, Bound::AtMost(1000.0)),
];

const CHURN: [Line; 6] = [
    line(churn::USER_BEFORE_BYTES, "user memory before, bytes", 0, Bound::None),
    line(churn::USER_PEAK_BYTES, "with most connections at once, bytes", 0, Bound::None),
    line(churn::USER_AFTER_BYTES, "when all have gone, bytes", 0, Bound::None),
    line(churn::USER_GROWTH_BYTES, "growth, bytes", 0, Bound::None),
    line(churn::USER_GROWTH_PERCENT, "growth, %", 1, Bound::None),
    line(churn::ALLOWANCE_PERCENT, "growth, % of 10 % + 1 MiB", 0, Bound::AtMost(100.0)),
];

/// Counts are added up over the rounds.
const STOP_COUNTS: [Line; 6] = [
    line(stop::SENT, "requests sent whole", 0, Bound::None),
    line(stop::RECEIVED, "received, as the server counts", 0, Bound::None),
    line(stop::ANSWERED, "answered whole", 0, Bound::None),
    line(stop::LOST, "received and not answered: lost", 0, Bound::AtMost(0.0)),
    line(stop::UNANSWERED, "sent and not answered, lost or not received", 0, Bound::None),
    line(stop::BROKEN, "answers cut off, or wrong", 0, Bound::AtMost(0.0)),
];

const STOP: [Line; 2] = [
    line(stop::DRAINED_MS, "from the signal to the end of the last connection, ms", 1, Bound::None),
    line(stop::STOP_MS, "from the signal to the end of the server, ms", 1, Bound::None),
];

/// The lines of a row: those of which a round is an example, and those that are added up.
pub(crate) fn lines(work: Work) -> (&'static [Line], &'static [Line]) {
    match work {
        Work::Hold(State::Idle) => (&IDLE, &[]),
        Work::Stalled(_) => (&STALLED, &[]),
        Work::Churn => (&CHURN, &[]),
        Work::Stop => (&STOP, &STOP_COUNTS),
        Work::Load { .. } | Work::Wrk { .. } | Work::Generator | Work::StartUp | Work::Hold(_) => (&[], &[]),
    }
}

/// The bounds of a row by their figures, for the raw results.
pub(crate) fn bounds(work: Work) -> Value {
    let (spreads, totals) = lines(work);
    let bound = |line: &Line| match line.bound {
        Bound::None => None,
        Bound::AtMost(bound) => Some((line.figure.to_owned(), json!({ "at_most": bound }))),
        Bound::AtLeast(bound) => Some((line.figure.to_owned(), json!({ "at_least": bound }))),
    };
    Value::Object(spreads.iter().chain(totals).filter_map(bound).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn every_new_promise_has_a_bound_in_the_raw_results() {
        let bounds = |name: &str| bounds(ROWS.iter().find(|row| row.name == name).unwrap().work);
        assert_eq!(bounds("idle"), json!({ "user_bytes_per_connection": { "at_most": 256.0 } }));
        assert_eq!(bounds("stop")[stop::LOST], json!({ "at_most": 0.0 }));
        assert_eq!(bounds("stalled-chunk")[stalled::CUT_FIRST_MS], json!({ "at_least": 0.0 }));
        assert_eq!(bounds("json"), json!({}));
    }
}
