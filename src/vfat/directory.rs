//! The bytes of a directory as the layout has it. Pure.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::alias::{Alias, Aliases, short_checksum};
use super::format::{ATTR_DIRECTORY, ATTR_LONG_NAME, ATTR_VOLUME_ID, LAST_LONG_ENTRY, LongEntry, ShortEntry};
use super::layout::{VfatLayout, creation_order};
use super::names::{UNITS_PER_ENTRY, text};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::times::Times;

/// All entries of `directory`: those of its own, and those of its children in the order in which they are placed.
pub(super) fn bytes(layout: &VfatLayout, tree: &FileTree, directory: NodeIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |entry: ShortEntry| bytes.extend_from_slice(entry.as_bytes());
    if directory == NodeIndex::ROOT {
        layout.label().into_iter().for_each(|label| add(ShortEntry::new(label, ATTR_VOLUME_ID, 0, 0, Times::STORE)));
    } else {
        let parent = match tree.parent(directory) {
            // The root as a parent is 0, wherever it is.
            NodeIndex::ROOT => 0,
            parent => layout.place(parent).cluster,
        };
        // Both are as old as the directory.
        let times = tree.times(directory);
        add(ShortEntry::new(*b".          ", ATTR_DIRECTORY, layout.place(directory).cluster, 0, times));
        add(ShortEntry::new(*b"..         ", ATTR_DIRECTORY, parent, 0, times));
    }
    let mut aliases = Aliases::default();
    for child in creation_order(tree, directory) {
        let name = text(tree, child);
        let alias = aliases.give(name);
        long_entries(name, &alias).for_each(|entry| bytes.extend_from_slice(entry.as_bytes()));
        let (attributes, size) = match tree.kind(child) {
            NodeKind::File { size } => (0, u32::try_from(size).expect("the layout has no larger files")),
            NodeKind::Directory | NodeKind::Symlink(_) => (ATTR_DIRECTORY, 0),
        };
        let short = ShortEntry::new(alias, attributes, layout.place(child).cluster, size, tree.times(child));
        bytes.extend_from_slice(short.as_bytes());
    }
    bytes
}

/// The entries of a long name, the last part first.
fn long_entries(name: &str, alias: &Alias) -> impl Iterator<Item = LongEntry> {
    let units: Vec<_> = name.encode_utf16().collect();
    let parts: Vec<_> = units.chunks(UNITS_PER_ENTRY).map(<[u16]>::to_vec).zip(1_u8..).collect();
    let chksum = short_checksum(alias);
    let last = parts.len();
    parts.into_iter().rev().map(move |(part, number)| {
        // A name that does not fill its last part ends with a zero; ones follow.
        let padding = std::iter::once(0).chain(std::iter::repeat(u16::MAX));
        let mut units = part.into_iter().chain(padding).map(U16::new);
        let mut next = || units.next().unwrap_or(U16::MAX_VALUE);
        LongEntry {
            ord: number | if usize::from(number) == last { LAST_LONG_ENTRY } else { 0 },
            name1: std::array::from_fn(|_| next()),
            attr: ATTR_LONG_NAME,
            kind: 0,
            chksum,
            name2: std::array::from_fn(|_| next()),
            fst_clus_lo: U16::ZERO,
            name3: std::array::from_fn(|_| next()),
        }
    })
}
