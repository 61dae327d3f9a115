//! Writes the trees of a laid-out filesystem, each once, and the superblocks.

use std::io;
use std::num::NonZeroUsize;

use thiserror::Error;
use zerocopy::IntoBytes;

use super::LogicalAddress;
use super::contents::Learnt;
use super::files::Files;
use super::format::{NODE_BYTES, SUPERBLOCK_OFFSETS, object};
use super::layout::Layout;
use super::space::Sector;
use super::superblock::superblock;
use super::tree::{EncodeError, Encoder, Stamp, TreeError};
use super::volume::Volumes;
use super::{allocation, roots};
use crate::disk::pages::PageBuffer;
use crate::disk::region::Region;
use crate::progress::{Cancel, Cancelled};
use crate::source::tree::NodeIndex;
use crate::threads;
use crate::units::ByteOffset;

/// Nodes are gathered into writes of up to this many bytes: a whole number of nodes.
const GATHER_BYTES: usize = 1 << 20;

/// The metadata could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The image file refused a write.
    #[error("writing btrfs metadata at byte {address} of the filesystem: {source}")]
    Io {
        /// The start of the write.
        address: LogicalAddress,
        /// What the operating system said.
        source: io::Error,
    },
    /// The items make no tree. The layout would have found that.
    #[error("btrfs tree {owner}: {source}")]
    Tree {
        /// The tree's identifier.
        owner: u64,
        /// What is wrong with it.
        source: TreeError,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Writes everything of the filesystem but the contents in data chunks into `out`, which it fills.
///
/// `learnt` has what was learnt of the contents while they were moved.
pub fn write(
    layout: &Layout,
    volumes: &Volumes,
    learnt: Learnt,
    out: &Region<'_>,
    threads: NonZeroUsize,
    cancel: &Cancel,
) -> Result<(), WriteError> {
    let (checksums, inline) = learnt.into_parts();
    let checksum = |Sector(sector): Sector| {
        let index = usize::try_from(sector).expect("64-bit addresses");
        checksums[index].load(std::sync::atomic::Ordering::Relaxed)
    };
    let fill = |node: NodeIndex, data: &mut [u8]| {
        let found = inline.binary_search_by_key(&node, |(node, _)| *node).expect("inline contents were kept");
        data.copy_from_slice(&inline[found].1);
    };
    let writer = Writer { layout, volumes, out };
    let owners: Vec<u64> = layout.trees.owners().collect();
    // Every node has its place already, so that no tree has to wait for another.
    let write = |(): &mut (), owner| {
        cancel.check()?;
        writer.tree(owner, &checksum, &fill)
    };
    threads::share_out(owners.into_iter(), threads, || (), write)?;
    writer.superblocks()
}

struct Writer<'a> {
    layout: &'a Layout,
    volumes: &'a Volumes,
    out: &'a Region<'a>,
}

impl Writer<'_> {
    /// Writes one tree.
    fn tree(
        &self,
        owner: u64,
        checksum: &dyn Fn(Sector) -> u32,
        inline: &dyn Fn(NodeIndex, &mut [u8]),
    ) -> Result<(), WriteError> {
        let Layout { parameters, chunks, trees, placement, .. } = self.layout;
        let device = self.layout.device();
        let stamp = Stamp { filesystem: parameters.uuid, chunk_tree: device.chunk_tree, owner };
        let mut gather = Gather::new(self.layout, self.out);
        let address = |index| trees.node(owner, index, chunks);
        let mut emit = |at: LogicalAddress, node: &[u8]| gather.put(at, node);
        let mut sink = Encoder::new(stamp, &address, &mut emit);
        match owner {
            object::CHUNK_TREE => device.put_chunks(&mut sink, chunks),
            object::ROOT_TREE => roots::put_roots(&mut sink, parameters.uuid, self.volumes, trees, chunks),
            object::EXTENT_TREE => allocation::put_extents(&mut sink, chunks, trees, self.volumes, placement),
            object::DEV_TREE => device.put_extents(&mut sink, chunks),
            object::CSUM_TREE => allocation::put_checksums(&mut sink, placement, checksum),
            object::UUID_TREE => roots::put_uuids(&mut sink, parameters.uuid, self.volumes),
            object::FREE_SPACE_TREE => allocation::put_free_space(&mut sink, chunks),
            object::DATA_RELOC_TREE => roots::put_relocation(&mut sink),
            id => {
                let volume = self.volumes.get(id).expect("all other trees are subvolumes");
                Files::of(self.volumes, volume, placement, parameters.compression).put_all(&mut sink, inline);
            }
        }
        let shape = sink.finish().map_err(|error| match error {
            EncodeError::Tree(source) => WriteError::Tree { owner, source },
            EncodeError::Emit(error) => error,
        })?;
        debug_assert_eq!(shape.nodes(), trees.root(owner, chunks).nodes, "tree {owner} is as it was counted");
        gather.flush()
    }

    /// The superblock and the mirrors that the filesystem has room for.
    fn superblocks(&self) -> Result<(), WriteError> {
        for at in SUPERBLOCK_OFFSETS {
            let superblock = superblock(self.layout, at);
            if at + size_of_val(&superblock) as u64 <= self.layout.size() {
                self.out.write_all_at(ByteOffset(at), superblock.as_bytes()).map_err(failed(at))?;
            }
        }
        Ok(())
    }
}

/// Gathers nodes that follow one another into large writes, and writes them to all copies.
struct Gather<'a> {
    layout: &'a Layout,
    out: &'a Region<'a>,
    start: LogicalAddress,
    buffer: PageBuffer,
    /// Bytes in the buffer.
    filled: usize,
}

impl<'a> Gather<'a> {
    fn new(layout: &'a Layout, out: &'a Region<'a>) -> Self {
        Self { layout, out, start: LogicalAddress(0), buffer: PageBuffer::new(GATHER_BYTES), filled: 0 }
    }

    fn put(&mut self, at: LogicalAddress, node: &[u8]) -> Result<(), WriteError> {
        debug_assert_eq!(node.len(), NODE_BYTES);
        let joins = self.filled > 0
            && self.filled < GATHER_BYTES
            && at == self.start.plus(self.filled as u64)
            && at < self.layout.chunks.at(self.start).end();
        if !joins {
            self.flush()?;
            self.start = at;
        }
        self.buffer.bytes_mut()[self.filled..][..NODE_BYTES].copy_from_slice(node);
        self.filled += NODE_BYTES;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        if self.filled > 0 {
            let chunk = self.layout.chunks.at(self.start);
            for copy in chunk.copies() {
                let at = copy + (self.start.0 - chunk.start.0);
                let written = self.out.write_pages_at(ByteOffset(at), &self.buffer.bytes()[..self.filled]);
                written.map_err(failed(at))?;
            }
        }
        self.filled = 0;
        Ok(())
    }
}

fn failed(at: u64) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { address: LogicalAddress(at), source }
}
