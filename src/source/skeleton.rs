//! The tree of a filesystem while it is being made: the store, the directories above it, and everything else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::own::{OwnEntry, OwnKind};
use super::tree::{Attributes, DirectoryMode, Executable, FileTree, NodeIndex, TreeBuilder, TreeError};

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Skeleton {
    /// Root's and 0755 if it has none.
    attributes: Option<Attributes>,
    entries: BTreeMap<OsString, Entry>,
}

/// What is in a directory. The directory belongs to root if it has no attributes.
#[derive(Debug)]
pub(super) enum Entry {
    Directory(Skeleton),
    /// A file of the host, of this size in bytes.
    File {
        source: PathBuf,
        size: u64,
        attributes: Option<Attributes>,
    },
    Symlink {
        target: OsString,
        attributes: Attributes,
    },
    /// A tree with one entry: a store path.
    Scanned(FileTree),
}

impl Skeleton {
    /// The directory at `path`, made with all that leads to it if it is not there.
    ///
    /// # Panics
    /// If anything else is on the way: a mistake of the caller.
    pub(super) fn directory(&mut self, path: &Path) -> &mut Self {
        path.iter().fold(self, |at, name| {
            match at.entries.entry(name.to_owned()).or_insert_with(|| Entry::Directory(Self::default())) {
                Entry::Directory(directory) => directory,
                _ => unreachable!("what is on the way to a file is a directory"),
            }
        })
    }

    /// Puts an entry that is not there yet into this directory.
    pub(super) fn insert(&mut self, name: OsString, entry: Entry) {
        let before = self.entries.insert(name, entry);
        debug_assert!(before.is_none(), "nothing is put anywhere twice");
    }

    /// Adds what the host has of its own.
    pub(super) fn add(&mut self, own: &OwnEntry) {
        let attributes = own.attributes;
        let entry = match &own.kind {
            OwnKind::Directory => {
                self.directory(&own.path).attributes = Some(attributes);
                return;
            }
            OwnKind::File { source, size } => {
                Entry::File { source: source.clone(), size: *size, attributes: Some(attributes) }
            }
            OwnKind::Symlink(target) => Entry::Symlink { target: target.clone(), attributes },
        };
        let name = own.path.file_name().unwrap_or_default().to_owned();
        self.directory(own.path.parent().unwrap_or(Path::new(""))).insert(name, entry);
    }

    /// The tree whose root this directory is.
    pub(super) fn into_tree(self) -> Result<FileTree, TreeError> {
        let mut builder = TreeBuilder::new(DirectoryMode::Writable);
        if let Some(attributes) = self.attributes {
            builder.set_attributes(NodeIndex::ROOT, attributes);
        }
        self.build(&mut builder)?;
        Ok(builder.finish())
    }

    fn build(self, builder: &mut TreeBuilder) -> Result<(), TreeError> {
        for (name, entry) in self.entries {
            match entry {
                Entry::Directory(directory) => {
                    let node = builder.enter(&name, DirectoryMode::Writable)?;
                    if let Some(attributes) = directory.attributes {
                        builder.set_attributes(node, attributes);
                    }
                    directory.build(builder)?;
                    builder.leave();
                }
                Entry::File { source, size, attributes } => {
                    let node = builder.file(&name, size, Executable::No)?;
                    builder.set_origin(node, source);
                    if let Some(attributes) = attributes {
                        builder.set_attributes(node, attributes);
                    }
                }
                Entry::Symlink { target, attributes } => {
                    let node = builder.symlink(&name, &target)?;
                    builder.set_attributes(node, attributes);
                }
                Entry::Scanned(tree) => builder.append(&tree)?,
            }
        }
        Ok(())
    }
}
