//! The access log: a line for each exchange, written by a thread of its own.
//!
//! ```text
//!   core 0 ── record ──▶ ring ─┐
//!   core 1 ── record ──▶ ring ─┼─▶ thread `baiwan-access` ──▶ lines ──▶ standard output, or a file
//!   ...                        ┘
//! ```
//!
//! | file | part |
//! |---|---|
//! | `record` | what a core notes of an exchange, as bytes |
//! | `ring` | how that reaches the writer, and what becomes of it when there is no room |
//! | `sampling` | how much is written when there is too much |
//! | `line` | what is written of a record |
//! | `output` | where it is written |
//! | `writer` | the thread |
//!
//! It is *not* the log of what the server says to an operator: that is `tracing`'s.
//!
//! The invariants: no core ever waits for the log; and every exchange is in a line, is one of those that a `sampled` line stands for, or is
//! counted as lost.

mod line;
mod output;
mod record;
mod ring;
mod sampling;
mod writer;

use std::path::PathBuf;

pub(crate) use self::record::PATH_BYTES_MAX;
pub(crate) use self::ring::{AccessLogInForce, Producer};
pub(crate) use self::writer::Writer;

/// Lines a second that are written of all exchanges, unless something else is asked for.
const SAMPLE_ABOVE_DEFAULT: u64 = 10_000;

/// Where a server writes a line for each exchange, and how. See [`Builder::access_log`](crate::Builder::access_log).
///
/// Lines are JSON, or text where they go to a terminal. Their members have the names of OpenTelemetry's semantic conventions, where it has some:
///
/// | member | meaning |
/// |---|---|
/// | `timestamp` | when the exchange ended, RFC 3339 in UTC with microseconds |
/// | `http.request.method` | one of the nine methods, else `_OTHER`, and then `http.request.method_original` has it |
/// | `url.path` | as it was sent, at most 256 bytes of it, without the query |
/// | `http.route` | the template of the route, or `unmatched` |
/// | `http.response.status_code` | a number |
/// | `duration_ms` | from the head of the request to the end of the answer, with microseconds behind the point |
/// | `client.address`, `client.port` | who has asked; the port is not known where a proxy has named the client |
/// | `http.request.size`, `http.response.size` | bytes, with heads and framing |
/// | `request_id`, `trace_id` | where the server [gives ids](crate::Builder::request_ids); the trace, where the request has named one |
/// | `outcome` | `answered`, `denied`, or the [name](crate::CloseReason::name) of the reason why it came to another end |
/// | `denied` | the name of the limit or rule because of which the server has answered by itself |
/// | `sampled` | how many exchanges the line stands for, where that is more than one |
///
/// What is not known is left out. A line is printable ASCII, whatever a client has sent: everything else is escaped. Queries, cookies,
/// credentials and other fields are never written.
///
/// Nothing waits for the log. When an output is slow, full or closed, each core keeps a megabyte of records at most, and all together about
/// seven; what does not fit is lost and counted, and a line `{"timestamp":..,"dropped":12}` says how many lines are missing where it stands.
/// What is there at the server's end is written within a second.
///
/// # Example
/// ```
/// use baiwan::AccessLog;
///
/// let log = AccessLog::stdout().sample_above(Some(1000));
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").access_log(log).request_ids(true);
/// # drop(server);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct AccessLog {
    pub(crate) to: Destination,
    /// Lines a second.
    pub(crate) sample_above: Option<u64>,
    pub(crate) format: AccessLogFormat,
}

/// Where the lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    Nowhere,
    Stdout,
    File(PathBuf),
}

/// How the lines of an [`AccessLog`] look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessLogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl AccessLog {
    /// Writes nothing: the default.
    pub fn off() -> Self {
        Self::to(Destination::Nowhere)
    }

    /// To standard output.
    pub fn stdout() -> Self {
        Self::to(Destination::Stdout)
    }

    /// To the end of a file, which is made with mode 0640 if it is not there, and anew when it was moved or deleted (logrotate). A
    /// file that cannot be opened is a warning in the log, and is tried again every second while there are lines to write.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::to(Destination::File(path.into()))
    }

    fn to(to: Destination) -> Self {
        Self { to, sample_above: Some(SAMPLE_ABOVE_DEFAULT), format: AccessLogFormat::Auto }
    }

    /// Above this number of exchanges a second, all cores together, a part of them is written so that there are about as many lines; `None`
    /// writes all. Default 10,000. Every answer of the app's with a status of 500 or more is written all the same. A line that stands for others says for how many
    /// (`sampled`): the sum of those numbers is the number of exchanges.
    pub fn sample_above(mut self, lines_per_second: Option<u64>) -> Self {
        self.sample_above = lines_per_second.map(|lines| lines.max(1));
        self
    }

    /// How lines look. Default [`AccessLogFormat::Auto`].
    pub fn format(mut self, format: AccessLogFormat) -> Self {
        self.format = format;
        self
    }

    pub(crate) fn is_off(&self) -> bool {
        self.to == Destination::Nowhere
    }
}
