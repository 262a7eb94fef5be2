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
//!                            Handle ◀── Slot ◀──┘ value          failures ──▶ Shared
//! ```

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::TryAcquireError;
use tokio::task::JoinHandle;
use tokio::time::sleep;

mod cancellation;
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

use self::cancellation::Cancellation;
use self::child::{Child, Label};
use self::handle::Slot;
use self::roster::{Phase, Roster};
use self::scope::Scope;
use self::shared::Shared;
use crate::sync::Arc;
use crate::turn;

pub use self::context::{cancelled, is_cancelled};
pub use self::failure::{AsError, Failure, FailureKind, Failures, FailuresIntoIter, FailuresIter};
pub use self::handle::{Cancelled, Handle};

/// How a group of tasks behaves: its name, limit, deadline and grace, all of them optional.
///
/// [`scope`](TaskGroup::scope) runs one: the first failure cancels the rest. [`collect`](TaskGroup::collect) runs one that
/// gathers every result instead.
///
/// ```
/// # use std::time::Duration;
/// use baiwan_task::{Cancelled, Failures, Group, TaskGroup};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PageError {
///     #[error("not found")]
///     NotFound,
///     #[error(transparent)]
///     Cancelled(#[from] Cancelled),
/// }
/// # async fn fetch_user() -> Result<&'static str, PageError> { Ok("ada") }
/// # async fn fetch_posts() -> Result<u32, PageError> { Err(PageError::NotFound) }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let page: Result<(&str, u32), Failures<PageError>> = TaskGroup::new()
///     .name("page")
///     .limit(5)
///     .deadline(Duration::from_secs(2))
///     .scope(async |group: Group<PageError>| {
///         let user = group.spawn(fetch_user()).await;
///         let posts = group.name("posts").spawn(fetch_posts()).await;
///         Ok((user.await?, posts.await?))
///     })
///     .await;
/// assert_eq!(page.unwrap_err().to_string(), "posts: not found");
/// # }
/// ```
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
    /// The scope then waits for its children, as after any failure; so it may return later than that, but only by what the
    /// [`grace`](TaskGroup::grace) and the next awaits of body and children take. A body that blocks its thread holds the deadline
    /// up: until it awaits, nobody is told. Within the grace of a group outside it fails by that group's cancellation, but the
    /// deadline holds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives body and children this long to end by themselves when the group is cancelled, whatever the reason. Those that do
    /// not listen to [`cancelled`] go on meanwhile; what is left after it is dropped at its next await.
    ///
    /// Meanwhile nothing is spawned any more, neither in this group nor in one inside. Without a grace, everybody is dropped at
    /// once.
    ///
    /// A group inside, which is cancelled with this one, has what is left of this one's grace. Of its own it can only have less.
    /// A scope that is dropped gives no grace.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Runs `body`, in this task, with a new group; ends when the body and every child have ended.
    ///
    /// The body runs in the calling task, so it may borrow from it; its children are tasks of their own, so they may not.
    ///
    /// The first failure of the body or of a child cancels the group: first all can see it ([`cancelled`]), and after the
    /// [`grace`](TaskGroup::grace), which is nothing by default, body and children are dropped at their next await. All that
    /// fails meanwhile is returned with it.
    ///
    /// Run the scope in a [`LocalSet`](tokio::task::LocalSet) or a runtime, not these in the scope: what `run_until`, or `block_on`
    /// of another runtime, polls there of other tasks counts as code of this group, and scopes that begin in them as groups in this
    /// one, which waits for their children.
    ///
    /// A scope that is polled first within a child or a body of another group is part of that group, wherever it is polled later:
    /// it is cancelled with it, and the outer scope waits for the inner one's children, even if the inner scope was dropped. Of what
    /// had failed in one that was dropped, nobody is told.
    ///
    /// **Dropped before its end**, as `select!` and timeouts do, a scope has its children dropped at their next await, but
    /// nobody waits for them, unless it was in another group: a drop cannot wait, and Rust knows no other way. To stop early
    /// and to wait for it, use [`Group::cancel`] or a [`deadline`](TaskGroup::deadline).
    ///
    /// The type of the group is to be written down, as `async |group: Group<PageError>|`: the compiler does not find it. `?` on a
    /// handle asks for a [`From<Cancelled>`](Cancelled) in the error; `anyhow::Error` and `Box<dyn Error + Send + Sync>` have it.
    ///
    /// # Errors
    /// All failures, the first one first. If the group was cancelled before anything had failed, by [`Group::cancel`] or with the
    /// group outside, the first one is [`FailureKind::Cancelled`]. It is there even if the body has ended with a value: something
    /// may have been cut short, or not begun.
    ///
    /// Who awaits a task that was cancelled with the group is dropped there, as everybody is. Within a [`grace`](TaskGroup::grace) it
    /// is told [`Cancelled`] instead; if it fails by that, it is one failure more, after the cause.
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
    /// With a [`limit`](TaskGroup::limit), so many run at a time, and one more is taken from the iterator, which waits for its place.
    /// Without one the futures are taken as fast as they are spawned. Other tasks run meanwhile, between the futures of an iterator
    /// that takes its time, too.
    ///
    /// If the [`deadline`](TaskGroup::deadline) comes, what was taken and is not done by then is
    /// [`FailureKind::DeadlineExceeded`]; if the group outside is cancelled, [`FailureKind::Cancelled`]. **Futures that were not taken
    /// by then have no result**, so there may be fewer results than futures: an iterator may have any number of them, and may never
    /// end. It is not gone through any more, and dropped with what is left in it. Where any are missing, the last result is one of
    /// those two: if need be, one more future is taken, for this alone, and not run.
    ///
    /// Dropping this is as dropping a [`scope`](TaskGroup::scope).
    ///
    /// The futures are tasks of their own, so they cannot borrow: give each a clone, or an `Arc`, in an `async move` block. A future
    /// that cannot fail is wrapped, as in `async { Ok::<_, Infallible>(work.await) }`. What was late or cancelled has the name of
    /// the group; if its drop panics, the panic hook alone tells of it.
    ///
    /// # Panics
    /// If the iterator panics, or what is left in it when it is dropped, after all that was started has ended. With a deadline or a
    /// grace, outside of a Tokio runtime with timers; and always outside of a Tokio runtime.
    ///
    /// ```
    /// # use baiwan_task::TaskGroup;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let odd = |number: u32| async move { if number % 2 == 1 { Ok(number) } else { Err("even") } };
    /// let results = TaskGroup::new().limit(2).collect((1..=3).map(odd)).await;
    /// assert_eq!(results[0].as_ref().ok(), Some(&1));
    /// assert_eq!(results[1].as_ref().unwrap_err().error(), Some(&"even"));
    /// assert_eq!(results[2].as_ref().ok(), Some(&3));
    /// # }
    /// ```
    pub async fn collect<I, F, T, E>(self, futures: I) -> Vec<Result<T, Failure<E>>>
    where
        I: IntoIterator<Item = F>,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        gather::gather(self, futures, |group, future| group.spawn(future)).await
    }

    /// [`collect`](TaskGroup::collect) for futures that are not `Send`, in a [`LocalSet`](tokio::task::LocalSet) or a
    /// [`LocalRuntime`](tokio::runtime::LocalRuntime).
    ///
    /// # Panics
    /// As `collect`; and outside of those.
    pub async fn collect_local<I, F, T, E>(self, futures: I) -> Vec<Result<T, Failure<E>>>
    where
        I: IntoIterator<Item = F>,
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: 'static,
    {
        gather::gather(self, futures, |group, future| group.spawn_local(future)).await
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
    /// a loop that spawns lets its children run: after some 256 of them. How many there are at a time, only a limit bounds: what
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
        turn::take_spawn().await;
        let Some(places) = self.shared.roster.places() else { return Ok(self.label()) };
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
        let group = self.shared.roster.name().map(AsRef::<str>::as_ref);
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
            return Handle::refused();
        };
        let child = Child::new(future, self.shared, Arc::clone(&slot), label);
        Handle::new(slot, spawn(child))
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.shared.roster.name())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
