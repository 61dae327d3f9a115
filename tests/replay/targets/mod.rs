//! What is done with each input of a fuzz target. `fuzz/` makes inputs, the replay keeps those that it found.
//!
//! A target panics if a reader of ours does, or if what it says cannot be true; that an input is refused is no fault.

pub(crate) mod base;
mod commands;
mod containers;
mod files;
pub(crate) mod images;
pub(crate) mod seconds;
mod sums;
mod texts;
mod verity;

/// A target.
pub(crate) struct Target {
    /// The name of the directory of its corpus.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) run: fn(&[u8]),
}

/// All targets.
pub(crate) const TARGETS: [Target; 19] = [
    Target { name: "registration", run: texts::registration },
    Target { name: "extlinux", run: texts::extlinux },
    Target { name: "entries", run: texts::entries },
    Target { name: "loader_conf", run: texts::loader_conf },
    Target { name: "grub_cfg", run: texts::grub_cfg },
    Target { name: "limine_conf", run: texts::limine_conf },
    Target { name: "bootspec", run: texts::bootspec },
    Target { name: "pe", run: texts::pe },
    Target { name: "spec", run: texts::spec },
    Target { name: "versions", run: texts::versions },
    Target { name: "names", run: texts::names },
    Target { name: "ext4", run: images::ext4 },
    Target { name: "btrfs", run: images::btrfs },
    Target { name: "erofs", run: images::erofs },
    Target { name: "vfat", run: images::vfat },
    Target { name: "disk", run: images::disk },
    Target { name: "verity", run: verity::verity },
    Target { name: "database", run: images::database },
    Target { name: "container", run: containers::container },
];

/// The target of this name.
///
/// # Panics
/// If there is none.
pub(crate) fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}
