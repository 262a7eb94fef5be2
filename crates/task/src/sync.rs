//! Where locks, shared ownership, atomics and thread locals come from: the standard library, or a model checker.
//!
//! What is added: no lock knows poisoning. No code of a caller runs under a lock of this crate, so a panic cannot leave one
//! half-way. [`BriefMutex`] is for what is locked twice for every item of a queue, and is a lock like the other in the models.

#[cfg(baiwan_loom)]
mod source {
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use loom::thread_local;
}

#[cfg(baiwan_shuttle)]
mod source {
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use shuttle::thread_local;
}

#[cfg(not(any(baiwan_loom, baiwan_shuttle)))]
mod source {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::thread_local;
}

#[cfg(not(any(baiwan_loom, baiwan_shuttle)))]
mod brief;

#[cfg(any(baiwan_loom, baiwan_shuttle))]
mod scoped;

pub(crate) use source::{Arc, MutexGuard, atomic, thread_local};

#[cfg(not(any(baiwan_loom, baiwan_shuttle)))]
pub(crate) use brief::{BriefGuard, BriefMutex};
#[cfg(any(baiwan_loom, baiwan_shuttle))]
pub(crate) use {Mutex as BriefMutex, MutexGuard as BriefGuard};

#[cfg(any(baiwan_loom, baiwan_shuttle))]
pub(crate) use scoped::scoped_thread_local;
#[cfg(not(any(baiwan_loom, baiwan_shuttle)))]
pub(crate) use scoped_tls::scoped_thread_local;

/// A lock that does not know poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(source::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(source::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
