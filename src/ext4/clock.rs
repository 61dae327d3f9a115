//! Times as inodes hold them. Pure.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/inodes.rst`, section "Inode Timestamps". The seconds are 32
//! bits with a sign. In the extra field, the lower two bits count periods of 2^32 seconds, and the upper 30 bits are
//! nanoseconds.

use super::format::Inode;
use crate::times::{Times, Timestamp};

/// The first second that an inode can store, in 1901.
const FIRST: i64 = -0x8000_0000;
/// The last second that an inode can store, in 2446.
const LAST: i64 = 0x3_7fff_ffff;
/// The bits of an extra field that belong to the seconds.
const EPOCH_BITS: u32 = 2;

/// Whether an inode can store a time.
pub(super) fn holds(time: Timestamp) -> bool {
    (FIRST..=LAST).contains(&time.seconds) && time.is_valid()
}

/// Sets the times of an inode. They are all [held](holds).
pub(super) fn put(inode: &mut Inode, times: Times) {
    let [access, change, modification, birth] = times.all().map(encode);
    (inode.atime, inode.atime_extra) = (access.0.into(), access.1.into());
    (inode.ctime, inode.ctime_extra) = (change.0.into(), change.1.into());
    (inode.mtime, inode.mtime_extra) = (modification.0.into(), modification.1.into());
    (inode.crtime, inode.crtime_extra) = (birth.0.into(), birth.1.into());
}

/// The field and the extra field of a time.
fn encode(time: Timestamp) -> (u32, u32) {
    let field = low(time.seconds);
    let epoch = low(time.seconds.wrapping_sub(i64::from(field.cast_signed())) >> 32);
    (field, time.nanoseconds << EPOCH_BITS | epoch)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the upper half goes into another field")]
fn low(value: i64) -> u32 {
    value as u32
}

/// The time of a field and its extra field, which is 0 where there is none.
pub(super) fn decode(field: u32, extra: u32) -> Timestamp {
    let epoch = i64::from(extra & ((1 << EPOCH_BITS) - 1));
    let seconds = i64::from(field.cast_signed()).saturating_add(epoch << 32);
    Timestamp { seconds, nanoseconds: extra >> EPOCH_BITS }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanoseconds: 0 }
    }

    /// The table of the kernel's documentation: extra bits, the field's sign, and the range that they make.
    #[test]
    fn ranges_are_the_documented_ones() {
        let rows = [
            (0, 0x8000_0000, -0x8000_0000),
            (0, 0xffff_ffff, -1),
            (0, 0, 0),
            (0, 0x7fff_ffff, 0x7fff_ffff),
            (1, 0x8000_0000, 0x8000_0000),
            (1, 0, 0x1_0000_0000),
            (2, 0x8000_0000, 0x1_8000_0000),
            (2, 0, 0x2_0000_0000),
            (3, 0x8000_0000, 0x2_8000_0000),
            (3, 0x7fff_ffff, 0x3_7fff_ffff),
        ];
        for (epoch, field, seconds) in rows {
            assert_eq!(decode(field, epoch), at(seconds));
            assert_eq!(encode(at(seconds)), (field, epoch));
            assert!(holds(at(seconds)));
        }
        assert!(!holds(at(FIRST - 1)) && !holds(at(LAST + 1)));
        assert!(!holds(Timestamp { seconds: 0, nanoseconds: 1_000_000_000 }));
    }

    #[test]
    fn a_store_needs_no_extra_fields() {
        assert_eq!(encode(Timestamp::STORE), (1, 0));
    }

    proptest! {
        #[test]
        fn times_come_back(seconds in FIRST..=LAST, nanoseconds in 0..1_000_000_000_u32) {
            let time = Timestamp { seconds, nanoseconds };
            let (field, extra) = encode(time);
            prop_assert_eq!(decode(field, extra), time);
        }
    }
}
