//! Writes the filesystem that a [`VfatLayout`] describes.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::cache::{Cache, Handle};
use super::directory;
use super::error::VfatError;
use super::format::END_OF_CHAIN;
use super::geometry::FIRST_CLUSTER;
use super::layout::VfatLayout;
use crate::progress::{Cancel, Progress, Silent};
use crate::read;
use crate::source::tree::{FileTree, NodeIndex, NodeKind, Origin};

/// The sector of the free-space summary, and of its copy. fatfs writes the boot sector's copy to sector 6.
const FS_INFO: u64 = 1;
const BACKUP_FS_INFO: u64 = 7;
/// Where FSInfo holds the number of free clusters; the hint where to look for one follows.
const FREE_COUNT: u64 = 488;
/// FSInfo's word for "no hint".
const UNKNOWN: u32 = 0xffff_ffff;
/// Bytes that are read from a file at once.
const CHUNK: usize = 256 << 10;
/// Entries of a FAT that are written at once.
const LINKS: u32 = 1 << 16;

/// What becomes of the contents of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileContents {
    /// They are copied.
    Copied,
    /// A read of their places finds them.
    Left,
}

/// Makes the filesystem at the start of `out` and copies the files of `tree`, for which `layout` was made, into it.
///
/// Files of the tree that are not the host's come from `old`.
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
    old: Option<&dyn read::FileSystem>,
) -> Result<(), VfatError> {
    let (files, bytes) = tree.file_totals();
    progress.stage("writing the boot partition", files, bytes);
    make(layout, tree, out, FileContents::Copied, progress, cancel, old)
}

/// The same without the contents of files.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_structures(
    layout: &VfatLayout,
    tree: &FileTree,
    out: &mut (impl Read + Write + Seek),
    cancel: &Cancel,
) -> Result<(), VfatError> {
    make(layout, tree, out, FileContents::Left, &Silent, cancel, None)
}

fn make(
    layout: &VfatLayout,
    tree: &FileTree,
    out: &mut (impl Read + Write + Seek),
    contents: FileContents,
    progress: &dyn Progress,
    cancel: &Cancel,
    old: Option<&dyn read::FileSystem>,
) -> Result<(), VfatError> {
    let cache = RefCell::new(Cache::new(out, layout.size()));
    let writer = Writer { layout, tree, cache: &cache, contents, old, progress, cancel };
    writer.format()?;
    writer.check_format()?;
    let mut buffer = vec![0; CHUNK];
    for node in tree.nodes() {
        cancel.check()?;
        writer.node(node, &mut buffer)?;
    }
    writer.write_fs_info(layout.used_clusters())?;
    cache.into_inner().finish().map_err(VfatError::io("writing back"))
}

struct Writer<'a, W> {
    layout: &'a VfatLayout,
    tree: &'a FileTree,
    cache: &'a RefCell<Cache<W>>,
    contents: FileContents,
    old: Option<&'a dyn read::FileSystem>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl<W: Read + Write + Seek> Writer<'_, W> {
    /// Makes an empty filesystem.
    fn format(&self) -> Result<(), VfatError> {
        let geometry = self.layout.geometry();
        let unplanned = |_| VfatError::Unplanned { what: "a size out of range".to_owned() };
        let options = FormatVolumeOptions::new()
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
        let options = self.layout.label().iter().fold(options, |options, label| options.volume_label(*label));
        fatfs::format_volume(Handle::new(self.cache), options).map_err(VfatError::io("formatting"))?;
        // The root has a cluster. fatfs would not know, and count.
        self.write_fs_info(1)
    }

    /// The empty filesystem must have the measures that the layout has.
    fn check_format(&self) -> Result<(), VfatError> {
        let open = FileSystem::new(Handle::new(self.cache), FsOptions::new());
        let stats = open.and_then(|filesystem| filesystem.stats()).map_err(VfatError::io("mounting"))?;
        expect_equal("clusters", stats.total_clusters(), self.layout.clusters())?;
        expect_equal("cluster size", u64::from(stats.cluster_size()), self.layout.cluster_size())
    }

    /// Writes a directory's entries or a file's contents, and which clusters they have.
    fn node(&self, node: NodeIndex, buffer: &mut [u8]) -> Result<(), VfatError> {
        let geometry = self.layout.geometry();
        match self.tree.kind(node) {
            NodeKind::Directory => {
                let clusters = self.layout.directory_clusters(node);
                let entries = directory::bytes(self.layout, self.tree, node);
                let size = usize::try_from(geometry.cluster_size).expect("clusters are small");
                let planned = u64::try_from(clusters.len()).ok();
                if planned != Some(geometry.clusters_for(entries.len() as u64).max(1)) {
                    let path = self.tree.path(node);
                    return Err(VfatError::Unplanned { what: format!("the directory /{}", path.display()) });
                }
                for (cluster, piece) in clusters.iter().zip(entries.chunks(size)) {
                    self.write(geometry.cluster_offset(*cluster).0, piece, "writing a directory")?;
                }
                let mut links = clusters.iter().zip(clusters.iter().skip(1).chain([&END_OF_CHAIN]));
                links.try_for_each(|(cluster, next)| self.link(*cluster, &next.to_le_bytes()))
            }
            NodeKind::File { size } => {
                let clusters = u32::try_from(geometry.clusters_for(size)).expect("the tree fits");
                let first = self.layout.place(node).cluster;
                self.link_file(first, clusters)?;
                match self.contents {
                    FileContents::Copied => self.copy(node, size, buffer),
                    FileContents::Left => Ok(()),
                }
            }
            NodeKind::Symlink(_) => Err(VfatError::Symlink { path: self.tree.path(node) }),
        }
    }

    /// Links `count` clusters from `first` on.
    fn link_file(&self, first: u32, count: u32) -> Result<(), VfatError> {
        let mut at = first;
        let end = first + count;
        while at < end {
            let next = end.min(at + LINKS);
            let links = (at..next).map(|cluster| if cluster + 1 == end { END_OF_CHAIN } else { cluster + 1 });
            self.link(at, &links.flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
            at = next;
        }
        Ok(())
    }

    /// Writes entries of both FATs from that of `cluster` on.
    fn link(&self, cluster: u32, links: &[u8]) -> Result<(), VfatError> {
        let copies = self.layout.geometry().fat_entries(cluster);
        copies.iter().try_for_each(|at| self.write(at.0, links, "writing the FATs"))
    }

    fn write(&self, at: u64, bytes: &[u8], doing: &'static str) -> Result<(), VfatError> {
        self.cache.borrow_mut().write_at(at, bytes).map_err(VfatError::io(doing))
    }

    /// Opens what a file's contents come from.
    fn open(&self, node: NodeIndex) -> Result<Source<'_>, VfatError> {
        let no_source = || VfatError::NoSource { path: self.tree.path(node) };
        match self.tree.origin(node).ok_or_else(no_source)? {
            Origin::Host(path) => {
                let file = File::open(&path).map_err(|source| VfatError::Source { path: path.clone(), source })?;
                Ok(Source { path, from: Reading::Host(file) })
            }
            Origin::Image(path) => {
                let opened = self.old.ok_or_else(no_source)?.open(&path);
                let contents = opened.map_err(|source| VfatError::Image { path: path.clone(), source })?;
                Ok(Source { path, from: Reading::Image(contents) })
            }
        }
    }

    /// Copies the contents of the file `node`, of `size` bytes.
    fn copy(&self, node: NodeIndex, size: u64, buffer: &mut [u8]) -> Result<(), VfatError> {
        let mut source = self.open(node)?;
        let changed = |source: &Source<'_>, found| {
            let path = source.path.clone();
            VfatError::SourceChanged { path, expected: size, found }
        };
        let now = source.len()?;
        if now.is_some_and(|now| now != size) {
            return Err(changed(&source, now.unwrap_or(0)));
        }
        let start = match self.layout.place(node).cluster {
            0 => 0,
            cluster => self.layout.geometry().cluster_offset(cluster).0,
        };
        let mut done = 0;
        loop {
            self.cancel.check()?;
            let len = source.read(done, buffer)?;
            if len == 0 || done + len as u64 > size {
                done += len as u64;
                break;
            }
            self.write(start + done, &buffer[..len], "copying a file")?;
            done += len as u64;
            self.progress.advance(0, len as u64);
        }
        if done != size {
            return Err(changed(&source, done));
        }
        self.progress.advance(1, 0);
        Ok(())
    }

    /// Writes to FSInfo and its copy that the first `used` clusters are in use.
    fn write_fs_info(&self, used: u32) -> Result<(), VfatError> {
        let clusters = self.layout.clusters();
        let next = if used < clusters { FIRST_CLUSTER + used } else { UNKNOWN };
        let sector_size = self.layout.geometry().sector_size;
        let mut sector = [0; 512];
        let mut cache = self.cache.borrow_mut();
        let mut patch = || {
            cache.write_at(FS_INFO * sector_size + FREE_COUNT, &(clusters - used).to_le_bytes())?;
            cache.write_at(FS_INFO * sector_size + FREE_COUNT + 4, &next.to_le_bytes())?;
            cache.read_at(FS_INFO * sector_size, &mut sector)?;
            cache.write_at(BACKUP_FS_INFO * sector_size, &sector)
        };
        patch().map_err(VfatError::io("writing FSInfo"))
    }
}

/// What is copied.
struct Source<'a> {
    path: PathBuf,
    from: Reading<'a>,
}

enum Reading<'a> {
    Host(File),
    Image(Box<dyn read::Contents + 'a>),
}

impl Source<'_> {
    /// Its length in bytes, if that can have changed since the tree was made.
    fn len(&self) -> Result<Option<u64>, VfatError> {
        match &self.from {
            Reading::Host(file) => file.metadata().map(|metadata| Some(metadata.len())).map_err(|e| self.failed(e)),
            Reading::Image(_) => Ok(None),
        }
    }

    /// Reads what comes next, `done` bytes into it.
    fn read(&mut self, done: u64, buffer: &mut [u8]) -> Result<usize, VfatError> {
        match &mut self.from {
            Reading::Host(file) => file.read(buffer).map_err(|e| self.failed(e)),
            Reading::Image(contents) => {
                let path = &self.path;
                contents.read_at(done, buffer).map_err(|source| VfatError::Image { path: path.clone(), source })
            }
        }
    }

    fn failed(&self, source: io::Error) -> VfatError {
        VfatError::Source { path: self.path.clone(), source }
    }
}

fn expect_equal<T: PartialEq + std::fmt::Display>(what: &str, found: T, planned: T) -> Result<(), VfatError> {
    if found == planned {
        return Ok(());
    }
    Err(VfatError::Unplanned { what: format!("{what}: {planned} planned, {found} found") })
}
