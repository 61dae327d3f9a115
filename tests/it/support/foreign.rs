//! Images that others made.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::NamedTempFile;

use super::tool::{need, need_root, run, tool};
use super::tree::set_mtime;

/// A tree with what filesystems differ in: inline and long links, holes, an indexed directory, modes and times.
pub(crate) fn plain_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::write(root.join("a/small"), "small").unwrap();
    fs::write(root.join("a/big"), vec![0x5a; 3_000_000]).unwrap();
    let sparse = fs::File::create(root.join("a/b/sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (9 << 20) - 3).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    (0..400).for_each(|n| fs::write(root.join(format!("many/file-{n}")), n.to_string()).unwrap());
    symlink("small", root.join("a/short")).unwrap();
    symlink("y".repeat(200), root.join("a/long")).unwrap();
    fs::set_permissions(root.join("a/small"), fs::Permissions::from_mode(0o755)).unwrap();
    set_mtime(&root.join("a/small"), 1_234_567_890).unwrap();
    set_mtime(&root.join("a/long"), 951_826_554).unwrap();
}

/// `mkfs.ext4 -d`, or `None` where that is not here.
pub(crate) fn mkfs_ext4(source: &Path, options: &[&str]) -> Option<NamedTempFile> {
    if !need("mkfs.ext4") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(64 << 20).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-F"]).args(options).arg("-d").arg(source).arg(image.path()));
    Some(image)
}

/// `mkfs.vfat` and mcopy, or `None` where those are not here.
pub(crate) fn mkfs_fat(source: &Path, fat: &str) -> Option<NamedTempFile> {
    if !need("mkfs.vfat") || !need("mcopy") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(if fat == "12" { 4 << 20 } else { 64 << 20 }).unwrap();
    run(tool("mkfs.vfat").args(["-F", fat, "-n", "OTHERS"]).arg(image.path()));
    let entries = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path());
    run(tool("mcopy").args(["-s", "-m", "-i"]).arg(image.path()).args(entries).arg("::"));
    Some(image)
}

/// A disk as Debian's cloud images have it: partition 14 for the BIOS, 15 the ESP, 1 the root, which comes last.
pub(crate) fn debian_cloud(root: &Path, esp: &Path) -> Option<NamedTempFile> {
    if !need("sgdisk") {
        return None;
    }
    let (root, esp) = (mkfs_ext4(root, &["-L", "root"])?, mkfs_fat(esp, "16")?);
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(160 << 20).unwrap();
    let parts = ["-n14:2048:+3M", "-t14:ef02", "-n15:8192:+64M", "-t15:ef00", "-n1:147456:+64M", "-t1:8304"];
    run(tool("sgdisk").args(parts).arg(image.path()));
    for (partition, at) in [(&esp, 8192u64 * 512), (&root, 147_456 * 512)] {
        let bytes = fs::read(partition.path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(image.as_file(), &bytes, at).unwrap();
    }
    Some(image)
}

/// What systemd-repart makes: an ESP, and an ext4 with `directory` of `root` copied into it. It needs loop devices.
pub(crate) fn repart(root: &Path, directory: &str) -> Option<NamedTempFile> {
    if !need_root() || !need("systemd-repart") || !need("mkfs.ext4") || !need("mkfs.vfat") {
        return None;
    }
    let definitions = tempfile::tempdir().unwrap();
    let esp = "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=64M\nSizeMaxBytes=64M\n";
    let linux =
        format!("[Partition]\nType=linux-generic\nFormat=ext4\nSizeMinBytes=64M\nCopyFiles={directory}:/tree\n");
    fs::write(definitions.path().join("10-esp.conf"), esp).unwrap();
    fs::write(definitions.path().join("20-linux.conf"), linux).unwrap();
    let image = NamedTempFile::new().unwrap();
    fs::remove_file(image.path()).unwrap();
    let mut repart = tool("systemd-repart");
    repart.args(["--empty=create", "--size=auto", "--dry-run=no", "--root"]).arg(root);
    run(repart.arg("--definitions").arg(definitions.path()).arg(image.path()));
    Some(image)
}
