//! From a builder to running cores, and back to a stop.
//!
//! ```text
//!   environment ─► builder ─► start ─► running ─► shutdown
//!                               │ listen, parting
//!                               └─► core, a thread each: start line ─► engine, or portable loop ─► finish line
//! ```
//!
//! Each core is a thread with a Tokio runtime of its own, on which one future serves that core's share of the connections.
//! Everything that can fail at start fails in [`Builder::start`], before a connection is accepted.

mod builder;
mod core_thread;
mod environment;
mod finish_line;
mod listen;
mod parting;
mod running;
mod shutdown;
mod signals;
mod start;
mod start_line;

use std::fmt;

use crate::Error;
use crate::app::App;
use crate::settings::Settings;

pub use self::builder::Builder;
pub use self::running::Running;

/// Serves an app on an address until SIGTERM or SIGINT, then stops in order.
///
/// `address` is `HOST:PORT`, `[IPV6]:PORT` (`[::]:8080` serves IPv4 too), `unix:/path` or `unix:@name` (an abstract socket, on
/// Linux). The app is an axum `Router` or any
/// other tower service that can be cloned; each core gets a clone. Defaults are those of [`Server::builder`].
///
/// On a signal the server accepts no more, answers every request that it has received, waits for tasks that handlers have spawned,
/// and returns after 25 seconds at the latest; a second signal ends it at once. What the program does after that has what is left of
/// this time, and a second at least: then the signal ends a process that is still there. It does so too where another loop of the
/// program goes on. With [`Builder::shutdown`], signals are the program's own.
///
/// # Errors
/// When the address cannot be listened on, or a core fails.
///
/// # Example
/// ```no_run
/// # async fn example(app: axum::Router) -> Result<(), baiwan::Error> {
/// baiwan::serve("0.0.0.0:8080", app).await
/// # }
/// ```
pub async fn serve<A>(address: impl fmt::Display, app: A) -> Result<(), Error>
where
    A: App + Send,
{
    Server::builder().bind(address).serve(app).await
}

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
