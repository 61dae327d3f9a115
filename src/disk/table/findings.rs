//! The faults of a partition table, and what is unusual about it.

use super::Table;
use crate::read::Fault;

/// What has been found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn fault(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.faults.push(Fault { what: what.into(), why: why.into() });
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The sectors of the disk.
pub(super) fn sectors(table: &Table) -> u64 {
    table.disk_size / table.sector_size.bytes()
}
