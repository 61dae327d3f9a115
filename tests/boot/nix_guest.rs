//! A system with a real Nix, a distribution's, whose stage 2 runs the module's scripts of the first boot and judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::guest::{Arch, Root, busybox_files, fixture, fstab};
use crate::initrd::initrd;
use crate::machine::{Firmware, Machine, Writes};
use crate::support::closure::ClosureBuilder;
use crate::support::machine::install;
use crate::support::tool::need;
use crate::support::tree::{Contents, Entry};

const ARCH: Arch = Arch::X86_64;
/// What the scripts run, stage 2 to judge them, and the shell among them.
const PROGRAMS: [&str; 23] = [
    "bash",
    "btrfs",
    "cat",
    "findmnt",
    "head",
    "mkdir",
    "mount",
    "mountpoint",
    "nix-env",
    "nix-store",
    "partx",
    "realpath",
    "resize2fs",
    "rm",
    "sed",
    "sfdisk",
    "sort",
    "stat",
    "sync",
    "tail",
    "tr",
    "umount",
    "unshare",
];
/// What stage 2 runs of busybox.
const APPLETS: [&str; 19] = [
    "cat", "chmod", "cmp", "cp", "env", "findfs", "grep", "ln", "mkdir", "mount", "poweroff", "readlink", "sh",
    "sleep", "sort", "sync", "touch", "umount", "rm",
];

/// What is in the image.
pub(crate) struct System {
    pub(crate) closure: ClosureBuilder,
    pub(crate) boot: Boot,
}

/// What QEMU is told to boot the image with.
pub(crate) struct Boot {
    kernel: PathBuf,
    /// Holds the initrds.
    scratch: TempDir,
    init: String,
    /// The script that removes the list before anything is made of it.
    pub(crate) hasty_register: String,
}

/// Whether the machine may write to the file system of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Writable,
    ReadOnly,
}

impl Store {
    fn initrd(self) -> &'static str {
        match self {
            Self::Writable => "initrd",
            Self::ReadOnly => "initrd-read-only",
        }
    }
}

/// The system, or `None` where its parts are not here, which has been told.
pub(crate) fn system(root: Root) -> Option<System> {
    if !machine().need() || !PROGRAMS.iter().all(|program| need(program)) {
        return None;
    }
    let (kernel, modules, busybox) = ARCH.parts()?;
    let busybox = fs::read(busybox).unwrap();
    let file_systems = root.file_systems();
    let scratch = tempfile::tempdir().unwrap();
    for store in [Store::Writable, Store::ReadOnly] {
        let mut file_systems = file_systems.clone();
        if let (Store::ReadOnly, Some(nix)) = (store, file_systems.get_mut("/nix")) {
            nix["options"].as_array_mut().unwrap().push("ro".into());
        }
        let initrd = initrd(&busybox, &modules, &fstab(&file_systems, &["/", "/nix"]));
        fs::write(scratch.path().join(store.initrd()), initrd).unwrap();
    }
    let closure = closure(&busybox).spec(move |spec| spec["fileSystems"] = file_systems);
    let init = format!("{}/init", closure.store_path(SYSTEM));
    let hasty_register = closure.store_path("hasty-register").to_owned();
    Some(System { closure, boot: Boot { kernel, scratch, init, hasty_register } })
}

const SYSTEM: &str = "nixos-system-first-boot-test-26.05";

fn closure(busybox: &[u8]) -> ClosureBuilder {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("bin")).unwrap();
    PROGRAMS.iter().for_each(|program| install(program, scratch.path()));
    let register = script("register.sh");
    let closure = ClosureBuilder::new()
        .path("busybox", Entry::dir([("bin", busybox_files(busybox, &APPLETS))]))
        .path("programs", Entry::read(scratch.path()).unwrap())
        .path("grow", Entry::executable(script("grow.sh")))
        .path("hasty-register", Entry::executable(hasty(&register)))
        .path("register", Entry::executable(register))
        .path("dangling", Entry::symlink("/nowhere"))
        // Whatever follows is not part of the system.
        .path("leftover", Entry::dir([("noise", Entry::of(Contents::Pattern { seed: 3, len: 1 << 20 }))]));
    let names = ["busybox", "programs", "grow", "hasty-register", "register", "dangling"];
    let paths: String = names.iter().map(|name| format!("{}\n", closure.store_path(name))).collect();
    let leftover = closure.store_path("leftover").to_owned();
    let stage_2 = names
        .iter()
        .fold(fixture("stage-2-nix"), |script, name| script.replace(&format!("@{name}@"), closure.store_path(name)));
    let tree = |path: &str| {
        Entry::dir([
            ("closure", Entry::file(paths)),
            ("init", Entry::executable(stage_2.replace("@toplevel@", path))),
            ("leftover", Entry::file(leftover)),
            ("nixos-version", Entry::file("26.05.first-boot-test")),
        ])
    };
    closure.derived(SYSTEM, tree, &names).toplevel(SYSTEM)
}

fn script(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/first-boot").join(name)).unwrap()
}

/// The script that registers, with a fault: the list goes before anything is made of it.
fn hasty(register: &str) -> String {
    let load = "if all_are_new; then\n  nix-store --load-db < \"$registration\"\n";
    let hasty = "if true; then\n  list=$(cat \"$registration\")\n  rm \"$registration\"\n  sync\n  \
                 printf '%s\\n' \"$list\" | nix-store --load-db\n  registration=/dev/null\n  exit 0\n";
    assert!(register.contains(load), "register.sh has changed, and so must its faulty counterpart");
    register.replace(load, hasty)
}

fn machine() -> Machine {
    Machine::new(ARCH, Firmware::Skipped)
}

impl Boot {
    /// A machine that boots this disk, with more words on the kernel's command line.
    pub(crate) fn command(&self, disk: &Path, store: Store, words: &str) -> Command {
        let mut command = machine().command(disk, Writes::Kept);
        let line = format!("console={} panic=-1 loglevel=4 init={} {words}", ARCH.console(), self.init);
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(self.scratch.path().join(store.initrd())).args(["-append", &line]);
        command
    }
}
