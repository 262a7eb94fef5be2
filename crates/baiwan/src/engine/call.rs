//! One call of the app: polled once, and what is there of its answer encoded.
//!
//! What becomes of the connection is *not* decided here (`respond`).
//!
//! The invariant: the app is called within a scope in which layers of its route are heard, and its request is the one that is handled.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use baiwan_http1::ResponseContext;
use http::{Request, Response, StatusCode};

use super::answer::{Answer, Heading, Spare, encode, say_unsendable};
use super::apps::Callee;
use super::feed::{Feed, keeps_alive};
use super::place::Place;
use super::terms::Terms;
use crate::app::{App, Call, call_when_ready};
use crate::call_scope::{Told, Whose, listen_for};
use crate::rate_limit::{Left, Warning};
use crate::recorder::Recorder;
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;
use crate::{Body, BoxError};

/// What the app made of a request.
pub(super) enum Called<B> {
    /// Nothing yet.
    Pending(Call<B>),
    /// An answer that is encoded, but for the rest of its body, and for what is sent from where it is.
    Answered(Answer<B>),
    /// The server answers instead: the body is beyond the limit of its route.
    TooLarge,
    /// Nothing that can be sent.
    Failed,
}

/// What the app is called with, and how its answer is given.
pub(super) struct Calling<'a> {
    pub(super) context: ResponseContext,
    /// What is left of its client's limit, if the answer should say so.
    pub(super) left: Option<Left>,
    /// What its request is called.
    pub(super) id: Option<&'a RequestId>,
    /// The request's body, if more of that is to come.
    pub(super) feed: Option<&'a mut Feed>,
    /// Its route, written as soon as it is known.
    pub(super) route: &'a Cell<RouteNumber>,
    /// What layers of its route have said, written when it was polled.
    pub(super) told: &'a mut Option<Told>,
}

/// Calls the app with the request that is made then, polls the call once, and encodes what is there. What of the answer is sent from where
/// it is comes into the queue that is reused.
#[inline]
pub(super) fn call<A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    callee: &mut Callee<'_, A>,
    request: impl FnOnce() -> Request<A::RequestBody>,
    Calling { context, left, id, mut feed, route, told }: Calling<'_>,
) -> Called<A::ResponseBody> {
    let Callee { app, reused } = callee;
    let (app, cx) = (&mut **app, &mut Context::from_waker(Waker::noop()));
    match app.poll_ready(cx) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return failed(error),
        Poll::Pending => {
            // What was polled has its place in whatever it waits for, so it is this one that must wait on.
            let fresh = app.clone();
            return Called::Pending(call_when_ready(std::mem::replace(app, fresh), request()));
        }
    }
    let mut waiting = None;
    let call_and_poll = || {
        let mut place = Place::fill(&mut reused.call, || app.call(request()));
        let polled = place.as_mut().content().poll(cx);
        match polled {
            Poll::Pending => waiting = Some(place),
            Poll::Ready(_) => place.clear(&mut reused.call),
        }
        polled
    };
    // An app may do its work when it is called, and layers may tell then.
    let polled = listen_for(told, terms.recorder(), route, Whose::Asked, || within(id, call_and_poll));
    if let Some(told) = told
        && (!feed.as_mut().is_none_or(|feed| feed.obey(&told.limits)) || told.is_too_large)
    {
        return Called::TooLarge;
    }
    let response = match polled {
        Poll::Ready(Ok(response)) => response,
        Poll::Ready(Err(error)) => return failed(error),
        Poll::Pending => return waiting.map_or(Called::Failed, |call| Called::Pending(call)),
    };
    let context = terms.board.context(context, keeps_alive(feed.as_deref()));
    let heading = Heading { context, date: terms.clock.date(), id };
    let warning = warning(terms, left);
    let encode = || encode(response, &mut reused.spare, warning.as_ref(), heading, out, &mut reused.queue);
    // The first frame of its body is polled.
    Recorder::posted(terms.recorder(), route.get(), encode).map_or(Called::Failed, Called::Answered)
}

#[cold]
fn failed<B>(error: impl Into<BoxError>) -> Called<B> {
    say_unsendable(&*error.into());
    Called::Failed
}

/// What an answer says of a limit of which little is left.
#[inline]
pub(super) fn warning(terms: &Terms, left: Option<Left>) -> Option<Warning> {
    Some(terms.settings.rate_limit_in_force.as_ref()?.warning(left?))
}

/// Answers what is asked about the server as a whole: it is there.
#[cold]
pub(super) fn answer_without_app<B>(
    terms: &Terms,
    out: &mut Vec<u8>,
    Calling { context, id, feed, .. }: Calling<'_>,
) -> Called<B> {
    let context = terms.board.context(context, keeps_alive(feed.as_deref()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let heading = Heading { context, date: terms.clock.date(), id };
    match encode(response, &mut Spare::default(), None, heading, out, &mut VecDeque::new()) {
        Some(Answer { status, keep_alive, extent, .. }) => {
            Called::Answered(Answer { status, keep_alive, extent, rest: None })
        }
        None => Called::Failed,
    }
}
