//! A store to lay GRUB out from.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::progress::{Cancel, Lines};
use crate::source::boot::error::PopulateError;
use crate::source::boot::grub::{GrubFiles, Place, Trees, add};
use crate::source::boot::links::Store;
use crate::source::boot::merge::{Merge, Names};
use crate::source::tree::{FileTree, NodeKind};
use crate::spec::{self, FsType, Grub};
use crate::store::{StoreDir, StoreRoot};

pub(super) const TOPLEVEL: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-nixos-system-host-26.05";
pub(super) const ART: &str = "/nix/store/3q43idch209zsdngl8yl79x0y79aajib-art";
pub(super) const GRUB: &str = "/nix/store/4q43idch209zsdngl8yl79x0y79aajib-grub-2.12";
const KERNEL: &str = "/nix/store/1q43idch209zsdngl8yl79x0y79aajib-linux-6.12/bzImage";
const INITRD: &str = "/nix/store/2q43idch209zsdngl8yl79x0y79aajib-initrd-linux-6.12/initrd";

/// Files with their texts, empty directories with none, by their paths.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What came of it.
#[derive(Debug)]
pub(super) struct LaidOut {
    pub(super) boot: Files,
    pub(super) esp: Files,
    pub(super) warnings: Vec<String>,
}

impl LaidOut {
    pub(super) fn text(&self, path: &str) -> &str {
        std::str::from_utf8(&self.boot[path]).unwrap()
    }
}

pub(super) struct Host(TempDir);

impl Host {
    pub(super) fn empty() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(host.path("/nix/store")).unwrap();
        host
    }

    /// With a system that GRUB can boot.
    pub(super) fn new() -> Self {
        let host = Self::empty();
        host.file(KERNEL, "kernel");
        host.file(INITRD, "initrd");
        host.system(TOPLEVEL);
        host
    }

    pub(super) fn system(&self, path: &str) {
        self.link(&format!("{path}/kernel"), KERNEL);
        self.link(&format!("{path}/initrd"), INITRD);
        self.executable(&format!("{path}/init"), "#!/bin/sh\n");
        self.file(&format!("{path}/kernel-params"), "quiet");
        self.file(&format!("{path}/nixos-version"), "26.05");
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).unwrap().join(path.trim_start_matches('/'))
    }

    fn make_room(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(super) fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.make_room(path), contents).unwrap();
    }

    pub(super) fn executable(&self, path: &str, contents: &str) {
        self.file(path, contents);
        fs::set_permissions(self.path(path), Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        symlink(target, self.make_room(path)).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Lays GRUB out for the toplevel, with `/boot` on the ESP. `esp` is for an ESP apart from that.
    pub(super) fn lay_out_as(
        &self,
        wanted: &Grub,
        toplevel: &str,
        [boot, store]: [&Place; 2],
        esp: bool,
    ) -> Result<LaidOut, PopulateError> {
        let root = StoreRoot::new(StoreDir::new("/nix/store").unwrap(), Some(self.path("")));
        let (scratch, lines) = (tempfile::tempdir().unwrap(), Lines::default());
        let core = scratch.path().join("core");
        let scratch = fs::canonicalize(scratch.path()).unwrap().join("scratch");
        fs::create_dir(&scratch).unwrap();
        fs::write(&core, "core").unwrap();
        let [mut of_boot, mut of_esp] = [(); 2].map(|()| Merge::new(Store(&root), Path::new("/boot"), Names::OfFat));
        let mut trees = Trees { boot: &mut of_boot, esp: esp.then_some(&mut of_esp) };
        let core = Some(core.as_path());
        let files = GrubFiles { wanted, boot, store, bios_core: core, efi_core: core };
        add(&mut trees, &files, Path::new(toplevel), &scratch, &lines, &Cancel::new())?;
        let [boot, esp] = [of_boot, of_esp].map(|merge| contents(&merge.into_tree().unwrap()));
        Ok(LaidOut { boot, esp, warnings: lines.0.into_inner().unwrap() })
    }

    pub(super) fn lay_out(&self, fields: Value) -> Result<LaidOut, PopulateError> {
        self.lay_out_as(&grub(fields), TOPLEVEL, [&esp(), &nix()], false)
    }

    pub(super) fn error(&self, fields: Value) -> String {
        self.lay_out(fields).unwrap_err().to_string()
    }
}

fn contents(tree: &FileTree) -> Files {
    let found = tree.nodes().skip(1).filter_map(|node| {
        let path = tree.path(node).display().to_string();
        match tree.kind(node) {
            NodeKind::Directory if tree.children(node).next().is_some() => None,
            NodeKind::Directory => Some((path + "/", Vec::new())),
            _ => Some((path, fs::read(tree.source_path(node).unwrap()).unwrap())),
        }
    });
    found.collect()
}

pub(super) fn esp() -> Place {
    let device = "/dev/disk/by-uuid/2178-694E".to_owned();
    let (uuid, label) = ("2178-694E".to_owned(), "ESP".to_owned());
    Place { number: 1, fs: FsType::Vfat, uuid, label, device, path: String::new(), subvolume: String::new() }
}

pub(super) fn nix() -> Place {
    let uuid = "0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11".to_owned();
    let device = format!("/dev/disk/by-uuid/{uuid}");
    let (label, path) = ("NIXOS_SYSTEM".to_owned(), "/nix/store".to_owned());
    Place { number: 2, fs: FsType::Ext4, uuid, label, device, path, subvolume: String::new() }
}

/// `/boot` beside the store.
pub(super) fn boot_in_nix() -> Place {
    Place { path: "/boot".to_owned(), ..nix() }
}

/// The part of a spec, with grub-mkimage added.
pub(super) fn grub(mut fields: Value) -> Grub {
    fields["mkimage"] = "/nix/store/grub/bin/grub-mkimage".into();
    let spec = json!({
        "version": 1,
        "toplevel": TOPLEVEL,
        "closureInfo": "/nix/store/closure-info",
        "fileSystems": {
            "/boot": { "device": "/dev/disk/by-uuid/2178-694E", "fsType": "vfat" },
            "/": { "device": nix().device, "fsType": "ext4" },
        },
        "grub": fields,
    });
    spec::parse(&spec.to_string()).unwrap().grub.unwrap()
}
