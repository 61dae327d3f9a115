//! `convert`: every form holds the same disk, from whatever it was made, and what goes wrong leaves nothing.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sane_image::formats::Format;
use tempfile::TempDir;

use crate::containers::{FORMS, example};
use crate::read_btrfs;
use crate::support::image::{Built, Run, run, sane_image, with_signals};
use crate::support::mount::{Access, LoopDevice, Mount, MountPoint};
use crate::support::oracle::{self, Verdict, whole};
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::Contents;

const MIB: u64 = 1 << 20;

fn convert_command(image: &Path, format: &str, out: &Path, arguments: &[&str]) -> Command {
    let mut command = sane_image();
    command.arg("convert").arg(image).args(["--format", format, "--out"]).arg(out).args(arguments);
    command
}

fn convert(image: &Path, format: &str, out: &Path, arguments: &[&str]) -> Run {
    run(&mut convert_command(image, format, out, arguments)).expect_success()
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} is not {}", one.display(), other.display());
}

#[track_caller]
fn assert_refused(command: &mut Command, code: i32, words: &[&str]) {
    let run = run(command).expect_failure(code);
    assert_one_error(&run, words);
}

#[track_caller]
fn assert_one_error(run: &Run, words: &[&str]) {
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    words.iter().for_each(|word| assert!(errors[0].contains(word), "no {word:?} in {}", errors[0]));
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// A file that cannot be compressed, and holds nothing that is known.
fn noise(directory: &Path, len: u64) -> PathBuf {
    let path = directory.join("noise");
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    Contents::Pattern { seed: 5, len }.fill(0, &mut bytes);
    fs::write(&path, bytes).unwrap();
    path
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

// ---- forms

#[test]
fn every_form_and_back() {
    let built = example();
    let at = |name: &str| built.scratch().join(name);
    let noise = noise(built.scratch(), 5_000_001);
    for format in Format::ALL.map(Format::name) {
        for image in [&built.image, &noise] {
            let size = fs::metadata(image).unwrap().len();
            if !size.is_multiple_of(Format::ALL.iter().find(|form| form.name() == format).unwrap().unit()) {
                continue;
            }
            println!("{format} of {}", image.display());
            let said = convert(image, format, &at("one"), &["--jobs", "1"]).stdout;
            assert!(said.contains(&format!("one: {format}, ")), "{said}");
            convert(image, format, &at("four"), &["--jobs", "4"]);
            assert_same(&at("one"), &at("four"));
            convert(&at("one"), "raw", &at("back"), &[]);
            assert_same(&at("back"), image);
            // What is made depends on the disk, not on the form that it comes from.
            convert(&at("one"), format, &at("again"), &[]);
            assert_same(&at("one"), &at("again"));
        }
    }
}

#[test]
fn zst_is_what_zstd_reads() {
    if !need("zstd") {
        return;
    }
    let built = example();
    let file = built.scratch().join("disk.zst");
    for level in ["1", "19"] {
        convert(&built.image, "zst", &file, &["--level", level]);
        run_tool(tool("zstd").args(["-q", "-t"]).arg(&file));
        assert!(run_tool(tool("zstd").args(["-q", "-d", "-c"]).arg(&file)) == fs::read(&built.image).unwrap());
    }
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(!tool("zstd").args(["-q", "-t"]).arg(&file).output().unwrap().status.success());
}

#[test]
fn others_containers_become_raw() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let at = |name: &str| built.scratch().join(name);
    convert(&built.image, "zst", &at("wanted"), &[]);
    for (arguments, ..) in FORMS {
        run_tool(tool("qemu-img").args(["convert", "-f", "raw"]).args(arguments).args([&built.image, &at("theirs")]));
        convert(&at("theirs"), "raw", &at("ours"), &[]);
        assert_same(&at("ours"), &built.image);
        convert(&at("theirs"), "zst", &at("ours"), &[]);
        assert_same(&at("ours"), &at("wanted"));
    }
}

#[test]
fn streams_are_the_same_bytes() {
    let built = example();
    let file = built.scratch().join("file");
    for format in Format::ALL.into_iter().filter(|format| format.is_stream()).map(Format::name) {
        convert(&built.image, format, &file, &[]);
        let output = convert_command(&built.image, format, Path::new("-"), &[]).output().unwrap();
        assert!(output.status.success() && output.stdout == fs::read(&file).unwrap(), "{format}");
    }
    let terminal =
        format!("{} convert {} --format zst --out -", env!("CARGO_BIN_EXE_sane-image"), built.image.display());
    if need("script") {
        let output = tool("script").args(["-qec", &terminal, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stdout).contains("no image to a terminal"), "{output:?}");
    }
}

// ---- free space

#[test]
fn free_space_is_left_out() {
    let built = example();
    let junked = built.scratch().join("junked");
    fs::copy(&built.image, &junked).unwrap();
    // Both filesystems have their free space at their ends.
    let file = File::options().write(true).open(&junked).unwrap();
    for partition in [built.boot(), built.nix()] {
        file.write_all_at(&vec![0xaa; 8 << 20], partition.offset + partition.size - 20 * MIB).unwrap();
    }
    let raw = built.scratch().join("raw");
    convert(&junked, "raw", &raw, &[]);
    assert_same(&raw, &built.image);
}

/// A disk with an MBR, gaps and a chain of logical partitions, one of which lies upon another, is copied as it is.
#[test]
fn what_is_not_known_stays() {
    if !need("sfdisk") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = noise(directory.path(), 64 * MIB);
    for script in ["label: dos\nsize=8MiB\nsize=20MiB,type=5\nsize=4MiB\nsize=4MiB\n", "label: gpt\nsize=8MiB\n"] {
        let mut sfdisk =
            tool("sfdisk").args(["-q", "--wipe", "never"]).arg(&disk).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let raw = directory.path().join("raw");
        convert(&disk, "raw", &raw, &[]);
        assert_same(&raw, &disk);
    }
}

// ---- block maps

/// Copies an image by its block map onto a used disk, or gives `None` where there is none. bmaptool makes a file anew, so
/// that only a device can have been used.
pub(crate) fn bmap_copy(image: &Path, map: &Path, size: u64) -> Option<(std::process::Output, TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    let mut used = std::io::repeat(0x55).take(size.next_multiple_of(4096));
    std::io::copy(&mut used, &mut File::create(&disk).unwrap()).unwrap();
    let device = LoopDevice::of_disk(&disk, 512, Access::ReadWrite)?;
    let copied = tool("bmaptool").args(["copy", "--bmap"]).args([map, image, device.path()]).output().unwrap();
    drop(device);
    Some((copied, directory))
}

#[track_caller]
fn judge_block_map(image: &Path, judge: &dyn Fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let size = fs::metadata(image).unwrap().len();
    let mut maps = Vec::new();
    for (format, name) in [("raw", "disk.img"), ("zst", "disk.img.zst")] {
        let file = directory.path().join(name);
        let said = convert(image, format, &file, &["--bmap", "--jobs", if format == "raw" { "1" } else { "4" }]).stdout;
        let map = directory.path().join(format!("{name}.bmap"));
        assert!(said.contains(&format!("{name}.bmap: block map, ")), "{said}");
        maps.push(fs::read_to_string(&map).unwrap());
        let Some((copied, disk)) = bmap_copy(&file, &map, size) else { return };
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        judge(&disk.path().join("disk"));
    }
    assert_eq!(maps[0], maps[1]);
    // A changed byte of the last range, and another text.
    let last = maps[0].lines().rfind(|line| line.contains("<Range")).unwrap();
    let first = last.split_once("> ").unwrap().1.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let (raw, map) = (directory.path().join("disk.img"), directory.path().join("disk.img.bmap"));
    let file = File::options().read(true).write(true).open(&raw).unwrap();
    let mut byte = [0];
    let at = first.parse::<u64>().unwrap() * 4096;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    assert!(!bmap_copy(&raw, &map, size).unwrap().0.status.success());
    file.write_all_at(&byte, at).unwrap();
    assert!(bmap_copy(&raw, &map, size).unwrap().0.status.success());
    fs::write(&map, maps[0].replacen("</ImageSize>", " </ImageSize>", 1)).unwrap();
    assert!(!bmap_copy(&raw, &map, size).unwrap().0.status.success());
}

#[test]
fn a_block_map_has_all_that_a_used_disk_needs() {
    if !need("bmaptool") {
        return;
    }
    let built = example();
    judge_block_map(&built.image, &|disk| {
        oracle::sgdisk(disk, 512).expect_clean();
        oracle::e2fsck(disk, built.nix()).expect_clean();
        oracle::fsck_fat(disk, built.boot()).expect_clean();
        run(sane_image().arg("verify").arg(disk)).expect_success();
        if let Some(mount) = Mount::new(disk, built.nix(), "ext4", Access::ReadWrite) {
            fs::write(mount.path().join("file"), vec![7; 9 << 20]).unwrap();
        }
        oracle::e2fsck(disk, built.nix()).expect_clean();
    });
    let tree = read_btrfs::tree();
    if let Some(image) = read_btrfs::mkfs(tree.path(), &[]) {
        judge_block_map(image.path(), &|disk| {
            oracle::btrfs_check(disk, whole(disk)).expect_clean();
        });
    }
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), 70 * MIB + 777);
    judge_block_map(&noise, &|disk| {
        let wanted = fs::read(&noise).unwrap();
        assert!(fs::read(disk).unwrap()[..wanted.len()] == wanted);
    });
}

/// What a block map of holes gets wrong is seen by those who judge here.
#[test]
fn a_block_map_of_holes_is_not_enough() {
    if !need("bmaptool") {
        return;
    }
    let built = example();
    let map = built.scratch().join("holes.bmap");
    run_tool(tool("bmaptool").args(["create", "-o"]).args([&map, &built.image]));
    let size = fs::metadata(&built.image).unwrap().len();
    let Some((copied, disk)) = bmap_copy(&built.image, &map, size) else { return };
    assert!(copied.status.success());
    let disk = disk.path().join("disk");
    let verdicts = [oracle::e2fsck(&disk, built.nix()), oracle::fsck_fat(&disk, built.boot())];
    assert!(verdicts.iter().any(|verdict| !matches!(verdict, Verdict::Clean(_))), "{verdicts:?}");
}

// ---- outputs

#[test]
fn bad_usage_is_told() {
    let built = example();
    let out = built.scratch().join("file");
    let convert = |format: &str, arguments: &[&str]| convert_command(&built.image, format, &out, arguments);
    let near = run(&mut convert("raww", &[])).expect_failure(2).stderr;
    assert!(near.contains("possible values: raw, zst") && near.contains("'raw'"), "{near}");
    assert_refused(&mut convert("zst", &["--level", "23"]), 2, &["--level 23", "zst has the levels 1 to 22"]);
    assert_refused(&mut convert("zst", &["--level", "-5"]), 2, &["--level -5"]);
    assert_refused(&mut convert("raw", &["--level", "3"]), 2, &["raw has no levels; leave --level out"]);
    let mut stream = convert_command(&built.image, "zst", Path::new("-"), &["--bmap"]);
    assert_refused(&mut stream, 2, &["--bmap: the map is a file beside the image"]);
    for format in Format::ALL.into_iter().filter(|format| !format.is_stream()).map(Format::name) {
        assert_refused(&mut convert_command(&built.image, format, Path::new("-"), &[]), 2, &["--out -", format]);
    }
    fs::write(&out, "").unwrap();
    assert_refused(&mut convert_command(&out, "raw", &built.scratch().join("x"), &[]), 1, &["the image has no bytes"]);
    fs::remove_file(&out).unwrap();
    assert_refused(&mut convert_command(&out, "raw", &built.scratch().join("x"), &[]), 1, &["cannot be opened"]);
    assert_eq!(names(built.scratch()), ["out"]);
}

#[test]
fn outputs_that_are_none_are_refused() {
    let built = example();
    let link = built.scratch().join("link");
    fs::hard_link(&built.image, &link).unwrap();
    let before = fs::read(&built.image).unwrap();
    for (out, words) in [
        (built.image.as_path(), "is the image itself; give another name"),
        (&link, "is the image itself"),
        (Path::new("/dev/null"), "is a character device, and is left alone"),
        (built.scratch(), "is a directory, and is left alone"),
        (Path::new("/dev/stdout"), "is a file that is open already"),
    ] {
        assert_refused(&mut convert_command(&built.image, "raw", out, &[]), 1, &[words]);
    }
    assert!(fs::read(&built.image).unwrap() == before);
    assert_eq!(names(built.scratch()), ["link", "out"]);
}

#[test]
fn private_images_stay_private() {
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), MIB);
    let out = directory.path().join("out");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    convert(&noise, "zst", &out, &["--bmap"]);
    assert_eq!(mode(&out), mode(&noise));
    fs::set_permissions(&noise, Permissions::from_mode(0o600)).unwrap();
    convert(&noise, "zst", &out, &["--bmap"]);
    assert_eq!([mode(&out), mode(&directory.path().join("out.bmap"))], [0o600; 2]);
}

#[test]
fn devices_are_read_and_not_written() {
    let built = example();
    let Some(device) = LoopDevice::of_disk(&built.image, 512, Access::ReadOnly) else { return };
    let raw = built.scratch().join("raw");
    let said = convert(device.path(), "raw", &raw, &[]);
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    assert_same(&raw, &built.image);
    assert_refused(&mut convert_command(&built.image, "raw", device.path(), &[]), 1, &["is a block device"]);
    drop(device);
    let Some(mount) = Mount::new(&built.image, built.nix(), "ext4", Access::ReadWrite) else { return };
    let said = convert(mount.device(), "raw", &raw, &[]);
    assert!(said.stderr.contains("is in use, and changes during the copy may be incomplete"), "{}", said.stderr);
}

// ---- what goes wrong

#[test]
fn a_full_disk_leaves_nothing() {
    if !need_root() || !need("mount") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), 4 * MIB);
    let point = tempfile::tempdir().unwrap();
    let _mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=1m", "none"], point.path());
    // A gce of such a disk there is none.
    for format in Format::ALL.into_iter().filter(|format| (4 * MIB).is_multiple_of(format.unit())) {
        let out = point.path().join("a/out");
        assert_refused(
            &mut convert_command(&noise, format.name(), &out, &[]),
            1,
            &["No space left on device", "a/out: "],
        );
        assert_eq!(names(point.path()), [""; 0], "{format}");
    }
}

/// A conversion that takes long enough to be stopped in the middle, its signals as usual, and where it writes.
fn long(directory: &Path) -> (Command, PathBuf) {
    let noise = noise(directory, 48 * MIB);
    let out = directory.join("to/out");
    fs::create_dir(directory.join("to")).unwrap();
    let command = convert_command(&noise, "zst", &out, &["--level", "22", "--jobs", "1"]);
    (with_signals(&command, "--default-signal=INT,TERM,PIPE"), out)
}

#[test]
fn whoever_stops_it_finds_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let directory = tempfile::tempdir().unwrap();
        let (mut command, out) = long(directory.path());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("compressing")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
        let errors = lines.filter(|line| line.starts_with("sane-image: error: ")).count();
        assert_eq!(errors, usize::from(signal != Signal::KILL));
        assert!(!out.exists());
        // Where no file is without a name, the next run removes what a kill has left.
        convert(&noise(directory.path(), 5), "raw", &out, &[]);
        assert_eq!(names(out.parent().unwrap()), ["out"]);
    }
}

/// What has been read of a stream is not the image: nobody may take it for that.
#[test]
fn a_reader_that_leaves_early_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), 20 * MIB);
    for format in ["raw", "zst"] {
        let command = convert_command(&noise, format, Path::new("-"), &[]);
        let mut command = with_signals(&command, "--default-signal=PIPE");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 1000]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(Signal::PIPE.as_raw()), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("sane-image: error: standard output: the reader ended early"), "{said}");
    }
}

/// Damage in a container is one error, and leaves nothing.
#[test]
fn damaged_containers_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), 9 * MIB);
    let (zst, out) = (directory.path().join("zst"), directory.path().join("out"));
    convert(&noise, "zst", &zst, &[]);
    let file = File::options().write(true).open(&zst).unwrap();
    file.write_all_at(&[0x5a; 64], 6 * MIB).unwrap();
    for format in Format::ALL.map(Format::name) {
        assert_refused(&mut convert_command(&zst, format, &out, &[]), 1, &["zst"]);
    }
    assert_eq!(names(directory.path()), ["noise", "zst"]);
}

/// Forms that are not read are not taken for disks on which nothing is known.
#[test]
fn what_is_packed_otherwise_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let noise = noise(directory.path(), MIB);
    let out = directory.path().join("out");
    for (program, name) in [("gzip", "gzip"), ("xz", "xz"), ("bzip2", "bzip2")] {
        if need(program) {
            let packed = directory.path().join("packed");
            fs::write(&packed, run_tool(tool(program).arg("-c").arg(&noise))).unwrap();
            let words = [format!("is in a {name} file"), format!("`{program} -d`")];
            assert_refused(&mut convert_command(&packed, "raw", &out, &[]), 1, &words.each_ref().map(String::as_str));
        }
    }
    for form in ["vdi", "qed"] {
        if need("qemu-img") {
            let packed = directory.path().join(form);
            run_tool(tool("qemu-img").args(["convert", "-f", "raw", "-O", form]).args([&noise, &packed]));
            assert_refused(&mut convert_command(&packed, "raw", &out, &[]), 1, &["qemu-img convert -O raw"]);
        }
    }
}

/// An image of ours has the same bytes whatever it went through.
#[test]
fn ours_comes_back() {
    let built: Built = example();
    let at = |name: &str| built.scratch().join(name);
    convert(&built.image, "zst", &at("zst"), &[]);
    convert(&at("zst"), "raw", &at("raw"), &[]);
    assert_same(&at("raw"), &built.image);
    let [ours, theirs] = [&built.image, &at("raw")].map(|path| fs::metadata(path).unwrap());
    use std::os::unix::fs::MetadataExt;
    assert!(theirs.blocks() <= ours.blocks() + 64, "{} and {} blocks", ours.blocks(), theirs.blocks());
}
