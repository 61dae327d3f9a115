//! What every whole image has to stand.

use crate::support::closure::Closure;
use crate::support::image::Built;
use crate::support::mount::{Access, Mount};
use crate::support::oracle;
use crate::support::tree::Entry;
use crate::support::walk::Expected;

/// Builds the image of a closure and has every oracle judge it.
pub(crate) fn build_and_judge(closure: &Closure) -> Built {
    let built = Built::new(closure, &[]);
    judge(closure, &built);
    built
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
