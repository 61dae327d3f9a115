//! Reads ext4, ext3 and ext2, whoever wrote them, through the crate `ext4-view`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType};

use super::format::{SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET, Superblock};
use crate::read::{Bytes, Contents, Entry, FileSystem, Format, Kind, Metadata, ReadError, Summary};
use crate::units::ByteOffset;
use zerocopy::FromZeros;
use zerocopy::IntoBytes;

/// Whether these bytes bear ext4's magic.
pub fn recognise(bytes: &dyn Bytes) -> bool {
    superblock(bytes).is_ok_and(|superblock| superblock.magic.get() == SUPERBLOCK_MAGIC)
}

/// Opens the filesystem in `bytes`.
///
/// # Errors
/// If it is no ext4, is corrupt in its superblock, descriptors or journal, or has a feature that is not supported.
pub fn open(bytes: Arc<dyn Bytes>) -> Result<Reader, ReadError> {
    let summary = summarise(&superblock(&*bytes)?, bytes.len());
    let ext4 = Ext4::load(Box::new(Source(bytes))).map_err(|e| convert(e, Path::new("")))?;
    Ok(Reader { ext4, summary })
}

/// An ext4 filesystem, open for reading.
pub struct Reader {
    ext4: Ext4,
    summary: Summary,
}

struct Source(Arc<dyn Bytes>);

impl Ext4Read for Source {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.0.read_exact_at(ByteOffset(start_byte), dst)?)
    }
}

fn superblock(bytes: &dyn Bytes) -> Result<Superblock, ReadError> {
    let mut superblock = Superblock::new_zeroed();
    bytes.read_exact_at(ByteOffset(SUPERBLOCK_OFFSET as u64), superblock.as_mut_bytes())?;
    Ok(superblock)
}

fn summarise(superblock: &Superblock, len: u64) -> Summary {
    let block_size = 1024u32.checked_shl(superblock.log_block_size.get()).unwrap_or(0);
    let join = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).saturating_mul(block_size.into());
    let label = superblock.volume_name.split(|&byte| byte == 0).next().unwrap_or_default();
    Summary {
        format: Format::Ext4,
        label: String::from_utf8_lossy(label).into_owned(),
        uuid: uuid::Uuid::from_bytes(superblock.uuid).to_string(),
        size: join(superblock.blocks_count_lo.get(), superblock.blocks_count_hi.get()),
        free: join(superblock.free_blocks_count_lo.get(), superblock.free_blocks_count_hi.get()),
        block_size,
        features: Vec::new(),
        max_entries: len / 12,
    }
}

fn absolute(path: &Path) -> Vec<u8> {
    [b"/", path.as_os_str().as_bytes()].concat()
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn convert(error: Ext4Error, path: &Path) -> ReadError {
    match error {
        Ext4Error::NotFound | Ext4Error::MalformedPath => ReadError::NotFound(escaped(path)),
        Ext4Error::NotADirectory => ReadError::NotADirectory(escaped(path)),
        Ext4Error::IsADirectory | Ext4Error::IsASpecialFile => {
            ReadError::WrongKind { path: escaped(path), wanted: "regular file" }
        }
        Ext4Error::NotASymlink => ReadError::WrongKind { path: escaped(path), wanted: "symbolic link" },
        Ext4Error::Incompatible(why) => ReadError::Unsupported(why.to_string()),
        Ext4Error::Encrypted => ReadError::Unsupported("encrypted files".to_owned()),
        Ext4Error::Io(source) => match source.downcast::<ReadError>() {
            Ok(error) => *error,
            Err(other) => ReadError::corrupt(escaped(path), other.to_string()),
        },
        other => ReadError::corrupt(format!("ext4 ({})", escaped(path)), other.to_string()),
    }
}

fn convert_metadata(metadata: &ext4_view::Metadata) -> Metadata {
    let kind = match metadata.file_type() {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    };
    Metadata {
        kind,
        permissions: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        len: metadata.len(),
        mtime: metadata.modified().seconds(),
    }
}

impl FileSystem for Reader {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        for entry in self.ext4.read_dir(&*absolute(directory)).map_err(|e| convert(e, directory))? {
            let entry = entry.map_err(|e| convert(e, directory))?;
            let name = OsStr::from_bytes(entry.file_name().as_ref()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let metadata = entry.metadata().map_err(|e| convert(e, &directory.join(&name)))?;
            entries.push(Entry { name, metadata: convert_metadata(&metadata) });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, ReadError> {
        self.ext4.symlink_metadata(&*absolute(path)).map(|m| convert_metadata(&m)).map_err(|e| convert(e, path))
    }

    fn read_link(&self, path: &Path) -> Result<OsString, ReadError> {
        let target = self.ext4.read_link(&*absolute(path)).map_err(|e| convert(e, path))?;
        Ok(OsString::from_vec(target.as_ref().to_vec()))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Contents + '_>, ReadError> {
        if self.metadata(path)?.kind != Kind::File {
            return Err(ReadError::WrongKind { path: escaped(path), wanted: "regular file" });
        }
        let file = self.ext4.open(&*absolute(path)).map_err(|e| convert(e, path))?;
        Ok(Box::new(OpenFile { file, path: path.to_owned() }))
    }
}

struct OpenFile {
    file: ext4_view::File,
    path: std::path::PathBuf,
}

impl Contents for OpenFile {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        if self.file.position() != offset {
            self.file.seek_to(offset).map_err(|e| convert(e, &self.path))?;
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_bytes(rest).map_err(|e| convert(e, &self.path))? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }
}
