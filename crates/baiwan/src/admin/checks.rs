//! Named health checks of the app's: whether what it needs is there.
//!
//! ```text
//!   every 5 s: the admin thread has a thread of blocking calls run the check ─► verdict ─► /health, /health/ready, metrics
//! ```
//!
//! A check is the app's code, so it may hang, block its thread, or panic. That costs its own verdict: it runs on a thread of the admin
//! runtime's, never on the one that answers, and has a second. One that has not returned is not run again until it has.
//!
//! At the end, checks that wait are dropped while the runtime still drives what they wait for: a timer or socket that is polled after
//! its runtime has ended panics.
//!
//! The invariant: whoever asks for a verdict does not wait for a check.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch::{self, Receiver};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::say::say;

/// Between two runs of a check.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a check may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// A check whose thread has not come back by then, after its deadline, blocks it.
const RETURN_MAX: Duration = Duration::from_millis(200);

type Outcome = Result<(), String>;
type Run = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// The checks of an admin side.
#[derive(Default)]
pub(super) struct Checks {
    runs: Vec<Run>,
    verdicts: Vec<Arc<Verdict>>,
}

/// Ends the runs of checks. Whatever a run is waiting for is dropped then, and no verdict comes of it.
#[derive(Clone, Debug)]
pub(super) struct RunsEnd(watch::Sender<bool>);

/// What is known of one check.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    /// Without it the server is not ready.
    pub(crate) is_required: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// It has not been run.
    Unknown,
    Good,
    /// Since when, and why.
    Bad(Instant, String),
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.verdicts.iter().map(|verdict| &verdict.name)).finish()
    }
}

impl Checks {
    pub(super) fn add<F, C, E>(&mut self, name: String, is_required: bool, check: F)
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let run = move || -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
            let check = check();
            Box::pin(async move { check.await.map_err(|error| error.to_string()) })
        };
        self.runs.push(Arc::new(run));
        self.verdicts.push(Arc::new(Verdict { name, is_required, state: Mutex::new(State::Unknown) }));
    }

    /// What is known of each, now and later.
    pub(super) fn verdicts(&self) -> Vec<Arc<Verdict>> {
        self.verdicts.clone()
    }

    /// Has all be run from now on, on the local runtime within which this is called.
    pub(super) fn begin(self, end: &RunsEnd) {
        for (run, verdict) in self.runs.into_iter().zip(self.verdicts) {
            drop(tokio::task::spawn_local(watch(run, verdict, end.clone())));
        }
    }
}

impl RunsEnd {
    pub(super) fn new() -> Self {
        Self(watch::channel(false).0)
    }

    /// Ends all runs, and waits until they have ended; but for no longer than `max`, because one that blocks its thread does not.
    pub(super) async fn come(&self, max: Duration) {
        let Self(end) = self;
        end.send_replace(true);
        // Each run holds a receiver.
        let _ = timeout(max, end.closed()).await;
    }
}

impl Verdict {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the check succeeded when it was run last; `None` when it was not run yet.
    pub(crate) fn is_good(&self) -> Option<bool> {
        match *self.state() {
            State::Unknown => None,
            State::Good => Some(true),
            State::Bad(..) => Some(false),
        }
    }

    /// Why it failed when it was run last, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        match &*self.state() {
            State::Unknown | State::Good => None,
            State::Bad(_, reason) => Some(reason.clone()),
        }
    }

    /// Takes in how a run ended, and says what has changed.
    fn take(&self, outcome: Outcome) {
        let name = &self.name;
        let mut state = self.state();
        match (&mut *state, outcome) {
            (State::Bad(since, _), Ok(())) => {
                let failed_seconds = since.elapsed().as_secs();
                *state = State::Good;
                drop(state);
                say(|| tracing::info!(check = name, failed_seconds, "a health check succeeds again"));
            }
            (_, Ok(())) => *state = State::Good,
            (State::Bad(_, reason), Err(again)) => *reason = again,
            (_, Err(reason)) => {
                *state = State::Bad(Instant::now(), reason.clone());
                drop(state);
                let is_required = self.is_required;
                say(|| tracing::warn!(check = name, reason, is_required, "a health check fails"));
            }
        }
    }
}

/// Runs one check again and again, until the end.
async fn watch(run: Run, verdict: Arc<Verdict>, end: RunsEnd) {
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running: Option<JoinHandle<Option<Outcome>>> = None;
    loop {
        pause.tick().await;
        let mut run_of_it = running.take().unwrap_or_else(|| begin(&run, &end));
        let outcome = match timeout(DEADLINE + RETURN_MAX, &mut run_of_it).await {
            Ok(Ok(Some(outcome))) => outcome,
            Ok(Ok(None)) => return,
            Ok(Err(_)) => Err("it panicked".to_owned()),
            Err(_) => {
                running = Some(run_of_it);
                Err("it blocks its thread".to_owned())
            }
        };
        verdict.take(outcome);
    }
}

/// Runs a check once. None if the end comes first.
fn begin(run: &Run, RunsEnd(end): &RunsEnd) -> JoinHandle<Option<Outcome>> {
    let (run, ended) = (Arc::clone(run), end.subscribe());
    spawn_blocking(move || {
        let begin = Instant::now();
        let outcome = Handle::current().block_on(until_end(ended, async { timeout(DEADLINE, run()).await }))?;
        // One that blocks its thread is not stopped by the timeout, and ends when it likes.
        Some(match outcome {
            Ok(outcome) if begin.elapsed() <= DEADLINE + RETURN_MAX => outcome,
            _ => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        })
    })
}

/// What comes of a run, unless the end comes first.
async fn until_end<T>(mut ended: Receiver<bool>, run: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        // An error says that nobody is left who could end it otherwise.
        _ = ended.wait_for(|ended| *ended) => None,
        outcome = run => Some(outcome),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn verdict() -> Verdict {
        Verdict { name: "redis".to_owned(), is_required: true, state: Mutex::new(State::Unknown) }
    }

    #[test]
    fn a_verdict_is_that_of_the_last_run() {
        let verdict = verdict();
        assert_eq!(verdict.is_good(), None);
        for (outcome, good) in [(Ok(()), true), (Err("away".to_owned()), false), (Err("still".to_owned()), false)] {
            verdict.take(outcome);
            assert_eq!(verdict.is_good(), Some(good));
        }
        assert!(matches!(&*verdict.state(), State::Bad(_, reason) if reason == "still"));
        verdict.take(Ok(()));
        assert_eq!(verdict.is_good(), Some(true));
    }

    #[test]
    fn a_check_that_fails_hangs_blocks_or_panics_is_bad_and_does_not_hold_up_the_others() {
        use std::sync::mpsc::sync_channel;

        let (release, released) = sync_channel::<()>(0);
        let released = Mutex::new(released);
        let mut checks = Checks::default();
        checks.add("good".to_owned(), false, || async { Ok::<_, String>(()) });
        checks.add("failing".to_owned(), false, || async { Err("away") });
        checks.add("hanging".to_owned(), false, std::future::pending::<Result<(), String>>);
        checks.add("panicking".to_owned(), false, || async {
            if true { panic!("on purpose") } else { Ok::<_, String>(()) }
        });
        checks.add("blocking".to_owned(), false, move || {
            let _ = released.lock().unwrap().recv();
            async { Ok::<_, String>(()) }
        });
        let verdicts = checks.verdicts();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        let good = runtime.block_on(async {
            checks.begin(&RunsEnd::new());
            while verdicts.iter().any(|verdict| verdict.is_good().is_none()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            verdicts.iter().map(|verdict| verdict.is_good().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(good, [true, false, false, false, false]);
        let reason = |index: usize| match &*verdicts[index].state() {
            State::Bad(_, reason) => reason.clone(),
            _ => String::new(),
        };
        assert_eq!([1, 2, 3, 4].map(reason), ["away", "no answer within 1 s", "it panicked", "it blocks its thread"]);
        drop(release);
    }

    /// Sets what it has when it is dropped, within a runtime that still turns.
    struct DroppedInTime(Arc<AtomicBool>);

    impl Drop for DroppedInTime {
        fn drop(&mut self) {
            self.0.store(!std::thread::panicking(), Relaxed);
        }
    }

    #[test]
    fn a_check_that_waits_ends_with_the_runs_and_without_a_verdict() {
        let (begun, has_begun) = std::sync::mpsc::sync_channel::<()>(1);
        let is_dropped = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&is_dropped);
        let mut checks = Checks::default();
        checks.add("waiting".to_owned(), true, move || {
            let (begun, held) = (begun.clone(), DroppedInTime(Arc::clone(&held)));
            async move {
                let _held = held;
                let _ = begun.try_send(());
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                Ok::<_, String>(())
            }
        });
        let verdicts = checks.verdicts();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let end = RunsEnd::new();
            checks.begin(&end);
            while has_begun.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            end.come(Duration::from_secs(3_600)).await;
            assert!(is_dropped.load(Relaxed), "it was dropped while the runtime turned");
        });
        assert_eq!(verdicts[0].is_good(), None);
    }
}
