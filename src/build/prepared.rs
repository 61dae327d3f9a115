//! Plans an image: every file found, every block decided, and nothing written.

use super::extra::ExtraParts;
use super::fat::{FatPart, FatParts};
use super::grub::GrubPart;
use super::known::Known;
use super::nix::NixPart;
use super::verity::VerityPart;
use super::{BuildError, Context, limine};
use crate::disk::memory::Memory;
use crate::grub::BootCode;
use crate::identity::Identities;
use crate::plan::{self, Bios, Contents, ImagePlan, PlanError, Rest, Role};
use crate::source::boot::{self, BootFiles, BootRequest};
use crate::source::own::{self, OwnFiles};
use crate::spec::Spec;

mod store;

/// Everything about an image, decided and checked, and nothing written.
pub struct Prepared {
    pub(super) spec: Spec,
    identities: Identities,
    pub(super) fats: FatParts,
    pub(super) extra: ExtraParts,
    pub(super) nix: NixPart,
    verity: Option<VerityPart>,
    grub: Option<GrubPart>,
    /// What a BIOS starts of Limine.
    limine: Option<BootCode>,
    /// Hold files that were made for the image.
    made: (OwnFiles, BootFiles),
    /// The plan of the image. Until it is built, its size is the largest possible, if contents are compressed.
    pub plan: ImagePlan,
}

impl Prepared {
    /// The most bytes that the image can need while it is written.
    pub(super) fn most(&self) -> u64 {
        self.plan.size.max(self.nix_start().saturating_add(self.nix.size()))
    }

    /// Where the filesystem of the store starts, in bytes.
    pub(super) fn nix_start(&self) -> u64 {
        self.plan
            .partitions
            .iter()
            .find(|partition| partition.role == Role::Nix)
            .map_or(0, |partition| partition.offset)
    }

    /// The filesystem of the store, if all bytes of the disk are known before it is written.
    pub(super) fn known(&self) -> Option<&dyn Known> {
        self.nix.known().filter(|_| !self.is_sealed_late())
    }

    /// Whether there is a hash tree.
    pub(super) fn has_hash_tree(&self) -> bool {
        self.verity.is_some()
    }

    /// Whether what boots the system is not known yet, as it has the root hash of a store that nobody has read.
    pub(super) fn is_sealed_late(&self) -> bool {
        self.verity.as_ref().is_some_and(|verity| !verity.has_root())
    }

    /// The hash tree at its place on the disk, if it was computed before there is an image.
    pub(super) fn hash_tree(&self) -> Option<&Memory> {
        self.verity.as_ref().and_then(VerityPart::planned)
    }

    fn plan_again(&mut self, nix_size: u64, context: Context<'_>) -> Result<(), BuildError> {
        let Self { spec, identities, fats, extra, nix, verity, grub, limine, .. } = &*self;
        let (verity, grub, limine) = (verity.as_ref(), grub.as_ref(), limine.as_ref());
        let parts = Parts { fats, extra, nix, nix_size, verity, grub, limine };
        self.plan = plan(spec, identities, &parts, context)?;
        Ok(())
    }
}

/// Plans an image: reads the closure, runs populateCmd, lays everything out.
pub fn prepare(spec: &Spec, context: Context<'_>) -> Result<Prepared, BuildError> {
    let identities = identify(spec, context)?;
    let own = own_files(spec, context)?;
    let extra = ExtraParts::prepare(spec, context)?;
    let rest = rest(spec, &identities, &extra, context)?;
    let grub = GrubPart::prepare(spec, &identities, context)?;
    let limine = limine::boot_code(spec, &identities, &extra.sizes(), context)?;
    let mut boot = boot_files(spec, grub.as_ref(), &own, context)?;
    let nix = NixPart::prepare(spec, &identities, &boot::beneath(&boot.nix, &own.nix)?, rest, context)?;
    let fats = FatParts::prepare(spec, &identities, &mut boot)?;
    let nix_size = first_partition_size(spec, &nix)?;
    let verity = VerityPart::prepare(spec, &identities, &nix, nix_size)?;
    let parts = Parts {
        fats: &fats,
        extra: &extra,
        nix: &nix,
        nix_size,
        verity: verity.as_ref(),
        grub: grub.as_ref(),
        limine: limine.as_ref(),
    };
    let plan = plan(spec, &identities, &parts, context)?;
    if let Some(warning) = plan.boot.and_then(|room| room.warning(spec.boot_part_size)) {
        context.progress.warn(&warning);
    }
    Ok(Prepared { spec: spec.clone(), identities, fats, extra, nix, verity, grub, limine, plan, made: (own, boot) })
}

/// The size in bytes of the partition with the store: it fills that, or its slot has room for later versions.
fn partition_size(spec: &Spec, nix: &NixPart) -> Result<u64, PlanError> {
    spec.updates.as_ref().map_or_else(|| Ok(nix.partition_size()), |updates| Ok(plan::slot_size(updates, nix.size())?))
}

/// The same before it is written: what is compressed then may fit though it would not as it is.
fn first_partition_size(spec: &Spec, nix: &NixPart) -> Result<u64, PlanError> {
    let by_btrfs = spec.btrfs.as_ref().is_some_and(|btrfs| btrfs.compression.is_some());
    let compresses = by_btrfs || spec.erofs_compression.is_some();
    let asked_for = spec.updates.as_ref().and_then(|updates| updates.slot_size).filter(|_| compresses);
    asked_for.map_or_else(|| partition_size(spec, nix), Ok)
}

/// What the disk leaves to the partition with the store. It leaves nothing to a slot, which has a size of its own.
pub(super) fn rest(
    spec: &Spec,
    identities: &Identities,
    extra: &ExtraParts,
    context: Context<'_>,
) -> Result<Option<Rest>, PlanError> {
    Rest::new(spec, identities, &extra.sizes(), context.options.size_multiple)
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
        has_updates: spec.updates.is_some(),
        verified: spec.verity.map(|verity| verity.tree),
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
    nix_size: u64,
    verity: Option<&'a VerityPart>,
    grub: Option<&'a GrubPart>,
    limine: Option<&'a BootCode>,
}

fn plan(spec: &Spec, identities: &Identities, parts: &Parts<'_>, context: Context<'_>) -> Result<ImagePlan, PlanError> {
    let Parts { fats, extra, nix, nix_size, verity, grub, limine } = *parts;
    let bios = grub.and_then(GrubPart::outside).or(limine.map(Bios::Limine));
    let [esp, xbootldr] = [&fats.esp, &fats.xbootldr].map(|fat| fat.as_ref().map(FatPart::laid));
    let extra = &extra.sizes();
    let verity = verity.map(|verity| (verity.described(), verity.slot_size()));
    let (size_multiple, private_files) = (context.options.size_multiple, context.options.extra_files.is_some());
    let nix = nix.laid();
    let contents = Contents { bios, esp, xbootldr, nix, nix_size, verity, extra, size_multiple, private_files };
    plan::plan(spec, identities, &contents)
}
