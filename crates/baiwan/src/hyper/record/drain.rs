//! How a stop ends the transports of a core: it tells each, and ends those that are silent after that.
//!
//! Whoever has not switched protocols is told at once. The others are told one after the other, evenly over a while, so that their
//! clients do not all come back in the same moment. *When* everything is over is the loop's business.
//!
//! The invariant: silence ends no connection before it was told, and has been silent for `shutdown_idle` since.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{NEVER, Record, Transports};
use crate::status::CloseReason;

/// Switched connections are told of a stop over this time, or at this rate where that takes longer.
const TELLING_MIN: Duration = Duration::from_secs(5);
const TELLINGS_PER_SECOND: u32 = 20_000;
/// Connections that a stop ends together, and the pause before the next.
const ENDS_MAX: usize = 1000;
const ENDS_PAUSE: Duration = Duration::from_millis(50);
impl Transports {
    /// Over how long connections that have switched are told of the stop. It leaves them some time to be silent in.
    fn telling_time(&self) -> Duration {
        let switched: u64 = self.status.cores.iter().map(|core| core.transports.upgraded.load(Relaxed)).sum();
        let wanted = TELLING_MIN.max(Duration::from_secs(switched) / TELLINGS_PER_SECOND);
        let room = self.stop_time.saturating_sub(self.shutdown_idle) * 3 / 4;
        wanted.min(self.stop_time / 2).min(room.max(self.stop_time / 8))
    }

    pub(super) async fn drain(self: Arc<Self>) {
        let begun_ms = self.now_ms();
        let untold: Vec<Weak<Record>> = self.tell_unswitched();
        // Each has its place in the time for all; cores take turns.
        let (cores, telling_ms) = (self.status.cores.len() as u64, self.telling_time().as_millis() as u64);
        let places = cores * untold.len() as u64;
        let due_ms = |at: usize| begun_ms + telling_ms * (at as u64 * cores + self.index as u64) / places;
        let mut told = 0;
        loop {
            while told < untold.len() && due_ms(told) <= self.now_ms() {
                if let Some(record) = untold[told].upgrade() {
                    record.tell();
                }
                told += 1;
            }
            let mut next_ms = self.end_silent().await;
            if told < untold.len() {
                next_ms = next_ms.min(due_ms(told));
            }
            if next_ms == NEVER {
                break;
            }
            // Each look is at all of them, so many that become silent one after the other are ended together.
            let due = self.started + Duration::from_millis(next_ms);
            tokio::time::sleep_until(due.max(Instant::now() + ENDS_PAUSE)).await;
        }
        // From here on a new one starts this again.
        self.drained.store(false, Relaxed);
    }

    /// Tells all that have not switched protocols. Returns the others that were not told, in the order in which they came.
    fn tell_unswitched(&self) -> Vec<Weak<Record>> {
        let records = self.records().clone();
        let mut untold = Vec::new();
        for record in records.iter().filter_map(Weak::upgrade).filter(|record| !record.was_told()) {
            match record.has_switched() {
                true => untold.push(Arc::downgrade(&record)),
                false => record.tell(),
            }
        }
        untold
    }

    /// Ends those that were told and are silent since. Returns when the next one will be, in milliseconds since the core's start.
    async fn end_silent(&self) -> u64 {
        // Nothing may be kept alive while this pauses: whoever closes then would find the list full of records, every time.
        let records = self.records().clone();
        let (mut ended, mut next_ms) = (0, NEVER);
        for record in records.iter().filter_map(Weak::upgrade).filter(|record| record.was_told() && !record.has_ended())
        {
            let due_ms = record.silent_at_ms();
            if due_ms > self.now_ms() {
                next_ms = next_ms.min(due_ms);
                continue;
            }
            record.end(CloseReason::Drained);
            drop(record);
            ended += 1;
            if ended % ENDS_MAX == 0 {
                tokio::time::sleep(ENDS_PAUSE).await;
            }
        }
        next_ms
    }
}

#[cfg(test)]
mod tests {
    use baiwan_driver::Peer;

    use super::*;
    use crate::gate::Entry;
    use crate::hyper::record::{Counted, RECORDS_MIN};
    use crate::settings::Settings;
    use crate::status::Status;

    /// A core with a number of connections that have switched protocols.
    fn with_switched(settings: &Settings, count: usize) -> (Arc<Status>, Arc<Transports>, Vec<Counted>) {
        let status = Status::new(1, u64::MAX, u64::MAX);
        let transports = Transports::new(settings, Arc::clone(&status), 0, None);
        let open = || {
            assert!(status.try_open(0));
            let transport = transports.take_over(Entry::Taken(None), Peer::Unix, None);
            transport.record().switch();
            transport
        };
        let open = std::iter::repeat_with(open).take(count).collect();
        (status, transports, open)
    }

    fn count(open: &[Counted], is: impl Fn(&Record) -> bool) -> usize {
        open.iter().filter(|transport| is(transport.record())).count()
    }

    async fn advance(time: Duration) {
        tokio::time::advance(time).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_stop_holds_on_to_nothing_that_it_has_ended() {
        let (status, transports, mut open) = with_switched(&Settings::default(), ENDS_MAX + 100);
        transports.begin_drain();
        advance(Duration::ZERO).await;
        advance(TELLING_MIN).await;
        assert_eq!(count(&open, Record::was_told), open.len());
        advance(Settings::default().shutdown_idle + Duration::from_millis(1)).await;
        let ended = count(&open, Record::has_ended);
        assert!(ended < open.len(), "the others have to wait");
        // Whoever closes looks through the list: what has ended must leave it, or the list is looked through in vain each time.
        open.clear();
        assert!(transports.records().len() <= RECORDS_MIN, "{} are kept", transports.records().len());
        assert_eq!(status.cores[0].transports.closed(CloseReason::Drained).load(Relaxed), ended as u64);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn switched_connections_are_told_evenly_and_silence_ends_none_before() {
        const MANY: usize = 1000;
        let settings = Settings { shutdown_idle: Duration::ZERO, ..Settings::default() };
        let (_status, transports, open) = with_switched(&settings, MANY);
        // They have been silent for longer than any silence is borne.
        advance(Duration::from_secs(60)).await;
        transports.begin_drain();
        advance(Duration::ZERO).await;
        for step in 1..=10 {
            advance(TELLING_MIN / 10).await;
            let (told, ended) = (count(&open, Record::was_told), count(&open, Record::has_ended));
            let expected = MANY * step / 10;
            assert!(told.abs_diff(expected) <= MANY / 50, "{told} of {expected} after {step} tenths");
            assert!(ended <= told, "{ended} ended, {told} told");
        }
        advance(ENDS_PAUSE * 2).await;
        assert_eq!(count(&open, Record::has_ended), MANY);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn whoever_has_not_switched_or_comes_later_is_told_at_once() {
        let (status, transports, switched) = with_switched(&Settings::default(), 2);
        assert!(status.try_open(0));
        let before = transports.take_over(Entry::Taken(None), Peer::Unix, None);
        let asked_early = before.record().ending();
        transports.begin_drain();
        advance(Duration::ZERO).await;
        assert!(asked_early.has_happened());
        assert!(status.try_open(0));
        let after = transports.take_over(Entry::Taken(None), Peer::Unix, None);
        assert!(after.record().ending().has_happened());
        assert_eq!(count(&switched, Record::was_told), 1, "the first place is at once, the second later");
        advance(TELLING_MIN / 2 + ENDS_PAUSE).await;
        assert_eq!(count(&switched, Record::was_told), 2);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn the_time_for_telling_fits_into_that_of_the_stop() {
        let telling = |timeout: u64, idle: u64, switched: u64| {
            let [shutdown_timeout, shutdown_idle] = [timeout, idle].map(Duration::from_millis);
            let settings = Settings { shutdown_timeout, shutdown_idle, ..Settings::default() };
            let status = Status::new(2, u64::MAX, u64::MAX);
            status.cores[1].transports.upgraded.store(switched, Relaxed);
            Transports::new(&settings, status, 0, None).telling_time().as_millis()
        };
        assert_eq!(telling(25_000, 5_000, 0), 5_000);
        assert_eq!(telling(60_000, 5_000, 200_000), 10_000, "at 20,000 a second");
        assert_eq!(telling(60_000, 5_000, 10_000_000), 30_000, "half of the time");
        assert_eq!(telling(8_000, 5_000, 0), 2_250, "silence must have its time");
        assert_eq!(telling(80, 5_000, 0), 10);
    }
}
