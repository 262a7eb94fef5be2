//! A core whose loop panicked.
//!
//! Handlers are caught where they run. What unwinds to here is a bug of ours, or of something of the app's that runs in our
//! hands, such as dropping the bytes of an answer. It costs the connections of this core and nothing else: they are reset, the
//! loop begins anew with the same listeners, and the tasks of the core's runtime never notice. A core that goes on panicking
//! gives up, so that a supervisor can start the process afresh.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

use baiwan_driver::{Close, Driver};
use tokio::time::Instant;

use super::Engine;
use super::close::{count_out, end_record, take_exchange};
use super::table::{Busy, Slot};
use super::terms::Terms;
use crate::BodyError;
use crate::app::App;
use crate::say::say;
use crate::status::{CloseReason, add};

/// A core that panics this often within `PANICS_WITHIN` ends the server.
const PANICS_MAX: usize = 3;
const PANICS_WITHIN: Duration = Duration::from_secs(60);

/// When the loop panicked, lately: at most `PANICS_MAX` times.
#[derive(Debug, Default)]
pub(super) struct Panics(VecDeque<Instant>);

impl Panics {
    /// Notes one more. Returns whether that was one too many.
    fn note(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < PANICS_WITHIN);
        self.0.push_back(now);
        self.0.len() >= PANICS_MAX
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    /// One turn; if it panics, the core begins anew.
    pub(super) fn turn_and_recover(&mut self, area: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match catch_unwind(AssertUnwindSafe(|| self.turn(area, cx))) {
            Ok(outcome) => outcome,
            Err(_) => {
                add(&self.terms.status().core_panics, 1);
                let connections = self.table.len();
                say(|| {
                    tracing::error!(
                        core = self.terms.board.index,
                        connections,
                        "the loop panicked: its connections are reset"
                    )
                });
                self.begin_anew();
                cx.waker().wake_by_ref();
                match self.panics.note(self.terms.clock.now()) {
                    false => Poll::Pending,
                    true => Poll::Ready(Err(io::Error::other("the loop panicked 3 times within a minute"))),
                }
            }
        }
    }

    /// Ends every connection, without trust in anything that was going on, and starts with empty hands.
    fn begin_anew(&mut self) {
        let Self { terms, ports, apps, listeners, drain, .. } = self;
        let next = self.table.successor(terms.clock.tick());
        let mut connections = std::mem::replace(&mut self.table, next);
        ports.outbox.begin_anew(terms.clock.now());
        (self.lists, self.batch) = Default::default();
        if let Some(drain) = drain {
            drain.skip();
        }
        for index in 0..connections.end() {
            if let Some((slot, busy)) = connections.salvage(index) {
                abandon(terms, &mut ports.driver, slot, busy);
            }
        }
        apps.begin_anew();
        listeners.begin_anew(&mut ports.driver);
    }
}

fn abandon<D: Driver>(terms: &Terms, driver: &mut D, slot: Slot<D::Socket>, busy: Option<Busy>) {
    driver.close(slot.socket, Close::Reset);
    count_out(terms, slot.flags, slot.peer, CloseReason::CoreFailed);
    // What the app left behind may panic again when it is dropped: that is all that is lost then.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let Some(mut busy) = busy else { return };
        let exchange = take_exchange(&mut busy);
        end_record(terms, &mut busy, Some(CloseReason::CoreFailed));
        if let Some(feed) = exchange.as_ref().and_then(|exchange| exchange.feed.as_ref()) {
            feed.inlet.handle_failure(BodyError::Disconnected);
        }
    }));
}
