//! The disk of a spec, for callers that write its bytes somewhere else. An image of it is made only if there is no
//! other way.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::bootloader::{BootloaderError, Installer};
use super::known::Known;
use super::map::{self, Gaps};
use super::overlaid::Overlaid;
use super::{BuildError, Context, Forms, Outputs, Prepared, planned, write_image};
use crate::formats::{Existing, Source};
use crate::output::{Privacy, Scratch};
use crate::read::Window;
use crate::units::ByteOffset;

/// Writes the disk to `to` in a form that is a stream. What [`build`](super::build) needs an image for has one where the
/// system keeps temporary files.
///
/// # Errors
/// As of [`build`](super::build); what was written before is then a part of the disk only.
pub fn stream(
    prepared: &mut Prepared,
    forms: &Forms,
    install_bootloader: Option<&str>,
    to: &mut (dyn Write + Send),
    context: Context<'_>,
) -> Result<(), BuildError> {
    if install_bootloader.is_none() {
        prepared.seal_early(context)?;
    }
    let image = match wants_image(prepared, install_bootloader) {
        true => Some(temporary_image(prepared, install_bootloader, context)?),
        false => None,
    };
    let outputs = image.as_ref().map(|(outputs, _)| outputs);
    with_source(prepared, outputs, install_bootloader, context, &mut |source| {
        let failed = |error| BuildError::Form { path: PathBuf::from("standard output"), error };
        forms.stream(source, prepared, to, context).map_err(failed)
    })
}

/// Shows `see` the disk. Only a btrfs and what is compressed are written to a temporary image before: what their metadata
/// holds is known when their contents have been read.
///
/// The installer runs in its rehearsal only, on an image with the ESP and XBOOTLDR and without the store: what it writes there is on
/// the disk. So it has to write the same with and without the store.
///
/// # Errors
/// As of [`build`](super::build); and if the installer writes nothing in its rehearsal.
pub fn show<T>(
    prepared: &mut Prepared,
    install_bootloader: Option<&str>,
    context: Context<'_>,
    see: impl FnOnce(&dyn Source) -> T,
) -> Result<T, BuildError> {
    prepared.seal_early(context)?;
    match prepared.known() {
        Some(nix) => show_planned(prepared, nix, install_bootloader, context, see),
        None => {
            let (outputs, _scratch) = temporary_image(prepared, install_bootloader, context)?;
            Ok(see(&existing(prepared, &outputs, install_bootloader)?))
        }
    }
}

fn show_planned<T>(
    prepared: &Prepared,
    nix: &dyn Known,
    install_bootloader: Option<&str>,
    context: Context<'_>,
    see: impl FnOnce(&dyn Source) -> T,
) -> Result<T, BuildError> {
    let Some(script) = install_bootloader else {
        return planned::with(prepared, nix, context, |disk| Ok(see(disk)));
    };
    let scratch = Scratch::temporary()?;
    let plan = &prepared.plan;
    let outputs = Outputs::open(scratch.path(), &plan.name, &Forms::default(), context.options.privacy())?;
    outputs.image().set_len(plan.size)?;
    for place in &plan.partitions {
        let fat = prepared.fats.of(place.role);
        fat.map_or(Ok(()), |fat| fat.write(outputs.image().file(), ByteOffset(place.offset), context))?;
    }
    let installer = Installer::rehearse(script, plan, &outputs, context)?;
    let (rehearsed, written) = installer.rehearsed();
    if written.is_empty() {
        return Err(BootloaderError::NothingWritten.into());
    }
    let rehearsed = Window::new(rehearsed.try_clone()?, plan.size);
    planned::with(prepared, nix, context, |disk| Ok(see(&Overlaid::new(disk, rehearsed, written))))
}

/// Builds the raw image as a file on the filesystem of `directory` that has no name in the end, for whoever wants it only
/// for a while. It is not written out. Only its owner may read it.
///
/// # Errors
/// As of [`build`](super::build).
pub fn nameless(
    prepared: &mut Prepared,
    directory: &Path,
    install_bootloader: Option<&str>,
    context: Context<'_>,
) -> Result<File, BuildError> {
    let scratch = Scratch::beside(directory)?;
    let name = prepared.plan.name.clone();
    let mut outputs = Outputs::open(scratch.path(), &name, &Forms::default(), Privacy::Owner)?;
    write_image(prepared, &mut outputs, install_bootloader, context)?;
    Ok(outputs.image().file().try_clone()?)
}

/// Whether there has to be a raw image before anything else can be made.
pub(super) fn wants_image(prepared: &Prepared, install_bootloader: Option<&str>) -> bool {
    install_bootloader.is_some() || prepared.known().is_none()
}

/// Shows `see` the disk: the image in `outputs`, if that is given, else the planned one.
pub(super) fn with_source(
    prepared: &Prepared,
    outputs: Option<&Outputs>,
    install_bootloader: Option<&str>,
    context: Context<'_>,
    see: &mut dyn FnMut(&dyn Source) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    match (outputs, prepared.known()) {
        (None, Some(nix)) => planned::with(prepared, nix, context, see),
        (None, None) => unreachable!("what is not known beforehand was written"),
        (Some(outputs), _) => see(&existing(prepared, outputs, install_bootloader)?),
    }
}

/// The image in `outputs`, of which the plan tells what is where.
fn existing(prepared: &Prepared, outputs: &Outputs, install_bootloader: Option<&str>) -> Result<Existing, BuildError> {
    let gaps = if install_bootloader.is_some() { Gaps::Written } else { Gaps::Zeros };
    let bytes = Window::new(outputs.image().file().try_clone()?, prepared.plan.size);
    Ok(Existing::new(bytes, map::disk(prepared, gaps)))
}

/// A raw image that nobody keeps, and the directory that it is in.
fn temporary_image(
    prepared: &mut Prepared,
    install_bootloader: Option<&str>,
    context: Context<'_>,
) -> Result<(Outputs, Scratch), BuildError> {
    let scratch = Scratch::temporary()?;
    let name = prepared.plan.name.clone();
    let mut outputs = Outputs::open(scratch.path(), &name, &Forms::default(), context.options.privacy())?;
    write_image(prepared, &mut outputs, install_bootloader, context)?;
    Ok((outputs, scratch))
}
