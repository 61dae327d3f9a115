//! Tests of devices, with made-up machines: hardware that no test machine has, and cases that users of other card
//! writers have met.

use std::fs;
use std::path::Path;

use super::machine::{DEMANDS, GB, MadeUp, NVME, SATA, SLOT, USB};
use super::{
    Attachment, Bus, Demands, FixedDisk, Found, Kind, Reason, Refusal, candidates, describe, look, look_again, summary,
};
use crate::units::SectorSize;

/// A machine with a card reader, a stick, an NVMe, a disk on SATA.
fn pc() -> MadeUp {
    let machine = MadeUp::new();
    let stick = [("device/vendor", "SanDisk "), ("device/model", "Ultra Fit       "), ("diskseq", "9")];
    machine.disk("sdb", "8:16", USB, 31_914_983_424, &stick);
    machine.file("sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/idVendor", "0781\n");
    machine.file("sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/serial", "4C530001\n");
    machine.disk("sda", "8:0", SATA, 500 * GB, &[("device/vendor", "ATA     "), ("device/model", "CT500MX500")]);
    let nvme = [("device/model", "Samsung SSD 970 EVO  "), ("device/serial", "S466  ")];
    machine.disk("nvme0n1", "259:0", NVME, 1000 * GB, &nvme);
    machine
}

fn names(machine: &MadeUp) -> Vec<String> {
    candidates(&machine.host(), &DEMANDS).into_iter().map(|candidate| candidate.device.name).collect()
}

#[test]
fn what_kind_of_thing_it_is() {
    let machine = pc();
    let card = [("device/name", "SD32G"), ("device/type", "SD"), ("device/serial", "0x1a2b3c4d")];
    machine.disk("mmcblk0", "179:0", SLOT, 32 * GB, &card);
    let emmc = "platform/soc/fe330000.mmc/mmc_host/mmc1/mmc1:0001/block";
    machine.disk("mmcblk1", "179:32", emmc, 64 * GB, &[("device/name", "DF4064"), ("device/type", "MMC")]);
    machine.disk("loop0", "7:0", "virtual/block", GB, &[("loop/backing_file", "/home/u/disk.img")]);
    let thunderbolt = "pci0000:00/0000:00:07.0/0000:20:00.0/nvme/nvme1";
    machine.disk("nvme1n1", "259:5", thunderbolt, GB, &[]);
    machine.file("sys/devices/pci0000:00/0000:00:07.0/0000:20:00.0/removable", "removable\n");
    for (path, bus, attachment, name, serial) in [
        // A stick's `removable` is often 0: nothing leaves the drive (caligula 275).
        ("/dev/sdb", Bus::Usb, Attachment::Removable, Some("SanDisk Ultra Fit"), Some("4C530001")),
        ("/dev/sda", Bus::Ata, Attachment::Fixed, Some("CT500MX500"), None),
        ("/dev/nvme0n1", Bus::Nvme, Attachment::Fixed, Some("Samsung SSD 970 EVO"), Some("S466")),
        ("/dev/nvme1n1", Bus::Nvme, Attachment::Removable, None, None),
        // Both are called mmcblk (rpi-imager 1658).
        ("/dev/mmcblk0", Bus::Sd, Attachment::Removable, Some("SD32G"), Some("0x1a2b3c4d")),
        ("/dev/mmcblk1", Bus::Emmc, Attachment::Fixed, Some("DF4064"), None),
        ("/dev/loop0", Bus::Loop, Attachment::File, Some("/home/u/disk.img"), None),
        ("/dev/vda", Bus::Virtio, Attachment::Fixed, None, None),
    ] {
        let device = machine.look(path);
        assert_eq!((device.bus, device.attachment), (bus, attachment), "{path}");
        assert_eq!((device.identity.name().as_deref(), device.identity.serial.as_deref()), (name, serial), "{path}");
    }
}

#[test]
fn a_good_device_is_refused_for_nothing() {
    let machine = pc();
    machine.link("dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0", "../../sdb");
    let device = machine.look("/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0");
    assert_eq!(device.refusals(&DEMANDS), []);
    assert_eq!(device.node, Path::new("/dev/sdb"));
    assert_eq!(device.title(), "/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0 (sdb)");
    let shown = describe(&device);
    assert_eq!(
        shown[1..],
        [
            "  model      SanDisk Ultra Fit",
            "  serial     4C530001",
            "  size       31.9 GB (31,914,983,424 bytes)",
            "  sectors    512 bytes",
            "  attached   USB, removable",
            "  holds      nothing that sane-image knows",
        ]
    );
}

/// All of coreos-installer's "busy partitions" (261, 276) at once, and what ends each.
#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let machine = pc();
    for number in 1..=6 {
        machine.partition("sdb", number, &format!("8:{}", 16 + number), GB);
    }
    machine.mount("8:17", "/run/media/u/My\\040Card", "vfat", "/dev/sdb1", "rw");
    machine.mount("8:17", "/mnt", "vfat", "/dev/sdb1", "rw");
    machine.swap("/dev/sdb2");
    machine.mapping("dm-0", "253:0", "home", "CRYPT-LUKS2-0123-home", &["sdb3"]);
    machine.mount("253:0", "/home", "ext4", "/dev/mapper/home", "rw");
    machine.mapping("dm-1", "253:1", "luks", "CRYPT-LUKS2-4567-luks", &["sdb4"]);
    machine.mapping("dm-2", "253:2", "my--vg-a", "LVM-abc", &["dm-1"]);
    machine.mapping("dm-3", "253:3", "my--vg-b", "LVM-def", &["dm-1"]);
    machine.mount("253:2", "/srv", "xfs", "/dev/mapper/my--vg-a", "rw");
    machine.disk("md127", "9:127", "virtual/block", GB, &[]);
    machine.hold("sdb5", "md127");
    machine.disk("loop3", "7:3", "virtual/block", GB, &[("loop/backing_file", "/dev/sdb6")]);
    machine.set("sdb", "ro", "1");
    machine.set("sdb", "queue/logical_block_size", "4096");
    let demands = Demands { size: 32 * GB, sector_size: Some(SectorSize::B512), fixed_disk: FixedDisk::Refused };
    let refusals = machine.look("/dev/sdb").refusals(&demands);
    let said: Vec<_> = refusals.iter().map(Refusal::why).collect();
    assert_eq!(
        said,
        [
            "its partition 1 is mounted at /mnt, /run/media/u/My Card; first run `umount /mnt '/run/media/u/My Card'`",
            "its partition 2 is used as swap; first run `swapoff /dev/sdb2`",
            "its partition 3 is held by /dev/mapper/home (dm-crypt), which is mounted at /home; first run `umount /home`, \
             then `cryptsetup close home`",
            "its partition 4 is held by /dev/mapper/luks (dm-crypt), which is mounted at /srv; first run `umount /srv`, \
             then `vgchange -an my-vg`, then `cryptsetup close luks`",
            "its partition 5 is held by /dev/md127 (software RAID); first run `mdadm --stop /dev/md127`",
            "its partition 6 is held by /dev/loop3 (a loop device); first run `losetup -d /dev/loop3`",
            "is write-protected: slide the lock switch of the card or its adapter away from \"Lock\"; a card without a \
             switch is worn out",
            "is too small: it has 31,914,983,424 bytes (31.9 GB); 32,000,000,000 bytes (32.0 GB) are needed, so \
             85,016,576 bytes (85.0 MB) are missing",
            "has sectors of 4096 bytes, and the image is laid out for 512; build an image with `sectorSize = 4096`",
        ]
    );
    assert!(refusals.iter().all(|refusal| refusal.to_string().starts_with("/dev/sdb: ")));
}

/// armbian-imager 160: only the system's own disk was known as in use, and the one with /home was offered.
#[test]
fn a_disk_that_is_not_the_systems_is_as_safe() {
    let machine = pc();
    machine.mount("259:0", "/home", "ext4", "/dev/nvme0n1", "rw");
    let (reasons, _) = machine.refusals("/dev/nvme0n1");
    assert_eq!(reasons, [Reason::Mounted, Reason::Fixed]);
}

/// fio 1820: what a container or a service has mounted for itself is in no mount table of ours.
#[test]
fn mounts_that_only_others_see() {
    let machine = pc();
    machine.link("proc/self/ns/mnt", "mnt:[1]");
    for (id, namespace) in [("7", "mnt:[1]"), ("812", "mnt:[2]"), ("813", "mnt:[2]")] {
        machine.link(&format!("proc/{id}/ns/mnt"), namespace);
        machine.file(&format!("proc/{id}/comm"), "backup\n");
        machine.mount_for(id, "8:16", "/data", "ext4", "/dev/sdb", "rw");
    }
    let (reasons, said) = machine.refusals("/dev/sdb");
    assert_eq!(reasons, [Reason::Mounted]);
    let told = "is mounted at /data for process 812 (backup) alone; first run `nsenter -m -t 812 umount /data`";
    assert_eq!(said, [told]);
}

/// The number of a mounted btrfs is no device's, and only one of its devices is named.
#[test]
fn every_device_of_a_btrfs() {
    let machine = pc();
    machine.partition("sdb", 1, "8:17", GB);
    for device in ["sda", "sdb1"] {
        machine.file(&format!("sys/fs/btrfs/0123-4567/devices/{device}"), "");
    }
    machine.mount("0:42", "/pool", "btrfs", "/dev/sda", "rw");
    assert_eq!(machine.refusals("/dev/sda").0, [Reason::Mounted, Reason::Fixed]);
    let told = "its partition 1 is mounted at /pool; first run `umount /pool`";
    assert_eq!(machine.refusals("/dev/sdb").1, [told]);
    // Named in a way that is gone after the initrd: every btrfs could be meant.
    machine.file("proc/self/mountinfo", "");
    machine.mount("0:42", "/", "btrfs", "/dev/root", "rw");
    assert_eq!(machine.refusals("/dev/sda").0, [Reason::System]);
    assert_eq!(machine.refusals("/dev/sdb").0, [Reason::System]);
    assert_eq!(machine.refusals("/dev/vda").0, [Reason::Fixed]);
}

#[test]
fn the_running_systems_disk() {
    let said = "the running system has its / and /nix/store on it; boot from something else to write to it";
    // On a plain disk; and the disk under crypt and LVM.
    let machine = pc();
    assert_eq!(machine.refusals("/dev/vda").1, [said]);
    machine.partition("nvme0n1", 2, "259:2", GB);
    machine.mapping("dm-0", "253:0", "root", "CRYPT-LUKS2-0-root", &["nvme0n1p2"]);
    machine.mapping("dm-1", "253:1", "vg-root", "LVM-0", &["dm-0"]);
    machine.file("proc/self/mountinfo", "");
    machine.mount("253:1", "/", "ext4", "/dev/mapper/vg-root", "rw");
    machine.mount("0:20", "/proc", "proc", "proc", "rw");
    for path in ["/dev/nvme0n1", "/dev/mapper/root", "/dev/dm-1"] {
        assert_eq!(machine.refusals(path).1, [said], "{path}");
    }
    // A live stick: the store is an overlay over a squashfs in a file on the stick.
    machine.file("proc/self/mountinfo", "");
    machine.partition("sdb", 1, "8:17", GB);
    machine.disk("loop0", "7:0", "virtual/block", GB, &[("loop/backing_file", "/iso/nix-store.squashfs")]);
    machine.mount("0:3", "/", "tmpfs", "tmpfs", "rw");
    machine.mount("8:17", "/iso", "iso9660", "/dev/sdb1", "ro");
    machine.mount("7:0", "/nix/.ro-store", "squashfs", "/dev/loop0", "ro");
    let layers = "rw,lowerdir=/nix/.ro-store,upperdir=/nix/.rw-store/store,workdir=/nix/.rw-store/work";
    machine.mount("0:9", "/nix/store", "overlay", "overlay", layers);
    let said = "the running system has its /nix/store on it; boot from something else to write to it";
    assert_eq!(machine.refusals("/dev/sdb").1, [said]);
    assert_eq!(machine.refusals("/dev/nvme0n1").0, [Reason::Held, Reason::Fixed]);
}

#[test]
fn a_partition_is_no_disk() {
    let machine = pc();
    machine.partition("nvme0n1", 2, "259:2", GB);
    let told = "is partition 2 of /dev/nvme0n1, and an image has partitions itself; name /dev/nvme0n1";
    assert_eq!(machine.refusals("/dev/nvme0n1p2").1, [told]);
    // An eMMC's areas for firmware look like disks.
    let emmc = "platform/soc/fe330000.mmc/mmc_host/mmc1/mmc1:0001/block";
    machine.disk("mmcblk1", "179:32", emmc, 64 * GB, &[("device/type", "MMC")]);
    machine.disk("mmcblk1boot0", "179:64", &format!("{emmc}/mmcblk1"), 4_194_304, &[("ro", "1")]);
    let boot = machine.look("/dev/mmcblk1boot0");
    assert_eq!(boot.kind, Kind::BootArea { disk: "/dev/mmcblk1".into() });
    assert_eq!(machine.refusals("/dev/mmcblk1boot0").0[0], Reason::NotWhole);
    assert!(!names(&machine).contains(&"mmcblk1boot0".to_owned()));
}

/// coreos/bugs 2556: the mapping of several ways is the disk; the ways are not.
#[test]
fn several_ways_to_one_disk() {
    let machine = pc();
    let san = "pci0000:00/0000:05:00.0/host2/rport-2:0-0/target2:0:0/2:0:0:0/block";
    machine.disk("sdc", "8:32", san, 100 * GB, &[]);
    machine.mapping("dm-0", "253:0", "mpatha", "mpath-3600", &["sdc"]);
    machine.mapping("dm-1", "253:1", "mpatha1", "part1-mpath-3600", &["dm-0"]);
    let told = "is held by /dev/mapper/mpatha (multipath); it is one of several paths to the same disk; name /dev/mapper/mpatha";
    assert_eq!(machine.refusals("/dev/sdc").1[0], told);
    let told = "is partition 1 of /dev/mapper/mpatha, and an image has partitions itself; name /dev/mapper/mpatha";
    assert_eq!(machine.refusals("/dev/mapper/mpatha1").1, [told]);
    assert_eq!(machine.refusals("/dev/mapper/mpatha").0, [Reason::Held, Reason::Fixed]);
}

/// popsicle 7 and 109, rpi-imager 33: slots without cards were offered, and writing to them failed.
#[test]
fn an_empty_slot() {
    let machine = pc();
    machine.disk("sdc", "8:32", &USB.replace("1-2", "1-3"), 0, &[("removable", "1"), ("ro", "1")]);
    let told = "has no medium: the reader is empty, or the card is not all the way in; put one in";
    assert_eq!(machine.refusals("/dev/sdc").1, [told]);
    assert!(!names(&machine).contains(&"sdc".to_owned()));
}

/// rpi-imager 158, 748 and 1420: an NVMe that nothing uses was not offered, or only as the system's. 1352: an unused card
/// was taken for the system's.
#[test]
fn candidates_are_all_disks_and_say_what_is_against_them() {
    let machine = pc();
    machine.disk("sr0", "11:0", &SATA.replace("ata1", "ata2"), GB, &[("removable", "1")]);
    machine.disk("zram0", "252:0", "virtual/block", GB, &[]);
    machine.disk("loop0", "7:0", "virtual/block", 0, &[]);
    machine.disk("nvme0c0n1", "259:9", &NVME.replace("nvme0", "nvme7"), GB, &[("hidden", "1")]);
    machine.mapping("dm-0", "253:0", "x", "CRYPT-PLAIN-x", &["sda"]);
    machine.link("dev/disk/by-id/nvme-Samsung_SSD_970_EVO_S466", "../../nvme0n1");
    machine.link("dev/disk/by-id/nvme-Samsung_SSD_970_EVO_S466_1", "../../nvme0n1");
    machine.link("dev/disk/by-id/nvme-eui.0025385b", "../../nvme0n1");
    machine.link("dev/disk/by-id/wwn-0x5", "../../sdb");
    let candidates = candidates(&machine.host(), &DEMANDS);
    let shown = candidates.iter().map(|candidate| {
        let reasons: Vec<_> = candidate.refusals.iter().filter_map(Refusal::reason).collect();
        (candidate.device.title(), reasons)
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("/dev/disk/by-id/wwn-0x5 (sdb)".to_owned(), vec![]),
            ("/dev/sda".to_owned(), vec![Reason::Held, Reason::Fixed]),
            ("/dev/vda".to_owned(), vec![Reason::System]),
            ("/dev/disk/by-id/nvme-Samsung_SSD_970_EVO_S466 (nvme0n1)".to_owned(), vec![Reason::Fixed]),
        ]
    );
    let fixed = Demands { fixed_disk: FixedDisk::Allowed, ..DEMANDS };
    assert_eq!(candidates[3].device.refusals(&fixed), []);
    let disc = machine.refusals("/dev/sr0");
    assert_eq!(disc.0, [Reason::Optical]);
}

/// udisks 490: sticks of one make with one serial number. A name leads to one of them, and the other keeps its own.
#[test]
fn two_with_one_serial_number() {
    let machine = pc();
    let stick = [("device/vendor", "SanDisk "), ("device/model", "Ultra Fit"), ("device/serial", "4C530001")];
    machine.disk("sdc", "8:32", &USB.replace("host6", "host7"), 32 * GB, &stick);
    machine.partition("sdb", 1, "8:17", GB);
    machine.mount("8:17", "/mnt", "vfat", "/dev/sdb1", "rw");
    machine.link("dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0", "../../sdc");
    let candidates = candidates(&machine.host(), &DEMANDS);
    let paths: Vec<_> = candidates.iter().map(|candidate| candidate.device.path.display().to_string()).collect();
    assert_eq!(paths[..2], ["/dev/sdb", "/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0"]);
    assert_eq!((candidates[0].refusals.len(), candidates[1].refusals.len()), (1, 0));
}

/// fwup 35: a file of the name of a missing device was made in /dev. growlight 128: such a file stood there.
/// hypriot/flash 118: a name without its /dev.
#[test]
fn what_is_no_device() {
    let machine = pc();
    machine.link("dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0", "../../sdb");
    machine.file("dev/sdo", "a filesystem");
    machine.file("home/u/disk.img", vec![0; 4096]);
    machine.link("home/u/gone", "/dev/disk/by-id/usb-gone");
    let host = machine.host();
    let refused = |path: &str| look(&host, Path::new(path)).unwrap_err().to_string();
    for (path, told) in [
        ("/dev/sdo", "is a regular file in memory, left by a program that found no device there (`rm` removes it)"),
        ("/dev", "is a directory, not a disk"),
        ("/home/u/disk.img/x", "Not a directory"),
        ("sdb", "there is no such device; did you mean /dev/sdb?"),
        (
            "/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001",
            "did you mean /dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C530001-0:0",
        ),
        ("/tmp/nothing/like/it", "leave the device out to see which there are"),
        ("/dev/sdq", "did you mean /dev/sda or /dev/sdb?"),
        ("/dev/sdbb", "did you mean /dev/sdb?"),
        ("/home/u/sdb", "there is nothing of that name"),
        ("/home/u/gone", "there is nothing of that name"),
    ] {
        assert!(refused(path).contains(told), "{}", refused(path));
    }
    assert!(!machine.at("dev/sdq").exists());

    let Ok(Found::File(file)) = look(&host, Path::new("/home/u/disk.img")) else { panic!("no file") };
    assert_eq!((file.size, file.refusals()), (4096, vec![]));
    machine.disk("loop0", "7:0", "virtual/block", GB, &[("loop/backing_file", "/home/u/disk.img")]);
    machine.swap("/home/u/disk.img");
    let Ok(Found::File(file)) = look(&host, Path::new("/home/u/disk.img")) else { panic!("no file") };
    let said: Vec<_> = file.refusals().iter().map(Refusal::why).collect();
    assert_eq!(said[0], "is attached to /dev/loop0; first run `losetup -d /dev/loop0`, or name that device");
    assert_eq!(said[1], "is used as swap; first run `swapoff /home/u/disk.img`");
}

#[test]
fn another_medium_is_another_device() {
    let machine = pc();
    let before = machine.look("/dev/sdb");
    assert_eq!(look_again(&machine.host(), &before, &DEMANDS), Ok(()));
    for (attribute, value, told) in [
        ("diskseq", "10", "another medium"),
        ("size", "1", "another size"),
        ("device/model", "Cruzer", "another model"),
    ] {
        let machine = pc();
        machine.set("sdb", attribute, value);
        let refused = look_again(&machine.host(), &before, &DEMANDS).unwrap_err();
        assert!(refused.to_string().contains(told), "{refused}");
        assert_eq!(refused.0[0].reason(), Some(Reason::Changed));
    }
    // A desktop has mounted it meanwhile; or it is gone.
    machine.mount("8:16", "/run/media/u/x", "vfat", "/dev/sdb", "rw");
    assert_eq!(look_again(&machine.host(), &before, &DEMANDS).unwrap_err().0[0].reason(), Some(Reason::Mounted));
    fs::remove_file(machine.at("dev/sdb")).unwrap();
    let gone = look_again(&machine.host(), &before, &DEMANDS).unwrap_err();
    assert!(gone.to_string().starts_with("/dev/sdb: there is nothing of that name"), "{gone}");
}

/// A label is whatever its writer wanted, and so are a model and a mount point.
#[test]
fn nothing_of_a_device_reaches_the_terminal_raw() {
    let machine = pc();
    machine.set("sdb", "device/model", "\u{1b}[2Jgood");
    machine.partition("sdb", 1, "8:17", GB);
    machine.udev(
        "8:17",
        &[("ID_FS_TYPE", "ntfs\u{1b}c"), ("ID_FS_LABEL_ENC", "\\x1b]0;x\\x07"), ("ID_PART_ENTRY_NAME", "a\\x0ab")],
    );
    machine.mount("8:17", "/mnt/\\033[8m\\012x", "ntfs", "/dev/sdb1", "rw");
    machine.mapping("dm-0", "253:0", "\u{1b}[1m", "CRYPT-PLAIN-x", &["sdb1"]);
    let device = machine.look("/dev/sdb");
    let mut shown = describe(&device);
    shown.push(summary(&device));
    shown.extend(device.refusals(&DEMANDS).iter().map(ToString::to_string));
    assert!(shown.iter().all(|line| !line.contains(|c: char| c.is_control())), "{shown:?}");
    for told in ["\\u{1b}[2Jgood", "\\u{1b}]0;x\\u{7} (a\\nb)", "/mnt/\\u{1b}[8m\\nx", "ntfs\\u{1b}c"] {
        assert!(shown.iter().any(|line| line.contains(told)), "{told}: {shown:?}");
    }
}
