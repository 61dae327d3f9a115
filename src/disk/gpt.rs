//! The partition table. It is planned as pure data, then written through the `gpt` crate.
//!
//! ```text
//! LBA 0   protective MBR (see `mbr`)
//! LBA 1   header
//!         extraGPTPadding bytes that belong to firmware: never written
//! entries 128 × 128 bytes
//!         firstPartGap bytes that no partition takes: never written
//! 1 MiB × n  partitions, each on whole MiB
//!         backup entries, then the backup header in the last sector
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Read, Seek, Write};

use ::gpt::disk::LogicalBlockSize;
use ::gpt::header::{Header, HeaderBuilder, HeaderError};
use ::gpt::partition::Partition;
use thiserror::Error;
use uuid::Uuid;

use super::mbr::{self, BOOT_CODE, MbrError, MbrPartition};
use crate::units::{Lba, MIB, SectorSize, align_up};

/// The number of entries: what all tools expect.
const ENTRIES: u32 = 128;
/// Bytes of an entry.
const ENTRY: u32 = 128;
/// The longest partition name, in UTF-16 code units.
const NAME_MAX: usize = 36;
/// The header's place.
const HEADER: Lba = Lba(1);

/// A partition table that cannot be made as asked.
#[derive(Debug, Error)]
pub enum GptError {
    /// The entries would not start on a sector.
    #[error("extraGPTPadding of {padding} bytes is not a multiple of the {sector_size}-byte sectors")]
    Padding {
        /// In bytes.
        padding: u64,
        /// In bytes.
        sector_size: u64,
    },
    /// More partitions than entries.
    #[error("{0} partitions, but the table holds {ENTRIES}")]
    TooManyPartitions(usize),
    /// A name that is too long, or that would be read as a shorter one.
    #[error("partition name {name:?}: {reason}")]
    Name {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A partition without space.
    #[error("partition {0:?} has a size of 0 bytes")]
    Empty(String),
    /// A type or identity of all zeros, which means "unused".
    #[error("partition {0:?} has an all-zero GUID")]
    NilGuid(String),
    /// One GUID for two things.
    #[error("{first} and {second} both have the GUID {guid}")]
    DuplicateGuid {
        /// What has it.
        first: String,
        /// What has it too.
        second: String,
        /// In its usual notation.
        guid: Uuid,
    },
    /// There is no such MBR.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// Sizes beyond what a disk can have.
    #[error("the disk would be larger than {} bytes", i64::MAX)]
    TooLarge,
    /// The table cannot be written.
    #[error("cannot write the partition table")]
    Io(#[from] io::Error),
    /// The `gpt` crate refuses: a mistake of this program.
    #[error("the partition table was refused ({0}); this is a bug of sane-image, please report it")]
    Refused(String),
}

/// A partition asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRequest {
    /// Its name: at most 36 UTF-16 code units.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its identity, unique on the disk.
    pub guid: Uuid,
    /// In bytes; rounded up to whole MiB.
    pub size: u64,
    /// The attribute bits of its entry.
    pub attributes: u64,
}

/// A partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its identity.
    pub guid: Uuid,
    /// Its first sector.
    pub first: Lba,
    /// Its last sector: the partition includes it.
    pub last: Lba,
    /// The attribute bits of its entry.
    pub attributes: u64,
}

impl PartitionPlan {
    /// The number of its sectors.
    pub fn sectors(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// A partition table with a place for everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptLayout {
    /// The unit of every [`Lba`] here.
    pub sector_size: SectorSize,
    /// The disk's identity.
    pub disk_guid: Uuid,
    /// The size of the disk in bytes: whole MiB.
    pub disk_size: u64,
    /// Where the entries start.
    pub entries_lba: Lba,
    /// The first sector that a partition may take.
    pub first_usable: Lba,
    /// The last sector that a partition may take.
    pub last_usable: Lba,
    /// Where the backup entries start.
    pub backup_entries: Lba,
    /// The backup header: the disk's last sector.
    pub backup_header: Lba,
    /// In order of number and of place.
    pub partitions: Vec<PartitionPlan>,
    /// Those that the MBR names too, in its order: none but for firmware that knows no GPT, at most 3.
    pub hybrid: Vec<MbrPartition>,
    /// What a BIOS runs, at the start of the MBR.
    pub boot_code: Option<[u8; BOOT_CODE]>,
}

impl GptLayout {
    /// Places `parts` one after the other on the smallest possible disk.
    ///
    /// `extra_gpt_padding` and `first_part_gap` are in bytes: before the entries, and between them and the first
    /// partition.
    ///
    /// # Errors
    /// If the padding is not whole sectors, a name or GUID is invalid or comes twice, or the disk would be too large.
    pub fn new(
        sector_size: SectorSize,
        extra_gpt_padding: u64,
        first_part_gap: u64,
        disk_guid: Uuid,
        parts: &[PartitionRequest],
    ) -> Result<Self, GptError> {
        let sector = sector_size.bytes();
        if !extra_gpt_padding.is_multiple_of(sector) {
            return Err(GptError::Padding { padding: extra_gpt_padding, sector_size: sector });
        }
        check_requests(disk_guid, parts)?;
        let too_large = GptError::TooLarge;
        let entries_lba = Lba(HEADER.0 + 1 + extra_gpt_padding / sector);
        let first_usable = Lba(entries_lba.0 + entries_sectors(sector_size));
        let bytes = first_usable.to_bytes(sector_size).and_then(|at| at.checked_add(first_part_gap));
        let Some(start) = bytes.and_then(|at| align_up(at.0, MIB)) else { return Err(too_large) };
        let Some((partitions, end)) = place(sector, start, parts) else { return Err(too_large) };
        let backup = (entries_sectors(sector_size) + 1) * sector;
        let disk_size = end.checked_add(backup).and_then(|size| align_up(size, MIB));
        let disk_size = disk_size.filter(|&size| i64::try_from(size).is_ok()).ok_or(too_large)?;
        let nowhere = Lba(0);
        let layout = Self {
            sector_size,
            disk_guid,
            disk_size,
            entries_lba,
            first_usable,
            last_usable: nowhere,
            backup_entries: nowhere,
            backup_header: nowhere,
            partitions,
            hybrid: Vec::new(),
            boot_code: None,
        };
        Ok(layout.on_disk_of(disk_size))
    }

    /// The same partitions on a disk of another size in bytes: whole MiB, and no less than
    /// [`disk_size`](Self::disk_size).
    #[must_use]
    pub fn on_disk_of(self, disk_size: u64) -> Self {
        let backup_header = Lba(disk_size / self.sector_size.bytes() - 1);
        let backup_entries = Lba(backup_header.0 - entries_sectors(self.sector_size));
        let last_usable = Lba(backup_entries.0 - 1);
        Self { disk_size, last_usable, backup_entries, backup_header, ..self }
    }

    /// The same table behind a hybrid MBR.
    pub fn with_hybrid(self, hybrid: Vec<MbrPartition>) -> Self {
        Self { hybrid, ..self }
    }

    /// The same table behind an MBR with this boot code.
    pub fn with_boot_code(self, boot_code: [u8; BOOT_CODE]) -> Self {
        Self { boot_code: Some(boot_code), ..self }
    }
}

/// The number of sectors that the entries take.
fn entries_sectors(sector_size: SectorSize) -> u64 {
    (u64::from(ENTRIES) * u64::from(ENTRY)).div_ceil(sector_size.bytes())
}

/// Places partitions from the byte `start` on. Returns them and the byte after the last, or `None` on overflow.
fn place(sector: u64, start: u64, parts: &[PartitionRequest]) -> Option<(Vec<PartitionPlan>, u64)> {
    let mut at = start;
    let mut partitions = Vec::new();
    for (part, number) in parts.iter().zip(1..) {
        let end = at.checked_add(align_up(part.size, MIB)?)?;
        partitions.push(PartitionPlan {
            number,
            name: part.name.clone(),
            type_guid: part.type_guid,
            guid: part.guid,
            first: Lba(at / sector),
            last: Lba(end / sector - 1),
            attributes: part.attributes,
        });
        at = end;
    }
    Some((partitions, at))
}

fn check_requests(disk_guid: Uuid, parts: &[PartitionRequest]) -> Result<(), GptError> {
    if parts.len() > ENTRIES as usize {
        return Err(GptError::TooManyPartitions(parts.len()));
    }
    let mut seen = BTreeMap::from([(disk_guid, "the disk".to_owned())]);
    for part in parts {
        check_name(&part.name)?;
        if part.size == 0 {
            return Err(GptError::Empty(part.name.clone()));
        }
        if part.type_guid.is_nil() || part.guid.is_nil() {
            return Err(GptError::NilGuid(part.name.clone()));
        }
        let what = format!("partition {:?}", part.name);
        if let Some(first) = seen.insert(part.guid, what.clone()) {
            return Err(GptError::DuplicateGuid { first, second: what, guid: part.guid });
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), GptError> {
    let fault = |reason| Err(GptError::Name { name: name.to_owned(), reason });
    if name.encode_utf16().count() > NAME_MAX {
        return fault("it is longer than 36 UTF-16 code units");
    }
    if name.contains('\0') {
        return fault("it holds a NUL character");
    }
    Ok(())
}

/// Writes the MBR, both headers and both tables of entries to `disk`, and nothing else.
///
/// `disk` must be [`disk_size`](GptLayout::disk_size) bytes long already.
///
/// # Errors
/// If `disk` cannot be written, or read back for the checksums.
pub fn write<D: Read + Write + Seek + Debug>(layout: &GptLayout, disk: &mut D) -> Result<(), GptError> {
    mbr::write(layout.backup_header, &layout.hybrid, layout.boot_code.as_ref(), disk)?;
    write_entries(layout, layout.entries_lba, disk)?;
    write_entries(layout, layout.backup_entries, disk)?;
    let size = block_size(layout.sector_size);
    header(layout, Copy::Backup)?.write_backup(disk, size).map_err(from_header)?;
    header(layout, Copy::Primary)?.write_primary(disk, size).map_err(from_header)?;
    Ok(())
}

/// Which of the two headers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    Primary,
    Backup,
}

/// A header without its checksums, which come with the writing.
fn header(layout: &GptLayout, copy: Copy) -> Result<Header, GptError> {
    let mut header = HeaderBuilder::new()
        .primary(copy == Copy::Primary)
        .disk_guid(layout.disk_guid)
        .backup_lba(layout.backup_header.0)
        .first_usable(layout.first_usable.0)
        .last_usable(layout.last_usable.0)
        .num_parts(ENTRIES)
        .part_size(ENTRY)
        .build(block_size(layout.sector_size))
        .map_err(from_header)?;
    // The builder knows no padding.
    header.part_start = match copy {
        Copy::Primary => layout.entries_lba.0,
        Copy::Backup => layout.backup_entries.0,
    };
    Ok(header)
}

/// Writes all entries, those not in use as zeros.
fn write_entries<D: Read + Write + Seek + Debug>(layout: &GptLayout, at: Lba, disk: &mut D) -> Result<(), GptError> {
    let size = block_size(layout.sector_size);
    for (partition, index) in layout.partitions.iter().zip(0..) {
        let entry = Partition {
            part_type_guid: partition.type_guid.into(),
            part_guid: partition.guid,
            first_lba: partition.first.0,
            last_lba: partition.last.0,
            flags: partition.attributes,
            name: partition.name.clone(),
        };
        entry.write_to_device(disk, index, at.0, size, ENTRY)?;
    }
    let used = layout.partitions.len() as u64;
    let unused = u64::from(ENTRIES) - used;
    Partition::write_zero_entries_to_device(disk, used, unused, at.0, size, ENTRY)?;
    Ok(())
}

fn block_size(sector_size: SectorSize) -> LogicalBlockSize {
    match sector_size {
        SectorSize::B512 => LogicalBlockSize::Lb512,
        SectorSize::B4096 => LogicalBlockSize::Lb4096,
    }
}

fn from_header(error: HeaderError) -> GptError {
    match error {
        HeaderError::Io(error) => error.into(),
        other => GptError::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use ::gpt::GptConfig;
    use proptest::prelude::*;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::disk::oracle;

    const ESP: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    const LINUX: Uuid = Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
    const DISK: Uuid = Uuid::from_u128(0x44444444_4444_4444_8888_888888888888);
    const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

    fn request(name: &str, type_guid: Uuid, guid: u128, size: u64) -> PartitionRequest {
        PartitionRequest { name: name.to_owned(), type_guid, guid: Uuid::from_u128(guid), size, attributes: 0 }
    }

    fn two_parts() -> [PartitionRequest; 2] {
        let mut parts = [request("EFI System", ESP, 1, 40 * MIB), request("Größe №2", LINUX, 2, 3 * MIB + 1)];
        parts[1].attributes = 1 << 59 | 1;
        parts
    }

    fn layout(sector_size: SectorSize, padding: u64) -> GptLayout {
        GptLayout::new(sector_size, padding, 5000, DISK, &two_parts()).unwrap()
    }

    /// An image full of bytes that are not zero where `layout` leaves a gap.
    fn write_image(layout: &GptLayout) -> NamedTempFile {
        let mut image = NamedTempFile::new().unwrap();
        image.as_file().set_len(layout.disk_size).unwrap();
        for (from, to) in gaps(layout) {
            image.as_file().write_all_at(&noise(from, to), from).unwrap();
        }
        write(layout, image.as_file_mut()).unwrap();
        image
    }

    /// The bytes that belong to firmware.
    fn gaps(layout: &GptLayout) -> [(u64, u64); 2] {
        let bytes = |lba: Lba| lba.to_bytes(layout.sector_size).unwrap().0;
        let first = layout.partitions[0].first;
        [(bytes(Lba(2)), bytes(layout.entries_lba)), (bytes(layout.first_usable), bytes(first))]
    }

    fn noise(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|at| u8::try_from(at * 167 % 251 + 1).unwrap()).collect()
    }

    fn flip(image: &File, at: u64) {
        let mut byte = [0];
        image.read_exact_at(&mut byte, at).unwrap();
        image.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    /// What sgdisk says of an image, and whether it found no fault. It repairs a damaged header in memory and then
    /// finds "no problems", so its cautions count, too. Its warning of the padding does not count.
    fn sgdisk(image: &NamedTempFile) -> (String, bool) {
        let output = oracle::run(Command::new("sgdisk").arg("-v").arg(image.path()));
        assert!(output.status.success(), "{}", oracle::text(&output));
        let text = oracle::text(&output);
        let rest = text.replace("Warning: There is a gap between the main metadata", "");
        let clean =
            text.contains("No problems found") && !["aution", "arning", "roblem:"].iter().any(|w| rest.contains(w));
        (text, clean)
    }

    #[test]
    fn the_usual_table_has_the_usual_places() {
        let parts = [request("EFI System", ESP, 1, 512 * MIB), request("Linux", LINUX, 2, 1)];
        let layout = GptLayout::new(SectorSize::B512, 0, 16_759_808, DISK, &parts).unwrap();
        assert_eq!((layout.entries_lba, layout.first_usable), (Lba(2), Lba(34)));
        let places: Vec<_> = layout.partitions.iter().map(|p| (p.number, p.first.0, p.last.0)).collect();
        assert_eq!(places, [(1, 32_768, 1_081_343), (2, 1_081_344, 1_083_391)]);
        assert_eq!(layout.disk_size, 530 * MIB);
        assert_eq!(
            (layout.last_usable, layout.backup_entries, layout.backup_header.0),
            (Lba(1085406), Lba(1085407), 1085439)
        );
    }

    #[test]
    fn gaps_keep_their_bytes() {
        for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|s| [(s, 0), (s, 16 * MIB)]) {
            let layout = layout(sector_size, padding);
            let image = write_image(&layout);
            for (from, to) in gaps(&layout) {
                let mut found = vec![0; usize::try_from(to - from).unwrap()];
                image.as_file().read_exact_at(&mut found, from).unwrap();
                assert!(found == noise(from, to), "{sector_size:?} {padding}: {from}..{to}");
            }
            let first = layout.partitions[0].first.to_bytes(sector_size).unwrap().0;
            let mut rest = vec![0; usize::try_from(44 * MIB).unwrap()];
            image.as_file().read_exact_at(&mut rest, first).unwrap();
            assert!(rest.iter().all(|&byte| byte == 0), "partitions are not written to");
        }
    }

    #[test]
    fn the_gpt_crate_reads_it_back() {
        for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|s| [(s, 0), (s, 16 * MIB)]) {
            let layout = layout(sector_size, padding);
            let image = write_image(&layout);
            let config = GptConfig::new().logical_block_size(block_size(sector_size)).only_valid_headers(true);
            let disk = config.open(image.path()).unwrap();
            let (primary, backup) = (disk.primary_header().unwrap(), disk.backup_header().unwrap());
            assert_eq!((primary.part_start, backup.part_start), (layout.entries_lba.0, layout.backup_entries.0));
            for header in [primary, backup] {
                assert_eq!((header.first_usable, header.last_usable), (layout.first_usable.0, layout.last_usable.0));
                assert_eq!(header.disk_guid, DISK);
                let parts = ::gpt::partition::read_partitions(image.path(), header, block_size(sector_size)).unwrap();
                let found: Vec<_> = parts
                    .iter()
                    .map(|(number, p)| {
                        (*number, p.name.clone(), p.part_type_guid.guid, p.part_guid, p.first_lba, p.last_lba, p.flags)
                    })
                    .collect();
                let planned: Vec<_> = layout
                    .partitions
                    .iter()
                    .map(|p| (p.number, p.name.clone(), p.type_guid, p.guid, p.first.0, p.last.0, p.attributes))
                    .collect();
                assert_eq!(found, planned);
            }
        }
    }

    #[test]
    fn sgdisk_finds_no_problems() {
        if !oracle::available("sgdisk") {
            return;
        }
        for padding in [0, 16 * MIB] {
            let (verdict, clean) = sgdisk(&write_image(&layout(SectorSize::B512, padding)));
            assert!(clean, "{verdict}");
        }
    }

    #[test]
    fn sgdisk_finds_damage() {
        if !oracle::available("sgdisk") {
            return;
        }
        let layout = layout(SectorSize::B512, 16 * MIB);
        let bytes = |lba: Lba| lba.0 * 512;
        let places = [HEADER, layout.entries_lba, layout.backup_entries, layout.backup_header];
        for at in places.map(|lba| bytes(lba) + 57) {
            let image = write_image(&layout);
            flip(image.as_file(), at);
            let (verdict, clean) = sgdisk(&image);
            assert!(!clean, "{at}: {verdict}");
        }
    }

    #[test]
    fn fdisk_lists_what_was_planned() {
        if !oracle::available("fdisk") {
            return;
        }
        for (sector_size, padding) in SECTOR_SIZES.into_iter().flat_map(|s| [(s, 0), (s, 16 * MIB)]) {
            let layout = layout(sector_size, padding);
            let image = write_image(&layout);
            let size = sector_size.bytes().to_string();
            let columns = "Start,End,Type-UUID,UUID,Name,Attrs";
            let output = oracle::run(Command::new("fdisk").args(["-b", &size, "-o", columns, "-l"]).arg(image.path()));
            assert!(output.status.success() && output.stderr.is_empty(), "{}", oracle::text(&output));
            let text = oracle::text(&output);
            let guid = DISK.to_string().to_uppercase();
            assert!(text.contains(&format!("Disk identifier: {guid}")), "{text}");
            for part in &layout.partitions {
                let line = text.lines().find(|line| line.contains(&part.name)).unwrap();
                let fields: Vec<_> = line.split_whitespace().collect();
                assert_eq!(fields[..2], [part.first.0.to_string(), part.last.0.to_string()]);
                let guids = [part.type_guid, part.guid].map(|guid| guid.to_string().to_uppercase());
                assert_eq!(fields[2..4], guids);
            }
            assert!(text.contains("RequiredPartition") || text.contains("Required"), "{text}");
        }
    }

    #[test]
    fn the_protective_mbr_covers_the_disk_as_far_as_it_can() {
        let size = |disk: u64| {
            let layout = GptLayout::new(SectorSize::B512, 0, 0, DISK, &[request("a", LINUX, 1, disk)]).unwrap();
            let image = tempfile::tempfile().unwrap();
            image.set_len(layout.disk_size).unwrap();
            write(&layout, &mut &image).unwrap();
            let mut mbr = [0; 512];
            image.read_exact_at(&mut mbr, 0).unwrap();
            assert_eq!(mbr[510..], [0x55, 0xaa]);
            assert_eq!(mbr[450], 0xee);
            (u64::from(u32::from_le_bytes(mbr[458..462].try_into().unwrap())), layout.backup_header.0)
        };
        let (found, all) = size(MIB);
        assert_eq!(found, all);
        assert_eq!(size(3 << 40).0, u64::from(u32::MAX));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new =
            |padding, gap, parts: &[PartitionRequest]| GptLayout::new(SectorSize::B4096, padding, gap, DISK, parts);
        let part = request("a", LINUX, 1, MIB);
        assert!(matches!(new(512, 0, &[]), Err(GptError::Padding { padding: 512, sector_size: 4096 })));
        let many: Vec<_> = (1..=129).map(|n| request("a", LINUX, n, 1)).collect();
        assert!(matches!(new(0, 0, &many), Err(GptError::TooManyPartitions(129))));
        assert!(new(0, 0, &many[1..]).is_ok());
        for name in ["n".repeat(37), "🙂".repeat(19), "a\0b".to_owned()] {
            assert!(matches!(new(0, 0, &[request(&name, LINUX, 1, 1)]), Err(GptError::Name { .. })));
        }
        assert!(new(0, 0, &[request(&"🙂".repeat(18), LINUX, 1, 1)]).is_ok());
        assert!(matches!(new(0, 0, &[request("a", LINUX, 1, 0)]), Err(GptError::Empty(_))));
        assert!(matches!(new(0, 0, &[request("a", LINUX, 0, 1)]), Err(GptError::NilGuid(_))));
        assert!(matches!(new(0, 0, &[request("a", Uuid::nil(), 1, 1)]), Err(GptError::NilGuid(_))));
        assert!(matches!(new(0, 0, &[part.clone(), part.clone()]), Err(GptError::DuplicateGuid { .. })));
        assert!(matches!(new(0, 0, &[request("a", LINUX, DISK.as_u128(), 1)]), Err(GptError::DuplicateGuid { .. })));
        for huge in [u64::MAX, i64::MAX as u64, u64::MAX - MIB] {
            assert!(matches!(new(0, huge, &[]), Err(GptError::TooLarge)));
            assert!(matches!(new(huge & !4095, 0, &[]), Err(GptError::TooLarge)));
            assert!(matches!(new(0, 0, &[request("a", LINUX, 1, huge)]), Err(GptError::TooLarge)));
            assert!(matches!(new(0, 0, &[request("a", LINUX, 2, huge), part.clone()]), Err(GptError::TooLarge)));
        }
    }

    proptest! {
        #[test]
        fn layouts_are_aligned_and_disjoint(
            large in any::<bool>(),
            padding in 0..64u64,
            gap in 0..40 * MIB,
            sizes in prop::collection::vec(1..9 * MIB, 0..128),
        ) {
            let sector_size = if large { SectorSize::B4096 } else { SectorSize::B512 };
            let sector = sector_size.bytes();
            let parts: Vec<_> = sizes.iter().zip(1..).map(|(&size, n)| request("a", LINUX, n, size)).collect();
            let layout = GptLayout::new(sector_size, padding * sector, gap, DISK, &parts).unwrap();
            let entries = 128 * 128 / sector;
            prop_assert_eq!(layout.entries_lba, Lba(2 + padding));
            prop_assert_eq!(layout.first_usable.0, layout.entries_lba.0 + entries);
            let mut free_from = (layout.first_usable.0 * sector + gap).div_ceil(MIB) * MIB;
            for (plan, part) in layout.partitions.iter().zip(&parts) {
                let (start, end) = (plan.first.0 * sector, (plan.last.0 + 1) * sector);
                prop_assert_eq!(start, free_from);
                prop_assert!(end % MIB == 0 && end - start >= part.size && end - start < part.size + MIB);
                prop_assert_eq!(plan.sectors() * sector, end - start);
                prop_assert!(plan.last <= layout.last_usable);
                free_from = end;
            }
            prop_assert_eq!(layout.partitions.len(), parts.len());
            prop_assert_eq!(layout.last_usable.0 + 1, layout.backup_entries.0);
            prop_assert_eq!(layout.backup_entries.0 + entries, layout.backup_header.0);
            prop_assert_eq!((layout.backup_header.0 + 1) * sector, layout.disk_size);
            prop_assert!(layout.disk_size.is_multiple_of(MIB) && layout.disk_size - free_from <= MIB);
        }
    }
}
