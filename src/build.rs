//! Makes a finished image of a spec: runs the stages of the pipeline in order.
//!
//! Everything is planned before the image file is made. So all mistakes in the input are reported before that.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use crate::copy::{self, Means};
use crate::disk::gpt;
use crate::formats::Format;
use crate::image::{Image, PartName};
use crate::output::Privacy;
use crate::plan::{ImagePlan, Role, SizeMultiple};
use crate::progress::{Cancel, Progress};
use crate::source::own::ExtraFiles;
use crate::spec::Spec;
use crate::store::StoreRoot;
use crate::units::ByteOffset;
use crate::verify;

pub use self::bare::{BareFilesystem, build_partition};
use self::bootloader::Installer;
pub use self::error::BuildError;
pub use self::forms::{BadForms, Forms, Split};
pub use self::outputs::{OutputFile, Outputs};
pub use self::prepared::{Prepared, prepare};
pub use self::shown::{nameless, show, stream};
use self::shown::{wants_image, with_source};

mod bare;
pub mod bootloader;
mod error;
mod extra;
mod fat;
mod forms;
mod grub;
mod known;
mod limine;
mod map;
pub(crate) mod nix;
mod outputs;
mod overlaid;
mod planned;
mod prepared;
mod shown;
mod split;
mod verity;

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

/// Builds all that `outputs` are for and `layout.json`, and the files of an update if `forms` say so, and runs the boot loader's installer if one is given: once in a
/// rehearsal before the store is copied, and once when all else is done. Returns what was built, the raw image first.
///
/// Other forms than the raw image are made without one, unless an installer wants one, or not every byte of the store's
/// filesystem is known before its contents have been read. Then there is one for the time being, in the directory of the
/// outputs.
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
    if forms.split() != Split::No {
        split::check(prepared, &outputs)?;
    }
    if !forms.formats().contains(&Format::Raw) && !proves_image && install_bootloader.is_none() {
        prepared.seal_early(context)?;
    }
    let by_image = proves_image || wants_image(prepared, install_bootloader);
    let mut filled = Vec::new();
    let mut of_update = Vec::new();
    match by_image {
        true => filled.push((Format::Raw, write_image(prepared, &mut outputs, install_bootloader, context)?)),
        false => outputs.write_layout(&prepared.plan.to_json())?,
    }
    with_source(prepared, by_image.then_some(&outputs), install_bootloader, context, &mut |source| {
        let made = outputs.disks().filter(|(format, _)| !by_image || *format != Format::Raw);
        filled.extend(forms::make(source, prepared, made, &outputs, forms, context)?);
        if forms.split() != Split::No {
            of_update = split::make(source, prepared, &outputs, forms, context)?;
        }
        Ok(())
    })?;
    outputs.add_split(of_update);
    let proved = outputs.disks().map(|(format, file)| {
        let file = if format.is_readable() { file } else { outputs.image() };
        prove(file.file(), &prepared.spec, context)
    });
    let proved: Vec<_> = proved.collect::<Result<_, _>>()?;
    context.progress.stage("writing out", 0, 0);
    context.cancel.check()?;
    let paths: Vec<_> = outputs.disks().map(|(format, file)| (format, file.target().named().to_owned())).collect();
    let of_update: Vec<_> = outputs.split().iter().map(|file| file.target().named().to_owned()).collect();
    outputs.publish()?;
    let of_update = of_update.into_iter().map(|path| built(path, None, None));
    let built = paths.into_iter().zip(proved).map(|((format, path), proved)| {
        let way = filled.iter().find(|(other, _)| *other == format).and_then(|(_, way)| *way);
        built(path, way, proved)
    });
    built.chain(of_update).collect()
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

/// Writes all partitions, and rehearses the installer on the way: before the store, which takes long, if what boots the
/// system does not depend on that.
fn write<'a>(
    prepared: &mut Prepared,
    outputs: &Outputs,
    install_bootloader: Option<&'a str>,
    context: Context<'_>,
) -> Result<(Option<Installer<'a>>, Option<copy::Summary>), BuildError> {
    let image = outputs.image().file();
    outputs.image().set_len(prepared.most())?;
    let early = match prepared.has_hash_tree() {
        false => write_boot(prepared, outputs, install_bootloader, context)?,
        true => None,
    };
    prepared.extra.write(image, &prepared.plan.partitions, context)?;
    let copied = prepared.write_store(outputs.image(), context)?;
    let installer = match prepared.has_hash_tree() {
        false => early,
        true => write_boot(prepared, outputs, install_bootloader, context)?,
    };
    Ok((installer, Some(copied)))
}

/// Writes what firmware and boot loaders read, and rehearses the installer with it.
fn write_boot<'a>(
    prepared: &Prepared,
    outputs: &Outputs,
    install_bootloader: Option<&'a str>,
    context: Context<'_>,
) -> Result<Option<Installer<'a>>, BuildError> {
    let image = outputs.image().file();
    for partition in &prepared.plan.partitions {
        let fat = prepared.fats.of(partition.role);
        fat.map_or(Ok(()), |fat| fat.write(image, ByteOffset(partition.offset), context))?;
    }
    bios_boot(&prepared.plan).map_or(Ok(()), |(at, bytes)| image.write_all_at(bytes, at))?;
    let rehearse = |script| Installer::rehearse(script, &prepared.plan, outputs, context);
    Ok(install_bootloader.map(rehearse).transpose()?)
}

/// What a BIOS loads from its partition, and at which byte of the disk that is.
fn bios_boot(plan: &ImagePlan) -> Option<(u64, &[u8])> {
    let partition = plan.partitions.iter().find(|partition| partition.role == Role::BiosBoot)?;
    Some((partition.offset, &plan.bios_boot))
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

fn built(path: PathBuf, copied: Option<copy::Summary>, proved: Option<verify::Report>) -> Result<Built, BuildError> {
    let metadata = std::fs::metadata(&path)?;
    Ok(Built { path, size: metadata.len(), allocated: metadata.blocks() * 512, copied, proved })
}
