//! Has fatfs make the filesystem that a [`VfatLayout`] foresees, and corrects what falls short of the specification.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, Write};

use fatfs::{Date, DateTime, Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

use super::cache::{Cache, Handle};
use super::error::VfatError;
use super::geometry::FIRST_CLUSTER;
use super::layout::{ENTRY, VfatLayout, creation_order};
use super::names;
use crate::progress::{Cancel, Progress};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};

/// The sector of the free-space summary, and of its copy. fatfs writes the boot sector's copy to sector 6.
const FS_INFO: u64 = 1;
const BACKUP_FS_INFO: u64 = 7;
/// Where FSInfo holds the number of free clusters; the hint where to look for one follows.
const FREE_COUNT: u64 = 488;
/// FSInfo's word for "no hint".
const UNKNOWN: u32 = 0xffff_ffff;
/// 1980-01-01, the first day that FAT knows.
const EPOCH: [u8; 2] = 0x0021u16.to_le_bytes();
/// Bytes that are read from a file at once.
const CHUNK: usize = 256 << 10;

/// An entry of a directory, raw.
type Entry = [u8; ENTRY as usize];
/// Fields of an entry: see the specification's "FAT directory structure".
const ATTRIBUTES: usize = 11;
const LONG_NAME: u8 = 0x0f;
const LONG_NAME_CHECKSUM: usize = 13;
const CREATION_DATE: usize = 16;
const ACCESS_DATE: usize = 18;
const CLUSTER_HIGH: usize = 20;
const WRITE_DATE: usize = 24;
const CLUSTER_LOW: usize = 26;

/// Midnight of 1980-01-01 on every file.
#[derive(Debug)]
struct Epoch;

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// Makes the filesystem at the start of `out` and copies the files of `tree`, for which `layout` was made, into it.
///
/// `out` must be fresh: its first [`size`](VfatLayout::size) bytes exist and read as zeros. Zeros are not written, so
/// that what is free stays a hole.
///
/// # Errors
/// If a file cannot be read, has another size than in the tree, or `out` cannot be written.
pub fn write(
    layout: &VfatLayout,
    tree: &FileTree,
    out: &mut (impl Read + Write + Seek),
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), VfatError> {
    let (files, bytes) = tree.file_totals();
    progress.stage("writing the boot partition", files, bytes);
    let cache = RefCell::new(Cache::new(out, layout.size()));
    let writer = Writer { layout, tree, cache: &cache, progress, cancel };
    writer.format()?;
    let filesystem = writer.mount()?;
    writer.fill(NodeIndex::ROOT, &filesystem.root_dir(), &mut vec![0; CHUNK])?;
    let free = filesystem.stats().map_err(VfatError::io("counting free clusters"))?.free_clusters();
    expect_equal("free clusters", free, layout.free_clusters())?;
    filesystem.unmount().map_err(VfatError::io("unmounting"))?;
    writer.write_fs_info(layout.used_clusters(), BACKUP_FS_INFO)?;
    cache.into_inner().finish().map_err(VfatError::io("writing back"))
}

struct Writer<'a, W> {
    layout: &'a VfatLayout,
    tree: &'a FileTree,
    cache: &'a RefCell<Cache<W>>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl<'a, W: Read + Write + Seek> Writer<'a, W> {
    /// Makes an empty filesystem and corrects it: FSInfo gets its count, the label its date.
    fn format(&self) -> Result<(), VfatError> {
        let geometry = self.layout.geometry();
        let unplanned = |_| VfatError::Unplanned { what: "a size out of range".to_owned() };
        let mut options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_sector(u16::try_from(geometry.sector_size).map_err(unplanned)?)
            .bytes_per_cluster(u32::try_from(geometry.cluster_size).map_err(unplanned)?)
            .total_sectors(geometry.sectors)
            .volume_id(self.layout.params().volume_id)
            .fats(2)
            // A fixed disk, of the translated geometry that all large disks report.
            .media(0xf8)
            .drive_num(0x80)
            .sectors_per_track(63)
            .heads(255);
        if let Some(label) = self.layout.label() {
            options = options.volume_label(label);
        }
        fatfs::format_volume(Handle::new(self.cache), options).map_err(VfatError::io("formatting"))?;
        self.write_fs_info(1, FS_INFO)?;
        if self.layout.label().is_some() {
            let mut entry = self.entry(NodeIndex::ROOT, 0)?;
            for field in [CREATION_DATE, ACCESS_DATE, WRITE_DATE] {
                entry[field..field + 2].copy_from_slice(&EPOCH);
            }
            self.set_entry(NodeIndex::ROOT, 0, &entry)?;
        }
        Ok(())
    }

    /// Opens the empty filesystem, which must have the measures that the layout has.
    fn mount(&self) -> Result<FileSystem<Handle<'a, W>>, VfatError> {
        let options = FsOptions::new().time_provider(&Epoch);
        let filesystem = FileSystem::new(Handle::new(self.cache), options).map_err(VfatError::io("mounting"))?;
        let stats = filesystem.stats().map_err(VfatError::io("mounting"))?;
        expect_equal("clusters", stats.total_clusters(), self.layout.clusters())?;
        expect_equal("cluster size", u64::from(stats.cluster_size()), self.layout.cluster_size())?;
        Ok(filesystem)
    }

    /// Creates all below `directory`.
    fn fill(&self, directory: NodeIndex, dir: &Dir<'_, Handle<'a, W>>, buffer: &mut [u8]) -> Result<(), VfatError> {
        for child in creation_order(self.tree, directory) {
            self.cancel.check()?;
            let path = || self.tree.path(child);
            let name = names::check(self.tree.name(child)).map_err(|fault| VfatError::Name { path: path(), fault })?;
            match self.tree.kind(child) {
                NodeKind::Directory(_) => {
                    let new = dir.create_dir(name).map_err(VfatError::io("creating a directory"))?;
                    self.check_created(directory, child, name)?;
                    self.correct_dots(directory, child)?;
                    self.fill(child, &new, buffer)?;
                }
                NodeKind::File { size, .. } => {
                    let new = dir.create_file(name).map_err(VfatError::io("creating a file"))?;
                    self.check_created(directory, child, name)?;
                    self.copy(child, size, new, buffer)?;
                }
                NodeKind::Symlink(_) => return Err(VfatError::Symlink { path: path() }),
            }
            self.correct_alias(directory, child, name)?;
        }
        Ok(())
    }

    /// Copies the contents of the file `node`, of `size` bytes, to `target`, and closes it.
    fn copy(
        &self,
        node: NodeIndex,
        size: u64,
        mut target: fatfs::File<'_, Handle<'a, W>>,
        buffer: &mut [u8],
    ) -> Result<(), VfatError> {
        let path = self.tree.source_path(node).ok_or_else(|| VfatError::NoSource { path: self.tree.path(node) })?;
        let fail = |source| VfatError::Source { path: path.clone(), source };
        let mut source = File::open(&path).map_err(fail)?;
        let changed = |found| VfatError::SourceChanged { path: path.clone(), expected: size, found };
        let now = source.metadata().map_err(fail)?.len();
        if now != size {
            return Err(changed(now));
        }
        let mut done = 0;
        loop {
            self.cancel.check()?;
            let len = source.read(buffer).map_err(fail)?;
            done += len as u64;
            if len == 0 || done > size {
                break;
            }
            target.write_all(&buffer[..len]).map_err(VfatError::io("copying a file"))?;
            self.progress.advance(0, len as u64);
        }
        if done != size {
            return Err(changed(done));
        }
        // Dropping it would hide an error.
        target.flush().map_err(VfatError::io("closing a file"))?;
        self.progress.advance(1, 0);
        Ok(())
    }

    /// Makes sure that fatfs made new entries for `child`, where they were foreseen.
    ///
    /// It opens an existing file instead if that one's alias equals the name.
    fn check_created(&self, directory: NodeIndex, child: NodeIndex, name: &str) -> Result<(), VfatError> {
        let short = self.entry(directory, self.layout.place(child).entry + names::long_entries(name))?;
        match short[0] {
            0 => Err(VfatError::AliasCollision { path: self.tree.path(child) }),
            _ => Ok(()),
        }
    }

    /// Makes `.` and `..` the first two entries of the new directory `child`, without long names, and lets the
    /// `..` of a directory in the root point to cluster 0, as the specification wants it.
    fn correct_dots(&self, directory: NodeIndex, child: NodeIndex) -> Result<(), VfatError> {
        let [dot, mut dotdot] = [self.entry(child, 1)?, self.entry(child, 3)?];
        if !dot.starts_with(b".          ") || !dotdot.starts_with(b"..         ") {
            return Err(VfatError::Unplanned { what: format!("the start of /{}", self.tree.path(child).display()) });
        }
        expect_equal("directory's cluster", entry_cluster(&dot), self.layout.place(child).cluster)?;
        if directory == NodeIndex::ROOT {
            dotdot[CLUSTER_LOW..CLUSTER_LOW + 2].fill(0);
            dotdot[CLUSTER_HIGH..CLUSTER_HIGH + 2].fill(0);
        }
        let zero = [0; ENTRY as usize];
        [dot, dotdot, zero, zero].iter().zip(0..).try_for_each(|(entry, at)| self.set_entry(child, at, entry))
    }

    /// Gives `child` another short alias if its own starts with a space, as that of `.env` does.
    fn correct_alias(&self, directory: NodeIndex, child: NodeIndex, name: &str) -> Result<(), VfatError> {
        let first = self.layout.place(child).entry;
        let short_at = first + names::long_entries(name);
        let mut short = self.entry(directory, short_at)?;
        if short[0] != b' ' {
            return Ok(());
        }
        let taken = self.aliases(directory)?;
        let alias = (1..).map(|n| numbered_alias(&short[8..ATTRIBUTES], n)).find(|alias| !taken.contains(alias));
        let alias = alias.ok_or_else(|| VfatError::AliasCollision { path: self.tree.path(child) })?;
        short[..ATTRIBUTES].copy_from_slice(&alias);
        self.set_entry(directory, short_at, &short)?;
        for at in first..short_at {
            let mut long = self.entry(directory, at)?;
            long[LONG_NAME_CHECKSUM] = names::short_checksum(&alias);
            self.set_entry(directory, at, &long)?;
        }
        Ok(())
    }

    /// The short names in `directory`.
    fn aliases(&self, directory: NodeIndex) -> Result<Vec<[u8; ATTRIBUTES]>, VfatError> {
        let mut aliases = Vec::new();
        for at in 0..self.layout.entries(directory) {
            let entry = self.entry(directory, at)?;
            if entry[ATTRIBUTES] != LONG_NAME {
                aliases.push(std::array::from_fn(|i| entry[i]));
            }
        }
        Ok(aliases)
    }

    fn entry(&self, directory: NodeIndex, at: u32) -> Result<Entry, VfatError> {
        let mut entry = Entry::default();
        let offset = self.layout.entry_offset(directory, at);
        self.cache.borrow_mut().read_at(offset.0, &mut entry).map_err(VfatError::io("reading a directory"))?;
        Ok(entry)
    }

    fn set_entry(&self, directory: NodeIndex, at: u32, entry: &Entry) -> Result<(), VfatError> {
        let offset = self.layout.entry_offset(directory, at);
        self.cache.borrow_mut().write_at(offset.0, entry).map_err(VfatError::io("writing a directory"))
    }

    /// Writes to FSInfo, and to `copy`, which may be the same sector, that the first `used` clusters are in use.
    fn write_fs_info(&self, used: u32, copy: u64) -> Result<(), VfatError> {
        let clusters = self.layout.clusters();
        let next = if used < clusters { FIRST_CLUSTER + used } else { UNKNOWN };
        let sector_size = self.layout.geometry().sector_size;
        let mut sector = [0; 512];
        let mut cache = self.cache.borrow_mut();
        let mut patch = || {
            cache.write_at(FS_INFO * sector_size + FREE_COUNT, &(clusters - used).to_le_bytes())?;
            cache.write_at(FS_INFO * sector_size + FREE_COUNT + 4, &next.to_le_bytes())?;
            cache.read_at(FS_INFO * sector_size, &mut sector)?;
            cache.write_at(copy * sector_size, &sector)
        };
        patch().map_err(VfatError::io("writing FSInfo"))
    }
}

/// The first cluster that an entry names.
fn entry_cluster(entry: &Entry) -> u32 {
    let half = |at| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
    half(CLUSTER_HIGH) << 16 | half(CLUSTER_LOW)
}

/// `ENV~1` for `ENV`, padded.
fn numbered_alias(base: &[u8], number: u32) -> [u8; ATTRIBUTES] {
    let mut text = base.trim_ascii_end().to_vec();
    text.extend_from_slice(format!("~{number}").as_bytes());
    std::array::from_fn(|i| text.get(i).copied().unwrap_or(b' '))
}

fn expect_equal<T: PartialEq + std::fmt::Display>(what: &str, found: T, planned: T) -> Result<(), VfatError> {
    if found == planned {
        return Ok(());
    }
    Err(VfatError::Unplanned { what: format!("{what}: {planned} planned, {found} found") })
}
