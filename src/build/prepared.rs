//! Plans an image: every file found, every block decided, and nothing written.

use super::extra::ExtraParts;
use super::fat::{FatPart, FatParts};
use super::grub::GrubPart;
use super::nix::NixPart;
use super::{BuildError, Context, limine};
use crate::grub::BootCode;
use crate::identity::Identities;
use crate::plan::{self, Bios, Contents, ImagePlan, PlanError, Rest, Role};
use crate::source::boot::{self, BootFiles, BootRequest};
use crate::source::own::{self, OwnFiles};
use crate::spec::Spec;

/// Everything about an image, decided and checked, and nothing written.
pub struct Prepared {
    pub(super) spec: Spec,
    identities: Identities,
    pub(super) fats: FatParts,
    pub(super) extra: ExtraParts,
    pub(super) nix: NixPart,
    grub: Option<GrubPart>,
    /// What a BIOS starts of Limine.
    limine: Option<BootCode>,
    /// Hold files that were made for the image.
    _made: (OwnFiles, BootFiles),
    /// The plan of the image. Until it is built, its size is the largest possible, if contents are compressed.
    pub plan: ImagePlan,
}

impl Prepared {
    /// The most bytes that the image can need while it is written.
    pub(super) fn most(&self) -> u64 {
        let nix = self.plan.partitions.iter().find(|partition| partition.role == Role::Nix);
        let end = nix.map_or(0, |partition| partition.offset.saturating_add(self.nix.size()));
        self.plan.size.max(end)
    }

    /// Plans it again, now that it is known how long compressed contents are.
    pub(super) fn settle(&mut self, context: Context<'_>) -> Result<(), PlanError> {
        let Self { spec, identities, fats, extra, nix, grub, limine, .. } = &*self;
        let parts = Parts { fats, extra, nix, grub: grub.as_ref(), limine: limine.as_ref() };
        self.plan = plan(spec, identities, &parts, context)?;
        Ok(())
    }
}

/// Plans an image: reads the closure, runs populateCmd, lays everything out.
pub fn prepare(spec: &Spec, context: Context<'_>) -> Result<Prepared, BuildError> {
    let identities = identify(spec, context)?;
    let own = own_files(spec, context)?;
    let extra = ExtraParts::prepare(spec, context)?;
    let rest = Rest::new(spec, &identities, &extra.sizes(), context.options.size_multiple)?;
    let grub = GrubPart::prepare(spec, &identities, context)?;
    let limine = limine::boot_code(spec, &identities, &extra.sizes(), context)?;
    let mut boot = boot_files(spec, grub.as_ref(), &own, context)?;
    let nix = NixPart::prepare(spec, &identities, &boot::beneath(&boot.nix, &own.nix)?, rest, context)?;
    let fats = FatParts::prepare(spec, &identities, &mut boot)?;
    let parts = Parts { fats: &fats, extra: &extra, nix: &nix, grub: grub.as_ref(), limine: limine.as_ref() };
    let plan = plan(spec, &identities, &parts, context)?;
    if let Some(warning) = plan.boot.and_then(|room| room.warning(spec.boot_part_size)) {
        context.progress.warn(&warning);
    }
    Ok(Prepared { spec: spec.clone(), identities, fats, extra, nix, grub, limine, plan, _made: (own, boot) })
}

/// The host's own files. Tells what may be wrong with them.
pub(super) fn own_files(spec: &Spec, context: Context<'_>) -> Result<OwnFiles, BuildError> {
    let Context { options, progress, cancel } = context;
    let own = own::gather(spec, options.extra_files, options.store_root, cancel)?;
    own.warnings.iter().for_each(|warning| progress.warn(warning));
    Ok(own)
}

/// The files of boot loaders, and the host's own ones on the ESP.
pub(super) fn boot_files(
    spec: &Spec,
    grub: Option<&GrubPart>,
    own: &OwnFiles,
    context: Context<'_>,
) -> Result<BootFiles, BuildError> {
    let Context { options, progress, cancel } = context;
    let request = BootRequest {
        own: &own.boot,
        own_on_xbootldr: &own.xbootldr,
        populate_cmd: spec.populate_cmd.as_deref(),
        systemd_boot: spec.systemd_boot.as_ref(),
        grub: grub.zip(spec.grub.as_ref()).map(|(grub, wanted)| grub.inside(wanted)),
        limine: spec.limine.as_ref(),
        uki: spec.uki.as_ref(),
        root_hash: None,
        toplevel: spec.toplevel.as_path(),
        extra_boot_files: &spec.extra_boot_files,
        esp: spec.esp.as_ref().map(|esp| esp.mount_point.as_path()),
        xbootldr: spec.xbootldr.as_ref().map(|fat| fat.mount_point.as_path()),
        boot: spec.boot.as_ref(),
        store_root: options.store_root,
    };
    Ok(boot::boot_files(&request, progress, cancel)?)
}

/// All identities of an image. Tells what may be wrong with its spec.
pub(super) fn identify(spec: &Spec, context: Context<'_>) -> Result<Identities, BuildError> {
    spec.warnings.iter().for_each(|warning| context.progress.warn(warning));
    Ok(Identities::new(spec)?)
}

/// What is to be on the disk.
struct Parts<'a> {
    fats: &'a FatParts,
    extra: &'a ExtraParts,
    nix: &'a NixPart,
    grub: Option<&'a GrubPart>,
    limine: Option<&'a BootCode>,
}

fn plan(spec: &Spec, identities: &Identities, parts: &Parts<'_>, context: Context<'_>) -> Result<ImagePlan, PlanError> {
    let Parts { fats, extra, nix, grub, limine } = *parts;
    let bios = grub.and_then(GrubPart::outside).or(limine.map(Bios::Limine));
    let [esp, xbootldr] = [&fats.esp, &fats.xbootldr].map(|fat| fat.as_ref().map(FatPart::laid));
    let (extra, nix_size) = (&extra.sizes(), nix.partition_size());
    let private_files = context.options.extra_files.is_some();
    nix.with_layout(|nix| {
        let contents = Contents { bios, esp, xbootldr, nix, nix_size, extra, private_files };
        plan::plan(spec, identities, &contents)
    })
}
