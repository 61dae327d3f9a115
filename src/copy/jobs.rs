//! What a filesystem says to `copy` about its files, and what `copy` says to it about their bytes.
//!
//! A filesystem whose layout is known beforehand offers [`CopyJobs`]. A filesystem that changes the contents, such as
//! by compression, learns their lengths only while they are moved; it offers [`PackJobs`]. Both may look at the bytes
//! with an [`Observer`].

use super::CopyError;
use crate::read::{Opener, StoredAs};
use crate::source::tree::Origin;
use crate::units::ByteOffset;

/// Files whose contents are moved, in the order of their places.
pub trait Files: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of the file at `index`, which is less than [`len`](Self::len), in bytes. Any other length now is an
    /// error.
    fn size(&self, index: usize) -> u64;

    /// Where the file at `index` comes from.
    fn source(&self, index: usize) -> Origin;

    /// The filesystem that files come from that are not the host's.
    fn image(&self) -> Option<&dyn Opener> {
        None
    }

    /// The sum of all sizes in bytes.
    fn total_bytes(&self) -> u64;

    /// The observer of the bytes that are written. Without one, bytes are read only if the copy needs that: those of
    /// shared extents are not.
    fn observer(&self) -> Option<&dyn Observer> {
        None
    }
}

/// Sees bytes on their way to the image: a filesystem with checksums of its data.
pub trait Observer: Sync {
    /// Called for `pages`, whole pages of 4096 bytes as they are stored at byte `at` of the image.
    ///
    /// Called once for every page that is written, from several threads, in no order, but never for pages of zeros,
    /// which are not written: what is remembered of a page must start as if the page were zeros.
    fn landed(&self, at: ByteOffset, pages: &[u8]);
}

/// Files whose places are known beforehand.
pub trait CopyJobs: Files {
    /// Where the bytes of the file at `index` go, in order of the file's own bytes, together at least as long as what is
    /// to be moved of it. No piece: its bytes do not land, they are handed to [`keep`](Self::keep).
    fn pieces(&self, index: usize) -> Vec<Piece>;

    /// Whether pieces may be shorter than their file, and what is past them is handed to [`keep`](Self::keep). Otherwise
    /// it is not looked at.
    fn keeps_rest(&self) -> bool {
        false
    }

    /// Takes the bytes of a file without a place, from any thread. Only for what is small enough for memory.
    ///
    /// # Errors
    /// If it cannot do with them what is to be done.
    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        let _ = (index, contents);
        unreachable!("only files without pieces are kept");
    }
}

/// A part of a file that is contiguous in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the image file: a multiple of 4096.
    pub destination: ByteOffset,
    /// Its length in bytes, a multiple of 4096. The last piece of a file may reach past the file's end; the rest of
    /// the file's last 4096 bytes is zeroed.
    pub len: u64,
}

/// Files that are transformed, unit by unit, and placed as the lengths of their units become known.
pub trait PackJobs: Files {
    /// The longest unit in bytes, a multiple of 4096 and no more than 1 MiB. A file is cut into units of this length.
    fn unit_bytes(&self) -> usize;

    /// Makes what one thread transforms with.
    fn packer(&self) -> Box<dyn Packer + '_>;

    /// Where `stored` bytes of a unit go: a multiple of 4096; the rest of their last page is zeroed. `None`: they are
    /// not written here, because the filesystem has kept them.
    ///
    /// Called once for every unit, in the order of files and of each file's units, whatever the number of threads.
    fn place(&self, unit: Unit, form: Form, stored: &[u8]) -> Option<ByteOffset>;
}

/// A range of a file that is transformed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The index of the file.
    pub file: usize,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes, at least 1.
    pub len: usize,
}

/// How the bytes of a unit are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Raw,
    /// Transformed.
    Packed,
}

/// Transforms units; each thread has its own.
pub trait Packer {
    /// Appends to `output` what is to be stored of a unit that comes from an image, as [`pack`](Self::pack) does;
    /// `stored` is how it is stored there.
    fn pack_again(&mut self, unit: Unit, bytes: &[u8], stored: StoredAs, output: &mut Vec<u8>) -> Form {
        let _ = stored;
        self.pack(unit, bytes, output)
    }

    /// Appends to `output` what is to be stored of a unit, and returns [`Form::Packed`]; or returns [`Form::Raw`] if
    /// the unit is better left as it is, and then `output` means nothing. An output that is not shorter than the unit
    /// is not used.
    ///
    /// What comes out depends on nothing but the unit and its `bytes`.
    fn pack(&mut self, unit: Unit, bytes: &[u8], output: &mut Vec<u8>) -> Form;
}
