//! What connections own: slots in chunks, numbered from 0.
//!
//! Chunks never move, so growing to a million copies nothing; the lowest chunk with a free slot is used first and an empty
//! one is given back, so the slab shrinks again after a peak. Each insertion gets a generation of its own, and a token is
//! both: what is said about a slot's former tenant is recognised and dropped.

use std::ops::{Index, IndexMut};

use baiwan_driver::Token;

use super::wheel::NONE;

/// `CHUNK` slots come and go together.
#[derive(Debug)]
pub(crate) struct Slab<T, const CHUNK: usize> {
    chunks: Vec<Option<Chunk<T>>>,
    /// One bit for each chunk that exists and has a free slot, or does not exist.
    roomy: Vec<u64>,
    len: usize,
    next_generation: u32,
}

#[derive(Debug)]
struct Chunk<T> {
    entries: Box<[Entry<T>]>,
    free: u32,
    used: usize,
}

#[derive(Debug)]
enum Entry<T> {
    Free { next: u32 },
    Used { generation: u32, value: T },
}

impl<T, const CHUNK: usize> Slab<T, CHUNK> {
    /// What one slot costs.
    #[cfg(test)]
    pub(super) const ENTRY_BYTES: usize = size_of::<Entry<T>>();

    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), roomy: Vec::new(), len: 0, next_generation: 0 }
    }

    /// An empty slab whose tokens are not those of this one.
    pub(crate) fn successor(&self) -> Self {
        Self { next_generation: self.next_generation, ..Self::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest index that can be in use.
    pub(crate) fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let place = self.first_roomy();
        let chunk = self.chunks[place].get_or_insert_with(Chunk::new::<CHUNK>);
        let within = chunk.free as usize;
        let Entry::Free { next } = chunk.entries[within] else { unreachable!("the free list holds free entries") };
        // Generation 0 belongs to listeners.
        self.next_generation = self.next_generation.checked_add(1).unwrap_or(1);
        chunk.entries[within] = Entry::Used { generation: self.next_generation, value };
        chunk.free = next;
        chunk.used += 1;
        if next == NONE {
            self.roomy[place / 64] &= !(1 << (place % 64));
        }
        self.len += 1;
        (place * CHUNK + within) as u32
    }

    /// Takes out what is in a slot; none if it is free.
    pub(crate) fn take(&mut self, index: u32) -> Option<T> {
        self.get(index)?;
        let (place, within) = (index as usize / CHUNK, index as usize % CHUNK);
        let chunk = self.chunks[place].as_mut()?;
        let entry = std::mem::replace(&mut chunk.entries[within], Entry::Free { next: chunk.free });
        let Entry::Used { value, .. } = entry else { return None };
        chunk.free = within as u32;
        chunk.used -= 1;
        self.roomy[place / 64] |= 1 << (place % 64);
        // The first chunk stays, so that a server with few connections does not make and drop it all the time.
        if chunk.used == 0 && place > 0 {
            self.chunks[place] = None;
            while let Some(None) = self.chunks.last() {
                self.chunks.pop();
                self.roomy[self.chunks.len() / 64] &= !(1 << (self.chunks.len() % 64));
            }
        }
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match self.entry(index)? {
            Entry::Used { value, .. } => Some(value),
            Entry::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(index as usize / CHUNK)?.as_mut()?;
        match &mut chunk.entries[index as usize % CHUNK] {
            Entry::Used { value, .. } => Some(value),
            Entry::Free { .. } => None,
        }
    }

    /// The token of a used slot.
    ///
    /// # Panics
    /// If the slot is free.
    pub(crate) fn token(&self, index: u32) -> Token {
        match self.entry(index) {
            Some(Entry::Used { generation, .. }) => Token(u64::from(*generation) << 32 | u64::from(index)),
            _ => panic!("slot {index} has a tenant"),
        }
    }

    /// The slot that a token stands for, if its tenant is still the same.
    pub(crate) fn find(&self, token: Token) -> Option<u32> {
        let index = token.0 as u32;
        match self.entry(index)? {
            Entry::Used { generation, .. } if u64::from(*generation) == token.0 >> 32 => Some(index),
            _ => None,
        }
    }

    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        let chunk = self.chunks.get(index as usize / CHUNK)?.as_ref()?;
        Some(&chunk.entries[index as usize % CHUNK])
    }

    fn first_roomy(&mut self) -> usize {
        for (word, bits) in self.roomy.iter().enumerate() {
            if *bits != 0 {
                return word * 64 + bits.trailing_zeros() as usize;
            }
        }
        let place = self.chunks.len();
        self.chunks.push(None);
        if place / 64 == self.roomy.len() {
            self.roomy.push(0);
        }
        self.roomy[place / 64] |= 1 << (place % 64);
        place
    }
}

/// # Panics
/// If the slot is free.
impl<T, const CHUNK: usize> Index<u32> for Slab<T, CHUNK> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        self.get(index).expect("the slot is in use")
    }
}

/// # Panics
/// If the slot is free.
impl<T, const CHUNK: usize> IndexMut<u32> for Slab<T, CHUNK> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("the slot is in use")
    }
}

impl<T> Chunk<T> {
    fn new<const CHUNK: usize>() -> Self {
        let next = |within: usize| if within + 1 == CHUNK { NONE } else { within as u32 + 1 };
        let entries = (0..CHUNK).map(|within| Entry::Free { next: next(within) }).collect();
        Self { entries, free: 0, used: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 1024;

    #[test]
    fn a_former_tenants_token_finds_nothing() {
        let mut slab = Slab::<_, CHUNK>::new();
        let index = slab.insert('a');
        let token = slab.token(index);
        assert_eq!(slab.find(token), Some(index));
        slab.take(index);
        assert_eq!(slab.find(token), None);
        assert_eq!(slab.insert('b'), index, "the slot is used again");
        assert_eq!(slab.find(token), None);
        assert_eq!(slab.get(index), Some(&'b'));
    }

    #[test]
    fn generations_wrap_around_the_one_of_listeners() {
        let mut slab = Slab::<_, CHUNK>::new();
        slab.next_generation = u32::MAX - 1;
        let mut generation = || {
            let index = slab.insert(());
            slab.token(index).0 >> 32
        };
        assert_eq!([generation(), generation(), generation()], [u64::from(u32::MAX), 1, 2]);
    }

    #[test]
    fn it_grows_by_chunks_fills_holes_first_and_shrinks_again() {
        let mut slab = Slab::<_, CHUNK>::new();
        let count = 70 * CHUNK as u32;
        for index in 0..count {
            assert_eq!(slab.insert(index), index);
        }
        assert_eq!(slab.len(), count as usize);
        // A whole chunk in the middle goes and comes back.
        for index in 2048..3072 {
            assert_eq!(slab.take(index), Some(index));
        }
        assert!(slab.chunks[2].is_none());
        assert_eq!(slab.get(2048), None);
        assert_eq!(slab.insert(7), 2048);
        slab.take(2048);
        for index in (0..count).filter(|index| !(2048..3072).contains(index)) {
            slab.take(index);
        }
        assert_eq!((slab.len(), slab.end()), (0, CHUNK as u32));
        assert!(slab.insert(1) < CHUNK as u32);
    }
}
