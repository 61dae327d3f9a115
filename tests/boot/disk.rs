//! Disks that are unlike most: sectors of 4096 bytes, a partition table that makes room for a boot loader before its
//! entries, and partitions before the ESP that an MBR names, too.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::extlinux::with_extlinux;
use crate::guest::{Arch, Root, closure};
use crate::machine::{Bus, Firmware, Machine};
use crate::row::boot;
use crate::support::closure::ClosureBuilder;
use crate::support::tree::{Contents, Entry};
use crate::systemd_boot::with_systemd_boot;

const MIB: u64 = 1 << 20;
/// Where boards of Allwinner and others look for a boot loader, and where the partition entries are moved out of its
/// way. In bytes.
const LOADER: u64 = 8 << 10;
const ENTRIES: u64 = 16 * MIB;

/// The closure for a disk of 4096-byte sectors. FAT32 has no less than 65,525 clusters, each at least a sector.
fn with_large_sectors(closure: ClosureBuilder) -> ClosureBuilder {
    closure.spec(|spec| {
        spec["sectorSize"] = 4096.into();
        spec["bootPartSize"] = (320 * MIB).into();
    })
}

fn uefi_boots_large_sectors(root: Root) {
    let machine = Machine { sector_size: 4096, ..Machine::new(Arch::X86_64, Firmware::Uefi) };
    let closure = closure(machine.arch, root).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure else { return };
    boot(&format!("systemd-boot-4096-{}", root.name()), machine, with_large_sectors(closure));
}

#[test]
fn uefi_boots_4096_byte_sectors_ext4() {
    uefi_boots_large_sectors(Root::Ext4);
}

#[test]
fn uefi_boots_4096_byte_sectors_btrfs() {
    uefi_boots_large_sectors(Root::Btrfs);
}

/// On NVMe: this U-Boot takes every virtio disk to have 512-byte sectors.
fn u_boot_boots_large_sectors(root: Root) {
    let machine = Machine { sector_size: 4096, bus: Bus::Nvme, ..Machine::new(Arch::Aarch64, Firmware::UBoot) };
    let Some(closure) = closure(machine.arch, root) else { return };
    boot(&format!("u-boot-extlinux-4096-{}", root.name()), machine, with_large_sectors(with_extlinux(closure)));
}

#[test]
fn u_boot_boots_4096_byte_sectors_ext4() {
    u_boot_boots_large_sectors(Root::Ext4);
}

#[test]
fn u_boot_boots_4096_byte_sectors_btrfs() {
    u_boot_boots_large_sectors(Root::Btrfs);
}

/// All between the GPT's header and its entries is a boot loader's, here noise that no table can be seen in.
fn boots_past_a_boot_loader(root: Root) {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let Some(closure) = closure(machine.arch, root) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut noise = vec![0; usize::try_from(ENTRIES - LOADER).unwrap()];
    Contents::Pattern { seed: 8, len: ENTRIES - LOADER }.fill(0, &mut noise);
    let loader = scratch.path().join("loader");
    fs::write(&loader, &noise).unwrap();
    let install = format!("dd if='{}' of=\"$out/nixos.img\" bs=8K seek=1 conv=notrunc", loader.display());
    let closure = with_extlinux(closure).spec(move |spec| {
        // The entries follow on the header's sector, the second of 512 bytes.
        spec["extraGPTPadding"] = json!(ENTRIES - 1024);
        spec["installBootloader"] = install.into();
    });
    let Some((_, built)) = boot(&format!("u-boot-extlinux-padding-{}", root.name()), machine, closure) else { return };
    let mut found = vec![0; noise.len()];
    File::open(&built.image).unwrap().read_exact_at(&mut found, LOADER).unwrap();
    assert!(found == noise, "the boot loader is not where installBootloader wrote it");
}

#[test]
fn u_boot_boots_past_a_boot_loader_ext4() {
    boots_past_a_boot_loader(Root::Ext4);
}

#[test]
fn u_boot_boots_past_a_boot_loader_btrfs() {
    boots_past_a_boot_loader(Root::Btrfs);
}

/// The closure for a disk whose ESP is the second partition of four, and in the MBR, too.
fn with_more_partitions(closure: ClosureBuilder) -> ClosureBuilder {
    let closure = closure.path("platform", Entry::of(Contents::Pattern { seed: 9, len: MIB }));
    let platform = closure.store_path("platform").to_owned();
    closure.spec(move |spec| {
        spec["extraPartitions"] = json!([
            {
                "name": "platform",
                "typeGuid": "fe3a2a5d-4f32-41a7-b725-accc3285a309",
                "attributes": "0x015a000000000000",
                "contents": platform,
                "place": "beforeBoot",
            },
            { "name": "swap", "typeGuid": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "size": 8 * MIB },
        ]);
        spec["hybridMbr"] = json!([{ "partition": "boot", "type": "0x0c", "bootable": true }]);
    })
}

#[test]
fn uefi_boots_more_partitions_and_a_hybrid_mbr() {
    let machine = Machine::new(Arch::X86_64, Firmware::Uefi);
    let closure = closure(machine.arch, Root::Ext4).and_then(|closure| with_systemd_boot(closure, machine.arch));
    let Some(closure) = closure else { return };
    boot("systemd-boot-hybrid", machine, with_more_partitions(closure));
}

#[test]
fn u_boot_boots_more_partitions_and_a_hybrid_mbr() {
    let machine = Machine::new(Arch::Aarch64, Firmware::UBoot);
    let Some(closure) = closure(machine.arch, Root::Ext4) else { return };
    boot("u-boot-extlinux-hybrid", machine, with_more_partitions(with_extlinux(closure)));
}
