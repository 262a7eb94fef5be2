//! A future that is ready when a group is cancelled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::roster::{Phase, Roster};
use crate::sync::Arc;

pub(super) struct Cancellation {
    group: Arc<Roster>,
    key: Option<usize>,
}

impl Cancellation {
    pub(super) fn new(group: Arc<Roster>) -> Self {
        Self { group, key: None }
    }
}

impl Future for Cancellation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.group.phase() == Phase::Open {
            self.key = self.group.watch(self.key, cx.waker());
            if self.key.is_some() {
                return Poll::Pending;
            }
        }
        self.key = None;
        Poll::Ready(())
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.group.unwatch(key);
        }
    }
}
