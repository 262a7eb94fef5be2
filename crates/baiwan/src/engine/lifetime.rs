//! What follows from the age of a connection, and from the number of its requests.
//!
//! Without an end, long-lived clients never reach a new instance behind a load balancer. A connection ends in the least harmful way
//! that is left: in an answer that says so; where none comes, while it is idle and has been for a while; and where an exchange goes on, its
//! handler hears of it (`crate::Ending`) and has `AGE_GRACE`.
//!
//! Here is said *when*; what is done then is `expire`'s and `respond`'s.
//!
//! The invariant: no request that was received before the last answer began is lost.

use std::time::Duration;

use baiwan_http1::BodyFraming;

use super::table::{Flags, Lifetime, Table};
use super::terms::Terms;
use crate::clock::Tick;
use crate::ending::OfConnection;
use crate::settings::AGE_GRACE;
use crate::status::CloseReason;

/// A connection that is old is closed without an answer only when it was idle for this long, or a tenth of the age if that is less: who
/// asks often is told by an answer, and never meets a close half way.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The lifetime of a connection that begins now; none where no setting asks.
pub(super) fn begin(terms: &Terms) -> Option<Lifetime> {
    let age = terms.settings.draw_age();
    let requests = terms.settings.max_connection_requests;
    if age.is_none() && requests.is_none() {
        return None;
    }
    Some(Lifetime { ends: terms.deadline(age), requests_left: requests.map_or(u32::MAX, |requests| requests.get()) })
}

/// Until when a connection that becomes idle now may be that, if it may until `deadline` for other reasons.
pub(super) fn idle_deadline<S>(terms: &Terms, table: &Table<S>, index: u32, deadline: Tick) -> Tick {
    match table.lifetime(index) {
        None | Some(Lifetime { ends: Tick::NEVER, .. }) => deadline,
        Some(Lifetime { ends, .. }) => {
            let quiet = terms.settings.max_connection_age.map(|age| (age / 10).min(QUIET_MAX));
            deadline.min((*ends).max(terms.deadline(quiet)))
        }
    }
}

/// Whether a connection is old enough to end.
#[inline]
pub(super) fn is_over<S>(terms: &Terms, table: &Table<S>, index: u32) -> bool {
    table.lifetime(index).is_some_and(|lifetime| lifetime.ends <= terms.clock.tick())
}

/// Why a connection ends whose last answer said so.
pub(super) fn reason_after_answer<S>(terms: &Terms, table: &Table<S>, index: u32) -> CloseReason {
    match is_over(terms, table, index) {
        true => CloseReason::Age,
        false => CloseReason::Complete,
    }
}

/// Counts a request. Returns whether its answer is to be the last: because it is the last that is allowed, or because the connection is old
/// and nothing more was received from it. `rest` is what was received behind its head.
#[inline]
pub(super) fn take_request<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    framing: BodyFraming,
    rest: &[u8],
) -> bool {
    let Some(lifetime) = table.lifetime_mut(index) else { return false };
    if lifetime.take_request() {
        return true;
    }
    let ends = lifetime.ends;
    if ends > terms.clock.tick() {
        return false;
    }
    let follows = match framing {
        BodyFraming::None => !rest.is_empty() || table[index].flags.has(Flags::READABLE),
        BodyFraming::Length(length) => rest.len() as u64 > length,
        // Where it ends is not known yet.
        BodyFraming::Chunked => false,
    };
    // One that always has more to ask ends all the same.
    !follows || has_had_grace(terms, ends)
}

/// What the handler of a request may wait for, if its connection has an age.
pub(super) fn ending<S>(terms: &Terms, table: &Table<S>, index: u32) -> Option<OfConnection> {
    let ends = table.lifetime(index)?.ends;
    if ends == Tick::NEVER {
        return None;
    }
    let ending = OfConnection::default();
    if ends <= terms.clock.tick() {
        ending.0.fire();
    }
    Some(ending)
}

/// The end of the age of a connection whose exchange begins.
pub(super) fn exchange_due<S>(table: &Table<S>, index: u32) -> Tick {
    table.lifetime(index).map_or(Tick::NEVER, |lifetime| lifetime.ends)
}

/// The age of a connection is reached while an exchange goes on: its handler hears of it, and what it answers is the last, if nothing was
/// received behind the request. Returns whether it had heard of it before, and its time is over.
pub(super) fn tell_or_give_up<S>(terms: &Terms, table: &mut Table<S>, index: u32) -> bool {
    let follows = table.holds_request(index) || table[index].flags.has(Flags::READABLE);
    let Some(busy) = table.busy_mut(index) else { return false };
    let Some(exchange) = &mut busy.exchange else { return false };
    let Some(ending) = exchange.ending.take() else { return true };
    ending.0.fire();
    if !follows {
        exchange.course.is_last = true;
    }
    busy.age_due = terms.deadline(Some(AGE_GRACE));
    table.update_deadline(index);
    false
}

fn has_had_grace(terms: &Terms, ends: Tick) -> bool {
    terms.clock.now() >= terms.clock.instant(ends) + AGE_GRACE
}
