//! One core's connection for reading.
//!
//! Reads run inline: they are short and come from the page cache. The lock is the core's own and never contended; it
//! is there because handlers must be `Send`. Invariant: after a failed read the connection is dropped and the next
//! read opens a new one, so that a fault that has passed needs no restart.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use tracing::{info, warn};

use super::schema;
use crate::store::StoreError;

/// A connection that cannot write, opened at the first read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// The last read failed and was logged; it is not logged again until a read succeeds.
    failing: bool,
}

/// A clone has a connection of its own.
impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(self.path.clone())
    }
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, slot: Mutex::default() }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match slot.connection.take() {
            Some(connection) => Ok(connection),
            None => schema::open_reader(&self.path),
        };
        match connection.and_then(|connection| Ok((read(&connection)?, connection))) {
            Ok((value, connection)) => {
                slot.connection = Some(connection);
                if std::mem::take(&mut slot.failing) {
                    info!("the store can be read again");
                }
                Ok(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut slot.failing, true) {
                    warn!(%error, "the store cannot be read; reads are answered with 503");
                }
                Err(StoreError::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_cannot_write_and_goes_on_after_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let _connection = schema::open(&path).unwrap();
        let reader = Reader::new(path);
        let outcome = reader.read(|connection| connection.execute("DELETE FROM users", []));
        assert_eq!(outcome, Err(StoreError::Unavailable));
        assert_eq!(
            reader.read(|connection| connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))),
            Ok(0)
        );
    }
}
