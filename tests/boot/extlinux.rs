//! U-Boot reads extlinux.conf: the way of most boards.

use serde_json::json;

use crate::guest::{Arch, Esp, Root, Variant, closure, closure_with, fixture_path};
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

/// U-Boot looks on partitions that are marked. The one with /boot is not the first.
fn boots_from_beside_the_store(esp: Esp) {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let closure = closure_with(machine.arch, Root::Ext4, Variant { esp, ..Variant::default() }, |closure| closure);
    let Some(closure) = closure else { return };
    let closure = with_extlinux(closure).spec(|spec| {
        let swap = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
        spec["extraPartitions"] = json!([{ "name": "swap", "typeGuid": swap, "size": 8 << 20 }]);
    });
    boot(&format!("u-boot-extlinux-{esp:?}"), machine, closure);
}

#[test]
fn u_boot_without_an_esp() {
    boots_from_beside_the_store(Esp::Nowhere);
}

#[test]
fn u_boot_with_an_esp_for_something_else() {
    boots_from_beside_the_store(Esp::BootEfi);
}
