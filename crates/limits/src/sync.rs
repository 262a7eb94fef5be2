//! Where atomics come from: the standard library, or a model checker (`--cfg baiwan_shuttle`).

#[cfg(not(baiwan_shuttle))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(baiwan_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

/// Words that are all zero. Their memory is taken as they are first touched.
#[cfg(not(baiwan_shuttle))]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(words)
}

#[cfg(baiwan_shuttle)]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
