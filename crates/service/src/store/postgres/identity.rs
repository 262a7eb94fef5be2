//! Which database was opened at start, and whether a new session leads to the same one.
//!
//! Behind the same name another server may come to stand, a database may be made anew, and an older state of it restored. So each session
//! shows whose it is before it is used:
//!
//! - the cluster, the database and the table of users have the numbers that they had at start. A copy of the server's files keeps
//!   them: a standby that took over is the same. What a dump was restored into is not.
//! - the change that was acknowledged last is known there as committed: an older backup does not know it, nor does a standby that was
//!   behind.
//!
//! Changes come with what is compared (`Receipt`), so that nothing is asked for it while a session is in use. Invariant: what was
//! stored elsewhere than in the table that was opened is never acknowledged.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

/// What is said of another database.
pub(super) const ANOTHER: &str = "there is another database, or another table of users, than the one that was opened at start: bring that \
    one back, or restart to use this one";
/// What is said of an older state of the same.
const OLDER: &str = "the database does not know the change that was acknowledged last: an older backup was restored, or a standby that was \
    behind took over; bring the later one back, or restart to accept the loss";

/// The numbers of a database and of what it lies in, as the server writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The `system_identifier`; `None` where this user may not ask for it.
    cluster: Option<String>,
    database: Option<String>,
    /// The table of users, if it is there.
    table: Option<u32>,
}

/// Of a change: where it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) table: u32,
    /// Its transaction; `None` if it was made before, and is only shown again.
    pub(super) transaction: Option<i64>,
}

/// The database that was opened, and how far it is known.
#[derive(Debug)]
pub(super) struct Opened {
    identity: Identity,
    /// The transaction of the change that was acknowledged last; 0 before the first.
    latest: AtomicI64,
}

impl Identity {
    /// That of the database which the client is connected to.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        // Everybody may, unless an administrator has revoked it.
        let may = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute')";
        let may = first_row(client, may).await?.is_some_and(|row| row.get(0) == Some("t"));
        Ok(Self::read(first_row(client, &question(may, 0)).await?.as_ref()))
    }

    fn read(row: Option<&SimpleQueryRow>) -> Self {
        let text = |column: usize| row.and_then(|row| row.get(column)).map(str::to_owned);
        Self { cluster: text(0), database: text(1), table: text(2).and_then(|number| number.parse().ok()) }
    }
}

impl Opened {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, latest: AtomicI64::new(0) }
    }

    /// Whether this is the table that was opened; one that is not there is none.
    pub(super) fn is_table(&self, number: Option<u32>) -> bool {
        number.is_some() && self.identity.table == number
    }

    /// Notes a change that is acknowledged now, unless it was made elsewhere.
    pub(super) fn acknowledge(&self, receipt: Receipt) -> bool {
        let is_here = self.is_table(Some(receipt.table));
        if let (true, Some(transaction)) = (is_here, receipt.transaction) {
            // Of two that are acknowledged at the same time either is the last.
            self.latest.store(transaction, Ordering::Relaxed);
        }
        is_here
    }

    /// What is wrong with the database that the client is connected to, if it is not this one, or not as far.
    pub(super) async fn compare(&self, client: &Client) -> Result<Option<&'static str>, Error> {
        let question = question(self.identity.cluster.is_some(), self.latest.load(Ordering::Relaxed));
        let row = first_row(client, &question).await?;
        if Identity::read(row.as_ref()) != self.identity {
            return Ok(Some(ANOTHER));
        }
        let knows_latest = row.is_some_and(|row| row.get(3) == Some("committed"));
        Ok(if knows_latest { None } else { Some(OLDER) })
    }
}

/// Asks for an identity, and what became of a transaction. One that is too old to be known was there.
fn question(asks_for_cluster: bool, latest: i64) -> String {
    let cluster = if asks_for_cluster { "(SELECT system_identifier FROM pg_control_system())" } else { "NULL" };
    format!(
        "SELECT {cluster}, (SELECT oid FROM pg_database WHERE datname = current_database()),
             to_regclass('baiwan.users')::oid,
             CASE WHEN {latest} = 0 THEN 'committed'
                 WHEN {latest} >= txid_snapshot_xmax(txid_current_snapshot()) THEN 'to come'
                 ELSE coalesce(txid_status({latest}), 'committed') END"
    )
}

/// Without a prepared statement, so that a pooler has nothing to forget.
async fn first_row(client: &Client, sql: &str) -> Result<Option<SimpleQueryRow>, Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_another_table_is_not_acknowledged_and_not_looked_for() {
        let opened = Opened::new(Identity { cluster: None, database: Some("5".to_owned()), table: Some(7) });
        assert!(opened.acknowledge(Receipt { table: 7, transaction: Some(100) }));
        assert!(!opened.acknowledge(Receipt { table: 8, transaction: Some(200) }));
        assert!(opened.acknowledge(Receipt { table: 7, transaction: None }), "shown again");
        assert_eq!(opened.latest.into_inner(), 100);
        let lost = Opened::new(Identity { cluster: None, database: None, table: None });
        assert!(!lost.acknowledge(Receipt { table: 0, transaction: None }));
    }
}
