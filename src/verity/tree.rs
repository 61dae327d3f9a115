//! Computes the tree over some data and writes the hash area.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use zerocopy::IntoBytes;

use super::RootHash;
use super::format::DIGEST_SIZE;
use super::hash::{Digest, Hasher};
use super::layout::{Layout, Shape};
use crate::copy::Means;
use crate::disk::region::Region;
use crate::formats::{FormatError, Reader, Source};
use crate::progress::Cancelled;
use crate::read::{Bytes, ReadError, Window};
use crate::threads;
use crate::units::ByteOffset;

/// As many bytes of data are read at once: they stay in a core's cache until they are hashed.
pub(super) const AT_ONCE: u64 = 1 << 20;
/// The data whose hashes are written at once, in bytes: a small write would have to wait each time for the large ones of
/// whoever copies into the same file.
const UNIT: u64 = 16 << 20;

/// The data that a tree is made of. Its ranges count from the first byte of the data partition.
pub trait Data: Sync {
    /// What one thread reads with.
    ///
    /// # Errors
    /// If nothing can be read.
    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError>;
}

/// A partition of an image that exists.
impl Data for Window {
    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(OfWindow(self)))
    }
}

/// A partition of an image that is being written: its bytes are all there.
impl Data for Region<'_> {
    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(OfRegion(self)))
    }
}

/// A partition of a disk that exists or is only planned. What is free reads as zeros there, so that the disk has to
/// have zeros there when it is written.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The disk.
    pub disk: &'a dyn Source,
    /// Where the data starts on it.
    pub start: ByteOffset,
}

impl Data for Part<'_> {
    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(OfPart { disk: self.disk.reader()?, start: self.start.0 }))
    }
}

struct OfWindow<'a>(&'a Window);

impl Reader for OfWindow<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        Ok(self.0.read_exact_at(ByteOffset(range.start), fitted(&range, buffer))?)
    }
}

struct OfRegion<'a>(&'a Region<'a>);

impl Reader for OfRegion<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        let (offset, len) = (ByteOffset(range.start), range.end - range.start);
        let read = self.0.read_exact_at(offset, fitted(&range, buffer));
        read.map_err(|source| FormatError::Read(ReadError::Io { offset, len, source }))
    }
}

struct OfPart<'a> {
    disk: Box<dyn Reader + 'a>,
    start: u64,
}

impl Reader for OfPart<'_> {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        self.disk.read(self.start + range.start..self.start + range.end, buffer)
    }
}

/// The part of a buffer that a range fills.
fn fitted<'a>(range: &Range<u64>, buffer: &'a mut [u8]) -> &'a mut [u8] {
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    buffer.get_mut(..len).unwrap_or_default()
}

/// Reads all data once, on the threads of `means`, writes superblock and tree into `out`, and returns the root hash.
///
/// `out` must have room for [`Layout::size`]; what is after that is not touched. The digests of the lowest hash blocks
/// are held in memory: one byte for 16 KiB of data, so that 1 TiB takes 64 MiB.
///
/// # Errors
/// If the data cannot be read, the area cannot be written, or the user asked to stop.
pub fn write(layout: &Layout, data: &dyn Data, out: &Region<'_>, means: Means<'_>) -> Result<RootHash, FormatError> {
    let Means { options, progress, cancel } = means;
    progress.stage("hashing for dm-verity", 0, layout.data_size());
    let Shape { salt, hash_block_size, .. } = layout.shape();
    let put = |at: ByteOffset, bytes: &[u8]| out.write_all_at(at, bytes).map_err(FormatError::Write);
    let mut first = vec![0; hash_block_size.as_usize()];
    first.iter_mut().zip(layout.superblock().as_bytes()).for_each(|(to, byte)| *to = *byte);
    put(ByteOffset(0), &first)?;

    let hasher = Hasher::new(salt, *hash_block_size);
    let lowest = Lowest::new(layout);
    let digests = Mutex::new(vec![0; lowest.len()]);
    threads::share_out(lowest.units(), options.threads, Worker::default, |worker, unit| {
        let Worker { reader, buffer, hashes } = worker;
        let reader = match reader {
            Some(reader) => reader,
            None => reader.insert(data.reader()?),
        };
        let mut report = |bytes| {
            progress.advance(0, bytes);
            cancel.check()
        };
        lowest.compute(&unit, reader.as_mut(), buffer, hashes, &mut report)?;
        let mut above = Vec::new();
        if let Some(level) = layout.levels().first() {
            put(ByteOffset(level.start.0 + unit.start * hash_block_size.bytes()), hashes)?;
            hasher.digests(hashes, *hash_block_size, &mut above);
        } else {
            above.clone_from(hashes);
        }
        let at = usize::try_from(unit.start).unwrap_or(usize::MAX).saturating_mul(DIGEST_SIZE);
        let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = at.checked_add(above.len()).and_then(|end| digests.get_mut(at..end)) {
            place.copy_from_slice(&above);
        }
        Ok::<_, FormatError>(())
    })?;

    let mut digests = digests.into_inner().unwrap_or_else(PoisonError::into_inner);
    for level in layout.levels().iter().skip(1) {
        cancel.check()?;
        digests.resize(digests.len().next_multiple_of(hash_block_size.as_usize()), 0);
        put(level.start, &digests)?;
        let mut above = Vec::new();
        hasher.digests(&digests, *hash_block_size, &mut above);
        digests = above;
    }
    Ok(RootHash(Digest::try_from(digests.as_slice()).unwrap_or_default()))
}

/// What a thread keeps from one unit to the next.
#[derive(Default)]
struct Worker<'a> {
    reader: Option<Box<dyn Reader + 'a>>,
    buffer: Vec<u8>,
    hashes: Vec<u8>,
}

/// The lowest level, block by block.
pub(super) struct Lowest<'a> {
    layout: &'a Layout,
    hasher: Hasher,
    /// The hash blocks; of a tree without levels, the one data block.
    blocks: u64,
}

impl<'a> Lowest<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let Shape { salt, data_block_size, .. } = layout.shape();
        let blocks = layout.levels().first().map_or(1, |level| level.blocks);
        Self { layout, hasher: Hasher::new(salt, *data_block_size), blocks }
    }

    /// The bytes of the digests of all its blocks.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.blocks).unwrap_or(usize::MAX).saturating_mul(DIGEST_SIZE)
    }

    /// Ranges of hash blocks, each of which a thread computes at once.
    pub(super) fn units(&self) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let data = self.layout.digests_per_block() * self.layout.shape().data_block_size.bytes();
        let (step, end) = ((UNIT / data).max(1), self.blocks);
        (0..end.div_ceil(step)).map(move |unit| unit * step..end.min((unit + 1) * step))
    }

    /// The data blocks under some hash blocks.
    pub(super) fn data_of(&self, unit: &Range<u64>) -> Range<u64> {
        let per_block = self.layout.digests_per_block();
        let clip = |block: u64| block.saturating_mul(per_block).min(self.layout.shape().data_blocks);
        clip(unit.start)..clip(unit.end)
    }

    /// Computes some hash blocks from the data: whole blocks, or the only digest of a tree without levels. Reports the
    /// bytes that are read, and stops if that says so.
    pub(super) fn compute(
        &self,
        unit: &Range<u64>,
        reader: &mut dyn Reader,
        buffer: &mut Vec<u8>,
        hashes: &mut Vec<u8>,
        report: &mut dyn FnMut(u64) -> Result<(), Cancelled>,
    ) -> Result<(), FormatError> {
        let Shape { data_block_size, hash_block_size, .. } = self.layout.shape();
        let blocks = self.data_of(unit);
        let (mut at, end) = (blocks.start * data_block_size.bytes(), blocks.end * data_block_size.bytes());
        hashes.clear();
        while at < end {
            let stop = end.min(at + AT_ONCE);
            let len = usize::try_from(stop - at).unwrap_or(usize::MAX);
            // One byte more, which readers may use.
            buffer.resize(len + 1, 0);
            reader.read(at..stop, buffer)?;
            self.hasher.digests(buffer.get(..len).unwrap_or_default(), *data_block_size, hashes);
            report(stop - at)?;
            at = stop;
        }
        if !self.layout.levels().is_empty() {
            hashes.resize(hashes.len().next_multiple_of(hash_block_size.as_usize()), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::num::NonZeroUsize;

    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};
    use uuid::Uuid;

    use super::super::{BlockSize, Salt};
    use super::*;
    use crate::copy::{Engine, Options};
    use crate::disk::memory::Memory;
    use crate::formats::Existing;
    use crate::map::{Held, MapBuilder};
    use crate::progress::{Cancel, Silent};

    const UUID: Uuid = Uuid::from_u128(0x0b7ae3ef_c2a1_4cbc_8a9b_6a1ae9a0a001);

    /// Data of so many blocks, of which every fifth is zeros and the last one has a single bit.
    fn data(blocks: u64) -> Vec<u8> {
        let mut data: Vec<_> = (0..blocks)
            .flat_map(|block| {
                let filled = if block % 5 == 0 { 0 } else { block };
                filled.to_le_bytes().repeat(512)
            })
            .collect();
        *data.last_mut().unwrap() |= 0x80;
        data
    }

    fn with_means<T>(threads: usize, run: impl FnOnce(Means<'_>) -> T) -> T {
        let options = Options { threads: NonZeroUsize::new(threads).unwrap(), engine: Engine::Auto };
        run(Means { options, progress: &Silent, cancel: &Cancel::new() })
    }

    fn window(bytes: &[u8]) -> Window {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
        Window::new(file, bytes.len() as u64)
    }

    /// The root hash and the hash area.
    fn tree(layout: &Layout, data: &dyn Data, threads: usize) -> (RootHash, Vec<u8>) {
        let memory = Memory::default();
        let out = Region::in_memory(&memory, ByteOffset(0), layout.size()).unwrap();
        let root = with_means(threads, |means| write(layout, data, &out, means)).unwrap();
        let mut area = vec![0; usize::try_from(layout.size()).unwrap()];
        out.read_exact_at(ByteOffset(0), &mut area).unwrap();
        (root, area)
    }

    /// What `veritysetup format --uuid=… --salt=…` of cryptsetup 2.6.1 makes of the same data: the number of blocks,
    /// the length of the salt (00 01 02 …), the root hash, and the SHA-256 of the hash device.
    const VECTORS: &[(u64, u8, &str, &str)] = &[
        (
            1,
            32,
            "6ab05a4d3675c617f6d1e1f45a944f0c50643ce1fd347d2d34ba81fea004eb10",
            "97da0d94be4c57e4cc02aa738b19fe74e98d45a9bcae4b38c326547619dd360b",
        ),
        (
            2,
            32,
            "45c4ca964a4dd2b2ecd85c3ee2b7552a6cbf1ea2cfc7bbfc8a76bbf956d7736c",
            "f5bcc98320b3a620bb330e38e5f668cfe6812af6c8e9b9dcf2d1bf649c291fe2",
        ),
        (
            127,
            32,
            "e28ad6383a1079861a346bb441c0c77ceb3638e8d7b2c6f13b49b275adb778b8",
            "6bebbbea79c521d0e01c3de18cf0e68f9d49520b12057fbf3fa978bb320baa48",
        ),
        (
            128,
            32,
            "2e014f077109d77d29c2f961d223a26e78f6738281dce8ec22ff8e2c714d97c8",
            "3137f2c5640046363fc1c20646a0e39170179ac128cd0f1c953e630acdbce07b",
        ),
        (
            129,
            32,
            "153f3453156ef669c514f348d301ae0d2a80ae3cc9d13d5a11f50309578ce0e8",
            "5e808f12830c2f822b9b57d4e88cb8773accf8244996366b348d219f54200096",
        ),
        (
            129,
            0,
            "f00fcf37cb1407e5da327e4a2d7e5c0964eb4c0cfa8fee3f8d1b1cdb09a69e57",
            "a9c7ee4c5089e997cfa0315627530a25d072b5ca5c39ee54372060baf9329a4a",
        ),
        (
            16383,
            32,
            "c2dfd86b6c9af4c23721c4c50351edc91bdb811fab5257fc9b28a7e97bc3e8a2",
            "934827789110832bd7a72da01142818ad97842c769baace77111c10b34833b80",
        ),
        (
            16384,
            7,
            "37f1084b3a7ea3f178b78ca77a7dc04ebccaed4fde194da04e91a074636a18fd",
            "328ccf66964f81fe648cb3e3e2657fa60b1552cd53dc547689daccf8d8bb8c81",
        ),
        (
            16385,
            32,
            "3994a8860c410c0a8593679a84f0af551f3386043412d11ef5d7806a697fc116",
            "e6f9371a55fcf0ea60739ec7a817c45288c59ecb115b2ada7e29234c07f97f18",
        ),
    ];

    #[test]
    fn trees_are_those_of_veritysetup() {
        for &(blocks, salt, root, sha256) in VECTORS {
            let salt = Salt::new(&(0..salt).collect::<Vec<_>>()).unwrap();
            let layout = Layout::new(blocks * 4096, UUID, salt).unwrap();
            let (found, area) = tree(&layout, &window(&data(blocks)), 3);
            assert_eq!(found.to_string(), root, "{blocks} blocks");
            let digest = Sha256::digest(&area).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert_eq!(digest, sha256, "{blocks} blocks");
        }
    }

    #[test]
    fn a_planned_partition_is_hashed_as_it_will_be() {
        let (blocks, start) = (300, 8192);
        let mut data = data(blocks);
        let layout = Layout::new(blocks * 4096, UUID, Salt::new(b"salt").unwrap()).unwrap();
        let mut disk = vec![0xee; start];
        disk.extend_from_slice(&data);
        let mut map = MapBuilder::default();
        map.add(0..start as u64 + 4096, Held::Contents);
        map.add(start as u64 + 3 * 4096..disk.len() as u64, Held::Contents);
        let map = map.finish(disk.len() as u64);
        let disk = Existing::new(window(&disk), map);
        data[4096..3 * 4096].fill(0);
        let part = Part { disk: &disk, start: ByteOffset(start as u64) };
        assert!(tree(&layout, &part, 2) == tree(&layout, &window(&data), 1));
    }

    #[test]
    fn it_stops_and_fails() {
        let layout = Layout::new(300 * 4096, UUID, Salt::new(b"").unwrap()).unwrap();
        let memory = Memory::default();
        let out = Region::in_memory(&memory, ByteOffset(0), layout.size()).unwrap();
        let short = window(&data(299));
        let error = with_means(2, |means| write(&layout, &short, &out, means)).unwrap_err();
        assert!(matches!(error, FormatError::Read(ReadError::Io { .. })), "{error}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let region = Region::new(&full, ByteOffset(0), layout.size()).unwrap();
        let error = with_means(2, |means| write(&layout, &window(&data(300)), &region, means)).unwrap_err();
        assert!(matches!(error, FormatError::Write(_)), "{error}");
        let stopped = with_means(2, |means| {
            means.cancel.request(2);
            write(&layout, &short, &out, means)
        });
        assert!(matches!(stopped, Err(FormatError::Cancelled(Cancelled { signal: 2 }))));
    }

    /// The tree as its definition has it: all of a level, then the one above.
    fn defined(layout: &Layout, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let Shape { salt, data_block_size, hash_block_size, .. } = layout.shape();
        let hash = |bytes: &[u8], size: &BlockSize| -> Vec<u8> {
            let blocks = bytes.chunks_exact(size.as_usize());
            blocks
                .flat_map(|block| Sha256::new().chain_update(salt.as_bytes()).chain_update(block).finalize())
                .collect()
        };
        let mut levels = vec![];
        let mut digests = hash(data, data_block_size);
        while digests.len() > DIGEST_SIZE {
            digests.resize(digests.len().next_multiple_of(hash_block_size.as_usize()), 0);
            levels.push(digests.clone());
            digests = hash(&digests, hash_block_size);
        }
        let mut area = layout.superblock().as_bytes().to_vec();
        area.resize(hash_block_size.as_usize(), 0);
        levels.iter().rev().for_each(|level| area.extend_from_slice(level));
        (digests, area)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn trees_are_as_defined(
            blocks in 1_u64..3000,
            threads in 1_usize..4,
            bits in (9_u32..=13, 9_u32..=13),
            salt in proptest::collection::vec(any::<u8>(), 0..=256),
        ) {
            let salt = Salt::new(&salt).unwrap();
            let [data_block_size, hash_block_size] = [bits.0, bits.1].map(|bits| BlockSize::new(1 << bits).unwrap());
            let layout = Layout::of(Shape { uuid: UUID, salt, data_blocks: blocks, data_block_size, hash_block_size }).unwrap();
            let mut data = data(blocks * data_block_size.bytes() / 512 / 8 + 1);
            data.truncate(usize::try_from(layout.data_size()).unwrap());
            let (root, area) = tree(&layout, &window(&data), threads);
            let (wanted, wanted_area) = defined(&layout, &data);
            prop_assert_eq!(root.0.as_slice(), wanted);
            prop_assert!(area == wanted_area);
        }
    }
}
