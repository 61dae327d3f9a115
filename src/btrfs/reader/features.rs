//! The names that btrfs-progs gives to features.

/// Of `incompat_flags`, by bit.
const INCOMPAT: [&str; 17] = [
    "mixed-backref",
    "default-subvol",
    "mixed-bg",
    "compress-lzo",
    "compress-zstd",
    "big-metadata",
    "extref",
    "raid56",
    "skinny-metadata",
    "no-holes",
    "metadata-uuid",
    "raid1c34",
    "zoned",
    "extent-tree-v2",
    "raid-stripe-tree",
    "incompat-bit-15",
    "squota",
];
/// Of `compat_ro_flags`, by bit.
const COMPAT_RO: [&str; 4] = ["free-space-tree", "free-space-tree-valid", "verity", "block-group-tree"];

/// The features in two sets of flags, sorted.
pub(in crate::btrfs) fn names(incompat: u64, compat_ro: u64) -> Vec<String> {
    let mut names = of(incompat, &INCOMPAT, "incompat");
    names.extend(of(compat_ro, &COMPAT_RO, "compat-ro"));
    names.sort_unstable();
    names
}

fn of(flags: u64, known: &[&str], set: &str) -> Vec<String> {
    let bits = (0..u64::BITS as usize).filter(|bit| flags >> bit & 1 == 1);
    bits.map(|bit| known.get(bit).map_or_else(|| format!("{set}-bit-{bit}"), ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_and_unknown() {
        assert_eq!(
            super::names(0x341, 3 | 1 << 40),
            [
                "compat-ro-bit-40",
                "extref",
                "free-space-tree",
                "free-space-tree-valid",
                "mixed-backref",
                "no-holes",
                "skinny-metadata",
            ]
        );
    }
}
