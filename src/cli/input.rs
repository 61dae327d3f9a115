//! What the commands that take a spec have in common.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use sane_image::source::own::{Chown, ExtraFiles};
use sane_image::spec::files::ID_MAX;
use sane_image::spec::{self, Spec};
use sane_image::store::StoreRoot;

use super::args::{InputArgs, OwnArgs};

/// An argument cannot be used: bad usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadInput(pub(super) String);

/// The spec, checked, and where the store is.
pub(super) fn read(args: &InputArgs) -> Result<(Spec, StoreRoot)> {
    let text = read_text(&args.spec).map_err(|problem| BadInput(format!("{}: {problem}", name(&args.spec))))?;
    let spec = spec::parse(&text)?;
    let root = args.store_root.as_deref().map(find_root).transpose()?;
    let store_root = StoreRoot::new(spec.store_dir.clone(), root);
    Ok((spec, store_root))
}

/// The files that are added to the image.
pub(super) fn own_files(args: &OwnArgs) -> Result<Option<ExtraFiles>> {
    args.extra_files.as_deref().map(|directory| extra_files(directory, &args.chown)).transpose()
}

/// The files that are added to an image: everything in a directory, and its owners.
pub(super) fn extra_files(directory: &Path, chown: &[OsString]) -> Result<ExtraFiles> {
    let read = directory.canonicalize().and_then(|directory| directory.read_dir().map(|_| directory));
    let directory = read.map_err(|error| {
        BadInput(format!("--extra-files {}: is not a directory that can be read: {error}", directory.display()))
    })?;
    let chown = chown.chunks_exact(2).map(|pair| self::chown(&pair[0], &pair[1])).collect::<Result<_, _>>()?;
    Ok(ExtraFiles { directory, chown })
}

/// Refuses an output in the directory that is laid over the image: the next image would hold this one.
pub(super) fn check_outside(out: &Path, extra: Option<&ExtraFiles>) -> Result<()> {
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let there = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    match (there, extra) {
        (Some(there), Some(extra)) if there.starts_with(&extra.directory) => {
            let (out, directory) = (out.display(), extra.directory.display());
            let problem = format!("--out {out}: is in {directory}, which --extra-files copies into the image");
            Err(BadInput(format!("{problem}; name another directory")).into())
        }
        _ => Ok(()),
    }
}

fn chown(path: &OsStr, owner: &OsStr) -> Result<Chown, BadInput> {
    let path = Path::new(path);
    let is_plain = path.is_absolute() && !path.iter().any(|name| name == "..");
    if !is_plain {
        let problem = "is not an absolute path without \"..\"";
        return Err(BadInput(format!("--chown {}: {problem}; give its path in the running system", path.display())));
    }
    let id = |text: &str| text.parse().ok().filter(|&id: &u32| id <= ID_MAX);
    let ids = owner.to_str().and_then(|owner| owner.split_once(':')).and_then(|(uid, gid)| Some((id(uid)?, id(gid)?)));
    match ids {
        Some((uid, gid)) => Ok(Chown { path: path.components().collect(), uid, gid }),
        None => Err(BadInput(format!(
            "--chown {}: {owner:?} is not UID:GID, two numbers such as 1000:100; names are known only on the running system",
            path.display()
        ))),
    }
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
        format!("is not a spec: from byte {at} on it is not UTF-8")
    })
}

fn find_root(path: &Path) -> Result<PathBuf> {
    let root = path.canonicalize().and_then(|root| root.read_dir().map(|_| root));
    Ok(root.map_err(|error| {
        BadInput(format!("--store-root {}: is not a directory that can be read: {error}", path.display()))
    })?)
}
