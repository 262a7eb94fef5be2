//! What layers of a route say to an exchange that is in progress already.
//!
//! What they say when the app is first called is heard in `respond`. This is for a layer behind something that waits, such as a
//! middleware that asks a database who the client is.
//!
//! The invariant: what a route says holds for the exchange in which it is said, and for no later one of the connection.

use baiwan_driver::Driver;
use baiwan_http1::Refusal;

use super::call::note_decisions;
use super::exchange::Progress;
use super::ports::Ports;
use super::table::Table;
use super::terms::Terms;
use super::upload::refuse_body;
use crate::call_scope::Told;

/// Has the exchange obey what was heard from layers of its route. Returns whether it goes on.
pub(super) fn obey_route<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    told: &Told,
) -> bool {
    let Some(busy) = table.busy_mut(index) else { return false };
    note_decisions(terms, told.decisions, busy.draft.as_deref_mut());
    let Some(exchange) = &mut busy.exchange else { return false };
    let limits = &told.limits;
    let (fits, rate_min) = match &mut exchange.feed {
        Some(feed) => (feed.obey(limits), feed.rate_min),
        None => (true, 0),
    };
    if told.is_too_large || !fits {
        refuse_body(terms, ports, table, index, Refusal::BodyTooLarge, &[]);
        return false;
    }
    if told.for_events {
        busy.asked.get_or_insert_default().note_events();
    }
    if let Some(timeout) = limits.request_timeout
        && exchange.course.progress == Progress::Waiting
    {
        busy.request_due = terms.deadline(timeout);
    }
    if let Some(timeout) = limits.body_timeout {
        busy.body_ends = terms.deadline(timeout);
    }
    if let Some(pace) = &mut busy.pace {
        pace.change(busy.body_ends, &terms.clock, rate_min);
    }
    table.update_deadline(index);
    true
}
