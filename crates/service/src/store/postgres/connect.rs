//! How a session is made: a connection, checked and set up.
//!
//! Invariant: whatever is waited for from a server is waited for with a limit, and what is said about a failure is one line
//! without a password.

use std::time::Duration;

use baiwan_task::timeout;
use tokio_postgres::{Client, Error};

use super::endpoint::{Driver, Endpoint, drive};
use super::failure::{POOLED, no_answer, reason};
use super::identity::Opened;
use super::pooler::shares_sessions;
use super::session::{CHANGES_MAX, Session};
use super::statements::Statements;
use crate::store::PATIENCE;

/// The server gives a statement up after this time: before the caller does, so that the session is free for the next.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1400);
const _: () = assert!(STATEMENT_TIMEOUT.as_millis() < PATIENCE.as_millis());

/// A change that waits for a row holds up those behind it on its connection, so it waits less long than they may.
const LOCK_TIMEOUT: Duration = Duration::from_millis(120);
/// A change waits for no more locks that others may hold: for a user's row or a key, and for a name.
const LOCKS_MAX: u128 = 2;
/// A change that has waited for a connection for this time is not sent any more.
pub(super) const CHANGE_WAIT_MAX: Duration = Duration::from_millis(900);
// However many changes wait for the same row: what was sent has had its turn, and been made or given up, before its caller is told
// that the store does not answer. A deadline within the statements would need the server's clock to agree with ours.
const _: () = assert!(
    CHANGE_WAIT_MAX.as_millis() + CHANGES_MAX as u128 * LOCKS_MAX * LOCK_TIMEOUT.as_millis() < PATIENCE.as_millis()
);

/// Time for the set-up: a dozen questions, one after the other.
const SET_UP_MAX: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoSession {
    /// The server is not there, or cannot give one now.
    Failed(String),
    /// What is there must not be used.
    Refused(&'static str),
}

/// A connection that is ready for work, to the database that was opened.
pub(super) async fn session(endpoint: &Endpoint, opened: &Opened) -> Result<(Session, Driver), NoSession> {
    let connected = endpoint.connect(Duration::ZERO).await.ok_or_else(|| NoSession::Failed(no_answer()))?;
    let (client, mut connection) = connected.map_err(|error| NoSession::Failed(reason(&error)))?;
    let preparing = drive(&mut connection, prepare(endpoint, &client, opened));
    let prepared = timeout("setting up the connection", SET_UP_MAX, preparing).await;
    let prepared = prepared.map_err(|late| NoSession::Failed(late.to_string()))?.map_err(NoSession::Failed)?;
    match prepared.map_err(|error| NoSession::Failed(reason(&error)))? {
        Ok(statements) => Ok((Session::new(client, statements), connection)),
        Err(refusal) => {
            // The right one may be another of them.
            endpoint.pass_over();
            Err(NoSession::Refused(refusal))
        }
    }
}

/// Sets up a connection, or says why it must not be used.
async fn prepare(
    endpoint: &Endpoint,
    client: &Client,
    opened: &Opened,
) -> Result<Result<Statements, &'static str>, Error> {
    client.batch_execute(&set_up()).await?;
    if let Some(refusal) = opened.compare(client).await? {
        return Ok(Err(refusal));
    }
    if endpoint.suspects_pooler() {
        match shares_sessions(endpoint, client).await? {
            Some(true) => return Ok(Err(POOLED)),
            Some(false) => endpoint.trust_sessions(),
            // It is used, and the next one is asked.
            None => {}
        }
    }
    Statements::prepare(client).await.map(Ok)
}

/// What a session needs, whatever is set for the user or the database.
fn set_up() -> String {
    // A commit that does not wait for the disk could be lost after it was acknowledged. What `statements` says of changes that
    // meet holds at the level "read committed".
    format!(
        "SET client_min_messages TO warning;
         SET search_path TO pg_catalog;
         SET default_transaction_isolation TO 'read committed';
         SET statement_timeout TO {};
         SET lock_timeout TO {};
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';",
        STATEMENT_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis()
    )
}
