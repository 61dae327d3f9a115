//! A difference between a medium and what was written to it.

use std::fmt;
use std::ops::Range;

use crate::units::ByteOffset;

/// Says what a byte of a disk is part of.
pub trait Locate: Sync {
    /// A phrase such as `byte 4096 of partition 2 ("nix"), in nix/store/…/bin/x`; `None` if nothing is known of it.
    fn locate(&self, at: ByteOffset) -> Option<String>;
}

impl<F: Fn(ByteOffset) -> Option<String> + Sync> Locate for F {
    fn locate(&self, at: ByteOffset) -> Option<String> {
        self(at)
    }
}

/// The first byte of a window that differs from what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: u64,
    pub(super) wanted: u8,
    pub(super) found: u8,
}

/// A medium whose bytes differ from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    window: Range<u64>,
    found: Option<Found>,
    place: Option<String>,
}

impl std::error::Error for Difference {}

impl Difference {
    pub(super) fn new(window: Range<u64>, found: Option<Found>, locate: &dyn Locate) -> Self {
        let at = found.map_or(window.start, |found| found.at);
        Self { window, found, place: locate.locate(ByteOffset(at)) }
    }

    /// The first byte that is known to be another, or from which on one is.
    pub fn at(&self) -> u64 {
        self.found.map_or(self.window.start, |found| found.at)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        match self.found {
            Some(Found { at, wanted, found }) => {
                write!(f, "byte {at}{place} is {found:#04x}, but {wanted:#04x} was written")?;
            }
            None => write!(
                f,
                "bytes {} to {}{place} differed when they were read back, and do not differ now",
                self.window.start,
                self.window.end.saturating_sub(1)
            )?,
        }
        write!(f, "; the device or its reader is broken, or smaller than it says: use another")
    }
}
