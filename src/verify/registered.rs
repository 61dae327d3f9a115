//! Compares the registration of a store with what is in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::StoreFault;
use crate::store::closure::Paths;
use crate::store::path::{check_base_name, is_by_product};
use crate::store::{Registration, StorePath};

/// The paths to hash, and the faults that are found without hashing.
#[derive(Debug)]
pub(super) struct Compared {
    /// What is registered and there, each once, sorted by path.
    pub to_hash: Vec<Registration>,
    /// All else.
    pub faults: Vec<StoreFault>,
    /// Paths that are there and not registered, without being a fault.
    pub unregistered: Vec<String>,
}

/// What may be in a store besides what is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    /// Nothing: no Nix has run on it.
    Nothing,
    /// What Nix itself makes there, such as locks.
    ByProducts,
    /// Anything: Nix takes only for valid what its database has, and its garbage collector deletes the rest.
    Anything,
}

/// What a directory holds besides the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nothing: it is the store.
    None,
    /// Anything: it is the root of the filesystem as well.
    Any,
}

/// Compares registrations with the names that are in the store.
pub(super) fn compare(
    mut registrations: Vec<Registration>,
    names: &BTreeSet<String>,
    others: Others,
    extra: Extra,
) -> Compared {
    registrations.sort_by(|a, b| a.path.cmp(&b.path));
    let mut faults = Vec::new();
    registrations.dedup_by(|later, first| {
        let is_twice = later.path == first.path;
        let name = first.path.base_name();
        // The list is sorted: only the one that was reported last could be reported again.
        if is_twice && faults.last().is_none_or(|fault: &StoreFault| fault.name != name) {
            faults.push(StoreFault::new(name, "is registered twice"));
        }
        is_twice
    });
    let registered: BTreeSet<&str> = registrations.iter().map(|registration| registration.path.base_name()).collect();
    let mut referrers = referrers(&registrations, |name| registered.contains(name) && names.contains(name));
    for name in registered.iter().filter(|&&name| !names.contains(name)) {
        faults.push(StoreFault::new(name, format!("is registered but missing{}", referred(&mut referrers, name))));
    }
    let mut unregistered = Vec::new();
    for name in names.iter().filter(|name| !registered.contains(name.as_str())) {
        let is_referred = referrers.contains_key(name);
        let why = match check_base_name(name) {
            _ if !is_referred && extra != Extra::Nothing && is_by_product(name) => continue,
            Ok(()) if !is_referred && extra == Extra::Anything => {
                unregistered.push(name.clone());
                continue;
            }
            Ok(()) => format!("is in the store but not registered{}", referred(&mut referrers, name)),
            // Nix keeps hard links of equal files there.
            Err(_) if name == ".links" || others == Others::Any => continue,
            Err(_) if extra == Extra::Anything => {
                unregistered.push(name.clone());
                continue;
            }
            Err(_) => "is in the store but is not a store path".to_owned(),
        };
        faults.push(StoreFault::new(name, why));
    }
    for (name, paths) in referrers.into_iter().filter(|(name, _)| !registered.contains(name.as_str())) {
        faults.push(StoreFault::new(
            &name,
            format!("is missing and not registered, but referred to by {}", Paths(paths)),
        ));
    }
    let to_hash = registrations.iter().filter(|registration| names.contains(registration.path.base_name()));
    Compared { to_hash: to_hash.cloned().collect(), faults, unregistered }
}

/// Which paths refer to each path for which `is_known` returns false, without references to itself.
fn referrers(registrations: &[Registration], is_known: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<StorePath>> {
    let mut referrers: BTreeMap<String, Vec<StorePath>> = BTreeMap::new();
    for registration in registrations {
        let others = registration.references.iter().filter(|&reference| *reference != registration.path);
        for reference in others.filter(|reference| !is_known(reference.base_name())) {
            referrers.entry(reference.base_name().to_owned()).or_default().push(registration.path.clone());
        }
    }
    referrers
}

/// The rest of a sentence about a path, if others refer to it.
fn referred(referrers: &mut BTreeMap<String, Vec<StorePath>>, name: &str) -> String {
    referrers.remove(name).map_or(String::new(), |paths| format!("; referred to by {}", Paths(paths)))
}

/// The first path of `given` of which a database says different things, or that it lacks. It may have more paths.
pub(super) fn first_missing(own: &[Registration], given: &[Registration]) -> Option<String> {
    let wanted: BTreeSet<&StorePath> = given.iter().map(|registration| &registration.path).collect();
    let own: Vec<_> = own.iter().filter(|registration| wanted.contains(&registration.path)).cloned().collect();
    first_difference(&own, given)
}

/// What [`first_difference`] calls the second list.
pub(super) const GIVEN: &str = "the given registration";

/// The first path of which two lists of registrations say different things, and what those are.
pub(super) fn first_difference(own: &[Registration], given: &[Registration]) -> Option<String> {
    let [own, given] = [own, given].map(|list| {
        let facts = list.iter().map(|registration| {
            let references: BTreeSet<&StorePath> = registration.references.iter().collect();
            (&registration.path, (registration.nar_hash, registration.nar_size, references))
        });
        facts.collect::<BTreeMap<_, _>>()
    });
    let paths: BTreeSet<&StorePath> = own.keys().chain(given.keys()).copied().collect();
    paths.into_iter().find_map(|path| match (own.get(path), given.get(path)) {
        (None, _) => Some(format!("lacks {path}, which is in {GIVEN}")),
        (_, None) => Some(format!("has {path}, which is not in {GIVEN}")),
        (Some(one), Some(other)) if one.0 != other.0 => Some(format!("has a different hash for {path} than {GIVEN}")),
        (Some(one), Some(other)) if one.1 != other.1 => Some(format!("has a different size for {path} than {GIVEN}")),
        (Some(one), Some(other)) if one.2 != other.2 => {
            Some(format!("has different references for {path} than {GIVEN}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreDir;

    const PREFIX: &str = "0q43idch209zsdngl8yl79x0y79aajib-";

    fn path(name: &str) -> StorePath {
        let store = StoreDir::new("/nix/store").unwrap();
        StorePath::from_absolute_path(&format!("/nix/store/{PREFIX}{name}"), &store).unwrap()
    }

    fn registration(name: &str, references: &[&str]) -> Registration {
        let references = references.iter().map(|name| path(name)).collect();
        Registration { path: path(name), nar_hash: [0; 32], nar_size: 1, deriver: None, references }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("{PREFIX}{name}")).collect()
    }

    fn faults(registrations: Vec<Registration>, names: &BTreeSet<String>, others: Others) -> Vec<String> {
        let compared = compare(registrations, names, others, Extra::Nothing);
        let lines = compared.faults.iter().map(|fault| format!("{}: {}", fault.name, fault.why));
        lines.map(|line| line.replace("/nix/store/", "").replace(PREFIX, "")).collect()
    }

    #[test]
    fn what_is_right_is_hashed() {
        let both = vec![registration("b", &["a", "b"]), registration("a", &[])];
        let compared = compare(both, &names(&["a", "b"]), Others::None, Extra::Nothing);
        assert_eq!(compared.to_hash.iter().map(|r| r.path.clone()).collect::<Vec<_>>(), [path("a"), path("b")]);
        assert_eq!(compared.faults, []);
    }

    #[test]
    fn missing_unregistered_and_dangling_paths_are_told_once() {
        let registrations = vec![
            registration("a", &["a", "gone"]),
            registration("gone", &["gone"]),
            registration("c", &["new", "far"]),
        ];
        assert_eq!(
            faults(registrations, &names(&["a", "c", "new", "idle"]), Others::None),
            [
                "gone: is registered but missing; referred to by a",
                "idle: is in the store but not registered",
                "new: is in the store but not registered; referred to by c",
                "far: is missing and not registered, but referred to by c",
            ]
        );
    }

    #[test]
    fn a_path_registered_twice_is_hashed_once() {
        let twice = || vec![registration("a", &[]), registration("a", &[]), registration("a", &[])];
        assert_eq!(faults(twice(), &names(&["a"]), Others::None), ["a: is registered twice"]);
        assert_eq!(compare(twice(), &names(&["a"]), Others::None, Extra::Nothing).to_hash.len(), 1);
    }

    #[test]
    fn other_names_count_only_in_a_directory_of_its_own() {
        let mut all = names(&["a"]);
        all.extend([".links".to_owned(), "lost+found".to_owned()]);
        let registrations = || vec![registration("a", &[])];
        assert_eq!(
            faults(registrations(), &all, Others::None),
            ["lost+found: is in the store but is not a store path"]
        );
        assert_eq!(faults(registrations(), &all, Others::Any), [""; 0]);
    }

    #[test]
    fn a_store_that_was_used_holds_more() {
        let mut all = names(&["a", "a.lock", "b.chroot", "garbage", "needed"]);
        let by_products = [".links", ".tmp-link-1-2", "add-1-2", "tmp-1-2", "trash"];
        all.extend(by_products.iter().chain(&["dropped"]).map(|name| (*name).to_owned()));
        let compared = |extra| compare(vec![registration("a", &["needed"])], &all, Others::None, extra);
        let told = |faults: Vec<StoreFault>| faults.into_iter().map(|fault| fault.name).collect::<Vec<_>>();
        let [garbage, needed] = ["garbage", "needed"].map(|name| format!("{PREFIX}{name}"));
        let dropped = "dropped".to_owned();
        let found = compared(Extra::Anything);
        assert_eq!(found.unregistered, [garbage.clone(), dropped.clone()]);
        assert_eq!(told(found.faults), std::slice::from_ref(&needed));
        let found = compared(Extra::ByProducts);
        assert_eq!((found.unregistered, told(found.faults)), (vec![], vec![garbage, needed, dropped]));
        assert_eq!(compared(Extra::Nothing).faults.len(), all.len() - 2);
    }

    #[test]
    fn differences_of_registrations_are_named() {
        let one = [registration("a", &["a", "b"]), registration("b", &[])];
        let turned = [registration("b", &[]), registration("a", &["b", "a"])];
        assert_eq!(first_difference(&one, &turned), None);
        let said = |other: &[Registration]| first_difference(&one, other).unwrap().replace(PREFIX, "");
        assert_eq!(said(&one[..1]), "has /nix/store/b, which is not in the given registration");
        assert_eq!(
            said(&[registration("a", &["a"]), one[1].clone()]),
            "has different references for /nix/store/a than the given registration"
        );
        let larger = Registration { nar_size: 2, ..one[0].clone() };
        assert_eq!(
            said(&[larger, one[1].clone()]),
            "has a different size for /nix/store/a than the given registration"
        );
        let other = Registration { nar_hash: [1; 32], ..one[0].clone() };
        assert_eq!(said(&[other, one[1].clone()]), "has a different hash for /nix/store/a than the given registration");
    }
}
