//! Settings that change while the server runs: taken between two turns.
//!
//! What is read where it is needed needs nothing here. A deadline that a connection has was stored by the settings before, and stays; the
//! next that is stored is one of the new settings.
//!
//! The invariant: a head is judged from its first byte by the limits that are in force when it is complete.

use baiwan_driver::Driver;
use baiwan_http1::HeadDecoder;

use super::apps::Apps;
use super::ports::Ports;
use super::table::Table;
use super::terms::{Changed, Terms};
use crate::app::App;

/// Takes the settings that were posted since the turn before, if any were.
#[inline]
pub(super) fn follow_settings<D: Driver, A: App>(
    terms: &mut Terms,
    ports: &Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
) {
    if let Some(changed) = terms.take_settings() {
        obey(terms, changed, ports, table, apps);
    }
}

#[cold]
fn obey<D: Driver, A: App>(
    terms: &Terms,
    changed: Changed,
    ports: &Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
) {
    ports.transports.follow(&terms.settings);
    if changed.limits {
        judge_heads_anew(table);
    }
    if changed.app {
        apps.make_anew(terms.recorder());
    }
}

/// Has heads that are not complete be read once more from their beginning when the rest comes: what was counted of them was counted by
/// other limits.
fn judge_heads_anew<S>(table: &mut Table<S>) {
    for index in 0..table.end() {
        if table.get(index).is_some()
            && let Some(set_aside) = table.busy_mut(index).and_then(|busy| busy.set_aside.as_mut())
        {
            set_aside.head = HeadDecoder::default();
        }
    }
}
