//! What is wrong with a partition table as a whole.

use super::findings::{Findings, sectors};
use super::{Header, Table, TableEntry, mbr};
use crate::read::{Bytes, ReadError};
use crate::units::Lba;

/// Finds all faults of `table`, and what is unusual about it.
pub(super) fn check(table: &mut Table, disk: &dyn Bytes) -> Result<(), ReadError> {
    let mut found = Findings::default();
    mbr::check(table, disk, &mut found)?;
    check_headers(table, &mut found);
    check_places(table, &mut found);
    check_partitions(table, &mut found);
    found.faults.dedup();
    (table.faults, table.notes) = (found.faults, found.notes);
    Ok(())
}

/// Both headers, each and against the other.
fn check_headers(table: &Table, found: &mut Findings) {
    for header in [&table.primary, &table.backup].into_iter().flatten() {
        found.faults.extend(header.faults.iter().cloned());
    }
    let last = sectors(table).saturating_sub(1);
    match (&table.primary, &table.backup) {
        (None, _) => found.fault("GPT header at LBA 1", "there is none"),
        (Some(primary), None) => {
            let told = primary.alternate_lba;
            let why = if told.0 > last { "past the end of the disk, which has been cut off" } else { "there is none" };
            found.fault(format!("backup GPT header at LBA {told}"), why);
        }
        (Some(primary), Some(backup)) => compare(primary, backup, found),
    }
    let backup = table.backup.as_ref().map(|backup| backup.lba.0);
    if let Some(lba) = backup.filter(|&lba| lba < last) {
        let more = (last - lba).saturating_mul(table.sector_size.bytes());
        found.note(format!("the backup header is {more} bytes before the end: the disk is larger than its table"));
    }
}

/// Where the two disagree.
fn compare(primary: &Header, backup: &Header, found: &mut Findings) {
    let mut differ = |field: &str, one: String, other: String| {
        if one != other {
            found.fault("GPT headers disagree", format!("{field}: {one} in the primary, {other} in the backup"));
        }
    };
    differ("place of the backup", primary.alternate_lba.to_string(), backup.lba.to_string());
    differ("place of the primary", primary.lba.to_string(), backup.alternate_lba.to_string());
    differ("disk GUID", primary.disk_guid.to_string(), backup.disk_guid.to_string());
    differ("first usable LBA", primary.first_usable.to_string(), backup.first_usable.to_string());
    differ("last usable LBA", primary.last_usable.to_string(), backup.last_usable.to_string());
    differ("number of entries", primary.entries.to_string(), backup.entries.to_string());
    differ("size of an entry", primary.entry_size.to_string(), backup.entry_size.to_string());
    let numbers = primary.partitions.iter().chain(&backup.partitions).map(|entry| entry.number);
    let numbers: std::collections::BTreeSet<u32> = numbers.collect();
    for number in numbers {
        let [one, other] = [primary, backup].map(|header| entry_text(header, number));
        differ(&format!("partition {number}"), one, other);
    }
}

fn entry_text(header: &Header, number: u32) -> String {
    let entry = header.partitions.iter().find(|entry| entry.number == number);
    entry.map_or("not there".to_owned(), |entry| {
        let TableEntry { first, last, type_guid, guid, attributes, name, .. } = entry;
        let name = crate::read::escape::text(name);
        format!("LBA {first} to {last}, type {type_guid}, GUID {guid}, attributes {attributes:#x}, name \"{name}\"")
    })
}

/// Checks that headers, entries and usable sectors do not overlap.
fn check_places(table: &Table, found: &mut Findings) {
    let Some(header) = table.header() else { return };
    let sector = table.sector_size.bytes();
    let entries_end = |header: &Header| header.entries_lba.0.saturating_add(header.entries_bytes().div_ceil(sector));
    if header.first_usable > header.last_usable {
        found.fault(
            header.name(),
            format!("first usable LBA {} is past the last, {}", header.first_usable, header.last_usable),
        );
    }
    if let Some(primary) = &table.primary {
        let at = primary.entries_lba;
        if at.0 < 2 {
            found.fault(primary.name(), format!("its entries start at LBA {at}, inside the header"));
        } else if at.0 > 2 {
            let padding = at.0.saturating_sub(2).saturating_mul(sector);
            found.note(format!("{padding} bytes between the header and the entries are left to firmware"));
        }
        if entries_end(primary) > primary.first_usable.0 {
            found.fault(primary.name(), "its entries reach into the usable sectors");
        }
    }
    if let Some(backup) = &table.backup
        && (backup.entries_lba <= backup.last_usable || entries_end(backup) > backup.lba.0)
    {
        found.fault(backup.name(), "its entries do not lie between the usable sectors and itself");
    }
}

/// Checks that partitions are on the disk and do not overlap, and that no two have the same GUID.
fn check_partitions(table: &Table, found: &mut Findings) {
    let Some(header) = table.header() else { return };
    let end = Lba(sectors(table));
    for (i, entry) in header.partitions.iter().enumerate() {
        let (first, last) = (entry.first, entry.last);
        if first > last {
            found.fault(entry.describe(), format!("ends at LBA {last}, before its start at LBA {first}"));
        } else if last >= end {
            found.fault(entry.describe(), format!("ends at LBA {last}, past the end of the disk at LBA {end}"));
        } else if first < header.first_usable || last > header.last_usable {
            let (from, to) = (header.first_usable, header.last_usable);
            found.fault(entry.describe(), format!("LBA {first} to {last} is not within the usable {from} to {to}"));
        }
        if entry.guid.is_nil() {
            found.fault(entry.describe(), "its GUID is all zeros");
        }
        let earlier = header.partitions.get(..i).unwrap_or_default();
        for other in earlier {
            if first <= other.last && other.first <= last {
                found.fault(entry.describe(), format!("overlaps {}", other.describe()));
            }
            if entry.guid == other.guid && !entry.guid.is_nil() {
                found.fault(entry.describe(), format!("has the GUID of {}", other.describe()));
            }
        }
    }
}
