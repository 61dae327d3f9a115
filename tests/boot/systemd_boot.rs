//! systemd-boot, started by UEFI: the way of PCs and servers.

use crate::guest::{Arch, Root, closure, fixture_path};
use crate::machine::{Firmware, Machine};
use crate::row::boot;
use crate::support::closure::ClosureBuilder;

/// The closure with a boot partition for UEFI.
pub(crate) fn with_systemd_boot(closure: ClosureBuilder, arch: Arch) -> ClosureBuilder {
    let stub = match arch {
        Arch::X86_64 => "/usr/lib/systemd/boot/efi/systemd-bootx64.efi".to_owned(),
        Arch::Aarch64 => {
            concat!(env!("CARGO_MANIFEST_DIR"), "/target/oracles/arm64/usr/lib/systemd/boot/efi/systemd-bootaa64.efi")
                .to_owned()
        }
    };
    closure.spec(move |spec| {
        spec["populateCmd"] = format!("sh '{}' {stub}", fixture_path("populate-systemd-boot").display()).into()
    })
}

fn boots(arch: Arch, root: Root) {
    let machine = Machine::new(arch, Firmware::Uefi);
    let Some(closure) = closure(arch, root) else { return };
    let row = format!("systemd-boot-{}-{}", arch.system(), root.name());
    boot(&row, machine, with_systemd_boot(closure, arch));
}

#[test]
fn uefi_x86_64_ext4() {
    boots(Arch::X86_64, Root::Ext4);
}

#[test]
fn uefi_x86_64_btrfs() {
    boots(Arch::X86_64, Root::Btrfs);
}

#[test]
fn uefi_aarch64_ext4() {
    boots(Arch::Aarch64, Root::Ext4);
}

#[test]
fn uefi_aarch64_btrfs() {
    boots(Arch::Aarch64, Root::Btrfs);
}
