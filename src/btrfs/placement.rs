//! The place of the contents of each file: in the items of the file, or in extents of the data chunks. Pure.

use super::LogicalAddress;
use super::format::SECTOR_SIZE;
use super::space::{Allocator, DataSpace, Sector};
use crate::copy::Form;
use crate::source::tree::{FileTree, NodeIndex, NodeKind};

/// Contents up to this many bytes, as they are stored, stand in the leaf (the kernel's default for `max_inline`).
pub const INLINE_MAX: u64 = 2048;
/// The longest extent of contents that are stored as they are, in bytes (`BTRFS_MAX_EXTENT_SIZE`).
pub const EXTENT_MAX: u64 = 128 << 20;
/// The most contents that are compressed as one, in bytes (`BTRFS_MAX_UNCOMPRESSED`).
pub const UNIT_BYTES: u64 = 128 << 10;

/// Where a node's contents are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It has none.
    #[default]
    None,
    /// In the leaf.
    Inline {
        /// How they are stored.
        form: Form,
        /// Their length as stored, in bytes.
        len: u16,
    },
    /// In sectors from this one on, as they are.
    Sectors(Sector),
    /// In units of [`UNIT_BYTES`], each compressed or not.
    Units {
        /// Where the first one is.
        start: Sector,
        /// Its index in [`Placement`]'s list.
        first: u32,
    },
}

/// How a unit is stored: its form, and how many sectors it takes (1 to 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredUnit {
    /// Compressed or not.
    pub form: Form,
    /// The sectors that it takes.
    pub sectors: u8,
}

/// A part of a file's contents that is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// How it is stored.
    pub form: Form,
    /// Its length in the file in bytes, whole sectors.
    pub len: u64,
    /// Where it is stored.
    pub address: LogicalAddress,
    /// Its length as stored, in bytes, whole sectors.
    pub stored: u64,
}

/// Where the contents of all files of a tree are.
#[derive(Clone, Debug)]
pub struct Placement {
    /// How data chunks lie.
    pub space: DataSpace,
    /// By node.
    places: Vec<Place>,
    units: Vec<StoredUnit>,
    /// How many sectors of each data chunk are taken.
    pub used: Vec<u64>,
}

impl Placement {
    /// Places contents as they are, in the order of the tree.
    pub fn raw(tree: &FileTree) -> Self {
        let (_, bytes) = tree.file_totals();
        let space = DataSpace::for_contents(bytes);
        let mut allocator = Allocator::new(space);
        let place = |node| match tree.kind(node) {
            NodeKind::File { size: 0 } | NodeKind::Directory | NodeKind::Symlink(_) => Place::None,
            NodeKind::File { size: size @ ..=INLINE_MAX } => Place::inline(Form::Raw, size),
            NodeKind::File { size } => Place::Sectors(allocator.take(size.div_ceil(SECTOR_SIZE))),
        };
        let places = tree.nodes().map(place).collect();
        Self { space, places, units: Vec::new(), used: allocator.into_used() }
    }

    /// Places contents as if each unit were compressed and yet no shorter: what takes the most extents and sectors.
    pub fn worst(tree: &FileTree) -> Self {
        let mut placer = Placer::new(tree);
        for node in tree.nodes() {
            match tree.kind(node) {
                NodeKind::File { size: 0 } | NodeKind::Directory | NodeKind::Symlink(_) => {}
                NodeKind::File { size: size @ ..=INLINE_MAX } => placer.keep(node, Form::Raw, size),
                NodeKind::File { size } => {
                    for unit in 0..size.div_ceil(UNIT_BYTES) {
                        placer.place(node, Form::Packed, UNIT_BYTES.min(size - unit * UNIT_BYTES));
                    }
                }
            }
        }
        placer.finish()
    }

    /// How many bytes larger than this placement a compressed one can be, if this is the [`worst`](Self::worst)
    /// uncompressed one: small files that move into leaves take more room there, and the end of each chunk stays free
    /// if a unit does not fit.
    pub fn slack(&self, tree: &FileTree) -> u64 {
        let is_small = |node: &NodeIndex| match tree.kind(*node) {
            NodeKind::File { size } => (INLINE_MAX + 1..=SECTOR_SIZE).contains(&size),
            _ => false,
        };
        let small = tree.nodes().filter(is_small).count() as u64;
        // In a leaf, twice stored and with room for half as much again; a sector of data is saved.
        small * (3 * INLINE_MAX - SECTOR_SIZE + 200) + self.used.len() as u64 * UNIT_BYTES + (32 << 20)
    }

    /// The number of sectors from the first to past the last in use, and those by which compressed contents may outgrow
    /// that.
    pub fn most_sectors(&self) -> u64 {
        self.end() + (self.used.len() as u64 + 1) * UNIT_BYTES / SECTOR_SIZE
    }

    /// The number of sectors from the first to past the last in use.
    fn end(&self) -> u64 {
        let chunks = self.used.len() as u64 - 1;
        chunks * self.space.room(Sector(0)) + self.used.last().expect("there is a chunk")
    }

    /// Where a node's contents are.
    pub fn place(&self, node: NodeIndex) -> Place {
        self.places[node.as_usize()]
    }

    /// The extents of a file of `size` bytes, in order; none if its contents are inline.
    pub fn extents(&self, node: NodeIndex, size: u64) -> Extents<'_> {
        let left = size.next_multiple_of(SECTOR_SIZE);
        let (sector, units) = match self.place(node) {
            Place::None | Place::Inline { .. } => return Extents { placement: self, left: 0, ..Extents::none(self) },
            Place::Sectors(start) => (start, None),
            Place::Units { start, first } => (start, Some(first as usize)),
        };
        Extents { placement: self, offset: 0, left, sector, unit: units }
    }
}

impl Place {
    /// Contents of `len` bytes, at most [`INLINE_MAX`], in the leaf.
    pub fn inline(form: Form, len: u64) -> Self {
        Self::Inline { form, len: u16::try_from(len).expect("inline contents are short") }
    }
}

/// The extents of one file.
#[derive(Clone, Debug)]
pub struct Extents<'a> {
    placement: &'a Placement,
    offset: u64,
    left: u64,
    sector: Sector,
    /// The index of the next unit, if the file has units.
    unit: Option<usize>,
}

impl<'a> Extents<'a> {
    fn none(placement: &'a Placement) -> Self {
        Self { placement, offset: 0, left: 0, sector: Sector(0), unit: None }
    }

    fn advance(&mut self, form: Form, len: u64, stored_sectors: u64) -> Extent {
        let (offset, address) = (self.offset, self.placement.space.address(self.sector));
        self.offset += len;
        self.left -= len;
        self.sector.0 += stored_sectors;
        Extent { offset, form, len, address, stored: stored_sectors * SECTOR_SIZE }
    }

    /// The next unit; units that are not compressed and follow one another are one extent.
    fn next_units(&mut self, index: usize) -> Extent {
        let units = &self.placement.units;
        let first = units[index];
        let room = self.placement.space.room(self.sector);
        if room < u64::from(first.sectors) {
            self.sector.0 += room;
        }
        if first.form == Form::Packed {
            self.unit = Some(index + 1);
            return self.advance(Form::Packed, self.left.min(UNIT_BYTES), first.sectors.into());
        }
        let room = self.placement.space.room(self.sector).min(EXTENT_MAX / SECTOR_SIZE);
        let count = self.left.div_ceil(UNIT_BYTES);
        let ahead = units[index..].iter().zip(0..count);
        let mut sectors = 0;
        let fitting = ahead.take_while(|(unit, _)| {
            let fits = unit.form == Form::Raw && sectors + u64::from(unit.sectors) <= room;
            sectors += if fits { u64::from(unit.sectors) } else { 0 };
            fits
        });
        let taken = fitting.count();
        self.unit = Some(index + taken);
        self.advance(Form::Raw, sectors * SECTOR_SIZE, sectors)
    }
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        if self.left == 0 {
            return None;
        }
        if let Some(unit) = self.unit {
            return Some(self.next_units(unit));
        }
        let room = self.placement.space.room(self.sector) * SECTOR_SIZE;
        let len = self.left.min(EXTENT_MAX).min(room);
        Some(self.advance(Form::Raw, len, len / SECTOR_SIZE))
    }
}

/// Places contents as their stored lengths become known, file by file in the order of the tree.
#[derive(Debug)]
pub struct Placer {
    space: DataSpace,
    allocator: Allocator,
    places: Vec<Place>,
    units: Vec<StoredUnit>,
}

impl Placer {
    /// Nothing is placed yet.
    pub fn new(tree: &FileTree) -> Self {
        let (_, bytes) = tree.file_totals();
        let space = DataSpace::for_contents(bytes);
        Self { space, allocator: Allocator::new(space), places: vec![Place::None; tree.len()], units: Vec::new() }
    }

    /// How data chunks lie.
    pub fn space(&self) -> DataSpace {
        self.space
    }

    /// Keeps a whole file's contents of `len` stored bytes, at most [`INLINE_MAX`], in the leaf.
    pub fn keep(&mut self, node: NodeIndex, form: Form, len: u64) {
        self.places[node.as_usize()] = Place::inline(form, len);
    }

    /// Places the next unit of a file, of which `stored` bytes are stored.
    pub fn place(&mut self, node: NodeIndex, form: Form, stored: u64) -> LogicalAddress {
        let sectors = stored.div_ceil(SECTOR_SIZE);
        let start = self.allocator.take_whole(sectors);
        let place = &mut self.places[node.as_usize()];
        if *place == Place::None {
            let first = u32::try_from(self.units.len()).expect("units of 128 KiB of a disk that Linux can hold");
            *place = Place::Units { start, first };
        }
        let sectors = u8::try_from(sectors).expect("a unit has at most 32 sectors");
        self.units.push(StoredUnit { form, sectors });
        self.space.address(start)
    }

    /// Everything is placed.
    pub fn finish(self) -> Placement {
        Placement { space: self.space, places: self.places, units: self.units, used: self.allocator.into_used() }
    }
}
