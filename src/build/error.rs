//! The errors of building an image.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::bootloader::BootloaderError;
use crate::copy::CopyError;
use crate::disk::gpt::GptError;
use crate::formats::FormatError;
use crate::grub::CoreError;
use crate::limine::LimineError;
use crate::output::OutputError;
use crate::plan::PlanError;
use crate::progress::Cancelled;
use crate::read::ReadError;
use crate::source::boot::PopulateError;
use crate::source::closure::ScanError;
use crate::source::own::OwnError;
use crate::source::raw::RawError;
use crate::spec::SpecErrors;
use crate::store::ClosureError;
use crate::vfat::VfatError;
use crate::{btrfs, erofs, ext4, verify, verity};

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
    /// GRUB's boot sector is not there.
    #[error("{}: cannot be read: {source}; set grub.bios to the directory lib/grub/i386-pc of GRUB's package", path.display())]
    BootImg {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// GRUB's core image cannot be made.
    #[error("grub: {0}")]
    Core(#[from] CoreError),
    /// Limine's boot code cannot be made.
    #[error("limine: {0}")]
    Limine(#[from] LimineError),
    /// The store's filesystem can have no hash tree.
    #[error(transparent)]
    Verity(#[from] verity::LayoutError),
    /// The hash tree cannot be computed or written.
    #[error("the hash tree: {0}")]
    HashTree(#[source] FormatError),
    /// What boots the image has the root hash of a store that is not built.
    #[error("--only boot: the ESP has the root hash, which is known only when the store is written; leave out --only")]
    BootWithoutStore,
    /// A filesystem is asked for that the image does not have.
    #[error("the image has no ESP; leave out --only, or set efiSysMountPoint to the mount point of one")]
    NoEsp,
    /// Nobody can tell which kernel belongs to an update.
    #[error(
        "EFI/Linux has {found} unified kernel images, and none of them is called {wanted}; leave one, or rename it"
    )]
    ManyKernels {
        /// How many there are.
        found: usize,
        /// What the one of this version would be called.
        wanted: String,
    },
    /// An ESP beside XBOOTLDR does not fit into its partition.
    #[error("the ESP: {}", .0.to_string().replace("bootPartSize", "espSize"))]
    Esp(#[source] VfatError),
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
    /// The store does not fit into an EROFS.
    #[error(transparent)]
    ErofsLayout(#[from] erofs::layout::LayoutError),
    /// The EROFS could not be written.
    #[error(transparent)]
    ErofsWrite(#[from] erofs::writer::WriteError),
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
    #[error("the image was built, but has faults; report this unless the disk or the memory is at fault:{}", lines(.0))]
    NotRight(Vec<verify::Fault>),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BuildError {
    /// Whether it is the spec that has to be mended: it contradicts itself or its closure, or a size in it will not do.
    pub fn is_bad_spec(&self) -> bool {
        match self {
            Self::Spec(_) | Self::NoEsp => true,
            Self::Esp(error) | Self::Vfat(error) => error.is_bad_size(),
            Self::Ext4Layout(error) => matches!(error, ext4::layout::LayoutError::TooLarge),
            Self::BtrfsLayout(error) => matches!(error, btrfs::layout::LayoutError::TooLarge),
            Self::ErofsLayout(error) => matches!(error, erofs::layout::LayoutError::TooLarge),
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
