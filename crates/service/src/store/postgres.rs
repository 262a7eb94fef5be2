//! The PostgreSQL store: users in the schema `baiwan` of a database.
//!
//! ```text
//!   core 0: CorePostgres ─┬─ changes ─► Passage ─► Session ═╗
//!                         └─ reads ───► Passage ─► Session ═╬═ pipelined ═► server
//!   core n: CorePostgres ─── both ────► Passage ─► Session ═╝
//!
//!   each slot of a core: keep ─► connect, set up, prepare ─► publish the Session ─► drive it ─► again
//! ```
//!
//! [`Postgres`] is the process's: it migrates once, owns the slots and ends their tasks. [`CorePostgres`] is one core's.
//! Nothing is lent: statements are written one behind the other on the connection with the least to do (`session`). While
//! there is none, every operation fails at once and only the slots' tasks try to connect, at random times (`keep`): that
//! is the circuit breaker.
//!
//! Nothing is tried twice, since a change whose answer was lost may have happened. Deadlines are the face's: it drops an
//! operation after [`PATIENCE`](super::PATIENCE), and what is dropped makes its slot ask whether the server is there.
//! Invariants: a change is acknowledged only after the server has committed it with `synchronous_commit`, in the table that was
//! opened at start (`identity`); there are never more connections than were asked for, but for one more while it is found out whether a
//! pooler exchanges them (`pooler`), nor more than [`PIPELINE_MAX`] statements on their way on one. What finds no room waits for
//! it, unsent: up to [`WAITING_MAX`] operations of a core.

mod backoff;
mod connect;
mod endpoint;
mod failure;
mod identity;
mod keep;
mod pooler;
mod schema;
mod session;
mod slots;
mod statements;
mod tls;
mod verdict;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

pub use self::schema::OpenError;
pub use self::session::PIPELINE_MAX;
pub use self::slots::WAITING_MAX;
pub use self::tls::NoAuthorities;

use self::connect::CHANGE_WAIT_MAX;
use self::endpoint::Endpoint;
use self::identity::{ANOTHER, Opened, Receipt};
use self::session::{Kind, Passage};
use self::slots::{Booking, Lanes, Slots, own_slots};
use self::statements::{Creation, changed_of, probed_of, user_of};
use super::{Change, Condition, Fields, IdempotencyKey, PostgresUrl, StoreError, User};

/// The database of the process. Dropping it cuts the connections; nothing is queued here.
#[derive(Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
}

/// What the cores and the slots' tasks share.
#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    opened: Opened,
    slots: Slots,
    cores: usize,
    /// The runtime that outlives the cores, and can be woken from all of them.
    home: Handle,
    changes: AtomicU64,
    /// One task for each slot that is used; `None` once the store is closed.
    tasks: Mutex<Option<Vec<AbortHandle>>>,
}

impl Postgres {
    /// Brings the database to this version's schema. The connections, `connections_max` in all, are made by the cores.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one line that says what to do. A database that this cannot work with is left as it was.
    pub async fn open(url: &PostgresUrl, cores: usize, connections_max: usize) -> Result<Self, OpenError> {
        let endpoint = schema::endpoint(url)?;
        let opened = Opened::new(schema::open(url, &endpoint).await?);
        let shared = Shared {
            endpoint,
            opened,
            slots: Slots::new(connections_max.max(1)),
            cores: cores.max(1),
            home: Handle::current(),
            changes: AtomicU64::new(0),
            tasks: Mutex::new(Some(Vec::new())),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Refuses what [`open`](Self::open) would refuse before it asks the server.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn look(url: &PostgresUrl) -> Result<(), OpenError> {
        schema::endpoint(url).map(drop)
    }

    /// The part for the core of that number, from 0 on.
    pub fn for_core(&self, core: usize) -> CorePostgres {
        let lanes = Lanes::of(core, self.shared.cores, self.shared.slots.count());
        CorePostgres { shared: Arc::clone(&self.shared), core, lanes: Arc::new(lanes) }
    }

    /// Changes acknowledged since the start.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for task in locked(&self.shared.tasks).take().into_iter().flatten() {
            task.abort();
        }
        self.shared.slots.close();
    }
}

/// The database as one core sees it. A clone is the same core's and shares its connections.
#[derive(Clone, Debug)]
pub struct CorePostgres {
    shared: Arc<Shared>,
    core: usize,
    lanes: Arc<Lanes>,
}

impl CorePostgres {
    /// Starts the tasks of this core's slots, on the runtime within which it is called; if there are fewer slots than cores, on that
    /// of [`Postgres::open`]. What is asked for before their first
    /// attempt has ended waits for it.
    pub(super) fn open(&self) {
        let slots = &self.shared.slots;
        let mut tasks = locked(&self.shared.tasks);
        let Some(tasks) = tasks.as_mut() else { return };
        for slot in own_slots(self.core, self.shared.cores, slots.count()) {
            if slots.begin(slot) {
                let keeper = keep::keep(Arc::clone(&self.shared), slot);
                // Where cores share connections, the core that ends first must not take them from the others.
                let are_shared = slots.count() < self.shared.cores;
                let task = if are_shared { self.shared.home.spawn(keeper) } else { tokio::spawn(keeper) };
                tasks.push(task.abort_handle());
            }
        }
    }

    pub(super) async fn apply(&self, change: Change) -> Result<User, StoreError> {
        match change {
            Change::Create { fields, created_at, key: None } => self.create(&fields, &created_at).await,
            Change::Create { fields, created_at, key: Some(key) } => self.create_once(fields, &created_at, &key).await,
            Change::Replace { id, fields, condition } => self.replace(id, &fields, &condition).await,
            Change::Delete { id, condition } => self.delete(id, &condition).await,
        }
    }

    pub(super) async fn user(&self, id: i64) -> Result<Option<User>, StoreError> {
        let users = self.read().await?.rows(|statements| &statements.find, &[&id], user_of).await?;
        Ok(users.into_iter().next())
    }

    pub(super) async fn users(&self, after: i64, limit: u32) -> Result<Vec<User>, StoreError> {
        let limit = i64::from(limit);
        self.read().await?.rows(|statements| &statements.page, &[&after, &limit], user_of).await
    }

    /// Whether the table that was opened can be read, on a server that takes writes: one cheap read.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let probed = self.read().await?.rows(|statements| &statements.probe, &[], probed_of).await?;
        match probed[..] {
            [(_, table)] if !self.shared.opened.is_table(table) => Err(self.is_another()),
            [(true, _)] => Ok(()),
            _ => Err(StoreError::Unavailable),
        }
    }

    async fn create(&self, fields: &Fields, created_at: &str) -> Result<User, StoreError> {
        let Fields { name, email } = fields;
        let created =
            self.write().await?.rows(|statements| &statements.create, &[name, email, &created_at], changed_of).await?;
        self.changed(created)?.ok_or(StoreError::NameTaken)
    }

    async fn create_once(&self, fields: Fields, created_at: &str, key: &IdempotencyKey) -> Result<User, StoreError> {
        let (fingerprint, expiry, key) = (fields.fingerprint(), IdempotencyKey::expiry(), key.as_str());
        let fingerprint = fingerprint.as_slice();
        let Fields { name, email } = &fields;
        let mut creations = self
            .write()
            .await?
            .rows(
                |statements| &statements.create_once,
                &[name, email, &created_at, &key, &fingerprint, &expiry],
                Creation::read,
            )
            .await?;
        if creations.is_empty() {
            // Another with the key has just been committed: it is there for whoever looks now.
            let passage = self.read().await?;
            creations =
                passage.rows(|statements| &statements.look_up, &[&key, &fingerprint, &expiry], Creation::read).await?;
        }
        let Creation { is_new, is_same, id, created_at, receipt } = creations.pop().ok_or(StoreError::Unavailable)?;
        self.acknowledge(receipt)?;
        if is_new {
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
        }
        // Of the same fields, the first answer can be made of these, whatever has become of the user.
        let user = User { id, name: fields.name, email: fields.email, created_at, version: 1 };
        if is_same { Ok(user) } else { Err(StoreError::KeyReused) }
    }

    async fn replace(&self, id: i64, fields: &Fields, condition: &Condition) -> Result<User, StoreError> {
        let (Fields { name, email }, (wanted, unwanted)) = (fields, versions_of(condition));
        let parameters: &[&(dyn ToSql + Sync)] = &[&id, name, email, &wanted, &unwanted];
        let replaced = self.write().await?.rows(|statements| &statements.replace, parameters, changed_of).await?;
        match self.changed(replaced)? {
            Some(user) => Ok(user),
            None => Err(self.why_unchanged(id, condition).await),
        }
    }

    async fn delete(&self, id: i64, condition: &Condition) -> Result<User, StoreError> {
        let (wanted, unwanted) = versions_of(condition);
        let parameters: &[&(dyn ToSql + Sync)] = &[&id, &wanted, &unwanted];
        let deleted = self.write().await?.rows(|statements| &statements.delete, parameters, changed_of).await?;
        match self.changed(deleted)? {
            Some(user) => Ok(user),
            None => Err(self.why_unchanged(id, condition).await),
        }
    }

    /// Nothing was changed, so a second look is as good as the first: an id is not given twice, so that who is there now
    /// was there before, with another version, and who is not was never there or is gone.
    async fn why_unchanged(&self, id: i64, condition: &Condition) -> StoreError {
        if *condition == Condition::Any {
            return StoreError::NoSuchUser;
        }
        match self.user(id).await {
            Ok(Some(_)) => StoreError::ConditionFailed,
            Ok(None) => StoreError::NoSuchUser,
            Err(error) => error,
        }
    }

    fn changed(&self, changed: Vec<(User, Receipt)>) -> Result<Option<User>, StoreError> {
        let Some((user, receipt)) = changed.into_iter().next() else { return Ok(None) };
        self.acknowledge(receipt)?;
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
        Ok(Some(user))
    }

    fn acknowledge(&self, receipt: Receipt) -> Result<(), StoreError> {
        if self.shared.opened.acknowledge(receipt) { Ok(()) } else { Err(self.is_another()) }
    }

    /// The table is not the one that was opened: each session has to show whose it is.
    fn is_another(&self) -> StoreError {
        self.shared.slots.refuse(ANOTHER);
        StoreError::Unavailable
    }

    /// What was not sent in time is not sent at all: it could be made after the caller was told that it was not.
    async fn write(&self) -> Result<Passage, StoreError> {
        let booked = self.book(Kind::Change, &self.lanes.writes, self.lanes.writes_anywhere.iter().copied());
        timeout(CHANGE_WAIT_MAX, booked).await.unwrap_or(Err(StoreError::QueueFull))
    }

    async fn read(&self) -> Result<Passage, StoreError> {
        self.book(Kind::Read, &self.lanes.reads, 0..self.shared.slots.count()).await
    }

    /// Room on a connection of the lane; of another core's, if the lane has none at the moment. Waits while there is none.
    async fn book(
        &self,
        kind: Kind,
        lane: &[usize],
        otherwise: impl Iterator<Item = usize> + Clone,
    ) -> Result<Passage, StoreError> {
        let slots = &self.shared.slots;
        loop {
            // From before the look, so that no change after it is missed.
            let mut changed = pin!(slots.changed());
            let booking = match slots.book(lane.iter().copied(), kind) {
                Booking::Opening | Booking::Down => slots.book(otherwise.clone(), kind),
                booking => booking,
            };
            match booking {
                Booking::Passage(passage) => return Ok(passage),
                Booking::Full(session) => {
                    let _waiting = self.lanes.waiting.acquire_nowait().map_err(|_in_use| StoreError::QueueFull)?;
                    let mut room = pin!(Passage::wait(session, kind));
                    // A connection that came or went makes everybody choose again.
                    let booked = poll_fn(|cx| match room.as_mut().poll(cx) {
                        Poll::Ready(passage) => Poll::Ready(Some(passage)),
                        Poll::Pending => changed.as_mut().poll(cx).map(|()| None),
                    });
                    if let Some(passage) = booked.await {
                        return Ok(passage);
                    }
                }
                Booking::Down => return Err(StoreError::Unavailable),
                Booking::Opening => changed.await,
            }
        }
    }
}

/// As the statements take them: those of which it must be one, where `None` is any, and those of which it must be none.
fn versions_of(condition: &Condition) -> (Option<&[i64]>, &[i64]) {
    match condition {
        Condition::Any => (None, &[]),
        Condition::Versions(versions) => (Some(versions), &[]),
        Condition::NoneOf(versions) => (None, versions),
    }
}

/// What panicked under the lock left nothing half done: each is held for a few assignments.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
