//! Tests of the engine with a medium in memory. The medium remembers everything, fails where a test says so, and can
//! lose its power at any moment.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::copy::{Engine, Options, Places};
use crate::disk::gpt::{self, GptLayout, PartitionRequest};
use crate::disk::table::Table;
use crate::formats::{Filled, Reader};
use crate::map::{Held, ImageMap, MapBuilder};
use crate::progress::{Cancel, Progress, Silent};
use crate::units::{ByteOffset, MIB, SectorSize};

/// What a used medium is full of.
const OLD: u8 = 0x55;

/// What happened to a medium.
#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    Zero(Range<u64>),
    Discard(Range<u64>),
    Flush,
}

struct Fake {
    bytes: Mutex<Vec<u8>>,
    events: Mutex<Vec<Event>>,
    /// What a discard leaves; `None` if nothing can be discarded.
    discarded: Option<u8>,
    makes_holes: bool,
    /// A write upon this byte fails.
    broken: Option<u64>,
    /// This byte reads as another.
    lying: Option<u64>,
    flushes_left: AtomicU64,
}

impl Fake {
    fn new(size: u64) -> Self {
        Self {
            bytes: Mutex::new(vec![OLD; usize::try_from(size).unwrap()]),
            events: Mutex::default(),
            discarded: None,
            makes_holes: false,
            broken: None,
            lying: None,
            flushes_left: AtomicU64::new(u64::MAX),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn fill(&self, range: &Range<u64>, byte: u8) {
        self.bytes.lock().unwrap()[span(range)].fill(byte);
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

fn span(range: &Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

impl Medium for Fake {
    fn name(&self) -> &str {
        "the card"
    }

    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn write_at(&self, bytes: &[u8], at: ByteOffset) -> io::Result<()> {
        let range = at.0..at.0 + bytes.len() as u64;
        assert!(range.start.is_multiple_of(4096) && (range.end.is_multiple_of(4096) || range.end == self.size()));
        assert!(bytes.as_ptr().addr().is_multiple_of(4096), "the memory of a direct write starts at a page");
        if self.broken.is_some_and(|byte| range.contains(&byte)) {
            return Err(io::Error::other("broken"));
        }
        self.bytes.lock().unwrap()[span(&range)].copy_from_slice(bytes);
        self.note(Event::Write(at.0, bytes.to_vec()));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], at: ByteOffset) -> io::Result<()> {
        let range = at.0..at.0 + bytes.len() as u64;
        bytes.copy_from_slice(&self.bytes.lock().unwrap()[span(&range)]);
        if let Some(byte) = self.lying.filter(|byte| range.contains(byte)) {
            bytes[usize::try_from(byte - at.0).unwrap()] ^= 0x80;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.note(Event::Flush);
        let left = self.flushes_left.fetch_sub(1, Ordering::Relaxed);
        if left == 0 { Err(io::Error::other("lost")) } else { Ok(()) }
    }

    fn zero(&self, range: Range<u64>) -> io::Result<bool> {
        if self.makes_holes {
            self.fill(&range, 0);
            self.note(Event::Zero(range));
        }
        Ok(self.makes_holes)
    }

    fn discard_unit(&self) -> Option<u64> {
        self.discarded.map(|_| 16 << 10)
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        assert!(range.start.is_multiple_of(16 << 10) && range.end.is_multiple_of(16 << 10) && !range.is_empty());
        self.fill(&range, self.discarded.unwrap());
        self.note(Event::Discard(range));
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk in memory. What is free, or zeros, has bytes that nobody may see.
struct Memory {
    bytes: Vec<u8>,
    map: ImageMap,
}

impl Memory {
    fn new(map: ImageMap) -> Self {
        let bytes = (0..map.size()).map(|at| u8::try_from(at * 167 % 251 + 1).unwrap()).collect();
        Self { bytes, map }
    }

    fn wanted(&self, range: &Range<u64>) -> Vec<u8> {
        let mut wanted = vec![0; usize::try_from(range.end - range.start).unwrap()];
        for extent in self.map.within(range.clone()).filter(|extent| extent.held.is_data()) {
            let at = usize::try_from(extent.range.start - range.start).unwrap();
            let bytes = &self.bytes[span(&extent.range)];
            wanted[at..at + bytes.len()].copy_from_slice(bytes);
        }
        wanted
    }
}

impl Source for Memory {
    fn map(&self) -> &ImageMap {
        &self.map
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, FormatError> {
        Ok(Box::new(self))
    }

    fn fill(&self, _: &std::fs::File, _: &Places, _: Means<'_>) -> Result<Filled, FormatError> {
        unreachable!("nobody asks for that here")
    }
}

impl Reader for &Memory {
    fn read(&mut self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), FormatError> {
        let wanted = self.wanted(&range);
        assert_eq!(buffer.len(), wanted.len() + 1);
        buffer[..wanted.len()].copy_from_slice(&wanted);
        *buffer.last_mut().unwrap() = 0xee;
        Ok(())
    }
}

fn unknown(_: ByteOffset) -> Option<String> {
    None
}

fn run(source: &dyn Source, medium: &Fake, cancel: &Cancel, progress: &dyn Progress) -> Result<Flashed, FlashError> {
    let options = Options { threads: NonZeroUsize::new(2).unwrap(), engine: Engine::Auto };
    let place = |at: ByteOffset| Some(format!("byte {} of the nix", at.0 - 1));
    flash(source, medium, Check::ReadBack, &place, Means { options, progress, cancel })
}

fn flash_quietly(source: &dyn Source, medium: &Fake) -> Result<Flashed, FlashError> {
    run(source, medium, &Cancel::new(), &Silent)
}

/// A disk of `mib` MiB with a GPT, a partition with contents in its first MiB and in its last one, and free space between.
fn table_disk(sector_size: SectorSize, mib: u64) -> (Memory, GptLayout) {
    let part = |guid: u128, size: u64| PartitionRequest {
        name: format!("part {guid}"),
        type_guid: Uuid::from_u128(1),
        guid: Uuid::from_u128(guid),
        size,
        attributes: 0,
    };
    let parts = [part(2, MIB), part(3, (mib - 3) * MIB)];
    let layout = GptLayout::new(sector_size, 0, 0, Uuid::from_u128(9), &parts).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(layout.disk_size).unwrap();
    gpt::write(&layout, &mut file).unwrap();
    let mut map = MapBuilder::default();
    map.add(0..MIB, Held::Contents);
    map.add(MIB..MIB + 7000, Held::Contents);
    map.add(2 * MIB..3 * MIB, Held::Contents);
    map.add(3 * MIB + 5..3 * MIB + 100_000, Held::Zeros);
    map.add((mib - 2) * MIB..mib * MIB, Held::Contents);
    let mut disk = Memory::new(map.finish(layout.disk_size));
    let mut bytes = vec![0; usize::try_from(layout.disk_size).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    for range in [0..MIB, (mib - 1) * MIB..mib * MIB] {
        disk.bytes[span(&range)].copy_from_slice(&bytes[span(&range)]);
    }
    (disk, layout)
}

fn space(size: u64) -> Space {
    Space { size, sector_size: None, limit: None }
}

#[track_caller]
fn assert_holds(medium: &Fake, source: &dyn Source) {
    let (found, mut reader) = (medium.bytes(), source.reader().unwrap());
    for extent in source.map().extents() {
        let mut wanted = vec![0; usize::try_from(extent.range.end - extent.range.start).unwrap() + 1];
        reader.read(extent.range.clone(), &mut wanted).unwrap();
        assert!(found[span(&extent.range)] == wanted[..wanted.len() - 1], "{extent:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every byte that somebody reads is there, and what nobody reads is as it was, or discarded.
    #[test]
    fn all_that_is_read_is_written(
        extents in prop::collection::vec((0..7 * MIB, 1..90_000u64, 0..3usize), 0..40),
        size in (1..7 * MIB).prop_map(|size| size.next_multiple_of(512)),
        more in (0..3 * MIB).prop_map(|more| more - more % 512),
        discarded in prop::option::of(any::<u8>()),
        makes_holes: bool,
    ) {
        let mut map = MapBuilder::default();
        for (start, len, held) in extents {
            map.add(start..start + len, [Held::Contents, Held::Metadata, Held::Zeros][held]);
        }
        let disk = Memory::new(map.finish(size));
        let fitted = Fitted::new(&disk, Tables::None, None, space(size + more)).unwrap();
        let medium = Fake { discarded, makes_holes, ..Fake::new(size + more) };
        let flashed = flash_quietly(&fitted, &medium).unwrap();
        assert_holds(&medium, &fitted);
        let found = medium.bytes();
        let units = fitted.map().read_units(4096);
        let free: Vec<_> = crate::read::ranges::gaps(&units, 0..size + more);
        for range in &free {
            prop_assert!(found[span(range)].iter().all(|&byte| byte == OLD || Some(byte) == discarded));
        }
        prop_assert_eq!(flashed.free, free.iter().map(|range| range.end - range.start).sum::<u64>());
        prop_assert_eq!(flashed.written + flashed.free, size + more);
        prop_assert!(flashed.is_compared && (discarded.is_some() || flashed.discarded == 0));
        // Whatever of a unit nobody reads is zeros.
        let in_units = |at: u64| if disk.map.within(at..at + 1).next().is_some() { None } else { Some(0) };
        for unit in units {
            for at in (unit.start..unit.end.min(size)).step_by(97) {
                prop_assert!(in_units(at).is_none_or(|zero| found[usize::try_from(at).unwrap()] == zero));
            }
        }
    }

    /// A disk of ours on a larger one is what would have been built for it.
    #[test]
    fn a_fitted_table_is_whole(
        large: bool, mib in 6..9u64, grow: bool,
        more in prop_oneof![Just(0), 0..5 * MIB, Just(MIB), Just(512)],
        limit in prop::option::of(8 * MIB..14 * MIB),
    ) {
        let sector_size = if large { SectorSize::B4096 } else { SectorSize::B512 };
        let (disk, layout) = table_disk(sector_size, mib);
        let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
        prop_assert_eq!(&table.faults, &[]);
        let size = (layout.disk_size + more).next_multiple_of(sector_size.bytes());
        let device = Space { size, sector_size: Some(sector_size.bytes()), limit };
        let fitted = Fitted::new(&disk, Tables::Gpt(&table), grow.then_some(2), device).unwrap();
        let medium = Fake::new(size);
        flash_quietly(&fitted, &medium).unwrap();
        assert_holds(&medium, &fitted);
        let found = Table::read(&medium.bytes()).unwrap().unwrap();
        prop_assert_eq!((&found.faults, fitted.note()), (&vec![], None));
        prop_assert_eq!(found.backup.as_ref().unwrap().lba.0 + 1, size / sector_size.bytes());
        let (old, new) = (&table.partitions()[1], &found.partitions()[1]);
        prop_assert_eq!((&table.partitions()[0], old.first), (&found.partitions()[0], new.first));
        let end = (new.last.0 + 1) * sector_size.bytes();
        let room = size.min(limit.unwrap_or(size));
        let old_end = (old.last.0 + 1) * sector_size.bytes();
        if grow && room >= old_end + 2 * MIB {
            prop_assert!(end.is_multiple_of(MIB) && end <= room && end + 2 * MIB > room, "{} of {}", end, room);
        } else if !grow || room <= old_end {
            prop_assert_eq!(end, old_end);
        }
        // Both headers of the old table must not be found beside the new one.
        if size > layout.disk_size {
            let at = usize::try_from(layout.disk_size - sector_size.bytes()).unwrap();
            prop_assert!(&medium.bytes()[at..at + 8] != b"EFI PART");
        }
    }
}

#[test]
fn a_fitted_table_is_what_another_build_gives() {
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let (disk, _) = table_disk(sector_size, 8);
        let (wanted, layout) = table_disk(sector_size, 20);
        let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
        let fitted = Fitted::new(&disk, Tables::Gpt(&table), Some(2), space(layout.disk_size)).unwrap();
        let grown = fitted.grown().unwrap();
        assert_eq!((grown.number, grown.from, grown.to), (2, 7 * MIB, 19 * MIB));
        let read = |range: Range<u64>| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap() + 1];
            fitted.reader().unwrap().read(range, &mut bytes).unwrap();
            bytes.pop();
            bytes
        };
        assert!(read(0..MIB) == wanted.bytes[..1 << 20] && read(19 * MIB..20 * MIB) == wanted.bytes[19 << 20..]);
        assert!(read(18 * MIB..19 * MIB).iter().all(|&byte| byte == 0), "old superblocks at the end are gone");
        assert!(fitted.map().within(18 * MIB..19 * MIB).any(|extent| extent.range.end == 19 * MIB));
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let (disk, layout) = table_disk(SectorSize::B512, 8);
    let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
    let fit = |tables: Tables<'_>, size: u64, sector: u64| {
        let space = Space { size, sector_size: Some(sector), limit: None };
        Fitted::new(&disk, tables, Some(2), space).map(drop).map_err(|error| error.to_string())
    };
    let limited = |limit| {
        let space = Space { size: 20 * MIB, sector_size: None, limit: Some(limit) };
        Fitted::new(&disk, Tables::Gpt(&table), Some(2), space).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(limited(7 * MIB), Ok(()));
    // Room between the last partition and the backup is not needed.
    assert_eq!(fit(Tables::Gpt(&table), 7 * MIB + 33 * 512, 512), Ok(()));
    let lines = [
        fit(Tables::Gpt(&table), 7 * MIB + 32 * 512, 512).unwrap_err(),
        fit(Tables::Gpt(&table), 0, 512).unwrap_err(),
        fit(Tables::Gpt(&table), 1 << 40, 4096).unwrap_err(),
        fit(Tables::None, layout.disk_size - 512, 4096).unwrap_err(),
        limited(7 * MIB - 1).unwrap_err(),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    the device has 7356416 bytes, 512 too few: this needs 7356928; use a larger one
    the device has 0 bytes, 7356928 too few: this needs 7356928; use a larger one
    the device has sectors of 4096 bytes, and the partition table counts in sectors of 512, so that nothing would boot from it; build the image with sectorSize = 4096 (sane.image.sectorSize) for this device
    the device has 8388096 bytes, 512 too few: this needs 8388608; use a larger one
    partitions may take the first 7340031 bytes of the device, but they end at byte 7340032 already; raise `--size` to 7340032
    ");
}

/// The state of a medium that loses its power: what was flushed is there, and of the rest whatever it likes.
fn states(events: &[Event], size: u64) -> impl Iterator<Item = Vec<u8>> + '_ {
    let apply = |bytes: &mut Vec<u8>, event: &Event| match event {
        Event::Write(at, written) => bytes[span(&(*at..at + written.len() as u64))].copy_from_slice(written),
        Event::Zero(range) | Event::Discard(range) => bytes[span(range)].fill(0),
        Event::Flush => {}
    };
    (0..=events.len()).flat_map(move |count| {
        let happened = &events[..count];
        let flushed = happened.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |at| at + 1);
        // All of it, nothing of what was not flushed, or every second of that.
        [(1, 0), (usize::MAX, 1), (2, 0), (2, 1)].into_iter().map(move |(step, phase)| {
            let mut bytes = vec![OLD; usize::try_from(size).unwrap()];
            // The medium was full of an old table, which is all that can be found too early.
            bytes[512..520].copy_from_slice(b"EFI PART");
            happened[..flushed].iter().for_each(|event| apply(&mut bytes, event));
            let late = happened[flushed..].iter().enumerate();
            late.filter(|(at, _)| at % step == phase).for_each(|(_, event)| apply(&mut bytes, event));
            bytes
        })
    })
}

/// Whenever there is a table, everything else is there.
#[test]
fn no_moment_shows_a_table_too_early() {
    let (disk, layout) = table_disk(SectorSize::B512, 8);
    let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
    for discarded in [None, Some(0)] {
        let size = layout.disk_size + MIB + 512;
        let fitted = Fitted::new(&disk, Tables::Gpt(&table), Some(2), space(size)).unwrap();
        let medium = Fake { discarded, ..Fake::new(size) };
        flash_quietly(&fitted, &medium).unwrap();
        let whole = medium.bytes();
        let events = medium.events.lock().unwrap().clone();
        let (mut early, mut late) = (0, 0);
        for bytes in states(&events, size).skip(4 * 4) {
            let starts = |at: usize| bytes[at..at + 8] == *b"EFI PART";
            let end = bytes.len() - 512;
            if starts(512) || starts(end) || bytes[510..512] == [0x55, 0xaa] {
                let range = span(&(MIB..size - 2 * MIB));
                assert!(
                    fitted
                        .map()
                        .within(MIB..size - 2 * MIB)
                        .all(|extent| bytes[span(&extent.range)] == whole[span(&extent.range)])
                );
                assert!(!range.is_empty());
                late += 1;
            } else {
                early += 1;
            }
        }
        assert!(early > 10 && late > 3, "{early} {late}");
        assert!(events.iter().filter(|event| matches!(event, Event::Flush)).count() >= 5);
        let order = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap_or(usize::MAX);
        let first_discard = order(|event| matches!(event, Event::Discard(_)));
        assert!(first_discard > order(|event| matches!(event, Event::Flush)), "old tables go first, for good");
    }
}

#[test]
fn broken_media_are_told_with_their_state() {
    let (disk, layout) = table_disk(SectorSize::B512, 8);
    let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
    let size = layout.disk_size;
    let fitted = Fitted::new(&disk, Tables::Gpt(&table), None, space(size)).unwrap();
    let told = |medium: Fake| {
        let error = flash_quietly(&fitted, &medium).unwrap_err();
        let bytes = medium.bytes();
        let has_table = Table::read(&bytes).unwrap().is_some();
        assert!(!has_table || error.state == State::Doubtful, "{error}");
        format!("{:?}: {error}", error.state)
    };
    let broken = |byte: u64| Fake { broken: Some(byte), ..Fake::new(size) };
    let lying = |byte: u64| Fake { lying: Some(byte), ..Fake::new(size) };
    let losing = |flushes: u64| Fake { flushes_left: AtomicU64::new(flushes), ..Fake::new(size) };
    let lines = [broken(2 * MIB + 5000), lying(2 * MIB + 5001), lying(3 * MIB + 1000), losing(0), losing(2), losing(4)]
        .map(told);
    insta::assert_snapshot!(lines.join("\n"), @r"
    Unusable: cannot write at byte 2097152: broken (try another port, cable or reader; if it happens again at the same byte, the device is broken); the card is not usable: it has no partition table and no filesystem now; run the command again
    WipedAgain: byte 2102153 (byte 2102152 of the nix) is 0x1f, but 0x9f was written; the device or its reader is broken, or smaller than it says: use another; its partition table was wiped again, so that nobody thinks that the card is good
    WipedAgain: byte 3146728 (byte 3146727 of the nix) is 0x80, but 0x00 was written; the device or its reader is broken, or smaller than it says: use another; its partition table was wiped again, so that nobody thinks that the card is good
    Doubtful: the device did not store what was written: lost (try another port, cable or reader; if it happens again at the same byte, the device is broken); the card is not usable, although it may have a partition table; do not boot it
    Unusable: the device did not store what was written: lost (try another port, cable or reader; if it happens again at the same byte, the device is broken); the card is not usable: it has no partition table and no filesystem now; run the command again
    Unusable: the device did not store what was written: lost (try another port, cable or reader; if it happens again at the same byte, the device is broken); the card is not usable: it has no partition table and no filesystem now; run the command again
    ");
    // What nobody reads may be broken.
    flash_quietly(&fitted, &broken(4 * MIB)).unwrap();
    flash_quietly(&fitted, &lying(4 * MIB)).unwrap();
}

/// Asks to stop when a stage starts.
struct StopAt<'a>(&'static str, &'a Cancel);

impl Progress for StopAt<'_> {
    fn stage(&self, name: &str, _: u64, _: u64) {
        if name == self.0 {
            self.1.request(2);
        }
    }
    fn advance(&self, _: u64, _: u64) {}
    fn relay(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

#[test]
fn a_stop_tells_the_state() {
    let (disk, layout) = table_disk(SectorSize::B512, 8);
    let table = Table::read(&SourceBytes(&disk)).unwrap().unwrap();
    let fitted = Fitted::new(&disk, Tables::Gpt(&table), None, space(layout.disk_size)).unwrap();
    let stop = |stage| {
        let (medium, cancel) = (Fake { discarded: Some(0), ..Fake::new(layout.disk_size) }, Cancel::new());
        let result = run(&fitted, &medium, &cancel, &StopAt(stage, &cancel));
        let has_table = Table::read(&medium.bytes()).unwrap().is_some();
        result.map(|_| has_table).map_err(|error| (error.state, has_table))
    };
    assert_eq!(stop("wiping the old partition table"), Err((State::Unusable, false)));
    assert_eq!(stop("discarding free space"), Err((State::Unusable, false)));
    assert_eq!(stop("writing"), Err((State::Unusable, false)));
    assert_eq!(stop("reading back"), Err((State::NotCompared, true)));
    let (medium, cancel) = (Fake::new(layout.disk_size), Cancel::new());
    cancel.request(15);
    let error = run(&fitted, &medium, &cancel, &Silent).unwrap_err();
    assert_eq!(error.to_string(), "stopped by signal 15; nothing was written to the card");
    assert!(medium.events.lock().unwrap().is_empty());
}

/// Of a disk without a table, the first MiB comes last.
#[test]
fn a_bare_filesystem_has_its_start_last() {
    let disk = Memory::new(ImageMap::unknown(9 * MIB));
    let fitted = Fitted::new(&disk, Tables::None, None, space(9 * MIB)).unwrap();
    let medium = Fake::new(9 * MIB);
    let options = Options { threads: NonZeroUsize::MIN, engine: Engine::Auto };
    let means = Means { options, progress: &Silent, cancel: &Cancel::new() };
    let flashed = flash(&fitted, &medium, Check::None, &unknown, means).unwrap();
    assert!(!flashed.is_compared && medium.bytes() == disk.bytes);
    let events = medium.events.lock().unwrap();
    let starts = events.iter().filter_map(|event| match event {
        Event::Write(at, bytes) if bytes.iter().any(|&byte| byte != 0) => Some(*at),
        _ => None,
    });
    let starts: Vec<_> = starts.collect();
    let (last, rest) = starts.split_last().unwrap();
    let first_of_ends = rest.iter().position(|&at| at < MIB).unwrap();
    assert_eq!(*last, 0);
    assert!(rest[..first_of_ends].iter().all(|&at| at >= MIB) && rest[first_of_ends..].iter().all(|&at| at < MIB));
}
