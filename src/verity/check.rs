//! Recomputes a tree and says what of it and of its data differs.
//!
//! A block is at fault if its digest, one level up, is another. But a damaged hash block has wrong digests of blocks
//! that are right. Then the hash block that follows from the blocks below it is the one whose digest stands above: only
//! the hash block is at fault.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::RootHash;
use super::area::digest_at;
use super::format::DIGEST_SIZE;
use super::hash::{Digest, Hasher};
use super::layout::{Layout, Level, Shape};
use super::tree::{Data, Lowest};
use crate::copy::Means;
use crate::formats::{FormatError, Reader};
use crate::read::Bytes;
use crate::threads;
use crate::units::ByteOffset;

/// As many runs of blocks of one level are kept as are told one by one.
const RUNS_MAX: usize = 1000;

/// What is wrong with a tree and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The hash of the top block, or of the only data block; `None` if that is not there to be read.
    pub root: Option<RootHash>,
    /// Data blocks whose digest is another.
    pub data: Runs,
    /// By level, from the lowest: hash blocks whose digest is another, although all below them is right.
    pub hashes: Vec<Runs>,
    /// By level: other hash blocks whose digest is another.
    pub unsure: Vec<Runs>,
    /// Hash blocks with something behind their last digest, where zeros have to be.
    pub spare: u64,
    /// Whether the top block is another than that of the wanted root hash, which follows from the blocks below it.
    pub is_top_damaged: bool,
}

/// Numbers of blocks, as far as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// In order; none touches the next.
    pub first: Vec<Range<u64>>,
    /// How many blocks there are in all.
    pub blocks: u64,
}

/// Compares the tree in `area` with the data, or only its levels with each other if that is `None`. `wanted` is what the
/// root hash should be, if that is known.
///
/// The levels above the lowest are held in memory: one byte for 16 KiB of data.
///
/// # Errors
/// If data or area cannot be read or are too short, or the user asked to stop.
pub fn check(
    layout: &Layout,
    data: Option<&dyn Data>,
    area: &dyn Bytes,
    wanted: Option<RootHash>,
    means: Means<'_>,
) -> Result<Checked, FormatError> {
    means.progress.stage("verifying the dm-verity tree", 0, data.map_or(0, |_| layout.data_size()));
    let upper = layout.levels().iter().skip(1).map(|level| read(layout, area, level, 0..level.blocks));
    let upper = upper.collect::<Result<Vec<_>, _>>()?;
    let Shape { salt, hash_block_size, .. } = layout.shape();
    let hasher = Hasher::new(salt, *hash_block_size);
    let check = Check { layout, hasher, upper, wanted, found: Mutex::new(Found::new(layout)) };
    let below = check.lowest(data, area, means)?;
    check.upper_levels(below);
    let found = check.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found.finish())
}

/// Some blocks of a level.
fn read(layout: &Layout, area: &dyn Bytes, level: &Level, blocks: Range<u64>) -> Result<Vec<u8>, FormatError> {
    let size = layout.shape().hash_block_size.bytes();
    // What the superblock says may be more than there is room for.
    if layout.size() > area.len() {
        return Err(crate::read::bytes::past_the_end(level.start, usize::MAX).into());
    }
    let len = usize::try_from((blocks.end - blocks.start) * size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    area.read_exact_at(ByteOffset(level.start.0 + blocks.start * size), &mut bytes)?;
    Ok(bytes)
}

struct Check<'a> {
    layout: &'a Layout,
    hasher: Hasher,
    /// The levels from the second lowest up.
    upper: Vec<Vec<u8>>,
    wanted: Option<RootHash>,
    found: Mutex<Found>,
}

/// A hash block: as it is, and as the blocks below it have it.
#[derive(Clone, Copy)]
struct Pair<'a> {
    level: usize,
    block: u64,
    stored: &'a [u8],
    computed: &'a [u8],
}

/// What a thread keeps from one unit to the next.
#[derive(Default)]
struct Worker<'a> {
    reader: Option<Box<dyn Reader + 'a>>,
    buffer: Vec<u8>,
    hashes: Vec<u8>,
}

impl Check<'_> {
    /// Judges the lowest level, on all threads, and returns the digests of its blocks.
    fn lowest(&self, data: Option<&dyn Data>, area: &dyn Bytes, means: Means<'_>) -> Result<Vec<u8>, FormatError> {
        let lowest = Lowest::new(self.layout);
        let digests = Mutex::new(vec![0; lowest.len()]);
        let size = self.layout.shape().hash_block_size;
        threads::share_out(lowest.units(), means.options.threads, Worker::default, |worker, unit| {
            means.cancel.check()?;
            let Worker { reader, buffer, hashes } = worker;
            if let Some(data) = data {
                let reader = match reader {
                    Some(reader) => reader,
                    None => reader.insert(data.reader()?),
                };
                let mut report = |bytes| {
                    means.progress.advance(0, bytes);
                    means.cancel.check()
                };
                lowest.compute(&unit, reader.as_mut(), buffer, hashes, &mut report)?;
            }
            let Some(level) = self.layout.levels().first() else {
                self.found().root = Digest::try_from(hashes.as_slice()).ok().map(RootHash);
                return Ok(());
            };
            let stored = read(self.layout, area, level, unit.clone())?;
            let computed = if data.is_some() { hashes.as_slice() } else { &stored };
            let mut above = Vec::new();
            let blocks = stored.chunks_exact(size.as_usize()).zip(computed.chunks_exact(size.as_usize()));
            for (block, (stored, computed)) in unit.clone().zip(blocks) {
                above.extend_from_slice(&self.judge(Pair { level: 0, block, stored, computed }));
            }
            put(&mut digests.lock().unwrap_or_else(PoisonError::into_inner), unit.start, &above);
            Ok::<_, FormatError>(())
        })?;
        Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges the levels above, of which the lowest should have the digests `below`.
    fn upper_levels(&self, mut below: Vec<u8>) {
        let size = self.layout.shape().hash_block_size.as_usize();
        for (level, stored) in (1..).zip(&self.upper) {
            below.resize(stored.len(), 0);
            let blocks = stored.chunks_exact(size).zip(below.chunks_exact(size));
            let judged = (0..).zip(blocks);
            let judged = judged.map(|(block, (stored, computed))| self.judge(Pair { level, block, stored, computed }));
            below = judged.flatten().collect();
        }
    }

    /// Notes what is wrong with the blocks below a hash block, and returns its digest.
    fn judge(&self, pair: Pair<'_>) -> Digest {
        let Pair { level, block, stored, computed } = pair;
        let digest = self.hasher.digest(stored);
        let is_top = level + 1 == self.layout.levels().len();
        let above = self.upper.get(level).and_then(|above| digest_at(above, block));
        let wanted = self.wanted.as_ref().map(|root| root.0.as_slice()).filter(|_| is_top);
        let is_right = above.or(wanted).is_none_or(|wanted| *wanted == digest);
        if is_top {
            self.found().root = Some(RootHash(digest));
        }
        if stored == computed {
            return digest;
        }
        let is_alone = !is_right && above.or(wanted) == Some(self.hasher.digest(computed).as_slice());
        if is_alone {
            let mut found = self.found();
            found.is_top_damaged |= is_top;
            found.alone.insert((level, block));
            return digest;
        }
        self.found().add(level, &self.below(pair));
        digest
    }

    /// The blocks below a hash block whose digests it does not have.
    fn below(&self, pair: Pair<'_>) -> Vec<u64> {
        let per_block = self.layout.digests_per_block();
        let below = match pair.level.checked_sub(1).and_then(|level| self.layout.levels().get(level)) {
            Some(level) => level.blocks,
            None => self.layout.shape().data_blocks,
        };
        let first = pair.block.saturating_mul(per_block);
        let both = pair.stored.chunks_exact(DIGEST_SIZE).zip(pair.computed.chunks_exact(DIGEST_SIZE));
        let numbered = (first..below).zip(both);
        numbered.filter(|(_, (stored, computed))| stored != computed).map(|(number, _)| number).collect()
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies digests to their place.
fn put(digests: &mut [u8], first: u64, bytes: &[u8]) {
    let at = usize::try_from(first).unwrap_or(usize::MAX).saturating_mul(DIGEST_SIZE);
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| digests.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

/// What was found so far.
struct Found {
    root: Option<RootHash>,
    data: Kept,
    hashes: Vec<Kept>,
    /// Levels and numbers of hash blocks that are at fault alone.
    alone: BTreeSet<(usize, u64)>,
    spare: u64,
    is_top_damaged: bool,
}

impl Found {
    fn new(layout: &Layout) -> Self {
        let hashes = layout.levels().iter().map(|_| Kept::default()).collect();
        Self { root: None, data: Kept::default(), hashes, alone: BTreeSet::new(), spare: 0, is_top_damaged: false }
    }

    /// Notes blocks below one hash block of this level, in order.
    fn add(&mut self, level: usize, below: &[u64]) {
        if below.is_empty() {
            self.spare += 1;
        }
        match level.checked_sub(1) {
            None => self.data.add(below.iter().copied()),
            Some(level) => {
                let unsure = below.iter().copied().filter(|&block| !self.alone.contains(&(level, block)));
                self.hashes.get_mut(level).into_iter().for_each(|kept| kept.add(unsure.clone()));
            }
        }
    }

    fn finish(self) -> Checked {
        let levels = self.hashes.len();
        let mut alone: Vec<_> = (0..levels).map(|_| Kept::default()).collect();
        for (level, block) in self.alone {
            if let Some(kept) = alone.get_mut(level) {
                kept.add([block]);
            }
        }
        Checked {
            root: self.root,
            data: self.data.finish(),
            hashes: alone.into_iter().map(Kept::finish).collect(),
            unsure: self.hashes.into_iter().map(Kept::finish).collect(),
            spare: self.spare,
            is_top_damaged: self.is_top_damaged,
        }
    }
}

/// Numbers of blocks that come in any order, each once.
#[derive(Default)]
struct Kept {
    /// Where runs start, and where each ends.
    runs: BTreeMap<u64, u64>,
    blocks: u64,
}

impl Kept {
    /// Adds blocks, in order. Of too many runs the last ones go, and no run joins those that were there before, so that
    /// what is kept does not depend on what comes first.
    fn add(&mut self, blocks: impl IntoIterator<Item = u64>) {
        let mut run: Option<Range<u64>> = None;
        for block in blocks {
            self.blocks += 1;
            match &mut run {
                Some(run) if run.end == block => run.end += 1,
                _ => self.insert(run.replace(block..block + 1)),
            }
        }
        self.insert(run);
    }

    fn insert(&mut self, run: Option<Range<u64>>) {
        self.runs.extend(run.map(|run| (run.start, run.end)));
        if self.runs.len() > RUNS_MAX {
            self.runs.pop_last();
        }
    }

    fn finish(self) -> Runs {
        let mut first: Vec<Range<u64>> = Vec::new();
        for (start, end) in self.runs {
            match first.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => first.push(start..end),
            }
        }
        Runs { first, blocks: self.blocks }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::{Salt, write};
    use super::*;
    use crate::copy::{Engine, Options};
    use crate::disk::memory::Memory;
    use crate::disk::region::Region;
    use crate::progress::{Cancel, Silent};

    struct InMemory(Memory, u64);

    impl InMemory {
        fn new(len: u64) -> Self {
            Self(Memory::default(), len)
        }

        fn region(&self) -> Region<'_> {
            Region::in_memory(&self.0, ByteOffset(0), self.1).unwrap()
        }

        fn flip(&self, at: u64) {
            let mut byte = [0];
            self.region().read_exact_at(ByteOffset(at), &mut byte).unwrap();
            self.region().write_all_at(ByteOffset(at), &[byte[0] ^ 1]).unwrap();
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = vec![0; usize::try_from(self.1).unwrap()];
            self.region().read_exact_at(ByteOffset(0), &mut bytes).unwrap();
            bytes
        }
    }

    /// Data that is mostly zeros, and its tree.
    struct Sample {
        layout: Layout,
        data: InMemory,
        area: InMemory,
        root: RootHash,
    }

    fn with_means<T>(threads: usize, run: impl FnOnce(Means<'_>) -> T) -> T {
        let options = Options { threads: NonZeroUsize::new(threads).unwrap(), engine: Engine::Auto };
        run(Means { options, progress: &Silent, cancel: &Cancel::new() })
    }

    impl Sample {
        fn new(blocks: u64) -> Self {
            let layout = Layout::new(blocks * 4096, Uuid::nil(), Salt::new(b"salt").unwrap()).unwrap();
            let (data, area) = (InMemory::new(layout.data_size()), InMemory::new(layout.size()));
            (0..blocks).step_by(7).for_each(|block| data.flip(block * 4096 + block % 4096));
            let root = with_means(2, |means| write(&layout, &data.region(), &area.region(), means)).unwrap();
            Self { layout, data, area, root }
        }

        fn check(&self, wanted: Option<RootHash>) -> Checked {
            let check = |threads| {
                let (data, area) = (self.data.region(), self.area.bytes());
                with_means(threads, |means| check(&self.layout, Some(&data), &area, wanted, means)).unwrap()
            };
            let found = check(3);
            assert_eq!(found, check(1));
            found
        }

        /// The first byte of a digest.
        fn digest(&self, level: usize, number: u64) -> u64 {
            self.layout.levels()[level].start.0 + number * 32
        }
    }

    fn told(runs: &[Runs]) -> Vec<Vec<Range<u64>>> {
        runs.iter().map(|runs| runs.first.clone()).collect()
    }

    #[test]
    fn one_damage_is_one_fault() {
        let sample = Sample::new(16_390);
        let right = sample.check(Some(sample.root));
        assert_eq!(
            right,
            Checked { hashes: vec![Runs::default(); 3], unsure: vec![Runs::default(); 3], ..right.clone() }
        );
        assert_eq!(right.root, Some(sample.root));

        let at_fault = |damage: &dyn Fn(), wanted| {
            damage();
            let found = sample.check(wanted);
            damage();
            assert_eq!(sample.check(Some(sample.root)), right);
            found
        };
        let root = Some(sample.root);
        let data = at_fault(&|| [5, 6, 7, 300].iter().for_each(|block| sample.data.flip(block * 4096)), root);
        assert_eq!(data.data, Runs { first: vec![5..8, 300..301], blocks: 4 });
        assert_eq!(data, Checked { data: data.data.clone(), ..right.clone() });

        let lowest = at_fault(&|| sample.area.flip(sample.digest(0, 300)), root);
        assert_eq!(told(&lowest.hashes), [vec![2..3], vec![], vec![]]);
        assert_eq!(lowest, Checked { hashes: lowest.hashes.clone(), ..right.clone() });

        let middle = at_fault(&|| sample.area.flip(sample.digest(1, 128)), root);
        assert_eq!(told(&middle.hashes), [vec![], vec![1..2], vec![]]);
        assert_eq!(middle, Checked { hashes: middle.hashes.clone(), ..right.clone() });

        let top = at_fault(&|| sample.area.flip(sample.digest(2, 1)), root);
        assert!(top.is_top_damaged && top.root != root);
        assert_eq!(told(&top.hashes), [vec![], vec![], vec![0..1]]);
        // Who does not know the root hash cannot tell which of the two is at fault.
        let unsure = at_fault(&|| sample.area.flip(sample.digest(2, 1)), None);
        assert!(!unsure.is_top_damaged);
        assert_eq!(told(&unsure.unsure), [vec![], vec![1..2], vec![]]);

        let both = at_fault(
            &|| {
                sample.data.flip(4096);
                sample.area.flip(sample.digest(0, 2));
            },
            root,
        );
        assert_eq!((both.data.first, told(&both.unsure)), (vec![1..3], vec![vec![0..1], vec![], vec![]]));
        let spare = at_fault(&|| sample.area.flip(sample.digest(1, 129)), root);
        assert_eq!(told(&spare.hashes), [vec![], vec![1..2], vec![]]);
    }

    #[test]
    fn a_tree_over_one_block_is_its_digest() {
        let sample = Sample::new(1);
        assert_eq!(sample.check(Some(sample.root)).root, Some(sample.root));
        sample.data.flip(4095);
        assert_ne!(sample.check(Some(sample.root)).root, Some(sample.root));
    }

    #[test]
    fn what_is_too_short_is_an_error() {
        let sample = Sample::new(200);
        let (data, area) = (sample.data.region(), sample.area.bytes());
        let run = |data: &Region<'_>, area: &Vec<u8>| {
            with_means(2, |means| check(&sample.layout, Some(data), area, None, means)).is_err()
        };
        assert!(!run(&data, &area));
        assert!(run(&data, &area[..area.len() - 1].to_vec()));
        assert!(run(&Region::in_memory(&sample.data.0, ByteOffset(0), sample.data.1 - 1).unwrap(), &area));
    }

    #[test]
    fn too_many_runs_are_counted() {
        let numbers: Vec<_> = (0..5000).map(|number| 2 * number).collect();
        let (mut one, mut other) = (Kept::default(), Kept::default());
        numbers.iter().for_each(|&number| one.add([number]));
        numbers.iter().rev().for_each(|&number| other.add([number]));
        let one = one.finish();
        assert_eq!((one.blocks, one.first.len()), (5000, RUNS_MAX));
        assert_eq!(other.finish(), one);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_flipped_bit_is_found(blocks in 2_u64..1000, at in any::<prop::sample::Index>(), in_area in any::<bool>()) {
            let sample = Sample::new(blocks);
            let (place, from) = if in_area { (&sample.area, 4096) } else { (&sample.data, 0) };
            place.flip(from + at.index(usize::try_from(place.1 - from).unwrap()) as u64);
            let found = sample.check(Some(sample.root));
            let hashes: u64 = found.hashes.iter().chain(&found.unsure).map(|runs| runs.blocks).sum();
            prop_assert_eq!((found.data.blocks, hashes), if in_area { (0, 1) } else { (1, 0) });
        }
    }
}
