//! From a spec to a finished image: runs the pipeline's stages in order.
//!
//! Everything is planned, and so everything that can be wrong with the input is told, before the image file is made.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::copy::{self, CopyError};
use crate::disk::gpt::{self, GptError};
use crate::disk::image::{self, OutputError, Staging};
use crate::disk::region::Region;
use crate::ext4::contents::Contents;
use crate::ext4::{self, layout::Layout};
use crate::identity::Identities;
use crate::plan::{self, ImagePlan, Laid, PlanError, Role};
use crate::progress::{Cancel, Cancelled, Progress};
use crate::source::closure::{self, NixContents, ScanError};
use crate::source::command::{self, CommandError};
use crate::source::populate::{self, BootRequest, BootTree, PopulateError};
use crate::source::tree::FileTree;
use crate::spec::{Spec, SpecErrors};
use crate::store::{Closure, ClosureError, StoreRoot};
use crate::units::{ByteOffset, MIB};
use crate::vfat::{self, VfatError, VfatLayout, VfatParams};

/// The name of the plan beside the image.
pub const LAYOUT_NAME: &str = "layout.json";

/// How to build.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where the store is found on this host.
    pub store_root: &'a StoreRoot,
    /// How to copy contents.
    pub copy: copy::Options,
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
    /// The boot loader could not be installed.
    #[error("installBootloader: {0}")]
    Bootloader(#[source] CommandError),
    /// The boot loader's installer cut the image off, or made it longer.
    #[error("installBootloader: left the image with {found} bytes instead of {expected}; pass conv=notrunc to dd")]
    Resized {
        /// The image's size before, in bytes.
        expected: u64,
        /// The image's size after, in bytes.
        found: u64,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
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
}

/// The ESP with all its files, ready to be written.
struct BootPart {
    boot: BootTree,
    layout: VfatLayout,
}

/// The nix filesystem with all its files, ready to be written.
struct NixPart {
    tree: FileTree,
    layout: Layout,
}

/// Everything about an image, decided and checked, and nothing written.
pub struct Prepared {
    boot: BootPart,
    nix: NixPart,
    /// The image on paper.
    pub plan: ImagePlan,
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

/// Plans an image: reads the closure, runs populateCmd, lays everything out.
pub fn prepare(spec: &Spec, context: Context<'_>) -> Result<Prepared, BuildError> {
    let identities = Identities::new(spec)?;
    let nix = NixPart::prepare(spec, &identities, context)?;
    let boot = BootPart::prepare(spec, &identities, context)?;
    let laid_boot = Laid { tree: &boot.boot.tree, layout: &boot.layout };
    let plan = plan::plan(spec, &identities, laid_boot, Laid { tree: &nix.tree, layout: &nix.layout })?;
    Ok(Prepared { boot, nix, plan })
}

/// Builds `<name>.img` and `layout.json` in the directory `out`, and runs the boot loader's installer if one is given.
pub fn build(
    prepared: &Prepared,
    out: &Path,
    install_bootloader: Option<&str>,
    context: Context<'_>,
) -> Result<Built, BuildError> {
    let plan = &prepared.plan;
    let name = OsString::from(format!("{}.img", plan.name));
    let staging = Staging::new(out)?;
    let image = staging.create(&name, plan.size)?;
    let mut copied = None;
    for partition in &plan.partitions {
        let at = ByteOffset(partition.offset);
        match partition.role {
            Role::Boot => prepared.boot.write(&image, at, context)?,
            Role::Nix => copied = Some(prepared.nix.write(&image, at, context)?),
        }
    }
    gpt::write(&plan.gpt, &mut &image)?;
    staging.write(LAYOUT_NAME.as_ref(), plan.to_json().as_bytes())?;
    if let Some(script) = install_bootloader {
        run_bootloader(script, &staging, context)?;
        check_size(&staging.path().join(&name), plan.size)?;
    }
    context.progress.stage("writing out", 0, 0);
    context.cancel.check()?;
    staging.sync(&name)?;
    let path = out.join(&name);
    staging.publish(&name)?;
    built(path, copied)
}

/// Builds the bare filesystem of one partition as the file `out`, equal to the byte to its slice of the image.
pub fn build_partition(spec: &Spec, role: Role, out: &Path, context: Context<'_>) -> Result<Built, BuildError> {
    let identities = Identities::new(spec)?;
    let start = ByteOffset(0);
    let (parent, name) = image::split_file_path(out)?;
    let copied = match role {
        Role::Boot => {
            let part = BootPart::prepare(spec, &identities, context)?;
            publish_file(parent, name, part.layout.size(), |image| part.write(image, start, context))?;
            None
        }
        Role::Nix => {
            let part = NixPart::prepare(spec, &identities, context)?;
            Some(publish_file(parent, name, part.layout.size(), |image| part.write(image, start, context))?)
        }
    };
    built(out.to_owned(), copied)
}

fn publish_file<T>(
    parent: &Path,
    name: &OsStr,
    size: u64,
    write: impl FnOnce(&File) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let staging = Staging::new(parent)?;
    let written = write(&staging.create(name, size)?)?;
    staging.sync(name)?;
    staging.publish(name)?;
    Ok(written)
}

impl BootPart {
    fn prepare(spec: &Spec, identities: &Identities, context: Context<'_>) -> Result<Self, BuildError> {
        let Context { options, progress, cancel } = context;
        let request = BootRequest {
            populate_cmd: spec.populate_cmd.as_deref(),
            toplevel: spec.toplevel.as_path(),
            extra_boot_files: &spec.extra_boot_files,
            store_root: options.store_root,
        };
        let boot = populate::boot_tree(&request, progress, cancel)?;
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
        Ok(vfat::write(&self.layout, &self.boot.tree, &mut region, context.progress, context.cancel)?)
    }
}

impl NixPart {
    fn prepare(spec: &Spec, identities: &Identities, context: Context<'_>) -> Result<Self, BuildError> {
        let Context { options, progress, cancel } = context;
        let closure_info = options.store_root.locate(&spec.closure_info);
        let registration = closure_info.join("registration");
        let closure = read_closure(&closure_info.join("store-paths"), &registration, spec)?;
        spec.check_closure(&closure)?;
        let contents = NixContents {
            store_root: options.store_root,
            store: &spec.store_in_nix,
            paths: &closure.registrations().iter().map(|registration| &registration.path).collect::<Vec<_>>(),
            registration: &registration,
            extra_directories: &spec.extra_directories,
        };
        let tree = closure::nix_tree(contents, progress, cancel)?;
        let parameters = ext4::layout::Parameters {
            uuid: identities.nix.filesystem,
            label: identities.nix.label.clone(),
            free_bytes: spec.nix_free_space,
        };
        let layout = Layout::new(&tree, parameters)?;
        Ok(Self { tree, layout })
    }

    fn write(&self, image: &File, at: ByteOffset, context: Context<'_>) -> Result<copy::Summary, BuildError> {
        let Context { options, progress, cancel } = context;
        let contents = Contents::new(&self.layout, &self.tree, at);
        let pages = options.copy.engine.page_file(image)?;
        let region = Region::new(image, at, self.layout.size())?.with_pages(&pages);
        // Every byte has its place already, so that neither has to wait for the other.
        let (copied, written) = rayon::join(
            || copy::run(&contents, image, options.copy, progress, cancel),
            || ext4::writer::write(&self.layout, &self.tree, &region, cancel),
        );
        let copied = copied?;
        written?;
        Ok(copied)
    }
}

fn read_closure(store_paths: &Path, registration: &Path, spec: &Spec) -> Result<Closure, BuildError> {
    let read = |path: &Path| fs::read(path).map_err(|source| BuildError::ClosureInfo { path: path.to_owned(), source });
    Ok(Closure::parse(&read(store_paths)?, &read(registration)?, &spec.store_dir)?)
}

/// Runs the installer with `$out` naming the directory in which `<name>.img` is, writable.
fn run_bootloader(script: &str, staging: &Staging, context: Context<'_>) -> Result<(), BuildError> {
    context.progress.stage("installing the boot loader", 0, 0);
    let mut environment = vec![("out", staging.path().as_os_str())];
    environment.extend(context.options.store_root.environment());
    command::run(script, staging.path(), &environment, context.progress, context.cancel).map_err(BuildError::Bootloader)
}

fn check_size(image: &Path, expected: u64) -> Result<(), BuildError> {
    match image::metadata(image)?.len() {
        found if found == expected => Ok(()),
        found => Err(BuildError::Resized { expected, found }),
    }
}

fn built(path: PathBuf, copied: Option<copy::Summary>) -> Result<Built, BuildError> {
    let metadata = image::metadata(&path)?;
    Ok(Built { path, size: metadata.len(), allocated: metadata.blocks() * 512, copied })
}
