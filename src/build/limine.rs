//! Limine for an image: what a BIOS starts, made by Limine's own program.

use super::{BuildError, Context};
use crate::grub::BootCode;
use crate::identity::Identities;
use crate::limine::bios_install;
use crate::plan;
use crate::spec::Spec;

/// What `limine bios-install` writes, if the spec asks for Limine and a BIOS. `extra` are the sizes in bytes of the spec's
/// extra partitions.
pub(super) fn boot_code(
    spec: &Spec,
    identities: &Identities,
    extra: &[u64],
    context: Context<'_>,
) -> Result<Option<BootCode>, BuildError> {
    let Some(wanted) = spec.limine.as_ref().filter(|limine| limine.bios_support) else { return Ok(None) };
    let Some(first) = plan::bios_boot_start(spec, identities, extra)? else { return Ok(None) };
    context.progress.stage("making Limine's boot code", 0, 0);
    Ok(Some(bios_install(&wanted.tool, first)?))
}
