//! What an operator sees at `/` of the admin side: fifteen minutes of a server's numbers, and the page that draws them.
//!
//! ```text
//!   admin thread, once a second: Moment ─► History (900 seconds, plain numbers) ─► JSON of what is new, once a second and page
//!                                      └─► Routes  (one minute)
//! ```
//!
//! | file | part |
//! |---|---|
//! | `history` | the seconds: what each moment differs by from the one before |
//! | `routes` | which routes were asked most in the last minute |
//! | `quantile` | percentiles out of wide buckets |
//! | `wire` | all of it as JSON |
//! | `assets` | the page, its script and style, and the library that draws |
//!
//! It reads what is counted anyway; it serves nothing and decides nothing. The invariant: nothing of it runs on a core, and its size
//! depends on nothing but the number of cores and of routes, which have maxima.

mod assets;
mod history;
mod quantile;
mod routes;
mod wire;

pub(crate) use self::assets::asset;
pub(crate) use self::history::{Failure, Moment};
pub(crate) use self::routes::RouteCounts;
pub(crate) use self::wire::{Check, Facts, Rows, State};

use self::history::History;
use self::routes::Routes;

/// How often a moment is wanted.
pub(crate) const PERIOD: std::time::Duration = std::time::Duration::from_secs(1);

/// All that the page shows of one server.
#[derive(Debug)]
pub(crate) struct Dashboard {
    facts: Facts,
    history: History,
    routes: Routes,
    /// The newest first.
    failures: Vec<Failure>,
}

impl Dashboard {
    pub(crate) fn new(facts: Facts) -> Self {
        Self { facts, history: History::default(), routes: Routes::default(), failures: Vec::new() }
    }

    /// Takes in how things stand now.
    pub(crate) fn handle_moment(&mut self, moment: &Moment) {
        self.history.handle_moment(moment);
        self.routes.handle_moment(moment.monotonic_ms, &moment.routes);
        self.failures.clone_from(&moment.failures);
    }

    /// The answer to `GET /dashboard/data?after=SEQUENCE`: JSON with the seconds that are newer than `after`, or with all of them, and with
    /// everything else as it is now.
    pub(crate) fn data(&self, after: Option<u64>, state: &State) -> Vec<u8> {
        wire::encode(self, after, state)
    }
}
