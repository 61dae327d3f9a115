//! Closures made to order: store paths, closureInfo and a spec below a directory that stands for `/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::nar::{NarHash, STORE_DIR, source_path};
use super::tree::{Entry, Host};

/// The UUID of the nix filesystem in the specs made here.
pub(crate) const NIX_UUID: &str = "6a1f0d0e-5f0b-4b52-9a0e-3c7f1d2e4b60";
/// The volume id of the ESP in the specs made here.
pub(crate) const BOOT_ID: &str = "5A4E-1111";
const MIB: u64 = 1 << 20;

/// One store path of a closure.
#[derive(Clone, Debug)]
pub(crate) struct StorePath {
    /// The full path, as in `/nix/store/<hash>-<name>`.
    pub(crate) path: String,
    /// The name without the hash.
    pub(crate) name: String,
    pub(crate) tree: Entry,
    pub(crate) hash: NarHash,
    /// Full paths, sorted.
    pub(crate) references: Vec<String>,
}

impl StorePath {
    /// The path without `/nix/store/`.
    pub(crate) fn base_name(&self) -> &str {
        &self.path[STORE_DIR.len() + 1..]
    }

    fn new(name: &str, tree: Entry, hash: NarHash, mut references: Vec<String>) -> Self {
        references.sort();
        references.dedup();
        Self { path: source_path(name, &hash, &references), name: name.to_owned(), tree, hash, references }
    }

    /// The record of a registration; the empty line is the deriver.
    fn record(&self) -> String {
        let Self { path, hash, references, .. } = self;
        let mut record = format!("{path}\nsha256:{}\n{}\n\n{}\n", hash.base32(), hash.size, references.len());
        references.iter().for_each(|reference| record.extend([reference, "\n"]));
        record
    }
}

/// Describes a closure. Adds a small toplevel that refers to all paths unless told otherwise.
pub(crate) struct ClosureBuilder {
    paths: Vec<StorePath>,
    toplevel: Toplevel,
    host: Host,
    overrides: Vec<Override>,
}

/// A change to a spec.
type Override = Box<dyn FnOnce(&mut Value)>;

enum Toplevel {
    Small,
    /// The path of this name.
    Named(String),
    /// Not in the closure.
    Absent,
}

impl ClosureBuilder {
    pub(crate) fn new() -> Self {
        Self { paths: Vec::new(), toplevel: Toplevel::Small, host: Host::CANONICAL, overrides: Vec::new() }
    }

    /// Adds a store path that refers to no other.
    pub(crate) fn path(self, name: &str, tree: Entry) -> Self {
        self.referring(name, tree, &[])
    }

    /// Adds a store path that refers to earlier ones, given by name.
    pub(crate) fn referring(mut self, name: &str, tree: Entry, names: &[&str]) -> Self {
        let references = names.iter().map(|name| self.store_path(name).to_owned()).collect();
        let hash = NarHash::of(&tree);
        self.paths.push(StorePath::new(name, tree, hash, references));
        self
    }

    /// Adds a store path that knows itself, as a derivation's output may; refers to itself and to earlier ones.
    pub(crate) fn derived(mut self, name: &str, tree: impl FnOnce(&str) -> Entry, names: &[&str]) -> Self {
        let mut references: Vec<_> = names.iter().map(|name| self.store_path(name).to_owned()).collect();
        // Of its name and references, as no path can follow from contents that hold it.
        let path = source_path(name, &NarHash { digest: [0x33; 32], size: 0 }, &references);
        references.push(path.clone());
        let tree = tree(&path);
        let hash = NarHash::of(&tree);
        self.paths.push(StorePath { path, ..StorePath::new(name, tree, hash, references) });
        self
    }

    /// Adds a store path with a false NAR hash, where a true one would take long.
    pub(crate) fn unhashed(mut self, name: &str, tree: Entry) -> Self {
        let hash = NarHash { digest: [0x55; 32], size: 1 };
        self.paths.push(StorePath::new(name, tree, hash, Vec::new()));
        self
    }

    /// Makes an earlier path the toplevel; nothing else is added.
    pub(crate) fn toplevel(mut self, name: &str) -> Self {
        self.toplevel = Toplevel::Named(name.to_owned());
        self
    }

    /// Adds no toplevel, though the spec names one.
    pub(crate) fn without_toplevel(mut self) -> Self {
        self.toplevel = Toplevel::Absent;
        self
    }

    /// How the host keeps the store.
    pub(crate) fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Changes the spec before it is written.
    pub(crate) fn spec(mut self, change: impl FnOnce(&mut Value) + 'static) -> Self {
        self.overrides.push(Box::new(change));
        self
    }

    /// The full path of the path added under `name`.
    pub(crate) fn store_path(&self, name: &str) -> &str {
        let found = self.paths.iter().find(|path| path.name == name);
        &found.unwrap_or_else(|| panic!("no store path {name}")).path
    }

    /// Writes everything below a new temporary directory.
    pub(crate) fn write(self) -> Closure {
        self.write_in(&std::env::temp_dir())
    }

    /// Writes everything below a new temporary directory in `parent`.
    pub(crate) fn write_in(mut self, parent: &Path) -> Closure {
        let toplevel = self.finish_toplevel();
        self.paths.sort_by(|a, b| a.path.cmp(&b.path));
        let dir = tempfile::Builder::new().prefix("closure-").tempdir_in(parent).unwrap();
        let store = dir.path().join(STORE_DIR.trim_start_matches('/'));
        fs::create_dir_all(&store).unwrap();
        self.host.write_all(&store, self.paths.iter().map(|path| (path.base_name(), &path.tree))).unwrap();
        let info = closure_info(&self.paths);
        Host::umask(0o022).write(&store.join(info.base_name()), &info.tree).unwrap();
        let mut spec = default_spec(&toplevel, &info.path);
        self.overrides.into_iter().for_each(|change| change(&mut spec));
        fs::write(dir.path().join("spec.json"), serde_json::to_vec_pretty(&spec).unwrap()).unwrap();
        Closure { paths: self.paths, toplevel, info: info.path, spec, dir }
    }

    fn finish_toplevel(&mut self) -> String {
        let name = "nixos-system-test-26.05";
        match &self.toplevel {
            Toplevel::Named(name) => return self.store_path(name).to_owned(),
            Toplevel::Absent => return format!("{STORE_DIR}/{}-{name}", "0".repeat(32)),
            Toplevel::Small => {}
        }
        let references = self.paths.iter().map(|path| path.path.clone()).collect::<Vec<_>>();
        let tree = Entry::dir([
            ("init", Entry::executable("#!/bin/sh\n")),
            ("nixos-version", Entry::file("26.05.test")),
            ("system-closure", Entry::file(references.join("\n"))),
        ]);
        let hash = NarHash::of(&tree);
        self.paths.push(StorePath::new(name, tree, hash, references));
        self.store_path(name).to_owned()
    }
}

/// The text of a registration that covers `paths`.
pub(crate) fn registration(paths: &[StorePath]) -> String {
    paths.iter().map(StorePath::record).collect()
}

/// What nixpkgs' closureInfo makes of `paths`.
fn closure_info(paths: &[StorePath]) -> StorePath {
    let store_paths = paths.iter().map(|path| format!("{}\n", path.path)).collect::<String>();
    let total = paths.iter().map(|path| path.hash.size).sum::<u64>();
    let tree = Entry::dir([
        ("store-paths", Entry::file(store_paths)),
        ("registration", Entry::file(registration(paths))),
        ("total-nar-size", Entry::file(format!("{total}\n"))),
    ]);
    let hash = NarHash::of(&tree);
    StorePath::new("closure-info", tree, hash, Vec::new())
}

fn default_spec(toplevel: &str, closure_info: &str) -> Value {
    json!({
        "version": 1,
        "name": "nixos",
        "toplevel": toplevel,
        "closureInfo": closure_info,
        "fileSystems": {
            "/boot": { "device": format!("/dev/disk/by-uuid/{BOOT_ID}"), "fsType": "vfat", "options": [] },
            "/": { "device": format!("/dev/disk/by-uuid/{NIX_UUID}"), "fsType": "ext4", "options": [] },
        },
        "populateCmd": null,
        "extraBootFiles": [],
        "extraDirectories": [],
        "bootPartSize": 64 * MIB,
        "nixFreeSpace": 16 * MIB,
    })
}

/// A closure on disk, removed when dropped.
pub(crate) struct Closure {
    /// Sorted by path; all that the registration covers.
    pub(crate) paths: Vec<StorePath>,
    /// The toplevel's full path.
    pub(crate) toplevel: String,
    /// The closureInfo's full path.
    pub(crate) info: String,
    /// As written.
    pub(crate) spec: Value,
    dir: TempDir,
}

impl Closure {
    /// For `--store-root`: the directory that stands for `/`.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn spec_path(&self) -> PathBuf {
        self.root().join("spec.json")
    }

    /// Where a store path lies on this host.
    pub(crate) fn on_host(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The path added under `name`.
    pub(crate) fn path(&self, name: &str) -> &StorePath {
        self.paths.iter().find(|path| path.name == name).unwrap_or_else(|| panic!("no store path {name}"))
    }

    pub(crate) fn registration(&self) -> String {
        registration(&self.paths)
    }
}

impl Drop for Closure {
    /// Lets those who are not root remove what nobody may write to.
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() {
            std::process::Command::new("chmod").args(["-R", "u+w"]).arg(self.root()).status().ok();
        }
    }
}
