//! GRUB's core images: what `grub-install` makes of a host's modules with `grub-mkimage`, by the same program with the same
//! arguments.
//!
//! The prefix, where GRUB looks for its configuration and modules, names a partition and no disk: `(,gpt2)/boot/grub` is on
//! the disk that GRUB was started from, whichever that is. So the image boots in any machine, beside any other disks, and
//! beside a disk with the same image, which a search for the filesystem's UUID could not tell from its own.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;

use crate::output::Scratch;
use crate::spec::FsType;
use crate::tool;

/// The target for BIOS.
const BIOS: &str = "i386-pc";
/// What the names of all targets for UEFI end in.
const EFI: &str = "-efi";

/// What a core image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `grub-mkimage` of the machine that builds, of the same version as the modules.
    pub mkimage: &'a Path,
    /// The directory of modules; its name is the target, `i386-pc`, `x86_64-efi` and so on.
    pub modules: &'a Path,
    /// Where /boot is; `grub` in it has the configuration and the modules.
    pub boot: Boot<'a>,
    /// Names of modules besides those that find the configuration, as of `grub-install --modules`.
    pub extra: &'a [String],
}

/// Where /boot is on GRUB's own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot<'a> {
    /// The number of its partition in the GPT, from 1.
    pub number: u32,
    /// The format of its filesystem.
    pub fs: FsType,
    /// From the filesystem's root, subvolumes of a btrfs included, with a slash before and none behind; "" is the root.
    pub path: &'a str,
}

impl Boot<'_> {
    /// The directory `grub` in it, in GRUB's words: `(,gpt2)/boot/grub`.
    fn prefix(self) -> String {
        format!("(,gpt{}){}/grub", self.number, self.path)
    }

    /// The module that reads the filesystem.
    fn module(self) -> &'static str {
        match self.fs {
            FsType::Vfat => "fat",
            // It reads ext4, too.
            FsType::Ext4 => "ext2",
            FsType::Btrfs => "btrfs",
            FsType::Erofs => "erofs",
        }
    }
}

/// A core image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The file: core.img, or an EFI program.
    pub bytes: Vec<u8>,
}

/// A core image that cannot be made.
#[derive(Debug, Error)]
pub enum CoreError {
    /// The directory of modules is for something else.
    #[error("{}: is not a directory of GRUB's modules for {wanted}; name lib/grub/{wanted} of a GRUB 2", modules.display())]
    Target {
        /// The directory.
        modules: PathBuf,
        /// `i386-pc` or `<processor>-efi`.
        wanted: &'static str,
    },
    /// A name that no module can have.
    #[error("{0:?} is no name of a GRUB module; look at --modules in extraGrubInstallArgs")]
    Module(String),
    /// The program does not start.
    #[error("cannot start {}: {source}; grub.mkimage has to be GRUB's grub-mkimage, for the machine that builds", program.display())]
    Start {
        /// It.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The program fails.
    #[error("{} made no core image of {} ({status}): {output}", program.display(), modules.display())]
    Failed {
        /// It.
        program: PathBuf,
        /// What it was to make an image of.
        modules: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it printed, in one.
        output: String,
    },
    /// There is not a place to make it in, or it is not there in the end.
    #[error("cannot make GRUB's core image in a temporary directory: {0}; set TMPDIR to one that can be written to")]
    Scratch(#[source] io::Error),
}

/// The core image for BIOS: core.img, which [`embed`](super::embed) puts on the disk.
///
/// # Errors
/// If the modules are for something else, or the program does not make it of them.
pub fn bios_core(request: Request<'_>) -> Result<Core, CoreError> {
    if target(request.modules) != Some(BIOS) {
        return Err(CoreError::Target { modules: request.modules.to_owned(), wanted: BIOS });
    }
    make(request, BIOS)
}

/// The core image for UEFI: a program that firmware starts. Its bytes are those of `grub<processor>.efi`.
///
/// # Errors
/// As of [`bios_core`].
pub fn efi_core(request: Request<'_>) -> Result<Core, CoreError> {
    let target = target(request.modules).filter(|name| name.ends_with(EFI));
    let wrong = || CoreError::Target { modules: request.modules.to_owned(), wanted: "<processor>-efi" };
    make(request, target.ok_or_else(wrong)?)
}

fn target(modules: &Path) -> Option<&str> {
    modules.file_name()?.to_str()
}

/// The modules that `grub-install` was told of by `args`, in order: `--modules=NAMES` or `--modules NAMES`.
pub fn extra_modules(args: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let list = match arg.strip_prefix("--modules=") {
            Some(list) => list,
            None if arg == "--modules" => args.next().map_or("", String::as_str),
            None => continue,
        };
        // The last one counts, as for the program itself.
        names = list.split_whitespace().map(str::to_owned).collect();
    }
    names
}

/// What `grub-mkimage` is told, besides its output: what `grub-install` tells it for a disk with a GPT.
///
/// # Errors
/// If the name of a module would be an option.
pub fn arguments(target: &str, request: Request<'_>) -> Result<Vec<OsString>, CoreError> {
    let is_name = |name: &String| {
        !name.is_empty() && !name.starts_with('-') && !name.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if let Some(name) = request.extra.iter().find(|name| !is_name(name)) {
        return Err(CoreError::Module(name.clone()));
    }
    let prefix = request.boot.prefix();
    let options = ["--directory".into(), request.modules.into(), "--prefix".into(), prefix.into()];
    let options = options.into_iter().chain(["--format", target, "--compression", "auto"].map(OsString::from));
    let found = [request.boot.module(), "part_gpt"].into_iter();
    // By UEFI, the kernel of GRUB itself knows the disks.
    let found = found.chain((target == BIOS).then_some("biosdisk")).map(OsString::from);
    Ok(options.chain(request.extra.iter().map(OsString::from)).chain(found).collect())
}

/// Runs the program. Nothing of the user's environment reaches it but where programs are.
fn make(request: Request<'_>, target: &str) -> Result<Core, CoreError> {
    let arguments = arguments(target, request)?;
    let scratch = Scratch::temporary().map_err(CoreError::Scratch)?;
    let file = scratch.path().join("core");
    let arguments = arguments.into_iter().chain(["--output".into(), file.clone().into()]);
    let output = tool::run(request.mkimage, arguments, scratch.path());
    let program = || request.mkimage.to_owned();
    let output = output.map_err(|source| CoreError::Start { program: program(), source })?;
    // Where a module is missing, some versions end with a message, an empty file and no failure.
    let bytes = std::fs::read(&file);
    match bytes {
        Ok(bytes) if output.status.success() && !bytes.is_empty() => Ok(Core { bytes }),
        Err(error) if output.status.success() && error.kind() != io::ErrorKind::NotFound => {
            Err(CoreError::Scratch(error))
        }
        _ => Err(CoreError::Failed {
            program: program(),
            modules: request.modules.to_owned(),
            status: output.status,
            output: tool::last_lines(&output),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn place(fs: FsType, path: &str) -> Boot<'_> {
        Boot { number: 3, fs, path }
    }

    fn told(target: &str, boot: Boot<'_>, extra: &[String]) -> String {
        let request = Request { mkimage: Path::new("mkimage"), modules: Path::new("/m"), boot, extra };
        let told = arguments(target, request).unwrap();
        told.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn arguments_are_those_of_grub_install() {
        for (target, fs, path, extra, wanted) in [
            ("i386-pc", FsType::Ext4, "/boot", vec![], "(,gpt3)/boot/grub ext2 part_gpt biosdisk"),
            ("i386-pc", FsType::Vfat, "", vec!["luks", "lvm"], "(,gpt3)/grub luks lvm fat part_gpt biosdisk"),
            ("i386-pc", FsType::Btrfs, "/@/boot", vec![], "(,gpt3)/@/boot/grub btrfs part_gpt biosdisk"),
            ("x86_64-efi", FsType::Ext4, "/boot", vec![], "(,gpt3)/boot/grub ext2 part_gpt"),
            ("arm64-efi", FsType::Vfat, "", vec!["all_video"], "(,gpt3)/grub all_video fat part_gpt"),
        ] {
            let extra: Vec<_> = extra.into_iter().map(str::to_owned).collect();
            let (prefix, modules) = wanted.split_once(' ').unwrap();
            let wanted = format!("--directory /m --prefix {prefix} --format {target} --compression auto {modules}");
            assert_eq!(told(target, place(fs, path), &extra), wanted);
        }
    }

    #[test]
    fn modules_are_taken_from_the_arguments_of_grub_install() {
        let found =
            |args: &[&str]| extra_modules(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>()).join(",");
        assert_eq!(found(&["--removable", "--modules=ahci  lvm", "--force"]), "ahci,lvm");
        assert_eq!(found(&["--modules=a", "--modules", "b c"]), "b,c");
        assert_eq!(found(&["--modules"]), "");
        assert_eq!(found(&["--modules-dir=x", "modules=y"]), "");
    }

    /// What becomes of a program that is this script.
    fn run(script: &str, modules: &str, extra: &[String]) -> Result<Vec<u8>, CoreError> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("mkimage");
        // By another process: while this one has it open for writing, a child of another thread does, too, and then it
        // cannot be run.
        let write = "printf '#!/bin/sh\\n%s' \"$1\" > \"$0\"; chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", write]).arg(&program).arg(script).status().unwrap().success());
        let boot = place(FsType::Ext4, "/boot");
        let request = Request { mkimage: &program, modules: Path::new(modules), boot, extra };
        let made = if modules.ends_with("-efi") { efi_core(request) } else { bios_core(request) };
        made.map(|core| core.bytes)
    }

    const OUTPUT: &str = "while [ \"$1\" != --output ]; do shift; done; ";

    #[test]
    fn the_program_is_told_where_and_sees_no_environment() {
        let script = format!("{OUTPUT} env | grep -v -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= > \"$2\"");
        assert_eq!(run(&script, "/m/i386-pc", &[]).unwrap(), b"LC_ALL=C\n");
        assert_eq!(run(&format!("{OUTPUT} printf x > \"$2\""), "/m/ia64-efi", &[]).unwrap(), b"x");
    }

    #[test]
    fn failures_say_what_was_run_and_what_it_said() {
        let failed = |script: &str| run(script, "/m/i386-pc", &[]).unwrap_err().to_string();
        let said = failed("echo 'cannot open `x.mod`' >&2; exit 1");
        assert!(
            said.contains("mkimage made no core image of /m/i386-pc (exit status: 1): cannot open `x.mod`"),
            "{said}"
        );
        assert!(failed("kill -9 $$").contains("signal: 9"), "{}", failed("kill -9 $$"));
        // Success without an image is none.
        assert!(failed("exit 0").contains("it printed nothing"));
        assert!(failed(&format!("{OUTPUT} : > \"$2\"; echo odd")).ends_with("(exit status: 0): odd"));
        let refused = |modules: &str, extra: &str| run("exit 1", modules, &[extra.to_owned()]).unwrap_err();
        assert!(matches!(refused("/m/i386-pc", "--output=/etc/passwd"), CoreError::Module(_)));
        assert!(matches!(refused("/m/i386-pc", ""), CoreError::Module(_)));
        assert!(matches!(refused("/m/i386-qemu", "a"), CoreError::Target { wanted: "i386-pc", .. }));
        let boot = place(FsType::Ext4, "");
        let nowhere =
            Request { mkimage: Path::new("/no/mkimage"), modules: Path::new("/x86_64-efi"), boot, extra: &[] };
        assert!(matches!(efi_core(nowhere), Err(CoreError::Start { .. })));
        let bios = Request { modules: Path::new("/m/i386-pc"), ..nowhere };
        assert!(matches!(efi_core(bios), Err(CoreError::Target { .. })));
    }
}
