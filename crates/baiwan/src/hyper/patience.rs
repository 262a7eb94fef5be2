//! How long an app's answer is waited for, by the server's settings and by what layers of its route say.
//!
//! The invariant: what a layer says holds from the poll on that has reached it, for this request alone.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::record::Record;
use crate::call_scope::{Whose, listen};
use crate::recorder::Recorder;
use crate::route_table::RouteNumber;

/// Nothing is waited for any longer.
pub(super) struct Late;

/// Waits for what the app makes of a request, for as long as its route allows, or else for `timeout`. A body that is beyond the limit of its
/// route is noted in the record, and what the app makes of it is of no use.
pub(super) async fn within_time<T>(
    call: impl Future<Output = T>,
    timeout: Option<Duration>,
    record: &Record,
) -> Result<T, Late> {
    let mut call = pin!(call);
    let mut timer = begin(timeout);
    let recorder = record.exchanges().map(|exchanges| exchanges.recorder());
    let (route, mut is_route_told) = (Cell::default(), false);
    poll_fn(|cx| {
        let poll = || listen(recorder, &route, Whose::Other, || call.as_mut().poll(cx));
        let (polled, told) = Recorder::timed(recorder, &route, poll);
        if let Some(exchanges) = record.exchanges()
            && route.get() != RouteNumber::UNMATCHED
            && !is_route_told
        {
            is_route_told = true;
            exchanges.handle_route(route.get());
        }
        if let Some(told) = told {
            record.obey_route(&told.limits);
            record.note_decisions(told.decisions);
            if let Some(timeout) = told.limits.request_timeout {
                timer = begin(timeout);
            }
            if told.is_too_large {
                record.refuse_body();
                return Poll::Ready(Err(Late));
            }
        }
        match (polled, &mut timer) {
            (Poll::Ready(made), _) => Poll::Ready(Ok(made)),
            (Poll::Pending, Some(timer)) => timer.as_mut().poll(cx).map(|()| Err(Late)),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

fn begin(timeout: Option<Duration>) -> Option<Pin<Box<Sleep>>> {
    timeout.map(|timeout| Box::pin(sleep(timeout)))
}
