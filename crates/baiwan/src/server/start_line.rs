//! How cores start together: each builds what all must be able to wake, and goes on when all have.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::Error;

/// The start of a core, as the starting thread sees it.
pub(super) struct Start {
    index: usize,
    reports: Receiver<Result<(), Error>>,
    go: SyncSender<()>,
}

/// The start of a core, as the core sees it: it reports twice, and crosses the line in between.
pub(super) struct StartLine {
    reports: SyncSender<Result<(), Error>>,
    go: Receiver<()>,
}

/// Takes all cores through their start. Where one fails, the others may not cross the line, or are stopped.
pub(super) fn start_all(starts: &[Start]) -> Result<(), Error> {
    // What a core must be able to wake is there when every runtime is: only then may tables part.
    starts.iter().try_for_each(Start::wait)?;
    for start in starts {
        // A core that has ended meanwhile says why below.
        let _ = start.go.send(());
    }
    starts.iter().try_for_each(Start::wait)
}

impl Start {
    pub(super) fn new(index: usize) -> (Self, StartLine) {
        let (report, reports) = sync_channel(2);
        let (go, gone) = sync_channel(1);
        (Self { index, reports, go }, StartLine { reports: report, go: gone })
    }

    /// Waits for the core's next report.
    fn wait(&self) -> Result<(), Error> {
        self.reports.recv().unwrap_or(Err(Error::CorePanicked(self.index)))
    }
}

impl StartLine {
    /// Says how far the core has come. Nobody hears it where another core has failed.
    pub(super) fn report(&self, outcome: Result<(), Error>) {
        let _ = self.reports.send(outcome);
    }

    /// What a core needs, if it could be had. If not, that is the last that the core says.
    pub(super) fn check<T>(&self, made: Result<T, Error>) -> Option<T> {
        made.map_err(|error| self.report(Err(error))).ok()
    }

    /// Waits until all cores are at the line; `false` if one cannot come.
    pub(super) fn wait_for_all(&self) -> bool {
        self.report(Ok(()));
        self.go.recv().is_ok()
    }
}
