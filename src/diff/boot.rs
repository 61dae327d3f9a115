//! What changed in the boot entries and boot loaders.

use super::disk::{Difference, Value};

/// Something that can be booted, as it is compared. All text is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    /// Who boots it.
    pub loader: &'static str,
    /// Its file's name, or its label. systemd-boot's entries are named after their contents, so that this is not enough
    /// to know one by.
    pub id: String,
    /// As the menu shows it.
    pub title: String,
    /// All else, by name; the same names in the same order for all.
    pub facts: Vec<(&'static str, String)>,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDiff {
    /// Its id before, if it was there.
    pub before: Option<String>,
    /// Its id now, if it is there.
    pub after: Option<String>,
    /// As the menu shows it.
    pub title: String,
    /// What changed, if it was there before and is there now.
    pub differences: Vec<Difference>,
}

/// Compares the entries of two images. An entry is known again by its id, or else by its title if that is the only one.
pub fn compare(before: &[EntryFacts], after: &[EntryFacts]) -> Vec<EntryDiff> {
    let by_id = |one: &EntryFacts, other: &EntryFacts| one.loader == other.loader && one.id == other.id;
    let by_title = |one: &EntryFacts, other: &EntryFacts| one.loader == other.loader && one.title == other.title;
    let mut left_before: Vec<&EntryFacts> = before.iter().collect();
    let mut left_after: Vec<&EntryFacts> = after.iter().collect();
    let mut diffs = Vec::new();
    for is_same in [&by_id as &dyn Fn(&EntryFacts, &EntryFacts) -> bool, &by_title] {
        left_before.retain(|one| match left_after.iter().position(|other| is_same(one, other)) {
            Some(at) => {
                let other = left_after.remove(at);
                diffs.extend(entry_diff(one, other));
                false
            }
            None => true,
        });
    }
    diffs.extend(left_before.into_iter().map(|one| EntryDiff {
        before: Some(one.id.clone()),
        after: None,
        title: one.title.clone(),
        differences: Vec::new(),
    }));
    diffs.extend(left_after.into_iter().map(|other| EntryDiff {
        before: None,
        after: Some(other.id.clone()),
        title: other.title.clone(),
        differences: Vec::new(),
    }));
    diffs
}

fn entry_diff(one: &EntryFacts, other: &EntryFacts) -> Option<EntryDiff> {
    let mut differences = Vec::new();
    let mut compare = |field, before: &str, after: &str| {
        if before != after {
            let [before, after] = [before, after].map(|text| match text {
                "" => Value::None,
                text => Value::Text(text.to_owned()),
            });
            differences.push(Difference { field, before, after });
        }
    };
    compare("id", &one.id, &other.id);
    compare("title", &one.title, &other.title);
    for ((field, before), (_, after)) in one.facts.iter().zip(&other.facts) {
        compare(field, before, after);
    }
    let (before, after) = (Some(one.id.clone()), Some(other.id.clone()));
    (!differences.is_empty()).then(|| EntryDiff { before, after, title: other.title.clone(), differences })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, title: &str, options: &str) -> EntryFacts {
        let facts = vec![("kernel", "k".to_owned()), ("options", options.to_owned())];
        EntryFacts { loader: "systemd-boot", id: id.to_owned(), title: title.to_owned(), facts }
    }

    fn fields(diffs: &[EntryDiff]) -> Vec<(Option<&str>, Option<&str>, Vec<&str>)> {
        let fields = |diff: &EntryDiff| diff.differences.iter().map(|difference| difference.field).collect();
        diffs.iter().map(|diff| (diff.before.as_deref(), diff.after.as_deref(), fields(diff))).collect()
    }

    #[test]
    fn entries_are_known_by_id_then_by_title() {
        let before = [entry("a", "A", "x"), entry("b", "B", "x"), entry("gone", "G", "x"), entry("same", "S", "")];
        let after = [entry("same", "S", ""), entry("a", "A2", "y"), entry("b2", "B", "x"), entry("new", "N", "x")];
        assert_eq!(
            fields(&compare(&before, &after)),
            [
                (Some("a"), Some("a"), vec!["title", "options"]),
                (Some("b"), Some("b2"), vec!["id"]),
                (Some("gone"), None, vec![]),
                (None, Some("new"), vec![]),
            ]
        );
        assert_eq!(compare(&before, &before), []);
    }

    #[test]
    fn another_loader_is_another_entry() {
        let other = EntryFacts { loader: "extlinux", ..entry("a", "A", "x") };
        assert_eq!(compare(&[entry("a", "A", "x")], &[other]).len(), 2);
    }
}
