//! Writes the store, and seals it: the root hash of its hash tree is known only when all of it was read.

use std::fs::File;

use super::{Prepared, partition_size};
use crate::build::known::Known;
use crate::build::planned;
use crate::build::verity::VerityPart;
use crate::build::{BuildError, Context};
use crate::copy::{self, FileList};
use crate::disk::memory::Memory;
use crate::output::Pending;
use crate::progress::SideBySide;
use crate::source::boot::BootFiles;
use crate::threads;
use crate::units::ByteOffset;
use crate::verity::{Part, RootHash};

impl Prepared {
    /// Writes the store's filesystem to `image`. If there is a hash tree, writes that, and puts the root hash where the
    /// system looks for it. The plan is as the image is then; that may be longer than it was.
    pub(in crate::build) fn write_store(
        &mut self,
        image: &Pending,
        context: Context<'_>,
    ) -> Result<copy::Summary, BuildError> {
        let at = ByteOffset(self.nix_start());
        match (self.nix.known(), &self.verity) {
            (Some(nix), Some(verity)) => {
                let (copied, root) = self.write_and_hash(nix, verity, image.file(), context)?;
                self.seal(root, None, context)?;
                Ok(copied)
            }
            (Some(nix), None) => nix.write(image.file(), at, context.means()),
            (None, _) => {
                let copied = self.nix.write(image.file(), at, context.means())?;
                // Where contents were compressed, their size is known only now.
                self.settle(context)?;
                image.set_len(self.most())?;
                if let Some(verity) = &self.verity {
                    let data = verity.data(image.file(), &self.plan)?;
                    let root = verity.write(&data, image.file(), &self.plan, context)?;
                    self.seal(root, None, context)?;
                }
                Ok(copied)
            }
        }
    }

    /// Writes a filesystem and its hash tree at once: both come from the same files, which are read together then.
    fn write_and_hash(
        &self,
        nix: &dyn Known,
        verity: &VerityPart,
        image: &File,
        context: Context<'_>,
    ) -> Result<(copy::Summary, RootHash), BuildError> {
        let at = ByteOffset(self.nix_start());
        let copied = FileList::all(self.nix.laid().tree, None).total_bytes();
        context.progress.stage("copying and hashing files", 0, copied + verity.data_size());
        let progress = &SideBySide(context.progress);
        threads::both_or_none(
            context.options.copy.threads,
            context.cancel,
            |cancel| nix.write(image, at, Context { progress, cancel, ..context }.means()),
            |cancel| {
                let context = Context { progress, cancel, ..context };
                planned::with(self, nix, context, |disk| {
                    verity.write(&Part { disk, start: at }, image, &self.plan, context)
                })
            },
        )
    }

    /// Computes the hash tree of a store of which every byte is known, and keeps it in memory, so that no image has to be
    /// written before the disk can be shown.
    pub(in crate::build) fn seal_early(&mut self, context: Context<'_>) -> Result<(), BuildError> {
        let (Some(nix), Some(verity)) = (self.nix.known(), &self.verity) else { return Ok(()) };
        let start = ByteOffset(self.nix_start());
        let (root, tree) =
            planned::with(self, nix, context, |disk| verity.plan(&Part { disk, start }, &self.plan, context))?;
        self.seal(root, Some(tree), context)
    }

    /// Plans it again, now that it is known how long compressed contents are.
    fn settle(&mut self, context: Context<'_>) -> Result<(), BuildError> {
        let nix_size = partition_size(&self.spec, &self.nix)?;
        self.verity = VerityPart::prepare(&self.spec, &self.identities, &self.nix, nix_size)?;
        self.plan_again(nix_size, context)
    }

    /// Puts the root hash where the system looks for it. The tree is `planned` if no image has it.
    fn seal(&mut self, root: RootHash, planned: Option<Memory>, context: Context<'_>) -> Result<(), BuildError> {
        self.verity = self.verity.take().map(|verity| verity.with_root(root, planned));
        let (_, BootFiles { uki, .. }) = &self.made;
        uki.as_ref().map_or(Ok(()), |uki| uki.set_root_hash(&root.to_string()))?;
        self.identities = self.identities.clone().sealed([root.data_guid(), root.hash_guid()]);
        self.plan_again(partition_size(&self.spec, &self.nix)?, context)
    }
}
