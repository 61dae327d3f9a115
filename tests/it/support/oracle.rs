//! Judges of images that know nothing of us.
//!
//! An oracle's words are taken strictly: whatever is not one of the lines that it says about a sound image is a complaint,
//! whatever its exit code. `kit` shows for each oracle that it fails on damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use walkdir::WalkDir;

use super::image::Partition;
use super::mount::{Access, LoopDevice};
use super::tool::{need, need_root, run, slice, text, tool, with_suffix};

/// What an oracle says.
#[derive(Debug)]
#[must_use = "a verdict that nobody looks at proves nothing"]
pub(crate) enum Verdict {
    /// No complaint; what was said.
    Clean(String),
    /// What was said.
    Damaged(String),
    /// The oracle is not here, which has been told.
    Skipped,
}

impl Verdict {
    /// What was said, or `None` where the oracle is not here.
    ///
    /// # Panics
    /// If there was a complaint.
    #[track_caller]
    pub(crate) fn expect_clean(self) -> Option<String> {
        match self {
            Self::Clean(said) => Some(said),
            Self::Damaged(said) => panic!("an oracle complains:\n{said}"),
            Self::Skipped => None,
        }
    }

    /// # Panics
    /// If there was no complaint.
    #[track_caller]
    pub(crate) fn expect_damage(self) {
        if let Self::Clean(said) = self {
            panic!("an oracle does not see the damage:\n{said}");
        }
    }

    /// Runs an oracle which is clean if it succeeds with no line but those that `is_usual`.
    fn of(command: &mut Command, stdout: Stdout, is_usual: impl Fn(&str) -> bool) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let said = text(&output);
        let judged = match stdout {
            Stdout::Judged => said.clone(),
            Stdout::Data => String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let complaints = judged.lines().filter(|line| !line.trim().is_empty() && !is_usual(line));
        match complaints.collect::<Vec<_>>().join("\n") {
            none if none.is_empty() && output.status.success() => Self::Clean(said),
            some => Self::Damaged(format!("{command:?}: {}\n{some}\n--- in all it said:\n{said}", output.status)),
        }
    }

    /// This, or damage if it was clean and `holds` is false of what was said.
    fn and(self, claim: &str, holds: impl Fn(&str) -> bool) -> Self {
        match self {
            Self::Clean(said) if !holds(&said) => Self::Damaged(format!("{claim} does not hold:\n{said}")),
            verdict => verdict,
        }
    }
}

/// What a tool's stdout holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdout {
    /// Its opinion, as stderr does.
    Judged,
    /// What it found, without opinion.
    Data,
}

/// The whole of a file, as a partition.
pub(crate) fn whole(file: &Path) -> Partition {
    Partition { number: 1, offset: 0, size: fs::metadata(file).unwrap().len() }
}

fn at_offset(image: &Path, partition: Partition) -> std::ffi::OsString {
    with_suffix(image, &format!("?offset={}", partition.offset))
}

// ---- containers

/// `qemu-img compare`: that the disk in a file of this format of QEMU's is the raw image.
pub(crate) fn qemu_img_compare(raw: &Path, other: &Path, format: &str) -> Verdict {
    if !need("qemu-img") {
        return Verdict::Skipped;
    }
    let mut compare = tool("qemu-img");
    compare.args(["compare", "-f", "raw", "-F", format]).args([raw, other]);
    Verdict::of(&mut compare, Stdout::Judged, |line| line == "Images are identical.")
}

/// `qemu-img check`: that all of the tables and counts of a file agree.
pub(crate) fn qemu_img_check(file: &Path, format: &str) -> Verdict {
    if !need("qemu-img") {
        return Verdict::Skipped;
    }
    let mut check = tool("qemu-img");
    check.args(["check", "-f", format]).arg(file);
    let usual = ["No errors were found on the image.", "Image end offset: "];
    Verdict::of(&mut check, Stdout::Judged, |line| {
        usual.iter().any(|usual| line.starts_with(usual)) || line.contains(" allocated, ")
    })
}

/// `zstd -t`, and that `zstd -d` makes the raw image of a file.
pub(crate) fn zstd(file: &Path, raw: &Path) -> Verdict {
    if !need("zstd") {
        return Verdict::Skipped;
    }
    let mut script = tool("bash");
    let unpack = "set -o pipefail; zstd -qt -- \"$0\" && zstd -dqc -- \"$0\" | cmp - \"$1\"";
    script.args(["-c", unpack]).args([file, raw]);
    Verdict::of(&mut script, Stdout::Judged, |_| false)
}

/// That GNU tar finds the raw image, and nothing else, in an archive.
pub(crate) fn gce(file: &Path, raw: &Path) -> Verdict {
    if !need("tar") || !need("gzip") {
        return Verdict::Skipped;
    }
    let mut script = tool("bash");
    let unpack = "set -o pipefail; gzip -t \"$0\" && test \"$(tar -tf \"$0\")\" = disk.raw && tar -xOSf \"$0\" disk.raw | cmp - \"$1\"";
    script.args(["-c", unpack]).args([file, raw]);
    Verdict::of(&mut script, Stdout::Judged, |_| false)
}

// ---- ext4

/// `e2fsck -fn`: all of an ext4 filesystem's metadata; and that the filesystem fits its partition.
pub(crate) fn e2fsck(image: &Path, partition: Partition) -> Verdict {
    if !need("e2fsck") || !need("dumpe2fs") {
        return Verdict::Skipped;
    }
    let passes = [
        "Pass 1: Checking inodes, blocks, and sizes",
        "Pass 2: Checking directory structure",
        "Pass 3: Checking directory connectivity",
        "Pass 4: Checking reference counts",
        "Pass 5: Checking group summary information",
    ];
    let is_summary =
        |line: &str| line.ends_with(" blocks") && line.contains(" files (") && line.contains("% non-contiguous), ");
    let usual = |line: &str| passes.contains(&line) || is_version(line, "e2fsck") || is_summary(line);
    Verdict::of(tool("e2fsck").arg("-fn").arg(at_offset(image, partition)), Stdout::Judged, usual)
        .and("all passes were made", |said| passes.iter().all(|pass| said.contains(pass)))
        .and("the filesystem fits its partition", |_| match dumpe2fs(image, partition) {
            Verdict::Clean(said) => field(&said, "Block count") * field(&said, "Block size") <= partition.size,
            _ => false,
        })
}

/// `dumpe2fs`: the superblock and all group descriptors, as text. It does not check much.
pub(crate) fn dumpe2fs(image: &Path, partition: Partition) -> Verdict {
    if !need("dumpe2fs") {
        return Verdict::Skipped;
    }
    Verdict::of(tool("dumpe2fs").arg(at_offset(image, partition)), Stdout::Data, |line| is_version(line, "dumpe2fs"))
}

/// A number that dumpe2fs says.
///
/// # Panics
/// If it says no such number.
pub(crate) fn field(dumpe2fs: &str, name: &str) -> u64 {
    let value = dumpe2fs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("dumpe2fs says no {name}:\n{dumpe2fs}"));
    value.trim().parse().unwrap_or_else(|e| panic!("{name}: {value}: {e}"))
}

/// `debugfs -R REQUEST`: what it says about an ext4 filesystem. Its exit code says nothing, so any error is a complaint.
pub(crate) fn debugfs(image: &Path, partition: Partition, request: &str) -> Verdict {
    if !need("debugfs") {
        return Verdict::Skipped;
    }
    let mut command = tool("debugfs");
    command.args(["-R", request]).arg(at_offset(image, partition));
    Verdict::of(&mut command, Stdout::Data, |line| is_version(line, "debugfs"))
}

/// `resize2fs`: grows (or shrinks) the filesystem in a bare partition image to `blocks`, or to its file's end.
pub(crate) fn resize2fs(partition_image: &Path, blocks: Option<u64>) -> Verdict {
    if !need("resize2fs") {
        return Verdict::Skipped;
    }
    let usual = |line: &str| {
        is_version(line, "resize2fs")
            || line.starts_with("Resizing the filesystem on ")
            || line.starts_with("The filesystem on ") && line.contains(" is now ")
    };
    Verdict::of(
        tool("resize2fs").arg(partition_image).args(blocks.map(|blocks| blocks.to_string())),
        Stdout::Judged,
        usual,
    )
    .and("the filesystem was resized", |said| said.contains(" is now "))
}

/// The first line of every tool of e2fsprogs: its name, version and date.
fn is_version(line: &str, tool: &str) -> bool {
    let version = line.strip_prefix(tool).and_then(|rest| rest.strip_prefix(" 1."));
    version.is_some_and(|rest| rest.ends_with(')') && rest.split_whitespace().count() == 2)
}

// ---- btrfs

/// `btrfs check --check-data-csum`: all trees of a btrfs, and every byte of its contents.
pub(crate) fn btrfs_check(image: &Path, partition: Partition) -> Verdict {
    if !need("btrfs") {
        return Verdict::Skipped;
    }
    let slice = slice(image, partition);
    let statistics = [
        "found ",
        "total csum bytes: ",
        "total tree bytes: ",
        "total fs tree bytes: ",
        "total extent tree bytes: ",
        "btree space waste bytes: ",
        "file data blocks allocated: ",
        " referenced ",
        "Checking filesystem on ",
        "UUID: ",
    ];
    let usual = |line: &str| {
        let is_step = line.starts_with('[') && (line.contains("] checking ") && !line.contains("rror"));
        let is_statistic = statistics.iter().any(|start| line.starts_with(start));
        is_step || is_statistic || line == "Opening filesystem to check..."
    };
    let mut command = tool("btrfs");
    command.args(["check", "--check-data-csum"]).arg(slice.path());
    Verdict::of(&mut command, Stdout::Judged, usual).and("no error was found", |said| said.contains("no error found"))
}

/// `btrfs inspect-internal dump-tree`: all trees as text.
pub(crate) fn btrfs_dump(image: &Path, partition: Partition) -> Option<String> {
    need("btrfs").then(|| {
        let slice = slice(image, partition);
        let said = run(tool("btrfs").args(["inspect-internal", "dump-tree"]).arg(slice.path()));
        String::from_utf8_lossy(&said).into_owned()
    })
}

// ---- EROFS

/// What `fsck.erofs` says of a sound filesystem, without and with a directory to put it out to.
const FSCK_EROFS_VERDICTS: [&str; 2] = ["No errors found", "Extracted filesystem successfully"];

/// `fsck.erofs`: the superblock, all inodes and directories, and that all contents can be read; with `into`, it puts them
/// there.
pub(crate) fn fsck_erofs(image: &Path, partition: Partition, into: Option<&Path>) -> Verdict {
    if !need("fsck.erofs") {
        return Verdict::Skipped;
    }
    let slice = slice(image, partition);
    let mut command = tool("fsck.erofs");
    // With its verdict, which older ones keep for themselves otherwise.
    command.arg("-d3");
    match into {
        Some(into) => command.arg(format!("--extract={}", into.display())).arg("--overwrite"),
        None => command.arg("--extract"),
    };
    let usual = |line: &str| {
        let newer = "<I> erofs_io: successfully to open ";
        FSCK_EROFS_VERDICTS.iter().any(|verdict| line == format!("<I> erofs: {verdict}")) || line.starts_with(newer)
    };
    Verdict::of(command.arg(slice.path()), Stdout::Judged, usual)
        .and("there is a verdict", |said| FSCK_EROFS_VERDICTS.iter().any(|verdict| said.contains(verdict)))
}

/// What `fsck.erofs` puts out of an EROFS, beside the image, without a complaint, or `None` where it is not here or not
/// root's.
pub(crate) fn extract_erofs(image: &Path, partition: Partition) -> Option<tempfile::TempDir> {
    if !need_root() {
        return None;
    }
    let target = tempfile::tempdir_in(image.parent().unwrap()).unwrap();
    fsck_erofs(image, partition, Some(target.path())).expect_clean().map(|_| target)
}

/// `dump.erofs`: the superblock.
pub(crate) fn dump_erofs(image: &Path) -> Verdict {
    if !need("dump.erofs") {
        return Verdict::Skipped;
    }
    Verdict::of(tool("dump.erofs").arg("-s").arg(image), Stdout::Data, |_| false)
}

// ---- FAT

/// `fsck.fat -n`: the boot sectors, both FATs, all chains and directories.
pub(crate) fn fsck_fat(image: &Path, partition: Partition) -> Verdict {
    if !need("fsck.fat") {
        return Verdict::Skipped;
    }
    let slice = slice(image, partition);
    let usual =
        |line: &str| line.starts_with("fsck.fat 4.") || line.contains(" files, ") && line.ends_with(" clusters");
    Verdict::of(tool("fsck.fat").arg("-n").arg(slice.path()), Stdout::Judged, usual)
        .and("there is a summary", |said| said.contains(" files, "))
}

/// All files of a FAT filesystem with their contents, read by mtools, or `None` where those are not here.
pub(crate) fn fat_files(image: &Path, partition: Partition) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    if !need("mcopy") {
        return None;
    }
    let target = tempfile::tempdir().unwrap();
    let drive = with_suffix(image, &format!("@@{}", partition.offset));
    let listing = run(tool("mdir").arg("-b").arg("-i").arg(&drive).arg("::/"));
    if !listing.is_empty() {
        run(tool("mcopy").args(["-s", "-n", "-i"]).arg(&drive).arg("::*").arg(target.path()));
    }
    let entries = WalkDir::new(target.path()).into_iter().map(Result::unwrap);
    let files = entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(target.path()).unwrap().to_owned(), fs::read(entry.path()).unwrap()));
    Some(files.collect())
}

// ---- GPT

/// `sgdisk -v`: both partition tables, the protective MBR, and the partitions' places. sgdisk takes a file to have
/// 512-byte sectors; others need a loop device, and so root.
pub(crate) fn sgdisk(image: &Path, sector_size: u32) -> Verdict {
    if !need("sgdisk") {
        return Verdict::Skipped;
    }
    let device = match sector_size {
        512 => None,
        _ => match LoopDevice::of_disk(image, sector_size, Access::ReadOnly) {
            Some(device) => Some(device),
            None => return Verdict::Skipped,
        },
    };
    let target = device.as_ref().map_or(image, LoopDevice::path);
    // It calls a gap before the entries, which extraGPTPadding is for, exotic but right.
    let gap = [
        "Warning: There is a gap between the main metadata (sector 1) and the main",
        "exotic configurations,",
        "but is generally ill-advised. Using 'j' on the experts' menu can adjust this",
        "gap.",
        // So is one after them, which sfdisk makes.
        "Warning: There is a gap between the main partition table (ending sector 33)",
        "and the first usable sector (2048). This is helpful in some exotic configurations,",
        "but is unusual. The util-linux fdisk program often creates disks like this.",
        "Using 'j' on the experts' menu can adjust this gap.",
    ];
    let usual = |line: &str| {
        line.starts_with("No problems found. ")
            || line.starts_with("segments, the largest of which is ")
            || gap.iter().any(|part| line.ends_with(part))
            || line.starts_with("partition table (sector ")
    };
    Verdict::of(tool("sgdisk").arg("-v").arg(target), Stdout::Judged, usual)
        .and("there is a verdict", |said| said.contains("No problems found. "))
}

/// `fdisk -l`: warns of tables that differ or are too short for their disk. What it says on stdout is data.
pub(crate) fn fdisk(image: &Path, sector_size: u32) -> Verdict {
    if !need("fdisk") {
        return Verdict::Skipped;
    }
    let mut command = tool("fdisk");
    command.args(["-l", "-b", &sector_size.to_string()]).arg(image);
    Verdict::of(&mut command, Stdout::Data, |_| false)
        .and("there is a GPT", |said| said.contains("Disklabel type: gpt"))
}

/// `sfdisk --verify`: a GPT or an MBR of 512-byte sectors, and that partitions lie on the disk and not upon each other.
/// What it finds wrong with an MBR does not change its exit code.
pub(crate) fn sfdisk(image: &Path) -> Verdict {
    if !need("sfdisk") {
        return Verdict::Skipped;
    }
    let usual = |line: &str| {
        line == format!("{}:", image.display())
            || line == "No errors detected."
            || line == "Header version: 1.0"
            || line.starts_with("Using ") && line.ends_with(" partitions.")
            || line.starts_with("A total of ") && line.contains(" free sectors is available in ")
            || line.starts_with("Remaining ") && line.ends_with(" unallocated 512-byte sectors.")
    };
    Verdict::of(tool("sfdisk").arg("--verify").arg(image), Stdout::Judged, usual)
        .and("there is a verdict", |said| said.contains("No errors detected."))
}

// ---- Nix

/// `nix-store --load-db` of the registration, then `--verify --check-contents`, on the store below `root`. Writes to it.
pub(crate) fn nix_store(root: &Path, registration: &Path) -> Verdict {
    if !need("nix-store") {
        return Verdict::Skipped;
    }
    let conf = tempfile::tempdir().unwrap();
    fs::write(conf.path().join("nix.conf"), "build-users-group =\nsandbox = false\nsubstituters =\n").unwrap();
    let nix_store = || {
        let mut command = tool("nix-store");
        command.env("NIX_CONF_DIR", conf.path()).env("HOME", conf.path()).env_remove("NIX_REMOTE");
        command.arg("--store").arg(root);
        command
    };
    let load =
        Verdict::of(nix_store().arg("--load-db").stdin(fs::File::open(registration).unwrap()), Stdout::Judged, |_| {
            false
        });
    let Verdict::Clean(_) = load else { return load };
    let usual = [
        "reading the Nix store...",
        "checking path existence...",
        "checking link hashes...",
        "checking store hashes...",
    ];
    Verdict::of(nix_store().args(["--verify", "--check-contents"]), Stdout::Judged, |line| usual.contains(&line))
}

/// `nix-hash --type sha256`: the SHA-256 of a path's NAR in hex, or `None` where it is not here.
pub(crate) fn nix_hash(path: &Path) -> Option<String> {
    need("nix-hash").then(|| {
        let hash = run(tool("nix-hash").args(["--type", "sha256"]).arg(path));
        String::from_utf8(hash).unwrap().trim().to_owned()
    })
}

// ---- man pages

/// `mandoc -Tlint`: the style of a man page, too.
pub(crate) fn mandoc(page: &Path) -> Verdict {
    if !need("mandoc") {
        return Verdict::Skipped;
    }
    Verdict::of(tool("mandoc").arg("-Tlint").arg(page), Stdout::Judged, |_| false)
}
