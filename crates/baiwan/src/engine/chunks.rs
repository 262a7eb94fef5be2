//! Bytes that a connection owes to its peer, in order.
//!
//! Most owe nothing, or one piece: that has its place here, and only more take memory beside it, which goes with the last of them. It is
//! *not* bounded by itself: who makes more asks what is owed already.
//!
//! The invariant: [`Chunks::Many`] holds at least one piece.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Pieces of answers.
#[derive(Debug, Default)]
pub(in crate::engine) enum Chunks {
    #[default]
    None,
    One(Bytes),
    Many(VecDeque<Bytes>),
}

impl Chunks {
    #[inline]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(in crate::engine) fn push_back(&mut self, chunk: Bytes) {
        match self {
            Self::None => *self = Self::One(chunk),
            more => more.many().push_back(chunk),
        }
    }

    pub(in crate::engine) fn push_front(&mut self, chunk: Bytes) {
        match self {
            Self::None => *self = Self::One(chunk),
            more => more.many().push_front(chunk),
        }
    }

    /// The pieces, as a queue.
    fn many(&mut self) -> &mut VecDeque<Bytes> {
        *self = match std::mem::take(self) {
            Self::None => Self::Many(VecDeque::new()),
            Self::One(chunk) => Self::Many(VecDeque::from_iter([chunk])),
            many => many,
        };
        let Self::Many(chunks) = self else { unreachable!("it was made one") };
        chunks
    }

    /// Moves all pieces of `other` behind these.
    pub(in crate::engine) fn append(&mut self, other: &mut Self) {
        match (&mut *self, std::mem::take(other)) {
            (Self::None, other) => *self = other,
            (_, Self::None) => {}
            (_, Self::One(chunk)) => self.push_back(chunk),
            (_, Self::Many(mut chunks)) => self.many().append(&mut chunks),
        }
    }

    pub(in crate::engine) fn extend(&mut self, chunks: impl IntoIterator<Item = Bytes>) {
        chunks.into_iter().for_each(|chunk| self.push_back(chunk));
    }

    /// The first `count` bytes are sent.
    ///
    /// # Panics
    /// If there are fewer.
    pub(in crate::engine) fn take_sent(&mut self, mut count: usize) {
        // A piece without bytes would never be seen to be sent.
        while count > 0 || self.front().is_some_and(Bytes::is_empty) {
            let chunk = self.front_mut().expect("no more is sent than was offered");
            if count < chunk.len() {
                return chunk.advance(count);
            }
            count -= chunk.len();
            self.pop_front();
        }
    }

    fn front(&self) -> Option<&Bytes> {
        self.iter().next()
    }

    fn front_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::None => None,
            Self::One(chunk) => Some(chunk),
            Self::Many(chunks) => chunks.front_mut(),
        }
    }

    fn pop_front(&mut self) {
        match self {
            Self::Many(chunks) if chunks.len() > 1 => drop(chunks.pop_front()),
            last => *last = Self::None,
        }
    }

    /// How many bytes there are.
    pub(in crate::engine) fn byte_count(&self) -> usize {
        self.iter().map(Bytes::len).sum()
    }

    fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.as_slices().into_iter().flatten()
    }

    /// The pieces, in two parts.
    #[inline]
    pub(in crate::engine) fn as_slices(&self) -> [&[Bytes]; 2] {
        match self {
            Self::None => [&[], &[]],
            Self::One(chunk) => [std::slice::from_ref(chunk), &[]],
            Self::Many(chunks) => chunks.as_slices().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chunks: &Chunks) -> String {
        chunks.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect()
    }

    #[test]
    fn pieces_leave_in_order_however_they_are_taken() {
        for step in 1..=9 {
            let mut chunks = Chunks::default();
            chunks.push_back(Bytes::from_static(b"cd"));
            chunks.push_front(Bytes::from_static(b"ab"));
            chunks.extend([Bytes::new(), Bytes::from_static(b"e"), Bytes::from_static(b"fghi"), Bytes::new()]);
            let all = "abcdefghi";
            for sent in (0..all.len()).step_by(step) {
                assert_eq!((&*text(&chunks), chunks.byte_count()), (&all[sent..], all.len() - sent));
                chunks.take_sent(step.min(all.len() - sent));
            }
            assert!(chunks.is_empty());
        }
    }

    #[test]
    fn one_piece_takes_no_memory_beside_its_own_and_nothing_is_kept_of_many() {
        let mut chunks = Chunks::default();
        chunks.push_back(Bytes::from_static(b"a"));
        assert!(matches!(chunks, Chunks::One(_)));
        chunks.push_back(Bytes::from_static(b"b"));
        assert!(matches!(chunks, Chunks::Many(_)));
        chunks.take_sent(2);
        assert!(matches!(chunks, Chunks::None));
    }
}
