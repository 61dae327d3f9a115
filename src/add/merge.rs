//! Reads the tree of a filesystem that exists, and adds files to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::AddError;
use crate::ext4::layout::LOST_AND_FOUND;
use crate::progress::Cancel;
use crate::read::walk::{ENTERED_AGAIN, MAX_DEPTH};
use crate::read::{Entered, Entry, FileId, FileSystem, Format, Kind, Metadata, Method, ReadError, Rest, escape};
use crate::source::own::{OwnEntry, OwnKind};
use crate::source::tree::{Attributes, DirectoryMode, Executable, FileTree, NodeIndex, TreeBuilder};

/// At most this many problems are reported.
const TOLD: usize = 20;

/// A filesystem that exists, with files laid over it.
pub(super) struct Merged {
    /// All files. Those that were in the image before have their paths in its filesystem.
    pub(super) tree: FileTree,
    /// The paths of the subvolumes of a btrfs with their identifiers, the top level excepted.
    pub(super) subvolumes: Vec<(String, u64)>,
    /// How its files are compressed.
    pub(super) methods: BTreeSet<Method>,
    /// How many of the files were there before.
    pub(super) replaced: u64,
    /// Whether anything is other than it was.
    pub(super) is_new: bool,
}

/// What is to be at a place and below it.
#[derive(Default)]
struct Over<'a> {
    entry: Option<&'a OwnEntry>,
    below: BTreeMap<OsString, Over<'a>>,
}

/// Lays `own` over all files of `fs`.
///
/// # Errors
/// If the filesystem cannot be read, or holds what cannot be written back.
pub(super) fn merge(fs: &dyn FileSystem, own: &[OwnEntry], cancel: &Cancel) -> Result<Merged, AddError> {
    let mut over = Over::default();
    for entry in own {
        let place = entry.path.iter().fold(&mut over, |at, name| at.below.entry(name.to_owned()).or_default());
        place.entry = Some(entry);
    }
    let mut problems = Problems::default();
    fs.obstacles()?.into_iter().for_each(|obstacle| problems.note(obstacle));
    let root = fs.metadata(Path::new(""))?;
    let mut builder = TreeBuilder::from_image(directory_mode(root.permissions));
    let mut merge = Merge {
        fs,
        is_fat: fs.summary().format == Format::Vfat,
        entries: 0,
        entered: Entered::default(),
        subvolumes: Vec::new(),
        methods: BTreeSet::new(),
        replaced: 0,
        is_new: false,
        problems,
        cancel,
    };
    merge.describe(&mut builder, NodeIndex::ROOT, Path::new(""), &root)?;
    merge.directory(&mut builder, Path::new(""), fs.id(Path::new(""))?, &over, 0)?;
    merge.problems.judge()?;
    let Merge { subvolumes, methods, replaced, is_new, .. } = merge;
    Ok(Merged { tree: builder.finish(), subvolumes, methods, replaced, is_new })
}

/// The problems to report, at most [`TOLD`].
#[derive(Default)]
struct Problems {
    told: Vec<String>,
    more: u64,
}

impl Problems {
    fn note(&mut self, problem: String) {
        if self.told.len() < TOLD {
            self.told.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn judge(&self) -> Result<(), AddError> {
        if self.told.is_empty() {
            return Ok(());
        }
        let mut lines = self.told.clone();
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        Err(AddError::Obstacles(lines))
    }
}

struct Merge<'a> {
    fs: &'a dyn FileSystem,
    /// Whether names that differ only in case are the same.
    is_fat: bool,
    /// Entries met.
    entries: u64,
    entered: Entered,
    subvolumes: Vec<(String, u64)>,
    methods: BTreeSet<Method>,
    replaced: u64,
    is_new: bool,
    problems: Problems,
    cancel: &'a Cancel,
}

/// A name in a directory: what is there, and what is laid over it.
type Pair<'o, 'a> = (Option<Entry>, Option<&'o Over<'a>>);

impl Merge<'_> {
    /// Adds all that is in a directory to the current one of `builder`; `path` is where it is, if it was there before.
    fn directory(
        &mut self,
        builder: &mut TreeBuilder,
        path: &Path,
        id: Option<FileId>,
        over: &Over<'_>,
        depth: usize,
    ) -> Result<(), AddError> {
        self.cancel.check()?;
        let corrupt = |why: String| ReadError::corrupt(format!("directory {}", escape::path(path)), why);
        if depth > MAX_DEPTH {
            return Err(corrupt(format!("is deeper than {MAX_DEPTH} directories")).into());
        }
        if !self.entered.enter(id) {
            return Err(corrupt(ENTERED_AGAIN.to_owned()).into());
        }
        for (name, (old, over)) in self.pairs(path, over)? {
            let path = path.join(&name);
            match (old, over) {
                (Some(old), over) => self.old(builder, &path, &old, id, over, depth)?,
                (None, Some(over)) => self.lay(builder, &name, over)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// All names of a directory, sorted, each once.
    fn pairs<'o, 'a>(&mut self, path: &Path, over: &'o Over<'a>) -> Result<BTreeMap<OsString, Pair<'o, 'a>>, AddError> {
        let mut new: BTreeMap<OsString, (&OsString, &Over<'_>)> = BTreeMap::new();
        for (name, over) in &over.below {
            if let Some((other, _)) = new.insert(self.folded(name), (name, over)) {
                let (path, name, other) = (escape::path(path), escape::name(name), escape::name(other));
                self.problems.note(format!("/{path}: {other:?} and {name:?} are the same name on FAT; leave one out"));
            }
        }
        let mut pairs = BTreeMap::new();
        for entry in self.fs.list(path)? {
            self.entries += 1;
            if self.entries > self.fs.summary().max_entries {
                let why = "has more entries than the image has room for";
                return Err(ReadError::corrupt("directory tree", why).into());
            }
            if self.is_own(path, &entry) {
                continue;
            }
            let over = new.remove(&self.folded(&entry.name)).map(|(_, over)| over);
            pairs.insert(entry.name.clone(), (Some(entry), over));
        }
        pairs.extend(new.into_values().map(|(name, over)| (name.clone(), (None, Some(over)))));
        Ok(pairs)
    }

    /// A name as the filesystem compares it.
    fn folded(&self, name: &OsStr) -> OsString {
        if self.is_fat { name.to_string_lossy().to_lowercase().into() } else { name.to_owned() }
    }

    /// Whether an entry is one that every filesystem of this format has, and gets anew.
    fn is_own(&mut self, directory: &Path, entry: &Entry) -> bool {
        let is_lost_and_found =
            self.fs.summary().format == Format::Ext4 && directory == Path::new("") && entry.name == LOST_AND_FOUND;
        if is_lost_and_found && self.fs.list(Path::new(LOST_AND_FOUND)).is_ok_and(|found| !found.is_empty()) {
            self.problems.note(format!("/{LOST_AND_FOUND}: what a repair has found; move it elsewhere or remove it"));
        }
        is_lost_and_found
    }

    /// Adds what is there, or what replaces it.
    fn old(
        &mut self,
        builder: &mut TreeBuilder,
        path: &Path,
        old: &Entry,
        around: Option<FileId>,
        over: Option<&Over<'_>>,
        depth: usize,
    ) -> Result<(), AddError> {
        let is_directory = old.metadata.kind == Kind::Directory;
        match over.map(|over| (over, over.entry)) {
            None => {}
            Some((_, Some(own))) if is_directory != (own.kind == OwnKind::Directory) => {
                let (here, there) = if is_directory { ("a directory", "none") } else { ("no directory", "one") };
                let target = own.target.display();
                self.problems.note(format!("{target}: is {here} in the image, and {there} in {}", own.origin));
                return Ok(());
            }
            Some((over, None)) if !is_directory => {
                let below = first(over).map(|own| own.origin.as_str()).unwrap_or_default();
                self.problems
                    .note(format!("/{}: is not a directory in the image, but is one for {below}", escape::path(path)));
                return Ok(());
            }
            Some((over, Some(_))) if !is_directory => {
                self.replaced += 1;
                return self.lay(builder, &old.name, over);
            }
            Some(_) => {}
        }
        self.keep(builder, path, old, around, over.unwrap_or(&Over::default()), depth)
    }

    /// Adds what is there.
    fn keep(
        &mut self,
        builder: &mut TreeBuilder,
        path: &Path,
        old: &Entry,
        around: Option<FileId>,
        over: &Over<'_>,
        depth: usize,
    ) -> Result<(), AddError> {
        let metadata = &old.metadata;
        let node = match metadata.kind {
            Kind::Directory => builder.enter(&old.name, directory_mode(metadata.permissions))?,
            Kind::Symlink => builder.symlink(&old.name, &self.fs.read_link(path)?)?,
            Kind::File => {
                let executable = if metadata.permissions == 0o555 { Executable::Yes } else { Executable::No };
                // Errors of reading are reported before anything is done, too.
                self.methods.extend(self.fs.open(path)?.methods());
                builder.file(&old.name, metadata.len, executable)?
            }
            // The reader names its kind among the obstacles.
            Kind::Special => return self.rest(path).map(drop),
        };
        self.describe(builder, node, path, metadata)?;
        if metadata.kind == Kind::Directory {
            if let (Some(FileId(here, _)), Some(FileId(outside, _))) = (old.id, around)
                && here != outside
            {
                let name = path.to_str().ok_or_else(|| AddError::Obstacles(vec![not_utf8(path)]))?;
                self.subvolumes.push((name.to_owned(), here));
            }
            self.directory(builder, path, old.id, over, depth + 1)?;
            builder.leave();
        }
        Ok(())
    }

    /// Gives a node what else is known of it.
    fn describe(
        &mut self,
        builder: &mut TreeBuilder,
        node: NodeIndex,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), AddError> {
        let attributes = Attributes { mode: metadata.permissions, uid: metadata.uid, gid: metadata.gid };
        if !self.is_fat {
            builder.set_attributes(node, attributes);
        }
        let rest = self.rest(path)?;
        builder.set_times(node, rest.times);
        builder.set_flags(node, rest.flags);
        Ok(())
    }

    /// The rest of a file's properties. Notes the ones that cannot be written again.
    fn rest(&mut self, path: &Path) -> Result<Rest, AddError> {
        let rest = self.fs.rest(path)?;
        for obstacle in &rest.obstacles {
            self.problems.note(format!("/{}: {obstacle}", escape::path(path)));
        }
        Ok(rest)
    }

    /// Adds what was not there.
    fn lay(&mut self, builder: &mut TreeBuilder, name: &OsStr, over: &Over<'_>) -> Result<(), AddError> {
        self.cancel.check()?;
        self.is_new = true;
        let attributes = over.entry.map(|own| own.attributes);
        let node = match over.entry.map(|own| &own.kind) {
            None | Some(OwnKind::Directory) => builder.enter(name, DirectoryMode::Writable)?,
            Some(OwnKind::Symlink(target)) => builder.symlink(name, target)?,
            Some(OwnKind::File { source, size }) => {
                let node = builder.file(name, *size, Executable::No)?;
                builder.set_origin(node, source.clone());
                node
            }
        };
        if let Some(attributes) = attributes {
            builder.set_attributes(node, attributes);
        }
        if matches!(over.entry.map(|own| &own.kind), None | Some(OwnKind::Directory)) {
            for (name, over) in &over.below {
                self.lay(builder, name, over)?;
            }
            builder.leave();
        }
        Ok(())
    }
}

/// The first of what is below a place.
fn first<'a>(over: &Over<'a>) -> Option<&'a OwnEntry> {
    over.entry.or_else(|| over.below.values().find_map(first))
}

fn not_utf8(path: &Path) -> String {
    format!("/{}: a subvolume whose name is not UTF-8", escape::path(path))
}

fn directory_mode(permissions: u16) -> DirectoryMode {
    if permissions == 0o555 { DirectoryMode::ReadOnly } else { DirectoryMode::Writable }
}
