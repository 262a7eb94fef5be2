//! Named health checks of the app's: whether what it needs is there.
//!
//! ```text
//!   every 5 s: the admin thread has a thread of blocking calls run the check ─► verdict ─► /health, /health/ready, metrics
//! ```
//!
//! A check is the app's code, so it may hang, block its thread, or panic. That costs its own verdict: it runs on a thread of the admin
//! runtime's, never on the one that answers, and has a second. One that has not returned is not run again until it has.
//!
//! The invariant: whoever asks for a verdict does not wait for a check.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
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
    pub(super) fn begin(self) {
        for (run, verdict) in self.runs.into_iter().zip(self.verdicts) {
            drop(tokio::task::spawn_local(watch(run, verdict)));
        }
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

/// Runs one check again and again.
async fn watch(run: Run, verdict: Arc<Verdict>) {
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running: Option<JoinHandle<Outcome>> = None;
    loop {
        pause.tick().await;
        let mut run_of_it = running.take().unwrap_or_else(|| begin(&run));
        let outcome = match timeout(DEADLINE + RETURN_MAX, &mut run_of_it).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("it panicked".to_owned()),
            Err(_) => {
                running = Some(run_of_it);
                Err("it blocks its thread".to_owned())
            }
        };
        verdict.take(outcome);
    }
}

fn begin(run: &Run) -> JoinHandle<Outcome> {
    let run = Arc::clone(run);
    spawn_blocking(move || {
        let begin = Instant::now();
        let outcome = Handle::current().block_on(async { timeout(DEADLINE, run()).await });
        // One that blocks its thread is not stopped by the timeout, and ends when it likes.
        match outcome {
            Ok(outcome) if begin.elapsed() <= DEADLINE + RETURN_MAX => outcome,
            _ => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    })
}

#[cfg(test)]
mod tests {
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
            checks.begin();
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
}
