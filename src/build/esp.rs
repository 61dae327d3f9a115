//! The ESP with all its files, ready to be written.

use std::fs::File;

use super::{BuildError, Context};
use crate::disk::region::Region;
use crate::identity::Identities;
use crate::source::tree::FileTree;
use crate::spec::Spec;
use crate::units::{ByteOffset, MIB};
use crate::vfat::{self, VfatLayout, VfatParams};

/// The ESP, laid out.
pub(super) struct EspPart {
    pub(super) tree: FileTree,
    pub(super) layout: VfatLayout,
}

impl EspPart {
    /// Lays out the files of an ESP that the spec asks for.
    pub(super) fn prepare(spec: &Spec, identities: &Identities, tree: FileTree) -> Result<Self, BuildError> {
        let identity = identities.esp.as_ref().expect("what there are files for has an identity");
        let params = VfatParams {
            size: spec.boot_part_size.next_multiple_of(MIB),
            sector_size: spec.sector_size,
            volume_id: identity.filesystem,
            label: identity.label.clone(),
        };
        let layout = VfatLayout::new(&tree, &params)?;
        Ok(Self { tree, layout })
    }

    /// Writes it to `image` from byte `at` on.
    pub(super) fn write(&self, image: &File, at: ByteOffset, context: Context<'_>) -> Result<(), BuildError> {
        let mut region = Region::new(image, at, self.layout.size())?;
        Ok(vfat::write(&self.layout, &self.tree, &mut region, context.progress, context.cancel, None)?)
    }
}
