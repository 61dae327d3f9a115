//! U-Boot reads extlinux.conf: the way of most boards.

use crate::guest::{Arch, Root, closure, fixture_path};
use crate::machine::{Firmware, Machine};
use crate::row::boot;
use crate::support::closure::ClosureBuilder;

/// The closure with a boot partition for U-Boot.
pub(crate) fn with_extlinux(closure: ClosureBuilder) -> ClosureBuilder {
    closure.spec(|spec| spec["populateCmd"] = format!("sh '{}'", fixture_path("populate-extlinux").display()).into())
}

fn boots(root: Root) {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let Some(closure) = closure(machine.arch, root) else { return };
    boot(&format!("u-boot-extlinux-{}", root.name()), machine, with_extlinux(closure));
}

#[test]
fn u_boot_aarch64_ext4() {
    boots(Root::Ext4);
}

#[test]
fn u_boot_aarch64_btrfs() {
    boots(Root::Btrfs);
}
