//! How often something has happened, by route: for what happens so seldom that a lock costs nothing.
//!
//! The invariant: there are no more counts than there are numbers of routes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::route_table::RouteNumber;

#[derive(Debug, Default)]
pub(crate) struct ByRoute(Mutex<BTreeMap<RouteNumber, u64>>);

impl ByRoute {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<RouteNumber, u64>> {
        // Nothing panics while the lock is held, and the map is valid at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has happened once more.
    pub(crate) fn add(&self, route: RouteNumber) {
        *self.counts().entry(route).or_default() += 1;
    }

    /// All counts.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only metrics show it"))]
    pub(crate) fn all(&self) -> Vec<(RouteNumber, u64)> {
        self.counts().iter().map(|(route, count)| (*route, *count)).collect()
    }
}
