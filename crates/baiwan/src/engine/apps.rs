//! The app that a connection's requests are for: one for all of the core, or one for each connection.
//!
//! Most apps are the same for every connection; then this is the app and nothing else. One that knows its connection is made at the
//! connection's first request, so that a connection that asks for nothing owns nothing, and is kept until the connection ends or leaves.
//!
//! The invariant: an app outlives its connection by one turn at the most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};

use baiwan_driver::{Driver, Token};

use super::table::{Flags, Table};
use crate::app::App;
use crate::incoming::IncomingStream;

/// Room for this many apps is never given back; a map of them has up to twice as much.
const ROOM_KEPT: usize = 1024;
/// Other room is, when fewer than one in this many places is taken.
const ROOM_FACTOR: usize = 4;

/// The apps of a core.
pub(super) struct Apps<A> {
    /// What the others are made of.
    shared: A,
    /// Those of connections, by their tokens. Empty unless the app is one for each connection.
    own: HashMap<Token, A>,
}

impl<A: App> Apps<A> {
    pub(super) fn new(app: A) -> Self {
        Self { shared: app, own: HashMap::new() }
    }

    /// The app of a connection, which is about to be called. `None` if it panicked when it was made.
    ///
    /// # Panics
    /// If the slot is free.
    #[inline]
    pub(super) fn of<D: Driver>(&mut self, table: &mut Table<D::Socket>, index: u32) -> Option<&mut A> {
        match self.shared.is_per_connection() {
            false => Some(&mut self.shared),
            true => self.own::<D>(table, index),
        }
    }

    fn own<D: Driver>(&mut self, table: &mut Table<D::Socket>, index: u32) -> Option<&mut A> {
        match self.own.entry(table.token(index)) {
            Entry::Occupied(own) => Some(own.into_mut()),
            Entry::Vacant(place) => {
                let slot = &mut table[index];
                let stream = IncomingStream::new(D::descriptor(&slot.socket), slot.peer.peer());
                let app = catch_unwind(AssertUnwindSafe(|| self.shared.connect(stream))).ok()?;
                slot.flags.set(Flags::APP);
                Some(place.insert(app))
            }
        }
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
        self.own.drain().for_each(|(_, app)| drop_caught(app));
    }
}

/// Drops what is the app's: a panic in that costs nobody anything.
pub(super) fn drop_caught<T>(what: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(what)));
}
