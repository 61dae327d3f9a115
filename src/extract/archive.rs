//! Files as a tar: the same bytes for the same image, whoever makes it.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use tar::{Builder, EntryType, Header};

use super::{ExtractError, Item, Plan};
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
    // A tar knows no time before 1970.
    header.set_mtime(u64::try_from(metadata.mtime).unwrap_or(0));
    header.set_size(size);
    header
}

fn append_link<W: Write>(tar: &mut Builder<W>, item: &Item) -> io::Result<()> {
    let mut header = header(&item.metadata, EntryType::Symlink, 0);
    let target = item.target.as_deref().unwrap_or_default();
    if target.len() > SHORT_TARGET {
        return tar.append_link(&mut header, &item.path, target);
    }
    // As it is: not in the shortest form that means the same.
    header.set_link_name_literal(target.as_bytes())?;
    tar.append_data(&mut header, &item.path, io::empty())
}

fn append_file<W: Write>(
    tar: &mut Builder<W>,
    fs: &dyn FileSystem,
    item: &Item,
    progress: &dyn Progress,
) -> Result<(), ExtractError> {
    let mut header = header(&item.metadata, EntryType::Regular, item.metadata.len);
    let contents = fs.open(&item.path)?;
    let mut reader = Reader { contents, at: 0, left: item.metadata.len, progress, error: None };
    let appended = tar.append_data(&mut header, &item.path, &mut reader);
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
    at: u64,
    left: u64,
    progress: &'a dyn Progress,
    /// What io::Error has no room for.
    error: Option<ReadError>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
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
            let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
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
            ("b\n".to_owned(), None, 0o4755, (7, 8), 0, String::new()),
            entry("far", Some(&far), 0o777, ""),
            entry("root", Some("/nix/store"), 0o777, ""),
        ];
        assert_eq!(found, wanted);
    }
}
