//! Memory in blocks of one size: who needs one gets one that is free, or a new one, or, when there are as many as there may be, the one
//! that was begun first. Its owner learns of that when he looks ([`Blocks::is`]).
//!
//! What it never does: know what is in a block; give memory back to the system.

/// Bytes of one block: a dozen frames of speech.
pub(super) const BLOCK: usize = 2048;
/// Blocks that are allocated at once.
const SLAB: usize = 64;
/// Memory that is given as zeros may be nowhere yet, and be looked for under the first object.
const TOUCHED: u8 = 0xA5;
/// No block.
const NONE: u32 = u32::MAX;

/// A block, and the turn in which it is this owner's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    block: u32,
    turn: u32,
}

/// A block's place in the row: free ones first, then in the order in which they were begun.
#[derive(Clone, Copy, Debug)]
struct Place {
    older: u32,
    newer: u32,
    /// Counts its owners.
    turn: u32,
    owned: bool,
}

pub(super) struct Blocks {
    most: usize,
    slabs: Vec<Box<[u8]>>,
    places: Vec<Place>,
    oldest: u32,
    newest: u32,
    owned: usize,
}

impl Blocks {
    pub(super) fn new(most: usize) -> Self {
        Self { most, slabs: Vec::new(), places: Vec::new(), oldest: NONE, newest: NONE, owned: 0 }
    }

    pub(super) fn owned(&self) -> usize {
        self.owned
    }

    /// `false`: somebody else has it.
    pub(super) fn is(&self, owned: Owned) -> bool {
        self.places[owned.block as usize].turn == owned.turn
    }

    /// Allocates up to this many ahead of their use.
    pub(super) fn expect(&mut self, count: usize) {
        while self.places.len() < count.min(self.most) {
            self.allocate();
        }
    }

    /// `true`: it was somebody's. There is at least one block ([`Blocks::new`]).
    pub(super) fn begin(&mut self) -> (Owned, bool) {
        let free = self.places.get(self.oldest as usize).is_some_and(|place| !place.owned);
        if !free && self.places.len() < self.most {
            self.allocate();
        }
        let taken = self.places[self.oldest as usize].owned;
        (self.take(self.oldest), taken)
    }

    /// An owner's block as his newest.
    pub(super) fn begin_again(&mut self, owned: Owned) -> Owned {
        self.take(owned.block)
    }

    fn allocate(&mut self) {
        if self.places.len().is_multiple_of(SLAB) {
            self.slabs.push(vec![TOUCHED; SLAB * BLOCK].into_boxed_slice());
        }
        self.places.push(Place { older: NONE, newer: NONE, turn: 0, owned: false });
        self.link_oldest((self.places.len() - 1) as u32);
    }

    fn take(&mut self, block: u32) -> Owned {
        self.unlink(block);
        let older = std::mem::replace(&mut self.newest, block);
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = block,
            None => self.oldest = block,
        }
        let place = &mut self.places[block as usize];
        self.owned += usize::from(!place.owned);
        let turn = place.turn.wrapping_add(1);
        *place = Place { older, newer: NONE, turn, owned: true };
        Owned { block, turn }
    }

    /// Somebody else's stays his.
    pub(super) fn free(&mut self, owned: Owned) {
        if self.is(owned) {
            self.unlink(owned.block);
            self.link_oldest(owned.block);
            let place = &mut self.places[owned.block as usize];
            place.turn = place.turn.wrapping_add(1);
            place.owned = false;
            self.owned -= 1;
        }
    }

    fn unlink(&mut self, block: u32) {
        let Place { older, newer, .. } = self.places[block as usize];
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }

    fn link_oldest(&mut self, block: u32) {
        let newer = std::mem::replace(&mut self.oldest, block);
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = block,
            None => self.newest = block,
        }
        let place = &mut self.places[block as usize];
        (place.older, place.newer) = (NONE, newer);
    }

    pub(super) fn bytes(&self, owned: Owned) -> &[u8] {
        let block = owned.block as usize;
        &self.slabs[block / SLAB][block % SLAB * BLOCK..][..BLOCK]
    }

    pub(super) fn bytes_mut(&mut self, owned: Owned) -> &mut [u8] {
        let block = owned.block as usize;
        &mut self.slabs[block / SLAB][block % SLAB * BLOCK..][..BLOCK]
    }
}

#[cfg(test)]
impl Blocks {
    pub(super) fn allocated(&self) -> usize {
        self.places.len()
    }

    /// The row is the same from both ends, and holds every block once, the free ones first.
    pub(super) fn check(&self) {
        let walk = |first: u32, next: fn(&Place) -> u32| {
            let real = |at: &u32| *at != NONE;
            let step = |at: &u32| Some(next(&self.places[*at as usize])).filter(real);
            std::iter::successors(Some(first).filter(real), step).collect::<Vec<u32>>()
        };
        let (up, mut down) = (walk(self.oldest, |place| place.newer), walk(self.newest, |place| place.older));
        down.reverse();
        assert_eq!(up, down);
        assert_eq!(up.len(), self.places.len());
        let owned: Vec<bool> = up.iter().map(|at| self.places[*at as usize].owned).collect();
        assert!(owned.is_sorted() && owned.iter().filter(|owned| **owned).count() == self.owned);
        assert!(self.places.len() <= self.most);
    }
}
