//! Load without pauses: each connection has one request outstanding and sends the next when the answer is there.

use anyhow::{Result, ensure};

use crate::clock::{SECOND_NS, now_ns};
use crate::connection::ANSWER_TIMEOUT;
use crate::exchange::Exchange;
use crate::fleet::{Fleet, Wait};

/// A loop that runs; [`finish`](Self::finish) waits for the last answers.
pub(crate) struct ClosedLoop<'a> {
    fleet: &'a mut Fleet,
    exchange: &'a Exchange,
    ready: Vec<usize>,
}

impl<'a> ClosedLoop<'a> {
    /// Sends the first request on every connection.
    pub(crate) fn start(fleet: &'a mut Fleet, exchange: &'a Exchange) -> Result<Self> {
        for index in 0..fleet.len() {
            fleet.send(index, exchange)?;
        }
        Ok(Self { fleet, exchange, ready: Vec::new() })
    }

    /// Runs for so long and returns how many answers came.
    pub(crate) fn run(&mut self, duration_ns: u64) -> Result<u64> {
        let end = now_ns() + duration_ns;
        let mut answered = 0;
        let mut last = now_ns();
        while now_ns() < end {
            let before = answered;
            self.fleet.wait(Wait::Sleep, &mut self.ready)?;
            for &index in &self.ready {
                if self.fleet.receive(index, self.exchange)? {
                    answered += 1;
                    self.fleet.send(index, self.exchange)?;
                }
            }
            check_progress(answered > before, &mut last)?;
        }
        Ok(answered)
    }

    /// Waits for the answers that are outstanding: one for each connection.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut outstanding = self.fleet.len();
        let mut last = now_ns();
        while outstanding > 0 {
            let before = outstanding;
            self.fleet.wait(Wait::Sleep, &mut self.ready)?;
            for &index in &self.ready {
                if self.fleet.receive(index, self.exchange)? {
                    outstanding -= 1;
                }
            }
            check_progress(outstanding < before, &mut last)?;
        }
        Ok(())
    }
}

/// Fails when no answer came for too long. `last` is when one came.
pub(crate) fn check_progress(progress: bool, last: &mut u64) -> Result<()> {
    let now = now_ns();
    if progress {
        *last = now;
    }
    let silence = now - *last;
    ensure!(silence < ANSWER_TIMEOUT.as_nanos() as u64, "no answer at all for {} s", silence / SECOND_NS);
    Ok(())
}
