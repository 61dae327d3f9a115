//! A walk over all directories that trusts nothing. The check reports what it finds, and the reader refuses it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::entry::{ATTRIBUTE_LABEL, Entry, entries};
use super::shape::ENTRY_BYTES;
use super::{Bits, Next, Shape, Table};
use crate::read::{Bytes, Fault, ReadError};

/// The largest directory that there can be, in bytes.
const LARGEST_DIRECTORY: u64 = 65_536 * ENTRY_BYTES as u64;
/// At most this many faults, and clusters with two owners, are reported.
const MOST: usize = 1000;
/// The deepest directory that is gone into.
const DEEPEST: usize = 64;

/// The most bytes of a path that are reported.
const LONGEST_PATH: usize = 2048;
/// At most this many owners of a cluster are reported.
const MOST_OWNERS: usize = 8;

/// How much a fault matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::vfat) enum Weight {
    /// Something cannot be read, or would mislead a reader.
    Fatal,
    /// Not as it should be, but readable.
    Light,
}

/// A walk over a filesystem.
pub(in crate::vfat) struct Walk<'a> {
    bytes: &'a dyn Bytes,
    shape: &'a Shape,
    table: Table<'a>,
    /// A bit for each cluster that belongs to something.
    claimed: Vec<u64>,
    /// Clusters claimed again, with their owners once these are looked for.
    twice: BTreeMap<u32, BTreeSet<String>>,
    looking: bool,
    faults: BTreeSet<(Weight, Fault)>,
    more: bool,
}

/// A directory to be read. It knows the one above it, so that a path takes no memory until it is reported.
struct Todo {
    above: Option<Rc<Todo>>,
    /// Escaped.
    name: String,
    cluster: u32,
    depth: usize,
}

impl Todo {
    /// The path of an entry of this directory, or of itself if the name is empty; a very long one loses its start.
    fn path(&self, name: &str) -> String {
        let mut parts = vec![name];
        let mut at = Some(self);
        while let Some(directory) = at {
            parts.push(&directory.name);
            at = directory.above.as_deref();
        }
        let parts: Vec<&str> = parts.into_iter().rev().filter(|part| !part.is_empty()).collect();
        let path = parts.join("/");
        let cut = path.len().saturating_sub(LONGEST_PATH);
        match path.get(cut..) {
            Some(end) if cut > 0 => format!("...{end}"),
            _ if path.is_empty() => "/".to_owned(),
            _ => path,
        }
    }
}

/// The result of following a chain of clusters.
struct Chain {
    clusters: Vec<u32>,
    /// Why it ends before its end.
    broken: Option<String>,
    /// How many clusters it has at least: those of long files are only counted.
    count: u64,
}

impl<'a> Walk<'a> {
    pub(in crate::vfat) fn new(bytes: &'a dyn Bytes, shape: &'a Shape) -> Self {
        let words = usize::try_from(shape.clusters.saturating_add(2).div_ceil(64)).unwrap_or(0);
        Self {
            bytes,
            shape,
            table: Table::new(bytes, shape),
            claimed: vec![0; words],
            twice: BTreeMap::new(),
            looking: false,
            faults: BTreeSet::new(),
            more: false,
        }
    }

    /// Notes a fault, each once.
    pub(in crate::vfat) fn tell(&mut self, weight: Weight, what: impl Into<String>, why: impl Into<String>) {
        if self.looking {
            return;
        }
        if self.faults.len() < MOST {
            self.faults.insert((weight, Fault { what: what.into(), why: why.into() }));
        } else {
            self.more = true;
        }
    }

    /// The first fault that keeps the filesystem from being read.
    pub(in crate::vfat) fn fatal(&self) -> Option<&Fault> {
        self.faults.first().filter(|(weight, _)| *weight == Weight::Fatal).map(|(_, fault)| fault)
    }

    /// All faults, sorted: at most 1,000, and one more that says that there are more.
    pub(in crate::vfat) fn into_faults(self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.faults.into_iter().map(|(_, fault)| fault).collect();
        faults.sort();
        faults.dedup();
        if self.more {
            let why = format!("more than {MOST} faults; the rest is not shown");
            faults.push(Fault { what: "FAT".to_owned(), why });
        }
        faults
    }

    /// Walks all directories and the chains of all files.
    pub(in crate::vfat) fn run(&mut self) -> Result<(), ReadError> {
        let root = Todo { above: None, name: String::new(), cluster: self.shape.root_cluster, depth: 0 };
        let mut todo = vec![root];
        while let Some(directory) = todo.pop() {
            self.directory(&Rc::new(directory), &mut todo)?;
        }
        Ok(())
    }

    /// Walks again to find and report the other owners of clusters that two files have.
    pub(in crate::vfat) fn blame(&mut self) -> Result<(), ReadError> {
        if self.twice.is_empty() {
            return Ok(());
        }
        self.looking = true;
        self.claimed.fill(0);
        self.run()?;
        self.looking = false;
        for (cluster, owners) in std::mem::take(&mut self.twice) {
            let owners: Vec<String> = owners.into_iter().collect();
            self.tell(Weight::Fatal, format!("cluster {cluster}"), format!("claimed by {}", owners.join(" and by ")));
        }
        Ok(())
    }

    /// Whether a cluster belongs to anything.
    pub(in crate::vfat) fn is_claimed(&self, cluster: u32) -> bool {
        let word = usize::try_from(cluster / 64).ok().and_then(|at| self.claimed.get(at));
        word.is_some_and(|word| word >> (cluster % 64) & 1 == 1)
    }

    /// What the table says follows a cluster.
    pub(in crate::vfat) fn table(&mut self) -> &mut Table<'a> {
        &mut self.table
    }

    /// Claims a cluster; returns whether it was free.
    fn claim(&mut self, cluster: u32, owner: &str) -> bool {
        if self.looking
            && let Some(owners) = self.twice.get_mut(&cluster).filter(|owners| owners.len() < MOST_OWNERS)
        {
            owners.insert(owner.to_owned());
        }
        let was = self.is_claimed(cluster);
        if let Some(word) = usize::try_from(cluster / 64).ok().and_then(|at| self.claimed.get_mut(at)) {
            *word |= 1 << (cluster % 64);
        }
        if was && !self.looking && self.twice.len() < MOST {
            self.twice.entry(cluster).or_default();
        }
        !was
    }

    /// Follows a chain of clusters and claims them, keeping at most `keep` of their numbers.
    fn chain(&mut self, first: u32, owner: &str, keep: u64) -> Result<Chain, ReadError> {
        let mut chain = Chain { clusters: Vec::new(), broken: None, count: 0 };
        let mut at = first;
        loop {
            if !self.shape.is_cluster(at) {
                chain.broken = Some(format!("leads to cluster {at}, which does not exist"));
            } else if !self.claim(at, owner) {
                chain.broken = Some(format!("leads to cluster {at}, which is claimed already"));
            }
            if chain.broken.is_some() {
                return Ok(chain);
            }
            if chain.count < keep {
                chain.clusters.push(at);
            }
            chain.count = chain.count.saturating_add(1);
            let wrong = match self.table.next(at)? {
                Next::Cluster(next) => {
                    at = next;
                    continue;
                }
                Next::End => return Ok(chain),
                Next::Free => "free".to_owned(),
                Next::Bad => "bad".to_owned(),
                Next::Invalid(number) => format!("followed by {number}, which does not exist"),
            };
            chain.broken = Some(format!("goes over cluster {at}, which is {wrong}"));
        }
    }

    fn directory(&mut self, directory: &Rc<Todo>, todo: &mut Vec<Todo>) -> Result<(), ReadError> {
        let what = format!("directory {}", directory.path(""));
        let Some(bytes) = self.directory_bytes(directory, &what)? else { return Ok(()) };
        let found = entries(self.shape, &bytes);
        for problem in found.problems {
            self.tell(Weight::Light, &*what, problem);
        }
        self.dots(directory, &what, &found.entries);
        let mut names = BTreeSet::new();
        let mut shorts = BTreeSet::new();
        for entry in found.entries.iter().filter(|entry| !entry.is_dots()) {
            if entry.attributes & ATTRIBUTE_LABEL != 0 {
                if directory.depth > 0 {
                    self.tell(Weight::Light, &*what, "has a volume label, which only the root may have");
                }
                continue;
            }
            let name = entry.name().as_bytes().escape_ascii().to_string();
            let taken = !names.insert(super::super::names::folded(&entry.name()));
            if !shorts.insert(entry.short) || taken {
                self.tell(Weight::Light, &*what, format!("has the name {name} twice"));
            }
            if entry.is_directory() {
                self.subdirectory(directory, entry, name, todo);
            } else {
                self.file(entry, &directory.path(&name))?;
            }
        }
        Ok(())
    }

    /// What is wrong with an entry's names, whatever it is.
    fn names(&mut self, entry: &Entry, what: &str) {
        if let Some(problem) = entry.name_problem() {
            self.tell(Weight::Fatal, what, problem);
        }
        for problem in [entry.problem, entry.short_problem()].into_iter().flatten() {
            self.tell(Weight::Light, what, problem);
        }
    }

    fn subdirectory(&mut self, directory: &Rc<Todo>, entry: &Entry, name: String, todo: &mut Vec<Todo>) {
        let what = format!("directory {}", directory.path(&name));
        self.names(entry, &what);
        if entry.size != 0 {
            self.tell(Weight::Light, &*what, format!("is a directory, but says that it has {} bytes", entry.size));
        }
        let depth = directory.depth.saturating_add(1);
        if depth > DEEPEST {
            self.tell(Weight::Fatal, what, format!("is more than {DEEPEST} levels deep"));
        } else {
            todo.push(Todo { above: Some(Rc::clone(directory)), name, cluster: entry.cluster, depth });
        }
    }

    fn file(&mut self, entry: &Entry, path: &str) -> Result<(), ReadError> {
        let what = format!("file {path}");
        self.names(entry, &what);
        let needed = u64::from(entry.size).div_ceil(self.shape.cluster.into());
        if entry.cluster == 0 {
            if needed > 0 {
                self.tell(Weight::Fatal, what, format!("has {} bytes, but no clusters", entry.size));
            }
            return Ok(());
        }
        let chain = self.chain(entry.cluster, &what, 0)?;
        if let Some(broken) = chain.broken {
            self.tell(Weight::Fatal, what, format!("its chain {broken}"));
        } else if chain.count != needed {
            let weight = if chain.count < needed { Weight::Fatal } else { Weight::Light };
            let (size, count) = (entry.size, chain.count);
            self.tell(weight, what, format!("has {size} bytes, for {needed} clusters, but {count} clusters"));
        }
        Ok(())
    }

    /// The bytes of a directory, or `None` if they cannot be read, which is reported.
    fn directory_bytes(&mut self, directory: &Todo, what: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let is_root = directory.depth == 0;
        if is_root && self.shape.bits != Bits::Fat32 {
            let len = self.shape.root_entries.saturating_mul(ENTRY_BYTES);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            self.bytes.read_exact_at(self.shape.sector_offset(self.shape.root_sector()), &mut bytes)?;
            return Ok(Some(bytes));
        }
        let most = LARGEST_DIRECTORY.div_ceil(self.shape.cluster.into());
        let chain = self.chain(directory.cluster, what, most)?;
        if let Some(broken) = chain.broken {
            self.tell(Weight::Fatal, what, format!("its chain {broken}"));
            return Ok(None);
        }
        if chain.count > most {
            self.tell(Weight::Fatal, what, format!("has {} clusters, more than any directory", chain.count));
            return Ok(None);
        }
        let cluster = usize::try_from(self.shape.cluster).unwrap_or(0);
        let mut bytes = vec![0; chain.clusters.len().saturating_mul(cluster)];
        for (number, piece) in chain.clusters.iter().zip(bytes.chunks_exact_mut(cluster.max(1))) {
            self.bytes.read_exact_at(self.shape.cluster_offset(*number), piece)?;
        }
        Ok(Some(bytes))
    }

    /// Every directory but the root starts with `.`, itself, and `..`, its parent; the root as a parent is 0.
    fn dots(&mut self, directory: &Todo, what: &str, entries: &[Entry]) {
        let is_root = directory.depth == 0;
        let dots: Vec<&Entry> = entries.iter().filter(|entry| entry.is_dots()).collect();
        if is_root {
            if !dots.is_empty() {
                self.tell(Weight::Light, what, "is the root, but has a . or ..");
            }
            return;
        }
        let above = directory.above.as_ref().filter(|above| above.depth > 0);
        let parent = above.map_or(0, |above| above.cluster);
        let wanted = [(*b".          ", directory.cluster), (*b"..         ", parent)];
        let found = entries.iter().take(2).map(|entry| (entry.short, entry.cluster));
        if dots.len() != 2 || !dots.iter().all(|entry| entry.is_directory()) || !found.eq(wanted) {
            let why = format!("does not start with . for cluster {} and .. for cluster {parent}", directory.cluster);
            self.tell(Weight::Light, what, why);
        }
    }
}
