//! What every log of the process is made of: text that cannot break a line, and outputs that may fail.
//!
//! The access log writes with it, and so does the ready service, whose own log is another one. It is *not* a queue: how lines reach
//! whoever writes them is each log's own business.
//!
//! The invariant: a line that was written as a whole is one line, whatever a client has sent.

mod escape;
mod output;

pub use self::escape::{push_escaped, push_json, push_readable};
pub use self::output::{LineOutput, Unwritten};
