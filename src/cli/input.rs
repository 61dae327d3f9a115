//! What the commands that take a spec have in common.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use sane_image::spec::{self, Spec};
use sane_image::store::StoreRoot;

use super::args::InputArgs;

/// What the user named cannot be used: bad usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadInput(String);

/// The spec, checked, and where the store is.
pub(super) fn read(args: &InputArgs) -> Result<(Spec, StoreRoot)> {
    let text = read_text(&args.spec).map_err(|problem| BadInput(format!("{}: {problem}", name(&args.spec))))?;
    let spec = spec::parse(&text)?;
    let root = args.store_root.as_deref().map(find_root).transpose()?;
    let store_root = StoreRoot::new(spec.store_dir.clone(), root);
    Ok((spec, store_root))
}

/// How the file of a spec is called in messages.
pub(super) fn name(spec: &Path) -> String {
    if spec == Path::new("-") { "standard input".to_owned() } else { spec.display().to_string() }
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
        false => fs::read(path).map(|read| bytes = read),
    };
    read.map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is no spec: from byte {at} on it is not UTF-8")
    })
}

fn find_root(path: &Path) -> Result<PathBuf> {
    let root = path.canonicalize().and_then(|root| root.read_dir().map(|_| root));
    Ok(root.map_err(|error| {
        BadInput(format!("--store-root {}: is not a directory that can be read: {error}", path.display()))
    })?)
}
