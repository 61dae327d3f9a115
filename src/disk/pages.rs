//! Writes whole pages past the page cache, if the filesystem allows it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::units::ByteOffset;

/// The alignment of memory, offsets and lengths that O_DIRECT takes on every disk, in bytes.
pub const PAGE: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// A fixed piece of memory that starts at a page.
pub struct PageBuffer(Vec<Page>);

impl PageBuffer {
    /// Zeros, rounded up to whole pages.
    pub fn new(bytes: usize) -> Self {
        Self(vec![Page([0; PAGE]); bytes.div_ceil(PAGE)])
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }

    /// Its bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice().as_mut_bytes()
    }
}

/// A file that takes whole pages from a [`PageBuffer`].
pub struct PageFile<'a> {
    file: &'a File,
    /// The same file, opened for writes that bypass the page cache.
    direct: Option<File>,
    /// Whether the page cache must not be used instead.
    strict: bool,
}

impl<'a> PageFile<'a> {
    /// Writes past the page cache where that is possible, else through it.
    pub fn new(file: &'a File) -> Self {
        Self { file, direct: open_direct(file).ok(), strict: false }
    }

    /// Writes through the page cache.
    pub fn cached(file: &'a File) -> Self {
        Self { file, direct: None, strict: false }
    }

    /// Writes past the page cache.
    ///
    /// # Errors
    /// If the file's filesystem cannot do that.
    pub fn direct(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, direct: Some(open_direct(file)?), strict: true })
    }

    /// The file itself.
    pub fn file(&self) -> &'a File {
        self.file
    }

    /// Whether pages bypass the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Writes whole pages at a multiple of [`PAGE`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write_all_at(&self, pages: &[u8], at: ByteOffset) -> io::Result<()> {
        let Some(direct) = &self.direct else { return self.file.write_all_at(pages, at.0) };
        match direct.write_all_at(pages, at.0) {
            // A filesystem may open files for direct writes and then refuse this one.
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && !self.strict => {
                self.file.write_all_at(pages, at.0)
            }
            result => result,
        }
    }
}

/// Opens the file behind a descriptor once more, for direct writes.
fn open_direct(file: &File) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    rustix::fs::open(Path::new(&path), flags, Mode::empty()).map(File::from)
}
