//! Task groups: tasks that are started together end together.
//!
//! A [`TaskGroup`] says how a group behaves; its [`scope`](TaskGroup::scope) runs a body in the calling task and waits for all
//! that the body has spawned, with the [`Group`] it was given. It is not an executor: children are tasks of the Tokio runtime
//! in which they were spawned.
//!
//! The one invariant: while the outermost scope is awaited, no child of it, however deep, outlives it.
//!
//! ```text
//!   TaskGroup ── scope ──▶ Scope (body, time)      awaits the end of
//!                            │                            │
//!                          Group ── spawn ──▶ Child ──▶ Roster: members, phase, wakers ──▶ the Roster outside
//!                                               │
//!                            Handle ◀───────────┘ value          failures ──▶ Shared
//! ```

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::TryAcquireError;
use tokio::task::JoinHandle;
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

mod child;
mod context;
mod failure;
mod gather;
mod handle;
#[cfg(all(test, any(baiwan_loom, baiwan_shuttle)))]
mod models;
mod roster;
mod scope;
mod shared;
mod waiting;

use self::child::{Child, Label};
use self::context::Cancellation;
use self::handle::Slot;
use self::roster::{Phase, Roster};
use self::scope::Scope;
use self::shared::Shared;
use crate::sync::Arc;

pub use self::context::{cancelled, is_cancelled};
pub use self::failure::{AsError, Failure, FailureKind, Failures};
pub use self::handle::{Cancelled, Handle};

/// How a group of tasks behaves: its name, limit, deadline and grace, all of them optional.
///
/// [`scope`](TaskGroup::scope) runs one: the first failure cancels the rest. [`collect`](TaskGroup::collect) runs one that
/// gathers every result instead. The [guide](mod@crate::guide) has examples.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `scope` or `collect` is awaited"]
pub struct TaskGroup {
    name: Option<Cow<'static, str>>,
    limit: Option<usize>,
    deadline: Option<Duration>,
    grace: Option<Duration>,
}

impl TaskGroup {
    /// A group without name, limit, deadline and grace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the group: in the failures that are its own (of its body, of its deadline), and in the spans of its named tasks.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Has at most `limit` children run at a time. [`Group::spawn`] waits for a place, first come, first served.
    ///
    /// A child that spawns into its own group holds its place while it waits for another: if all do, none goes on. Use a group
    /// inside instead, which has a limit of its own.
    ///
    /// # Panics
    /// If `limit` is zero: nothing could ever run.
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(limit > 0, "a group whose limit is zero could never run anything");
        self.limit = Some(limit);
        self
    }

    /// Has the scope fail with [`FailureKind::DeadlineExceeded`] if it has not ended after `deadline`, counted from when it was
    /// first polled.
    ///
    /// The scope then waits for its children, as after any failure: for the [`grace`](TaskGroup::grace), and until body and children
    /// come to their next await. Within the grace of a group outside it fails by that group's cancellation, but the deadline holds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives body and children this long to end by themselves when the group is cancelled, whatever the reason. Those that do not
    /// listen to [`cancelled`] go on meanwhile; what is left after it is dropped at its next await. Without a grace, everybody is at
    /// once. A scope that is dropped gives none.
    ///
    /// Meanwhile nothing is spawned any more, neither in this group nor in one inside. A group inside has what is left of this one's
    /// grace; of its own it can only have less.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Runs `body`, in this task, with a new group; ends when the body and every child have ended. The body may borrow from the
    /// calling task; children are tasks of their own, so they may not.
    ///
    /// The first failure of the body or of a child cancels the group: first all can see it ([`cancelled`]), and after the
    /// [`grace`](TaskGroup::grace), which is nothing by default, body and children are dropped at their next await. All that
    /// fails meanwhile is returned with it.
    ///
    /// A scope that is polled first within a child or a body of another group is part of that group, wherever it is polled later:
    /// it is cancelled with it, and the outer scope waits for the inner one's children, even if the inner scope was dropped. What a
    /// [`LocalSet`](tokio::task::LocalSet), or `block_on` of another runtime, polls within a scope counts as code of its group; so
    /// run the scope in these, and not these in the scope.
    ///
    /// **Dropped before its end**, as `select!` and timeouts do, a scope has its children dropped at their next await, but
    /// nobody waits for them, unless it was in another group, and nobody is told what had failed: a drop cannot wait. To stop early
    /// and to wait for it, use [`Group::cancel`] or a [`deadline`](TaskGroup::deadline).
    ///
    /// The type of the group is to be written down, as `async |group: Group<PageError>|`: the compiler does not find it. `?` on a
    /// handle asks for a [`From<Cancelled>`](Cancelled) in the error; `anyhow::Error` and `Box<dyn Error + Send + Sync>` have it.
    ///
    /// # Errors
    /// All failures, the first one first. If the group was cancelled before anything had failed, by [`Group::cancel`] or with the
    /// group outside, the first one is [`FailureKind::Cancelled`]. It is there even if the body has ended with a value: something
    /// may have been cut short, or not begun. A body or child that awaits a cancelled task within a grace is told [`Cancelled`]; if it
    /// fails by that, it is one failure more, after the cause.
    ///
    /// # Panics
    /// If the body panics and nothing had failed before: with its panic, after every child has ended. With a deadline or a grace,
    /// outside of a Tokio runtime with timers.
    pub async fn scope<R, E, B, F>(self, body: B) -> Result<R, Failures<E>>
    where
        B: FnOnce(Group<E>) -> F,
        F: Future<Output = Result<R, E>>,
    {
        // What can panic comes before the group is a member of the one outside.
        let deadline = self.deadline.map(|after| (after, Box::pin(sleep(after))));
        if self.grace.is_some() {
            // So that a runtime without timers is told of now, and not at the first cancellation.
            drop(sleep(Duration::ZERO));
        }
        let roster = Roster::open(self.name, self.limit, self.grace, context::current());
        let shared = Arc::new(Shared::new(roster));
        let group = Group { shared: Arc::clone(&shared), name: None };
        // The closure is called as part of the body, so that its panic is the body's.
        Scope::new(async move { body(group).await }, shared, deadline).await
    }

    /// Runs all `futures` as tasks and returns what each came to, in their order. No failure cancels another.
    ///
    /// With a [`limit`](TaskGroup::limit) that many run at a time, and one more is taken from the iterator, which waits for its place.
    /// Without one the futures are taken as fast as they are spawned. Other tasks run meanwhile, also between the futures of an
    /// iterator that takes its time.
    ///
    /// If the [`deadline`](TaskGroup::deadline) comes, what was taken and is not done by then is
    /// [`FailureKind::DeadlineExceeded`]; if the group outside is cancelled, [`FailureKind::Cancelled`], with the name of the group.
    /// **Futures that were not taken by then have no result**, so there may be fewer results than futures: an iterator may never end.
    /// It is dropped with what is left in it. Where any are missing, the last result is one of those two: if need be, one more future
    /// is taken, for this alone, and not run.
    ///
    /// The futures are tasks of their own, so they cannot borrow: give each a clone, or an `Arc`, in an `async move` block. A future
    /// that cannot fail is wrapped, as in `async { Ok::<_, Infallible>(work.await) }`. Dropping this is as dropping a
    /// [`scope`](TaskGroup::scope).
    ///
    /// # Panics
    /// If the iterator panics, or what is left in it when it is dropped, after all that was started has ended. With a deadline or a
    /// grace, outside of a Tokio runtime with timers; and always outside of a Tokio runtime.
    pub async fn collect<I, F, T, E>(self, futures: I) -> Vec<Result<T, Failure<E>>>
    where
        I: IntoIterator<Item = F>,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        gather::gather(self, futures).await
    }
}

/// A running group: spawns into it and cancels it. Clones are handles of the same group, and may be given to its children.
///
/// When the scope has ended, nothing can be spawned any more: see [`spawn`](Group::spawn).
pub struct Group<E> {
    shared: Arc<Shared<E>>,
    /// Of the tasks that are spawned with this handle.
    name: Option<Cow<'static, str>>,
}

impl<E> Clone for Group<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), name: self.name.clone() }
    }
}

impl<E> Group<E> {
    /// The same group, with a name for the tasks that are spawned with this handle: it is in their failures, and they run in a
    /// span `task` with the fields `group` and `task`. Tasks without a name have no span.
    #[must_use = "this gives a handle of the group; the tasks that it spawns have the name"]
    pub fn name(&self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { shared: Arc::clone(&self.shared), name: Some(name.into()) }
    }

    /// Spawns a child and returns its handle. **Nothing is spawned before this is awaited**: `group.spawn(work).await` is one thing
    /// to write. The second await, that of the handle, is the one that waits for the value.
    ///
    /// Waits while as many children run as the [`limit`](TaskGroup::limit) allows, and now and then for a turn of the runtime, so that
    /// a loop that spawns lets its children run: after 128 of them. How many there are at a time, only a limit bounds: what
    /// `block_on` was given, and other threads, may spawn faster than the children run.
    ///
    /// If the group is cancelled, or its scope has ended, `future` is dropped without having been polled, and the handle says
    /// [`Cancelled`].
    ///
    /// Cancel safe: dropped before it is ready, this has spawned nothing.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use = "nothing is spawned before this is awaited"]
    #[expect(clippy::async_yields_async, reason = "the handle is awaited later, or never")]
    pub fn spawn<F, T>(&self, future: F) -> impl Future<Output = Handle<T>> + use<F, T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let group = self.clone();
        async move {
            let label = group.take_place().await;
            group.start(future, label, |child| Some(tokio::spawn(child)))
        }
    }

    /// [`spawn`](Group::spawn) for futures that are not `Send`, in a [`LocalSet`](tokio::task::LocalSet) or a
    /// [`LocalRuntime`](tokio::runtime::LocalRuntime).
    ///
    /// # Panics
    /// Outside of those.
    #[must_use = "nothing is spawned before this is awaited"]
    #[expect(clippy::async_yields_async, reason = "the handle is awaited later, or never")]
    pub fn spawn_local<F, T>(&self, future: F) -> impl Future<Output = Handle<T>> + use<F, T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: 'static,
    {
        let group = self.clone();
        async move {
            let label = group.take_place().await;
            group.start(future, label, |child| Some(tokio::task::spawn_local(child)))
        }
    }

    /// Cancels the group, and all groups in it. The scope then ends when everybody has, and its first failure is
    /// [`FailureKind::Cancelled`], unless something had failed before.
    ///
    /// From the body this does not return early: the body, too, is dropped at its next await. Nothing happens if the group is
    /// cancelled already, or has ended. To end single tasks of a scope that succeeds, there is [`Handle::cancel`].
    pub fn cancel(&self) {
        self.shared.roster.cancel();
    }

    /// Waits until the group is cancelled, by whatever reason. If it ends without that, never.
    ///
    /// Cancel safe.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + Sync + use<E> {
        Cancellation::new(Arc::clone(&self.shared.roster))
    }

    /// Whether the group is cancelled, by whatever reason.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.roster.phase() > Phase::Open
    }

    /// Takes a place if there is a limit; the child gives it back. Returns what the child has if it has a name.
    async fn take_place(&self) -> Result<Option<Box<Label>>, Cancelled> {
        consume_budget().await;
        let Some(places) = &self.shared.roster.places else { return Ok(self.label()) };
        let place = match places.try_acquire() {
            // Boxed, so that the future of `spawn`, which is moved around with what it spawns, is small.
            Err(TryAcquireError::NoPermits) => Box::pin(places.acquire()).await.map_err(|_closed| Cancelled)?,
            Err(TryAcquireError::Closed) => return Err(Cancelled),
            Ok(place) => place,
        };
        // What watches spans may panic, and the place is given back then.
        let label = self.label();
        place.forget();
        Ok(label)
    }

    fn label(&self) -> Option<Box<Label>> {
        let name = self.name.clone()?;
        let group = self.shared.roster.name.as_deref();
        let span = tracing::info_span!("task", group, task = &*name);
        Some(Box::new(Label { name, span }))
    }

    /// Admits a child, if it has a place, and has it spawned.
    fn start<F, T>(
        self,
        future: F,
        label: Result<Option<Box<Label>>, Cancelled>,
        spawn: impl FnOnce(Child<F, T, E>) -> Option<JoinHandle<()>>,
    ) -> Handle<T>
    where
        F: Future<Output = Result<T, E>>,
    {
        let slot = Slot::new();
        // Nothing may panic between here and the child, who leaves the group when it is dropped, even by a panic of `spawn`.
        let Some(label) = label.ok().filter(|_| self.shared.roster.admit()) else {
            // Before there is a handle, which would be lost if this panics.
            drop(future);
            slot.put(None);
            return Handle::new(slot, None);
        };
        let child = Child::new(future, self.shared, Arc::clone(&slot), label);
        Handle::new(slot, spawn(child))
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.shared.roster.name)
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
