//! The trait of everything that a disk can be written to.

use std::io;
use std::ops::Range;

use crate::units::ByteOffset;

/// The unit of writing, in bytes: the sectors of most flash memory and of all hard disks are no larger. A medium whose size
/// is no multiple of it ends with a shorter unit.
pub(super) const UNIT: u64 = 4096;

/// A device or a file that takes a whole disk, from several threads at once.
pub trait Medium: Sync {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Writes bytes, whose memory starts at a page, at a multiple of 4096: whole units of as many, or up to the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_at(&self, bytes: &[u8], at: ByteOffset) -> io::Result<()>;

    /// Reads bytes, under the same conditions, from the device itself rather than from the memory of this machine.
    ///
    /// # Errors
    /// What the operating system says; also if there are fewer.
    fn read_at(&self, bytes: &mut [u8], at: ByteOffset) -> io::Result<()>;

    /// Returns when everything that was written would survive a loss of power.
    ///
    /// # Errors
    /// What the operating system says.
    fn flush(&self) -> io::Result<()>;

    /// Makes a range certainly zeros without writing them; returns whether that was possible.
    ///
    /// # Errors
    /// What the operating system says, unless it says that it cannot do this.
    fn zero(&self, range: Range<u64>) -> io::Result<bool>;

    /// The unit of discarding, in bytes; `None` if nothing can be discarded.
    fn discard_unit(&self) -> Option<u64>;

    /// Tells the medium that nobody needs a range. What is read there afterwards may be anything.
    ///
    /// # Errors
    /// What the operating system says.
    fn discard(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes the kernel read the partition table again.
    ///
    /// # Errors
    /// What the operating system says.
    fn finish(&self) -> io::Result<()>;
}
