//! What an observer is told: exactly one record of each exchange, which agrees with itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::Verdict;
use crate::gate::Denial;
use crate::observe::{Exchange, Observer, Outcome};

/// What ends a connection before its request is one.
const TURNED_AWAY: [&str; 3] =
    [Denial::TOO_MANY_CONNECTIONS.text, Denial::TOO_MANY_CONNECTIONS_PER_CLIENT.text, Denial::MEMORY_PRESSURE.text];

/// The records of a run.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Those of requests whose head was accepted.
    accepted: AtomicU64,
    /// The first that does not agree with itself.
    broken: Mutex<Option<Verdict>>,
}

impl Records {
    pub(super) fn observer(self: &Arc<Self>) -> Observer {
        let records = Arc::clone(self);
        Observer::new(move |exchange| records.take(exchange))
    }

    fn take(&self, exchange: &Exchange<'_>) {
        // Nobody counts a request that was read and then turned away.
        let is_request = exchange.method.is_some() && !exchange.denied.is_some_and(|name| TURNED_AWAY.contains(&name));
        self.accepted.fetch_add(u64::from(is_request), Relaxed);
        let answered = exchange.answered.unwrap_or(exchange.begun);
        let whole = exchange.outcome == Outcome::Answered;
        let agrees = exchange.begun <= answered
            && answered <= exchange.ended
            && exchange.status.is_some() == exchange.answered.is_some()
            && (exchange.status.is_some() || exchange.bytes_out == 0)
            && (!whole || (exchange.bytes_out > 0 && exchange.method.is_some() && exchange.status.is_some()));
        if !agrees {
            let mut broken = self.broken.lock().expect("nothing panics while it is held");
            broken.get_or_insert(format!("a record does not agree with itself: {exchange:?}"));
        }
    }

    /// Each of `requests` has one record by now, but for those that are `open`.
    pub(super) fn judge(&self, open: u64, requests: u64) -> Result<(), Verdict> {
        if let Some(broken) = self.broken.lock().expect("nothing panics while it is held").take() {
            return Err(broken);
        }
        let complete = self.accepted.load(Relaxed);
        // An open one may be that of a head that was refused, whose answer is on its way.
        match complete <= requests && requests <= complete + open {
            true => Ok(()),
            false => Err(format!("{complete} records and {open} open ones of {requests} requests")),
        }
    }
}
