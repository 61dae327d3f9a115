//! Makes the tree of the boot partition: what populateCmd lays out, and extraBootFiles over it.
//!
//! Nothing is copied: the tree's files have their origins where they were found.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use tempfile::TempDir;
use thiserror::Error;
use walkdir::WalkDir;

use super::command::{self, CommandError};
use super::tree::{DirectoryMode, Executable, FileTree, TreeBuilder, TreeError};
use crate::progress::{Cancel, Cancelled, Progress};
use crate::store::StoreRoot;

/// The most symbolic links on the way to a file, as in Linux.
const LINKS_MAX: u32 = 40;
/// The bytes of two files that are compared at once.
const BLOCK: usize = 64 << 10;

/// A boot tree that cannot be made.
#[derive(Debug, Error)]
pub enum PopulateError {
    /// There is no place for populateCmd to work in.
    #[error("cannot make a temporary directory for populateCmd: {0}; set TMPDIR to one that can be written to")]
    Scratch(#[source] io::Error),
    /// populateCmd did not succeed.
    #[error("populateCmd: {0}")]
    Command(#[source] CommandError),
    /// A file that could not be examined or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An entry of extraBootFiles that has no contents to be merged.
    #[error("extraBootFiles: {}: is not a directory; name the directory that the file is in", path.display())]
    NotADirectory {
        /// The entry.
        path: PathBuf,
    },
    /// A symbolic link to nothing.
    #[error("{}: leads to {}, which does not exist; FAT has no links, so each must lead to a file", link.display(), target.display())]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// What is missing.
        target: PathBuf,
    },
    /// A symbolic link that leads to itself, by way of others perhaps.
    #[error("{}: leads in a circle; FAT has no links, so each must lead to a file", link.display())]
    LinkLoop {
        /// The link.
        link: PathBuf,
    },
    /// A symbolic link to a directory.
    #[error("{}: leads to the directory {}; FAT has no links, so put its files there instead", link.display(), target.display())]
    LinkToDirectory {
        /// The link.
        link: PathBuf,
        /// The directory.
        target: PathBuf,
    },
    /// A file of a kind that FAT cannot hold.
    #[error("{}: is a {kind}, which FAT cannot hold; leave it out", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Two different files of one path.
    #[error("/boot/{}: comes from {} and, with other contents, from {}; leave one out", path.display(), first.display(), second.display())]
    Conflict {
        /// The path from the boot tree's root.
        path: PathBuf,
        /// Where it came from first.
        first: PathBuf,
        /// Where it comes from too.
        second: PathBuf,
    },
    /// A file and a directory of one path.
    #[error("/boot/{}: is a file in {} and a directory in {}; leave one out", path.display(), file.display(), directory.display())]
    FileAndDirectory {
        /// The path from the boot tree's root.
        path: PathBuf,
        /// The file.
        file: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The files make no tree.
    #[error("/boot: {0}")]
    Tree(#[from] TreeError),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What the boot partition is to be filled with.
#[derive(Clone, Copy, Debug)]
pub struct BootRequest<'a> {
    /// The shell command that fills the directory named by its option `-d` for the toplevel named by `-c`.
    pub populate_cmd: Option<&'a str>,
    /// The toplevel's store path.
    pub toplevel: &'a Path,
    /// Directories whose contents are added, in this order.
    pub extra_boot_files: &'a [PathBuf],
    /// Where store paths are found on the host.
    pub store_root: &'a StoreRoot,
}

/// The files of the boot partition. Those that populateCmd made are gone when this is dropped.
#[derive(Debug)]
pub struct BootTree {
    /// Directories and regular files only.
    pub tree: FileTree,
    /// Holds what populateCmd made.
    _scratch: Option<TempDir>,
}

/// Runs populateCmd in an empty directory and merges extraBootFiles into what it made.
///
/// The tree depends on names and contents alone: not on the order of directories, nor on modes, owners, times.
///
/// # Errors
/// If populateCmd fails, two sources disagree, or there is anything that FAT cannot hold and that leads to no file.
pub fn boot_tree(
    request: &BootRequest<'_>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<BootTree, PopulateError> {
    let store = Store(request.store_root);
    let mut merge = Merge { store, slots: BTreeMap::new() };
    let mut scratch = None;
    if let Some(command) = request.populate_cmd {
        progress.stage("running populateCmd", 0, 0);
        let directory = scratch.insert(new_scratch().map_err(PopulateError::Scratch)?).path();
        populate(command, request, directory, progress, cancel)?;
        merge.add(&fs::canonicalize(directory).map_err(PopulateError::Scratch)?, cancel)?;
    }
    for path in request.extra_boot_files {
        merge.add(&store.find_directory(path)?, cancel)?;
    }
    Ok(BootTree { tree: merge.into_tree()?, _scratch: scratch })
}

fn new_scratch() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("sane-image-boot-").tempdir()
}

fn populate(
    command: &str,
    request: &BootRequest<'_>,
    directory: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), PopulateError> {
    // Options in the order in which nixpkgs' image builders give them. A newline after the command would cut them off.
    let script = format!("{} -c {} -d .", command.trim_end(), quoted(request.toplevel));
    let environment = request.store_root.environment();
    command::run(&script, directory, &environment, progress, cancel).map_err(|error| match error {
        CommandError::Cancelled(cancelled) => PopulateError::Cancelled(cancelled),
        error => PopulateError::Command(error),
    })
}

/// A path as one word for the shell. Store paths are ASCII.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// The store, as one in which paths are to be followed.
#[derive(Clone, Copy)]
struct Store<'a>(&'a StoreRoot);

/// Why a path leads to no file.
enum Unresolved {
    Missing(PathBuf),
    Loop,
    Io(PathBuf, io::Error),
}

impl Store<'_> {
    /// The place of an entry of extraBootFiles, free of symbolic links.
    fn find_directory(&self, path: &Path) -> Result<PathBuf, PopulateError> {
        let found = self.resolve(self.0.root_of(path), path).map_err(|error| match error {
            Unresolved::Missing(missing) => io_error(&missing)(ErrorKind::NotFound.into()),
            Unresolved::Loop => PopulateError::LinkLoop { link: path.to_owned() },
            Unresolved::Io(path, source) => PopulateError::Io { path, source },
        })?;
        if fs::symlink_metadata(&found).map_err(io_error(&found))?.is_dir() {
            Ok(found)
        } else {
            Err(PopulateError::NotADirectory { path: path.to_owned() })
        }
    }

    /// The file that a symbolic link leads to, and its length.
    fn follow(&self, link: &Path) -> Result<(PathBuf, u64), PopulateError> {
        let directory = link.parent().unwrap_or(Path::new("/"));
        let name = link.file_name().unwrap_or_default();
        let target = self.resolve(directory, Path::new(name)).map_err(|error| match error {
            Unresolved::Missing(target) => PopulateError::DanglingLink { link: link.to_owned(), target },
            Unresolved::Loop => PopulateError::LinkLoop { link: link.to_owned() },
            Unresolved::Io(path, source) => PopulateError::Io { path, source },
        })?;
        let metadata = fs::symlink_metadata(&target).map_err(io_error(&target))?;
        match special(metadata.file_type()) {
            Some(kind) => Err(PopulateError::SpecialFile { path: link.to_owned(), kind }),
            None if metadata.is_dir() => Err(PopulateError::LinkToDirectory { link: link.to_owned(), target }),
            None => Ok((target, metadata.len())),
        }
    }

    /// Follows all links on the way along `path` from `start`, those into the store below the root.
    ///
    /// `start` must be free of links.
    fn resolve(&self, start: &Path, path: &Path) -> Result<PathBuf, Unresolved> {
        let mut at = start.to_owned();
        let mut ahead = Vec::new();
        push_reversed(&mut ahead, path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(&name);
            let Some(target) = link_target(&at)? else { continue };
            links += 1;
            if links > LINKS_MAX {
                return Err(Unresolved::Loop);
            }
            at.pop();
            if target.is_absolute() {
                at = self.0.root_of(&target).to_owned();
            }
            push_reversed(&mut ahead, &target);
        }
        Ok(at)
    }
}

/// Puts the names along a path on a stack, the first on top.
fn push_reversed(stack: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    stack.extend(names.map(|part| part.as_os_str().to_owned()));
}

/// What `path` links to, or `None` if it is no link.
fn link_target(path: &Path) -> Result<Option<PathBuf>, Unresolved> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Unresolved::Missing(path.to_owned()))
        }
        Err(e) => Err(Unresolved::Io(path.to_owned(), e)),
    }
}

/// What a file is that is neither regular nor directory nor symbolic link.
fn special(file_type: FileType) -> Option<&'static str> {
    match file_type {
        t if t.is_block_device() => Some("block device"),
        t if t.is_char_device() => Some("character device"),
        t if t.is_fifo() => Some("fifo"),
        t if t.is_socket() => Some("socket"),
        _ => None,
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PopulateError + use<> {
    let path = path.to_owned();
    |source| PopulateError::Io { path, source }
}

/// What stands at a path of the boot tree, and where it was found first.
#[derive(Debug)]
enum Slot {
    Directory { source: PathBuf },
    File { source: PathBuf, size: u64 },
}

/// The boot tree while it grows. Paths compare name by name, so that a map of them is in the order of the tree.
struct Merge<'a> {
    store: Store<'a>,
    slots: BTreeMap<PathBuf, Slot>,
}

impl Merge<'_> {
    /// Adds the contents of a directory, whose path is free of symbolic links.
    fn add(&mut self, directory: &Path, cancel: &Cancel) -> Result<(), PopulateError> {
        for entry in WalkDir::new(directory).min_depth(1).sort_by_file_name() {
            cancel.check()?;
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(directory).to_owned();
                PopulateError::Io { path, source: error.into() }
            })?;
            let path = entry.path().strip_prefix(directory).unwrap_or(entry.path()).to_owned();
            let slot = self.examine(entry.path(), entry.file_type())?;
            self.insert(path, slot)?;
        }
        Ok(())
    }

    fn examine(&self, source: &Path, file_type: FileType) -> Result<Slot, PopulateError> {
        if file_type.is_dir() {
            return Ok(Slot::Directory { source: source.to_owned() });
        }
        if file_type.is_symlink() {
            return self.store.follow(source).map(|(source, size)| Slot::File { source, size });
        }
        if let Some(kind) = special(file_type) {
            return Err(PopulateError::SpecialFile { path: source.to_owned(), kind });
        }
        let size = fs::symlink_metadata(source).map_err(io_error(source))?.len();
        Ok(Slot::File { source: source.to_owned(), size })
    }

    fn insert(&mut self, path: PathBuf, slot: Slot) -> Result<(), PopulateError> {
        let old = match self.slots.entry(path) {
            Entry::Occupied(old) => old,
            Entry::Vacant(place) => {
                place.insert(slot);
                return Ok(());
            }
        };
        let path = old.key().clone();
        match (old.get(), slot) {
            (Slot::Directory { .. }, Slot::Directory { .. }) => Ok(()),
            (Slot::File { source: file, .. }, Slot::Directory { source: directory }) => {
                Err(PopulateError::FileAndDirectory { path, file: file.clone(), directory })
            }
            (Slot::Directory { source: directory }, Slot::File { source: file, .. }) => {
                Err(PopulateError::FileAndDirectory { path, file, directory: directory.clone() })
            }
            (Slot::File { source: first, size }, Slot::File { source: second, size: other_size }) => {
                if *size == other_size && same_contents(first, &second, *size)? {
                    Ok(())
                } else {
                    Err(PopulateError::Conflict { path, first: first.clone(), second })
                }
            }
        }
    }

    fn into_tree(self) -> Result<FileTree, TreeError> {
        let mut builder = TreeBuilder::new(DirectoryMode::Writable);
        // The directories that are entered, the root included.
        let mut open = 1;
        for (path, slot) in self.slots {
            let level = path.components().count();
            (level..open).for_each(|_| builder.leave());
            open = level;
            let name = path.file_name().unwrap_or(OsStr::new(""));
            match slot {
                Slot::Directory { .. } => {
                    builder.enter(name, DirectoryMode::Writable)?;
                    open += 1;
                }
                Slot::File { source, size } => {
                    let file = builder.file(name, size, Executable::No)?;
                    builder.set_origin(file, source);
                }
            }
        }
        Ok(builder.finish())
    }
}

/// Whether two files of `size` bytes hold the same.
fn same_contents(first: &Path, second: &Path, size: u64) -> Result<bool, PopulateError> {
    if first == second {
        return Ok(true);
    }
    let open = |path| File::open(path).map(|file| file.take(size)).map_err(io_error(path));
    let (mut a, mut b) = (open(first)?, open(second)?);
    let (mut of_a, mut of_b) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
    loop {
        read_block(&mut a, &mut of_a).map_err(io_error(first))?;
        read_block(&mut b, &mut of_b).map_err(io_error(second))?;
        if of_a != of_b || of_a.is_empty() {
            return Ok(of_a == of_b);
        }
    }
}

/// Reads the next [`BLOCK`] bytes, or what is left.
fn read_block(from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<usize> {
    block.clear();
    from.take(BLOCK as u64).read_to_end(block)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::super::tree::{NodeIndex, NodeKind};
    use super::*;
    use crate::progress::Lines;
    use crate::progress::Silent;
    use crate::store::StoreDir;

    const TOPLEVEL: &str = "/nix/store/00000000000000000000000000000000-nixos-system";

    /// A host directory with a store root in it.
    struct Host(TempDir);

    impl Host {
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(host.path("root/nix/store")).unwrap();
            host
        }

        fn path(&self, path: &str) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap().join(path)
        }

        fn file(&self, path: &str, contents: &str) -> &Self {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            fs::write(self.path(path), contents).unwrap();
            self
        }

        fn link(&self, path: &str, target: &str) -> &Self {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            symlink(target, self.path(path)).unwrap();
            self
        }

        /// With the store root. Extras are paths from this directory, or in the store if they start with a slash.
        fn boot_tree(&self, populate_cmd: Option<&str>, extras: &[&str]) -> Result<BootTree, PopulateError> {
            let extras: Vec<_> = extras.iter().map(|extra| self.path(extra)).collect();
            let request = BootRequest {
                populate_cmd,
                toplevel: Path::new(TOPLEVEL),
                extra_boot_files: &extras,
                store_root: &store_root(Some(self.path("root"))),
            };
            boot_tree(&request, &Silent, &Cancel::new())
        }

        fn listing(&self, populate_cmd: Option<&str>, extras: &[&str]) -> Vec<String> {
            listing(&self.boot_tree(populate_cmd, extras).unwrap())
        }

        fn error(&self, extras: &[&str]) -> PopulateError {
            self.boot_tree(None, extras).unwrap_err()
        }
    }

    fn store_root(root: Option<PathBuf>) -> StoreRoot {
        StoreRoot::new(StoreDir::new("/nix/store").unwrap(), root)
    }

    /// Paths in the tree's order: directories with a slash, files with their contents.
    fn listing(boot: &BootTree) -> Vec<String> {
        let tree = &boot.tree;
        let describe = |node: NodeIndex| match tree.kind(node) {
            NodeKind::Directory(_) => format!("{}/", tree.path(node).display()),
            NodeKind::File { size, .. } => {
                let contents = fs::read_to_string(tree.source_path(node).unwrap()).unwrap();
                assert_eq!(contents.len() as u64, size);
                format!("{}={}", tree.path(node).display(), contents.trim_end())
            }
            NodeKind::Symlink(_) => panic!("a link in a boot tree"),
        };
        tree.nodes().skip(1).map(describe).collect()
    }

    #[test]
    fn no_request_makes_an_empty_tree() {
        assert!(Host::new().boot_tree(None, &[]).unwrap().tree.is_empty());
        assert!(Host::new().boot_tree(Some("true"), &[]).unwrap().tree.is_empty());
    }

    #[test]
    fn the_command_gets_options_and_root() {
        let host = Host::new();
        let command = "mkdir b; f() { echo \"$*\" > b/args; echo \"$SANE_IMAGE_STORE_ROOT\" > root; }\nf -g 3\n\n";
        let found = host.listing(Some(command), &[]);
        let root = host.path("root").display().to_string();
        assert_eq!(found, ["b/", &format!("b/args=-g 3 -c {TOPLEVEL} -d ."), &format!("root={root}")]);
    }

    #[test]
    fn odd_toplevels_are_one_word() {
        let request = BootRequest {
            populate_cmd: Some("f() { echo \"$2\" > file; }; f"),
            toplevel: Path::new("/a b'$c"),
            extra_boot_files: &[],
            store_root: &store_root(None),
        };
        assert_eq!(listing(&boot_tree(&request, &Silent, &Cancel::new()).unwrap()), ["file=/a b'$c"]);
    }

    #[test]
    fn names_are_in_order_of_bytes() {
        let host = Host::new();
        for name in ["x/a/z", "x/a-b/z", "x/a.c", "x/B", "x/a0", "x/.hidden", "x/\u{e9}"] {
            host.file(name, "");
        }
        assert_eq!(host.listing(None, &["x"]), [".hidden=", "B=", "a/", "a/z=", "a-b/", "a-b/z=", "a.c=", "a0=", "é="]);
    }

    #[test]
    fn extra_files_are_merged() {
        let host = Host::new();
        host.file("one/d/a", "1").file("one/.dot", "2").file("two/d/b", "3").file("two/d/e/f", "4");
        let found = host.listing(Some("f() { mkdir d; echo 0 > d/0; }; f"), &["one", "two"]);
        assert_eq!(found, [".dot=2", "d/", "d/0=0", "d/a=1", "d/b=3", "d/e/", "d/e/f=4"]);
    }

    #[test]
    fn equal_files_agree_and_others_conflict() {
        let host = Host::new();
        let long = "x".repeat(3 * BLOCK + 5);
        host.file("one/d/a", &long).file("two/d/a", &long).file("other/d/a", &long.replace("xx", "xy"));
        host.file("three/d/a", "short").file("file/d", "").file("dir/d/a/b", "");
        assert_eq!(host.listing(None, &["one", "two", "one"]).len(), 2);
        for (extras, name) in [(["one", "other"], "other"), (["two", "three"], "three")] {
            let error = host.error(&extras);
            assert!(matches!(&error, PopulateError::Conflict { path, .. } if path == Path::new("d/a")), "{error}");
            assert!(error.to_string().contains(&format!("{name}/d/a")), "{error}");
        }
        for extras in [["one", "file"], ["file", "one"], ["one", "dir"], ["dir", "one"]] {
            let error = host.error(&extras);
            assert!(matches!(error, PopulateError::FileAndDirectory { .. }), "{error}");
        }
    }

    #[test]
    fn store_paths_are_found_below_the_root() {
        let host = Host::new();
        host.file("root/nix/store/extra/f", "1").link("root/nix/store/link", "/nix/store/extra");
        for extra in ["/nix/store/extra", "/nix/store/link"] {
            assert_eq!(host.listing(None, &[extra]), ["f=1"]);
        }
    }

    #[test]
    fn links_to_files_are_followed() {
        let host = Host::new();
        host.file("root/nix/store/kernel/bzImage", "kernel").file("outside", "out").file("x/d/file", "here");
        host.link("root/nix/store/top/kernel", "/nix/store/kernel/bzImage").link("root/nix/store/sw", "top");
        host.link("x/d/near", "file").link("x/up", "d/../d/near").link("x/out", "../outside");
        host.link("x/store", "/nix/store/sw/kernel");
        let absolute = host.path("outside");
        host.link("x/absolute", absolute.to_str().unwrap());
        let wanted = ["absolute=out", "d/", "d/file=here", "d/near=here", "out=out", "store=kernel", "up=here"];
        assert_eq!(host.listing(None, &["x"]), wanted);
        let boot = host.boot_tree(None, &["x"]).unwrap();
        let store = boot.tree.find([OsStr::new("store")]).unwrap();
        assert_eq!(boot.tree.source_path(store), Some(host.path("root/nix/store/kernel/bzImage")));
    }

    #[test]
    fn links_to_anything_else_are_errors() {
        let host = Host::new();
        fs::create_dir_all(host.path("x/d")).unwrap();
        let try_link = |target: &str| {
            fs::remove_file(host.path("x/l")).ok();
            host.link("x/l", target);
            host.error(&["x"])
        };
        assert!(matches!(try_link("nowhere"), PopulateError::DanglingLink { .. }));
        assert!(matches!(try_link("/nix/store/nowhere"), PopulateError::DanglingLink { target, .. }
            if target == host.path("root/nix/store/nowhere")));
        assert!(matches!(try_link("d"), PopulateError::LinkToDirectory { .. }));
        assert!(matches!(try_link("."), PopulateError::LinkToDirectory { .. }));
        assert!(matches!(try_link("l"), PopulateError::LinkLoop { .. }));
        assert!(matches!(try_link("l/x"), PopulateError::LinkLoop { .. }));
        assert!(matches!(try_link("/dev/null"), PopulateError::SpecialFile { kind: "character device", .. }));
        host.file("x/f", "");
        assert!(matches!(try_link("f/x"), PopulateError::DanglingLink { .. }));
        let message = try_link("nowhere").to_string();
        assert!(message.contains("x/l: leads to ") && message.contains("x/nowhere, which does not exist"), "{message}");
    }

    #[test]
    fn special_files_are_errors() {
        let host = Host::new();
        fs::create_dir(host.path("x")).unwrap();
        let socket = UnixListener::bind(host.path("x/s")).unwrap();
        assert!(matches!(host.error(&["x"]), PopulateError::SpecialFile { kind: "socket", .. }));
        drop(socket);
        fs::remove_file(host.path("x/s")).unwrap();
        let error = host.boot_tree(Some("f() { mkfifo p; }; f"), &["x"]).unwrap_err();
        assert!(matches!(error, PopulateError::SpecialFile { kind: "fifo", .. }), "{error}");
    }

    #[test]
    fn extra_boot_files_must_be_directories() {
        let host = Host::new();
        host.file("file", "").link("circle", "circle").link("dangling", "nowhere");
        assert!(matches!(host.error(&["file"]), PopulateError::NotADirectory { .. }));
        assert!(matches!(host.error(&["circle"]), PopulateError::LinkLoop { .. }));
        for missing in ["nowhere", "dangling"] {
            let error = host.error(&[missing]);
            assert!(error.to_string().contains("nowhere: cannot be read"), "{error}");
        }
    }

    #[test]
    fn the_host_does_not_show() {
        let [host, other] = [Host::new(), Host::new()];
        host.file("x/a", "1").file("x/b", "2");
        other.file("x/b", "2").file("x/a", "1");
        fs::set_permissions(other.path("x/a"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::hard_link(other.path("x/a"), other.path("y")).unwrap();
        let trees = [&host, &other].map(|host| host.boot_tree(None, &["x"]).unwrap().tree);
        let [kinds, others] = trees.each_ref().map(|tree| tree.nodes().map(|n| tree.kind(n)).collect::<Vec<_>>());
        assert_eq!(kinds, others);
    }

    fn request_for<'a>(populate_cmd: &'a str, store_root: &'a StoreRoot) -> BootRequest<'a> {
        BootRequest {
            populate_cmd: Some(populate_cmd),
            toplevel: Path::new(TOPLEVEL),
            extra_boot_files: &[],
            store_root,
        }
    }

    #[test]
    fn a_failing_command_is_told() {
        let lines = Lines::default();
        let root = store_root(None);
        let request = request_for("f() { pwd; echo why >&2; exit 9; }; f", &root);
        let error = boot_tree(&request, &lines, &Cancel::new()).unwrap_err();
        assert!(matches!(&error, PopulateError::Command(CommandError::Exit { code: 9 })));
        assert!(error.to_string().starts_with("populateCmd: failed with exit status 9"), "{error}");
        let lines = lines.0.into_inner().unwrap();
        assert_eq!(lines[1], "why");
        assert!(!Path::new(&lines[0]).exists(), "the temporary directory is gone");
    }

    #[test]
    fn the_temporary_directory_lives_as_long_as_the_tree() {
        let boot =
            boot_tree(&request_for("f() { echo 1 > file; }; f", &store_root(None)), &Silent, &Cancel::new()).unwrap();
        let file = boot.tree.source_path(boot.tree.find([OsStr::new("file")]).unwrap()).unwrap();
        assert!(file.exists());
        drop(boot);
        assert!(!file.exists());
    }

    #[test]
    fn a_sleeping_command_can_be_cancelled() {
        let cancel = Cancel::new();
        let started = Instant::now();
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                cancel.request(2);
            });
            boot_tree(&request_for("f() { sleep 100; }; f", &store_root(None)), &Silent, &cancel).unwrap_err()
        });
        assert!(matches!(error, PopulateError::Cancelled(Cancelled { signal: 2 })), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
