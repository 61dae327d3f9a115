//! Recognises other contents on a partition that still has the magic number of an older filesystem.
//!
//! Most tools that format a partition erase what was there. Some leave the first kilobytes, which hold the superblocks
//! of ext4 and FAT. The free space of such an old filesystem must not count as free: it holds the new contents.

use crate::read::{Bytes, Format};
use crate::units::ByteOffset;

/// Where something has its magic, and the magic.
type Mark = (u64, &'static [u8]);

/// Of LUKS, LVM, RAID 1.1 and 1.2, bcache and bcachefs, and XFS.
const MARKS: [Mark; 9] = [
    (0, b"LUKS\xba\xbe"),
    (0, b"LABELONE"),
    (512, b"LABELONE"),
    (1024, b"LABELONE"),
    (1536, b"LABELONE"),
    (0, b"\xfc\x4e\x2b\xa9"),
    (4096, b"\xfc\x4e\x2b\xa9"),
    (4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    (0, b"XFSB"),
];
/// Where btrfs has its magic.
const BTRFS: Mark = ((64 << 10) + 64, b"_BHRfS_M");
/// Where a disk of a ZFS pool has its uberblocks, how far apart they are at least, and how each starts.
const UBERBLOCKS: std::ops::Range<u64> = 128 << 10..256 << 10;
const UBERBLOCK: usize = 1 << 10;
const UBERBLOCK_MAGICS: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];

/// Whether a partition with a filesystem of this format bears another magic besides.
pub(super) fn is_ambiguous(format: Format, bytes: &dyn Bytes) -> bool {
    let btrfs = (format != Format::Btrfs).then_some(BTRFS);
    MARKS.into_iter().chain(btrfs).any(|mark| has(bytes, mark)) || is_of_pool(bytes)
}

fn has(bytes: &dyn Bytes, (at, magic): Mark) -> bool {
    let mut found = vec![0; magic.len()];
    bytes.read_exact_at(ByteOffset(at), &mut found).is_ok() && found == magic
}

fn is_of_pool(bytes: &dyn Bytes) -> bool {
    let mut ring = vec![0; usize::try_from(UBERBLOCKS.end - UBERBLOCKS.start).unwrap_or_default()];
    let is_there = bytes.read_exact_at(ByteOffset(UBERBLOCKS.start), &mut ring).is_ok();
    is_there && ring.chunks(UBERBLOCK).any(|block| UBERBLOCK_MAGICS.iter().any(|magic| block.starts_with(magic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_seen() {
        let plain = vec![0; 300 << 10];
        assert!(!is_ambiguous(Format::Ext4, &plain));
        let uberblock: Mark = (UBERBLOCKS.start + 7 * 1024, &UBERBLOCK_MAGICS[0]);
        for (at, magic) in MARKS.into_iter().chain([BTRFS, uberblock]) {
            let mut bytes = plain.clone();
            bytes[usize::try_from(at).unwrap()..][..magic.len()].copy_from_slice(magic);
            assert!(is_ambiguous(Format::Ext4, &bytes), "{magic:?} at {at}");
        }
        assert!(!is_ambiguous(Format::Vfat, &vec![0; 10_000]));
    }
}
