//! The same files, copied to other places.

use super::jobs::{CopyJobs, Files, Observer, Piece};
use super::{CopyError, Places};
use crate::read::Opener;
use crate::source::tree::Origin;

/// Files whose pieces go where `to` has them. No other bytes may have an observer.
pub struct Moved<'a> {
    /// The files, with their places in the image.
    pub jobs: &'a dyn CopyJobs,
    /// Where those places are.
    pub to: &'a Places,
}

impl Files for Moved<'_> {
    fn len(&self) -> usize {
        self.jobs.len()
    }

    fn size(&self, index: usize) -> u64 {
        self.jobs.size(index)
    }

    fn source(&self, index: usize) -> Origin {
        self.jobs.source(index)
    }

    fn image(&self) -> Option<&dyn Opener> {
        self.jobs.image()
    }

    fn total_bytes(&self) -> u64 {
        self.jobs.total_bytes()
    }

    fn observer(&self) -> Option<&dyn Observer> {
        debug_assert!(self.jobs.observer().is_none(), "it would be shown other places");
        None
    }
}

impl CopyJobs for Moved<'_> {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        let mut moved = Vec::new();
        for Piece { destination, len } in self.jobs.pieces(index) {
            let parts = self.to.of(destination.0..destination.0 + len);
            moved.extend(parts.map(|(part, place)| Piece { destination: place, len: part.end - part.start }));
        }
        moved
    }

    fn keeps_rest(&self) -> bool {
        self.jobs.keeps_rest()
    }

    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        self.jobs.keep(index, contents)
    }
}
