//! Connections in hyper's hands: those of the portable event loop, and those that the engine gives away because they may leave
//! HTTP for another protocol.
//!
//! ```text
//!   portable: listeners, stop        engine: an offer of another protocol
//!           │                                  │
//!           └───────► connection ◄─────────────┘     hyper around the app, for one connection
//!                      │   │   └── switch, answer    101; bodies
//!                      │   │       own               what the server answers by itself
//!                      │   └── current               the app and the settings, which may change
//!                      │   └── limits, upload        how long heads may be; a body on its way in, and its deadlines
//!                  transport ── record               the socket, wherever it goes; what a core knows of all of them
//!                                 └── exchanges      what an observer is told, if there is one
//! ```
//!
//! It is *not* a second server: settings, gate, app, counts and the check of answers are those of the crate, asked from here.
//!
//! The invariant: a connection that is here is counted out once, when its socket was closed, whoever holds it then.

mod answer;
mod connection;
mod current;
mod exchanges;
mod limits;
mod own;
mod patience;
mod portable;
mod record;
mod switch;
#[cfg(test)]
mod tests;
mod transport;
mod upload;

pub(crate) use self::portable::Portable;
// The engine's.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) use self::{
    connection::Connection,
    record::Transports,
    transport::{SocketStream, Transport},
};
