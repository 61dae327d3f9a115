//! A small machine in QEMU: a distribution's kernel and an initrd made for the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use super::skip::{Lack, skip};
use super::tool::{need, run, text, tool};

/// What a virtio disk needs of the kernel, in the order in which it has to be loaded.
const MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"];
/// A QEMU whose serial line is its stdin and stdout, and which ends where a machine would reset.
pub(crate) const HEADLESS: [&str; 8] =
    ["-nographic", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio", "-monitor", "none"];
/// What an init prints once all went well.
const VERDICT: &str = "VERDICT ok";

/// A kernel and an initrd.
pub(crate) struct Machine {
    kernel: PathBuf,
    scratch: TempDir,
}

impl Machine {
    /// A machine that runs the script `tests/fixtures/<init>` with busybox and these programs of the host, or `None`
    /// where that cannot be, which has been told.
    pub(crate) fn new(init: &str, programs: &[&str]) -> Option<Self> {
        let tools = ["qemu-system-x86_64", "busybox", "cpio", "ldd"];
        if !tools.iter().chain(programs).all(|name| need(name)) {
            return None;
        }
        let Some((kernel, modules)) = find_kernel() else {
            skip(Lack::other("no kernel for virtual machines (SANE_IMAGE_TEST_KERNEL)"));
            return None;
        };
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        ["bin", "dev", "proc", "mnt", "modules"].iter().for_each(|dir| fs::create_dir_all(root.join(dir)).unwrap());
        for program in ["busybox"].iter().chain(programs) {
            install(program, &root);
        }
        for module in MODULES {
            let name = format!("{module}.ko");
            let mut files = walkdir::WalkDir::new(&modules).into_iter().map(Result::unwrap);
            let found = files.find(|entry| entry.file_name() == name.as_str());
            let found = found.unwrap_or_else(|| panic!("no {module}.ko in {}", modules.display()));
            fs::copy(found.path(), root.join("modules").join(found.file_name())).unwrap();
        }
        symlink("busybox", root.join("bin/sh")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(init);
        fs::copy(&script, root.join("init")).unwrap();
        let pack = "cd \"$0\" && find . | cpio --quiet -o -H newc > \"$1\"";
        run(tool("sh").args(["-euc", pack]).arg(&root).arg(scratch.path().join("initrd")));
        Some(Self { kernel, scratch })
    }

    /// Runs the machine with `disk` until it resets itself.
    ///
    /// # Panics
    /// If it does not say in time that all went well; its console is shown.
    pub(crate) fn run(&self, disk: &Path) {
        let drive = format!("if=none,id=disk,format=raw,cache=unsafe,file={}", disk.display());
        let output = tool("timeout")
            .args(["120", "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512"])
            .args(HEADLESS)
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(self.scratch.path().join("initrd"))
            .args(["-append", "console=ttyS0,115200 panic=-1 quiet", "-drive", &drive])
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success() && text(&output).contains(VERDICT), "{}\n{}", output.status, text(&output));
    }
}

/// A kernel image and its modules, as unpacked from a package below SANE_IMAGE_TEST_KERNEL.
pub(crate) fn find_kernel() -> Option<(PathBuf, PathBuf)> {
    let root = std::env::var_os("SANE_IMAGE_TEST_KERNEL").map(PathBuf::from);
    kernel_below(&root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracles/kernel")))
}

/// A kernel image and its modules in an unpacked package.
pub(crate) fn kernel_below(root: &Path) -> Option<(PathBuf, PathBuf)> {
    let kernel = fs::read_dir(root.join("boot"))
        .ok()?
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))?;
    Some((kernel, root.join("lib/modules")))
}

/// Copies a program of the host with the libraries that it loads.
pub(crate) fn install(program: &str, root: &Path) {
    let found = run(tool("sh").args(["-c", "command -v \"$0\"", program]));
    let found = PathBuf::from(String::from_utf8(found).unwrap().trim());
    fs::copy(&found, root.join("bin").join(program)).unwrap();
    // Fails for a static program, which needs no library.
    let libraries = text(&tool("ldd").arg(&found).output().unwrap());
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(library, target).unwrap();
    }
}
