//! Follows symbolic links within one filesystem.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{FileSystem, Kind, Metadata, ReadError, escape};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// What to do with a link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is followed.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// Where the filesystem is mounted, as far as absolute links are concerned.
pub trait Mounted {
    /// The path within the filesystem of an absolute path of the running system, or `None` if that is elsewhere.
    fn inside(&self, absolute: &Path) -> Option<PathBuf>;
}

/// A filesystem that is the running system's root.
#[derive(Clone, Copy, Debug)]
pub struct AtRoot;

impl Mounted for AtRoot {
    fn inside(&self, absolute: &Path) -> Option<PathBuf> {
        absolute.strip_prefix("/").ok().map(Path::to_owned)
    }
}

/// Where `path`, seen from the filesystem's root, leads to, and what is there. No component of the result is a link,
/// but the last if it is kept. `.`, `..`, a leading and a trailing slash mean what they mean to the kernel.
///
/// # Errors
/// [`ReadError::NotFound`] if a link dangles, leads out of the filesystem, or in circles; [`ReadError::NotADirectory`];
/// whatever is wrong with the image.
pub fn resolve(
    fs: &dyn FileSystem,
    mounted: &dyn Mounted,
    path: &Path,
    last: Last,
) -> Result<(PathBuf, Metadata), ReadError> {
    let mut done = PathBuf::new();
    let mut todo = VecDeque::new();
    push(&mut todo, path);
    let mut metadata = fs.metadata(&done)?;
    let mut links = 0;
    while let Some(step) = todo.pop_front() {
        if metadata.kind != Kind::Directory {
            return Err(ReadError::NotADirectory(escape::path(&done)));
        }
        match step {
            Step::Up => {
                done.pop();
            }
            Step::Down(name) => done.push(name),
        }
        metadata = fs.metadata(&done)?;
        let is_kept = last == Last::Keep && todo.is_empty();
        if metadata.kind != Kind::Symlink || is_kept {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(ReadError::NotFound(format!("{} (a link that leads in circles)", escape::path(path))));
        }
        follow(fs, mounted, &mut done, &mut todo)?;
        metadata = fs.metadata(&done)?;
    }
    Ok((done, metadata))
}

enum Step {
    Up,
    Down(OsString),
}

/// Replaces the link at `done` by where its target starts, and puts the target in front of `todo`.
fn follow(
    fs: &dyn FileSystem,
    mounted: &dyn Mounted,
    done: &mut PathBuf,
    todo: &mut VecDeque<Step>,
) -> Result<(), ReadError> {
    let target = PathBuf::from(fs.read_link(done)?);
    let mut steps = VecDeque::new();
    if target.is_absolute() {
        let inside = mounted.inside(&target).ok_or_else(|| {
            let (link, target) = (escape::path(done), escape::path(&target));
            ReadError::NotFound(format!("{target}, which {link} leads to and which is outside this filesystem"))
        })?;
        done.clear();
        push(&mut steps, &inside);
    } else {
        done.pop();
        push(&mut steps, &target);
    }
    steps.append(todo);
    *todo = steps;
    Ok(())
}

fn push(steps: &mut VecDeque<Step>, path: &Path) {
    steps.extend(path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;

    struct AtNix;

    impl Mounted for AtNix {
        fn inside(&self, absolute: &Path) -> Option<PathBuf> {
            absolute.strip_prefix("/nix").ok().map(Path::to_owned)
        }
    }

    fn fs() -> Fake {
        Fake::new()
            .file("store/a/bin/sh", "shell")
            .link("store/b/sh", "../a/bin/sh")
            .link("store/c", "/nix/store/b")
            .link("store/d", "/run/current-system")
            .link("store/e", "e")
            .link("store/f", "../../../../store/a")
            .link("store/g", "none")
            .link("store/h", "c/sh")
    }

    fn leads(path: &str, last: Last) -> Result<String, String> {
        let found = resolve(&fs(), &AtNix, Path::new(path), last);
        found.map(|(path, _)| path.display().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn links_lead_where_they_would() {
        for path in ["store/b/sh", "store/c/sh", "store/f/bin/sh", "store/h", "/store//b/./sh", "../store/b/../c/sh"] {
            assert_eq!(leads(path, Last::Follow).as_deref(), Ok("store/a/bin/sh"), "{path}");
        }
        assert_eq!(leads("store/c", Last::Follow).as_deref(), Ok("store/b"));
        assert_eq!(leads("store/c", Last::Keep).as_deref(), Ok("store/c"));
        assert_eq!(leads("store/c/sh", Last::Keep).as_deref(), Ok("store/b/sh"));
        assert_eq!(leads("store/c/..", Last::Keep).as_deref(), Ok("store"));
        assert_eq!(leads("", Last::Follow).as_deref(), Ok(""));
    }

    #[test]
    fn links_that_lead_nowhere_say_so() {
        for (path, error) in [
            (
                "store/d",
                "/run/current-system, which store/d leads to and which is outside this filesystem: no such file",
            ),
            ("store/e", "store/e (a link that leads in circles): no such file"),
            ("store/g", "store/none: no such file"),
            ("store/a/bin/sh/x", "store/a/bin/sh: not a directory"),
            ("store/a/bin/sh/..", "store/a/bin/sh: not a directory"),
            ("\x1b[2J", "\\u{1b}[2J: no such file"),
        ] {
            assert_eq!(leads(path, Last::Follow).unwrap_err(), error, "{path}");
        }
    }
}
