//! A cache between fatfs, which reads and writes a few bytes at a time, and a region of the image.
//!
//! The region must be fresh: bytes that were never written there read as zeros. Zeros are not written to such places,
//! so free space and empty FATs stay holes in the image.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of a page: what is read and written at once.
const PAGE: usize = 64 << 10;
/// How many pages are kept.
const PAGES: usize = 32;
/// Bytes of a block: within a page that is new to the image, blocks of zeros are left out.
const BLOCK: usize = 4096;

/// A part of the region in memory.
struct Page {
    /// Its place: the region's offset divided by [`PAGE`].
    index: u64,
    /// When it was used last, as counted by [`Cache::clock`].
    used: u64,
    dirty: bool,
    bytes: Box<[u8]>,
}

/// The cached region: `len` bytes from the start of `out`.
pub(super) struct Cache<W> {
    out: W,
    len: u64,
    pages: Vec<Page>,
    /// The index into `pages` of the page used last: mostly the next one too.
    recent: usize,
    clock: u64,
    /// The pages that were written to `out`.
    stored: BTreeSet<u64>,
}

impl<W: Read + Write + Seek> Cache<W> {
    /// An empty cache over the first `len` bytes of `out`, which read as zeros.
    pub(super) fn new(out: W, len: u64) -> Self {
        Self { out, len, pages: Vec::new(), recent: 0, clock: 0, stored: BTreeSet::new() }
    }

    /// Fills `buf` from offset `at`.
    pub(super) fn read_at(&mut self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.check_bounds(at, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let (index, start, len) = Self::within_page(at + done as u64, buf.len() - done);
            let page = self.page(index)?;
            buf[done..done + len].copy_from_slice(&page.bytes[start..start + len]);
            done += len;
        }
        Ok(())
    }

    /// Puts `bytes` at offset `at`.
    pub(super) fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_bounds(at, bytes.len())?;
        let mut done = 0;
        while done < bytes.len() {
            let (index, start, len) = Self::within_page(at + done as u64, bytes.len() - done);
            let part = &bytes[done..done + len];
            done += len;
            if self.find(index).is_none() && !self.stored.contains(&index) && is_zero(part) {
                continue;
            }
            let page = self.page(index)?;
            page.dirty = true;
            page.bytes[start..start + len].copy_from_slice(part);
        }
        Ok(())
    }

    /// Writes out all that is not yet in the image.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut pages = std::mem::take(&mut self.pages);
        pages.sort_by_key(|page| page.index);
        pages.iter().try_for_each(|page| self.store(page))?;
        self.out.flush()
    }

    /// The page, the offset in it and the number of bytes that an access to `len` bytes at `at` starts with.
    fn within_page(at: u64, len: usize) -> (u64, usize, usize) {
        let page = PAGE as u64;
        let start = usize::try_from(at % page).expect("a page is smaller than the address space");
        (at / page, start, len.min(PAGE - start))
    }

    fn check_bounds(&self, at: u64, len: usize) -> io::Result<()> {
        match at.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "access past the end of the filesystem")),
        }
    }

    /// The place of page `index` in `pages`.
    fn find(&self, index: u64) -> Option<usize> {
        match self.pages.get(self.recent) {
            Some(page) if page.index == index => Some(self.recent),
            _ => self.pages.iter().position(|page| page.index == index),
        }
    }

    /// Page `index`, fetched if need be, in place of the one used longest ago.
    fn page(&mut self, index: u64) -> io::Result<&mut Page> {
        let at = match self.find(index) {
            Some(at) => at,
            None => self.fetch(index)?,
        };
        self.clock += 1;
        self.recent = at;
        let page = &mut self.pages[at];
        page.used = self.clock;
        Ok(page)
    }

    fn fetch(&mut self, index: u64) -> io::Result<usize> {
        let bytes = match self.pages.len() {
            PAGES.. => self.evict()?,
            _ => vec![0; PAGE].into_boxed_slice(),
        };
        let mut page = Page { index, used: 0, dirty: false, bytes };
        if self.stored.contains(&index) {
            let len = self.page_len(index);
            self.out.seek(SeekFrom::Start(index * PAGE as u64))?;
            self.out.read_exact(&mut page.bytes[..len])?;
        } else {
            page.bytes.fill(0);
        }
        self.pages.push(page);
        Ok(self.pages.len() - 1)
    }

    /// Drops the page used longest ago. Returns its memory.
    fn evict(&mut self) -> io::Result<Box<[u8]>> {
        let oldest = (0..self.pages.len()).min_by_key(|&at| self.pages[at].used).expect("the cache is full");
        let page = self.pages.swap_remove(oldest);
        self.store(&page)?;
        Ok(page.bytes)
    }

    /// Writes a page to the image: whole, or without its zeros if it is the first time.
    fn store(&mut self, page: &Page) -> io::Result<()> {
        if !page.dirty {
            return Ok(());
        }
        let start = page.index * PAGE as u64;
        let bytes = &page.bytes[..self.page_len(page.index)];
        if !self.stored.insert(page.index) {
            self.out.seek(SeekFrom::Start(start))?;
            return self.out.write_all(bytes);
        }
        let mut at = 0;
        while at < bytes.len() {
            let hole = bytes[at..].chunks(BLOCK).take_while(|block| is_zero(block)).map(<[u8]>::len).sum::<usize>();
            at += hole;
            let data = bytes[at..].chunks(BLOCK).take_while(|block| !is_zero(block)).map(<[u8]>::len).sum::<usize>();
            if data > 0 {
                self.out.seek(SeekFrom::Start(start + at as u64))?;
                self.out.write_all(&bytes[at..at + data])?;
            }
            at += data;
        }
        Ok(())
    }

    /// The bytes of page `index` that lie within the region.
    fn page_len(&self, index: u64) -> usize {
        let rest = self.len - index * PAGE as u64;
        usize::try_from(rest).map_or(PAGE, |rest| rest.min(PAGE))
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// What fatfs holds: a position in a [`Cache`] that others read and write at the same time.
pub(super) struct Handle<'a, W> {
    cache: &'a RefCell<Cache<W>>,
    position: u64,
}

impl<'a, W> Handle<'a, W> {
    /// A handle at the start of the region.
    pub(super) fn new(cache: &'a RefCell<Cache<W>>) -> Self {
        Self { cache, position: 0 }
    }
}

impl<W: Read + Write + Seek> Read for Handle<'_, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.cache.borrow_mut().read_at(self.position, buf)?;
        self.position += buf.len() as u64;
        Ok(buf.len())
    }
}

impl<W: Read + Write + Seek> Write for Handle<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.cache.borrow_mut().write_at(self.position, buf)?;
        self.position += buf.len() as u64;
        Ok(buf.len())
    }

    /// Does nothing: fatfs flushes after each file; [`Cache::finish`] does it once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Seek for Handle<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.cache.borrow().len.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod unit {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const LEN: usize = PAGE * (PAGES + 8) + 512;

    /// Counts what is written to it.
    struct Counting(Cursor<Vec<u8>>, usize);

    impl Read for Counting {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Counting {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1 += buf.len();
            self.0.write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Counting {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    proptest! {
        /// More pages than the cache holds, so that some come and go, with zeros over what was not zero.
        #[test]
        fn behaves_like_memory(writes in prop::collection::vec((0..LEN, 1..9000usize, 0..3u8), 1..120)) {
            let mut memory = vec![0; LEN];
            let mut out = Cursor::new(vec![0; LEN]);
            let mut cache = Cache::new(&mut out, LEN as u64);
            for (at, len, value) in writes {
                let end = (at + len).min(LEN);
                memory[at..end].fill(value);
                cache.write_at(at as u64, &memory[at..end]).unwrap();
                let mut back = vec![9; end - at];
                cache.read_at(at as u64, &mut back).unwrap();
                prop_assert_eq!(&back, &memory[at..end]);
            }
            cache.finish().unwrap();
            prop_assert!(out.into_inner() == memory);
        }
    }

    #[test]
    fn zeros_on_fresh_ground_cost_nothing() {
        let mut out = Counting(Cursor::new(vec![0; LEN]), 0);
        let mut cache = Cache::new(&mut out, LEN as u64);
        cache.write_at(0, &vec![0; LEN]).unwrap();
        cache.write_at(5 * BLOCK as u64 + 7, &[1]).unwrap();
        cache.finish().unwrap();
        assert_eq!(out.1, BLOCK);
    }

    #[test]
    fn nothing_lies_past_the_end() {
        let mut cache = Cache::new(Cursor::new(vec![0; 100]), 100);
        assert!(cache.write_at(99, &[1, 1]).is_err());
        assert!(cache.write_at(u64::MAX, &[1]).is_err());
        assert!(cache.read_at(100, &mut [0]).is_err());
        cache.write_at(99, &[1]).unwrap();
        cache.finish().unwrap();
    }
}
