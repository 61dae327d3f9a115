//! The space that a disk leaves to its last partition, the one with the nix filesystem. Pure.

use super::PlanError;
use super::table::{Sizes, table};
use crate::disk::gpt::GptError;
use crate::identity::Identities;
use crate::spec::{MAX_SIZE, Spec};
use crate::units::{MIB, align_up};

/// The size of a disk has to be a multiple of this, so that a form of the image can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeMultiple {
    /// Whole MiB in bytes, not zero.
    pub bytes: u64,
    /// The form that wants it, for messages.
    pub form: &'static str,
}

/// Every disk is whole MiB.
impl Default for SizeMultiple {
    fn default() -> Self {
        Self { bytes: MIB, form: "raw" }
    }
}

/// The place of the last partition on a disk whose size is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Where the partition starts, in bytes.
    start: u64,
    /// The bytes that the disk has behind the partition: the backup of the table, rounded up to whole MiB.
    behind: u64,
    /// The size of the disk, if not any will do.
    disk_size: Option<u64>,
    /// The size of the disk is a multiple of this.
    multiple: u64,
}

impl Rest {
    /// The room that the disk of `spec` leaves, or `None` if its last partition can have any size in whole MiB.
    ///
    /// # Errors
    /// If there is no such disk, whatever is in its last partition.
    pub fn new(
        spec: &Spec,
        identities: &Identities,
        extra: &[u64],
        multiple: SizeMultiple,
    ) -> Result<Option<Self>, PlanError> {
        if !Self::is_asked_for(spec, multiple) {
            return Ok(None);
        }
        check_multiple(spec, multiple)?;
        let disk_size = spec.disk_size;
        // The smallest possible partition: what is around it does not depend on its size.
        let gpt = table(spec, identities, &Sizes::least(extra))?;
        let sector = spec.sector_size.bytes();
        let last = gpt.partitions.last().map(|last| (last.first.0 * sector, (last.last.0 + 1) * sector));
        let (start, end) = last.ok_or(GptError::TooLarge)?;
        Ok(Some(Self { start, behind: gpt.disk_size - end, disk_size, multiple: multiple.bytes }))
    }

    /// Whether the size of the disk decides that of the partition. One with a hash tree is as large as its data, and slots have a size of their own.
    pub fn is_asked_for(spec: &Spec, multiple: SizeMultiple) -> bool {
        !spec.has_fixed_store() && (spec.disk_size.is_some() || multiple.bytes != MIB)
    }

    /// The size of a disk whose partitions need one of `needed` bytes, and leave the rest free.
    ///
    /// # Errors
    /// If the disk is too small, or there is none of this size.
    pub(super) fn around(needed: u64, spec: &Spec, multiple: SizeMultiple) -> Result<u64, PlanError> {
        check_multiple(spec, multiple)?;
        let rest = Self { start: 0, behind: 0, disk_size: spec.disk_size, multiple: multiple.bytes };
        rest.size_for(needed).map_err(|error| match error {
            PlanError::TooSmall { disk_size, needed, .. } => {
                PlanError::TooSmallForFixed { disk_size, needed, slots: spec.updates.is_some() }
            }
            error => error,
        })
    }

    /// The size of the partition if `least` bytes, whole MiB, are the least that it can have.
    ///
    /// # Errors
    /// If the disk is too small.
    pub fn size_for(&self, least: u64) -> Result<u64, PlanError> {
        let needed = self.disk_for(least).ok_or(GptError::TooLarge)?;
        let disk_size = self.disk_size.unwrap_or(needed);
        match needed.checked_sub(disk_size) {
            // `least` and everything around it is needed.
            None | Some(0) => Ok(disk_size - self.behind - self.start),
            Some(missing) => Err(PlanError::TooSmall { disk_size, needed, missing }),
        }
    }

    /// The size of the partition if the disk's is given, and has room for one.
    pub fn given(&self) -> Option<u64> {
        self.disk_size?.checked_sub(self.behind)?.checked_sub(self.start).filter(|&size| size > 0)
    }

    /// The size of the smallest disk for a partition of `size` bytes.
    fn disk_for(&self, size: u64) -> Option<u64> {
        let end = self.start.checked_add(size)?.checked_add(self.behind)?;
        align_up(end, self.multiple).filter(|&size| size <= MAX_SIZE)
    }
}

fn check_multiple(spec: &Spec, multiple: SizeMultiple) -> Result<(), PlanError> {
    match spec.disk_size.filter(|size| !size.is_multiple_of(multiple.bytes)) {
        Some(disk_size) => Err(PlanError::NoMultiple { disk_size, multiple }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn rest(disk_size: Option<u64>, multiple: u64) -> Rest {
        Rest { start: 528 * MIB, behind: MIB, disk_size, multiple }
    }

    #[test]
    fn the_partition_takes_what_is_left() {
        let given = rest(Some(2 * GIB), MIB);
        assert_eq!(given.given(), Some(1519 * MIB));
        for least in [MIB, 1000 * MIB, 1519 * MIB] {
            assert_eq!(given.size_for(least).unwrap(), 1519 * MIB, "{least}");
        }
    }

    #[test]
    fn a_disk_becomes_the_next_multiple() {
        for (least, disk) in [(MIB, GIB), (495 * MIB, GIB), (496 * MIB, 2 * GIB), (1519 * MIB, 2 * GIB)] {
            assert_eq!(rest(None, GIB).size_for(least).unwrap(), disk - 529 * MIB, "{least}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let told = |rest: Rest, least| rest.size_for(least).unwrap_err().to_string();
        assert_eq!(
            told(rest(Some(2 * GIB), MIB), 1521 * MIB),
            "diskSize: 2147483648 bytes are too few: the partitions need 2149580800 with nixFreeSpace free in the last, so \
             2097152 are missing; set diskSize to 2149580800 at least"
        );
        assert!(told(rest(Some(2 * GIB), GIB), 1520 * MIB).ends_with("set diskSize to 3221225472 at least"));
        // There is no room even for what comes before the partition.
        assert_eq!(rest(Some(100 * MIB), MIB).given(), None);
        assert!(told(rest(Some(100 * MIB), MIB), MIB).contains("450887680 are missing"));
        for least in [MAX_SIZE, u64::MAX] {
            assert!(matches!(rest(None, GIB).size_for(least), Err(PlanError::Gpt(GptError::TooLarge))));
        }
    }
}
