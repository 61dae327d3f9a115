//! Checksums of metadata, made right again after a patch: else no patch would get past them.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What of an image has checksums.
pub(crate) enum Sums {
    /// Nothing, or what is left as it is.
    None,
    /// The nodes and superblocks of a btrfs: where each is and how long, in order; and those that are the same.
    Btrfs { nodes: Vec<(u64, usize)>, twins: Vec<(u64, u64, usize)> },
    /// The headers of a GUID partition table.
    Gpt { headers: Vec<u64>, sector: u64 },
    /// The superblock of an EROFS: a sum over what its block has from it on.
    Erofs,
    /// Blocks with their sum inside, which is zero while it is made: where each is, how long, and where in it the sum is.
    Inside { blocks: Vec<(u64, usize, usize)>, sum: fn(&[u8]) -> [u8; 4] },
}

const BTRFS_SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];

impl Sums {
    pub(crate) fn none(_: &File, _: &[u64]) -> Self {
        Self::None
    }

    /// Everything that is preceded by its own crc32c. `used` are offsets of bytes that are not all zeros, in order.
    pub(crate) fn btrfs(file: &File, used: &[u64]) -> Self {
        let superblock = read(file, BTRFS_SUPERBLOCKS[0], 4096).expect("a superblock");
        let node_size = u32_at(&superblock, 0x94).and_then(|size| usize::try_from(size).ok()).expect("a size");
        let mut blocks: Vec<u64> = used.iter().map(|at| at / 4096 * 4096).collect();
        blocks.dedup();
        let mut sound: Vec<(u64, Vec<u8>)> = Vec::new();
        for at in blocks {
            let len = if BTRFS_SUPERBLOCKS.contains(&at) { 4096 } else { node_size };
            let block = read(file, at, len).filter(|block| block[..4] != [0; 4]);
            let is_sound = |block: &Vec<u8>| crc32c::crc32c(&block[32..]).to_le_bytes() == block[..4];
            sound.extend(block.filter(is_sound).map(|block| (at, block)));
        }
        let nodes = sound.iter().map(|(at, block)| (*at, block.len())).collect();
        let pairs = sound.iter().flat_map(|one| sound.iter().map(move |other| (one, other)));
        let same = pairs.filter(|(one, other)| one.0 != other.0 && one.1 == other.1);
        let twins = same.map(|(one, other)| (one.0, other.0, one.1.len())).collect();
        Self::Btrfs { nodes, twins }
    }

    pub(crate) fn erofs(_: &File, _: &[u64]) -> Self {
        Self::Erofs
    }

    pub(crate) fn gpt(file: &File, used: &[u64]) -> Self {
        let is_header =
            |at: &u64| at.is_multiple_of(512) && read(file, *at, 8).is_some_and(|start| start == *b"EFI PART");
        let headers: Vec<u64> = used.iter().copied().filter(is_header).collect();
        let sector = headers.first().copied().unwrap_or(512);
        Self::Gpt { headers, sector }
    }

    /// The footer, its copy and the header of a VHD.
    pub(crate) fn vhd(file: &File, used: &[u64]) -> Self {
        let sum = |bytes: &[u8]| {
            let sum = bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()));
            (!sum).to_be_bytes()
        };
        Self::inside(file, used, &[(b"conectix", 512, 64), (b"cxsparse", 1024, 36)], sum)
    }

    /// The headers and the tables of regions of a VHDX.
    pub(crate) fn vhdx(file: &File, used: &[u64]) -> Self {
        let sum = |bytes: &[u8]| crc32c::crc32c(bytes).to_le_bytes();
        Self::inside(file, used, &[(b"head", 4096, 4), (b"regi", 65536, 4)], sum)
    }

    fn inside(file: &File, used: &[u64], kinds: &[(&[u8], usize, usize)], sum: fn(&[u8]) -> [u8; 4]) -> Self {
        let find = |&at: &u64| {
            let kind = kinds.iter().find(|(magic, ..)| read(file, at, magic.len()).as_deref() == Some(*magic));
            kind.map(|&(_, len, sum)| (at, len, sum))
        };
        Self::Inside { blocks: used.iter().filter_map(find).collect(), sum }
    }

    /// Where the same is kept a second time.
    pub(crate) fn twin(&self, offset: u64) -> Option<u64> {
        let Self::Btrfs { twins, .. } = self else { return None };
        let holds = |(start, _, len): &&(u64, u64, usize)| (*start..start + *len as u64).contains(&offset);
        twins.iter().find(holds).map(|(start, twin, _)| twin + (offset - start))
    }

    /// Rewrites the checksums of what holds an offset of `touched`.
    pub(crate) fn repair(&self, file: &File, touched: &[u64], write: &mut dyn FnMut(u64, &[u8])) {
        match self {
            Self::None => {}
            Self::Btrfs { nodes, .. } => {
                // A patch is 16 bytes at most: it may start before the node that it ends in.
                let is_touched = |start: u64, len: usize| {
                    touched.iter().any(|&offset| offset + 16 > start && offset < start + len as u64)
                };
                for &(start, len) in nodes.iter().filter(|(start, len)| is_touched(*start, *len)) {
                    if let Some(block) = read(file, start, len) {
                        write(start, &crc32c::crc32c(&block[32..]).to_le_bytes());
                    }
                }
            }
            Self::Gpt { headers, sector } => {
                headers.iter().for_each(|&at| repair_header(file, at, *sector, write));
            }
            Self::Erofs => {
                if let Some(mut summed) = read(file, 1024, 3072).filter(|_| touched.iter().any(|&at| at < 4096)) {
                    summed[4..8].fill(0);
                    write(1028, &(!crc32c::crc32c(&summed)).to_le_bytes());
                }
            }
            Self::Inside { blocks, sum } => {
                for &(start, len, place) in blocks {
                    if let Some(mut block) = read(file, start, len) {
                        block[place..place + 4].fill(0);
                        write(start + place as u64, &sum(&block));
                    }
                }
            }
        }
    }
}

/// The sum of the entries, then that of the header, which holds it.
fn repair_header(file: &File, at: u64, sector: u64, write: &mut dyn FnMut(u64, &[u8])) {
    let Some(mut header) = read(file, at, 512) else { return };
    let field = |at: u64| u32_at(&header, at).unwrap_or_default();
    let first = u64::from(field(72)) | u64::from(field(76)) << 32;
    let len = u64::from(field(80)).saturating_mul(field(84).into());
    let entries = (len <= 1 << 20).then(|| read(file, first.checked_mul(sector)?, usize::try_from(len).ok()?));
    if let Some(entries) = entries.flatten() {
        let sum = crc32fast::hash(&entries).to_le_bytes();
        write(at + 88, &sum);
        header[88..92].copy_from_slice(&sum);
    }
    let len = usize::try_from(u32_at(&header, 12).unwrap_or_default()).unwrap_or_default();
    header[16..20].fill(0);
    if let Some(summed) = header.get(..len) {
        write(at + 16, &crc32fast::hash(summed).to_le_bytes());
    }
}

fn read(file: &File, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}
