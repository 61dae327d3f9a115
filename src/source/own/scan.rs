//! Reads from the host what the host's own files are.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::gather::Gather;
use super::{OwnEntry, OwnError, OwnKind};
use crate::output::{Scratch, kind_name};
use crate::progress::{Cancel, Cancelled};
use crate::source::links::{self, Unresolved};
use crate::source::tree::Attributes;
use crate::spec::files::Contents;
use crate::spec::{Location, OwnFile, Spec};
use crate::store::StoreRoot;

/// All permission bits.
const PERMISSIONS: u32 = 0o7777;

/// Adds the spec's `files`. Texts are written to a directory, which is returned.
pub(super) fn files(
    gather: &mut Gather<'_>,
    spec: &Spec,
    store_root: &StoreRoot,
    cancel: &Cancel,
) -> Result<Option<Scratch>, OwnError> {
    let mut scratch = None;
    for (number, file) in spec.files.iter().enumerate() {
        let kind = match &file.contents {
            Contents::Source(source) => {
                let mut scan = Sources { gather, file, store_root, cancel };
                scan.add(source)?;
                continue;
            }
            Contents::Directory => OwnKind::Directory,
            Contents::Symlink(target) => OwnKind::Symlink(target.into()),
            Contents::Text(text) => {
                let source = write(&mut scratch, number, text).map_err(OwnError::Scratch)?;
                OwnKind::File { source, size: text.len() as u64 }
            }
        };
        let Some(location) = gather.locate(&file.target, &file.path) else { continue };
        let attributes = attributes(file, &kind, false);
        gather.add(location.clone(), entry(&location, file.target.clone(), kind, attributes, file.path.clone()));
    }
    Ok(scratch)
}

/// Writes a text of the spec to a file.
fn write(scratch: &mut Option<Scratch>, number: usize, text: &str) -> io::Result<PathBuf> {
    if scratch.is_none() {
        *scratch = Some(Scratch::temporary()?);
    }
    let directory = scratch.as_ref().map_or(Path::new(""), Scratch::path);
    let path = directory.join(number.to_string());
    fs::write(&path, text)?;
    Ok(path)
}

fn entry(location: &Location, target: PathBuf, kind: OwnKind, attributes: Attributes, origin: String) -> OwnEntry {
    OwnEntry { path: location.path().to_owned(), target, kind, attributes, origin }
}

/// Those that the spec gives a file, or that follow from what it is.
///
/// Whoever may read a directory that is taken whole may enter it, too.
fn attributes(file: &OwnFile, kind: &OwnKind, is_executable: bool) -> Attributes {
    let is_source = matches!(file.contents, Contents::Source(_));
    let mode = match (kind, file.mode) {
        (OwnKind::Symlink(_), _) => 0o777,
        (OwnKind::Directory, Some(mode)) if is_source => mode | (mode & 0o444) >> 2,
        (_, Some(mode)) => mode,
        (OwnKind::Directory, None) => 0o755,
        (OwnKind::File { .. }, None) => {
            if is_executable {
                0o755
            } else {
                0o644
            }
        }
    };
    Attributes { mode, uid: file.uid, gid: file.gid }
}

/// A file or directory of the host's that the spec names.
struct Sources<'a, 'g> {
    gather: &'a mut Gather<'g>,
    file: &'a OwnFile,
    store_root: &'a StoreRoot,
    cancel: &'a Cancel,
}

impl Sources<'_, '_> {
    fn add(&mut self, source: &Path) -> Result<(), Cancelled> {
        let field = format!("{}.source", self.file.path);
        let top = match links::find(self.store_root, source) {
            Ok(top) => top,
            Err(error) => {
                self.gather.note(format!("{field}: {}", unresolved(&error)));
                return Ok(());
            }
        };
        for found in WalkDir::new(&top).sort_by_file_name() {
            self.cancel.check()?;
            match found.map_err(io::Error::from).and_then(|found| Ok((found.metadata()?, found))) {
                Ok((metadata, found)) => {
                    let below = found.path().strip_prefix(&top).unwrap_or(Path::new(""));
                    self.add_one(found.path(), below, &metadata, &field);
                }
                Err(error) => self.gather.note(format!("{field}: {}: cannot be read: {error}", top.display())),
            }
        }
        Ok(())
    }

    fn add_one(&mut self, source: &Path, below: &Path, metadata: &Metadata, field: &str) {
        let target: PathBuf = self.file.target.join(below).components().collect();
        let Some(location) = self.gather.locate(&target, field) else { return };
        let kind = match kind(source, metadata) {
            // FAT has none, so that what it leads to stands in its place, as with extraBootFiles.
            Ok(OwnKind::Symlink(_)) if location.is_on_fat() => self.follow(source),
            kind => kind,
        };
        match kind {
            Ok(kind) => {
                let attributes = attributes(self.file, &kind, metadata.permissions().mode() & 0o100 != 0);
                let origin = self.file.path.clone();
                self.gather.add(location.clone(), entry(&location, target, kind, attributes, origin));
            }
            Err(problem) => self.gather.note(format!("{field}: {problem}")),
        }
    }

    /// The file that a link leads to.
    fn follow(&self, link: &Path) -> Result<OwnKind, String> {
        let source = links::find(self.store_root, link).map_err(|error| unresolved(&error))?;
        let metadata = fs::symlink_metadata(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        match kind(&source, &metadata)? {
            OwnKind::Directory => {
                Err(format!("{}: leads to a directory; FAT has no links, so put its files there", link.display()))
            }
            kind => Ok(kind),
        }
    }
}

fn unresolved(error: &Unresolved) -> String {
    match error {
        Unresolved::Missing(path) => format!("{}: does not exist", path.display()),
        Unresolved::Loop => "leads in a circle".to_owned(),
        Unresolved::Io(path, error) => format!("{}: cannot be read: {error}", path.display()),
    }
}

/// Lays all that is in the directory `top` over the image.
pub(super) fn extra(gather: &mut Gather<'_>, top: &Path, cancel: &Cancel) -> Result<(), OwnError> {
    let mut directories: Vec<(PathBuf, Metadata)> = Vec::new();
    for found in WalkDir::new(top).min_depth(1).sort_by_file_name() {
        cancel.check()?;
        match found.map_err(io::Error::from).and_then(|found| Ok((found.metadata()?, found))) {
            Ok((metadata, found)) => {
                let target = Path::new("/").join(found.path().strip_prefix(top).unwrap_or(Path::new("")));
                // A directory may lead to a filesystem of the image through one that is not in it.
                if metadata.is_dir() && found.path().read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                    directories.push((target, metadata));
                } else {
                    extra_one(gather, found.path(), target, &metadata);
                }
            }
            Err(error) => gather.note(format!("--extra-files {}: cannot be read: {error}", top.display())),
        }
    }
    for (target, metadata) in directories {
        let source = top.join(target.strip_prefix("/").unwrap_or(&target));
        if gather.places.mounts.locate(&target).is_ok() && !gather.leads_to_store(&target) {
            extra_one(gather, &source, target, &metadata);
        }
    }
    Ok(())
}

fn extra_one(gather: &mut Gather<'_>, source: &Path, target: PathBuf, metadata: &Metadata) {
    let origin = source.display().to_string();
    let kind = match kind(source, metadata) {
        Ok(kind) => kind,
        Err(problem) => return gather.note(problem),
    };
    // Whoever has a store in it may have made that for another purpose.
    if kind == OwnKind::Directory && gather.leads_to_store(&target) {
        return;
    }
    let Some(location) = gather.locate(&target, &origin) else { return };
    if matches!(kind, OwnKind::Symlink(_)) && location.is_on_fat() {
        return gather.note(format!("{origin}: is a symbolic link, which FAT cannot hold; put the file there itself"));
    }
    let mode = match kind {
        OwnKind::Symlink(_) => 0o777,
        _ => u16::try_from(metadata.mode() & PERMISSIONS).expect("twelve bits"),
    };
    gather.add(location.clone(), entry(&location, target, kind, Attributes::of_root(mode), origin));
}

/// What a file of the host is.
fn kind(source: &Path, metadata: &Metadata) -> Result<OwnKind, String> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        Ok(OwnKind::Directory)
    } else if file_type.is_file() {
        Ok(OwnKind::File { source: source.to_owned(), size: metadata.len() })
    } else if file_type.is_symlink() {
        let target = fs::read_link(source).map_err(|error| format!("{}: cannot be read: {error}", source.display()))?;
        Ok(OwnKind::Symlink(OsString::from(target)))
    } else {
        let kind = kind_name(file_type);
        Err(format!("{}: is a {kind}; an image holds only files, directories and symbolic links", source.display()))
    }
}
