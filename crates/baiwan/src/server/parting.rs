//! How cores part from the process's fd table, and how listeners come into the tables that they belong to.
//!
//! ```text
//!   start    binds the listeners, puts them into a `Handover`: now they are in no table
//!   cores    each builds its runtime ──▶ all are told to go on ──▶ each parts, takes its listeners, makes its app
//! ```
//!
//! The invariant: what one core must wake (every runtime's wake-up, Tokio's signal pipe) is opened before the first core parts
//! and so is in all tables; what must end when its owner closes it (listeners, connections, the engine's epoll) is opened, or
//! arrives, afterwards, and so is in one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::listen::BoundListener;
use crate::Error;
use crate::fd_tables::FdTables;

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

const NOT_AT_HOME: &str = "cores can wake no runtime that came later; start the server within a Tokio runtime, and wait for it on the same one";

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
            _ => return Err(Error::FdTables("another server of the process is running; stop it first, or use shared")),
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
pub(crate) use elsewhere::{Listeners, rehearse};
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) use linux::{Listeners, rehearse};

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod linux {
    use std::io;
    use std::sync::Arc;
    use std::thread;

    use baiwan_driver::Handover;

    use super::{BoundListener, FdTables};
    use crate::Error;
    use crate::fd_tables::Table;

    /// Whether threads may have tables of their own here, if they shall: one that ends at once tries it.
    pub(crate) fn rehearse(fd_tables: FdTables) -> Result<(), Error> {
        if fd_tables == FdTables::Shared {
            return Ok(());
        }
        let parted = thread::Builder::new().spawn(Table::part).map_err(Error::Thread)?;
        parted.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))).map_err(Error::Unshare)
    }

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
            if let Self::OnTheirWay(_) = self {
                Table::part().map_err(Error::Unshare)?;
            }
            self.take()
        }

        /// The listeners, in the table that the calling thread has.
        pub(crate) fn take(self) -> Result<Vec<BoundListener>, Error> {
            match self {
                Self::Here(listeners) => Ok(listeners),
                Self::OnTheirWay(way) => way.take().map_err(Error::Start),
            }
        }
    }
}

/// Systems without tables of threads' own: the portable event loop, which has none, was chosen before.
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
mod elsewhere {
    use super::{BoundListener, FdTables};
    use crate::Error;

    /// What is not possible here was refused before.
    pub(crate) fn rehearse(_fd_tables: FdTables) -> Result<(), Error> {
        Ok(())
    }

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
            self.take()
        }

        pub(crate) fn take(self) -> Result<Vec<BoundListener>, Error> {
            Ok(self.0)
        }
    }
}
