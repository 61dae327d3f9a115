//! The unified kernel image of the system, made from systemd's stub.
//!
//! It goes to the place that firmware starts by itself if nothing else is there, and otherwise where systemd-boot looks for
//! such images (UAPI.1, "Type #2"). systemd-sysupdate looks there, too, for the versions that a machine has.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::error::{PopulateError, io_error};
use super::grub::Trees;
use super::judge::LINUX_MAX;
use super::links::Store;
use crate::discoverable::Tree;
use crate::pe::{self, HEADER, Section};
use crate::progress::{Cancel, Progress};
use crate::spec::Uki;
use crate::uki::{
    CommandLine, Content, HASH_DIGITS, HashPlace, Layout, MadeUki, NewSection, UkiError, root_hash, write,
};

/// Where systemd-boot looks for unified kernel images.
pub(super) const DIRECTORY: &str = "EFI/Linux";
const COMMAND_LINE: &str = ".cmdline";
/// No stub is longer, in bytes.
const STUB_MAX: u64 = 16 << 20;
/// The headers of a kernel are in as many bytes.
const HEADERS_MAX: u64 = 4096;
/// No lines of SBAT are longer, in bytes.
const SBAT_MAX: usize = 1 << 16;

/// A unified kernel image that cannot be made.
#[derive(Debug, Error)]
pub enum UkiLayoutError {
    /// The stub cannot be used.
    #[error("stub {}: {source}", path.display())]
    Stub {
        /// The stub.
        path: PathBuf,
        /// What is wrong with it.
        source: UkiError,
    },
    /// The stub is longer than any.
    #[error("stub {}: has {size} bytes, and no stub is that long; use linux<arch>.efi.stub of systemd", path.display())]
    LongStub {
        /// The stub.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// Two root hashes would be on the command line.
    #[error("cmdline has {parameter}= already, which the program adds; remove it")]
    HasHash {
        /// The parameter.
        parameter: &'static str,
    },
    /// There is no such machine.
    #[error("stub {}: is for machines of type {machine:#x}, for which UEFI has no name; use another stub", path.display())]
    UnknownMachine {
        /// The stub.
        path: PathBuf,
        /// The number of the machine.
        machine: u16,
    },
    /// It could not be written, or what it is made of not be read.
    #[error("cannot be made in a temporary directory: {0}; set TMPDIR to one with room for the kernel and the initrd")]
    Write(#[source] io::Error),
}

/// Makes the image in the empty directory `scratch` and adds it to the ESP as what firmware starts, if nothing else is that.
/// If something else is, or if there will be updates, it adds it to `trees.boot`, which is XBOOTLDR or the ESP.
///
/// Its command line has a place for the root hash of `verified`, if there is to be one. All that is added is this one file.
pub(super) fn add(
    trees: &mut Trees<'_, '_>,
    wanted: &Uki,
    verified: Option<Tree>,
    has_updates: bool,
    scratch: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<MadeUki, PopulateError> {
    progress.stage("making the unified kernel image", 0, 0);
    let store = trees.boot.store;
    let stub = read_stub(store, &wanted.stub)?;
    let made = make(store, wanted, &stub, verified, &scratch.join("uki.efi"), cancel)?;
    let command_line = wanted.cmdline.len() + verified.map_or(0, |tree| tree.hash_parameter().len() + HASH_DIGITS + 2);
    if command_line > LINUX_MAX {
        progress.warn(&format!(
            "uki.cmdline: the command line has {command_line} bytes, and Linux takes {LINUX_MAX}; shorten boot.kernelParams"
        ));
    }
    let program = removable(&stub, &wanted.stub)?;
    let is_alone = !trees.esp().has_file(&program);
    if is_alone {
        trees.esp().add_file(&program, made.path.clone(), made.size)?;
    }
    if !is_alone || has_updates {
        trees.boot.add_file(&Path::new(DIRECTORY).join(wanted.counted_name()), made.path.clone(), made.size)?;
    }
    Ok(made)
}

fn read_stub(store: Store<'_>, path: &Path) -> Result<Vec<u8>, PopulateError> {
    let (found, size) = store.find_file(path)?;
    if size > STUB_MAX {
        return Err(UkiLayoutError::LongStub { path: path.to_owned(), size }.into());
    }
    fs::read(&found).map_err(io_error(&found))
}

/// Writes the image to `path`.
fn make(
    store: Store<'_>,
    wanted: &Uki,
    stub: &[u8],
    verified: Option<Tree>,
    path: &Path,
    cancel: &Cancel,
) -> Result<MadeUki, PopulateError> {
    if let Some(tree) = verified.filter(|tree| root_hash(*tree, &wanted.cmdline).is_some()) {
        return Err(UkiLayoutError::HasHash { parameter: tree.hash_parameter() }.into());
    }
    let command_line = CommandLine::new(&wanted.cmdline, verified);
    let find = |path: &Path| store.find_file(path);
    let (os_release, kernel, initrd) = (find(&wanted.os_release)?, find(&wanted.kernel)?, find(&wanted.initrd)?);
    let device_tree = wanted.device_tree.as_deref().map(find).transpose()?;
    let sbat = sbat_of(&kernel.0).map_err(io_error(&kernel.0))?;
    let files = [Some(&os_release), device_tree.as_ref(), Some(&kernel), Some(&initrd)];
    let [os_release, device_tree, kernel, initrd] =
        files.map(|found| found.map(|(path, len)| Content::File(path, *len)));
    // In ukify's order.
    let sections = [
        (".osrel", os_release),
        (COMMAND_LINE, Some(Content::Bytes(command_line.text.as_bytes()))),
        (".dtb", device_tree),
        (".uname", wanted.uname.as_ref().map(|uname| Content::Bytes(uname.as_bytes()))),
        (".linux", kernel),
        (".initrd", initrd),
    ];
    // systemd-stub does not expect a section of nothing.
    let sections = sections.into_iter().filter_map(|(name, content)| Some((name, content?)));
    let sections: Vec<_> = sections.filter(|(_, content)| !content.is_empty()).collect();
    let new: Vec<_> = sections.iter().map(|(name, content)| NewSection { name, len: content.len() }).collect();
    let unusable = |source| UkiLayoutError::Stub { path: wanted.stub.clone(), source };
    let layout = Layout::new(stub, &new, &sbat).map_err(unusable)?;
    let contents: Vec<_> = sections.iter().map(|(_, content)| *content).collect();
    let written = File::create_new(path).and_then(|mut out| write(&layout, &contents, &mut out, cancel));
    cancel.check()?;
    written.map_err(UkiLayoutError::Write)?;
    let of_line = new.iter().position(|section| section.name == COMMAND_LINE).and_then(|i| layout.offsets.get(i));
    let hash = of_line
        .zip(command_line.hash_at)
        .map(|(at, inside)| HashPlace { offset: at + inside as u64, len: HASH_DIGITS });
    Ok(MadeUki { path: path.to_owned(), size: layout.size, hash })
}

/// What firmware starts from a disk that it does not know (UEFI 2.10, 3.5.1.1), on machines that the stub is for.
fn removable(stub: &[u8], path: &Path) -> Result<PathBuf, UkiLayoutError> {
    let machine = pe::machine(stub).unwrap_or(0);
    let arch =
        pe::efi_arch(machine).ok_or_else(|| UkiLayoutError::UnknownMachine { path: path.to_owned(), machine })?;
    Ok(format!("EFI/BOOT/BOOT{}.EFI", arch.to_ascii_uppercase()).into())
}

/// The SBAT of a kernel; empty if it has none or is no program for UEFI.
fn sbat_of(kernel: &Path) -> io::Result<String> {
    let mut file = File::open(kernel)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(HEADERS_MAX).read_to_end(&mut start)?;
    let Some((at, count)) = pe::sections_at(&start) else { return Ok(String::new()) };
    let headers = usize::try_from(at).ok().and_then(|at| start.get(at..)).unwrap_or_default().chunks_exact(HEADER);
    let mut sections = headers.take(usize::from(count)).filter_map(Section::parse);
    let Some(section) = sections.find(|section| section.is(".sbat")) else { return Ok(String::new()) };
    let mut bytes = vec![0; section.len.min(SBAT_MAX)];
    file.seek(SeekFrom::Start(section.offset))?;
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(String::new()),
        read => read.map(|()| String::from_utf8(bytes).unwrap_or_default()),
    }
}
