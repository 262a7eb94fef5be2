//! The promises of the HTTP/1.1 engine, as cases on the wire.
//!
//! Every case runs three ways: whole, byte by byte, and with trailing bytes; see `harness`. Tests are named after the
//! promise, with the number of the attack where there is one.

mod body;
mod body_refused;
mod client;
mod early;
mod fields;
mod framing;
mod generated;
mod harness;
mod linear;
mod properties;
mod refusals;
mod request_line;
mod response;
