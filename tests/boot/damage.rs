//! Images that must not pass: each has one thing wrong, and the same judge says so.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::console::watch;
use crate::extlinux::with_extlinux;
use crate::guest::{Arch, INITRD, KERNEL, Root, closure};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::{build, mtool};
use crate::support::closure::{Closure, ClosureBuilder, NIX_UUID};
use crate::support::image::Built;
use crate::support::tool::{need, run, slice, tool, with_suffix};
use crate::systemd_boot::with_systemd_boot;

/// Who boots the damaged image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    UBoot,
    SystemdBoot,
}

impl Loader {
    fn machine(self) -> Machine {
        match self {
            Self::UBoot => Machine::new(Arch::Aarch64, Firmware::UBoot),
            Self::SystemdBoot => Machine::new(Arch::X86_64, Firmware::Uefi),
        }
    }

    fn closure(self) -> Option<ClosureBuilder> {
        let arch = self.machine().arch;
        let closure = closure(arch, Root::Ext4)?;
        match self {
            Self::UBoot => Some(with_extlinux(closure)),
            Self::SystemdBoot => with_systemd_boot(closure, arch),
        }
    }

    /// Where the ESP has a file of a store path.
    fn on_esp(self, store_path: &str, file: &str) -> String {
        match self {
            Self::UBoot => format!("::/nixos/{store_path}-{file}"),
            Self::SystemdBoot => format!("::/EFI/nixos/{store_path}-{file}.efi"),
        }
    }

    fn kernel(self, closure: &Closure) -> String {
        self.on_esp(closure.path(KERNEL).base_name(), self.machine().arch.kernel_file())
    }

    fn initrd(self, closure: &Closure) -> String {
        self.on_esp(closure.path(INITRD).base_name(), "initrd")
    }
}

/// Builds a good image, damages it, and wants a machine to fail with `reason`.
fn fails(row: &str, loader: Loader, tools: &[&str], damage: impl FnOnce(&Closure, &Built), reason: &str) {
    let machine = loader.machine();
    if !machine.need() || !tools.iter().all(|tool| need(tool)) {
        return;
    }
    let Some(closure) = loader.closure() else { return };
    let (closure, built) = build(closure);
    damage(&closure, &built);
    watch(row, &mut machine.command(&built.image, Writes::Forgotten)).expect_bad(&[reason]);
}

fn kernel_missing(row: &str, loader: Loader, reason: &str) {
    let remove = |closure: &Closure, built: &Built| {
        mtool("mdel", built, &[&loader.kernel(closure)]);
    };
    fails(row, loader, &["mdel"], remove, reason);
}

#[test]
fn kernel_missing_u_boot() {
    kernel_missing("damaged-kernel-u-boot", Loader::UBoot, "Skipping nixos-default for failure retrieving kernel");
}

#[test]
fn kernel_missing_systemd_boot() {
    kernel_missing("damaged-kernel-systemd-boot", Loader::SystemdBoot, "Reboot Into Firmware Interface");
}

fn initrd_truncated(row: &str, loader: Loader) {
    let truncate = |closure: &Closure, built: &Built| {
        let scratch = tempfile::tempdir().unwrap();
        let half = scratch.path().join("half");
        let file = loader.initrd(closure);
        mtool("mcopy", built, &["-n", &file, half.to_str().unwrap()]);
        let whole = File::options().write(true).open(&half).unwrap();
        whole.set_len(whole.metadata().unwrap().len() / 2).unwrap();
        mtool("mcopy", built, &["-o", half.to_str().unwrap(), &file]);
    };
    fails(row, loader, &["mcopy"], truncate, "Initramfs unpacking failed");
}

#[test]
fn initrd_truncated_u_boot() {
    initrd_truncated("damaged-initrd-u-boot", Loader::UBoot);
}

#[test]
fn initrd_truncated_systemd_boot() {
    initrd_truncated("damaged-initrd-systemd-boot", Loader::SystemdBoot);
}

/// The initrd waits for the UUID that the spec named.
#[test]
fn wrong_uuid() {
    let rename = |_: &Closure, built: &Built| {
        let nix = slice(&built.image, built.nix());
        run(tool("tune2fs").args(["-U", "00000000-0000-4000-8000-000000000000"]).arg(nix.path()));
        run(tool("dd")
            .args(["bs=1M", "conv=notrunc,sparse", "oflag=seek_bytes"])
            .arg(with_suffix("if=".as_ref(), nix.path().to_str().unwrap()))
            .arg(with_suffix("of=".as_ref(), built.image.to_str().unwrap()))
            .arg(format!("seek={}", built.nix().offset)));
    };
    let reason = format!("VERDICT failed: stage 1: no file system has the UUID {NIX_UUID}");
    fails("damaged-uuid", Loader::UBoot, &["tune2fs"], rename, &reason);
}

/// A changed byte in the store.
#[test]
fn store_path_changed() {
    let machine = Loader::UBoot.machine();
    let (true, Some(closure)) = (machine.need(), Loader::UBoot.closure()) else { return };
    let closure = closure.spec(|spec| spec["extraDirectories"] = ["/nix/store/stray"].as_slice().into()).write();
    let file = closure.on_host(&closure.path("hello").path).join("bin/hello");
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    File::options().write(true).open(&file).unwrap().write_all_at(b"!", 10).unwrap();
    let built = Built::new(&closure, &[]);
    let run = watch("damaged-store", &mut machine.command(&built.image, Writes::Forgotten));
    let changed = format!("FAULT {} differs from its registration\n", closure.path("hello").path);
    run.expect_bad(&[&changed, "FAULT /nix/store/stray is not registered\n", "VERDICT failed: stage 2: 2 faults"]);
}
