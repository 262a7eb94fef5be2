//! What was received of a connection and has to wait: part of a head, or requests whose turn comes later.
//!
//! The invariant: what waits takes no more memory than twice its bytes, or [`SET_ASIDE_SPARE_BYTES`] if that is more.

use baiwan_http1::HeadDecoder;

use super::table::{SetAside, Table};
use super::terms::Terms;

/// Capacity that what waits may have, however little that is.
pub(super) const SET_ASIDE_SPARE_BYTES: usize = 256;

/// Appends to what waits. Its capacity doubles, as ever, but not beyond `bytes_max`.
pub(super) fn append(kept: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let length = kept.len() + bytes.len();
    if length > kept.capacity() {
        let capacity = (2 * kept.capacity()).min(bytes_max).max(length);
        kept.reserve_exact(capacity - kept.len());
    }
    kept.extend_from_slice(bytes);
}

/// Keeps what comes from `position` on, of `kept`, if that is where the bytes are, otherwise of `bytes`; and how much of it
/// the decoder has looked at.
pub(super) fn set_aside<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    mut kept: Vec<u8>,
    bytes: &[u8],
    position: usize,
    head: HeadDecoder,
) {
    if kept.is_empty() {
        kept.extend_from_slice(&bytes[position..]);
    } else {
        kept.drain(..position);
    }
    if kept.is_empty() {
        return;
    }
    // It may wait for as long as an exchange lasts.
    if kept.capacity() > SET_ASIDE_SPARE_BYTES.max(2 * kept.len()) {
        kept.shrink_to_fit();
    }
    assert!(kept.len() <= terms.set_aside_bytes_max(), "what waits is bounded by what is received");
    table.activate(index).set_aside = Some(Box::new(SetAside { bytes: kept, head, arrived: None }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_no_more_memory_than_it_may_have_bytes() {
        for bytes_max in [16 << 10, 40_000, 64 << 10] {
            let mut kept = b"G".to_vec();
            for _ in 1..bytes_max {
                append(&mut kept, b"x", bytes_max);
                assert!(kept.capacity() <= bytes_max && kept.capacity() <= 2 * kept.len());
            }
            assert_eq!(kept.len(), bytes_max);
        }
    }
}
