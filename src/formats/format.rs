//! The properties of each form.

use std::fmt;
use std::ops::RangeInclusive;

use super::gce;
use crate::units::{MIB, SectorSize};

/// The form of a file with a disk in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The disk's bytes one after another.
    Raw,
    /// The same, compressed: zstd's seekable format.
    Zst,
    /// QEMU's.
    Qcow2,
    /// The same, with clusters that are compressed by zstd.
    Qcow2Zstd,
    /// VMware's, compressed: VMDK, streamOptimized.
    Vmdk,
    /// Azure's: VHD, fixed.
    Vhd,
    /// Hyper-V's: VHDX, dynamic.
    Vhdx,
    /// Google's: a compressed tar with the disk's bytes in it.
    Gce,
}

/// What all forms have.
struct Traits {
    name: &'static str,
    suffix: &'static str,
    /// The size of a disk that we lay out is a multiple of this, in bytes.
    size_multiple: u64,
    /// The size of any disk in such a file is a multiple of this, in bytes.
    unit: u64,
    /// Whether a disk in such a file can have sectors of 4096 bytes.
    has_large_sectors: bool,
    is_stream: bool,
    has_block_map: bool,
    levels: Levels,
}

/// The lowest, the usual and the highest level of compression, where there is a choice.
type Levels = Option<[i32; 3]>;

const ZSTD: Levels = Some([1, 3, 22]);
const DEFLATE: Levels = Some([1, 6, 9]);

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Raw, Self::Zst, Self::Qcow2, Self::Qcow2Zstd, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Gce];

    fn traits(self) -> Traits {
        let usual = Traits {
            name: "",
            suffix: "",
            size_multiple: MIB,
            // A sector.
            unit: 512,
            has_large_sectors: true,
            is_stream: false,
            has_block_map: false,
            levels: None,
        };
        let small = Traits { has_large_sectors: false, ..usual };
        let bytes = Traits { unit: 1, is_stream: true, has_block_map: true, ..usual };
        match self {
            Self::Raw => Traits { name: "raw", suffix: ".img", ..bytes },
            Self::Zst => Traits { name: "zst", suffix: ".img.zst", levels: ZSTD, ..bytes },
            Self::Qcow2 => Traits { name: "qcow2", suffix: ".qcow2", ..usual },
            Self::Qcow2Zstd => Traits { name: "qcow2+zstd", suffix: ".qcow2", levels: ZSTD, ..usual },
            Self::Vmdk => Traits { name: "vmdk", suffix: ".vmdk", levels: DEFLATE, ..small },
            Self::Vhd => Traits { name: "vhd", suffix: ".vhd", unit: MIB, ..small },
            Self::Vhdx => Traits { name: "vhdx", suffix: ".vhdx", unit: MIB, ..usual },
            Self::Gce => {
                let size = gce::SIZE_UNIT;
                Traits { name: "gce", suffix: ".tar.gz", size_multiple: size, unit: size, levels: DEFLATE, ..small }
            }
        }
    }

    /// As users call it.
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// What the name of such a file ends with.
    pub fn suffix(self) -> &'static str {
        self.traits().suffix
    }

    /// The bytes of which the size of the disk is made a multiple where it is laid out.
    pub fn size_multiple(self) -> u64 {
        self.traits().size_multiple
    }

    /// The bytes of which the size of any disk in such a file is a multiple, whoever made that disk.
    pub fn unit(self) -> u64 {
        self.traits().unit
    }

    /// Whether a disk in such a file can have these sectors. Where it cannot, nothing finds its partitions.
    pub fn has_sectors(self, size: SectorSize) -> bool {
        size == SectorSize::B512 || self.traits().has_large_sectors
    }

    /// Whether such a file can be written from its first byte to its last one, so that a pipe will do.
    pub fn is_stream(self) -> bool {
        self.traits().is_stream
    }

    /// Whether what such a file unpacks to can be written to a device by a [block map](super::bmap).
    pub fn has_block_map(self) -> bool {
        self.traits().has_block_map
    }

    /// Whether the commands that look into images can open such a file.
    pub fn is_readable(self) -> bool {
        self != Self::Gce
    }

    /// The levels of compression that it has, if it is compressed.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        self.traits().levels.map(|[lowest, _, highest]| lowest..=highest)
    }

    /// The level of compression unless another is asked for; any number where there is none.
    pub fn default_level(self) -> i32 {
        self.traits().levels.map_or(0, |[_, usual, _]| usual)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
