//! The filesystem that holds the store, in the format that the spec names.

mod erofs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use self::erofs::ErofsPart;
use super::known::{Known, KnownFiles, Pieces};
use super::{BuildError, Context};
use crate::btrfs::contents::{Contents, Learnt};
use crate::btrfs::packs::Packs;
use crate::btrfs::placement::Placement;
use crate::btrfs::volume::Volumes;
use crate::btrfs::{self, compress, writer};
use crate::copy::{self, Means};
use crate::disk::memory::Memory;
use crate::disk::region::Region;
use crate::ext4;
use crate::identity::Identities;
use crate::image::Partition;
use crate::map::MapBuilder;
use crate::plan::{NixFilesystem, NixLayout, PlanError, Rest};
use crate::progress::Cancel;
use crate::read::Opener;
use crate::source::closure::{self, NixContents};
use crate::source::own::{OwnEntry, OwnKind};
use crate::source::tree::{FileTree, NodeIndex};
use crate::spec::{Compression, ErofsCompression, FsType, Reserved, Spec};
use crate::store::{Closure, StorePath, StoreRoot};
use crate::threads;
use crate::units::ByteOffset;

/// The nix filesystem with all its files, ready to be written.
pub(crate) enum NixPart {
    Ext4(Ext4Part),
    Btrfs(BtrfsPart),
    Erofs(ErofsPart),
}

pub(crate) struct Ext4Part {
    tree: FileTree,
    layout: ext4::layout::Layout,
    old: Option<Partition>,
    goal: Goal,
}

pub(crate) struct BtrfsPart {
    volumes: Volumes,
    old: Option<Partition>,
    compression: Option<Compression>,
    /// What is asked for.
    free_bytes: u64,
    goal: Goal,
    /// Where contents are compressed, until they are: as if none became shorter.
    layout: btrfs::layout::Layout,
}

/// How large the partition of a filesystem becomes, which fills it.
#[derive(Clone, Copy)]
enum Goal {
    /// As large as its files and the free space asked for need it, but so many bytes at least.
    Least(u64),
    /// All that a disk leaves.
    Rest(Rest),
}

impl Goal {
    /// The size of one whose filesystem needs `needed` bytes.
    fn size(self, needed: u64) -> Result<u64, PlanError> {
        match self {
            Self::Least(least) => Ok(least.max(needed)),
            Self::Rest(rest) => rest.size_for(needed),
        }
    }
}

/// What tells a filesystem from another, and the bytes to leave free in it.
pub(crate) struct Choice {
    pub(crate) uuid: Uuid,
    pub(crate) label: String,
    pub(crate) free_bytes: u64,
}

impl NixPart {
    pub(super) fn prepare(
        spec: &Spec,
        identities: &Identities,
        own: &[OwnEntry],
        rest: Option<Rest>,
        context: Context<'_>,
    ) -> Result<Self, BuildError> {
        let btrfs = spec.btrfs.clone().unwrap_or_default();
        let tree = scan(spec, own, context)?;
        let (uuid, label) = (identities.nix.filesystem, identities.nix.label.clone());
        let choice = Choice { uuid, label, free_bytes: spec.nix_free_space };
        let part = match spec.nix.fs_type {
            FsType::Btrfs => {
                let volumes = Volumes::new(tree, &btrfs.store_subvolume, &btrfs.subvolumes);
                Self::btrfs(volumes, btrfs.compression, choice, None)
            }
            FsType::Erofs => Self::erofs(tree, spec.erofs_compression, choice, None),
            FsType::Ext4 | FsType::Vfat => Self::ext4(tree, choice, None),
        }?;
        let Some(rest) = rest else { return Ok(part) };
        let part = part.toward(Goal::Rest(rest))?;
        if let over @ 1.. = part.size().saturating_sub(part.partition_size()) {
            context.progress.warn(&format!(
                "diskSize: {over} bytes too small, unless compression saves that much, which only the build \
                 shows"
            ));
        }
        Ok(part)
    }

    /// An ext4; files that are not the host's come from `old`.
    pub(crate) fn ext4(tree: FileTree, choice: Choice, old: Option<Partition>) -> Result<Self, BuildError> {
        let Choice { uuid, label, free_bytes } = choice;
        let layout = ext4::layout::Layout::new(&tree, ext4::layout::Parameters { uuid, label, free_bytes })?;
        Ok(Self::Ext4(Ext4Part { tree, layout, old, goal: Goal::Least(0) }))
    }

    /// A btrfs; files that are not the host's come from `old`.
    pub(crate) fn btrfs(
        volumes: Volumes,
        compression: Option<Compression>,
        choice: Choice,
        old: Option<Partition>,
    ) -> Result<Self, BuildError> {
        let Choice { uuid, label, free_bytes } = choice;
        let parameters = btrfs::layout::Parameters { uuid, label, free_bytes, compression: 0 };
        Ok(Self::Btrfs(BtrfsPart::prepare(volumes, compression, parameters, old)?))
    }

    /// An EROFS; files that are not the host's come from `old`.
    pub(crate) fn erofs(
        tree: FileTree,
        compression: Option<ErofsCompression>,
        choice: Choice,
        old: Option<Partition>,
    ) -> Result<Self, BuildError> {
        Ok(Self::Erofs(ErofsPart::prepare(tree, compression, choice, old)?))
    }

    /// The same files with more or less free, if their filesystem has free space.
    pub(crate) fn with_free(self, free_bytes: u64) -> Result<Self, BuildError> {
        match self {
            Self::Ext4(Ext4Part { tree, layout, old, goal }) => {
                let parameters = ext4::layout::Parameters { free_bytes, ..layout.parameters };
                let layout = ext4::layout::Layout::new(&tree, parameters)?;
                Ok(Self::Ext4(Ext4Part { tree, layout, old, goal }))
            }
            Self::Btrfs(BtrfsPart { volumes, old, compression, layout, goal, .. }) => {
                let parameters = btrfs::layout::Parameters { free_bytes, compression: 0, ..layout.parameters };
                let part = BtrfsPart::prepare(volumes, compression, parameters, old)?;
                Ok(Self::Btrfs(BtrfsPart { goal, ..part }))
            }
            part @ Self::Erofs(_) => Ok(part),
        }
    }

    /// The same files with `free` bytes free as readers count them, who know nothing of what lies between chunks.
    pub(crate) fn with_counted_free(self, free: u64) -> Result<Self, BuildError> {
        match &self {
            Self::Ext4(_) | Self::Erofs(_) => self.with_free(free),
            Self::Btrfs(part) => {
                let gaps = part.layout.chunks.gaps();
                self.with_free(free.saturating_sub(gaps))
            }
        }
    }

    /// The same files in a partition of this size in bytes at least, now and when it is written.
    pub(crate) fn at_least(self, size: u64) -> Result<Self, BuildError> {
        self.toward(Goal::Least(size))
    }

    /// The same files in a partition that becomes as large as `goal` says, now and when it is written.
    fn toward(self, goal: Goal) -> Result<Self, BuildError> {
        match self {
            Self::Ext4(part) => Ok(Self::Ext4(part.toward(goal)?)),
            Self::Btrfs(part) => Ok(Self::Btrfs(part.toward(goal)?)),
            Self::Erofs(part) => Ok(Self::Erofs(part.toward(goal)?)),
        }
    }

    /// The size of its partition in bytes; until it is written, the most that it can become, or what the disk leaves.
    pub(crate) fn partition_size(&self) -> u64 {
        let (Self::Ext4(Ext4Part { goal, .. })
        | Self::Btrfs(BtrfsPart { goal, .. })
        | Self::Erofs(ErofsPart { goal, .. })) = self;
        match goal {
            Goal::Least(least) => self.size().max(*least),
            Goal::Rest(rest) => rest.given().or(rest.size_for(self.size()).ok()).unwrap_or(self.size()),
        }
    }

    /// Its size in bytes; until it is written, the most that it can become.
    pub(crate) fn size(&self) -> u64 {
        self.laid().size()
    }

    /// The filesystem as it is laid out.
    pub(super) fn laid(&self) -> NixFilesystem<'_> {
        let (tree, root, layout) = match self {
            Self::Ext4(Ext4Part { tree, layout, .. }) => (tree, NodeIndex::ROOT, NixLayout::Ext4(layout)),
            Self::Btrfs(BtrfsPart { volumes, layout, .. }) => {
                (volumes.tree(), volumes.store().root, NixLayout::Btrfs(layout))
            }
            Self::Erofs(ErofsPart { tree, layout, .. }) => (tree, NodeIndex::ROOT, NixLayout::Erofs(layout)),
        };
        NixFilesystem { tree, root, layout }
    }

    /// What every byte of it is, as it is laid out.
    pub(super) fn map(&self) -> MapBuilder {
        match self {
            Self::Ext4(Ext4Part { tree, layout, .. }) => ext4::map::map(layout, tree),
            Self::Btrfs(BtrfsPart { layout, .. }) => btrfs::map::map(layout),
            Self::Erofs(ErofsPart { layout, .. }) => crate::erofs::map::map(layout),
        }
    }

    /// The part whose bytes are all known before contents are moved. Those of a btrfs are not: its metadata has checksums of
    /// contents, and how long they are when compressed.
    pub(super) fn known(&self) -> Option<&dyn Known> {
        match self {
            Self::Ext4(part) => Some(part),
            Self::Erofs(part) => part.known(),
            Self::Btrfs(_) => None,
        }
    }

    /// Writes it to `image` from byte `at` on. Nothing else lies behind that place yet.
    pub(crate) fn write(
        &mut self,
        image: &File,
        at: ByteOffset,
        means: Means<'_>,
    ) -> Result<copy::Summary, BuildError> {
        match self {
            Self::Ext4(part) => Known::write(part, image, at, means),
            Self::Btrfs(part) => part.write(image, at, means),
            Self::Erofs(part) => part.write(image, at, means),
        }
    }
}

impl Known for Ext4Part {
    fn write(&self, image: &File, at: ByteOffset, means: Means<'_>) -> Result<copy::Summary, BuildError> {
        let Means { options, progress, cancel } = means;
        let contents = self.contents(at);
        let pages = options.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        // Every byte has its place already, so that neither has to wait for the other.
        let (copied, ()) = threads::both_or_none(
            options.threads,
            cancel,
            |cancel| Ok::<_, BuildError>(copy::run(&contents, image, options, progress, cancel)?),
            |cancel| Ok(ext4::writer::write(&self.layout, &self.tree, &region, cancel)?),
        )?;
        Ok(copied)
    }

    fn write_metadata(&self, to: &Memory, at: ByteOffset, cancel: &Cancel) -> Result<(), BuildError> {
        let region = Region::in_memory(to, at, self.layout.size())?;
        Ok(ext4::writer::write(&self.layout, &self.tree, &region, cancel)?)
    }

    fn files(&self, at: ByteOffset) -> Vec<KnownFiles<'_>> {
        vec![KnownFiles { jobs: Box::new(self.contents(at)), pieces: Pieces::Pages }]
    }
}

impl Ext4Part {
    fn contents(&self, at: ByteOffset) -> ext4::contents::Contents<'_> {
        ext4::contents::Contents::new(&self.layout, &self.tree, at, opener(&self.old))
    }

    fn toward(self, goal: Goal) -> Result<Self, BuildError> {
        let Self { tree, mut layout, old, .. } = self;
        let needed = layout.size();
        let size = goal.size(needed)?;
        if size > needed {
            layout = ext4::layout::Layout::within(size, &tree, layout.parameters)?;
        }
        Ok(Self { tree, layout, old, goal })
    }
}

impl BtrfsPart {
    fn prepare(
        volumes: Volumes,
        compression: Option<Compression>,
        mut parameters: btrfs::layout::Parameters,
        old: Option<Partition>,
    ) -> Result<Self, btrfs::layout::LayoutError> {
        let tree = volumes.tree();
        let free_bytes = parameters.free_bytes;
        let mut placement = Placement::raw(tree);
        if compression.is_some() {
            placement = Placement::worst(tree);
            parameters.compression = compress::disk_id(compression);
            parameters.free_bytes = free_bytes.saturating_add(placement.slack(tree));
        }
        let layout = btrfs::layout::Layout::new(&volumes, placement, parameters)?;
        Ok(Self { volumes, old, compression, free_bytes, goal: Goal::Least(0), layout })
    }

    fn toward(self, goal: Goal) -> Result<Self, BuildError> {
        let layout = match (goal.size(self.layout.size()), goal) {
            (Ok(size), _) => self.layout.grown(size)?,
            // Compressed, they may have room.
            (Err(PlanError::TooSmall { .. }), Goal::Rest(rest))
                if self.compression.is_some() && rest.given().is_some() =>
            {
                self.layout
            }
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Self { layout, goal, ..self })
    }

    fn write(&mut self, image: &File, at: ByteOffset, means: Means<'_>) -> Result<copy::Summary, BuildError> {
        let Means { options, progress, cancel } = means;
        let learnt = Learnt::new(self.layout.placement.most_sectors());
        let tree = self.volumes.tree();
        let copied = match self.compression {
            None => {
                let contents = Contents::new(&self.layout, tree, at, opener(&self.old), &learnt);
                copy::run(&contents, image, options, progress, cancel)?
            }
            Some(method) => {
                let packs = Packs::new(tree, method, at, opener(&self.old), &learnt);
                let copied = copy::pack(&packs, image, options, progress, cancel)?;
                let parameters =
                    btrfs::layout::Parameters { free_bytes: self.free_bytes, ..self.layout.parameters.clone() };
                let layout = btrfs::layout::Layout::new(&self.volumes, packs.into_placement(), parameters)?;
                let size = self.goal.size(layout.size())?;
                self.layout = layout.grown(size)?;
                copied
            }
        };
        progress.stage("writing btrfs metadata", 0, 0);
        let pages = options.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        writer::write(&self.layout, &self.volumes, learnt, &region, options.threads, cancel)?;
        Ok(copied)
    }
}

fn opener(old: &Option<Partition>) -> Option<&dyn Opener> {
    old.as_ref().map(|old| old as &dyn Opener)
}

/// The files of the store's filesystem. Those of a btrfs are one tree, from its top level on.
fn scan(spec: &Spec, own: &[OwnEntry], context: Context<'_>) -> Result<FileTree, BuildError> {
    let Context { options, progress, cancel } = context;
    let registration = closure_info(spec, options.store_root).join("registration");
    let closure = read_closure(spec, options.store_root)?;
    spec.check_closure(&closure)?;
    own.iter().filter_map(|entry| dangling(spec, entry, &closure)).for_each(|warning| progress.warn(&warning));
    let Reserved { root, store } = spec.reserved();
    let contents = NixContents {
        store_root: options.store_root,
        root: &root,
        store: &store,
        paths: &closure.registrations().iter().map(|registration| &registration.path).collect::<Vec<_>>(),
        registration: &registration,
        own,
    };
    Ok(closure::nix_tree(contents, options.copy.threads, progress, cancel)?)
}

/// What is wrong with a link into the store, if it leads to a path that the image does not have.
fn dangling(spec: &Spec, entry: &OwnEntry, closure: &Closure) -> Option<String> {
    let OwnKind::Symlink(target) = &entry.kind else { return None };
    let below = Path::new(target).strip_prefix(spec.store_dir.as_path()).ok()?;
    let path = spec.store_dir.as_path().join(below.iter().next()?);
    let path = StorePath::from_absolute_path(path.to_str()?, &spec.store_dir).ok()?;
    let link = entry.target.display();
    (!closure.contains(&path)).then(|| format!("{link}: leads to {path}, which is not in the closure of the image"))
}

fn closure_info(spec: &Spec, store_root: &StoreRoot) -> PathBuf {
    store_root.locate(&spec.closure_info)
}

/// The closure that the spec names.
pub(super) fn read_closure(spec: &Spec, store_root: &StoreRoot) -> Result<Closure, BuildError> {
    let read = |name: &str| {
        let path = closure_info(spec, store_root).join(name);
        fs::read(&path).map_err(|source| BuildError::ClosureInfo { path, source })
    };
    Ok(Closure::parse(&read("store-paths")?, &read("registration")?, &spec.store_dir)?)
}
