//! Reads FAT12, FAT16 and FAT32, whoever wrote them, through the crate `fatfs`.
//!
//! fatfs trusts what it reads: some bytes make it panic, recurse or stop short. So the whole tree is walked first, by
//! code that trusts nothing, and fatfs sees only what that walk has found readable.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use fatfs::{Dir, DirEntry, File};

use super::names;
use super::volume::{Bits, Next, Shape, Walk, shape};
use crate::read::{Bytes, Contents, Entry, FileId, FileSystem, Format, Kind, Metadata, ReadError, Summary};
use crate::units::ByteOffset;

/// Whether these bytes start with a FAT boot sector.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    shape::boot_sector(bytes).is_ok_and(|boot| shape::is_fat(&boot))
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no FAT, or if a directory or the clusters of a file are corrupt.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let shape = Shape::new(&*bytes)?;
    if shape.is_small_fat32() {
        // fatfs would refuse it, too, but not say as much.
        return Err(ReadError::Unsupported(format!(
            "FAT32 with {} clusters, which is too few: firmware may take it for FAT16; make it larger, or its clusters \
             smaller",
            shape.clusters
        )));
    }
    let free = gate(&*bytes, &shape)?;
    let len = bytes.len();
    let disk = Disk { bytes, position: 0, window: Vec::new(), start: 0 };
    let fat = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).map_err(|e| convert(e, Path::new("")))?;
    let label = fat.read_volume_label_from_root_dir().map_err(|e| convert(e, Path::new("")))?;
    let id = shape.volume_id();
    let label = label.unwrap_or_else(|| fat.volume_label());
    let summary = Summary {
        format: Format::Vfat,
        label: if label == "NO NAME" { String::new() } else { label },
        uuid: format!("{:04X}-{:04X}", id >> 16, id & 0xffff),
        size: u64::from(shape.sectors).saturating_mul(shape.sector.into()),
        free: u64::from(free).saturating_mul(shape.cluster.into()),
        block_size: shape.cluster,
        features: vec![
            match shape.bits {
                Bits::Fat12 => "fat12",
                Bits::Fat16 => "fat16",
                Bits::Fat32 => "fat32",
            }
            .to_owned(),
        ],
        max_entries: len / u64::from(shape::ENTRY_BYTES),
    };
    Ok(Reader { fat, summary })
}

/// Refuses what fatfs would not survive or would read wrong; tells how many clusters are free.
fn gate(bytes: &dyn Bytes, shape: &Shape) -> Result<u32, ReadError> {
    let mut walk = Walk::new(bytes, shape);
    walk.run()?;
    walk.blame()?;
    if let Some(fault) = walk.fatal() {
        return Err(ReadError::Corrupt(fault.clone()));
    }
    let mut free = 0u32;
    for cluster in 2..shape.clusters.saturating_add(2) {
        free = free.saturating_add(u32::from(walk.table().next(cluster)? == Next::Free));
    }
    Ok(free)
}

/// A FAT filesystem, open for reading.
pub struct Reader {
    fat: fatfs::FileSystem<Disk>,
    summary: Summary,
}

/// Bytes that are read at once where fatfs asks for a few: it takes the table and directories apart by the byte.
const WINDOW: u64 = 4096;

struct Disk {
    bytes: Arc<dyn Bytes>,
    position: u64,
    window: Vec<u8>,
    /// Where the window starts.
    start: u64,
}

impl Disk {
    /// Reads through the window.
    fn read_few(&mut self, buf: &mut [u8]) -> Result<usize, ReadError> {
        let start = self.position / WINDOW * WINDOW;
        if self.window.is_empty() || start != self.start {
            let len = self.bytes.len().saturating_sub(start).min(WINDOW);
            self.window.resize(usize::try_from(len).unwrap_or(0), 0);
            self.start = start;
            self.bytes.read_exact_at(ByteOffset(start), &mut self.window)?;
        }
        let at = usize::try_from(self.position.saturating_sub(start)).unwrap_or(usize::MAX);
        let rest = self.window.get(at..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(len)
    }
}

impl Read for Disk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = if (buf.len() as u64) < WINDOW {
            self.read_few(buf).map_err(io::Error::other)?
        } else {
            self.bytes.read_exact_at(ByteOffset(self.position), buf).map_err(io::Error::other)?;
            buf.len()
        };
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.bytes.len().checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Write for Disk {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn convert(error: io::Error, path: &Path) -> ReadError {
    match error.downcast::<ReadError>() {
        Ok(error) => error,
        Err(error) => ReadError::corrupt(format!("FAT ({})", escaped(path)), error.to_string()),
    }
}

/// What a path leads to.
enum Found<'a> {
    Root(Dir<'a, Disk>),
    Entry(DirEntry<'a, Disk>),
}

impl Reader {
    fn find(&self, path: &Path) -> Result<Found<'_>, ReadError> {
        let mut found = Found::Root(self.fat.root_dir());
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(ReadError::NotFound(escaped(path))) };
            let name = name.to_str().ok_or_else(|| ReadError::NotFound(escaped(path)))?;
            let directory = directory(found, path)?;
            let mut next = None;
            for entry in directory.iter() {
                let entry = entry.map_err(|e| convert(e, path))?;
                if !is_dots(&entry) && names::folded(&name_of(&entry)) == names::folded(name) {
                    next = Some(entry);
                    break;
                }
            }
            found = Found::Entry(next.ok_or_else(|| ReadError::NotFound(escaped(path)))?);
        }
        Ok(found)
    }
}

fn is_dots(entry: &DirEntry<'_, Disk>) -> bool {
    matches!(entry.short_file_name_as_bytes(), b"." | b"..")
}

/// The name of an entry: a long one up to its first NUL, as Linux takes it, if that can be a name. [`gate`] has judged the
/// short one.
fn name_of(entry: &DirEntry<'_, Disk>) -> String {
    let mut name = entry.file_name();
    if let Some(end) = name.find('\0') {
        name.truncate(end);
    }
    let is_fit = !name.contains('/') && !matches!(name.as_str(), "" | "." | "..");
    if is_fit { name } else { entry.short_file_name() }
}

fn directory<'a>(found: Found<'a>, path: &Path) -> Result<Dir<'a, Disk>, ReadError> {
    match found {
        Found::Root(directory) => Ok(directory),
        Found::Entry(entry) if entry.is_dir() => Ok(entry.to_dir()),
        Found::Entry(_) => Err(ReadError::NotADirectory(escaped(path))),
    }
}

fn metadata(entry: &DirEntry<'_, Disk>) -> Metadata {
    let kind = if entry.is_dir() { Kind::Directory } else { Kind::File };
    let permissions = if kind == Kind::Directory { 0o755 } else { 0o644 };
    Metadata { kind, permissions, uid: 0, gid: 0, len: entry.len(), mtime: seconds(entry.modified()) }
}

/// Seconds since 1970, for a clock that showed UTC.
fn seconds(time: fatfs::DateTime) -> i64 {
    let (year, month, day) = (i64::from(time.date.year), i64::from(time.date.month), i64::from(time.date.day));
    // Days from civil: years start in March, so that leap days end them.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let time = time.time;
    days * 86_400 + i64::from(time.hour) * 3600 + i64::from(time.min) * 60 + i64::from(time.sec)
}

impl FileSystem for Reader {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        for entry in directory(self.find(path)?, path)?.iter() {
            let entry = entry.map_err(|e| convert(e, path))?;
            if !is_dots(&entry) {
                entries.push(Entry { name: name_of(&entry).into(), id: None, metadata: metadata(&entry) });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// None: [`gate`] lets no cluster belong to two.
    fn id(&self, path: &Path) -> Result<Option<FileId>, ReadError> {
        self.find(path).map(|_| None)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        Ok(match self.find(path)? {
            Found::Root(_) => Metadata { kind: Kind::Directory, permissions: 0o755, uid: 0, gid: 0, len: 0, mtime: 0 },
            Found::Entry(entry) => metadata(&entry),
        })
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        self.find(path)?;
        Err(ReadError::WrongKind { path: escaped(path), wanted: "symbolic link" })
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        match self.find(path)? {
            Found::Entry(entry) if entry.is_file() => {
                Ok(Box::new(OpenFile { file: entry.to_file(), len: entry.len(), position: 0, path: path.to_owned() }))
            }
            _ => Err(ReadError::WrongKind { path: escaped(path), wanted: "regular file" }),
        }
    }
}

struct OpenFile<'a> {
    file: File<'a, Disk>,
    len: u64,
    position: u64,
    path: PathBuf,
}

impl Contents for OpenFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        if offset >= self.len {
            return Ok(0);
        }
        if offset != self.position {
            self.position = self.file.seek(SeekFrom::Start(offset)).map_err(|e| convert(e, &self.path))?;
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest).map_err(|e| convert(e, &self.path))? {
                0 => break,
                read => done += read,
            }
        }
        self.position = self.position.saturating_add(done as u64);
        Ok(done)
    }
}
