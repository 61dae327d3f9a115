//! Where chunks lie, and how the contents of files fill the data chunks.
//!
//! The logical address of every chunk is the place of its first copy in the partition. The start of the partition is
//! the same in every image. The data chunks follow. All have one length, only the last one is cut short. So data can be
//! given its place before it is known how much data there will be. The rest of the metadata, and the space that is not
//! allocated, come last. Pure.

use super::LogicalAddress;
use super::format::{self, NODE_SIZE, SECTOR_SIZE, STRIPE_LEN, SUPERBLOCK_OFFSETS, group};
use crate::units::MIB;

/// The length of the system chunk in bytes: room for the chunk tree of an exbibyte.
const SYSTEM_BYTES: u64 = 4 * MIB;
/// Where the system chunk starts: after what btrfs never allocates.
const SYSTEM_START: u64 = format::DEVICE_RESERVED;
/// Where the first metadata chunk starts.
const METADATA_START: u64 = SYSTEM_START + 2 * SYSTEM_BYTES;
/// The length of the first metadata chunk in bytes: both its copies end before the second superblock.
const METADATA_BYTES: u64 = 27 * MIB;
/// Where the first data chunk starts: behind the second superblock.
const DATA_START: u64 = 65 * MIB;
/// The length of a data chunk in bytes. Balancing moves a chunk as a whole, so that it should fit into what is free.
const DATA_BYTES: u64 = 256 * MIB;
/// The kernel's own data chunks are this long; from 64 GiB on, shorter ones would be too many.
const LARGE_DATA_BYTES: u64 = 1024 * MIB;
/// The longest further metadata chunk in bytes. Scrubbing and balancing close one chunk at a time to writers, who then
/// need free space in another.
const METADATA_MAX: u64 = 64 * MIB;
/// The same where so short ones would be too many: the kernel's own for filesystems up to 50 GiB.
const LARGE_METADATA_MAX: u64 = 256 * MIB;
/// From so many bytes of metadata on, chunks are long.
const LARGE_METADATA: u64 = 1024 * MIB;
/// The shortest further metadata chunk in bytes.
const METADATA_MIN: u64 = 8 * MIB;
/// The bytes that metadata has besides its contents and half as much again: three times the kernel's global reserve.
const METADATA_HEADROOM: u64 = 16 * MIB;
const _: () = assert!(METADATA_START + 2 * METADATA_BYTES <= SUPERBLOCK_OFFSETS[1]);
const _: () = assert!(SUPERBLOCK_OFFSETS[1] + STRIPE_LEN <= DATA_START);

/// A sector of data, counted along the data chunks laid end to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sector(pub u64);

/// How the data chunks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSpace {
    /// The length of every data chunk but the last, in bytes.
    chunk_bytes: u64,
}

impl DataSpace {
    /// For contents of at most so many bytes.
    pub fn for_contents(bytes: u64) -> Self {
        Self { chunk_bytes: if bytes <= 64 << 30 { DATA_BYTES } else { LARGE_DATA_BYTES } }
    }

    /// Where the data chunk of this number starts; the chunk that would cover a superblock, and all after it, start
    /// behind that superblock.
    fn chunk_start(self, number: u64) -> u64 {
        let mirror = SUPERBLOCK_OFFSETS[2];
        let start = DATA_START + number * self.chunk_bytes;
        if start + self.chunk_bytes <= mirror {
            return start;
        }
        let before = (mirror - DATA_START) / self.chunk_bytes;
        mirror + MIB + (number - before) * self.chunk_bytes
    }

    fn chunk_sectors(self) -> u64 {
        self.chunk_bytes / SECTOR_SIZE
    }

    /// Where a sector is.
    pub fn address(self, sector: Sector) -> LogicalAddress {
        let (chunk, within) = (sector.0 / self.chunk_sectors(), sector.0 % self.chunk_sectors());
        LogicalAddress(self.chunk_start(chunk) + within * SECTOR_SIZE)
    }

    /// The sector at an address in a data chunk.
    pub fn sector(self, address: LogicalAddress) -> Sector {
        let mirror = SUPERBLOCK_OFFSETS[2];
        let (first, start) = match address.0 > mirror {
            true => ((mirror - DATA_START) / self.chunk_bytes, mirror + MIB),
            false => (0, DATA_START),
        };
        Sector(first * self.chunk_sectors() + (address.0 - start) / SECTOR_SIZE)
    }

    /// How many sectors there are from this one to the end of its chunk.
    pub fn room(self, sector: Sector) -> u64 {
        self.chunk_sectors() - sector.0 % self.chunk_sectors()
    }
}

/// Hands out the sectors of the data chunks from the first on.
#[derive(Clone, Debug)]
pub struct Allocator {
    space: DataSpace,
    /// How many sectors of each chunk are taken.
    used: Vec<u64>,
}

impl Allocator {
    /// Nothing is taken.
    pub fn new(space: DataSpace) -> Self {
        Self { space, used: vec![0] }
    }

    fn next(&self) -> Sector {
        let (last, chunks) = (self.used.last().expect("there is a chunk"), self.used.len() as u64 - 1);
        Sector(chunks * self.space.chunk_sectors() + last)
    }

    /// Takes `sectors` sectors that follow one another along the chunks; at the end of a chunk an extent has to end.
    pub fn take(&mut self, sectors: u64) -> Sector {
        let first = self.next();
        let mut left = sectors;
        while left > 0 {
            let room = self.space.chunk_sectors() - self.used.last().expect("there is a chunk");
            if room == 0 {
                self.used.push(0);
            }
            let part = left.min(room);
            *self.used.last_mut().expect("there is a chunk") += part;
            left -= part;
        }
        first
    }

    /// Takes `sectors` sectors of one chunk.
    pub fn take_whole(&mut self, sectors: u64) -> Sector {
        let room = self.space.chunk_sectors() - self.used.last().expect("there is a chunk");
        if room < sectors {
            self.used.push(0);
        }
        self.take(sectors)
    }

    /// How many sectors of each chunk are taken.
    pub fn into_used(self) -> Vec<u64> {
        self.used
    }
}

/// A chunk, which is a block group too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// One of [`format::group`].
    pub kind: u64,
    /// Its logical address, and the place of its first copy.
    pub start: LogicalAddress,
    /// Its length in bytes.
    pub len: u64,
    /// Where its second copy starts in the partition, if it has one.
    pub copy: Option<u64>,
    /// The bytes in use, all at its start.
    pub used: u64,
}

impl Chunk {
    /// Its end.
    pub fn end(&self) -> LogicalAddress {
        self.start.plus(self.len)
    }

    /// The places of its copies in the partition.
    pub fn copies(&self) -> impl Iterator<Item = u64> + use<> {
        [self.start.0].into_iter().chain(self.copy)
    }

    fn two_copies(kind: u64, start: u64, len: u64) -> Self {
        Self { kind, start: LogicalAddress(start), len, copy: Some(start + len), used: 0 }
    }

    fn nodes(&self) -> u64 {
        self.len / NODE_SIZE
    }
}

/// All chunks, by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    all: Vec<Chunk>,
    /// Where what is not allocated starts; a whole number of mebibytes.
    pub end: u64,
}

impl Chunks {
    /// The chunks for so many nodes of the chunk tree and of all other trees, and so many sectors in each data chunk.
    ///
    /// Metadata gets half as much again and `METADATA_HEADROOM`, so that a system whose disk is full of data
    /// can still write.
    pub fn new(chunk_nodes: u64, metadata_nodes: u64, space: DataSpace, data_used: &[u64]) -> Self {
        let system = Chunk::two_copies(group::SYSTEM_DUP, SYSTEM_START, SYSTEM_BYTES);
        let first = Chunk::two_copies(group::METADATA_DUP, METADATA_START, METADATA_BYTES);
        let mut all = vec![system, first];
        let mut end = DATA_START;
        for (number, &sectors) in data_used.iter().enumerate() {
            let (start, used) = (space.chunk_start(number as u64), sectors * SECTOR_SIZE);
            let is_last = number + 1 == data_used.len();
            let len = if is_last { used.max(1).next_multiple_of(MIB) } else { space.chunk_bytes };
            all.push(Chunk { kind: group::DATA, start: LogicalAddress(start), len, copy: None, used });
            end = start + len;
        }
        let bytes = metadata_nodes * NODE_SIZE;
        let wanted = (bytes + bytes / 2 + METADATA_HEADROOM).next_multiple_of(MIB);
        let mut missing = wanted.saturating_sub(METADATA_BYTES);
        let longest = if wanted < LARGE_METADATA { METADATA_MAX } else { LARGE_METADATA_MAX };
        while missing > 0 {
            let len = missing.clamp(METADATA_MIN, longest);
            end = behind_superblocks(end, 2 * len);
            all.push(Chunk::two_copies(group::METADATA_DUP, end, len));
            end += 2 * len;
            missing = missing.saturating_sub(len);
        }
        let mut chunks = Self { all, end };
        chunks.fill(group::SYSTEM_DUP, chunk_nodes);
        chunks.fill(group::METADATA_DUP, metadata_nodes);
        chunks
    }

    /// Fills the chunks of one kind with nodes, each to the same part, so that each has space left.
    fn fill(&mut self, kind: u64, nodes: u64) {
        let mut left = nodes;
        let mut room: u64 = self.all.iter().filter(|chunk| chunk.kind == kind).map(Chunk::nodes).sum();
        for chunk in self.all.iter_mut().filter(|chunk| chunk.kind == kind) {
            let share = (u128::from(left) * u128::from(chunk.nodes())).div_ceil(u128::from(room));
            let here = u64::try_from(share).expect("a part of what is left");
            room -= chunk.nodes();
            chunk.used = here * NODE_SIZE;
            left -= here;
        }
    }

    /// Whether all nodes of the chunk tree have room.
    pub fn hold_chunk_tree(&self, nodes: u64) -> bool {
        nodes <= SYSTEM_BYTES / NODE_SIZE
    }

    /// By address.
    pub fn iter(&self) -> impl Iterator<Item = &Chunk> + Clone {
        self.all.iter()
    }

    /// Where the node of this number is, counted along the chunks of one kind; it is within what they hold.
    pub fn node(&self, kind: u64, number: u64) -> LogicalAddress {
        let mut left = number;
        for chunk in self.all.iter().filter(|chunk| chunk.kind == kind) {
            match left.checked_sub(chunk.used / NODE_SIZE) {
                None => return chunk.start.plus(left * NODE_SIZE),
                Some(beyond) => left = beyond,
            }
        }
        unreachable!("chunks were made for all nodes")
    }

    /// The chunk at an address.
    pub fn at(&self, address: LogicalAddress) -> &Chunk {
        let after = self.all.partition_point(|chunk| chunk.start <= address);
        &self.all[after - 1]
    }

    /// The bytes between the chunks, which are nobody's: the kernel counts them as free, [`free_bytes`] does not.
    ///
    /// [`free_bytes`]: super::layout::Layout::free_bytes
    pub fn gaps(&self) -> u64 {
        let taken: u64 = self.all.iter().map(|chunk| chunk.len * chunk.copies().count() as u64).sum();
        self.end - format::DEVICE_RESERVED - taken
    }

    /// The bytes free in data chunks.
    pub fn free_data(&self) -> u64 {
        self.all.iter().filter(|chunk| chunk.kind == group::DATA).map(|chunk| chunk.len - chunk.used).sum()
    }
}

/// The first place from `start` on where `len` bytes cover no superblock.
fn behind_superblocks(start: u64, len: u64) -> u64 {
    let covers = |at: &u64| start < at + STRIPE_LEN && start + len > *at;
    SUPERBLOCK_OFFSETS.into_iter().find(covers).map_or(start, |mirror| mirror + MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btrfs::format::NODE_BYTES;

    #[test]
    fn sectors_are_found_again() {
        let space = DataSpace::for_contents(0);
        let per_chunk = DATA_BYTES / SECTOR_SIZE;
        for sector in [0, 1, per_chunk - 1, per_chunk, 1023 * per_chunk, 1024 * per_chunk + 5, 5000 * per_chunk] {
            let address = space.address(Sector(sector));
            assert_eq!(space.sector(address), Sector(sector));
        }
        assert_eq!(space.address(Sector(0)), LogicalAddress(DATA_START));
    }

    #[test]
    fn no_chunk_covers_a_superblock() {
        let space = DataSpace::for_contents(0);
        let full = space.chunk_sectors();
        for count in [1, 3, 1022, 1023, 1024, 1030] {
            let chunks = Chunks::new(10, 50_000, space, &vec![full; count]);
            let mut end = 0;
            let mut ranges: Vec<_> =
                chunks.iter().flat_map(|chunk| chunk.copies().map(|start| (start, start + chunk.len))).collect();
            ranges.sort_unstable();
            for (start, stop) in ranges {
                assert!(start >= end, "chunks overlap at {start}");
                for mirror in SUPERBLOCK_OFFSETS {
                    assert!(stop <= mirror || start >= mirror + STRIPE_LEN, "{start} to {stop} covers {mirror}");
                }
                end = stop;
            }
            assert_eq!(chunks.end, end);
        }
    }

    #[test]
    fn extents_end_with_their_chunk() {
        let space = DataSpace::for_contents(0);
        let full = space.chunk_sectors();
        let mut allocator = Allocator::new(space);
        assert_eq!(allocator.take(full - 3), Sector(0));
        assert_eq!(space.room(Sector(full - 3)), 3);
        assert_eq!(allocator.take_whole(4), Sector(full));
        assert_eq!(allocator.take(2 * full), Sector(full + 4));
        assert_eq!(allocator.into_used(), [full - 3, full, full, 4]);
    }

    #[test]
    fn every_metadata_chunk_has_space_left() {
        for nodes in [1, 2, 1_000, 2_000, 40_000, 1_000_000] {
            let chunks = Chunks::new(1, nodes, DataSpace::for_contents(0), &[0]);
            let metadata = || chunks.iter().filter(|chunk| chunk.kind == group::METADATA_DUP);
            assert!(metadata().all(|chunk| chunk.used <= chunk.len / 4 * 3), "{nodes} nodes");
            assert_eq!(metadata().map(|chunk| chunk.used).sum::<u64>(), nodes * NODE_SIZE);
            let mut number = 0;
            for chunk in metadata() {
                for start in (chunk.start.0..chunk.start.0 + chunk.used).step_by(NODE_BYTES) {
                    assert_eq!(chunks.node(group::METADATA_DUP, number).0, start);
                    number += 1;
                }
            }
            assert_eq!(number, nodes);
        }
    }
}
