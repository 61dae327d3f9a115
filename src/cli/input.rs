//! What the commands that take a spec have in common.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sane_image::spec::{self, Spec};
use sane_image::store::StoreRoot;

use super::args::InputArgs;

/// The spec, checked, and where the store is.
pub(super) fn read(args: &InputArgs) -> Result<(Spec, StoreRoot)> {
    let text = read_text(&args.spec).with_context(|| format!("{}: cannot read the spec", args.spec.display()))?;
    let spec = spec::parse(&text)?;
    let root = args.store_root.as_deref().map(find_root).transpose()?;
    let store_root = StoreRoot::new(spec.store_dir.clone(), root);
    Ok((spec, store_root))
}

fn read_text(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}

fn find_root(path: &Path) -> Result<PathBuf> {
    let root = path.canonicalize().and_then(|root| root.read_dir().map(|_| root));
    root.with_context(|| format!("--store-root: {}: is not a directory that can be read", path.display()))
}
