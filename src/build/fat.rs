//! The ESP and the XBOOTLDR partition with all their files, ready to be written.

use std::fs::File;

use super::{BuildError, Context};
use crate::disk::region::Region;
use crate::identity::{Identities, Identity};
use crate::plan::{Laid, Role};
use crate::source::boot::BootFiles;
use crate::source::tree::FileTree;
use crate::spec::Spec;
use crate::units::{ByteOffset, MIB, SectorSize};
use crate::vfat::{self, VfatError, VfatLayout, VfatParams};

/// The filesystems that firmware and systemd-boot read, as far as there are any.
#[derive(Default)]
pub(super) struct FatParts {
    pub(super) esp: Option<FatPart>,
    pub(super) xbootldr: Option<FatPart>,
}

impl FatParts {
    /// Lays out the files of boot loaders on those that the spec asks for.
    pub(super) fn prepare(spec: &Spec, identities: &Identities, files: &mut BootFiles) -> Result<Self, BuildError> {
        let part = |tree: Option<FileTree>, identity: Option<&Identity<u32>>, size| {
            let asked_for = tree.zip(identity);
            asked_for.map(|(tree, identity)| FatPart::prepare(tree, identity, size, spec.sector_size)).transpose()
        };
        let esp = part(files.esp.take(), identities.esp.as_ref(), spec.esp_part_size());
        let esp = esp.map_err(|error| match spec.xbootldr {
            Some(_) => BuildError::Esp(error),
            None => BuildError::Vfat(error),
        })?;
        let xbootldr = part(files.xbootldr.take(), identities.xbootldr.as_ref(), spec.boot_part_size)?;
        Ok(Self { esp, xbootldr })
    }

    /// What a partition with this role holds, if it is one of these.
    pub(super) fn of(&self, role: Role) -> Option<&FatPart> {
        match role {
            Role::Boot => self.esp.as_ref(),
            Role::Xbootldr => self.xbootldr.as_ref(),
            Role::BiosBoot | Role::Nix | Role::Verity | Role::Slot(_) | Role::Extra(_) => None,
        }
    }
}

/// One of them, laid out.
pub(super) struct FatPart {
    pub(super) tree: FileTree,
    pub(super) layout: VfatLayout,
}

impl FatPart {
    /// Lays out `tree` in `size` bytes, rounded up to whole MiB.
    fn prepare(
        tree: FileTree,
        identity: &Identity<u32>,
        size: u64,
        sector_size: SectorSize,
    ) -> Result<Self, VfatError> {
        let size = size.next_multiple_of(MIB);
        let params = VfatParams { size, sector_size, volume_id: identity.filesystem, label: identity.label.clone() };
        let layout = VfatLayout::new(&tree, &params)?;
        Ok(Self { tree, layout })
    }

    /// Its files and their places.
    pub(super) fn laid(&self) -> Laid<'_, VfatLayout> {
        Laid { tree: &self.tree, layout: &self.layout }
    }

    /// Writes it to `image` from byte `at` on.
    pub(super) fn write(&self, image: &File, at: ByteOffset, context: Context<'_>) -> Result<(), BuildError> {
        let mut region = Region::new(image, at, self.layout.size())?;
        Ok(vfat::write(&self.layout, &self.tree, &mut region, context.progress, context.cancel, None)?)
    }
}
