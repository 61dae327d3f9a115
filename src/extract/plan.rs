//! Plans everything that will be extracted, in order.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::links::{Links, judge};
use super::{ExtractError, Extracted};
use crate::read::resolve::Mounted;
use crate::read::walk::walk_after;
use crate::read::{Entered, FileSystem, Kind, Metadata, ReadError, escape};

/// What is to be extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sorted; a directory comes before what is in it.
    pub items: Vec<Item>,
    /// Devices, sockets and pipes, which are left out.
    pub special: Vec<PathBuf>,
    /// The totals.
    pub total: Extracted,
}

/// One file to be extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// From the filesystem's root, and from the destination.
    pub path: PathBuf,
    /// What it is.
    pub metadata: Metadata,
    /// Of a link: the target it gets.
    pub target: Option<OsString>,
}

/// Plans to extract `roots`, which are paths in `fs` without links in them, with all that is in them.
///
/// `mounted` says where absolute links lead.
///
/// # Errors
/// [`ExtractError::Refused`] with every name and every link that would leave the destination, or whatever is wrong
/// with the image.
pub fn plan(fs: &dyn FileSystem, roots: &[PathBuf], links: Links, mounted: &dyn Mounted) -> Result<Plan, ExtractError> {
    let entered = Entered::default();
    let mut planner = Planner { fs, links, mounted, plan: Plan::default(), refused: Vec::new(), entered };
    let mut roots = roots.to_vec();
    roots.sort();
    // A root below another one is extracted with that.
    roots.dedup_by(|later, earlier| later.starts_with(earlier));
    for root in &roots {
        planner.add_root(root)?;
    }
    if planner.refused.is_empty() { Ok(planner.plan) } else { Err(ExtractError::Refused(planner.refused)) }
}

struct Planner<'a> {
    fs: &'a dyn FileSystem,
    links: Links,
    mounted: &'a dyn Mounted,
    plan: Plan,
    refused: Vec<String>,
    entered: Entered,
}

impl Planner<'_> {
    fn add_root(&mut self, root: &Path) -> Result<(), ReadError> {
        let metadata = self.fs.metadata(root)?;
        // The filesystem's root is the destination itself.
        if !root.as_os_str().is_empty() {
            self.add(root.to_owned(), metadata)?;
        }
        if metadata.kind != Kind::Directory {
            return Ok(());
        }
        let mut walk = walk_after(self.fs, root, std::mem::take(&mut self.entered));
        for found in walk.by_ref() {
            let found = found?;
            self.add(found.path, found.metadata)?;
        }
        self.entered = walk.into_entered();
        Ok(())
    }

    fn add(&mut self, path: PathBuf, metadata: Metadata) -> Result<(), ReadError> {
        if !is_plain(&path) {
            self.refused.push(format!("{}: a name that would leave the destination", escape::path(&path)));
            return Ok(());
        }
        let total = &mut self.plan.total;
        let mut target = None;
        match metadata.kind {
            Kind::File => {
                total.files = total.files.saturating_add(1);
                total.bytes = total.bytes.saturating_add(metadata.len);
            }
            Kind::Directory => total.directories = total.directories.saturating_add(1),
            Kind::Symlink => {
                total.links = total.links.saturating_add(1);
                let found = self.fs.read_link(&path)?;
                target = judge(&path, &found, self.links, self.mounted);
                if target.is_none() {
                    self.refuse_link(&path, &found);
                }
            }
            Kind::Special => {
                self.plan.special.push(path);
                return Ok(());
            }
        }
        self.plan.items.push(Item { path, metadata, target });
        Ok(())
    }

    fn refuse_link(&mut self, path: &Path, target: &OsStr) {
        let (path, target) = (escape::path(path), escape::name(target));
        self.refused.push(format!("{path} -> {target}: a link that leads out of the destination"));
    }
}

/// Whether a path is made of plain names only.
fn is_plain(path: &Path) -> bool {
    let is_name = |component: Component<'_>| matches!(component, Component::Normal(_));
    let bytes = path.as_os_str().as_bytes();
    // `components` forgives what a hostile name could make of a path.
    let is_exact = path.components().collect::<PathBuf>().as_os_str().as_bytes() == bytes;
    path.components().all(is_name) && is_exact && !bytes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;
    use crate::read::resolve::AtRoot;

    fn planned(fs: &Fake, roots: &[&str], links: Links) -> Result<Plan, ExtractError> {
        plan(fs, &roots.iter().map(PathBuf::from).collect::<Vec<_>>(), links, &AtRoot)
    }

    fn paths(plan: &Plan) -> Vec<&str> {
        plan.items.iter().map(|item| item.path.to_str().unwrap()).collect()
    }

    #[test]
    fn roots_come_with_all_that_is_in_them_once() {
        let fs = Fake::new().file("a/b/c", "12").file("d", "3").link("e", "d").file("ab", "");
        let plan = planned(&fs, &["a/b", "a", "d", "a"], Links::Refuse).unwrap();
        assert_eq!(paths(&plan), ["a", "a/b", "a/b/c", "d"]);
        assert_eq!(plan.total, Extracted { files: 2, bytes: 3, directories: 2, links: 0 });
        let all = planned(&fs, &[""], Links::Refuse).unwrap();
        assert_eq!(paths(&all), ["a", "a/b", "a/b/c", "ab", "d", "e"]);
        assert!(matches!(planned(&fs, &["none"], Links::Refuse), Err(ExtractError::Read(ReadError::NotFound(_)))));
    }

    #[test]
    fn all_that_is_refused_is_told() {
        let fs = Fake::new().link("a/up", "../..").link("b\n", "/etc").link("c", "a");
        let error = planned(&fs, &[""], Links::Refuse).unwrap_err().to_string();
        let lines = [
            "nothing is extracted: a/up -> ../..: a link that leads out of the destination",
            "b\\n -> /etc: a link that leads out of the destination",
        ];
        assert_eq!(error, lines.join("\n"));
        assert!(planned(&fs, &[""], Links::Keep).is_ok());
        let many = (0..12).fold(Fake::new(), |fs, n| fs.link(format!("{n:02}"), "/x"));
        let error = planned(&many, &[""], Links::Refuse).unwrap_err().to_string();
        assert!(error.ends_with("09 -> /x: a link that leads out of the destination\n… and 2 more"), "{error}");
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for bad in ["..", "a/../b", "/a", "a//b", "./a", "a\0b", "a/"] {
            assert!(!is_plain(Path::new(bad)), "{bad:?}");
        }
        for good in ["a", "a/b", "...", "a/.b", " "] {
            assert!(is_plain(Path::new(good)), "{good:?}");
        }
    }
}
