//! The ways to make an image that are compared. Each gives the path of what it made.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Input, closure};

mod appliance;

/// A way to make an image.
pub(super) struct Candidate {
    pub(super) name: &'static str,
    /// Programs that it runs.
    pub(super) needs: &'static [&'static str],
    pub(super) run: fn(&Input, &Path) -> PathBuf,
}

/// All of them, ours first: the ratios are to it.
pub(super) fn all() -> impl Iterator<Item = &'static Candidate> {
    WRITABLE.iter().chain(&appliance::ALL)
}

/// Filesystems that the system can write to.
const WRITABLE: [Candidate; 18] = [
    Candidate { name: "sane-image build", needs: &[], run: |i, o| sane_image(i, o, EXT4, "auto") },
    Candidate { name: "sane-image --io direct", needs: &[], run: |i, o| sane_image(i, o, EXT4, "direct") },
    Candidate { name: "sane-image --io buffered", needs: &[], run: |i, o| sane_image(i, o, EXT4, "buffered") },
    Candidate {
        name: "sane-image --io copy_file_range",
        needs: &[],
        run: |i, o| sane_image(i, o, EXT4, "copy_file_range"),
    },
    Candidate { name: "sane-image, btrfs", needs: &[], run: |i, o| sane_image(i, o, BTRFS, "auto") },
    Candidate { name: "sane-image, btrfs --io direct", needs: &[], run: |i, o| sane_image(i, o, BTRFS, "direct") },
    Candidate { name: "sane-image, btrfs, zstd:3", needs: &[], run: |i, o| sane_image(i, o, BTRFS_ZSTD, "auto") },
    Candidate { name: "limit: bare parallel copy, direct", needs: &[], run: |i, o| bare_copy(i, o, Cache::Bypassed) },
    Candidate { name: "limit: bare parallel copy, buffered", needs: &[], run: |i, o| bare_copy(i, o, Cache::Used) },
    Candidate { name: "floor: tar -cf", needs: &["tar"], run: tar },
    Candidate { name: "floor: zstd -3 -T2 of a tar", needs: &["tar", "zstd"], run: zstd },
    Candidate { name: "mkfs.ext4 -d", needs: &["mkfs.ext4"], run: |input, out| mkfs_ext4(&input.root, out) },
    Candidate { name: "mkfs.btrfs --rootdir", needs: &["mkfs.btrfs"], run: |i, o| mkfs_btrfs(i, o, &[]) },
    Candidate {
        name: "mkfs.btrfs --rootdir --shrink",
        needs: &["mkfs.btrfs"],
        run: |i, o| mkfs_btrfs(i, o, &["--shrink"]),
    },
    Candidate {
        name: "mkfs.btrfs --rootdir --compress zstd:3",
        needs: &["mkfs.btrfs"],
        run: |i, o| mkfs_btrfs(i, o, &["--compress", "zstd:3"]),
    },
    Candidate { name: "cp each path; mkfs.ext4 -d; dd", needs: &["cp", "mkfs.ext4", "dd"], run: old_pipeline },
    Candidate { name: "systemd-repart, CopyFiles", needs: &["systemd-repart", "mkfs.ext4"], run: systemd_repart },
    Candidate { name: "genimage", needs: &["genimage", "mkfs.ext4"], run: genimage },
];

/// The type and the mount options of ours.
type Filesystem = (&'static str, &'static [&'static str]);

const EXT4: Filesystem = ("ext4", &[]);
const BTRFS: Filesystem = ("btrfs", &[]);
const BTRFS_ZSTD: Filesystem = ("btrfs", &["compress=zstd:3"]);

/// Runs a command that has to succeed. What it prints.
pub(super) fn run(command: &mut Command) -> Vec<u8> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = command.env("PATH", path).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sane_image(input: &Input, out: &Path, (fs_type, options): Filesystem, io: &str) -> PathBuf {
    let spec = out.with_extension("json");
    closure::write_spec(&input.root, fs_type, options, &spec);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("build").arg(&spec).arg("--store-root").arg(&input.root).arg("--out").arg(out).args(["--io", io]);
    run(&mut command);
    out.join("nixos.img")
}

pub(super) fn tar(input: &Input, out: &Path) -> PathBuf {
    let image = out.join("image.tar");
    run(Command::new("tar").arg("-cf").arg(&image).arg("-C").arg(&input.root).arg("nix"));
    image
}

/// Of the same bytes in one file, for which the closure's own files would have to be gathered first.
fn zstd(input: &Input, out: &Path) -> PathBuf {
    let image = out.join("image.zst");
    let tar = input.tar.as_ref().expect("made beforehand");
    run(Command::new("zstd").args(["-q", "-3", "-T2"]).arg(tar).arg("-o").arg(&image));
    image
}

/// A file large enough for the closure in any filesystem, all of it a hole.
fn empty_image(out: &Path, input_bytes: u64) -> PathBuf {
    let image = out.join("image");
    File::create(&image).and_then(|file| file.set_len(image_size(input_bytes))).expect("cannot make an image");
    image
}

/// A size in bytes in which the closure has room, whatever the filesystem.
fn image_size(input_bytes: u64) -> u64 {
    input_bytes * 3 / 2 + (1 << 30)
}

fn mkfs_ext4(root: &Path, out: &Path) -> PathBuf {
    let image = empty_image(out, closure_bytes(root));
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(&image));
    image
}

fn mkfs_btrfs(input: &Input, out: &Path, more: &[&str]) -> PathBuf {
    let image = empty_image(out, input.bytes);
    run(Command::new("mkfs.btrfs").args(["-q", "-f"]).args(more).arg("--rootdir").arg(&input.root).arg(&image));
    image
}

/// What is usual in shell: stage the closure, make a filesystem of it, copy that into a disk image.
fn old_pipeline(input: &Input, out: &Path) -> PathBuf {
    let staged = out.join("staged");
    let store = staged.join("nix/store");
    fs::create_dir_all(&store).expect("cannot stage");
    for path in fs::read_dir(input.root.join("nix/store")).expect("no store") {
        run(Command::new("cp").arg("-prf").arg(path.expect("unreadable store").path()).arg(&store));
    }
    let filesystem = mkfs_ext4(&staged, out);
    let disk = out.join("disk.img");
    let to = format!("of={}", disk.display());
    run(Command::new("dd").args([format!("if={}", filesystem.display()), to]).args(["bs=4M", "seek=4", "conv=sparse"]));
    disk
}

fn systemd_repart(input: &Input, out: &Path) -> PathBuf {
    let definitions = out.join("repart.d");
    fs::create_dir(&definitions).expect("cannot write definitions");
    // Its own guess of the size (Minimize=) is too small for a store's many small files.
    let size = image_size(input.bytes);
    let partition = format!("[Partition]\nType=linux-generic\nFormat=ext4\nSizeMinBytes={size}\nCopyFiles=/nix:/nix\n");
    fs::write(definitions.join("10-nix.conf"), partition).expect("cannot write definitions");
    let image = out.join("image");
    let mut command = Command::new("systemd-repart");
    command.args(["--empty=create", "--size=auto", "--dry-run=no"]);
    command.arg("--root").arg(&input.root).arg("--definitions").arg(&definitions).arg(&image);
    run(&mut command);
    image
}

fn genimage(input: &Input, out: &Path) -> PathBuf {
    let config = out.join("genimage.cfg");
    let size = image_size(closure_bytes(&input.root));
    let text = format!(
        "image nix.ext4 {{ ext4 {{ use-mke2fs = true }} size = {size} }}\n\
         image disk.img {{ hdimage {{ partition-table-type = gpt }} partition nix {{ image = nix.ext4 }} }}\n"
    );
    fs::write(&config, text).expect("cannot write a configuration");
    let [images, tmp] = ["images", "tmp"].map(|name| out.join(name));
    let mut command = Command::new("genimage");
    command.arg("--config").arg(&config).arg("--rootpath").arg(&input.root).arg("--tmppath").arg(&tmp);
    run(command.arg("--inputpath").arg(&images).arg("--outputpath").arg(&images));
    images.join("disk.img")
}

/// Whether writes go through the page cache.
#[derive(Clone, Copy, PartialEq)]
enum Cache {
    Used,
    Bypassed,
}

/// What nobody can beat by much: every file read, and its bytes written somewhere, by two threads.
fn bare_copy(input: &Input, out: &Path, cache: Cache) -> PathBuf {
    const WINDOW: usize = 8 << 20;
    let image = empty_image(out, input.bytes);
    let file = if cache == Cache::Bypassed {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::DIRECT;
        File::from(rustix::fs::open(&image, flags, rustix::fs::Mode::empty()).expect("no O_DIRECT here"))
    } else {
        File::options().write(true).open(&image).expect("no image")
    };
    let files: Vec<PathBuf> = walkdir::WalkDir::new(input.root.join("nix"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    let (next, window) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut memory = vec![0; WINDOW + 4096];
        let aligned = memory.as_ptr().align_offset(4096);
        let buffer = &mut memory[aligned..aligned + WINDOW];
        let mut filled = 0;
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut source = File::open(path).expect("unreadable file");
            loop {
                filled += match source.read(&mut buffer[filled..]).expect("unreadable file") {
                    0 if filled < WINDOW => break,
                    read => read,
                };
                if filled == WINDOW {
                    let place = window.fetch_add(1, Ordering::Relaxed) * WINDOW;
                    file.write_all_at(buffer, place as u64).expect("cannot write");
                    filled = 0;
                }
            }
        }
        let place = window.fetch_add(1, Ordering::Relaxed) * WINDOW;
        file.write_all_at(&buffer[..filled.next_multiple_of(4096)], place as u64).expect("cannot write");
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    image
}

fn closure_bytes(root: &Path) -> u64 {
    let files = walkdir::WalkDir::new(root.join("nix")).into_iter().map(Result::unwrap);
    // Every file takes whole blocks.
    files.map(|file| file.metadata().unwrap().len().next_multiple_of(4096)).sum()
}
