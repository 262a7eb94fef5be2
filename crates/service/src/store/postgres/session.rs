//! One connection in use: its prepared statements, and the account of what was sent and what was answered.
//!
//! Statements are written one behind the other and answered in that order. So an answer settles all that was sent before it,
//! whoever gave up waiting meanwhile. Invariant: at most [`PIPELINE_MAX`] statements are on their way, those that nobody waits
//! for any more among them.
//!
//! A session does not end itself: it calls for the task that keeps it (`keep`), when a caller gave up or an error condemned it.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client, Error, Row, Statement};

use super::connect::reason;
use super::locked;
use super::statements::Statements;
use super::verdict::Verdict;
use crate::store::StoreError;

/// Statements that may be on their way on one connection; a further one is refused at once.
pub const PIPELINE_MAX: u64 = 64;

/// The parameters of a statement.
type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection and what was prepared on it.
#[derive(Debug)]
pub(super) struct Session {
    // Dropped first: a statement that is dropped while the connection is there sends a message.
    client: Client,
    statements: Statements,
    account: Mutex<Account>,
    /// Somebody gave up, or the session is condemned.
    attention: Notify,
}

impl Session {
    pub(super) fn new(client: Client, statements: Statements) -> Self {
        Self { client, statements, account: Mutex::default(), attention: Notify::new() }
    }

    /// Statements that are on their way.
    pub(super) fn waiting(&self) -> u64 {
        locked(&self.account).waiting()
    }

    /// Waits until there is something to do about it: it is condemned, or it must be asked whether it is there.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    /// Why it must not be used any more, if so.
    pub(super) fn condemned(&self) -> Option<String> {
        locked(&self.account).condemned.clone()
    }

    /// Asks the server for a sign of life, which settles all that was sent before.
    pub(super) async fn ask(&self) -> Result<(), Error> {
        let sent = locked(&self.account).sent;
        self.client.check_connection().await?;
        locked(&self.account).settle(sent);
        Ok(())
    }

    /// Has the server give up what it is doing for this session.
    pub(super) fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    fn condemn(&self, error: &Error) {
        locked(&self.account).condemned.get_or_insert_with(|| reason(error));
        self.attention.notify_one();
    }
}

/// The right to send one statement.
#[derive(Debug)]
pub(super) struct Passage {
    session: Arc<Session>,
    number: u64,
    is_answered: bool,
}

impl Passage {
    /// `None`: there is no room.
    pub(super) fn book(session: Arc<Session>) -> Option<Self> {
        let number = locked(&session.account).enter()?;
        Some(Self { session, number, is_answered: false })
    }

    /// Sends a statement and reads the rows of its answer. They count only with the server's word that it is ready for the next
    /// statement, which follows the commit: an answer that breaks off before is an error.
    pub(super) async fn rows<T>(
        mut self,
        which: fn(&Statements) -> &Statement,
        parameters: Parameters<'_>,
        read: fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, StoreError> {
        let answer = self.session.client.query(which(&self.session.statements), parameters).await;
        self.is_answered = true;
        let rows = answer.and_then(|rows| rows.iter().map(read).collect());
        rows.map_err(|error: Error| {
            let verdict = Verdict::of(&error);
            if !verdict.session_stays {
                self.session.condemn(&error);
            }
            verdict.error
        })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.is_answered {
            locked(&self.session.account).settle(self.number);
        } else {
            self.session.attention.notify_one();
        }
    }
}

/// What was sent and answered, counted from the start of the session.
#[derive(Debug, Default)]
struct Account {
    sent: u64,
    answered: u64,
    condemned: Option<String>,
}

impl Account {
    fn waiting(&self) -> u64 {
        self.sent - self.answered
    }

    fn enter(&mut self) -> Option<u64> {
        if self.waiting() >= PIPELINE_MAX {
            return None;
        }
        self.sent += 1;
        Some(self.sent)
    }

    fn settle(&mut self, number: u64) {
        self.answered = self.answered.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_102_a_connection_takes_so_many_statements_and_no_more() {
        let mut account = Account::default();
        let numbers: Vec<u64> = std::iter::from_fn(|| account.enter()).collect();
        assert_eq!(numbers, (1..=PIPELINE_MAX).collect::<Vec<_>>());
        account.settle(1);
        assert_eq!(
            (account.waiting(), account.enter(), account.enter()),
            (PIPELINE_MAX - 1, Some(PIPELINE_MAX + 1), None)
        );
    }

    #[test]
    fn an_answer_settles_what_was_sent_before_it() {
        let mut account = Account::default();
        for _ in 0..3 {
            account.enter();
        }
        // The first and the second gave up waiting.
        account.settle(3);
        assert_eq!(account.waiting(), 0);
        account.settle(2);
        assert_eq!(account.waiting(), 0, "an answer that is read late takes nothing back");
    }
}
