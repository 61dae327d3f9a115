//! What the commands that look into images do, one after the other, with a bound on how much.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sane_image::extract::{self, Links};
use sane_image::image::Image;
use sane_image::inspect::{self, Style};
use sane_image::progress::{Cancel, Progress};
use sane_image::read::resolve::AtRoot;
use sane_image::read::{Contents, Entered, Entry, FileSystem, Kind, ReadError, StoredAs};
use sane_image::verify;

use super::texts::assert_printable;

/// Entries that a tree may have before it is left to a search of its own.
const MAX_ENTRIES: usize = 4000;
const MAX_DEPTH: usize = 40;
/// Bytes of a file that are read from its start.
const MAX_START: u64 = 96 << 10;
/// Bytes that are hashed, and that are packed.
const MAX_BYTES: u64 = 4 << 20;

/// Everything, on an image of any kind. Tells what is in its filesystems.
pub(crate) fn all(image: &Image) -> Vec<Tree> {
    let mut trees = Vec::new();
    for partition in image.partitions() {
        match partition.open() {
            Ok(fs) => {
                trees.push(tree(fs.as_ref()));
                extract(fs.as_ref());
            }
            Err(error) => tell(&error),
        }
    }
    inspect(image);
    verify(image);
    trees
}

/// An error is told in one line that does nothing to a terminal.
pub(crate) fn tell(error: &ReadError) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// What a walk met.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) found: Vec<(PathBuf, Entry)>,
}

/// What could not be written again is told like an error.
fn tell_obstacles(obstacles: Result<Vec<String>, ReadError>) {
    match obstacles {
        Ok(obstacles) => assert!(!obstacles.iter().any(|text| text.chars().any(char::is_control)), "{obstacles:?}"),
        Err(error) => tell(&error),
    }
}

/// What is free is told in order and lies in the filesystem.
fn free(fs: &dyn FileSystem) {
    match fs.free() {
        Ok(free) => {
            assert!(free.iter().all(|range| !range.is_empty() && range.end <= fs.summary().size), "{free:?}");
            assert!(free.windows(2).all(|two| two[0].end < two[1].start), "{free:?}");
        }
        Err(error) => tell(&error),
    }
}

/// Lists all directories, reads all links and parts of all files.
pub(crate) fn tree(fs: &dyn FileSystem) -> Tree {
    tell_obstacles(fs.obstacles());
    free(fs);
    let mut tree = Tree::default();
    let mut todo = vec![PathBuf::new()];
    let mut entered = Entered::default();
    while let Some(directory) = todo.pop().filter(|_| tree.found.len() < MAX_ENTRIES) {
        if !fs.id(&directory).is_ok_and(|id| entered.enter(id)) {
            continue;
        }
        let entries = match fs.list(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                tell(&error);
                continue;
            }
        };
        assert!(entries.is_sorted_by(|one, other| one.name <= other.name), "{directory:?} is not sorted");
        for entry in entries {
            let name = entry.name.as_encoded_bytes();
            assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..");
            let path = directory.join(&entry.name);
            if entry.metadata.kind == Kind::Directory && path.iter().count() < MAX_DEPTH {
                todo.push(path.clone());
            }
            file(fs, &path);
            tree.found.push((path, entry));
        }
    }
    tree
}

fn file(fs: &dyn FileSystem, path: &Path) {
    // Of two entries with one name, the path leads to one only.
    let metadata = match fs.metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return tell(&error),
    };
    tell_obstacles(fs.rest(path).map(|rest| rest.obstacles));
    match metadata.kind {
        Kind::File => match fs.open(path) {
            Ok(mut contents) => {
                let read = read(&mut *contents, metadata.len);
                read.unwrap_or_else(|error| tell(&error));
            }
            Err(error) => tell(&error),
        },
        Kind::Symlink => match fs.read_link(path) {
            Ok(target) => assert!(target.len() <= 4096),
            Err(error) => tell(&error),
        },
        Kind::Directory | Kind::Special => {}
    }
}

/// The start of a file in one piece and in pieces, and its end.
fn read(contents: &mut dyn Contents, len: u64) -> Result<(), ReadError> {
    let size = usize::try_from(len.min(MAX_START)).unwrap_or_default();
    let (mut whole, zeros) = (vec![0; size], vec![0; size]);
    let got = contents.read_at(0, &mut whole)?;
    assert_eq!(got, size, "fewer bytes only at the end");
    let mut piece = vec![0; 5003];
    let (mut at, mut holes) = (0, 0);
    while at < size as u64 && holes < 8 {
        let stored = contents.stored(at);
        assert!(at <= stored.start && stored.start <= stored.end, "{at} {stored:?}");
        let [from, to] = [at, stored.start.min(size as u64)].map(|offset| usize::try_from(offset).unwrap_or(size));
        assert!(whole[from..to] == zeros[from..to], "a hole reads as zeros");
        (at, holes) = (stored.end.max(at + 1), holes + 1);
    }
    for start in [1, 4093, 70_001] {
        let Some(rest) = usize::try_from(start).ok().and_then(|start| whole.get(start..)) else { break };
        let got = contents.read_at(start, &mut piece)?;
        let same = rest.len().min(got);
        assert!(piece[..same] == rest[..same], "the same bytes in another piece");
    }
    for start in [len.saturating_sub(5003), len, u64::MAX] {
        let got = contents.read_at(start, &mut piece)?;
        assert_eq!(got as u64, len.saturating_sub(start).min(5003));
    }
    again(contents, size as u64)
}

/// What is asked of a file that is written once more.
fn again(contents: &mut dyn Contents, size: u64) -> Result<(), ReadError> {
    const UNIT: u64 = 128 << 10;
    let methods = contents.methods();
    for start in (0..size).step_by(4096) {
        let len = (size - start).min(UNIT);
        if contents.lies(start, len).is_some() {
            assert_eq!(contents.stored_unit(start, len)?, StoredAs::Raw, "what lies as it is is not compressed");
        }
    }
    for start in (0..size).step_by(128 << 10) {
        if let StoredAs::Packed(stored) = contents.stored_unit(start, (size - start).min(UNIT))? {
            assert!(stored.len() as u64 <= UNIT && !methods.is_empty());
        }
    }
    Ok(())
}

fn inspect(image: &Image) {
    let report = inspect::inspect(image, "image");
    let text = inspect::text(&report, Style { width: 80, colour: false });
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let json = serde_json::from_str(&report.to_json()).expect("a report is JSON");
    assert_printable(&json);
    assert!(inspect::html(&report).ends_with("</html>\n"));
}

/// Asks for a stop after so many bytes.
struct Budget {
    left: AtomicU64,
    cancel: Cancel,
}

impl Progress for Budget {
    fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}

    fn advance(&self, files: u64, bytes: u64) {
        let spent = bytes.saturating_add(files.saturating_mul(1024));
        let left = self.left.load(Ordering::Relaxed).saturating_sub(spent);
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            self.cancel.request(2);
        }
    }

    fn relay(&self, _line: &str) {}
    fn warn(&self, _message: &str) {}
}

fn verify(image: &Image) {
    let cancel = Cancel::new();
    let budget = Budget { left: AtomicU64::new(MAX_BYTES), cancel: cancel.clone() };
    let options = verify::Options { jobs: NonZeroUsize::MIN, registration: None, progress: &budget, cancel: &cancel };
    if let Ok(report) = verify::verify(image, options) {
        for fault in &report.faults {
            let text = fault.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}

/// Takes so many bytes and then no more, as a disk that is full.
struct Sink {
    left: u64,
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(buf.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn extract(fs: &dyn FileSystem) {
    match extract::plan(fs, &[PathBuf::new()], Links::Keep, &AtRoot) {
        Ok(plan) => {
            let cancel = Cancel::new();
            let budget = Budget { left: AtomicU64::new(MAX_BYTES), cancel: cancel.clone() };
            let packed = extract::to_tar(fs, &plan, Sink { left: MAX_BYTES }, &budget, &cancel);
            packed.unwrap_or_else(|error| drop(error.to_string()));
        }
        Err(error) => drop(error.to_string()),
    }
}
