//! Names a core that a handler blocks, with the route that holds it: once for each time that this happens.
//!
//! It is a thread of its own, because the one of the admin side may be busy with a long answer, and a program may have metrics and no
//! admin side. It looks twice a second at atomics. A core whose thread sleeps until something happens is blocked by nobody, and is not
//! asked for a turn: so an idle core is never woken for this. (A core that never wakes again is found by whoever asks
//! [`Health::is_live`](crate::Health::is_live), which asks every core.)
//!
//! ```text
//!   awake ── asked for a turn ──▶ turns ──────────────────────────────────────────────────────▶ is asked again at the next look
//!                            └──▶ for 2 s no turn, and no progress ─▶ named ─▶ turns or goes on ─▶ the log says how long it took
//! ```
//!
//! A turn may be long without a handler that does not return: it polls many, one after another. So a core is blocked only if, for those
//! 2 seconds, it has begun no request and ended no poll either. How long turns take is in `baiwan_turn_duration_seconds`.
//!
//! The invariant: a core is named once for each time that it is blocked.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};

use super::side_thread::{Pauses, SideThread};
use crate::metrics::{Metrics, describe};
use crate::route_table::RouteNumber;
use crate::say::say;
use crate::status::{Phase, Status};

/// A core that has not turned for this long after it was asked to, and has come no further in that time, is named.
const STUCK_AFTER_MS: u64 = 2_000;
/// Between two looks while nothing is due. With the time above, a core is named within 3 s of the handler's beginning.
const PAUSE_MS: u64 = 500;
/// Between two looks while a core is blocked, so that the log says how long it took.
const PAUSE_STUCK_MS: u64 = 100;
/// The least.
const PAUSE_MIN_MS: u64 = 10;

/// Ends the watch when it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog(#[expect(dead_code, reason = "that it is dropped is what matters")] SideThread);

impl Watchdog {
    /// Begins to watch, if anybody has asked for metrics; these say then what it has seen.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn begin_for(metrics: Option<&Metrics>, status: &Arc<Status>) -> io::Result<Option<Self>> {
        let Some(metrics) = metrics else { return Ok(None) };
        metrics.add_part(Seen(Arc::clone(status)));
        Self::begin(Arc::clone(status)).map(Some)
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// When the system has no thread for it.
    fn begin(status: Arc<Status>) -> io::Result<Self> {
        let body = move |pauses: Pauses| {
            let mut watch = Watch::new(&status);
            let mut pause_ms = PAUSE_MS;
            while pauses.pause(Duration::from_millis(pause_ms)) {
                if status.phase() >= Phase::Serving {
                    pause_ms = watch.look(&status, status.now_ms());
                }
            }
        };
        SideThread::begin("baiwan-turns", body).map(Self)
    }
}

/// What is known of the cores.
#[derive(Debug)]
struct Watch {
    /// Of each core, while it is named.
    hangs: Box<[Option<Hang>]>,
}

/// A core that was named.
#[derive(Debug)]
struct Hang {
    since_ms: u64,
    route: String,
}

impl Watch {
    fn new(status: &Status) -> Self {
        Self { hangs: status.cores.iter().map(|_| None).collect() }
    }

    /// Looks at all cores. Returns how many milliseconds may pass until the next look.
    fn look(&mut self, status: &Status, now_ms: u64) -> u64 {
        let mut pause_ms = PAUSE_MS;
        for (index, (core, named)) in status.cores.iter().zip(&mut self.hangs).enumerate() {
            // One that has ended turns no more.
            let is_over = core.is_asleep() && status.phase() >= Phase::Draining;
            let asked_ms = core.turn_asked_ms().filter(|_| !is_over);
            let since_ms = asked_ms.map(|asked_ms| asked_ms.max(core.progress_since_ms(now_ms)));
            if let Some(before) = named.take_if(|hang| Some(hang.since_ms) != since_ms) {
                say_turned(index, &before, now_ms);
            }
            let Some(since_ms) = since_ms else {
                if !core.is_asleep() {
                    core.ask_for_turn(now_ms);
                }
                continue;
            };
            let waited_ms = now_ms.saturating_sub(since_ms);
            if named.is_none() && waited_ms >= STUCK_AFTER_MS {
                // What is not polled as a request's handler is a task that a handler has spawned, a service's `call`, or the app's own
                // factory or clone.
                let route = RouteNumber::from_polling(core.polling.load(Relaxed)).unwrap_or_default();
                status.stuck.add(route);
                let route = status.routes.template(route).to_owned();
                say_stuck(index, &route, waited_ms);
                *named = Some(Hang { since_ms, route });
            }
            let due_ms = if named.is_some() { PAUSE_STUCK_MS } else { STUCK_AFTER_MS - waited_ms };
            pause_ms = pause_ms.min(due_ms.max(PAUSE_MIN_MS));
        }
        for (core, named) in status.cores.iter().zip(&self.hangs) {
            core.is_blocked.store(named.is_some(), Relaxed);
        }
        status.set_stuck_cores(self.hangs.iter().flatten().count() as u64);
        pause_ms
    }
}

/// What a scrape shows of it, and of polls that were slow.
#[derive(Debug)]
struct Seen(Arc<Status>);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        describe(&mut encoder, "baiwan_stuck_cores")?.encode_gauge(&status.stuck_cores())?;
        for (name, counts) in
            [("baiwan_core_stuck_total", &status.stuck), ("baiwan_slow_polls_total", &status.slow_polls)]
        {
            let mut metric = describe(&mut encoder, name)?;
            for (route, count) in counts.all() {
                let labels = [("route", status.routes.template(route))];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

fn say_stuck(core: usize, route: &str, blocked_ms: u64) {
    say(|| tracing::error!(core, route, blocked_ms, "a core is blocked: a handler does not return to its thread"));
}

fn say_turned(core: usize, hang: &Hang, now_ms: u64) {
    let (route, blocked_ms) = (&hang.route, now_ms.saturating_sub(hang.since_ms));
    say(|| tracing::warn!(core, route, blocked_ms, "a core turns again that was blocked"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (Arc<Status>, Watch) {
        let status = Status::new(2, 1, 1);
        let watch = Watch::new(&status);
        (status, watch)
    }

    /// The core with that number takes a turn whenever it is asked to.
    fn turn(status: &Status, core: usize) {
        status.cores[core].turned();
    }

    #[test]
    fn row_99_a_core_that_is_blocked_is_named_once_and_again_when_it_happens_again() {
        let (status, mut watch) = watch();
        let mut named = Vec::new();
        let route = status.routes.intern("/slow/{how}");
        // The first core is blocked from 1,000 to 6,000, and from 8,000 on.
        for now_ms in (1..=12_000).step_by(100) {
            if !(1_000..6_000).contains(&now_ms) && now_ms < 8_000 {
                turn(&status, 0);
            }
            if now_ms >= 8_000 {
                status.cores[0].polling.store(route.as_polling(), Relaxed);
            }
            turn(&status, 1);
            let before = status.stuck_cores();
            watch.look(&status, now_ms);
            if status.stuck_cores() != before {
                named.push((now_ms, status.stuck_cores()));
            }
        }
        // It was asked at its last turn, 901 and 7,901.
        assert_eq!(named, [(2_901, 1), (6_001, 0), (9_901, 1)]);
        assert_eq!(status.stuck.all(), [(RouteNumber::UNMATCHED, 1), (route, 1)]);
    }

    /// Polls of 300 ms each, in one turn of 6 s; then one of 3 s in a turn that goes on, and again many.
    #[test]
    fn a_turn_of_many_polls_is_not_blocked_but_one_poll_within_it_can_be() {
        let (status, mut watch) = watch();
        status.cores[1].set_asleep(true);
        let route = status.routes.intern("/slow");
        let (polls, polling) = (&status.cores[0].polls, &status.cores[0].polling);
        let mut named = Vec::new();
        for now_ms in (1..=12_000).step_by(100) {
            if !(6_001..9_001).contains(&now_ms) && now_ms % 300 == 1 {
                polls.fetch_add(1, Relaxed);
                polling.store(route.as_polling(), Relaxed);
            }
            let before = status.stuck_cores();
            watch.look(&status, now_ms);
            assert_eq!(status.cores[0].is_blocked.load(Relaxed), status.stuck_cores() == 1);
            if status.stuck_cores() != before {
                named.push((now_ms, status.stuck_cores()));
            }
        }
        // The last poll before began at 5,701.
        assert_eq!(named, [(7_701, 1), (9_001, 0)]);
        assert_eq!(status.stuck.all(), [(route, 1)]);
    }

    #[test]
    fn a_core_that_sleeps_is_not_asked() {
        let (status, mut watch) = watch();
        status.cores[0].set_asleep(true);
        assert_eq!(watch.look(&status, 1), PAUSE_MS);
        assert_eq!([0, 1].map(|core| status.cores[core].turn_asked_ms()), [None, Some(1)]);
        // Another one who asks it is heard.
        status.cores[0].ask_for_turn(2);
        turn(&status, 1);
        watch.look(&status, 2 + STUCK_AFTER_MS);
        assert_eq!(status.stuck_cores(), 1);
    }

    #[test]
    fn a_look_comes_when_a_core_is_due() {
        let (status, mut watch) = watch();
        status.cores[1].set_asleep(true);
        assert_eq!(watch.look(&status, 1), PAUSE_MS);
        assert_eq!(watch.look(&status, 1_801), 200);
        assert_eq!(watch.look(&status, 1_996), PAUSE_MIN_MS);
        assert_eq!(watch.look(&status, 2_001), PAUSE_STUCK_MS);
        assert_eq!(status.stuck_cores(), 1);
        turn(&status, 0);
        assert_eq!(watch.look(&status, 2_101), PAUSE_MS);
        assert_eq!(status.stuck_cores(), 0);
    }

    #[test]
    fn a_watch_ends_with_its_server() {
        let status = Status::new(1, 1, 1);
        let watchdog = Watchdog::begin(Arc::clone(&status)).unwrap();
        drop(watchdog);
        assert_eq!(Arc::strong_count(&status), 1, "its thread has ended, which held the other");
    }
}
