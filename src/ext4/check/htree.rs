//! Checks the hash tree of a directory: its shape, the order of its hashes, and that each name stands where its hash
//! belongs.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/directory.rst`, "Hash Tree Directories".

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Subject};
use crate::ext4::format::{self, HASH_HALF_MD4, HtreeEntry, HtreeRootInfo, incompat};
use crate::ext4::hash::HashSeed;
use crate::ext4::volume::directory::{BlockKind, NODE_COUNTS, ROOT_COUNTS, htree_counts};
use crate::ext4::volume::{Inode, Mapping, Sums, parse};
use crate::read::ReadError;

/// Where the root says what tree it is: after `.` and `..`.
const ROOT_INFO: usize = 24;
/// The highest number of a hash that we know of.
const LAST_HASH: u8 = 6;
/// `s_flags`: names are hashed as unsigned bytes.
const FLAGS_UNSIGNED_HASH: u32 = 2;

/// The hashes of the names in a leaf.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The lowest.
    low: u32,
    /// The lowest of the next leaf; its lowest bit is set if that goes on with this one's last hash.
    next: Option<u32>,
}

/// The tree, read.
pub(super) struct Htree {
    leaves: BTreeMap<u64, Bounds>,
    nodes: BTreeSet<u64>,
    /// How names are hashed, if we can.
    seed: Option<(HashSeed, Signedness)>,
    /// Whether it was read to its end.
    whole: bool,
}

/// How a hash takes bytes that are not ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signedness {
    Signed,
    Unsigned,
}

impl Htree {
    /// What is wrong with a block if it should be of this kind.
    pub(super) fn block_problem(&self, logical: u64, kind: BlockKind) -> Option<&'static str> {
        if !self.whole {
            return None;
        }
        match kind {
            BlockKind::Root => None,
            // A block with a single entry that is unused looks like a node.
            BlockKind::Node if self.nodes.contains(&logical) || self.leaves.contains_key(&logical) => None,
            BlockKind::Leaf if self.leaves.contains_key(&logical) => None,
            _ => Some("is in no node of its hash tree"),
        }
    }

    /// What is wrong with a name in this leaf.
    pub(super) fn name_problem(&self, logical: u64, name: &[u8]) -> Option<String> {
        let bounds = self.leaves.get(&logical)?;
        let (seed, signedness) = self.seed?;
        if signedness == Signedness::Unsigned && !name.is_ascii() {
            return None;
        }
        let hash = seed.hash(name).major;
        let below_next = bounds.next.is_none_or(|next| hash < next & !1 || (next & 1 == 1 && hash == next & !1));
        (hash < bounds.low & !1 || !below_next).then(|| {
            format!("the entry {} with the hash {hash:#010x} stands in the wrong leaf {logical}", name.escape_ascii())
        })
    }
}

/// A node to be read: its block, its level above the leaves, and the hashes below it.
struct Todo {
    logical: u64,
    level: u8,
    bounds: Bounds,
}

impl Checker<'_> {
    /// Reads the hash tree of a directory.
    pub(super) fn check_htree(&mut self, inode: &Inode, mapping: &Mapping) -> Result<Htree, ReadError> {
        let mut htree = Htree { leaves: BTreeMap::new(), nodes: BTreeSet::new(), seed: None, whole: false };
        let mut problem = self.read_htree_root(inode, mapping, &mut htree)?;
        if problem.is_none() {
            let missing =
                (1..mapping.end()).find(|block| !htree.leaves.contains_key(block) && !htree.nodes.contains(block));
            problem = missing.map(|block| format!("its hash tree does not lead to block {block}"));
            htree.whole = problem.is_none();
        }
        if let Some(problem) = problem {
            self.tell(Subject::Inode(inode.number), problem);
        }
        Ok(htree)
    }

    /// Reads the whole tree; returns what stopped that early.
    fn read_htree_root(
        &self,
        inode: &Inode,
        mapping: &Mapping,
        htree: &mut Htree,
    ) -> Result<Option<String>, ReadError> {
        let Some(root) = self.directory_block(mapping, 0)? else { return Ok(Some("has no block 0".to_owned())) };
        let Some(info) = root.get(ROOT_INFO..).and_then(parse::<HtreeRootInfo>) else {
            return Ok(Some("its hash tree has no root".to_owned()));
        };
        let most = if self.shape().has_incompat(incompat::LARGEDIR) { 2 } else { 1 };
        if info.info_length != 8 || info.indirect_levels > most || info.hash_version > LAST_HASH {
            return Ok(Some(format!(
                "the root of its hash tree says hash {}, {} levels, {} bytes of itself",
                info.hash_version, info.indirect_levels, info.info_length
            )));
        }
        htree.seed = self.hash_seed(inode, info.hash_version);
        let whole = Bounds { low: 0, next: None };
        let mut stack = vec![Todo { logical: 0, level: info.indirect_levels, bounds: whole }];
        while let Some(todo) = stack.pop() {
            let Some(block) = self.directory_block(mapping, todo.logical)? else {
                return Ok(Some(format!("its hash tree leads to block {}, which it does not have", todo.logical)));
            };
            if let Err(problem) = self.htree_node(&todo, &block, htree, &mut stack) {
                return Ok(Some(format!("block {} of its hash tree {problem}", todo.logical)));
            }
        }
        Ok(None)
    }

    fn htree_node(&self, todo: &Todo, block: &[u8], htree: &mut Htree, stack: &mut Vec<Todo>) -> Result<(), String> {
        let at = if todo.logical == 0 { ROOT_COUNTS } else { NODE_COUNTS };
        let (limit, count) = htree_counts(block, at).ok_or("has impossible counts")?;
        let tail = if self.shape().sums == Sums::Crc32c { 8 } else { 0 };
        let room = block.len().saturating_sub(at).saturating_sub(tail) / 8;
        if limit != room {
            return Err(format!("has room for {room} entries, but says {limit}"));
        }
        let raw = block.get(at..).unwrap_or_default().chunks_exact(8).take(count);
        let entries: Vec<HtreeEntry> = raw.filter_map(parse).collect();
        let mut low = todo.bounds.low;
        for (index, entry) in entries.iter().enumerate() {
            let next = entries.get(index.saturating_add(1)).map(|next| next.hash.get()).or(todo.bounds.next);
            if next.is_some_and(|next| next < low) {
                return Err(format!("has hashes out of order after {low:#010x}"));
            }
            // The upper four bits are kept for a use that never came.
            let child = u64::from(entry.block.get() & 0x0fff_ffff);
            if child == 0 || htree.nodes.contains(&child) || htree.leaves.contains_key(&child) {
                return Err(format!("leads to block {child}, which another entry leads to"));
            }
            let bounds = Bounds { low, next };
            if todo.level == 0 {
                htree.leaves.insert(child, bounds);
            } else {
                htree.nodes.insert(child);
                stack.push(Todo { logical: child, level: todo.level.saturating_sub(1), bounds });
            }
            low = next.unwrap_or(low);
        }
        Ok(())
    }

    /// A block of a directory.
    fn directory_block(&self, mapping: &Mapping, logical: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let run = mapping.at_or_after(logical).filter(|run| run.logical <= logical && run.written);
        let place = run.map(|run| run.physical.saturating_add(logical.saturating_sub(run.logical)));
        place.map(|place| self.disk.read_block(place)).transpose()
    }

    fn hash_seed(&self, inode: &Inode, version: u8) -> Option<(HashSeed, Signedness)> {
        if inode.has(format::INODE_ENCRYPT) || inode.has(format::INODE_CASEFOLD) || version != HASH_HALF_MD4 {
            return None;
        }
        let superblock = &self.shape().superblock;
        let unsigned = superblock.flags.get() & FLAGS_UNSIGNED_HASH != 0;
        let signedness = if unsigned { Signedness::Unsigned } else { Signedness::Signed };
        Some((HashSeed(superblock.hash_seed.map(|word| word.get())), signedness))
    }
}
