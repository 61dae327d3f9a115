//! From a spec to a finished image: runs the pipeline's stages in order.
//!
//! Everything is planned, and so everything that can be wrong with the input is told, before the image file is made.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::btrfs;
use crate::copy::{self, CopyError, Means};
use crate::disk::gpt::{self, GptError};
use crate::disk::region::Region;
use crate::ext4;
use crate::formats::{Format, FormatError};
use crate::identity::Identities;
use crate::image::{Image, PartName};
use crate::output::{OutputError, Privacy};
use crate::plan::{self, Contents, ImagePlan, Laid, PlanError, Rest, Role, SizeMultiple};
use crate::progress::{Cancel, Cancelled, Progress};
use crate::read::ReadError;
use crate::source::boot::{self, BootRequest, BootTree, PopulateError};
use crate::source::closure::ScanError;
use crate::source::own::{self, ExtraFiles, OwnEntry, OwnError, OwnFiles};
use crate::source::raw::RawError;
use crate::spec::{Spec, SpecErrors};
use crate::store::{ClosureError, StoreRoot};
use crate::units::{ByteOffset, MIB};
use crate::verify;
use crate::vfat::{self, VfatError, VfatLayout, VfatParams};

use self::bootloader::{BootloaderError, Installer};
use self::extra::ExtraParts;
pub use self::forms::{BadForms, Forms};
use self::nix::NixPart;
pub use self::outputs::{OutputFile, Outputs};
pub use self::shown::{nameless, show, stream};
use self::shown::{wants_image, with_source};

pub mod bootloader;
mod extra;
mod forms;
mod map;
pub(crate) mod nix;
mod outputs;
mod overlaid;
mod planned;
mod shown;

/// The name of the plan beside the image.
pub const LAYOUT_NAME: &str = "layout.json";

/// Whether an image is proved before it is shown under its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is not read again.
    None,
    /// It is verified against the registration that it was built from.
    Verify,
}

/// How to build.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where the store is found on this host.
    pub store_root: &'a StoreRoot,
    /// How to copy contents.
    pub copy: copy::Options,
    /// Whether to prove what was built.
    pub proof: Proof,
    /// What is laid over the image, if anything is. Who sees the image sees it.
    pub extra_files: Option<&'a ExtraFiles>,
    /// Of what the size of the disk is to be a multiple.
    pub size_multiple: SizeMultiple,
}

impl Options<'_> {
    /// Who may read the image.
    pub fn privacy(&self) -> Privacy {
        if self.extra_files.is_some() { Privacy::Owner } else { Privacy::Usual }
    }
}

/// Why there is no image.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The spec does not fit its closure.
    #[error(transparent)]
    Spec(#[from] SpecErrors),
    /// `closureInfo` cannot be read.
    #[error("closureInfo: {}: {source}", path.display())]
    ClosureInfo {
        /// The file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `closureInfo` is wrong.
    #[error("closureInfo: {0}")]
    Closure(#[from] ClosureError),
    /// The store cannot be scanned.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The host's own files cannot be in the image.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// An extra partition has no contents.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// There is no boot tree.
    #[error(transparent)]
    Populate(#[from] PopulateError),
    /// The boot tree does not fit into the ESP, or the ESP could not be written.
    #[error("/boot: {0}")]
    Vfat(#[from] VfatError),
    /// The store does not fit into an ext4 filesystem.
    #[error(transparent)]
    Ext4Layout(#[from] ext4::layout::LayoutError),
    /// The ext4 filesystem could not be written.
    #[error(transparent)]
    Ext4Write(#[from] ext4::writer::WriteError),
    /// The store does not fit into a btrfs filesystem.
    #[error(transparent)]
    BtrfsLayout(#[from] btrfs::layout::LayoutError),
    /// The btrfs filesystem could not be written.
    #[error(transparent)]
    BtrfsWrite(#[from] btrfs::writer::WriteError),
    /// The partitions make no disk.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The partition table could not be written.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// Contents could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The output cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A partition would lie outside what a file can hold.
    #[error("the image: {0}")]
    Region(#[from] io::Error),
    /// A file of some form could not be made.
    #[error("{}: {error}", path.display())]
    Form {
        /// The file, as the user named it.
        path: PathBuf,
        /// What is wrong.
        error: FormatError,
    },
    /// The boot loader could not be installed.
    #[error("installBootloader: {0}")]
    Bootloader(#[from] BootloaderError),
    /// The image cannot be read again.
    #[error("verifying: {0}")]
    Unreadable(#[from] ReadError),
    /// The image is not what it should be.
    #[error("the image was built, but is not right; report this unless the disk or the memory is at fault:{}", lines(.0))]
    NotRight(Vec<verify::Fault>),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BuildError {
    /// Whether it is the spec that has to be mended: it contradicts itself or its closure, or a size in it will not do.
    pub fn is_bad_spec(&self) -> bool {
        match self {
            Self::Spec(_) => true,
            Self::Vfat(error) => error.is_bad_size(),
            Self::Ext4Layout(error) => matches!(error, ext4::layout::LayoutError::TooLarge),
            Self::BtrfsLayout(error) => matches!(error, btrfs::layout::LayoutError::TooLarge),
            Self::Plan(_) => true,
            _ => false,
        }
    }
}

/// As many faults as fit on a screen, each on a line of its own.
fn lines(faults: &[verify::Fault]) -> String {
    const SHOWN: usize = 20;
    let mut text: String = faults.iter().take(SHOWN).map(|fault| format!("\n{fault}")).collect();
    match faults.len().saturating_sub(SHOWN) {
        0 => {}
        more => text.push_str(&format!("\nand {more} more faults")),
    }
    text
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image, or the bare partition.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The bytes that it takes on the host's disk; the rest are holes.
    pub allocated: u64,
    /// Which way the contents of the store took, if they were copied.
    pub copied: Option<copy::Summary>,
    /// What was found when it was proved.
    pub proved: Option<verify::Report>,
}

/// The ESP with all its files, ready to be written.
struct BootPart {
    boot: BootTree,
    layout: VfatLayout,
}

/// Everything about an image, decided and checked, and nothing written.
pub struct Prepared {
    spec: Spec,
    identities: Identities,
    boot: BootPart,
    extra: ExtraParts,
    nix: NixPart,
    /// Holds files that were made for the image.
    _own: OwnFiles,
    /// The image on paper. Until it is built, its size is the most that it can become, where contents are compressed.
    pub plan: ImagePlan,
}

impl Prepared {
    /// The most bytes that the image can need while it is written.
    fn most(&self) -> u64 {
        let nix = self.plan.partitions.iter().find(|partition| partition.role == Role::Nix);
        let end = nix.map_or(0, |partition| partition.offset.saturating_add(self.nix.size()));
        self.plan.size.max(end)
    }
}

/// The stages' common surroundings.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// How to build.
    pub options: Options<'a>,
    /// Where to report to.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

impl<'a> Context<'a> {
    /// How to move bytes, whom to tell, and whether to stop.
    pub fn means(&self) -> Means<'a> {
        Means { options: self.options.copy, progress: self.progress, cancel: self.cancel }
    }
}

/// Plans an image: reads the closure, runs populateCmd, lays everything out.
pub fn prepare(spec: &Spec, context: Context<'_>) -> Result<Prepared, BuildError> {
    let identities = identify(spec, context)?;
    let own = own_files(spec, context)?;
    let extra = ExtraParts::prepare(spec, context)?;
    let rest = Rest::new(spec, &identities, &extra.sizes(), context.options.size_multiple)?;
    let nix = NixPart::prepare(spec, &identities, &own.nix, rest, context)?;
    let boot = BootPart::prepare(spec, &identities, &own.boot, context)?;
    let plan = plan(spec, &identities, &boot, &extra, &nix, context.options.extra_files.is_some())?;
    if let Some(warning) = plan.boot.warning(spec.boot_part_size) {
        context.progress.warn(&warning);
    }
    Ok(Prepared { spec: spec.clone(), identities, boot, extra, nix, plan, _own: own })
}

/// The host's own files. Tells what may be wrong with them.
fn own_files(spec: &Spec, context: Context<'_>) -> Result<OwnFiles, BuildError> {
    let Context { options, progress, cancel } = context;
    let own = own::gather(spec, options.extra_files, options.store_root, cancel)?;
    own.warnings.iter().for_each(|warning| progress.warn(warning));
    Ok(own)
}

/// All identities of an image. Tells what may be wrong with its spec.
fn identify(spec: &Spec, context: Context<'_>) -> Result<Identities, BuildError> {
    spec.warnings.iter().for_each(|warning| context.progress.warn(warning));
    Ok(Identities::new(spec)?)
}

fn plan(
    spec: &Spec,
    identities: &Identities,
    boot: &BootPart,
    extra: &ExtraParts,
    nix: &NixPart,
    private_files: bool,
) -> Result<ImagePlan, PlanError> {
    let boot = Laid { tree: &boot.boot.tree, layout: &boot.layout };
    let (extra, nix_size) = (&extra.sizes(), nix.partition_size());
    nix.with_layout(|nix| plan::plan(spec, identities, &Contents { boot, nix, nix_size, extra, private_files }))
}

/// Builds all that `outputs` are for and `layout.json`, and runs the boot loader's installer if one is given: once in a
/// rehearsal before the store is copied, and once when all else is done. Returns what was built, the raw image first.
///
/// Other forms than the raw image are made without one, unless an installer wants one, or the filesystem of the store is
/// a btrfs: what its metadata holds is known only when its contents have been read. Then there is one for the time being,
/// in the directory of the outputs.
///
/// Afterwards the plan is as the image is.
pub fn build(
    prepared: &mut Prepared,
    mut outputs: Outputs,
    forms: &Forms,
    install_bootloader: Option<&str>,
    context: Context<'_>,
) -> Result<Vec<Built>, BuildError> {
    // What cannot be read again is proved by the image that it is made from.
    let proves_image = context.options.proof == Proof::Verify && !forms.formats().iter().all(|form| form.is_readable());
    let by_image = proves_image || wants_image(prepared, install_bootloader);
    let mut filled = Vec::new();
    match by_image {
        true => filled.push((Format::Raw, write_image(prepared, &mut outputs, install_bootloader, context)?)),
        false => outputs.write_layout(&prepared.plan.to_json())?,
    }
    with_source(prepared, by_image.then_some(&outputs), install_bootloader, context, &mut |source| {
        let made = outputs.disks().filter(|(format, _)| !by_image || *format != Format::Raw);
        filled.extend(forms::make(source, prepared, made, &outputs, forms, context)?);
        Ok(())
    })?;
    let proved = outputs.disks().map(|(format, file)| {
        let file = if format.is_readable() { file } else { outputs.image() };
        prove(file.file(), &prepared.spec, context)
    });
    let proved: Vec<_> = proved.collect::<Result<_, _>>()?;
    context.progress.stage("writing out", 0, 0);
    context.cancel.check()?;
    let paths: Vec<_> = outputs.disks().map(|(format, file)| (format, file.target().named().to_owned())).collect();
    outputs.publish()?;
    let built = paths.into_iter().zip(proved).map(|((format, path), proved)| {
        let way = filled.iter().find(|(other, _)| *other == format).and_then(|(_, way)| *way);
        built(path, way, proved)
    });
    built.collect()
}

/// Writes the raw image and the plan. Tells which way the contents of the store took.
fn write_image(
    prepared: &mut Prepared,
    outputs: &mut Outputs,
    install_bootloader: Option<&str>,
    context: Context<'_>,
) -> Result<Option<copy::Summary>, BuildError> {
    let name = format!("{}.img", prepared.plan.name);
    let (installer, copied) = write(prepared, outputs, install_bootloader, context)?;
    let plan = &prepared.plan;
    outputs.image().set_len(plan.size)?;
    gpt::write(&plan.gpt, &mut outputs.image().file())?;
    outputs.write_layout(&plan.to_json())?;
    if let Some(installer) = installer {
        installer.install(outputs.show(&name)?, plan, context)?;
        outputs.look_again()?;
    }
    Ok(copied)
}

/// Writes all partitions, and rehearses the installer on the way.
fn write<'a>(
    prepared: &mut Prepared,
    outputs: &Outputs,
    install_bootloader: Option<&'a str>,
    context: Context<'_>,
) -> Result<(Option<Installer<'a>>, Option<copy::Summary>), BuildError> {
    let image = outputs.image().file();
    outputs.image().set_len(prepared.most())?;
    let mut copied = None;
    let mut installer = None;
    for partition in &prepared.plan.partitions {
        let at = ByteOffset(partition.offset);
        match partition.role {
            Role::Boot => prepared.boot.write(image, at, context)?,
            Role::Nix => {
                // The last partition, and the long one: what is wrong with the script is told before.
                let rehearse = |script| Installer::rehearse(script, &prepared.plan, outputs, context);
                installer = install_bootloader.map(rehearse).transpose()?;
                prepared.extra.write(image, &prepared.plan.partitions, context)?;
                copied = Some(prepared.nix.write(image, at, context.means())?);
            }
            Role::Extra(_) => {}
        }
    }
    // The nix filesystem is the last; where contents were compressed, its size is known only now.
    let Prepared { spec, identities, boot, extra, nix, .. } = &*prepared;
    prepared.plan = self::plan(spec, identities, boot, extra, nix, context.options.extra_files.is_some())?;
    Ok((installer, copied))
}

/// A filesystem that can be built by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareFilesystem {
    /// The ESP.
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
    match which {
        BareFilesystem::Boot => {
            let part = BootPart::prepare(spec, &identities, &own.boot, context)?;
            output.set_len(part.layout.size())?;
            part.write(output.file(), start, context)?;
        }
        BareFilesystem::Nix => {
            let rest = rest(spec, &identities, context)?;
            let mut part = NixPart::prepare(spec, &identities, &own.nix, rest, context)?;
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

/// What the disk leaves to the nix filesystem. Extra partitions are looked at only if that depends on them.
fn rest(spec: &Spec, identities: &Identities, context: Context<'_>) -> Result<Option<Rest>, BuildError> {
    let multiple = context.options.size_multiple;
    if !Rest::is_asked_for(spec, multiple) {
        return Ok(None);
    }
    Ok(Rest::new(spec, identities, &ExtraParts::prepare(spec, context)?.sizes(), multiple)?)
}

/// Verifies an image against the registration that it was built from, if that is asked for.
fn prove(image: &File, spec: &Spec, context: Context<'_>) -> Result<Option<verify::Report>, BuildError> {
    let Context { options, progress, cancel } = context;
    if options.proof == Proof::None {
        return Ok(None);
    }
    let image = Image::in_file(image.try_clone()?)?;
    let closure = nix::read_closure(spec, options.store_root)?;
    // A bare ESP has no store that could be compared.
    let has_store = image.find(&PartName::Nix).is_ok();
    let registration = has_store.then(|| closure.registrations());
    let options = verify::Options { jobs: options.copy.threads, registration, progress, cancel };
    let report = verify::verify(&image, options)?;
    if report.is_right() { Ok(Some(report)) } else { Err(BuildError::NotRight(report.faults)) }
}

impl BootPart {
    fn prepare(
        spec: &Spec,
        identities: &Identities,
        own: &[OwnEntry],
        context: Context<'_>,
    ) -> Result<Self, BuildError> {
        let Context { options, progress, cancel } = context;
        let request = BootRequest {
            own,
            populate_cmd: spec.populate_cmd.as_deref(),
            systemd_boot: spec.systemd_boot.as_ref(),
            toplevel: spec.toplevel.as_path(),
            extra_boot_files: &spec.extra_boot_files,
            store_root: options.store_root,
        };
        let boot = boot::boot_tree(&request, progress, cancel)?;
        let params = VfatParams {
            size: spec.boot_part_size.next_multiple_of(MIB),
            sector_size: spec.sector_size,
            volume_id: identities.boot.filesystem,
            label: identities.boot.label.clone(),
        };
        let layout = VfatLayout::new(&boot.tree, &params)?;
        Ok(Self { boot, layout })
    }

    fn write(&self, image: &File, at: ByteOffset, context: Context<'_>) -> Result<(), BuildError> {
        let mut region = Region::new(image, at, self.layout.size())?;
        Ok(vfat::write(&self.layout, &self.boot.tree, &mut region, context.progress, context.cancel, None)?)
    }
}

fn built(path: PathBuf, copied: Option<copy::Summary>, proved: Option<verify::Report>) -> Result<Built, BuildError> {
    let metadata = std::fs::metadata(&path)?;
    Ok(Built { path, size: metadata.len(), allocated: metadata.blocks() * 512, copied, proved })
}
