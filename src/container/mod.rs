//! Disks in containers. A container is a file that does not have the disk's bytes one after another, but in a form that
//! hypervisors or archives use. Each form has a file here, which only reads it.
//!
//! [`open`] recognises the form of a file by its magic number, and returns the disk in it as a [`Window`]. Nothing in a
//! container is trusted. Its tables are read a page at a time when a read needs them, and are not kept. So a container
//! of any size takes the same memory: at most 64 MiB for what was unpacked last, and 1 MiB for the index of a zst. Each
//! thread that unpacks also takes one unit of at most 16 MiB, and its packed bytes of at most 32 MiB.

use std::sync::Arc;

use crate::read::{Bytes, ReadError, Sparse, Window};
use crate::units::ByteOffset;

mod cache;
pub(crate) mod fields;
mod mapped;
pub(crate) mod qcow2;
mod unpack;
pub(crate) mod vhd;
pub(crate) mod vhdx;
pub(crate) mod vmdk;
pub(crate) mod zst;

use mapped::{Map, Mapped};

/// A form of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// QEMU's.
    Qcow2,
    /// zstd's, with a seek table.
    Zst,
    /// Virtual PC's, Azure's and Xen's.
    Vhd,
    /// VMware's.
    Vmdk,
    /// Hyper-V's.
    Vhdx,
}

impl Form {
    /// As people call it: `qcow2`, `zst`, `VMDK`, `VHD` or `VHDX`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Zst => "zst",
            Self::Vhd => "VHD",
            Self::Vmdk => "VMDK",
            Self::Vhdx => "VHDX",
        }
    }
}

/// An open container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its form.
    pub form: Form,
    /// Which kind of that form, in the form's own words: `version 3`, `streamOptimized`, `dynamic`.
    pub variant: String,
    /// The size of the file.
    pub file_size: u64,
    /// The disk in it.
    pub disk: Window,
}

/// What each form's file gives: the kind of that form, and the disk.
type Opened = Result<(String, Window), ReadError>;

/// The container in a file, or `None` if the file has no such magic, and so is the disk itself.
///
/// # Errors
/// If the container is damaged, uses what cannot be read here, or has parts of the disk in another file.
pub fn open(file: &Window) -> Result<Option<Container>, ReadError> {
    let mut start = [0; 16];
    let len = usize::try_from(file.len()).map_or(start.len(), |len| len.min(start.len()));
    file.read_exact_at(ByteOffset(0), start.get_mut(..len).unwrap_or_default())?;
    let Some(form) = recognise(file, &start) else { return Ok(None) };
    let (variant, disk) = match form {
        Form::Qcow2 => qcow2::open(file),
        Form::Zst => zst::open(file),
        Form::Vhd => vhd::open(file),
        Form::Vmdk => vmdk::open(file, &start),
        Form::Vhdx => vhdx::open(file),
    }?;
    Ok(Some(Container { form, variant, file_size: file.len(), disk }))
}

/// The form of a file that starts with `start`, by its magic.
fn recognise(file: &Window, start: &[u8]) -> Option<Form> {
    let vmdk = [vmdk::MAGIC, vmdk::DESCRIPTOR, vmdk::ESX];
    if start.starts_with(&qcow2::MAGIC) {
        Some(Form::Qcow2)
    } else if start.starts_with(vhdx::MAGIC) {
        Some(Form::Vhdx)
    } else if vmdk.iter().any(|magic| start.starts_with(magic)) {
        Some(Form::Vmdk)
    } else if zst::recognise(file, start) {
        Some(Form::Zst)
    } else {
        // Its magic may be at the end of the file only.
        vhd::recognise(file, start).then_some(Form::Vhd)
    }
}

/// The disk that a map describes.
fn disk(file: &Window, map: impl Map + 'static) -> Window {
    let disk: Arc<dyn Sparse> = Arc::new(Mapped::new(file.clone(), map));
    Window::of_disk(disk)
}

/// A feature of a container that is not known, and the remedy.
fn unsupported(form: Form, why: &str, remedy: &str) -> ReadError {
    ReadError::Unsupported(format!("the {} {why}; {remedy}", form.name()))
}

/// The remedy if QEMU reads a form that we do not.
const CONVERT: &str = "make a raw image of it with `qemu-img convert -O raw`";

/// What is wrong with a structure of a container.
fn corrupt(form: Form, what: &str, why: impl Into<String>) -> ReadError {
    ReadError::corrupt(format!("{} {what}", form.name()), why)
}

/// Fills `buf` from a table or header of a container.
fn read(form: Form, file: &Window, what: &str, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
    let fits = at.checked_add(buf.len() as u64).is_some_and(|end| end <= file.len());
    if !fits {
        let (len, size) = (buf.len(), file.len());
        let why = format!("its {len} bytes at byte {at} lie past the end of the file, at byte {size}");
        return Err(corrupt(form, what, why));
    }
    file.read_exact_at(ByteOffset(at), buf)
}
