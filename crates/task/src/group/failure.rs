//! Why a scope has failed: everything that went wrong in it, in the order in which it did.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::Panic;

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

    /// The error, as it was, or one made of what else went wrong. `anyhow::Error` and `Box<dyn Error + Send + Sync>` can be made of
    /// that.
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
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        match &self.kind {
            FailureKind::Error(error) => error.fmt(f),
            FailureKind::Panicked(panic) => panic.fmt(f),
            FailureKind::DeadlineExceeded { after } => write!(f, "not done within {after:?}"),
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
pub struct Failures<E>(
    /// Never empty.
    Vec<Failure<E>>,
);

impl<E> Failures<E> {
    pub(super) fn new(first: Failure<E>) -> Self {
        Self(vec![first])
    }

    pub(super) fn push(&mut self, failure: Failure<E>) {
        self.0.push(failure);
    }

    /// The failure that cancelled the others.
    #[must_use]
    pub fn first(&self) -> &Failure<E> {
        &self.0[0]
    }

    /// The failure that cancelled the others, to keep.
    #[must_use]
    pub fn into_first(mut self) -> Failure<E> {
        self.0.swap_remove(0)
    }

    /// Whether the cause is that the group was told to stop, by [`Group::cancel`](crate::Group::cancel) or with a group outside,
    /// and not that something failed. What has failed after that is there, too.
    #[must_use]
    pub fn is_cancellation(&self) -> bool {
        matches!(self.first().kind, FailureKind::Cancelled)
    }

    /// The same failures with other errors. With [`AsError`], those of anyhow become an [`Error`], for showing all of them; to go on
    /// with the first alone, as what it was, there is [`Failure::into_error`]. The [guide](mod@crate::guide) has both.
    #[must_use]
    pub fn map<F>(self, mut change: impl FnMut(E) -> F) -> Failures<F> {
        Failures(self.0.into_iter().map(|failure| failure.map(&mut change)).collect())
    }

    /// All, the first one first.
    pub fn iter(&self) -> std::slice::Iter<'_, Failure<E>> {
        self.0.iter()
    }
}

impl<E> IntoIterator for Failures<E> {
    type Item = Failure<E>;
    type IntoIter = std::vec::IntoIter<Failure<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a Failures<E> {
    type Item = &'a Failure<E>;
    type IntoIter = std::slice::Iter<'a, Failure<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<E: fmt::Display> fmt::Display for Failures<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)?;
        match self.0.len() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl<E: Error + 'static> Error for Failures<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first().source()
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
