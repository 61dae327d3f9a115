//! The variables of GRUB. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A text, or `None` if it depends on the machine.
pub(super) type Value = Option<String>;

/// As many variables as are kept.
const MAX_VARIABLES: usize = 1000;
/// What GRUB shows to every menu.
const EXPORTED: [&str; 2] = ["root", "prefix"];

/// The variables of a menu or an entry.
#[derive(Default)]
pub(super) struct Scope<'p> {
    variables: BTreeMap<String, Value>,
    exported: BTreeSet<String>,
    /// The menu that it is in, and how much of that is seen here.
    around: Option<(&'p Scope<'p>, Seen)>,
}

/// What is seen of the variables around.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All, by an entry.
    All,
    /// Those that are exported, by a menu in a menu.
    Exported,
}

impl<'p> Scope<'p> {
    pub(super) fn within(around: &'p Scope<'p>, seen: Seen) -> Self {
        Scope { around: Some((around, seen)), ..Scope::default() }
    }

    /// The value of a variable, `""` if it is not set, or `None` if that depends on the machine.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        match self.find(name) {
            Some(value) => value.as_deref(),
            None if name.starts_with("feature_") => Some("y"),
            None if is_of_machine(name) => None,
            None => Some(""),
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.variables.get(name).or_else(|| {
            let (around, seen) = self.around?;
            (seen == Seen::All || around.is_exported(name)).then(|| around.find(name))?
        })
    }

    fn is_exported(&self, name: &str) -> bool {
        EXPORTED.contains(&name)
            || self.exported.contains(name)
            || self.around.is_some_and(|(around, _)| around.is_exported(name))
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        if self.variables.len() < MAX_VARIABLES || self.variables.contains_key(name) {
            self.variables.insert(name.to_owned(), value);
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.set(name, Some(String::new()));
    }

    pub(super) fn export(&mut self, name: &str) {
        if self.exported.len() < MAX_VARIABLES {
            self.exported.insert(name.to_owned());
        }
    }
}

/// Whether GRUB sets a variable by the machine that it runs on, or by how a function was called.
fn is_of_machine(name: &str) -> bool {
    let is_parameter = name.bytes().next().is_some_and(|byte| !byte.is_ascii_alphabetic() && byte != b'_');
    is_parameter
        || ["net_", "pxe_", "smbios", "grub_"].iter().any(|start| name.starts_with(start))
        || matches!(name, "cmdpath" | "lang" | "lockdown" | "shim_lock" | "secureboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_menu_sees_what_is_exported_and_an_entry_all() {
        let mut top = Scope::default();
        top.set("drive1", Some("hd0,gpt2".to_owned()));
        top.set("root", Some("hd0,gpt1".to_owned()));
        top.set("other", Some("x".to_owned()));
        top.export("other");
        let mut menu = Scope::within(&top, Seen::Exported);
        assert_eq!((menu.get("drive1"), menu.get("root"), menu.get("other")), (Some(""), Some("hd0,gpt1"), Some("x")));
        menu.set("own", None);
        menu.unset("other");
        let entry = Scope::within(&menu, Seen::All);
        assert_eq!((entry.get("own"), entry.get("other"), entry.get("root")), (None, Some(""), Some("hd0,gpt1")));
        assert_eq!((entry.get("feature_x"), entry.get("grub_platform"), entry.get("1")), (Some("y"), None, None));
    }
}
