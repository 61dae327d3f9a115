//! What every whole image has to stand.

use std::fs;
use std::path::Path;

use crate::support::closure::Closure;
use crate::support::image::{Built, build_command, run};
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tree::Entry;
use crate::support::walk::Expected;

/// Builds the image of a closure, its btrfs plain and compressed, and its EROFS, and has every oracle judge them.
pub(crate) fn build_and_judge(closure: &Closure) -> Built {
    let built = Built::new(closure, &[]);
    judge(closure, &built);
    for options in [&[][..], &["compress=zstd:1"]] {
        judge_btrfs(closure, options);
    }
    judge_erofs(closure);
    built
}

/// Builds the btrfs that a closure is in under these mount options; the oracles find in it the closure and nothing else.
pub(crate) fn judge_btrfs(closure: &Closure, options: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("nix.img");
    build_btrfs(closure, options, &image, &[]);
    oracle::btrfs_check(&image, oracle::whole(&image)).expect_clean();
    if let Some(mount) = Mount::new(&image, oracle::whole(&image), "btrfs", Access::ReadOnly) {
        expected_btrfs(closure, "nix/store").assert_equals(mount.path());
    }
}

/// Builds the closure's nix filesystem as a btrfs that is mounted with these options.
pub(crate) fn build_btrfs(closure: &Closure, options: &[&str], image: &Path, arguments: &[&str]) {
    let mut spec = closure.spec.clone();
    let root = &mut spec["fileSystems"]["/"];
    root["fsType"] = "btrfs".into();
    root["options"] = options.into();
    let path = closure.root().join("spec-btrfs.json");
    fs::write(&path, spec.to_string()).unwrap();
    let arguments = [&["--only", "nix"], arguments].concat();
    run(&mut build_command(&path, closure.root(), image, &arguments)).expect_success();
}

/// The btrfs of a closure whose store is at `store` in it.
pub(crate) fn expected_btrfs<'a>(closure: &'a Closure, store: &str) -> Expected<'a> {
    let paths = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    Expected::btrfs().store(store, paths).registration(&closure.registration())
}

/// Builds the EROFS that a closure is in; the oracles find in it the closure and nothing else.
pub(crate) fn judge_erofs(closure: &Closure) {
    let scratch = tempfile::tempdir_in(closure.root()).unwrap();
    let image = scratch.path().join("nix.img");
    build_erofs(closure, &image, &[]);
    let wanted = expected_erofs(closure, "nix/store");
    // erofs-utils 1.5 crash at a file of 4 GiB.
    if fs::metadata(&image).unwrap().len() < 4 << 30
        && let Some(extracted) = oracle::extract_erofs(&image, oracle::whole(&image))
    {
        wanted.assert_equals(extracted.path());
    }
    if let Some(mount) = Mount::new(&image, oracle::whole(&image), "erofs", Access::ReadOnly) {
        wanted.assert_equals(mount.path());
    }
}

/// Builds the closure's nix filesystem as an EROFS.
pub(crate) fn build_erofs(closure: &Closure, image: &Path, arguments: &[&str]) {
    let mut spec = closure.spec.clone();
    spec["fileSystems"]["/"]["fsType"] = "erofs".into();
    let path = closure.root().join("spec-erofs.json");
    fs::write(&path, spec.to_string()).unwrap();
    let arguments = [&["--only", "nix"], arguments].concat();
    run(&mut build_command(&path, closure.root(), image, &arguments)).expect_success();
}

/// The EROFS of a closure whose store is at `store` in it.
pub(crate) fn expected_erofs<'a>(closure: &'a Closure, store: &str) -> Expected<'a> {
    let paths = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    Expected::empty().store(store, paths).registration(&closure.registration())
}

/// Has every oracle judge an image; the kernel finds in it the closure and nothing else.
pub(crate) fn judge(closure: &Closure, built: &Built) {
    oracle::sgdisk(&built.image, 512).expect_clean();
    oracle::fdisk(&built.image, 512).expect_clean();
    oracle::fsck_fat(&built.image, built.boot()).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    if let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadOnly) {
        expected(closure, "nix/store").assert_equals(mount.path());
    }
}

/// The nix filesystem of a closure whose store is at `store` in it.
pub(crate) fn expected<'a>(closure: &'a Closure, store: &str) -> Expected<'a> {
    let paths = closure.paths.iter().map(|path| (path.base_name(), &path.tree));
    Expected::ext4().store(store, paths).registration(&closure.registration())
}

/// A directory of `count` entries named by number.
pub(crate) fn numbered(count: usize, entry: impl Fn(usize) -> Entry) -> Entry {
    Entry::dir((0..count).map(|i| (format!("entry-{i}"), entry(i))))
}
