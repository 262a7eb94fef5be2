//! One fd table for all cores, or one for each; and how listeners come into the tables that they belong to.
//!
//! ```text
//!   start    binds the listeners, puts them into a `Handover`: now they are in no table
//!   cores    each builds its runtime ──▶ all are told to go on ──▶ each parts, takes its listeners, makes its app
//! ```
//!
//! The invariant: what one core must wake (every runtime's wake-up, Tokio's signal pipe) is opened before the first core parts
//! and so is in all tables; what must end when its owner closes it (listeners, connections, the engine's epoll) is opened, or
//! arrives, afterwards, and so is in one.

use std::cell::Cell;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tokio::runtime::Handle;

use crate::Error;
use crate::listen::BoundListener;

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

    /// Whether the calling thread may use it. One that a core has started may, too, but cannot be told from others.
    pub(crate) fn is_here(self) -> bool {
        self.0.is_none_or(|owner| owner == thread::current().id())
    }
}

/// The runtime on which a server with per-core tables is started and waited for: its wake-ups are in all tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home(tokio::runtime::Id);

impl Home {
    pub(crate) fn here() -> Result<Self, Error> {
        let Ok(runtime) = Handle::try_current() else { return Err(Error::FdTables(NOT_AT_HOME)) };
        Ok(Self(runtime.id()))
    }

    /// Whether the caller is where the server was started.
    pub(crate) fn check(self) -> Result<(), Error> {
        if Self::here()? == self { Ok(()) } else { Err(Error::FdTables(NOT_AT_HOME)) }
    }
}

const NOT_AT_HOME: &str = "here: start the server within a Tokio runtime, and wait for it on the same one, because cores can wake no later one";

/// A server's place in the process. Servers with one table live beside each other; one with tables of its own lives alone: it
/// would take copies of the others' connections, which then never close, and later ones it could not wake.
#[derive(Debug)]
pub(crate) struct Place {
    fd_tables: FdTables,
}

#[derive(Debug)]
struct Places {
    shared: usize,
    per_core: usize,
}

static PLACES: Mutex<Places> = Mutex::new(Places { shared: 0, per_core: 0 });

fn places() -> MutexGuard<'static, Places> {
    // Nothing panics while the lock is held.
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    pub(crate) fn take(fd_tables: FdTables) -> Result<Self, Error> {
        let mut places = places();
        let taken = |count: usize| count > 0;
        match fd_tables {
            FdTables::Shared if !taken(places.per_core) => places.shared += 1,
            FdTables::PerCore if !taken(places.per_core) && !taken(places.shared) => places.per_core += 1,
            _ => return Err(Error::FdTables("beside another server of the process: stop it first, or use shared")),
        }
        Ok(Self { fd_tables })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.fd_tables {
            FdTables::Shared => places().shared -= 1,
            FdTables::PerCore => places().per_core -= 1,
        }
    }
}

#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
pub(crate) use elsewhere::Listeners;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) use linux::Listeners;

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod linux {
    use std::io;
    use std::sync::Arc;

    use baiwan_driver::{Handover, unshare_fd_table};

    use super::{BoundListener, FdTables, IS_PARTED};
    use crate::Error;

    /// The listeners of one core, before its thread has them.
    #[derive(Debug)]
    pub(crate) enum Listeners {
        Here(Vec<BoundListener>),
        OnTheirWay(Arc<Handover>),
    }

    impl Listeners {
        /// Sets the listeners of each core on their way to it. To be kept until all have arrived, so that a failure closes them.
        pub(crate) fn send(cores: Vec<Vec<BoundListener>>, fd_tables: FdTables) -> io::Result<Vec<Self>> {
            if fd_tables == FdTables::Shared {
                return Ok(cores.into_iter().map(Self::Here).collect());
            }
            let mut way = Arc::new(Handover::new()?);
            let mut sent = Vec::with_capacity(cores.len());
            for mut listeners in cores {
                match way.put(&mut listeners) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        way = Arc::new(Handover::new()?);
                        way.put(&mut listeners)?;
                    }
                    outcome => outcome?,
                }
                sent.push(Self::OnTheirWay(Arc::clone(&way)));
            }
            Ok(sent)
        }

        /// A second handle on the way, which keeps it open.
        pub(crate) fn way(&self) -> Option<Arc<Handover>> {
            match self {
                Self::Here(_) => None,
                Self::OnTheirWay(way) => Some(Arc::clone(way)),
            }
        }

        /// Gives the calling thread its own table, if it shall have one, and its listeners in it.
        pub(crate) fn arrive(self) -> Result<Vec<BoundListener>, Error> {
            match self {
                Self::Here(listeners) => Ok(listeners),
                Self::OnTheirWay(way) => {
                    unshare_fd_table().map_err(Error::Unshare)?;
                    IS_PARTED.set(true);
                    way.take().map_err(Error::Start)
                }
            }
        }
    }
}

/// Systems without tables of threads' own: the portable event loop, which has none, was chosen before.
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
mod elsewhere {
    use super::{BoundListener, FdTables};
    use crate::Error;

    #[derive(Debug)]
    pub(crate) struct Listeners(Vec<BoundListener>);

    impl Listeners {
        pub(crate) fn send(cores: Vec<Vec<BoundListener>>, _fd_tables: FdTables) -> std::io::Result<Vec<Self>> {
            Ok(cores.into_iter().map(Self).collect())
        }

        pub(crate) fn way(&self) -> Option<()> {
            None
        }

        pub(crate) fn arrive(self) -> Result<Vec<BoundListener>, Error> {
            Ok(self.0)
        }
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
