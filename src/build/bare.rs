//! The bare filesystem of one partition, as a file of its own.

use std::path::Path;

use super::extra::ExtraParts;
use super::fat::FatParts;
use super::grub::GrubPart;
use super::nix::NixPart;
use super::outputs::OutputFile;
use super::prepared::{boot_files, identify, own_files};
use super::{BuildError, Built, Context, built, prove};
use crate::identity::Identities;
use crate::plan::Rest;
use crate::source::boot;
use crate::spec::Spec;
use crate::units::ByteOffset;

/// A filesystem that can be built by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareFilesystem {
    /// The ESP, also where XBOOTLDR is beside it.
    Boot,
    /// That of the store.
    Nix,
}

/// Builds the bare filesystem of one partition as the file `out`, equal to the byte to its slice of the image.
pub fn build_partition(
    spec: &Spec,
    which: BareFilesystem,
    out: &Path,
    context: Context<'_>,
) -> Result<Built, BuildError> {
    let output = OutputFile::open(out, context.options.privacy())?;
    let identities = identify(spec, context)?;
    let own = own_files(spec, context)?;
    let start = ByteOffset(0);
    let mut copied = None;
    let grub = GrubPart::prepare(spec, &identities, context)?;
    let mut boot = boot_files(spec, grub.as_ref(), &own, context)?;
    match which {
        BareFilesystem::Boot if boot.uki.as_ref().is_some_and(|uki| uki.hash.is_some()) => {
            return Err(BuildError::BootWithoutStore);
        }
        BareFilesystem::Boot => {
            let fats = FatParts::prepare(spec, &identities, &mut boot)?;
            let part = fats.esp.ok_or(BuildError::NoEsp)?;
            output.set_len(part.layout.size())?;
            part.write(output.file(), start, context)?;
        }
        BareFilesystem::Nix => {
            let rest = rest(spec, &identities, context)?;
            let mut part = NixPart::prepare(spec, &identities, &boot::beneath(&boot.nix, &own.nix)?, rest, context)?;
            output.set_len(part.size())?;
            copied = Some(part.write(output.file(), start, context.means())?);
            output.set_len(part.partition_size())?;
        }
    }
    let proved = prove(output.file(), spec, context)?;
    context.progress.stage("writing out", 0, 0);
    context.cancel.check()?;
    output.publish()?;
    built(out.to_owned(), copied, proved)
}

/// What the disk leaves to the nix filesystem, if that fills its partition. Extra partitions are looked at only if that depends on them.
fn rest(spec: &Spec, identities: &Identities, context: Context<'_>) -> Result<Option<Rest>, BuildError> {
    let multiple = context.options.size_multiple;
    if !Rest::is_asked_for(spec, multiple) {
        return Ok(None);
    }
    Ok(Rest::new(spec, identities, &ExtraParts::prepare(spec, context)?.sizes(), multiple)?)
}
