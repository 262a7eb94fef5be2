//! What the server answers by itself, through hyper: the words are `own_answer`'s.
//!
//! Each answer leaves its trace where records and close reasons are kept. It is *not* decided here who is answered so.
//!
//! The invariant: an answer that is its connection's last says why the connection ends.

use baiwan_http1::short_response;
use http::{HeaderValue, Response, StatusCode, header};

use super::answer::Answer;
use super::switch::Switch;
use crate::own_answer::{OwnAnswer, StandsFor};
use crate::settings::Settings;
use crate::status::CloseReason;

/// What the server says of itself as a whole.
pub(super) fn answer_without_app<B>(last: bool) -> Response<Answer<B>> {
    let mut response = Response::new(Answer::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    if last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer of a server whose app has none that can be sent. It is the connection's last.
pub(super) fn failed<B>(settings: &Settings, switch: &Switch) -> Response<Answer<B>> {
    let answer = OwnAnswer::new(StatusCode::INTERNAL_SERVER_ERROR, "the-request-could-not-be-handled");
    instead(settings, switch, answer, CloseReason::HandlerFailed)
}

/// An answer of the server's own after which the connection ends, for this reason.
pub(super) fn instead<B>(
    settings: &Settings,
    switch: &Switch,
    answer: OwnAnswer<'_>,
    reason: CloseReason,
) -> Response<Answer<B>> {
    last(settings, switch, None, answer, reason)
}

/// The same, because of what has this name: it was refused by a rule or by the gate.
pub(super) fn refused<B>(
    settings: &Settings,
    switch: &Switch,
    name: &'static str,
    answer: OwnAnswer<'_>,
    reason: CloseReason,
) -> Response<Answer<B>> {
    last(settings, switch, Some(name), answer, reason)
}

fn last<B>(
    settings: &Settings,
    switch: &Switch,
    denied: Option<&'static str>,
    answer: OwnAnswer<'_>,
    reason: CloseReason,
) -> Response<Answer<B>> {
    switch.record.note(reason);
    if let Some(exchanges) = switch.record.exchanges() {
        exchanges.handle_refusal(reason, denied);
    }
    own(settings, switch, answer, false)
}

/// The answer to a request that broke no rule and was not let through, because of what has this name.
pub(super) fn denied<B>(
    settings: &Settings,
    switch: &Switch,
    name: &'static str,
    answer: OwnAnswer<'_>,
    keep_alive: bool,
) -> Response<Answer<B>> {
    if let Some(exchanges) = switch.record.exchanges() {
        exchanges.handle_denied(name);
    }
    own(settings, switch, answer, keep_alive)
}

/// An answer of the server's own, as the engine words it.
fn own<B>(settings: &Settings, switch: &Switch, answer: OwnAnswer<'_>, keep_alive: bool) -> Response<Answer<B>> {
    let asked = switch.asked.borrow().clone().unwrap_or_default();
    let mut response = answer.write(settings, &asked, |short| short_response(short, keep_alive).map(Answer::Own));
    response.extensions_mut().insert(StandsFor(answer.status));
    response
}
