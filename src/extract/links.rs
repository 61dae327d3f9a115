//! Where a symbolic link would lead after it is extracted. Pure.
//!
//! `..` is judged without looking at the destination. At the start of a target it leads up from the directory of the
//! link, which is a real directory. After another name it may lead up from the target of another link, so it counts as
//! leaving the destination.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::read::resolve::Mounted;

/// What becomes of links that would lead out of the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// They are an error, and nothing is extracted.
    #[default]
    Refuse,
    /// They are written as they are in the image.
    Keep,
    /// Absolute ones are written so that they lead to the same file below the destination; others are an error.
    Relative,
}

/// The target that the link at `path` gets, or `None` if it is refused.
pub(super) fn judge(path: &Path, target: &OsStr, links: Links, mounted: &dyn Mounted) -> Option<OsString> {
    let depth = path.components().count().saturating_sub(1);
    let target_path = Path::new(target);
    match links {
        Links::Keep => Some(target.to_owned()),
        _ if stays(depth, target_path) => Some(target.to_owned()),
        Links::Relative if target_path.is_absolute() => {
            let inside = mounted.inside(target_path).filter(|inside| stays(0, inside))?;
            let up = std::iter::repeat_n(OsStr::new(".."), depth);
            let relative: PathBuf = up.chain(&inside).collect();
            Some(if relative.as_os_str().is_empty() { ".".into() } else { relative.into_os_string() })
        }
        Links::Refuse | Links::Relative => None,
    }
}

/// Whether a relative target, seen from a directory `depth` below the destination, cannot leave it.
fn stays(depth: usize, target: &Path) -> bool {
    let is_whole = !target.as_os_str().as_bytes().contains(&0);
    let mut ups = 0usize;
    let mut went_down = false;
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => went_down = true,
            Component::ParentDir if !went_down => ups = ups.saturating_add(1),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    is_whole && ups <= depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::resolve::AtRoot;

    struct AtNix;

    impl Mounted for AtNix {
        fn inside(&self, absolute: &Path) -> Option<PathBuf> {
            absolute.strip_prefix("/nix").ok().map(Path::to_owned)
        }
    }

    fn target(path: &str, target: &str, links: Links) -> Option<String> {
        judge(Path::new(path), OsStr::new(target), links, &AtRoot).map(|target| target.into_string().unwrap())
    }

    #[test]
    fn links_that_stay_are_kept() {
        for (path, to) in
            [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b/./c"), ("a/b", ".."), ("a", ".")]
        {
            for links in [Links::Refuse, Links::Keep, Links::Relative] {
                assert_eq!(target(path, to, links).as_deref(), Some(to), "{path} {to}");
            }
        }
    }

    #[test]
    fn links_that_leave_are_refused() {
        for (path, to) in [
            ("a", ".."),
            ("a", "../b"),
            ("a/b", "../../c"),
            ("a/b", "c/../../.."),
            ("a/b", "c/../d"),
            ("a", "/"),
            ("a", "/etc/passwd"),
        ] {
            assert_eq!(target(path, to, Links::Refuse), None, "{path} {to}");
            assert_eq!(target(path, to, Links::Keep).as_deref(), Some(to));
        }
        assert_eq!(target("a", "../b", Links::Relative), None);
        assert_eq!(target("a", "/b/../../c", Links::Relative), None);
    }

    #[test]
    fn absolute_links_can_be_made_relative() {
        for (path, to, relative) in
            [("a", "/nix/x", "nix/x"), ("a/b/c", "/nix/x", "../../nix/x"), ("a", "/", "."), ("a/b", "/", "..")]
        {
            assert_eq!(target(path, to, Links::Relative).as_deref(), Some(relative));
        }
        let judge = |to: &str| judge(Path::new("store/a"), OsStr::new(to), Links::Relative, &AtNix);
        assert_eq!(judge("/nix/store/b"), Some("../store/b".into()));
        assert_eq!(judge("/etc"), None);
    }
}
