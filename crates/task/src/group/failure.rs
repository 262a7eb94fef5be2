//! Why a scope has failed: everything that went wrong in it, in the order in which it did.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::Panic;
use crate::units::Spoken;

/// One thing that went wrong in a group.
///
/// Displayed, it is the name, if there is one, and what happened: `posts: not found`. As an [`Error`], its source is that of the
/// error, which is displayed already.
#[derive(Debug)]
pub struct Failure<E> {
    name: Option<Cow<'static, str>>,
    kind: FailureKind<E>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureKind<E> {
    /// The task, or the body of the scope, gave this error.
    Error(E),
    /// The task panicked, or dropping what it owned did.
    Panicked(Panic),
    /// The [deadline](crate::TaskGroup::deadline) came.
    DeadlineExceeded {
        /// How long it was.
        after: Duration,
    },
    /// Somebody [cancelled](crate::Group::cancel) the group, or a group that it is in.
    Cancelled,
}

impl<E> FailureKind<E> {
    fn map<F>(self, change: impl FnOnce(E) -> F) -> FailureKind<F> {
        match self {
            FailureKind::Error(error) => FailureKind::Error(change(error)),
            FailureKind::Panicked(panic) => FailureKind::Panicked(panic),
            FailureKind::DeadlineExceeded { after } => FailureKind::DeadlineExceeded { after },
            FailureKind::Cancelled => FailureKind::Cancelled,
        }
    }
}

impl<E> Failure<E> {
    pub(super) fn new(name: Option<Cow<'static, str>>, kind: FailureKind<E>) -> Self {
        Self { name, kind }
    }

    /// The name of the task that failed; that of the group if it was not one of its tasks.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &FailureKind<E> {
        &self.kind
    }

    /// What went wrong, to keep.
    #[must_use]
    pub fn into_kind(self) -> FailureKind<E> {
        self.kind
    }

    /// The error, if it was one.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        match &self.kind {
            FailureKind::Error(error) => Some(error),
            _ => None,
        }
    }

    /// The error, as it was, or one made of what else went wrong. `anyhow::Error` and `Box<dyn Error + Send + Sync>` can be made of
    /// that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use baiwan_task::{Failures, Group, TaskGroup};
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("not found")]
    /// struct NotFound;
    ///
    /// async fn page() -> anyhow::Result<()> {
    ///     let group = TaskGroup::new().deadline(Duration::from_secs(2));
    ///     let scope = group.scope(async |group: Group<anyhow::Error>| {
    ///         group.spawn(async { Err::<(), _>(NotFound.into()) }).await;
    ///         Ok(())
    ///     });
    ///     scope.await.map_err(|failures| failures.into_first().into_error())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// assert!(page().await.unwrap_err().is::<NotFound>());
    /// # }
    /// ```
    #[must_use]
    pub fn into_error(self) -> E
    where
        E: From<Failure<Infallible>>,
    {
        match self.kind {
            FailureKind::Error(error) => error,
            other => E::from(Failure { name: self.name, kind: other.map(|_| unreachable!("it is another kind")) }),
        }
    }

    /// The same failure with another error.
    #[must_use]
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> Failure<F> {
        Failure { name: self.name, kind: self.kind.map(change) }
    }

    /// The panic, if it was one.
    #[must_use]
    pub fn panic(&self) -> Option<&Panic> {
        match &self.kind {
            FailureKind::Panicked(panic) => Some(panic),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        match &self.kind {
            FailureKind::Error(error) => error.fmt(f),
            FailureKind::Panicked(panic) => panic.fmt(f),
            FailureKind::DeadlineExceeded { after } => write!(f, "not done within {}", Spoken(*after)),
            FailureKind::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl<E: Error + 'static> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            // The error itself is what is displayed.
            FailureKind::Error(error) => error.source(),
            FailureKind::Panicked(_) | FailureKind::DeadlineExceeded { .. } | FailureKind::Cancelled => None,
        }
    }
}

/// All that went wrong in a scope: at least one failure, the first one first.
///
/// Displayed, it is the first and how many more there are: `posts: not found (and 2 more)`. As an [`Error`], its source is that
/// of the first error, which is displayed already.
#[derive(Debug)]
pub struct Failures<E> {
    first: Failure<E>,
    others: Vec<Failure<E>>,
}

impl<E> Failures<E> {
    pub(super) fn new(first: Failure<E>) -> Self {
        Self { first, others: Vec::new() }
    }

    pub(super) fn push(&mut self, failure: Failure<E>) {
        self.others.push(failure);
    }

    /// The failure that cancelled the others.
    #[must_use]
    pub fn first(&self) -> &Failure<E> {
        &self.first
    }

    /// The failure that cancelled the others, to keep.
    #[must_use]
    pub fn into_first(self) -> Failure<E> {
        self.first
    }

    /// Whether the cause is that the group was told to stop, by [`Group::cancel`](crate::Group::cancel) or with a group outside,
    /// and not that something failed. What has failed after that is there, too.
    #[must_use]
    pub fn is_cancellation(&self) -> bool {
        matches!(self.first.kind, FailureKind::Cancelled)
    }

    /// The same failures with other errors. With [`AsError`], those of anyhow become an [`Error`], for showing all of them:
    ///
    /// ```
    /// # use baiwan_task::{AsError, Failures, Group, TaskGroup};
    /// async fn page() -> anyhow::Result<u32> {
    ///     let scope = TaskGroup::new().scope(async |group: Group<anyhow::Error>| {
    ///         let number = group.spawn(async { Ok("seven".parse::<u32>()?) }).await;
    ///         Ok(number.await?)
    ///     });
    ///     Ok(scope.await.map_err(|failures| failures.map(AsError))?)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// assert_eq!(page().await.unwrap_err().to_string(), "invalid digit found in string");
    /// # }
    /// ```
    ///
    /// To go on with the first alone, as what it was, there is [`Failure::into_error`].
    #[must_use]
    pub fn map<F>(self, mut change: impl FnMut(E) -> F) -> Failures<F> {
        let first = self.first.map(&mut change);
        Failures { first, others: self.others.into_iter().map(|failure| failure.map(&mut change)).collect() }
    }

    /// All, the first one first.
    pub fn iter(&self) -> FailuresIter<'_, E> {
        FailuresIter(std::iter::once(&self.first).chain(&self.others))
    }

    /// How many there are: at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }
}

impl<E: fmt::Display> fmt::Display for Failures<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match self.others.len() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl<E: Error + 'static> Error for Failures<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first.source()
    }
}

/// What holds an error and is none itself, as an [`Error`]: for `anyhow::Error` and `Box<dyn Error>`. Displayed, and with the
/// sources, of the one inside.
pub struct AsError<E>(
    /// As it was, so that it can still be downcast.
    pub E,
);

impl<E: fmt::Debug> fmt::Debug for AsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Display> fmt::Display for AsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E> Error for AsError<E>
where
    E: fmt::Debug + fmt::Display + Deref<Target: Error>,
{
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The failures of a scope, borrowed.
#[derive(Debug)]
pub struct FailuresIter<'a, E>(std::iter::Chain<std::iter::Once<&'a Failure<E>>, std::slice::Iter<'a, Failure<E>>>);

impl<'a, E> Iterator for FailuresIter<'a, E> {
    type Item = &'a Failure<E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<E> ExactSizeIterator for FailuresIter<'_, E> {}

impl<E> Clone for FailuresIter<'_, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The failures of a scope.
#[derive(Debug)]
pub struct FailuresIntoIter<E>(std::iter::Chain<std::iter::Once<Failure<E>>, std::vec::IntoIter<Failure<E>>>);

impl<E> Iterator for FailuresIntoIter<E> {
    type Item = Failure<E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<E> ExactSizeIterator for FailuresIntoIter<E> {}

impl<E> IntoIterator for Failures<E> {
    type Item = Failure<E>;
    type IntoIter = FailuresIntoIter<E>;

    fn into_iter(self) -> FailuresIntoIter<E> {
        FailuresIntoIter(std::iter::once(self.first).chain(self.others))
    }
}

impl<'a, E> IntoIterator for &'a Failures<E> {
    type Item = &'a Failure<E>;
    type IntoIter = FailuresIter<'a, E>;

    fn into_iter(self) -> FailuresIter<'a, E> {
        self.iter()
    }
}
