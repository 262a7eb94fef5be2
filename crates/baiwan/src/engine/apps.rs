//! The app that a connection's requests are for: one for all of the core, or one for each connection.
//!
//! Most apps are the same for every connection; then this is the app and nothing else. One that knows its connection is made at the
//! connection's first request, so that a connection that asks for nothing owns nothing, and is kept until the connection ends or leaves.
//!
//! The invariant: an app outlives its connection by one turn at the most.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baiwan_driver::{Driver, Token};
use bytes::Bytes;
use http::Uri;

use super::answer::Spare;
use super::place::Kept;
use super::table::{Flags, Table};
use super::waker::FirstWaker;
use crate::app::App;
use crate::call_scope::known_route;
use crate::incoming::IncomingStream;
use crate::recorder::Recorder;
use crate::reload::Remake;
use crate::route_table::RouteNumber;
use crate::say::say;

/// Room for this many apps is never given back; a map of them has up to twice as much.
const ROOM_KEPT: usize = 1024;
/// Other room is, when fewer than one in this many places is taken.
const ROOM_FACTOR: usize = 4;

/// What calls of a core's app need and are done with, so that the next need not make it anew. All of it is empty between calls.
pub(super) struct Reused<A: App> {
    /// Where a call is polled.
    pub(super) call: Kept<A::Future>,
    /// What answers leave.
    pub(super) spare: Spare<A::ResponseBody>,
    /// What is sent of an answer from where it is.
    pub(super) queue: VecDeque<Bytes>,
    /// What a call wakes.
    pub(super) waker: Option<FirstWaker>,
}

impl<A: App> Default for Reused<A> {
    fn default() -> Self {
        Self { call: None, spare: Spare::default(), queue: VecDeque::new(), waker: None }
    }
}

/// An app that is about to be called.
pub(super) struct Callee<'a, A: App> {
    pub(super) app: &'a mut A,
    pub(super) reused: &'a mut Reused<A>,
}

/// The apps of a core.
pub(super) struct Apps<A: App> {
    /// What the others are made of. Where records are made and it is a router, it tells the route of each request.
    shared: A,
    /// The same app without that, for requests whose route is known from an earlier one of the same path.
    silent: Option<A>,
    /// Those of connections, by their tokens. Empty unless the app is one for each connection.
    own: HashMap<Token, A>,
    /// Makes the app anew, where the program gave a way to.
    remake: Option<Remake<A>>,
    pub(super) reused: Reused<A>,
}

impl<A: App> Apps<A> {
    /// Of `app`, which tells the routes of requests if somebody records them.
    pub(super) fn new(app: A, recorder: Option<&Arc<Recorder>>) -> Self {
        let (shared, silent) = prepare(app, recorder);
        Self { shared, silent, own: HashMap::new(), remake: None, reused: Reused::default() }
    }

    /// From now on the app can be made anew.
    pub(super) fn set_remake(&mut self, remake: Option<Remake<A>>) {
        self.remake = remake;
    }

    /// Makes the app anew, for the requests that follow. Connections that have an app of their own keep it. If the making panics, the app
    /// stays.
    pub(super) fn make_anew(&mut self, recorder: Option<&Arc<Recorder>>) {
        let Some(remake) = &self.remake else { return };
        let Ok((shared, silent)) = catch_unwind(AssertUnwindSafe(|| prepare(remake(), recorder))) else {
            say(|| tracing::error!("the app panicked when it was made anew, so this core keeps the one that it has"));
            return;
        };
        drop_caught((std::mem::replace(&mut self.shared, shared), std::mem::replace(&mut self.silent, silent)));
    }

    /// The route of a request, if it is known from an earlier one of the same path. Call it before the app is called, and nothing else is.
    #[inline]
    pub(super) fn known_route(&self, recorder: Option<&Arc<Recorder>>, target: &Uri) -> Option<RouteNumber> {
        self.silent.as_ref()?;
        known_route(recorder?, target.path())
    }

    /// The app of a connection, which is about to be called with a request of this route, if that is known. `None` if it panicked when it
    /// was made.
    ///
    /// # Panics
    /// If the slot is free.
    #[inline]
    pub(super) fn of_route<D: Driver>(
        &mut self,
        table: &mut Table<D::Socket>,
        index: u32,
        route: Option<RouteNumber>,
    ) -> Option<Callee<'_, A>> {
        let Self { shared, silent, own, reused, .. } = self;
        let app = match (route, silent) {
            (Some(_), Some(silent)) => silent,
            _ => of::<D, A>(shared, own, table, index)?,
        };
        Some(Callee { app, reused })
    }

    /// The app of a connection, which is about to be called. `None` if it panicked when it was made.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn of<D: Driver>(&mut self, table: &mut Table<D::Socket>, index: u32) -> Option<&mut A> {
        of::<D, A>(&mut self.shared, &mut self.own, table, index)
    }

    /// Lets go of the apps of connections that are gone.
    #[inline]
    pub(super) fn forget_gone<S>(&mut self, table: &mut Table<S>) {
        while let Some(token) = table.take_gone() {
            drop_caught(self.own.remove(&token));
        }
        let (len, room) = (self.own.len(), self.own.capacity());
        if room > 2 * ROOM_KEPT && len < room / ROOM_FACTOR {
            self.own.shrink_to((2 * len).max(ROOM_KEPT));
        }
    }

    /// Apps of connections that there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.own.capacity()
    }

    /// The loop begins anew after a panic, or ends: there are no connections any more.
    pub(super) fn begin_anew(&mut self) {
        // A call that was under way may have left something of its answer, which is nobody else's.
        drop_caught(std::mem::take(&mut self.reused));
        self.own.drain().for_each(|(_, app)| drop_caught(app));
    }
}

/// The app of a connection.
#[inline]
fn of<'a, D: Driver, A: App>(
    shared: &'a mut A,
    own: &'a mut HashMap<Token, A>,
    table: &mut Table<D::Socket>,
    index: u32,
) -> Option<&'a mut A> {
    match shared.is_per_connection() {
        false => Some(shared),
        true => of_connection::<D, A>(shared, own, table, index),
    }
}

fn of_connection<'a, D: Driver, A: App>(
    shared: &A,
    own: &'a mut HashMap<Token, A>,
    table: &mut Table<D::Socket>,
    index: u32,
) -> Option<&'a mut A> {
    match own.entry(table.token(index)) {
        Entry::Occupied(own) => Some(own.into_mut()),
        Entry::Vacant(place) => {
            let slot = &mut table[index];
            let stream = IncomingStream::new(D::descriptor(&slot.socket), slot.peer.peer());
            let app = catch_unwind(AssertUnwindSafe(|| shared.connect(stream))).ok()?;
            slot.flags.set(Flags::APP);
            Some(place.insert(app))
        }
    }
}

/// The app as it is called: where its routes are recorded as one that tells them, and as itself.
fn prepare<A: App>(app: A, recorder: Option<&Arc<Recorder>>) -> (A, Option<A>) {
    #[cfg(feature = "axum")]
    let app = crate::axum_app::make_ready(app);
    #[cfg(feature = "matched-path")]
    if let Some(telling) = recorder.and_then(|_| crate::routes::with_routes(app.clone())) {
        return (telling, Some(app));
    }
    #[cfg(not(feature = "matched-path"))]
    let _ = recorder;
    (app, None)
}

/// Drops what is the app's: a panic in that costs nobody anything.
pub(super) fn drop_caught<T>(what: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(what)));
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_has_left_in_a_loop_that_panicked_is_nobody_elses() {
        let mut apps = Apps::new(axum::Router::new(), None);
        apps.reused.queue.push_back(Bytes::from_static(b"of another client"));
        apps.reused.spare.headers.reserve(10);
        apps.begin_anew();
        assert!(apps.reused.queue.is_empty() && apps.reused.spare.headers.capacity() == 0);
    }
}
