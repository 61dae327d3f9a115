//! What a Chromebook's own firmware starts. It knows no filesystem and no boot loader, only partitions of one type, and
//! the attribute bits of their entries in the GPT.

use uuid::{Uuid, uuid};

use super::report::{DepthchargeReport, PartitionReport};
use crate::image::Partition;

/// The type of those partitions.
pub(super) const CHROMEOS_KERNEL: Uuid = uuid!("fe3a2a5d-4f32-41a7-b725-accc3285a309");

/// What a partition's attributes tell that firmware; `None` of any other type.
pub(super) fn examine(partition: &Partition) -> Option<DepthchargeReport> {
    let four_bits = |at: u32| u8::try_from(partition.attributes.wrapping_shr(at) & 0xf).unwrap_or(0);
    (partition.type_guid == CHROMEOS_KERNEL).then(|| DepthchargeReport {
        priority: four_bits(48),
        tries: four_bits(52),
        successful: partition.attributes.wrapping_shr(56) & 1 == 1,
        starts: false,
    })
}

/// Marks what is started: the first one of the highest priority that has tries left or was successful. Priority 0 is none.
pub(super) fn choose(partitions: &mut [PartitionReport]) {
    let mut best: Option<&mut DepthchargeReport> = None;
    for one in partitions.iter_mut().filter_map(|partition| partition.depthcharge.as_mut()) {
        let may_start = one.priority > 0 && (one.successful || one.tries > 0);
        if may_start && best.as_ref().is_none_or(|best| one.priority > best.priority) {
            best = Some(one);
        }
    }
    if let Some(best) = best {
        best.starts = true;
    }
}
