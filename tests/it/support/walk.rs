//! Compares a directory, file by file and attribute by attribute, with what ought to be there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::{Debug, Write};
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use walkdir::WalkDir;

use super::tree::{Contents, Entry};

/// The differences that a failing test shows.
const SHOWN: usize = 40;

/// What a filesystem ought to hold, by path from its root; the root's is empty.
#[derive(Clone, Debug)]
pub(crate) struct Expected<'a>(BTreeMap<Vec<u8>, Want<'a>>);

#[derive(Clone, Debug)]
struct Want<'a> {
    mode: u32,
    kind: Kind<'a>,
}

#[derive(Clone, Debug)]
enum Kind<'a> {
    Directory,
    File(Cow<'a, Contents>),
    Symlink(&'a [u8]),
}

impl<'a> Expected<'a> {
    /// An empty ext4 filesystem: a root directory and lost+found.
    pub(crate) fn ext4() -> Self {
        let mut expected = Self::empty();
        expected.insert("lost+found", 0o700, Kind::Directory);
        expected
    }

    /// An empty btrfs: a root directory.
    pub(crate) fn btrfs() -> Self {
        Self::empty()
    }

    /// An empty root directory.
    pub(crate) fn empty() -> Self {
        let root = Want { mode: 0o755, kind: Kind::Directory };
        Self(BTreeMap::from([(Vec::new(), root)]))
    }

    /// Adds a directory with those above it, all 0755. `path` may start with a slash; "" is the root.
    pub(crate) fn directory(mut self, path: &str) -> Self {
        let mut at = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            self.insert(&at, 0o755, Kind::Directory);
        }
        self
    }

    /// Adds the file `nix-path-registration` of this text.
    pub(crate) fn registration(mut self, text: &str) -> Self {
        let contents = Contents::Bytes(text.as_bytes().to_vec());
        self.insert("nix-path-registration", 0o444, Kind::File(Cow::Owned(contents)));
        self
    }

    /// Adds the directory `store` ("nix/store", "store" or "") with these store paths, as base name and tree.
    pub(crate) fn store(self, store: &str, paths: impl IntoIterator<Item = (&'a str, &'a Entry)>) -> Self {
        let mut expected = self.directory(store);
        for (name, tree) in paths {
            expected.tree(join(store.trim_matches('/').as_bytes(), name.as_bytes()), tree);
        }
        expected
    }

    fn tree(&mut self, path: Vec<u8>, tree: &'a Entry) {
        let (mode, kind) = match tree {
            Entry::Dir(_) => (0o555, Kind::Directory),
            Entry::File { contents, executable: true } => (0o555, Kind::File(Cow::Borrowed(contents))),
            Entry::File { contents, executable: false } => (0o444, Kind::File(Cow::Borrowed(contents))),
            Entry::Symlink(target) => (0o777, Kind::Symlink(target)),
        };
        if let Entry::Dir(entries) = tree {
            for (name, entry) in entries {
                self.tree(join(&path, name), entry);
            }
        }
        self.insert(path, mode, kind);
    }

    fn insert(&mut self, path: impl AsRef<[u8]>, mode: u32, kind: Kind<'a>) {
        self.0.insert(path.as_ref().to_vec(), Want { mode, kind });
    }

    /// All differences between this and what lies at `root`, one line each.
    pub(crate) fn differences(&self, root: &Path) -> Vec<String> {
        let mut found = Differences::default();
        let mut missing = self.0.keys().collect::<BTreeSet<_>>();
        let mut walk = WalkDir::new(root).into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    found.0.push(format!("cannot be read: {e}"));
                    continue;
                }
            };
            let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes();
            missing.remove(&path.to_vec());
            match self.0.get(path) {
                Some(want) => found.compare(path, entry.path(), want),
                None => {
                    found.add(path, "should not exist");
                    if entry.file_type().is_dir() {
                        walk.skip_current_dir();
                    }
                }
            }
        }
        missing.into_iter().for_each(|path| found.add(path, "is missing"));
        found.0
    }

    /// # Panics
    /// If anything of this is missing or different at `root`, where other things may be too.
    #[track_caller]
    pub(crate) fn assert_holds(&self, root: &Path) {
        let mut differences = self.differences(root);
        let is_own = |line: &String| line.ends_with("should not exist") || line.starts_with("/: mtime");
        differences.retain(|line| !is_own(line));
        assert!(differences.is_empty(), "{differences:?}");
    }

    /// # Panics
    /// If what lies at `root` is anything but this, naming the differences.
    #[track_caller]
    pub(crate) fn assert_equals(&self, root: &Path) {
        let differences = self.differences(root);
        let shown = differences.iter().take(SHOWN).fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        });
        assert!(differences.is_empty(), "{} differences in {}:\n{shown}", differences.len(), root.display());
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(&mut self, path: &[u8], difference: &str) {
        self.0.push(format!("/{}: {difference}", path.escape_ascii()));
    }

    fn check<T: PartialEq + Debug>(&mut self, path: &[u8], what: &str, found: T, wanted: T) {
        if found != wanted {
            self.add(path, &format!("{what} is {found:?}, should be {wanted:?}"));
        }
    }

    fn compare(&mut self, path: &[u8], on_host: &Path, want: &Want<'_>) {
        let metadata = match fs::symlink_metadata(on_host) {
            Ok(metadata) => metadata,
            Err(e) => return self.add(path, &format!("cannot be examined: {e}")),
        };
        self.check(path, "owner", (metadata.uid(), metadata.gid()), (0, 0));
        self.check(path, "mtime", (metadata.mtime(), metadata.mtime_nsec()), (1, 0));
        let (kind, wanted_kind) = (kind_name(&metadata), want.kind.name());
        self.check(path, "kind", kind, wanted_kind);
        if kind != wanted_kind {
            return;
        }
        if metadata.mode() & 0o7777 != want.mode {
            self.add(path, &format!("mode is {:04o}, should be {:04o}", metadata.mode() & 0o7777, want.mode));
        }
        match &want.kind {
            Kind::Directory => {}
            Kind::Symlink(target) => {
                self.check(path, "nlink", metadata.nlink(), 1);
                self.compare_target(path, on_host, &metadata, target);
            }
            Kind::File(contents) => {
                self.check(path, "nlink", metadata.nlink(), 1);
                self.check(path, "size", metadata.len(), contents.len());
                if metadata.len() == contents.len() {
                    self.compare_contents(path, on_host, contents);
                }
            }
        }
    }

    fn compare_target(&mut self, path: &[u8], on_host: &Path, metadata: &Metadata, wanted: &[u8]) {
        self.check(path, "size", metadata.len(), wanted.len() as u64);
        match fs::read_link(on_host) {
            Ok(target) => self.check(path, "target", target.as_os_str(), OsStr::from_bytes(wanted)),
            Err(e) => self.add(path, &format!("cannot be read: {e}")),
        }
    }

    /// Tells the first byte that differs.
    fn compare_contents(&mut self, path: &[u8], on_host: &Path, contents: &Contents) {
        let file = match File::open(on_host) {
            Ok(file) => file,
            Err(e) => return self.add(path, &format!("cannot be opened: {e}")),
        };
        let mut difference = None;
        let mut found = Vec::new();
        contents.for_each_block(|offset, wanted| {
            if difference.is_some() {
                return;
            }
            found.resize(wanted.len(), 0);
            difference = match file.read_exact_at(&mut found, offset) {
                Err(e) => Some(format!("cannot be read at {offset}: {e}")),
                Ok(()) if found == wanted => None,
                Ok(()) => {
                    let at = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
                    let (found, wanted) = (found[at], wanted[at]);
                    Some(format!("byte {} is {found:#04x}, should be {wanted:#04x}", offset + at as u64))
                }
            };
        });
        difference.iter().for_each(|difference| self.add(path, difference));
    }
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File(_) => "a file",
            Self::Symlink(_) => "a symlink",
        }
    }
}

fn kind_name(metadata: &Metadata) -> &'static str {
    match metadata.file_type() {
        t if t.is_dir() => "a directory",
        t if t.is_file() => "a file",
        t if t.is_symlink() => "a symlink",
        _ => "something else",
    }
}
