//! Writes the disk of a spec to a device, without making an image first: the closure is read once.

use thiserror::Error;

use super::fitted::{FitError, Fitted, SourceBytes, Tables};
use super::target::Target;
use super::{Check, FlashError, Flashed, flash};
use crate::build::{self, BuildError, Context, Prepared};
use crate::disk::table::Table;
use crate::formats::Source;
use crate::plan::PlanError;
use crate::read::{ReadError, escape};
use crate::spec::Spec;
use crate::units::{ByteOffset, MIB};

/// Why the disk of a spec is not on a device.
#[derive(Debug, Error)]
pub enum SpecError {
    /// The disk cannot be planned or made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The disk does not fit this device.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// It could not be written.
    #[error(transparent)]
    Flash(#[from] FlashError),
}

/// Plans the disk for `size` bytes of a device: its nix filesystem takes all that is left. Without a
/// size, the disk becomes what `build` makes.
///
/// # Errors
/// As of [`build::prepare`]; and if the device is too small.
pub fn prepare(spec: &Spec, size: Option<u64>, context: Context<'_>) -> Result<Prepared, SpecError> {
    let Some(size) = size else { return Ok(build::prepare(spec, context)?) };
    // What is left of the last MiB is in no partition.
    let spec = Spec { disk_size: Some(size - size % MIB), ..spec.clone() };
    build::prepare(&spec, context).map_err(|error| match error {
        BuildError::Plan(PlanError::TooSmall { needed, .. } | PlanError::TooSmallForFixed { needed, .. }) => {
            FitError::TooSmall { needed, size }.into()
        }
        error => error.into(),
    })
}

/// Writes a planned disk to a device that is at least as large.
///
/// # Errors
/// As of [`build::show`], [`Fitted::new`] and [`flash`](fn@flash).
pub fn write(
    prepared: &mut Prepared,
    install_bootloader: Option<&str>,
    target: &Target,
    check: Check,
    context: Context<'_>,
) -> Result<Flashed, SpecError> {
    build::show(prepared, install_bootloader, context, |disk| {
        let table = Table::read(&SourceBytes(disk)).map_err(FitError::from)?;
        let table = table.ok_or_else(|| FitError::from(ReadError::Unsupported("the disk has no table".to_owned())))?;
        let fitted = Fitted::new(disk, Tables::Gpt(&table), None, target.space())?;
        Ok(flash(&fitted, target, check, &|at| locate(&fitted, &table, at), context.means())?)
    })?
}

/// What a byte of the disk is part of.
fn locate(disk: &dyn Source, table: &Table, at: ByteOffset) -> Option<String> {
    let file = disk.file_at(at.0).map(|path| format!(", in {}", escape::path(&path))).unwrap_or_default();
    let part = table.partitions().iter().find_map(|part| {
        let (start, size) = part.extent(table.sector_size);
        at.0.checked_sub(start.0).filter(|&inside| inside < size).map(|inside| (inside, part))
    });
    let (inside, part) = part?;
    Some(format!("byte {inside} of partition {} (\"{}\"){file}", part.number, escape::text(&part.name)))
}
