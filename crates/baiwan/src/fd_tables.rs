//! One fd table for all cores, or one for each: the choice, and the table that a descriptor is in.

use std::cell::Cell;
use std::str::FromStr;
use std::thread::{self, ThreadId};

/// Whether the cores' threads share one table of open files, as threads do, or have one each.
///
/// The limit on open files counts for each table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FdTables {
    /// One table for the process: the limit counts for all cores together.
    #[default]
    Shared,
    /// A table for each core (`unshare(CLONE_FILES)`), and so the whole limit for each: for processes that hold more
    /// connections than their limit and may not raise it. Linux only, not with [`EventLoop::Portable`](crate::EventLoop), and
    /// for one server in a process.
    ///
    /// # What an app may not do then
    ///
    /// **A descriptor that one core opened means something else, or nothing, on every other thread: most likely it is some
    /// client's connection. Using one in the wrong place sends bytes to strangers, and dropping it there closes their
    /// connections. No type and no error says so.** So, with an app like this:
    ///
    /// - *Open per core what handlers use directly*: files, sockets, HTTP clients, pools. Make the app with
    ///   [`serve_with`](crate::Builder::serve_with); the factory runs on the core's thread, in its table. A pool that cores share
    ///   hands the connections that one core has opened to another: **never share one.**
    /// - *Or let one owner do it*: a thread or runtime that was made before the server starts, which opens, uses and closes its
    ///   descriptors itself. Cores send it requests through channels and get answers through channels. Channels, locks,
    ///   semaphores and `Arc`s of plain memory may be shared by cores as ever.
    /// - *SQLite has one owner.* It keeps descriptors and locks for the whole process behind its connections (rusqlite's,
    ///   sqlx's): all connections to a file must be opened, used and closed on threads with the same table.
    /// - *Runtimes that cores wake are made before the server starts*, and so is whatever else has a wake-up descriptor or starts
    ///   threads once for all: a global pool of threads, a log writer, a metrics exporter, a `LazyLock` around a runtime. This
    ///   goes for a runtime that waits for `tokio::signal`, too, because any core may be the one that a signal wakes.
    /// - *What a core starts belongs to it*: `tokio::spawn`, `spawn_blocking`, `tokio::fs`, `std::thread::spawn` and child
    ///   processes work in handlers, with the core's table. An upgraded connection, a `File` or a socket stays on the core where
    ///   it was opened. Do not call `spawn_blocking` on the `Handle` of another runtime: that may start a thread with this core's
    ///   table in the other runtime's pool.
    /// - *What is open when the server starts stays open in every core* until that core ends, even if `main` closes it before. Open
    ///   it afterwards if its closing matters.
    ///
    /// What is enforced: an upgraded connection cannot be read or written on another thread than its core's, and one that is dropped
    /// there is sent home to be closed; [`Builder::start`](crate::Builder::start) must be called within a Tokio runtime, and
    /// [`Running::wait`](crate::Running::wait) on the same one; no other server may run in the process; and where the
    /// environment asks for it, the app must come from a factory, because only its author knows what its clones share.
    ///
    /// # For operators
    ///
    /// `/proc/PID/fd` shows the files of the main thread. Those of a core are in `/proc/PID/task/TID/fd`, where
    /// `/proc/PID/task/TID/comm` is `baiwan-core-N`; tools such as `lsof` need to be told (`lsof -K`). The maximum of connections
    /// is that of all cores; a core whose own table is full answers 503 before the others do. Each start leaves some files open
    /// for each core (its runtime's, so that it can be woken) until the process ends.
    ///
    /// Docker's default seccomp profile forbids `unshare` without `CAP_SYS_ADMIN`: then the start fails and says so.
    PerCore,
}

impl FdTables {
    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerCore => "per-core",
        }
    }
}

impl FromStr for FdTables {
    type Err = &'static str;

    /// The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Shared, Self::PerCore].into_iter().find(|choice| choice.name() == text).ok_or("shared or per-core")
    }
}

thread_local! {
    static IS_PARTED: Cell<bool> = const { Cell::new(false) };
}

/// The table that a descriptor is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table(Option<ThreadId>);

impl Table {
    /// That of the calling thread.
    pub(crate) fn here() -> Self {
        Self(IS_PARTED.get().then(|| thread::current().id()))
    }

    /// From here on the calling thread has one of its own.
    #[cfg(target_os = "linux")]
    pub(crate) fn part() -> std::io::Result<()> {
        baiwan_driver::unshare_fd_table()?;
        IS_PARTED.set(true);
        Ok(())
    }

    /// Whether the calling thread may use it. One that a core has started may, too, but cannot be told from others.
    pub(crate) fn is_here(self) -> bool {
        self.0.is_none_or(|owner| owner == thread::current().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_by_name() {
        assert_eq!("per-core".parse(), Ok(FdTables::PerCore));
        assert_eq!("shared".parse(), Ok(FdTables::default()));
        assert!("own".parse::<FdTables>().is_err());
    }
}
