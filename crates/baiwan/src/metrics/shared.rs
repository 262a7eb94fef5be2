//! What a handle on metrics and the cores that write them share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::registry::Registry;

use super::clients::Client;
use super::core::Core;
use crate::status::Status;

/// What does not change while the server runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) event_loop: &'static str,
    pub(crate) fd_tables: &'static str,
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Shared {
    status: OnceLock<Arc<Status>>,
    facts: OnceLock<Facts>,
    /// Requests a second of each client, where that is limited.
    rate_limit_per_second: Mutex<Option<f64>>,
    /// By number.
    cores: Mutex<Vec<Arc<Core>>>,
    /// How many lines of the program's own log were lost, if it says so.
    pub(super) main_log_dropped: OnceLock<fn() -> u64>,
    /// What other parts of the server say.
    pub(super) parts: Mutex<Registry>,
    /// The app's own.
    pub(super) app: Mutex<Registry>,
}

impl Shared {
    /// The server, once its cores have begun.
    pub(super) fn status(&self) -> Option<&Arc<Status>> {
        self.status.get()
    }

    pub(super) fn facts(&self) -> Option<&Facts> {
        self.facts.get()
    }

    pub(super) fn begin(&self, status: &Arc<Status>, facts: Facts) {
        self.status.get_or_init(|| Arc::clone(status));
        self.facts.get_or_init(|| facts);
    }

    pub(super) fn rate_limit_per_second(&self) -> Option<f64> {
        *self.rate_limit_per_second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_rate_limit(&self, per_second: Option<f64>) {
        *self.rate_limit_per_second.lock().unwrap_or_else(PoisonError::into_inner) = per_second;
    }

    /// Where the `index`-th core counts.
    pub(super) fn core(&self, status: &Arc<Status>, index: usize) -> Arc<Core> {
        self.status.get_or_init(|| Arc::clone(status));
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        while cores.len() <= index {
            cores.push(Arc::new(Core::new()));
        }
        Arc::clone(&cores[index])
    }

    pub(super) fn cores(&self) -> Vec<Arc<Core>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clients(&self) -> HashMap<IpAddr, Client> {
        let mut all = HashMap::new();
        self.cores().iter().for_each(|core| core.add_clients(&mut all));
        all
    }
}
