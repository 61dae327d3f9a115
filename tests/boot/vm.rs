//! `sane-image vm`: what it starts boots, the image stays as it is, and nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::console::{Run, watch};
use crate::extlinux::with_extlinux;
use crate::guest::{Arch, Root, Variant, closure_with};
use crate::machine::{Firmware, Machine};
use crate::row::build;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{run as run_image, sane_image};
use crate::support::tool::{run as run_tool, tool};
use crate::support::tree::Entry;
use crate::systemd_boot::with_systemd_boot;

/// What a system says that has written to its disk, which it does if it has not done so before.
const WROTE: &str = "stage 2: grown\n";

/// A closure, and a place for temporary files of which nothing may stay.
struct Bench {
    closure: Closure,
    temporary: TempDir,
}

impl Bench {
    fn new(closure: ClosureBuilder) -> Self {
        Self { closure: closure.write(), temporary: tempfile::tempdir().unwrap() }
    }

    /// `sane-image vm ARGUMENTS`. KVM may be there and not work; and a machine that panics would start again.
    fn vm(&self, arguments: &[&Path]) -> Command {
        let mut command = sane_image();
        command.arg("vm").args(arguments).args(["--memory", "1G", "--cpus", "1", "--", "-accel", "tcg", "-no-reboot"]);
        command.env("TMPDIR", self.temporary.path());
        command
    }

    fn of_spec(&self, more: &[&Path]) -> Command {
        let spec = self.closure.spec_path();
        let spec: [&Path; 3] = [&spec, "--store-root".as_ref(), self.closure.root()];
        self.vm(&[&spec, more].concat())
    }

    /// A boot to a good verdict, which leaves no file.
    fn good(&self, row: &str, command: &mut Command) -> Run {
        let run = watch(row, command);
        run.expect_good(self.closure.paths.len());
        let left: Vec<_> = fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{row}: left behind: {left:?}");
        run
    }
}

/// A system that writes to its disk at its first boot.
fn closure(arch: Arch, root: Root) -> Option<ClosureBuilder> {
    let variant = Variant { first_boot: Some("write"), ..Variant::default() };
    closure_with(arch, root, variant, |closure| {
        let shell = format!("#!{}/bin/sh\n", closure.store_path("busybox"));
        closure.referring("write", Entry::executable(shell), &["busybox"])
    })
}

fn sum(file: &Path) -> Vec<u8> {
    run_tool(tool("sha256sum").arg(file))
}

#[test]
fn an_image_for_uefi_on_x86_64() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let closure = closure(machine.arch, Root::Ext4).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure.filter(|_| machine.need()) else { return };
    let (closure, built) = build(closure);
    let bench = Bench { closure, temporary: tempfile::tempdir().unwrap() };
    let before = sum(&built.image);
    let run = bench.good("vm-x86_64-image", &mut bench.vm(&[&built.image]));
    run.expect_said(&[WROTE, "a machine with x86_64, UEFI; what it writes is lost\n"]);
    assert_eq!(sum(&built.image), before, "the image was written to");

    // What is kept is another file, and goes on.
    let kept = built.scratch().join("kept,a:b.qcow2");
    let arguments: [&Path; 3] = [&built.image, "--keep".as_ref(), &kept];
    bench.good("vm-keep", &mut bench.vm(&arguments)).expect_said(&[WROTE]);
    assert_eq!(sum(&built.image), before, "the image was written to");
    let again = bench.good("vm-keep-again", &mut bench.vm(&arguments));
    again.expect_said(&["kept,a:b.qcow2 exists: it is booted"]);
    assert!(!again.console().contains(WROTE), "what was written is gone");
}

#[test]
fn a_spec_for_uefi_on_aarch64() {
    let machine = Machine::new(Arch::Aarch64, Firmware::Uefi);
    let closure = closure(machine.arch, Root::Btrfs).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure.filter(|_| machine.need()) else { return };
    let bench = Bench::new(closure);
    let run = bench.good("vm-aarch64-spec", &mut bench.of_spec(&[]));
    run.expect_said(&[WROTE, "a machine with aarch64, UEFI; what it writes is lost\n"]);
}

#[test]
fn a_spec_for_u_boot_with_large_sectors() {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let Some(closure) = closure(machine.arch, Root::Ext4).filter(|_| machine.need()) else { return };
    let bench = Bench::new(with_extlinux(closure).spec(|spec| {
        spec["sectorSize"] = 4096.into();
        spec["bootPartSize"] = (320 << 20).into();
    }));
    let kept = bench.closure.root().join("kept.qcow2");
    let run = bench.good("vm-u-boot-spec", &mut bench.of_spec(&["--keep".as_ref(), &kept]));
    run.expect_said(&[WROTE, "a machine with aarch64, U-Boot; what it writes stays in "]);
    run_image(sane_image().arg("verify").arg(&kept)).expect_success();
}

#[test]
fn a_compressed_image_for_u_boot() {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let Some(closure) = closure(machine.arch, Root::Ext4).filter(|_| machine.need()) else { return };
    let (closure, built) = crate::row::build_as(with_extlinux(closure), &["--format", "zst"]);
    let bench = Bench { closure, temporary: tempfile::tempdir().unwrap() };
    let image = built.image.with_extension("img.zst");
    let virtio: [&Path; 3] = [&image, "--disk".as_ref(), "virtio".as_ref()];
    bench.good("vm-u-boot-zst", &mut bench.vm(&virtio)).expect_said(&[WROTE]);
}
