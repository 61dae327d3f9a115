//! The use of every byte of the planned disk.

use super::Prepared;
use super::extra::ExtraParts;
use super::fat::FatPart;
use crate::disk::gpt::GptLayout;
use crate::disk::protected::{self, Purpose};
use crate::map::{Held, ImageMap, MapBuilder};
use crate::plan::{Partition, Role};
use crate::units::MIB;
use crate::vfat;

/// The ends of a partition where other tools look for what they know: a used card may have old superblocks there. In bytes.
const ENDS: u64 = MIB;

/// What is between the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Nothing was put there. Firmware may look there for a boot loader, so that there have to be zeros.
    Zeros,
    /// What an installer has written there.
    Written,
}

/// The map of the disk of a plan.
pub(super) fn disk(prepared: &Prepared, gaps: Gaps) -> ImageMap {
    let plan = &prepared.plan;
    let mut map = MapBuilder::default();
    tables(&plan.gpt, gaps, &mut map);
    for partition in &plan.partitions {
        let (start, end) = (partition.offset, partition.offset + partition.size);
        map.add(start..end.min(start + ENDS), Held::Zeros);
        map.add(start.max(end.saturating_sub(ENDS))..end, Held::Zeros);
        match partition.role {
            Role::BiosBoot => map.add(start..start + plan.bios_boot.len() as u64, Held::Metadata),
            role @ (Role::Boot | Role::Xbootldr) => {
                prepared.fats.of(role).into_iter().for_each(|fat| map.add_moved(&fat.map(), start));
            }
            Role::Nix => {
                // A hash tree proves the free space of its filesystem, too.
                let proved = if prepared.has_hash_tree() { prepared.nix.size() } else { 0 };
                map.add(start..start + proved, Held::Zeros);
                map.add_moved(&prepared.nix.map(), start);
            }
            Role::Verity => {
                let hash_tree = partition.verity.as_ref().map_or(0, |area| area.hash_size);
                map.add(start..start + hash_tree, Held::Metadata);
            }
            Role::Slot(_) => {}
            Role::Extra(index) => extra(&prepared.extra, index, partition, &mut map),
        }
    }
    let files = prepared.extra.files(&plan.partitions);
    files.ranges().for_each(|range| map.add(range, Held::Contents));
    map.finish(plan.size)
}

fn tables(gpt: &GptLayout, gaps: Gaps, map: &mut MapBuilder) {
    for area in protected::areas(gpt) {
        match (area.purpose, gaps) {
            (Purpose::Partition { .. }, _) => {}
            (Purpose::Free, Gaps::Zeros) => map.add(area.bytes, Held::Zeros),
            (Purpose::Free, Gaps::Written) => map.add(area.bytes, Held::Contents),
            _ => map.add(area.bytes, Held::Metadata),
        }
    }
}

/// A partition with contents is what they are, to its end; a swap area has one page; nothing is known of any other one.
fn extra(parts: &ExtraParts, index: usize, partition: &Partition, map: &mut MapBuilder) {
    let start = partition.offset;
    if let Some(area) = &partition.swap {
        map.add(start..start + area.page_size.bytes(), Held::Metadata);
    } else if parts.has_file(index) {
        map.add(start..start + partition.size, Held::Zeros);
    }
}

impl FatPart {
    fn map(&self) -> MapBuilder {
        vfat::map::map(&self.layout, &self.tree)
    }
}
