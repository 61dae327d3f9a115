//! Opens the files that are read. Each must still be the same as when it was laid out.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::Advice;

use super::CopyError;
use super::host::HostFile;
use super::jobs::Files;
use crate::disk::pages::PAGE;
use crate::read::{self, FileSystem, StoredAs};
use crate::source::tree::Origin;
use crate::units::ByteOffset;

/// Files that are open ahead of the one that is read, for each thread: at most 8 × 32 of the 1024 that a process may
/// have open.
const OPEN_AHEAD: usize = 32;

/// The filesystem that files come from which are not the host's, as one thread has it open.
#[derive(Default)]
pub(super) struct OldFiles(OnceCell<Box<dyn FileSystem>>);

impl OldFiles {
    fn open(&self, files: &dyn Files, path: &Path) -> Result<&dyn FileSystem, CopyError> {
        if self.0.get().is_none() {
            let image = files.image().expect("files of an image have one");
            let opened = image.open().map_err(|source| CopyError::Image { path: path.to_owned(), source })?;
            let _ = self.0.set(opened);
        }
        Ok(self.0.get().expect("it was set").as_ref())
    }
}

/// An open source file.
pub(super) enum Source<'a> {
    /// One of the host.
    Host(HostFile),
    /// One of a filesystem in an image.
    Image(ImageFile<'a>),
}

/// An open file of a filesystem in an image.
pub(super) struct ImageFile<'a> {
    path: PathBuf,
    size: u64,
    contents: RefCell<Box<dyn read::Contents + 'a>>,
    /// The file that holds the filesystem, and where in that it starts.
    around: Option<(&'a File, ByteOffset)>,
}

/// A range of a source file that is going to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The index of the file.
    pub(super) file: usize,
    /// The bytes of it.
    pub(super) range: Range<u64>,
}

/// Opens files before their turn, and asks the kernel to read them ahead.
///
/// If the store is not in the page cache, it comes from the disk. Without this, the disk would wait for the thread, and
/// the thread for the disk.
pub(super) struct Ahead<'a, I> {
    files: &'a dyn Files,
    old: &'a OldFiles,
    wanted: I,
    opened: VecDeque<Result<Rc<Source<'a>>, CopyError>>,
    /// The file that was opened last: one open file serves all its ranges that follow one another.
    last: Option<(usize, Rc<Source<'a>>)>,
}

impl<'a, I: Iterator<Item = Wanted>> Ahead<'a, I> {
    pub(super) fn new(files: &'a dyn Files, old: &'a OldFiles, wanted: I) -> Self {
        Self { files, old, wanted, opened: VecDeque::with_capacity(OPEN_AHEAD), last: None }
    }

    fn open(&mut self, wanted: &Wanted) -> Result<Rc<Source<'a>>, CopyError> {
        if let Some((_, source)) = self.last.as_ref().filter(|(file, _)| *file == wanted.file) {
            source.read_ahead(&wanted.range);
            return Ok(Rc::clone(source));
        }
        let size = self.files.size(wanted.file);
        let source = match self.files.source(wanted.file) {
            Origin::Host(path) => Source::Host(HostFile::open(path, size)?),
            Origin::Image(path) => Source::Image(ImageFile::open(self.files, self.old, path, size)?),
        };
        source.read_ahead(&wanted.range);
        let source = Rc::new(source);
        self.last = Some((wanted.file, Rc::clone(&source)));
        Ok(source)
    }
}

impl<'a, I: Iterator<Item = Wanted>> Iterator for Ahead<'a, I> {
    type Item = Result<Rc<Source<'a>>, CopyError>;

    /// The file of the next range that is wanted.
    fn next(&mut self) -> Option<Self::Item> {
        while self.opened.len() < OPEN_AHEAD
            && let Some(wanted) = self.wanted.next()
        {
            let source = self.open(&wanted);
            self.opened.push_back(source);
        }
        self.opened.pop_front()
    }
}

impl<'a> ImageFile<'a> {
    fn open(files: &'a dyn Files, old: &'a OldFiles, path: PathBuf, size: u64) -> Result<Self, CopyError> {
        let opened = old.open(files, &path)?.open(&path);
        let contents = opened.map_err(|source| CopyError::Image { path: path.clone(), source })?;
        let around = files.image().and_then(read::Opener::file);
        Ok(Self { path, size, contents: RefCell::new(contents), around })
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), CopyError> {
        let got = self.contents.borrow_mut().read_at(offset, buffer).map_err(|source| self.error(source))?;
        if got == buffer.len() {
            return Ok(());
        }
        let found = format!("now {}", offset + got as u64);
        Err(CopyError::Changed { path: self.path.clone(), expected: self.size, found })
    }

    fn next_data(&self, range: Range<u64>) -> Range<u64> {
        let stored = self.contents.borrow().stored(range.start);
        let page = PAGE as u64;
        let start = (stored.start - stored.start % page).clamp(range.start, range.end);
        start..stored.end.checked_next_multiple_of(page).map_or(range.end, |end| end.clamp(start, range.end))
    }

    fn error(&self, source: read::ReadError) -> CopyError {
        CopyError::Image { path: self.path.clone(), source }
    }
}

impl Source<'_> {
    /// Has the kernel start to read what of a range is not a hole; whether it does is its own affair.
    fn read_ahead(&self, range: &Range<u64>) {
        let Ok(data) = self.next_data(range.clone()) else { return };
        if let Some(len) = NonZeroU64::new(data.end - data.start)
            && let Some((file, at)) = self.lies(&data)
        {
            let _ = rustix::fs::fadvise(file, at.0, Some(len), Advice::WillNeed);
        }
    }

    /// The file of the host that holds a range as it is, and from which byte on.
    pub(super) fn lies(&self, range: &Range<u64>) -> Option<(&File, ByteOffset)> {
        match self {
            Self::Host(host) => Some((host.file(), ByteOffset(range.start))),
            Self::Image(image) => {
                let (file, start) = image.around?;
                let at = image.contents.borrow().lies(range.start, range.end - range.start)?;
                Some((file, start.checked_add(at.0)?))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Host(host) => host.path(),
            Self::Image(image) => &image.path,
        }
    }

    /// The first stretch of `range` that is not a hole, from one page to the end of another; `range` starts at a page.
    pub(super) fn next_data(&self, range: Range<u64>) -> Result<Range<u64>, CopyError> {
        match self {
            Self::Host(host) => host.next_data(range),
            Self::Image(image) => Ok(image.next_data(range)),
        }
    }

    /// Reads `len` bytes at `offset` to the start of `buffer`, which is longer by a byte at least.
    ///
    /// All of them must be there; and if they are the last of the file, no more.
    pub(super) fn read(&self, offset: u64, len: usize, buffer: &mut [u8]) -> Result<(), CopyError> {
        match self {
            Self::Host(host) => host.read(offset, len, buffer),
            Self::Image(image) => image.read(offset, &mut buffer[..len]),
        }
    }

    /// How a range is stored where it comes from, if that is an image.
    pub(super) fn stored_unit(&self, offset: u64, len: usize) -> Result<Option<StoredAs>, CopyError> {
        match self {
            Self::Host(_) => Ok(None),
            Self::Image(image) => {
                let unit = image.contents.borrow_mut().stored_unit(offset, len as u64);
                unit.map(Some).map_err(|source| image.error(source))
            }
        }
    }

    /// Fails unless the file is as long as it was when it was laid out.
    pub(super) fn check_size(&self) -> Result<(), CopyError> {
        match self {
            Self::Host(host) => host.check_size(),
            // The same image gave the length for the layout.
            Self::Image(_) => Ok(()),
        }
    }

    pub(super) fn changed(&self) -> CopyError {
        match self {
            Self::Host(host) => host.changed(),
            Self::Image(image) => {
                let found = "now shorter".to_owned();
                CopyError::Changed { path: image.path.clone(), expected: image.size, found }
            }
        }
    }
}
