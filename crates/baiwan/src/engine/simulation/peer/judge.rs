//! What a peer holds against the server: answers and ends without a reason, and deadlines that were missed.

use std::time::Duration;

use baiwan_limits::ConnectionAges;
use tokio::time::Instant;

use super::{BODY_PATIENCE_MIN, Due, HALF_CLOSED_SILENCE, PROBE_TIMEOUT, Peer, Times};
use crate::clock::TICK;
use crate::delivery::SETTLE_TIME;
use crate::engine::simulation::Verdict;
use crate::engine::simulation::plan::Expect;
use crate::settings::AGE_GRACE;

impl Peer {
    /// Whether there is a reason for an answer of the server's own.
    pub(super) fn explains(&self, status: u16, due: Option<&Due>, times: &Times<'_>) -> bool {
        let Times { now, settings, .. } = times;
        let since =
            |moment: Instant, timeout: Option<Duration>| timeout.is_some_and(|timeout| *now >= moment + timeout);
        match (status, due) {
            (503, _) if times.crowded && self.answered == 0 => true,
            (503, _) if self.was_half_a_head(due, times) => true,
            (503, Some(_)) if self.was_given_up_for_its_age(times) => true,
            (503, Some(due)) => due.head_sent.is_some_and(|sent| since(sent, settings.request_timeout)),
            // What was sent in time may have been seen too late.
            (408, Some(due)) if self.is_late() => {
                since(due.began, settings.header_timeout) || since(due.began, Some(BODY_PATIENCE_MIN))
            }
            (408, Some(due)) => {
                let head = due.head_sent.unwrap_or(*now) - due.began;
                settings.header_timeout.is_some_and(|timeout| head >= timeout) || due.pauses(*now) >= BODY_PATIENCE_MIN
            }
            (500, Some(due)) => due.asking.expect == Expect::Failed,
            (400.., Some(due)) => matches!(due.asking.expect, Expect::Refused | Expect::RefusedOrCut),
            _ => false,
        }
    }

    /// Whether the connection may be so old that the server ends it.
    fn is_old(&self, times: &Times<'_>) -> bool {
        let ages = times.settings.max_connection_age.map(ConnectionAges::new);
        ages.is_some_and(|ages| times.now >= self.opened + ages.shortest())
    }

    /// Whether the server may have cut what went on when the connection was old.
    fn was_given_up_for_its_age(&self, times: &Times<'_>) -> bool {
        self.is_old(times) && times.now >= self.opened + AGE_GRACE
    }

    /// Whether it has sent as many requests as a connection may, and does not read at once which answer was the last.
    fn may_have_asked_enough(&self, times: &Times<'_>) -> bool {
        let inattentive = self.deaf || !self.manner.is_attentive();
        let sent = self.answered + self.due.len() as u64;
        inattentive && times.settings.max_connection_requests.is_some_and(|max| sent >= u64::from(max.get()))
    }

    /// Whether it may have taken an answer below the minimum rate for longer than that allows: by reading nothing, or little at a time; or
    /// because the kernel took little of this answer and of those before.
    fn may_be_too_slow(&self, times: &Times<'_>) -> bool {
        let reads_little = self.manner.reads.is_some_and(|bytes| bytes < times.settings.write_rate_min as usize);
        let since = match reads_little {
            _ if times.agains => self.opened,
            true => self.due.front().map_or(self.read, |due| due.began),
            false => self.read,
        };
        times.settings.write_rate_min > 0 && times.now >= since + BODY_PATIENCE_MIN
    }

    /// Whether a server that stops may have given up waiting for the rest of a head.
    fn was_half_a_head(&self, due: Option<&Due>, times: &Times<'_>) -> bool {
        let Times { now, settings, .. } = times;
        let Some(stopped) = times.stopped else { return false };
        let head = due.and_then(|due| Some(due.began + settings.header_timeout?));
        let given_up = head.into_iter().chain([stopped + settings.shutdown_idle]).min().unwrap_or(stopped);
        let in_time = due.and_then(|due| due.head_sent).is_some_and(|sent| sent < given_up);
        *now >= given_up && (!in_time || self.is_late() || times.agains)
    }

    /// The connection has ended from the other side: there must be a reason.
    pub(super) fn judge_end(&self, times: &Times<'_>) -> Result<(), Verdict> {
        let sim = self.sim.as_ref().expect("the caller has it");
        let reset = sim.is_reset();
        let since =
            |moment: Instant, timeout: Option<Duration>| timeout.is_some_and(|timeout| times.now >= moment + timeout);
        let Times { settings, .. } = times;
        let over = times
            .stopped
            .is_some_and(|at| since(at, Some(settings.shutdown_timeout.saturating_sub(settings.shutdown_delay))));
        // Whoever reads slowly does not know since when the server has nothing to do for it.
        let idle = if self.manner.is_attentive() { self.idle } else { self.sent };
        let stopped = |due: &Due| {
            let late = self.is_late() && since(due.began, Some(BODY_PATIENCE_MIN));
            late || due.pauses(times.now) >= BODY_PATIENCE_MIN
        };
        let front = self.due.front();
        let begun = front.is_some();
        let expect = front.map(|due| due.asking.expect);
        let reasons = [
            ("fault", sim.is_faulted()),
            ("last answer", self.closing),
            ("unread body", self.unread || (reset && self.due.iter().any(|due| due.asking.may_close))),
            ("cut", expect == Some(Expect::Cut) && self.answers.is_in_body()),
            ("cut before its head was read", matches!(expect, Some(Expect::Cut)) && reset),
            ("refused after its head", expect == Some(Expect::RefusedOrCut)),
            ("end of its own", self.shut && (!settings.half_close || !front.is_some_and(Due::is_sent))),
            (
                "end of its own, and then nothing of an answer without a length",
                self.shut && front.is_some_and(|due| due.asking.sleeps) && since(self.sent, Some(HALF_CLOSED_SILENCE)),
            ),
            (
                "stop, nothing due",
                times.stopped.is_some()
                    && (!begun || times.agains && (self.is_late() || since(idle, Some(settings.shutdown_idle)))),
            ),
            (
                "a head that took too long, and an answer to it that the peer did not read",
                reset
                    && (self.deaf || !self.manner.is_attentive())
                    && front.is_some_and(|due| since(due.began, settings.header_timeout)),
            ),
            (
                // Whoever reads slowly sees the end long after it came, and may have asked since.
                "age, nothing due",
                self.is_old(times) && (!begun || self.is_late() || times.agains || !self.manner.is_attentive()),
            ),
            ("the last of its requests, and an answer that it did not read", self.may_have_asked_enough(times)),
            ("age, and what went on", self.was_given_up_for_its_age(times)),
            ("stop, time over", over || times.cut),
            ("keep-alive", (!begun || self.is_late()) && since(idle, settings.keep_alive_timeout)),
            (
                "keep-alive, and a last look that was told there is nothing",
                times.agains && self.is_late() && since(self.idle, settings.keep_alive_timeout),
            ),
            ("write", reset && since(self.read, settings.write_timeout)),
            ("write, too slow", reset && self.may_be_too_slow(times)),
            (
                "write, with room that was announced too late",
                reset && self.is_late() && front.is_some_and(|due| since(due.began, settings.write_timeout)),
            ),
            ("body", self.due.iter().any(stopped)),
            ("crowd", times.crowded && self.answered == 0),
        ];
        match reasons.iter().any(|(_, holds)| *holds) {
            true => Ok(()),
            false => {
                let due: Vec<_> =
                    self.due.iter().map(|due| (due.asking.id, due.asking.expect, due.is_sent())).collect();
                Err(format!("the connection was ended (reset: {reset}) without a reason; due: {due:?}"))
            }
        }
    }

    /// No deadline is missed: what the peer is due by now must have come.
    pub(in crate::engine::simulation) fn judge_patience(&self, times: &Times<'_>) -> Result<(), Verdict> {
        if self.over || self.sim.as_ref().is_none_or(|sim| self.is_late() || sim.is_faulted() || sim.is_ended()) {
            return Ok(());
        }
        let Times { now, settings, slack, .. } = times;
        let late = |moment: Instant, timeout: Option<Duration>| {
            timeout.is_some_and(|timeout| *now > moment + timeout + *slack)
        };
        if !times.punctual || self.closing || self.unread {
            return Ok(());
        }
        let attentive = self.manner.is_attentive() && !self.deaf;
        let idle = attentive && self.due.is_empty() && self.rest.is_empty();
        // One beyond the maximum has a second to ask for the server's health.
        let beyond = if times.crowded && self.answered == 0 { PROBE_TIMEOUT } else { Duration::ZERO };
        if let Some(stopped) = times.stopped {
            // Since when it is idle is itself known to a tick only.
            let half_a_head = self.due.front().filter(|due| attentive && due.head_sent.is_none());
            let since = half_a_head.map(|due| due.began.max(self.activity)).or(idle.then_some(self.activity));
            return match since
                .is_some_and(|since| late(since.max(stopped) + TICK, Some(settings.shutdown_idle.max(beyond))))
            {
                true => Err("without a request for longer than a server that stops allows".into()),
                false => Ok(()),
            };
        }
        if let Some(age) = settings.max_connection_age
            && idle
            && late(
                (self.opened + ConnectionAges::new(age).longest()).max(self.activity + age / 10),
                Some(TICK.max(beyond)),
            )
        {
            return Err("idle although it is old".into());
        }
        match self.due.front() {
            None if idle && late(self.activity, settings.keep_alive_timeout.map(|timeout| timeout.max(beyond))) => {
                Err("idle for longer than the keep-alive timeout".into())
            }
            Some(due) if attentive && due.head_sent.is_none() => {
                match late(due.began.max(self.activity), settings.header_timeout.map(|timeout| timeout.max(beyond))) {
                    true => Err("its head took longer than the header timeout".into()),
                    false => Ok(()),
                }
            }
            Some(due) if attentive && !self.answers.is_in_body() && !due.asking.may_close => {
                let since = due.head_sent.map(|sent| sent.max(self.activity));
                match since.is_some_and(|since| late(since, settings.request_timeout)) {
                    true => Err(format!("request {} took longer than the request timeout", due.asking.id)),
                    false => Ok(()),
                }
            }
            Some(_) if self.deaf && self.is_blocked_since(times).is_some_and(|at| late(at, settings.write_timeout)) => {
                Err("it was not cut although it reads nothing".into())
            }
            _ => Ok(()),
        }
    }

    /// Since when, at the latest, the server has had more for a deaf peer than fits on the way.
    fn is_blocked_since(&self, times: &Times<'_>) -> Option<Instant> {
        let fits = times.inbox_bytes_max + self.answers.at();
        let (mut owed, mut since) = (0, self.read);
        for due in self.due.iter().take_while(|due| due.is_sent() && !due.asking.sleeps) {
            since = since.max(due.progress);
            match due.asking.expect {
                Expect::Body(length) if !due.asking.head_request => owed += length,
                Expect::Body(_) => {}
                _ => return None,
            }
            if owed > fits {
                // What was on its way is acknowledged, or learnt to be, a little later; and where the clock leapt, only then.
                return Some(times.leapt.map_or(since, |leapt| leapt.max(since)) + SETTLE_TIME);
            }
        }
        None
    }

    /// When all is calm a peer that behaves has all its answers.
    pub(in crate::engine::simulation) fn judge_calm(&self) -> Result<(), Verdict> {
        if self.over || self.sim.is_none() || self.closing || self.deaf || self.manner.reads.is_some() {
            return Ok(());
        }
        match self.due.front() {
            Some(due) if due.is_sent() && due.asking.expect != Expect::Nothing => {
                Err(format!("request {} ({:?}) is not answered", due.asking.id, due.asking.expect))
            }
            _ => Ok(()),
        }
    }
}
