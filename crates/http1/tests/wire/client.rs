//! The promises of the client's role: requests as they are sent, answers as they are read.

mod answer;
mod framing;
mod harness;
mod linear;
mod properties;
mod refusals;
mod request;
