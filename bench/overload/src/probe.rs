//! An orchestrator that asks for the server's health while it has more to do than it can: every tenth of a second, on a new connection each time.
//!
//! Two are asked at the same time: the admin side, where there is one, and the server itself.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::Connection;
use crate::phase::{PATIENCE, milliseconds};

const PERIOD: Duration = Duration::from_millis(100);

/// Whom to ask, and what.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) request: &'static str,
}

impl Probe {
    /// The server itself.
    pub(crate) fn of_server(address: SocketAddr) -> Self {
        Self { name: "server", address, request: "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n" }
    }

    /// Its admin side.
    pub(crate) fn of_admin(address: SocketAddr) -> Self {
        Self { name: "admin", address, request: "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" }
    }
}

/// How long each answer took; None for one that did not come in time, or was none with 200.
pub(crate) type Answers = Rc<RefCell<Vec<Option<Duration>>>>;

/// Asks from `begins` to `ends`, and waits for no answer before the next question.
pub(crate) async fn run(probe: Probe, begins: Instant, ends: Instant, answers: Answers) {
    let mut next = begins;
    while next < ends {
        sleep_until(next).await;
        let (due, answers) = (next, Rc::clone(&answers));
        tokio::task::spawn_local(async move {
            let is_good = matches!(timeout(PATIENCE, ask(probe)).await, Ok(Ok(200)));
            answers.borrow_mut().push(is_good.then(|| due.elapsed()));
        });
        next += PERIOD;
    }
    // The last ones are answered, or given up.
    sleep_until(ends + PATIENCE).await;
}

async fn ask(probe: Probe) -> anyhow::Result<u16> {
    Connection::open(probe.address).await?.ask(probe.request).await
}

/// The figures of a probe.
pub(crate) fn figures(answers: &[Option<Duration>]) -> Value {
    let mut took: Vec<Duration> = answers.iter().flatten().copied().collect();
    took.sort_unstable();
    json!({
        "asked": answers.len(),
        "failed": answers.len() - took.len(),
        "p50_ms": milliseconds(&took, 0.5),
        "p99_ms": milliseconds(&took, 0.99),
        "max_ms": milliseconds(&took, 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_did_not_come_is_no_latency() {
        let answers = [Some(Duration::from_millis(3)), None, Some(Duration::from_millis(1))];
        let figures = figures(&answers);
        assert_eq!((&figures["asked"], &figures["failed"]), (&json!(3), &json!(1)));
        assert_eq!((&figures["p50_ms"], &figures["max_ms"]), (&json!(3.0), &json!(3.0)));
    }
}
