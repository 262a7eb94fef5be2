//! What runs beside the cores, on threads of its own, for as long as the server does: whoever watches memory and cores, the admin
//! side, and whoever hands over to the next process.
//!
//! The invariant: all of it is there before the first core starts, and has ended when the server was dropped, unless something blocks a
//! thread of it for longer than a second.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "admin")]
use super::administration::Administration;
use super::memory_watch::MemoryWatch;
use super::takeover::Keeper;
#[cfg(feature = "metrics")]
use super::watchdog::Watchdog;
use crate::Error;
#[cfg(feature = "admin")]
use crate::dashboard::Rows;
use crate::settings::Settings;
use crate::status::Status;

/// All of it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Beside {
    /// None where no cgroup limits the memory.
    #[expect(dead_code, reason = "it ends with the server")]
    memory_watch: Option<MemoryWatch>,
    /// None where nobody wants to know.
    #[cfg(feature = "metrics")]
    watchdog: Option<Watchdog>,
    /// None where the program has not asked for one.
    #[cfg(feature = "admin")]
    pub(super) admin: Option<Administration>,
    /// None where no other process can take over.
    pub(super) keeper: Option<Keeper>,
    /// What the dashboard shows of the settings.
    #[cfg(feature = "admin")]
    pub(super) in_force: Rows,
}

impl Beside {
    /// What every server has; and whoever watches the cores, where there are metrics.
    ///
    /// # Errors
    /// When the system has no thread for it.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "they say whether there are metrics"))]
    pub(super) fn begin(settings: &Settings, status: &Arc<Status>) -> Result<Self, Error> {
        Ok(Self {
            memory_watch: MemoryWatch::begin(Path::new("/"), Arc::clone(status)).map_err(Error::Thread)?,
            #[cfg(feature = "metrics")]
            watchdog: Watchdog::begin_for(settings.metrics.as_ref(), status).map_err(Error::Thread)?,
            #[cfg(feature = "admin")]
            admin: None,
            keeper: None,
            #[cfg(feature = "admin")]
            in_force: Rows::default(),
        })
    }

    /// Whether somebody watches the cores.
    pub(super) fn watches_cores(&self) -> bool {
        #[cfg(feature = "metrics")]
        return self.watchdog.is_some();
        #[cfg(not(feature = "metrics"))]
        false
    }

    /// Waits until the admin side has ended, which may take half a second where checks block their threads: so that whoever drops this
    /// afterwards does not wait for it.
    pub(super) async fn end(&mut self) {
        #[cfg(feature = "admin")]
        if let Some(admin) = &mut self.admin {
            admin.end().await;
        }
    }

    /// Every core has the fd table that it will have, and the server serves.
    pub(super) fn handle_serving(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.handle_serving();
        }
    }

    /// Every core has the fd table that it will have.
    pub(super) fn handle_parted(&mut self) -> Result<(), Error> {
        #[cfg(feature = "admin")]
        if let Some(admin) = &mut self.admin {
            admin.handle_parted()?;
        }
        Ok(())
    }
}
