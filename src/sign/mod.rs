//! Signs the programs for UEFI in an image, or a single one, for Secure Boot.
//!
//! The key stays with whoever signs: it is in no store, no derivation and no image, and the signing itself is another
//! program's, sbsign or systemd-sbsign. A program that this certificate signed already is left as it is. The filesystems
//! with signed programs are laid out again, as `add` does it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use self::error::SignError;
pub use self::signer::{Signer, Tool};

use crate::add;
use crate::build::OutputFile;
use crate::copy::Means;
use crate::image::{Image, PartName, Partition, open_input};
use crate::output::{Privacy, Scratch};
use crate::pe;
use crate::read::{FileSystem, Kind, escape, walk};
use crate::source::own::{OwnEntry, OwnKind};
use crate::source::tree::Attributes;

mod authenticode;
mod error;
mod signer;

/// As much of a program is looked at to know that it is one, in bytes.
const START: usize = 4096;
/// As much of a file is copied at once, in bytes.
const BLOCK: usize = 1 << 20;

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a signature more.
    Signed,
    /// It had one of this certificate, and is as it was.
    WasSigned,
}

/// A program that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The number of its partition; `None` if it is a file of its own.
    pub partition: Option<u32>,
    /// Its path there, or on the host: to be escaped.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// Signs all programs in the image `from`, or `from` itself if that is a program, and writes the result to `out`, which may
/// be the same name.
///
/// # Errors
/// If it holds no programs, cannot be read or written again, has no room for the signatures, or the tool does not sign.
pub fn sign(from: &Path, signer: &Signer, out: &Path, means: Means<'_>) -> Result<Vec<Program>, SignError> {
    let mut file = open_input(from).map_err(SignError::io(from))?;
    let mode = file.metadata().map_err(SignError::io(from))?.mode();
    // An image with secrets is not everybody's, and neither is the new one.
    let privacy = if mode & 0o004 == 0 { Privacy::Owner } else { Privacy::Usual };
    let output = OutputFile::open(out, privacy)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(START as u64).read_to_end(&mut start).map_err(SignError::io(from))?;
    let programs = match is_program(&start) {
        true => sign_file(from, signer, &output, means)?,
        false => sign_image(from, signer, &output, means)?,
    };
    means.progress.stage("writing out", 0, 0);
    means.cancel.check()?;
    output.publish()?;
    Ok(programs)
}

fn is_program(start: &[u8]) -> bool {
    pe::machine(start).is_some()
}

fn sign_file(from: &Path, signer: &Signer, output: &OutputFile, means: Means<'_>) -> Result<Vec<Program>, SignError> {
    means.progress.stage(&format!("signing {}", escape::path(from)), 0, 0);
    let scratch = Scratch::temporary().map_err(SignError::Scratch)?;
    let signed = scratch.path().join("signed.efi");
    let unsigned = fs::canonicalize(from).map_err(SignError::io(from))?;
    let outcome = signer.sign(&unsigned, &signed, &from.display().to_string(), means.cancel)?;
    let source = if outcome == Outcome::Signed { &signed } else { &unsigned };
    let mut signed = File::open(source).map_err(SignError::io(source))?;
    io::copy(&mut signed, &mut output.file()).map_err(SignError::Scratch)?;
    Ok(vec![Program { partition: None, path: from.to_owned(), outcome }])
}

fn sign_image(from: &Path, signer: &Signer, output: &OutputFile, means: Means<'_>) -> Result<Vec<Program>, SignError> {
    let image = Image::open(from)?;
    add::check_raw(&image)?;
    let scratch = Scratch::temporary().map_err(SignError::Scratch)?;
    let mut programs = Vec::new();
    let mut changed = Vec::new();
    for partition in partitions(&image) {
        let mut entries = Vec::new();
        let fs = partition.open()?;
        for path in find(fs.as_ref())? {
            means.cancel.check()?;
            means.progress.stage(&format!("signing {}", escape::path(&path)), 0, 0);
            let unsigned = scratch.path().join("unsigned.efi");
            read(fs.as_ref(), &path, &unsigned)?;
            let signed = scratch.path().join(format!("{}.efi", programs.len()));
            let outcome = signer.sign(&unsigned, &signed, &format!("/{}", escape::path(&path)), means.cancel)?;
            if outcome == Outcome::Signed {
                entries.push(entry(&path, &signed)?);
            }
            programs.push(Program { partition: Some(partition.number), path, outcome });
        }
        changed.push((partition, entries));
    }
    if programs.is_empty() {
        return Err(SignError::NoPrograms);
    }
    add::replace(&image, &changed, output, means)?;
    Ok(programs)
}

/// Those whose programs firmware or systemd-boot starts.
fn partitions(image: &Image) -> Vec<&Partition> {
    let esp = image.find(&PartName::Boot).ok();
    let others = image.partitions().iter().filter(|partition| partition.is_xbootldr());
    let mut found: Vec<_> = esp.into_iter().chain(others).filter(|partition| partition.format().is_some()).collect();
    found.dedup_by_key(|partition| partition.number);
    found
}

/// All programs of a filesystem: files `*.efi` that are programs; an initrd has such a name, too.
fn find(fs: &dyn FileSystem) -> Result<Vec<PathBuf>, SignError> {
    let mut found = Vec::new();
    for entry in walk(fs, Path::new("")) {
        let entry = entry?;
        let is_named = entry.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("efi"));
        if entry.metadata.kind == Kind::File && is_named {
            let mut start = vec![0; START];
            let len = fs.open(&entry.path)?.read_at(0, &mut start)?;
            if is_program(start.get(..len).unwrap_or_default()) {
                found.push(entry.path);
            }
        }
    }
    Ok(found)
}

/// Writes the contents of a file of an image to the file `to`.
fn read(fs: &dyn FileSystem, path: &Path, to: &Path) -> Result<(), SignError> {
    let mut contents = fs.open(path)?;
    let file = File::create(to).map_err(SignError::Scratch)?;
    let (mut block, mut at) = (vec![0; BLOCK], 0);
    loop {
        let len = contents.read_at(at, &mut block)?;
        if len == 0 {
            return Ok(());
        }
        file.write_all_at(block.get(..len).unwrap_or_default(), at).map_err(SignError::Scratch)?;
        at += len as u64;
    }
}

/// A file that takes the place of the one at `path`.
fn entry(path: &Path, source: &Path) -> Result<OwnEntry, SignError> {
    let size = fs::metadata(source).map_err(SignError::Scratch)?.len();
    Ok(OwnEntry {
        path: path.to_owned(),
        target: Path::new("/").join(path),
        kind: OwnKind::File { source: source.to_owned(), size },
        attributes: Attributes::of_root(0o644),
        origin: source.display().to_string(),
    })
}
