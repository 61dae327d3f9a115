//! Memory that O_DIRECT can write from: aligned to pages.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The alignment of memory, offsets and lengths that every disk takes, in bytes.
pub(super) const PAGE: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// A fixed piece of memory that starts at a page.
pub(super) struct Buffer(Vec<Page>);

impl Buffer {
    /// Zeros, rounded up to whole pages.
    pub(super) fn new(bytes: usize) -> Self {
        Self(vec![Page([0; PAGE]); bytes.div_ceil(PAGE)])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice().as_mut_bytes()
    }
}
