//! From a builder to running cores, and back to a stop.
//!
//! ```text
//!   environment ─► builder ─► start ─► running ─► shutdown
//!                               │ listen, takeover, parting
//!                               │                reloader: settings that change meanwhile
//!                               └─► core, a thread each: start line ─► engine, or portable loop ─► finish line
//! ```
//!
//! Each core is a thread with a Tokio runtime of its own, on which one future serves that core's share of the connections.
//! Everything that can fail at start fails in [`Builder::start`], before a connection is accepted.

#[cfg(feature = "admin")]
mod administration;
mod beside;
mod blocking_threads;
#[cfg(feature = "axum")]
mod bound;
mod builder;
mod check;
mod clients;
mod core_thread;
mod environment;
mod finish_line;
#[cfg(feature = "admin")]
mod in_force;
mod listen;
mod memory_watch;
mod parting;
mod reloader;
mod running;
mod shutdown;
mod side_thread;
mod signals;
mod socket_access;
mod start;
mod start_line;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod takeover;
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
mod takeover_elsewhere;
#[cfg(feature = "metrics")]
mod watchdog;

use crate::settings::Settings;

#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
use self::takeover_elsewhere as takeover;

pub use self::builder::Builder;
#[cfg(feature = "axum")]
pub(crate) use self::listen::Source;
pub use self::reloader::Reloader;
pub use self::running::Running;

/// The way to a [`Builder`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// A builder with the defaults: one core for each that the process may use, up to 1,000,000 connections as far as files
    /// and memory allow, stop on SIGTERM or SIGINT.
    pub fn builder() -> Builder {
        Builder::new(Settings::default())
    }
}
