//! The memory that hashes work in.

use argon2::Block;
use parking_lot::Mutex;

use super::{HASHES_AT_ONCE, params_of_today};

/// Memory lent to one hash at a time, of as many as are computed at once, and kept between them. What is
/// left in it says no more of a password than its hash does, and the next hash writes over it.
#[derive(Default)]
pub(super) struct Memories {
    kept: Mutex<Vec<Box<[Block]>>>,
}

impl Memories {
    /// Lets `work` use some of it.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let kept = self.kept.lock().pop();
        let mut memory = kept.unwrap_or_else(new_memory);
        let done = work(&mut memory);
        self.keep(memory);
        done
    }

    /// There are never more than turns; the bound holds without them too.
    fn keep(&self, memory: Box<[Block]>) {
        let mut kept = self.kept.lock();
        if kept.len() < HASHES_AT_ONCE {
            kept.push(memory);
        }
    }

    /// Where each of it lies that is not lent.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<*const Block> {
        self.kept.lock().iter().map(|memory| memory.as_ptr()).collect()
    }
}

/// As much as a hash of today needs.
fn new_memory() -> Box<[Block]> {
    let blocks = params_of_today().map_or(0, |params| params.block_count());
    vec![Block::default(); blocks].into_boxed_slice()
}
