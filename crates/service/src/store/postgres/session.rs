//! One connection in use: its prepared statements, and the account of what was sent and what was answered.
//!
//! Statements are written one behind the other and answered in that order. So an answer settles all that was sent before it,
//! whoever gave up waiting meanwhile. Invariant: at most [`PIPELINE_MAX`] statements are on their way, and [`CHANGES_MAX`] changes
//! among them, those that nobody waits for any more included. An operation that finds no room waits for it, and has sent nothing until
//! then.
//!
//! A session does not end itself: it calls for the task that keeps it (`keep`), when a caller gave up or an error condemned it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client, Error, Row, Statement};

use super::failure::{has_forgotten, reason};
use super::locked;
use super::statements::Statements;
use super::verdict::Verdict;
use crate::store::StoreError;

/// Statements that may be on their way on one connection; a further one waits.
pub const PIPELINE_MAX: u64 = 64;
/// Changes that may be among them: one that is made, and one behind it, so that the server need not wait for the next. Each may
/// wait for locks, and what is behind it waits as long, and is made afterwards all the same (see `connect`).
pub(super) const CHANGES_MAX: usize = 2;

/// The parameters of a statement.
type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Change,
}

/// Why a session must not be used any more.
#[derive(Clone, Debug)]
pub(super) struct Condemned {
    pub(super) reason: String,
    /// It seems to have been exchanged for another.
    pub(super) has_forgotten: bool,
}

/// A connection and what was prepared on it.
#[derive(Debug)]
pub(super) struct Session {
    // Dropped first: a statement that is dropped while the connection is there sends a message.
    client: Client,
    statements: Statements,
    account: Mutex<Account>,
    /// Somebody gave up, or the session is condemned.
    attention: Notify,
    /// There is room for a read, or a change, that waits for it.
    room: [Notify; 2],
}

impl Condemned {
    pub(super) fn by(error: &Error) -> Self {
        Self { reason: reason(error), has_forgotten: has_forgotten(error) }
    }
}

impl Session {
    pub(super) fn new(client: Client, statements: Statements) -> Self {
        Self { client, statements, account: Mutex::default(), attention: Notify::new(), room: Default::default() }
    }

    /// Statements that are on their way, or wait for room; `None` for a session that is condemned, which must get no more of them.
    pub(super) fn load(&self) -> Option<u64> {
        let account = locked(&self.account);
        account.condemned.is_none().then(|| account.load())
    }

    /// Notes what is answered, and calls those who can be sent instead.
    fn settle(&self, number: u64) {
        let freed = locked(&self.account).settle(number);
        for (room, count) in self.room.iter().zip(freed) {
            (0..count).for_each(|_| room.notify_one());
        }
    }

    /// Waits until there is something to do about it: it is condemned, or it must be asked whether it is there.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    /// Why it must not be used any more, if so.
    pub(super) fn condemned(&self) -> Option<Condemned> {
        locked(&self.account).condemned.clone()
    }

    /// Asks the server for a sign of life, which settles all that was sent before.
    pub(super) async fn ask(&self) -> Result<(), Error> {
        let sent = locked(&self.account).sent;
        self.client.check_connection().await?;
        self.settle(sent);
        Ok(())
    }

    /// Has the server give up what it is doing for this session.
    pub(super) fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// It must not be used any more.
    pub(super) fn condemn(&self, why: Condemned) {
        locked(&self.account).condemned.get_or_insert(why);
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
    /// The error is the session: there is no room, or others wait for it.
    pub(super) fn book(session: Arc<Session>, kind: Kind) -> Result<Self, Arc<Session>> {
        let number = locked(&session.account).enter(kind);
        match number {
            Some(number) => Ok(Self { session, number, is_answered: false }),
            None => Err(session),
        }
    }

    /// Waits for room on the session, behind those who wait already.
    pub(super) async fn wait(session: Arc<Session>, kind: Kind) -> Self {
        // From before the look, so that no room that comes after it is missed.
        let mut room = pin!(session.room[kind as usize].notified());
        room.as_mut().enable();
        let place = Place::take(&session, kind);
        loop {
            room.as_mut().await;
            room.set(session.room[kind as usize].notified());
            room.as_mut().enable();
            let number = locked(&session.account).enter_in_turn(kind);
            if let Some(number) = number {
                drop(place);
                return Self { session: Arc::clone(&session), number, is_answered: false };
            }
        }
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
                self.session.condemn(Condemned::by(&error));
            }
            verdict.error
        })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.is_answered {
            self.session.settle(self.number);
        } else {
            self.session.attention.notify_one();
        }
    }
}

/// A place among those who wait for room.
struct Place<'a> {
    session: &'a Session,
    kind: Kind,
}

impl<'a> Place<'a> {
    fn take(session: &'a Session, kind: Kind) -> Self {
        let mut account = locked(&session.account);
        account.queued[kind as usize] += 1;
        // It may have come since the caller looked, and then nobody calls.
        if account.queued[kind as usize] == 1 && account.has_room(kind) {
            session.room[kind as usize].notify_one();
        }
        Self { session, kind }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        locked(&self.session.account).queued[self.kind as usize] -= 1;
    }
}

/// What was sent and answered, counted from the start of the session.
#[derive(Debug, Default)]
struct Account {
    sent: u64,
    answered: u64,
    /// The numbers of the changes that are not answered, ascending.
    changes: VecDeque<u64>,
    /// Who waits for room: with a read, with a change.
    queued: [usize; 2],
    condemned: Option<Condemned>,
}

impl Account {
    fn waiting(&self) -> u64 {
        self.sent - self.answered
    }

    fn load(&self) -> u64 {
        self.waiting() + self.queued.iter().sum::<usize>() as u64
    }

    fn has_room(&self, kind: Kind) -> bool {
        self.waiting() < PIPELINE_MAX && (kind == Kind::Read || self.changes.len() < CHANGES_MAX)
    }

    /// The number of a statement that may be sent at once: there is room, and nobody has waited for it.
    fn enter(&mut self, kind: Kind) -> Option<u64> {
        if self.queued[kind as usize] == 0 { self.enter_in_turn(kind) } else { None }
    }

    /// That of one whose turn it is.
    fn enter_in_turn(&mut self, kind: Kind) -> Option<u64> {
        if !self.has_room(kind) {
            return None;
        }
        self.sent += 1;
        if kind == Kind::Change {
            self.changes.push_back(self.sent);
        }
        Some(self.sent)
    }

    /// How many of those who wait, with a read and with a change, may look for room now.
    fn settle(&mut self, number: u64) -> [usize; 2] {
        let newly = number.saturating_sub(self.answered);
        self.answered = self.answered.max(number);
        while self.changes.front().is_some_and(|first| *first <= self.answered) {
            self.changes.pop_front();
        }
        let newly = usize::try_from(newly).unwrap_or(usize::MAX);
        let changes = newly.min(CHANGES_MAX - self.changes.len());
        [newly.min(self.queued[0]), changes.min(self.queued[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_102_a_connection_takes_so_many_statements_and_no_more() {
        let mut account = Account::default();
        let numbers: Vec<u64> = std::iter::from_fn(|| account.enter(Kind::Read)).collect();
        assert_eq!(numbers, (1..=PIPELINE_MAX).collect::<Vec<_>>());
        assert_eq!(account.enter(Kind::Change), None);
        account.settle(1);
        assert_eq!(
            (account.waiting(), account.enter(Kind::Read), account.enter(Kind::Read)),
            (PIPELINE_MAX - 1, Some(PIPELINE_MAX + 1), None)
        );
    }

    #[test]
    fn row_102_a_connection_takes_few_changes_and_reads_beside_them() {
        let mut account = Account::default();
        let changes = |account: &mut Account| std::iter::from_fn(|| account.enter(Kind::Change)).count();
        assert_eq!(changes(&mut account), CHANGES_MAX);
        assert!(account.enter(Kind::Read).is_some());
        // An answer to the read is one to the changes before it.
        account.settle(CHANGES_MAX as u64 + 1);
        assert_eq!(changes(&mut account), CHANGES_MAX);
        account.settle(CHANGES_MAX as u64 + 2);
        assert_eq!(changes(&mut account), 1);
    }

    #[test]
    fn who_waits_for_room_is_called_in_turn_and_not_overtaken() {
        let mut account = Account::default();
        while account.enter(Kind::Read).is_some() {}
        account.queued = [2, 1];
        assert_eq!(account.load(), PIPELINE_MAX + 3);
        assert_eq!(account.settle(1), [1, 1]);
        assert_eq!(account.enter(Kind::Read), None, "others have waited");
        assert!(account.enter_in_turn(Kind::Read).is_some());
        assert_eq!(account.enter_in_turn(Kind::Change), None, "the room is taken");
        assert_eq!(account.settle(1), [0, 0], "nothing new");
        assert_eq!(account.settle(10), [2, 1]);
    }

    #[test]
    fn an_answer_settles_what_was_sent_before_it() {
        let mut account = Account::default();
        for _ in 0..3 {
            account.enter(Kind::Read);
        }
        // The first and the second gave up waiting.
        account.settle(3);
        assert_eq!(account.waiting(), 0);
        account.settle(2);
        assert_eq!(account.waiting(), 0, "an answer that is read late takes nothing back");
    }
}
