//! Random trees of a host's own files, from the spec and from `--extra-files`: our readers, the kernel and ext4-view find
//! in the image what was meant, and neither the host, nor threads, nor the order of the spec show.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ext4_view::{Ext4, FileType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sane_image::read::{FileSystem, Kind};
use serde_json::{Value, json};

use crate::property;
use crate::support::closure::{BOOT_ID, Closure, ClosureBuilder, NIX_UUID};
use crate::support::image::{run, sane_image};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::reading;
use crate::support::tool::need;

/// Where the spec's files are, and where the laid-over ones: parents that exist, that others make, that nobody names.
const IN_SPEC: [&str; 3] = ["f", "var/log/f", "srv/f"];
const LAID_OVER: [&str; 3] = ["e", "var/e", "srv/e"];

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    what: What,
    mode: u16,
    owner: (u32, u32),
}

impl Node {
    fn directory() -> Self {
        Self { what: What::Directory, mode: 0o755, owner: (0, 0) }
    }
}

/// What is at which path from the filesystem's root.
type Nodes = BTreeMap<PathBuf, Node>;

/// Something random: in which of the directories before it, its name, what it is, and whether anything is said of it.
type Random = (usize, Vec<u8>, Node, bool);

fn text_name() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => "[a-z]{1,8}",
        2 => "[ -.0-~]{1,20}",
        2 => "\\PC{1,20}",
        1 => Just("line\nfeed\ttab\u{1b}".to_owned()),
        1 => "[a-z]".prop_map(|end| "é".repeat(127) + &end),
    ];
    name.prop_filter("legal", |name| !name.contains('/') && name != "." && name != "..").prop_map(String::into_bytes)
}

fn node() -> impl Strategy<Value = Node> {
    let len = prop_oneof![2 => Just(0usize), 3 => 1usize..100, 2 => 2_040usize..2_060, 1 => 4_095usize..140_000];
    let link = prop_oneof![1usize..70, Just(59), Just(60), 1usize..4_095];
    let link = link.prop_map(|len| (0..len).map(|i| if i % 200 == 199 { b'/' } else { b'l' }).collect());
    let what = prop_oneof![
        3 => Just(What::Directory),
        4 => (any::<u8>(), len).prop_map(|(byte, len)| What::File(vec![byte; len])),
        1 => link.prop_map(What::Link),
    ];
    let mode = prop_oneof![Just(0o600), Just(0o755), Just(0o4755), Just(0o1777), 0u16..=0o7777];
    let id = || prop_oneof![2 => Just(0), 1 => Just(65_536), 1 => Just(u32::MAX - 1), 2 => 0..u32::MAX];
    (what, mode, (id(), id())).prop_map(|(what, mode, owner)| {
        let mode = if matches!(what, What::Link(_)) { 0o777 } else { mode };
        Node { what, mode, owner }
    })
}

fn tree(name: impl Strategy<Value = Vec<u8>>, top: &'static [&'static str]) -> impl Strategy<Value = Tree> {
    let entries = vec((any::<usize>(), name, node(), prop::bool::weighted(0.8)), 0..25);
    (prop::sample::select(top), entries).prop_map(|(top, entries): (_, Vec<Random>)| Tree::new(top, entries))
}

/// A random tree: what is in it, in the order in which it grew, each with whether anything is said of it.
#[derive(Clone, Debug)]
struct Tree {
    top: PathBuf,
    entries: Vec<(PathBuf, Node, bool)>,
}

impl Tree {
    fn new(top: &str, random: Vec<Random>) -> Self {
        let mut directories = vec![PathBuf::from(top)];
        let mut entries: Vec<(PathBuf, Node, bool)> = Vec::new();
        for (parent, name, node, is_said) in random {
            let path = directories[parent % directories.len()].join(OsStr::from_bytes(&name));
            if entries.iter().any(|(there, ..)| *there == path) {
                continue;
            }
            if node.what == What::Directory {
                directories.push(path.clone());
            }
            entries.push((path, node, is_said));
        }
        Self { top: top.into(), entries }
    }

    /// The spec's `files`: directories of which nothing is said are there for what is in them. What is no text is beside
    /// the spec.
    fn write_files(&self, root: &Path) -> (Vec<Value>, Nodes) {
        let said = |node: &Node, is_said: bool| is_said || node.what != What::Directory;
        let entries = || self.entries.iter().filter(|(_, node, is_said)| said(node, *is_said));
        let value = |(number, (path, node, _)): (usize, &(PathBuf, Node, bool))| {
            let (uid, gid) = node.owner;
            let mut value = json!({ "target": Path::new("/").join(path), "uid": uid, "gid": gid });
            match &node.what {
                What::Directory => value["directory"] = json!(true),
                What::Link(target) => value["symlink"] = json!(str::from_utf8(target).unwrap()),
                What::File(bytes) => match str::from_utf8(bytes) {
                    Ok(text) => value["text"] = json!(text),
                    Err(_) => {
                        let source = root.join(format!("source-{number}"));
                        fs::write(&source, bytes).unwrap();
                        value["source"] = json!(source);
                    }
                },
            }
            if !matches!(node.what, What::Link(_)) {
                value["mode"] = json!(format!("{:04o}", node.mode));
            }
            value
        };
        let nodes = entries().map(|(path, node, _)| (path.clone(), node.clone())).collect();
        (entries().enumerate().map(value).collect(), nodes)
    }

    /// The directory for `--extra-files`, and the `--chown`s: of all below a path, so that later ones count.
    fn write_over(&self, root: &Path) -> (Vec<OsString>, Nodes) {
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.join(&self.top)).unwrap();
        root.join(&self.top).ancestors().take_while(|path| path.starts_with(root)).for_each(open);
        let above = self.top.ancestors().filter(|path| !path.as_os_str().is_empty());
        let mut nodes: Nodes = above.map(|path| (path.to_owned(), Node::directory())).collect();
        for (path, node, _) in &self.entries {
            let at = root.join(path);
            match &node.what {
                What::Directory => fs::create_dir(&at).unwrap(),
                What::File(bytes) => fs::write(&at, bytes).unwrap(),
                What::Link(target) => symlink(OsStr::from_bytes(target), &at).unwrap(),
            }
            nodes.insert(path.clone(), Node { owner: (0, 0), ..node.clone() });
        }
        // Only root may read what nobody may read, and a build in Nix's sandbox may give nobody else's rights away; what
        // is below a directory is made before that is closed.
        let (settable, readable) = if rustix::process::geteuid().is_root() { (0o7777, 0) } else { (0o1777, 0o500) };
        for (path, node) in nodes.iter_mut().rev().filter(|(_, node)| !matches!(node.what, What::Link(_))) {
            node.mode = node.mode & settable | readable;
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(node.mode.into())).unwrap();
        }
        let mut arguments = Vec::new();
        for (path, Node { owner, .. }, _) in self.entries.iter().filter(|(.., is_said)| !is_said) {
            let path_argument = [b"/", path.as_os_str().as_bytes()].concat();
            let owner_argument = format!("{}:{}", owner.0, owner.1).into();
            arguments.extend(["--chown".into(), OsString::from_vec(path_argument), owner_argument]);
            nodes.iter_mut().filter(|(at, _)| at.starts_with(path)).for_each(|(_, node)| node.owner = *owner);
        }
        (arguments, nodes)
    }
}

/// One of the filesystems, and where it has the paths of the running system.
struct Format {
    name: &'static str,
    file_systems: Value,
    place: fn(&Path) -> PathBuf,
}

fn ext4() -> Format {
    let device = format!("/dev/disk/by-uuid/{NIX_UUID}");
    let file_systems = json!({ "/": { "device": device, "fsType": "ext4" } });
    Format { name: "ext4", file_systems, place: Path::to_owned }
}

fn btrfs() -> Format {
    let mount = |options: &[&str]| json!({ "device": format!("/dev/disk/by-uuid/{NIX_UUID}"), "fsType": "btrfs", "options": options });
    let file_systems = json!({ "/": mount(&["subvol=@", "compress=zstd"]), "/nix": mount(&["subvol=@nix"]), "/srv": mount(&["subvol=@srv"]) });
    let place = |path: &Path| match path.strip_prefix("srv") {
        Ok(below) => Path::new("@srv").join(below),
        Err(_) => Path::new("@").join(path),
    };
    Format { name: "btrfs", file_systems, place }
}

impl Format {
    /// All that should be in the image but the store: what is said, and directories that lead there.
    fn expected(&self, said: Nodes) -> Nodes {
        let mut nodes: Nodes = said.into_iter().map(|(path, node)| ((self.place)(&path), node)).collect();
        let always: &[&str] = if self.name == "btrfs" { &["@", "@srv"] } else { &["var/log"] };
        let mut parents: Vec<PathBuf> = always.iter().map(PathBuf::from).collect();
        parents.extend(nodes.keys().cloned());
        for parent in parents.iter().flat_map(|path| path.ancestors()).filter(|path| !path.as_os_str().is_empty()) {
            nodes.entry(parent.to_owned()).or_insert_with(Node::directory);
        }
        nodes
    }

    fn closure(&self, files: Vec<Value>) -> Closure {
        let (is_ext4, mut file_systems) = (self.name == "ext4", self.file_systems.clone());
        file_systems["/boot"] = json!({ "device": format!("/dev/disk/by-uuid/{BOOT_ID}"), "fsType": "vfat" });
        ClosureBuilder::new()
            .spec(move |spec| {
                spec["fileSystems"] = file_systems;
                spec["nixFreeSpace"] = json!(1 << 20);
                if is_ext4 {
                    spec["extraDirectories"] = json!(["/var/log"]);
                }
                spec["files"] = json!(files);
            })
            .write()
    }
}

/// Whether a path is the image's own and not the host's.
fn is_ours(path: &Path) -> bool {
    ["nix", "@nix", "lost+found", "nix-path-registration"].iter().any(|top| path.starts_with(top))
}

/// What our readers find.
fn read(fs: &dyn FileSystem) -> Nodes {
    let (found, errors) = reading::walk(fs, usize::MAX);
    assert!(errors.is_empty(), "{errors:?}");
    let entries = found.into_iter().filter(|(path, _)| !is_ours(path));
    let node = |(path, entry): (PathBuf, sane_image::read::Entry)| {
        let what = match entry.metadata.kind {
            Kind::Directory => What::Directory,
            Kind::Symlink => What::Link(fs.read_link(&path).unwrap().into_vec()),
            _ => What::File(reading::contents(fs, &path, u64::MAX).unwrap()),
        };
        let owner = (entry.metadata.uid, entry.metadata.gid);
        (path, Node { what, mode: entry.metadata.permissions, owner })
    };
    entries.map(node).collect()
}

/// What ext4-view finds at each of `paths`.
fn view(image: &Path, paths: &Nodes) -> Nodes {
    let ext4 = Ext4::load_from_path(image).unwrap();
    let node = |path: &PathBuf| {
        let at = [b"/", path.as_os_str().as_bytes()].concat();
        let at = ext4_view::Path::try_from(at.as_slice()).unwrap();
        let metadata = ext4.symlink_metadata(at).unwrap();
        let what = match metadata.file_type() {
            FileType::Directory => What::Directory,
            FileType::Symlink => What::Link(ext4.read_link(at).unwrap().as_ref().to_vec()),
            _ => What::File(ext4.read(at).unwrap()),
        };
        (path.clone(), Node { what, mode: metadata.mode(), owner: (metadata.uid(), metadata.gid()) })
    };
    paths.keys().map(node).collect()
}

/// The first path that is not as it should be.
fn difference(found: &Nodes, expected: &Nodes) -> Option<String> {
    let mut paths = found.keys().chain(expected.keys());
    let path = paths.find(|path| found.get(*path) != expected.get(*path))?;
    let shown = |nodes: &Nodes| nodes.get(path).map(|node| format!("{node:?}").chars().take(200).collect::<String>());
    Some(format!("{path:?}: {:?} instead of {:?}", shown(found), shown(expected)))
}

fn check(format: &Format, in_spec: &Tree, laid_over: &Tree) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let over = dir.path().join("over");
    let closure = format.closure(Vec::new());
    let (files, mut said) = in_spec.write_files(closure.root());
    let (chown, laid) = laid_over.write_over(&over);
    said.extend(laid);
    let expected = format.expected(said);
    let build = |files: Vec<Value>, umask: &str, jobs: &str| {
        let mut spec: Value = serde_json::from_slice(&fs::read(closure.spec_path()).unwrap()).unwrap();
        spec["files"] = json!(files);
        let (path, image) = (dir.path().join(format!("spec-{jobs}")), dir.path().join(format!("{jobs}.img")));
        fs::write(&path, spec.to_string()).unwrap();
        let script = format!("umask {umask}; exec \"$0\" build \"$@\" --only nix --jobs {jobs}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sane-image")]).arg(path).arg("--store-root");
        command.arg(closure.root()).arg("--out").arg(&image).arg("--extra-files").arg(&over).args(&chown);
        run(&mut command).expect_success();
        image
    };
    let reversed = files.iter().rev().cloned().collect();
    let (image, other) = (build(files.clone(), "022", "4"), build(reversed, "077", "1"));
    prop_assert!(fs::read(&image).unwrap() == fs::read(other).unwrap(), "the images differ");
    let whole = oracle::whole(&image);
    let fs = reading::open(std::sync::Arc::new(reading::window(&image, whole))).unwrap();
    prop_assert_eq!(difference(&read(fs.as_ref()), &expected), None, "ours");
    match format.name {
        "ext4" => {
            prop_assert!(added_is_built(&closure, &files, &over, &chown), "what is added differs from what is built");
            oracle::e2fsck(&image, whole).expect_clean();
            prop_assert_eq!(difference(&view(&image, &expected), &expected), None, "ext4-view");
        }
        _ => {
            oracle::btrfs_check(&image, whole).expect_clean();
        }
    }
    if let Some(mount) = Mount::new(&image, whole, format.name, Access::ReadOnly) {
        prop_assert_eq!(reading::differences(fs.as_ref(), mount.path()), [""; 0], "the kernel");
    }
    Ok(())
}

/// Whether `add` makes of a filesystem without the laid-over files what `build` makes with them and with as much free.
fn added_is_built(closure: &Closure, files: &[Value], over: &Path, chown: &[OsString]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let build = |name: &str, free: u64, more: &[&OsStr]| {
        let mut spec: Value = serde_json::from_slice(&fs::read(closure.spec_path()).unwrap()).unwrap();
        (spec["files"], spec["nixFreeSpace"]) = (json!(files), json!(free));
        let (path, image) = (dir.path().join("spec"), dir.path().join(name));
        fs::write(&path, spec.to_string()).unwrap();
        let mut command = sane_image();
        command.arg("build").arg(path).args(["--only", "nix", "--store-root"]).arg(closure.root()).args(more);
        run(command.arg("--out").arg(&image)).expect_success();
        image
    };
    let before = build("before", 1 << 20, &[]);
    let free =
        reading::open(std::sync::Arc::new(reading::window(&before, oracle::whole(&before)))).unwrap().summary().free;
    let extra = ["--extra-files".as_ref(), over.as_os_str()];
    let chown_refs: Vec<&OsStr> = chown.iter().map(OsString::as_os_str).collect();
    let built = build("built", free, &[&extra[..], &chown_refs].concat());
    let added = dir.path().join("added");
    let mut add = sane_image();
    run(add.arg("add").arg(&before).args(extra).args(chown).arg("--out").arg(&added)).expect_success();
    fs::read(built).unwrap() == fs::read(added).unwrap()
}

fn random(format: &Format) {
    // Those of the host itself need not be text.
    let over = prop_oneof![property::name(), text_name()];
    let trees = (tree(text_name(), &IN_SPEC), tree(over, &LAID_OVER));
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    runner.run(&trees, |(in_spec, laid_over)| check(format, &in_spec, &laid_over)).unwrap();
}

#[test]
fn on_ext4() {
    if need("sh") {
        random(&ext4());
    }
}

#[test]
fn on_btrfs() {
    if need("sh") {
        random(&btrfs());
    }
}
