//! The filesystem lives on after us: it is grown, written to, cut off, and keeps every file.

use std::fs::{self, File};
use std::path::Path;

use crate::judge::{expected, numbered};
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{build_command, run};
use crate::support::machine::Machine;
use crate::support::mount::{Access, Mount};
use crate::support::oracle::{e2fsck, resize2fs, whole};
use crate::support::tool::tool;
use crate::support::tree::{Contents, Entry};

/// A bare nix filesystem of more than one block group, and the closure in it.
fn filesystem(dir: &Path) -> (Closure, std::path::PathBuf) {
    let file = |i: usize| Entry::of(Contents::Pattern { seed: i as u64, len: 70_000 });
    let closure = ClosureBuilder::new()
        .path("files", numbered(500, file))
        .path("names", numbered(3_000, |i| Entry::symlink(format!("{i}"))))
        .path("large", Entry::of(Contents::zeros(150 << 20)))
        .write();
    let image = dir.join("nix.img");
    run(&mut build_command(&closure.spec_path(), closure.root(), &image, &["--only", "nix"])).expect_success();
    (closure, image)
}

fn grow_file(image: &Path, factor: u64) {
    let file = File::options().write(true).open(image).unwrap();
    file.set_len(file.metadata().unwrap().len() * factor).unwrap();
}

#[test]
fn grown_offline_to_eight_times_and_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (closure, image) = filesystem(dir.path());
    grow_file(&image, 8);
    resize2fs(&image, None).expect_clean();
    e2fsck(&image, whole(&image)).expect_clean();
    if let Some(mount) = Mount::new(&image, whole(&image), "ext4", Access::ReadWrite) {
        expected(&closure, "nix/store").assert_equals(mount.path());
        write_and_remove(mount.path());
    }
    e2fsck(&image, whole(&image)).expect_clean();
}

/// Shrinking moves what we placed: all maps are as resize2fs expects them.
#[test]
fn shrunk_to_its_least() {
    let dir = tempfile::tempdir().unwrap();
    let (closure, image) = filesystem(dir.path());
    grow_file(&image, 3);
    resize2fs(&image, None).expect_clean();
    resize2fs(&image, Some(70_000)).expect_clean();
    e2fsck(&image, whole(&image)).expect_clean();
    if let Some(mount) = Mount::new(&image, whole(&image), "ext4", Access::ReadOnly) {
        expected(&closure, "nix/store").assert_equals(mount.path());
    }
}

/// The backups of the superblock and the descriptors are as good as the primary ones.
#[test]
fn repaired_from_a_backup_superblock() {
    use std::os::unix::fs::FileExt;
    if !crate::support::tool::need("e2fsck") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_closure, image) = filesystem(dir.path());
    File::options().write(true).open(&image).unwrap().write_all_at(&[0; 8192], 0).unwrap();
    e2fsck(&image, whole(&image)).expect_damage();
    let output = tool("e2fsck").args(["-fy", "-b", "32768", "-B", "4096"]).arg(&image).output().unwrap();
    // Nothing but the primary copies had to be mended: 0, or 1 for "errors were corrected".
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    e2fsck(&image, whole(&image)).expect_clean();
}

/// A copy of the disk taken while it is mounted is what a machine finds after its power was cut.
#[test]
fn cut_off_while_mounted_the_journal_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (_closure, image) = filesystem(dir.path());
    let cut_off = dir.path().join("cut-off.img");
    {
        let Some(mount) = Mount::new(&image, whole(&image), "ext4", Access::ReadWrite) else { return };
        write_and_remove(mount.path());
        fs::write(mount.path().join("last"), "written last").unwrap();
        crate::support::tool::run(tool("sync").arg("-f").arg(mount.path()));
        crate::support::tool::run(tool("cp").arg("--sparse=always").args([&image, &cut_off]));
    }
    e2fsck(&cut_off, whole(&cut_off)).expect_damage();
    if let Some(mount) = Mount::new(&cut_off, whole(&cut_off), "ext4", Access::ReadWrite) {
        assert_eq!(fs::read_to_string(mount.path().join("last")).unwrap(), "written last");
    }
    e2fsck(&cut_off, whole(&cut_off)).expect_clean();
}

/// A machine mounts the image, grows it to eight times its size while mounted, writes and is reset.
#[test]
fn grown_online_then_reset() {
    let Some(machine) = Machine::new("growth-init", &["resize2fs"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (closure, image) = filesystem(dir.path());
    let size = image.metadata().unwrap().len();
    grow_file(&image, 8);
    machine.run(&image);
    e2fsck(&image, whole(&image)).expect_damage();
    if let Some(mount) = Mount::new(&image, whole(&image), "ext4", Access::ReadWrite) {
        for i in 0..20 {
            let file = mount.path().join(format!("written/{i}"));
            assert_eq!(file.metadata().unwrap().len(), 1 << 20, "{}", file.display());
        }
        fs::remove_dir_all(mount.path().join("written")).unwrap();
        assert!(rustix::fs::statvfs(mount.path()).unwrap().f_blocks * 4096 > 7 * size);
        let store = mount.path().join("nix/store");
        assert_eq!(fs::read_dir(store).unwrap().count(), closure.paths.len());
    }
    e2fsck(&image, whole(&image)).expect_clean();
}

/// Ordinary life: directories that split their htree leaves, files that come and go.
fn write_and_remove(root: &Path) {
    let work = root.join("nix/store/work");
    fs::create_dir(&work).unwrap();
    for i in 0..2_000 {
        fs::write(work.join(format!("file-{i}")), format!("{i}").repeat(i)).unwrap();
    }
    for i in (0..2_000).step_by(2) {
        fs::remove_file(work.join(format!("file-{i}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&work).unwrap().count(), 1_000);
    assert_eq!(fs::read_to_string(work.join("file-3")).unwrap(), "333");
    fs::remove_dir_all(&work).unwrap();
}
