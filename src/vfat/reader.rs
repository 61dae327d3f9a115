//! Reads FAT12, FAT16 and FAT32, whoever wrote them, through the crate `fatfs`.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use fatfs::{Dir, DirEntry, File};

use crate::read::{Bytes, Contents, Entry, FileSystem, Format, Kind, Metadata, ReadError, Summary};
use crate::units::ByteOffset;

/// Whether these bytes start with a FAT boot sector.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    let mut sector = [0; 512];
    if bytes.read_exact_at(ByteOffset(0), &mut sector).is_err() {
        return false;
    }
    let sector_size = u16::from_le_bytes([sector[11], sector[12]]);
    let (per_cluster, reserved, fats) = (sector[13], u16::from_le_bytes([sector[14], sector[15]]), sector[16]);
    sector[510..] == [0x55, 0xaa]
        && sector_size.is_power_of_two()
        && (512..=4096).contains(&sector_size)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (sector[21] == 0xf0 || sector[21] >= 0xf8)
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no FAT or is corrupt.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let len = bytes.len();
    let disk = Disk { bytes, position: 0 };
    let fat = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).map_err(|e| convert(e, Path::new("")))?;
    let stats = fat.stats().map_err(|e| convert(e, Path::new("")))?;
    let label = fat.read_volume_label_from_root_dir().map_err(|e| convert(e, Path::new("")))?;
    let id = fat.volume_id();
    let cluster = u64::from(stats.cluster_size());
    let summary = Summary {
        format: Format::Vfat,
        label: label.unwrap_or_else(|| fat.volume_label()),
        uuid: format!("{:04X}-{:04X}", id >> 16, id & 0xffff),
        size: u64::from(stats.total_clusters()) * cluster,
        free: u64::from(stats.free_clusters()) * cluster,
        block_size: stats.cluster_size(),
        features: vec![format!("{:?}", fat.fat_type()).to_lowercase()],
        max_entries: len / 32,
    };
    Ok(Reader { fat, summary })
}

/// A FAT filesystem, open for reading.
pub struct Reader {
    fat: fatfs::FileSystem<Disk>,
    summary: Summary,
}

struct Disk {
    bytes: Arc<dyn Bytes>,
    position: u64,
}

impl Read for Disk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.bytes.read_exact_at(ByteOffset(self.position), buf).map_err(io::Error::other)?;
        self.position += buf.len() as u64;
        Ok(buf.len())
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
                if entry.file_name().to_uppercase() == name.to_uppercase() {
                    next = Some(entry);
                    break;
                }
            }
            found = Found::Entry(next.ok_or_else(|| ReadError::NotFound(escaped(path)))?);
        }
        Ok(found)
    }
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
            let name = entry.file_name();
            if name != "." && name != ".." {
                entries.push(Entry { name: name.into(), metadata: metadata(&entry) });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
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
                Ok(Box::new(OpenFile { file: RefCell::new(entry.to_file()), position: 0, path: path.to_owned() }))
            }
            _ => Err(ReadError::WrongKind { path: escaped(path), wanted: "regular file" }),
        }
    }
}

struct OpenFile<'a> {
    file: RefCell<File<'a, Disk>>,
    position: u64,
    path: std::path::PathBuf,
}

impl Contents for OpenFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let file = self.file.get_mut();
        if offset != self.position {
            self.position = file.seek(SeekFrom::Start(offset)).map_err(|e| convert(e, &self.path))?;
            if self.position != offset {
                return Ok(0);
            }
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(|e| convert(e, &self.path))? {
                0 => break,
                read => done += read,
            }
        }
        self.position += done as u64;
        Ok(done)
    }
}
