//! The whole engine on a network in memory, with a held clock: deterministic, single-threaded, no sleeps.

mod aging;
mod connected;
mod deadlines;
mod direct;
mod early;
mod exchanges;
mod failing;
mod full;
mod hostile;
mod idle;
mod late;
mod leaving;
mod limited;
mod memory;
#[cfg(feature = "metrics")]
mod metered;
mod mixed;
mod newcomers;
mod overloaded;
mod polled;
mod proxied;
mod records;
mod refusals;
mod reloaded;
mod rig;
mod routes;
mod slow_readers;
mod stopping;
mod waiting;
