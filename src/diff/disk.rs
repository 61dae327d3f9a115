//! What changed in the partition table and in the properties of the filesystems.

use uuid::Uuid;

use crate::read::Format;

/// What is known of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Of the partition table; `None` of a bare partition.
    pub table: Option<TableFacts>,
    /// By number.
    pub partitions: Vec<PartitionFacts>,
}

/// What is known of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// The disk's size in bytes.
    pub size: u64,
    /// In bytes.
    pub sector_size: u64,
    /// "GPT" or "MBR".
    pub kind: &'static str,
    /// The disk's identity, if a header could be read.
    pub guid: Option<Uuid>,
    /// The disk's identity in an MBR.
    pub signature: Option<u32>,
}

/// What is known of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// From 1.
    pub number: u32,
    /// Escaped.
    pub name: String,
    /// What it is for; nil in a bare image.
    pub type_guid: Uuid,
    /// Its identity; nil in a bare image.
    pub guid: Uuid,
    /// What it is for, and whether it is active, by an MBR.
    pub mbr: Option<(u8, bool)>,
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it, if that can be read.
    pub filesystem: Option<FilesystemFacts>,
    /// The label (escaped) and the UUID of the swap area that it is instead.
    pub swap: Option<(String, Uuid)>,
    /// The root hash of the dm-verity tree that it is instead, in words, and the UUID of that.
    pub verity: Option<(String, Uuid)>,
}

/// What is known of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemFacts {
    /// Its format.
    pub format: Format,
    /// Escaped.
    pub label: String,
    /// As in /dev/disk/by-uuid, escaped.
    pub uuid: String,
    /// Its size in bytes.
    pub size: u64,
    /// Free bytes.
    pub free: u64,
    /// The unit of allocation in bytes.
    pub block_size: u32,
    /// By name, sorted, escaped.
    pub features: Vec<String>,
}

/// One value that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as in the JSON.
    pub field: &'static str,
    /// What it was.
    pub before: Value,
    /// What it is.
    pub after: Value,
}

/// A value, by how people want to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number of bytes.
    Bytes(u64),
    /// All else.
    Text(String),
    /// There is none.
    None,
}

/// What became of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDiff {
    /// Its number before, if it was there.
    pub before: Option<u32>,
    /// Its number now, if it is there.
    pub after: Option<u32>,
    /// Its name now, or before.
    pub name: String,
    /// What changed, if it was there before and is there now.
    pub differences: Vec<Difference>,
}

/// How two disks differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskDiff {
    /// Of the table, where both have one.
    pub table: Vec<Difference>,
    /// Partitions that came, went or changed.
    pub partitions: Vec<PartitionDiff>,
}

impl DiskDiff {
    /// Compares two disks, or a disk and a bare partition, or two of those. Where only one is a disk, its places,
    /// identities and other partitions are not compared.
    pub fn new(before: &DiskFacts, after: &DiskFacts) -> Self {
        let are_disks = before.table.is_some() && after.table.is_some();
        let table = match (&before.table, &after.table) {
            (Some(before), Some(after)) => table_differences(before, after),
            _ => Vec::new(),
        };
        let mut partitions = Vec::new();
        for (before, after) in pair(&before.partitions, &after.partitions) {
            match (before, after) {
                (Some(before), Some(after)) => {
                    let mut differences = Vec::new();
                    if are_disks {
                        place_differences(before, after, &mut differences);
                    }
                    filesystem_differences(before.filesystem.as_ref(), after.filesystem.as_ref(), &mut differences);
                    swap_differences(before.swap.as_ref(), after.swap.as_ref(), &mut differences);
                    verity_differences(before.verity.as_ref(), after.verity.as_ref(), &mut differences);
                    if !differences.is_empty() {
                        let (before, number) = (Some(before.number), Some(after.number));
                        partitions.push(PartitionDiff { before, after: number, name: after.name.clone(), differences });
                    }
                }
                (Some(one), None) | (None, Some(one)) if are_disks => partitions.push(PartitionDiff {
                    before: before.map(|before| before.number),
                    after: after.map(|after| after.number),
                    name: one.name.clone(),
                    differences: Vec::new(),
                }),
                _ => {}
            }
        }
        Self { table, partitions }
    }

    /// Whether the disks are the same.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.partitions.is_empty()
    }
}

/// Whether two partitions are taken for the same.
type Rule = fn(&PartitionFacts, &PartitionFacts) -> bool;

/// The same partition of both: by GUID, or else by name and type, or else by format and number, or else by format.
pub fn pair<'a>(
    before: &'a [PartitionFacts],
    after: &'a [PartitionFacts],
) -> Vec<(Option<&'a PartitionFacts>, Option<&'a PartitionFacts>)> {
    fn format(one: &PartitionFacts) -> Option<Format> {
        one.filesystem.as_ref().map(|fs| fs.format)
    }
    let rules: [Rule; 4] = [
        |one, other| one.guid == other.guid && !one.guid.is_nil(),
        |one, other| one.name == other.name && one.type_guid == other.type_guid && !one.type_guid.is_nil(),
        |one, other| one.number == other.number && format(one) == format(other),
        |one, other| format(one).is_some() && format(one) == format(other),
    ];
    let mut partner: Vec<Option<usize>> = vec![None; before.len()];
    let mut is_taken = vec![false; after.len()];
    for rule in rules {
        for (one, slot) in before.iter().zip(&mut partner).filter(|(_, slot)| slot.is_none()) {
            let mut free = after.iter().zip(&mut is_taken).enumerate().filter(|(_, (_, is_taken))| !**is_taken);
            if let Some((at, (_, is_taken))) = free.find(|(_, (other, _))| rule(one, other)) {
                *is_taken = true;
                *slot = Some(at);
            }
        }
    }
    let mut pairs: Vec<_> =
        before.iter().zip(&partner).map(|(one, at)| (Some(one), at.and_then(|at| after.get(at)))).collect();
    let rest = after.iter().zip(is_taken).filter(|(_, is_taken)| !is_taken);
    pairs.extend(rest.map(|(other, _)| (None, Some(other))));
    pairs
}

fn note(differences: &mut Vec<Difference>, field: &'static str, before: Value, after: Value) {
    if before != after {
        differences.push(Difference { field, before, after });
    }
}

fn table_differences(before: &TableFacts, after: &TableFacts) -> Vec<Difference> {
    let mut differences = Vec::new();
    let guid = |facts: &TableFacts| facts.guid.map_or(Value::None, |guid| Value::Text(guid.to_string()));
    note(&mut differences, "size", Value::Bytes(before.size), Value::Bytes(after.size));
    note(&mut differences, "sectorSize", Value::Bytes(before.sector_size), Value::Bytes(after.sector_size));
    note(&mut differences, "table", Value::Text(before.kind.to_owned()), Value::Text(after.kind.to_owned()));
    note(&mut differences, "guid", guid(before), guid(after));
    let signature =
        |facts: &TableFacts| facts.signature.map_or(Value::None, |number| Value::Text(format!("{number:08x}")));
    note(&mut differences, "signature", signature(before), signature(after));
    differences
}

/// An MBR has none.
fn identity(guid: Uuid) -> Value {
    if guid.is_nil() { Value::None } else { Value::Text(guid.to_string()) }
}

fn place_differences(before: &PartitionFacts, after: &PartitionFacts, differences: &mut Vec<Difference>) {
    let mut compare =
        |field, value: &dyn Fn(&PartitionFacts) -> Value| note(differences, field, value(before), value(after));
    compare("number", &|partition| Value::Text(partition.number.to_string()));
    compare("offset", &|partition| Value::Bytes(partition.offset));
    compare("size", &|partition| Value::Bytes(partition.size));
    compare("name", &|partition| Value::Text(partition.name.clone()));
    compare("typeGuid", &|partition| identity(partition.type_guid));
    compare("guid", &|partition| identity(partition.guid));
    let mbr = |text: fn((u8, bool)) -> String| {
        move |partition: &PartitionFacts| partition.mbr.map_or(Value::None, |mbr| Value::Text(text(mbr)))
    };
    compare("mbrType", &mbr(|(kind, _)| format!("{kind:02x}")));
    compare("active", &mbr(|(_, is_active)| if is_active { "yes" } else { "no" }.to_owned()));
}

fn filesystem_differences(
    before: Option<&FilesystemFacts>,
    after: Option<&FilesystemFacts>,
    differences: &mut Vec<Difference>,
) {
    let mut compare = |field, value: &dyn Fn(&FilesystemFacts) -> Value| {
        note(differences, field, before.map_or(Value::None, value), after.map_or(Value::None, value));
    };
    compare("format", &|fs| Value::Text(fs.format.name().to_owned()));
    compare("label", &|fs| Value::Text(fs.label.clone()));
    compare("uuid", &|fs| Value::Text(fs.uuid.clone()));
    compare("filesystemSize", &|fs| Value::Bytes(fs.size));
    compare("free", &|fs| Value::Bytes(fs.free));
    compare("blockSize", &|fs| Value::Bytes(fs.block_size.into()));
    compare("features", &|fs| Value::Text(fs.features.join(" ")));
}

fn swap_differences(
    before: Option<&(String, Uuid)>,
    after: Option<&(String, Uuid)>,
    differences: &mut Vec<Difference>,
) {
    let label = |swap: Option<&(String, Uuid)>| swap.map_or(Value::None, |(label, _)| Value::Text(label.clone()));
    let uuid = |swap: Option<&(String, Uuid)>| swap.map_or(Value::None, |(_, uuid)| Value::Text(uuid.to_string()));
    note(differences, "swapLabel", label(before), label(after));
    note(differences, "swapUuid", uuid(before), uuid(after));
}

fn verity_differences(
    before: Option<&(String, Uuid)>,
    after: Option<&(String, Uuid)>,
    differences: &mut Vec<Difference>,
) {
    let root = |verity: Option<&(String, Uuid)>| verity.map_or(Value::None, |(root, _)| Value::Text(root.clone()));
    let uuid = |verity: Option<&(String, Uuid)>| verity.map_or(Value::None, |(_, uuid)| Value::Text(uuid.to_string()));
    note(differences, "rootHash", root(before), root(after));
    note(differences, "verityUuid", uuid(before), uuid(after));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, guid: u128) -> PartitionFacts {
        let filesystem = FilesystemFacts {
            format: Format::Ext4,
            label: "L".to_owned(),
            uuid: "u".to_owned(),
            size: 10,
            free: 5,
            block_size: 4096,
            features: vec!["extent".to_owned()],
        };
        PartitionFacts {
            number,
            name: "n".to_owned(),
            type_guid: Uuid::from_u128(7),
            guid: Uuid::from_u128(guid),
            mbr: None,
            offset: 100,
            size: 10,
            filesystem: Some(filesystem),
            swap: None,
            verity: None,
        }
    }

    fn disk(partitions: Vec<PartitionFacts>) -> DiskFacts {
        let table =
            TableFacts { size: 1000, sector_size: 512, kind: "GPT", guid: Some(Uuid::from_u128(1)), signature: None };
        DiskFacts { table: Some(table), partitions }
    }

    fn fields(diff: &DiskDiff) -> Vec<(Option<u32>, Option<u32>, Vec<&str>)> {
        let fields = |p: &PartitionDiff| p.differences.iter().map(|difference| difference.field).collect();
        diff.partitions.iter().map(|p| (p.before, p.after, fields(p))).collect()
    }

    #[test]
    fn equal_disks_do_not_differ() {
        let one = disk(vec![partition(1, 1), partition(2, 2)]);
        assert!(DiskDiff::new(&one, &one.clone()).is_empty());
    }

    #[test]
    fn partitions_are_known_by_their_identity() {
        let before = disk(vec![partition(1, 1), partition(2, 2)]);
        let mut after = disk(vec![partition(1, 3), partition(2, 1), partition(3, 2)]);
        after.partitions[2].offset = 200;
        after.partitions[1].filesystem.as_mut().unwrap().label = "M".to_owned();
        after.table.as_mut().unwrap().size = 2000;
        let diff = DiskDiff::new(&before, &after);
        assert_eq!(
            fields(&diff),
            [
                (Some(1), Some(2), vec!["number", "label"]),
                (Some(2), Some(3), vec!["number", "offset"]),
                (None, Some(1), vec![]),
            ]
        );
        let size = Difference { field: "size", before: Value::Bytes(1000), after: Value::Bytes(2000) };
        assert_eq!(diff.table, [size]);
        let back = DiskDiff::new(&after, &before);
        assert_eq!(fields(&back)[0], (Some(1), None, vec![]));
    }

    #[test]
    fn a_bare_partition_is_compared_with_its_like() {
        let mut esp = partition(1, 1);
        esp.filesystem.as_mut().unwrap().format = Format::Vfat;
        let mut bare = PartitionFacts { guid: Uuid::nil(), type_guid: Uuid::nil(), offset: 0, ..partition(1, 0) };
        bare.name = String::new();
        let bare = DiskFacts { table: None, partitions: vec![bare] };
        let whole = disk(vec![esp, partition(2, 2)]);
        assert!(DiskDiff::new(&whole, &bare).is_empty());
        let mut other = bare.clone();
        other.partitions[0].filesystem.as_mut().unwrap().free = 4;
        assert_eq!(fields(&DiskDiff::new(&whole, &other)), [(Some(2), Some(1), vec!["free"])]);
        assert_eq!(fields(&DiskDiff::new(&bare, &other)), [(Some(1), Some(1), vec!["free"])]);
    }

    #[test]
    fn swap_areas_are_compared() {
        let swap = |label: &str| {
            let swap = Some((label.to_owned(), Uuid::from_u128(5)));
            disk(vec![PartitionFacts { filesystem: None, swap, ..partition(1, 1) }])
        };
        assert!(DiskDiff::new(&swap("a"), &swap("a")).is_empty());
        assert_eq!(fields(&DiskDiff::new(&swap("a"), &swap("b"))), [(Some(1), Some(1), vec!["swapLabel"])]);
        let mut none = swap("a");
        none.partitions[0].swap = None;
        assert_eq!(fields(&DiskDiff::new(&none, &swap("a"))), [(Some(1), Some(1), vec!["swapLabel", "swapUuid"])]);
    }

    #[test]
    fn a_filesystem_that_is_gone_differs_in_all() {
        let mut empty = partition(1, 1);
        empty.filesystem = None;
        let diff = DiskDiff::new(&disk(vec![partition(1, 1)]), &disk(vec![empty]));
        assert_eq!(diff.partitions[0].differences.len(), 7);
        assert_eq!(diff.partitions[0].differences[0].after, Value::None);
    }
}
