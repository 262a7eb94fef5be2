//! One call of the app: polled once, and what is there of its answer encoded.
//!
//! What becomes of the connection is *not* decided here (`respond`).
//!
//! The invariant: the app is called within a scope in which layers of its route are heard, and its request is the one that is handled.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use baiwan_driver::Token;
use baiwan_http1::ResponseContext;
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::answer::{Answer, Heading, Spare, encode, say_unsendable};
use super::apps::Callee;
use super::feed::{Feed, keeps_alive};
use super::place::Place;
use super::terms::Terms;
use super::waker::{ExchangeWaker, FirstWaker};
use crate::app::{App, Call, call_when_ready};
use crate::call_scope::{Told, Whose, listen_for};
use crate::ending::OfConnection;
use crate::rate_limit::{Decisions, Left, Warning};
use crate::recorder::{Draft, Recorder};
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;
use crate::{Body, BoxError};

/// What the app made of a request.
pub(super) enum Called<B> {
    /// Nothing yet.
    Pending(Waiting<B>),
    /// An answer that is encoded, but for the rest of its body, and for what is sent from where it is.
    Answered(Answer<B>),
    /// The server answers instead: the body is beyond the limit of its route.
    TooLarge,
    /// Nothing that can be sent.
    Failed,
}

/// A call that has to wait.
pub(super) struct Waiting<B> {
    pub(super) call: Call<B>,
    /// It goes on when this is woken.
    pub(super) waker: Arc<ExchangeWaker>,
}

/// A request that the app has, and what its answer needs.
pub(super) struct Underway {
    /// Its connection.
    pub(super) token: Token,
    pub(super) context: ResponseContext,
    /// What is left of its client's limit, if the answer should say so.
    pub(super) left: Option<Left>,
    /// What it is called, where the server gives ids.
    pub(super) id: Option<RequestId>,
    /// Its record, if somebody wants one.
    pub(super) draft: Option<Draft>,
    /// Its body, if more of that is to come.
    pub(super) feed: Option<Feed>,
    /// What was received of its body with its head.
    pub(super) body_bytes: usize,
    /// What its handler may wait for.
    pub(super) ending: Option<OfConnection>,
    /// Its route, written as soon as it is known.
    pub(super) route: Cell<RouteNumber>,
    /// What layers of its route have said, written when it was polled.
    pub(super) told: Option<Told>,
    /// Where its answer begins in the area.
    pub(super) begin: usize,
    /// The app was called no earlier.
    pub(super) called_at: Instant,
}

/// Calls the app with the request that is made then, polls the call once, and encodes what is there. What of the answer is sent from where
/// it is comes into the queue that is reused.
#[inline]
pub(super) fn call<A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    callee: &mut Callee<'_, A>,
    request: impl FnOnce() -> Request<A::RequestBody>,
    underway: &mut Underway,
) -> Called<A::ResponseBody> {
    let Underway { token, context, left, id, feed, route, told, draft, .. } = underway;
    let (id, mut feed) = (id.as_ref(), feed.as_mut());
    let Callee { app, reused } = callee;
    debug_assert!(reused.queue.is_empty(), "what is in it is of another answer");
    let first = FirstWaker::begin(&mut reused.waker, terms.board.inbox(), *token);
    let (app, cx) = (&mut **app, &mut Context::from_waker(first.as_waker()));
    match app.poll_ready(cx) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return failed(error),
        Poll::Pending => {
            // What was polled has its place in whatever it waits for, so it is this one that must wait on.
            let fresh = app.clone();
            let call = call_when_ready(std::mem::replace(app, fresh), request());
            return Called::Pending(Waiting { call, waker: first.keep() });
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
    let mut polled = listen_for(told, terms.recorder(), route, Whose::Asked, || within(id, call_and_poll));
    if let Some(told) = told {
        note_decisions(terms, told.decisions, draft.as_mut());
        if !feed.as_mut().is_none_or(|feed| feed.obey(&told.limits)) || told.is_too_large {
            return Called::TooLarge;
        }
    }
    if let Some(call) = waiting {
        return Called::Pending(Waiting { call, waker: first.keep() });
    }
    if let Poll::Ready(Err(error)) = polled {
        return failed(error);
    }
    let context = terms.board.context(*context, keeps_alive(feed.as_deref()));
    let heading = Heading { context, date: terms.clock.date(), id };
    let warning = warning(terms, *left);
    let encode = || encode(&mut polled, &mut reused.spare, warning.as_ref(), heading, out, &mut reused.queue);
    // The first frame of its body is polled.
    match Recorder::posted(terms.recorder(), route.get(), encode) {
        Some(answer) => Called::Answered(answer),
        None => Called::Failed,
    }
}

/// Counts and records what rate limits among the layers have decided.
pub(super) fn note_decisions(terms: &Terms, decisions: Decisions, draft: Option<&mut Draft>) {
    terms.status().count_decisions(decisions);
    if let Some(draft) = draft
        && decisions.refuse()
    {
        draft.handle_rate_limited();
    }
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
    Underway { context, id, feed, .. }: &Underway,
) -> Called<B> {
    let context = terms.board.context(*context, keeps_alive(feed.as_ref()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let heading = Heading { context, date: terms.clock.date(), id: id.as_ref() };
    let mut response = Poll::Ready(Ok::<_, BoxError>(response));
    match encode(&mut response, &mut Spare::default(), None, heading, out, &mut VecDeque::new()) {
        Some(Answer { status, keep_alive, extent, .. }) => {
            Called::Answered(Answer { status, keep_alive, extent, rest: None })
        }
        None => Called::Failed,
    }
}
