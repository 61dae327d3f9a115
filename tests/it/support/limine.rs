//! Limine, which no package registry of .ci/run has.

use std::path::{Path, PathBuf};

use super::skip::{Lack, skip};

/// A directory as nixpkgs' package has it, with `bin/limine` and `share/limine`: SANE_IMAGE_LIMINE, or
/// `target/oracles/limine`. `None` where it is not here, which has been told.
pub(crate) fn limine() -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracles/limine");
    let package = std::env::var_os("SANE_IMAGE_LIMINE").map_or_else(usual, PathBuf::from);
    let is_here = package.join("bin/limine").exists() && package.join("share/limine").exists();
    (is_here || skip(Lack::Unpackaged("limine".to_owned()))).then_some(package)
}
