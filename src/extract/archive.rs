//! Writes files as a tar. The same image always gives the same bytes.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use tar::{Builder, EntryType, Header};

mod sparse;

use super::{ExtractError, Item, Plan};
use crate::gnu_sparse::{self, Piece};
use crate::progress::{Cancel, Progress};
use crate::read::{Contents, FileSystem, Kind, Metadata, ReadError};

/// The longest target that stands in a header itself, in bytes.
const SHORT_TARGET: usize = 100;

/// Writes `plan` as a GNU tar, with the owners, modes and times of the image.
///
/// # Errors
/// If `out` cannot be written or the image cannot be read: the tar is cut short then.
pub fn to_tar(
    fs: &dyn FileSystem,
    plan: &Plan,
    out: impl Write,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), ExtractError> {
    progress.stage("packing files", plan.total.files, plan.total.bytes);
    let mut tar = Builder::new(out);
    for item in &plan.items {
        cancel.check()?;
        match item.metadata.kind {
            Kind::File => append_file(&mut tar, fs, item, progress)?,
            Kind::Directory => {
                let mut header = header(&item.metadata, EntryType::Directory, 0);
                tar.append_data(&mut header, item.path.join(""), io::empty()).map_err(ExtractError::Tar)?;
            }
            Kind::Symlink => append_link(&mut tar, item).map_err(ExtractError::Tar)?,
            Kind::Special => {}
        }
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(ExtractError::Tar)
}

fn header(metadata: &Metadata, entry_type: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry_type);
    header.set_mode(u32::from(metadata.permissions));
    header.set_uid(metadata.uid.into());
    header.set_gid(metadata.gid.into());
    set_mtime(&mut header, metadata.mtime);
    header.set_size(size);
    header
}

/// A time before 1970 as GNU tar writes it: a number in base 256 whose first bit is set, negative in two's complement.
fn set_mtime(header: &mut Header, mtime: i64) {
    match u64::try_from(mtime) {
        Ok(mtime) => header.set_mtime(mtime),
        Err(_) => {
            let mut field = [0xff; 12];
            field.iter_mut().rev().zip(mtime.to_le_bytes()).for_each(|(to, from)| *to = from);
            header.as_old_mut().mtime = field;
        }
    }
}

fn append_link<W: Write>(tar: &mut Builder<W>, item: &Item) -> io::Result<()> {
    let mut header = header(&item.metadata, EntryType::Symlink, 0);
    let target = item.target.as_deref().unwrap_or_default();
    if target.len() > SHORT_TARGET {
        return tar.append_link(&mut header, &item.path, target);
    }
    // The path as it is, without normalization.
    header.set_link_name_literal(target.as_bytes())?;
    tar.append_data(&mut header, &item.path, io::empty())
}

fn append_file<W: Write>(
    tar: &mut Builder<W>,
    fs: &dyn FileSystem,
    item: &Item,
    progress: &dyn Progress,
) -> Result<(), ExtractError> {
    let contents = fs.open(&item.path)?;
    let len = item.metadata.len;
    let pieces = sparse::pieces(contents.as_ref(), len);
    let mut header = match &pieces {
        Some(pieces) => header(&item.metadata, EntryType::GNUSparse, gnu_sparse::stored(pieces)),
        None => header(&item.metadata, EntryType::Regular, len),
    };
    let map = pieces.as_ref().map_or(Vec::new(), |pieces| gnu_sparse::describe(&mut header, pieces, len));
    let pieces = pieces.unwrap_or_else(|| vec![Piece { at: 0, len }]).into_iter();
    let mut reader = Reader { contents, pieces, at: 0, left: 0, progress, error: None };
    let appended = tar.append_data(&mut header, &item.path, map.as_slice().chain(&mut reader));
    if let Some(error) = reader.error {
        return Err(error.into());
    }
    appended.map_err(ExtractError::Tar)?;
    progress.advance(1, 0);
    Ok(())
}

/// Exactly as many bytes as the header has promised.
struct Reader<'a> {
    contents: Box<dyn Contents + 'a>,
    /// What comes after the piece that is being read.
    pieces: std::vec::IntoIter<Piece>,
    at: u64,
    /// Of the piece that is being read.
    left: u64,
    progress: &'a dyn Progress,
    /// The error, because an io::Error cannot hold it.
    error: Option<ReadError>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some(Piece { at, len }) = self.pieces.next() else { return Ok(0) };
            (self.at, self.left) = (at, len);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..most).unwrap_or_default();
        if buf.is_empty() {
            return Ok(0);
        }
        let read = self.contents.read_at(self.at, buf).and_then(|len| match len {
            0 => Err(ReadError::corrupt("a file", "ends before its size")),
            len => Ok(len),
        });
        match read {
            Ok(len) => {
                let len_u64 = len as u64;
                self.at = self.at.saturating_add(len_u64);
                self.left = self.left.saturating_sub(len_u64);
                self.progress.advance(0, len_u64);
                Ok(len)
            }
            Err(error) => {
                self.error = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::extract::{Links, plan};
    use crate::progress::Silent;
    use crate::read::fake::Fake;
    use crate::read::resolve::AtRoot;

    fn pack(fs: &Fake) -> Vec<u8> {
        let plan = plan(fs, &[PathBuf::new()], Links::Keep, &AtRoot).unwrap();
        let mut bytes = Vec::new();
        to_tar(fs, &plan, &mut bytes, &Silent, &Cancel::new()).unwrap();
        bytes
    }

    /// The crate reads no negative number.
    fn mtime(header: &Header) -> i64 {
        match header.as_old().mtime {
            [0xff, .., a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
            _ => header.mtime().unwrap().try_into().unwrap(),
        }
    }

    #[test]
    fn everything_comes_out_again() {
        let (long, far) = ("n".repeat(200), "t/".repeat(200));
        let fs = Fake::new()
            .file(format!("a/{long}"), "contents")
            .link("a/near", "./b//c/")
            .link("far", &far)
            .link("root", "/nix/store")
            .entry("b\n", Metadata { kind: Kind::File, permissions: 0o4755, uid: 7, gid: 8, len: 0, mtime: -5 }, b"");
        let bytes = pack(&fs);
        assert!(bytes == pack(&fs));
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let (path, link) = (text(&entry.path_bytes()), entry.link_name_bytes().map(|bytes| text(&bytes)));
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            let (mode, mtime) = (header.mode().unwrap(), mtime(header));
            let mut contents = String::new();
            entry.read_to_string(&mut contents).unwrap();
            found.push((path, link, mode, owner, mtime, contents));
        }
        let entry = |path: &str, link: Option<&str>, mode, contents: &str| {
            (path.to_owned(), link.map(str::to_owned), mode, (0, 0), 1, contents.to_owned())
        };
        let wanted = [
            entry("a/", None, 0o555, ""),
            entry("a/near", Some("./b//c/"), 0o777, ""),
            entry(&format!("a/{long}"), None, 0o444, "contents"),
            ("b\n".to_owned(), None, 0o4755, (7, 8), -5, String::new()),
            entry("far", Some(&far), 0o777, ""),
            entry("root", Some("/nix/store"), 0o777, ""),
        ];
        assert_eq!(found, wanted);
    }
}
