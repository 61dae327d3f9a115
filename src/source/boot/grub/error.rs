//! The errors of laying out GRUB.

use std::path::PathBuf;

use thiserror::Error;

/// GRUB cannot be laid out.
#[derive(Debug, Error)]
pub enum GrubError {
    /// A system without a kernel or an initrd has no entry.
    #[error("{}: has no {missing}, so that GRUB has no entry to boot; set boot.kernel.enable and boot.initrd.enable", toplevel.display())]
    NoEntry {
        /// The system.
        toplevel: PathBuf,
        /// "kernel" or "initrd".
        missing: &'static str,
    },
    /// A specialisation's name cannot be made.
    #[error("{}: has neither nixos-version nor a kernel with lib/modules beside it, of which GRUB's entry is to tell one", system.display())]
    NoVersion {
        /// The specialisation.
        system: PathBuf,
    },
    /// A text that would spoil grub.cfg.
    #[error("{}: {text:?} holds {what}, which grub.cfg cannot hold there; {remedy}", path.display())]
    Text {
        /// The file that holds it.
        path: PathBuf,
        /// The text.
        text: String,
        /// What is wrong with it.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// What the installer on the machine would not find a name for.
    #[error("{}: leads to {}, outside the store; the files of a boot entry must be in it", path.display(), target.display())]
    OutsideStore {
        /// The file.
        path: PathBuf,
        /// Where it really is.
        target: PathBuf,
    },
    /// A filesystem that GRUB is to find by its label.
    #[error("fsIdentifier: {device} has no label; set boot.loader.grub.fsIdentifier = \"uuid\"")]
    NoLabel {
        /// The filesystem's device.
        device: String,
    },
    /// A directory of modules without modules.
    #[error("{}: has no {wanted}; set it to the directory of modules of a grub package", directory.display())]
    NoModules {
        /// The directory.
        directory: PathBuf,
        /// A file looked for.
        wanted: &'static str,
    },
    /// A file or nothing where a directory is wanted.
    #[error("{field}: {} is not a directory; set it to one, or to null", path.display())]
    NotADirectory {
        /// The field of the spec.
        field: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// A core image is missing.
    #[error("{target}: GRUB's modules are there, and no core image; make one with grub-mkimage")]
    NoCore {
        /// The target, such as `i386-pc`.
        target: String,
    },
    /// Files that go to a filesystem that is not in the image.
    #[error("extraFiles: {} is not on the image; set boot.loader.efi.efiSysMountPoint to /boot", mount_point.display())]
    NoExtraPlace {
        /// Where they are to go.
        mount_point: PathBuf,
    },
}
