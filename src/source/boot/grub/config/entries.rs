//! The entries of `grub.cfg`: the system, its specialisations, and the submenu with the one generation; pure.

use super::{Places, is_saved, is_true};
use crate::source::boot::grub::system::{Bootable, Generation, StoreFile};
use crate::spec::Grub;

/// The number that the first boot gives to the system in the image.
const GENERATION: u32 = 1;
/// When the links to systems were made: second 1 in every image, UTC.
pub(in super::super) const DATE: &str = "1970-01-01";

/// The text of the entries.
#[derive(Debug)]
pub(in super::super) struct Entries {
    /// Of the system and its specialisations.
    pub(in super::super) current: String,
    /// All generations in a submenu.
    pub(in super::super) generations: String,
}

/// What is the same for all entries.
pub(in super::super) struct Menu<'a> {
    pub(in super::super) wanted: &'a Grub,
    pub(in super::super) places: &'a Places,
}

/// Which of the two lists an entry is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Current,
    Generations,
}

impl Menu<'_> {
    /// All entries for the only generation that an image has.
    pub(in super::super) fn entries(&self, generation: &Generation) -> Entries {
        let (wanted, name) = (self.wanted, &self.wanted.distro_name);
        let current = self.generation(name, "", generation, List::Current);
        let title = format!("{name} - Configuration {GENERATION}");
        // The installer takes a generation without a version for a broken one.
        let listed = generation.version.as_ref().filter(|_| wanted.configuration_limit > 0);
        let generations = listed.map_or_else(String::new, |version| {
            let suffix = format!(" ({DATE} - {version})");
            let text = self.generation(&title, &suffix, generation, List::Generations);
            format!("submenu \"{name} - All configurations\" --class submenu {{\n{text}}}\n")
        });
        Entries { current, generations }
    }

    fn generation(&self, name: &str, suffix: &str, generation: &Generation, list: List) -> String {
        let options = match list {
            List::Current => &self.wanted.entry_options,
            List::Generations => &self.wanted.sub_entry_options,
        };
        if generation.specialisations.is_empty() {
            return self.entry(&format!("{name}{suffix}"), &generation.system, options);
        }
        let mut text = self.entry(&format!("{name} - Default{suffix}"), &generation.system, options);
        for specialisation in &generation.specialisations {
            if let Some(system) = &specialisation.system {
                text += &self.entry(&format!("{name} - {}", specialisation.title), system, "");
            }
        }
        match list {
            List::Current => text,
            List::Generations => format!("submenu \"{name}{suffix}\" --class submenu {{\n{text}}}\n"),
        }
    }

    fn entry(&self, title: &str, system: &Bootable, options: &str) -> String {
        let mut text = format!("menuentry \"{title}\" {options} {{\n");
        if is_saved(self.wanted) {
            text += "  savedefault\n";
        }
        for place in [Some(&self.places.boot), self.places.store.as_ref()].into_iter().flatten() {
            text += &format!("{}\n", place.search);
        }
        if is_true(&self.wanted.extra_per_entry_config) {
            text += &format!("  {}\n", self.wanted.extra_per_entry_config);
        }
        let mut commands = ["linux", "initrd"];
        if let Some(xen) = &system.xen {
            commands = ["module"; 2];
            text += &format!("  multiboot {} {}\n", self.path(&xen.file), xen.params);
        }
        let [kernel, initrd] = commands;
        text += &format!("  {kernel} {} init={} {}\n", self.path(&system.kernel), system.init, system.params);
        text += &format!("  {initrd} {}\n", self.path(&system.initrd));
        text + "}\n\n"
    }

    /// Where GRUB finds a file of the store, or its copy.
    fn path(&self, file: &StoreFile) -> String {
        match &self.places.store {
            Some(store) => format!("{}/{}", store.path, file.in_store),
            None => format!("{}/{}", self.places.boot.prefix(), file.copy_path()),
        }
    }
}
