//! The hash tree of the store's filesystem. Its root hash is known only when that filesystem is written.

use std::fs::File;

use super::nix::NixPart;
use super::{BuildError, Context};
use crate::disk::memory::Memory;
use crate::disk::region::Region;
use crate::formats::FormatError;
use crate::identity::Identities;
use crate::plan::{ImagePlan, Role};
use crate::spec::Spec;
use crate::units::ByteOffset;
use crate::verity::{self, Data, Described, Identity, Layout, RootHash};

/// The hash tree, with or without its root.
pub(super) struct VerityPart {
    layout: Layout,
    /// The size of its partition in bytes: enough for a tree of as much data as the store's partition has room for.
    slot_size: u64,
    root: Option<RootHash>,
    /// The tree, where the disk has it, if it is computed before there is an image.
    planned: Option<Memory>,
}

impl VerityPart {
    /// Lays out the hash tree of `nix`, if the spec asks for one. The partition of that has `nix_size` bytes.
    pub(super) fn prepare(
        spec: &Spec,
        identities: &Identities,
        nix: &NixPart,
        nix_size: u64,
    ) -> Result<Option<Self>, BuildError> {
        if spec.verity.is_none() {
            return Ok(None);
        }
        let Identity { uuid, salt } = Identity::of(identities.nix.filesystem);
        let slot_size = Layout::new(nix_size.max(nix.size()), uuid, salt.clone())?.size();
        Ok(Some(Self { layout: Layout::new(nix.size(), uuid, salt)?, slot_size, root: None, planned: None }))
    }

    /// The size of its partition in bytes.
    pub(super) fn slot_size(&self) -> u64 {
        self.slot_size
    }

    /// What the plan says of it.
    pub(super) fn described(&self) -> Described {
        Described::new(&self.layout, self.root)
    }

    /// Whether it has its root.
    pub(super) fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// The tree, where the disk has it, if it was computed before there is an image.
    pub(super) fn planned(&self) -> Option<&Memory> {
        self.planned.as_ref()
    }

    /// The bytes that it reads.
    pub(super) fn data_size(&self) -> u64 {
        self.layout.data_size()
    }

    /// The filesystem in `image`, where `plan` has it.
    pub(super) fn data<'a>(&self, image: &'a File, plan: &ImagePlan) -> Result<Region<'a>, BuildError> {
        region(image, plan, Role::Nix, self.layout.data_size())
    }

    /// Computes it from the filesystem with these bytes, and writes it to `image`, where `plan` has it.
    pub(super) fn write(
        &self,
        data: &dyn Data,
        image: &File,
        plan: &ImagePlan,
        context: Context<'_>,
    ) -> Result<RootHash, BuildError> {
        let tree = region(image, plan, Role::Verity, self.layout.size())?;
        verity::write(&self.layout, data, &tree, context.means()).map_err(failed)
    }

    /// Computes it from the filesystem with these bytes, and keeps it where `plan` has it.
    pub(super) fn plan(
        &self,
        data: &dyn Data,
        plan: &ImagePlan,
        context: Context<'_>,
    ) -> Result<(RootHash, Memory), BuildError> {
        let memory = Memory::default();
        let tree = Region::in_memory(&memory, start(plan, Role::Verity), self.layout.size())?;
        let root = verity::write(&self.layout, data, &tree, context.means()).map_err(failed)?;
        Ok((root, memory))
    }

    /// The same with its root, and with the tree if there is no image that has it.
    pub(super) fn with_root(self, root: RootHash, planned: Option<Memory>) -> Self {
        Self { root: Some(root), planned, ..self }
    }
}

/// That there is no tree; a user who asked to stop is told no more than that.
fn failed(error: FormatError) -> BuildError {
    match error {
        FormatError::Cancelled(cancelled) => cancelled.into(),
        error => BuildError::HashTree(error),
    }
}

/// The first `size` bytes of a partition.
fn region<'a>(image: &'a File, plan: &ImagePlan, role: Role, size: u64) -> Result<Region<'a>, BuildError> {
    Ok(Region::new(image, start(plan, role), size)?)
}

/// Where a partition starts.
fn start(plan: &ImagePlan, role: Role) -> ByteOffset {
    let partition = plan.partitions.iter().find(|partition| partition.role == role);
    ByteOffset(partition.map_or(0, |partition| partition.offset))
}
