//! A closure: every store path of an image with its registration. It is known to be complete.

use std::fmt;

use thiserror::Error;

use super::path::{StoreDir, StorePath};
use super::registration::{LineError, Registration, parse_registration, parse_store_paths};

/// Lists that cannot be read or do not make a closure.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClosureError {
    /// `store-paths` breaks its format.
    #[error("store-paths: {0}")]
    StorePaths(LineError),
    /// `registration` breaks its format.
    #[error("registration: {0}")]
    Registration(LineError),
    /// A path twice in one list.
    #[error("{list} lists {path} twice")]
    Duplicate {
        /// The name of the list.
        list: &'static str,
        /// The path.
        path: StorePath,
    },
    /// Paths of which Nix would not know in the image, or which it would believe to be there.
    #[error(
        "store-paths and registration differ; only in store-paths: {unregistered}; only in registration: {unlisted}"
    )]
    Mismatch {
        /// Those that registration lacks.
        unregistered: Paths,
        /// Those that store-paths lacks.
        unlisted: Paths,
    },
    /// A reference that would dangle in the image's Nix database.
    #[error("registration: {path} refers to paths outside the closure: {references}")]
    Dangling {
        /// The path that refers.
        path: StorePath,
        /// What it refers to.
        references: Paths,
    },
}

/// Paths at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub Vec<StorePath>);

impl<'a> FromIterator<&'a StorePath> for Paths {
    fn from_iter<I: IntoIterator<Item = &'a StorePath>>(paths: I) -> Self {
        Self(paths.into_iter().cloned().collect())
    }
}

impl fmt::Display for Paths {
    /// The first few, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, path) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{path}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The store paths of an image, sorted, each registered once, with no reference that leads outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure(Vec<Registration>);

impl Closure {
    /// Reads the contents of the files `store-paths` and `registration` of a closureInfo.
    ///
    /// # Errors
    /// If either breaks its format, or as [`Closure::new`].
    pub fn parse(store_paths: &[u8], registration: &[u8], store_dir: &StoreDir) -> Result<Self, ClosureError> {
        let store_paths = parse_store_paths(store_paths, store_dir).map_err(ClosureError::StorePaths)?;
        let registrations = parse_registration(registration, store_dir).map_err(ClosureError::Registration)?;
        Self::new(store_paths, registrations)
    }

    /// The closure of `store_paths`, given in any order, as `registrations` describe them.
    ///
    /// # Errors
    /// If the registrations do not cover exactly the store paths, each once, or if one refers to a path
    /// outside.
    pub fn new(mut store_paths: Vec<StorePath>, mut registrations: Vec<Registration>) -> Result<Self, ClosureError> {
        store_paths.sort_unstable();
        registrations.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        check_unique("store-paths", store_paths.iter())?;
        check_unique("registration", registrations.iter().map(|registration| &registration.path))?;
        let closure = Self(registrations);
        closure.check_covers(&store_paths)?;
        closure.0.iter().try_for_each(|registration| closure.check_references(registration))?;
        Ok(closure)
    }

    /// All paths, sorted by their bytes.
    pub fn registrations(&self) -> &[Registration] {
        &self.0
    }

    /// What is registered of `path`, if it is in the closure.
    pub fn get(&self, path: &StorePath) -> Option<&Registration> {
        let index = self.0.binary_search_by(|registration| registration.path.cmp(path)).ok()?;
        self.0.get(index)
    }

    /// Whether `path` is in the closure.
    pub fn contains(&self, path: &StorePath) -> bool {
        self.get(path).is_some()
    }

    fn check_covers(&self, sorted_paths: &[StorePath]) -> Result<(), ClosureError> {
        let registered = self.0.iter().map(|registration| &registration.path);
        let unregistered: Paths = sorted_paths.iter().filter(|path| !self.contains(path)).collect();
        let unlisted: Paths = registered.filter(|path| sorted_paths.binary_search(path).is_err()).collect();
        match unregistered.0.is_empty() && unlisted.0.is_empty() {
            true => Ok(()),
            false => Err(ClosureError::Mismatch { unregistered, unlisted }),
        }
    }

    fn check_references(&self, registration: &Registration) -> Result<(), ClosureError> {
        let references: Paths = registration.references.iter().filter(|path| !self.contains(path)).collect();
        match references.0.is_empty() {
            true => Ok(()),
            false => Err(ClosureError::Dangling { path: registration.path.clone(), references }),
        }
    }
}

fn check_unique<'a>(
    list: &'static str,
    sorted: impl Iterator<Item = &'a StorePath> + Clone,
) -> Result<(), ClosureError> {
    let mut pairs = sorted.clone().zip(sorted.skip(1));
    match pairs.find(|(a, b)| a == b) {
        Some((path, _)) => Err(ClosureError::Duplicate { list, path: path.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part before the name in all paths here.
    const PREFIX: &str = "/nix/store/0q43idch209zsdngl8yl79x0y79aajib-";

    fn path(name: &str) -> StorePath {
        StorePath::from_absolute_path(&format!("{PREFIX}{name}"), &StoreDir::new("/nix/store").unwrap()).unwrap()
    }

    fn registration(name: &str, references: &[&str]) -> Registration {
        let references = references.iter().map(|name| path(name)).collect();
        Registration { path: path(name), nar_hash: [0; 32], nar_size: 1, deriver: None, references }
    }

    /// The error of a closure that lists `paths` and registers `registered`, with its paths cut to their names.
    fn error(paths: &[&str], registered: &[(&str, &[&str])]) -> String {
        let registrations = registered.iter().map(|(name, references)| registration(name, references)).collect();
        let error = Closure::new(paths.iter().map(|name| path(name)).collect(), registrations).unwrap_err();
        error.to_string().replace(PREFIX, "")
    }

    #[test]
    fn a_closure_is_sorted_and_searched() {
        let registrations = vec![registration("b", &["a", "b"]), registration("a", &[])];
        let closure = Closure::new(vec![path("a"), path("b")], registrations).unwrap();
        let paths: Vec<_> = closure.registrations().iter().map(|r| r.path.clone()).collect();
        assert_eq!(paths, [path("a"), path("b")]);
        assert_eq!(closure.get(&path("b")).unwrap().references, [path("a"), path("b")]);
        assert!(!closure.contains(&path("c")));
    }

    #[test]
    fn the_empty_closure_is_one() {
        assert_eq!(Closure::parse(b"", b"", &StoreDir::new("/nix/store").unwrap()), Ok(Closure::default()));
    }

    #[test]
    fn lists_that_differ_are_refused() {
        let all: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[]), ("e", &[])];
        let message = "store-paths and registration differ; only in store-paths: ";
        assert_eq!(error(&["b", "a"], &all[..1]), format!("{message}b; only in registration: none"));
        assert_eq!(error(&["b", "x"], &all[..2]), format!("{message}x; only in registration: a"));
        assert_eq!(error(&[], all), format!("{message}none; only in registration: a, b, c and 2 more"));
    }

    #[test]
    fn a_path_twice_is_refused() {
        assert_eq!(error(&["a", "b", "a"], &[("a", &[]), ("b", &[])]), "store-paths lists a twice");
        assert_eq!(error(&["a"], &[("a", &[]), ("a", &[])]), "registration lists a twice");
    }

    #[test]
    fn references_stay_inside() {
        assert_eq!(
            error(&["a", "b"], &[("a", &["a", "x", "b", "y"]), ("b", &[])]),
            "registration: a refers to paths outside the closure: x, y"
        );
    }

    #[test]
    fn errors_name_the_file() {
        let store = StoreDir::new("/nix/store").unwrap();
        let store_paths = Closure::parse(b"/nix/store/x", b"", &store).unwrap_err();
        assert_eq!(store_paths.to_string(), "store-paths: line 1: the file is cut short here");
        let registration = Closure::parse(b"", b"/nix/store/x", &store).unwrap_err();
        assert_eq!(registration.to_string(), "registration: line 1: the file is cut short here");
    }
}
