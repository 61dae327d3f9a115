//! Images made on purpose: directories that lead to themselves, files larger than all disks. No command takes more for
//! them than what is in them, and every command ends at the first signal.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::support::foreign::{mkfs_ext4, mkfs_fat};
use crate::support::image::{sane_image, with_signals};
use crate::support::tool::{need, run, tool};

const PATH: &str = "nix/store/0q43idch209zsdngl8yl79x0y79aajib-a";
/// Nothing here takes a second where nobody else works; what went wrong took hours.
const GUARD: Duration = Duration::from_secs(30);
/// What a command may take, in KiB of address space: what went wrong took all there was.
const MEMORY: u64 = 1 << 20;

const AGAIN: &str = "is a directory that was met before at another path";

/// A store path with many files, and a registration that claims any size of it.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at(PATH)).unwrap();
    (0..400).for_each(|n| fs::write(at(&format!("{PATH}/file-{n}")), "").unwrap());
    let registered = format!("/{PATH}\nsha256:{}\n{}\n\n0\n", "0".repeat(52), 1u64 << 60);
    fs::write(at("nix-path-registration"), registered).unwrap();
    tree
}

/// A filesystem whose only store path contains itself under two names, as does the store under thirty, and the root.
fn looped() -> Option<NamedTempFile> {
    let image = mkfs_ext4(tree().path(), &["-t", "ext2", "-b", "1024"]).filter(|_| need("debugfs"))?;
    let links = (0..30).map(|n| format!("link /nix/store /nix/store/{n:032}-loop\n"));
    let links: String = links
        .chain([
            format!("link /{PATH} /{PATH}/again\n"),
            format!("link /{PATH} /{PATH}/another\n"),
            "link / /root\nlink /nix /nix2\n".to_owned(),
        ])
        .collect();
    let commands = NamedTempFile::new().unwrap();
    fs::write(commands.path(), links).unwrap();
    run(tool("debugfs").arg("-w").arg("-f").args([commands.path(), image.path()]));
    Some(image)
}

/// The same command with less memory than a loop would take.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

#[test]
fn a_directory_that_leads_to_itself_is_told_and_left() {
    let Some(image) = looped() else { return };
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let name = image.path().to_str().unwrap();
    for (arguments, said) in [
        (vec!["ls", name, "nix", "-lR"], AGAIN),
        (vec!["inspect", name], AGAIN),
        (vec!["inspect", name, "--json"], AGAIN),
        (vec!["verify", name], AGAIN),
        (vec!["diff", name, name], AGAIN),
        (vec!["diff", name, name, "--files"], AGAIN),
        (vec!["extract", name, "nix", "--out", out.to_str().unwrap()], AGAIN),
        (vec!["extract", name, "nix", "--tar"], AGAIN),
    ] {
        let started = Instant::now();
        let output = limited(sane_image().args(&arguments)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", output.status);
        assert!(text.contains(said), "{arguments:?}: {text}");
        assert!(text.len() < 1 << 20, "{arguments:?}: {} bytes", text.len());
        assert!(started.elapsed() < GUARD, "{arguments:?}: {:?}", started.elapsed());
    }
}

/// Every place of `what` in `bytes`.
fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    (0..bytes.len() - what.len()).filter(|&at| bytes[at..].starts_with(what)).collect()
}

/// The same where the format is another: what leads to `top/loop` leads to `top` instead.
fn is_told(image: &Path, said: &str) {
    for arguments in [&["ls", "1", "-lR"][..], &["inspect"], &["verify"], &["extract", "1", "--tar"]] {
        let (command, rest) = arguments.split_first().unwrap();
        let started = Instant::now();
        let output = limited(sane_image().arg(command).arg(image).args(rest)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        // The check of a format has words of its own.
        assert!(*command == "verify" || text.contains(said), "{arguments:?}: {text}");
        assert!(started.elapsed() < GUARD, "{arguments:?}: {:?}", started.elapsed());
    }
}

#[test]
fn a_loop_of_btrfs() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("top/loop")).unwrap();
    (0..400).for_each(|n| fs::write(tree.path().join(format!("top/file-{n}")), "").unwrap());
    if !need("mkfs.btrfs") {
        return;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(128 << 20).unwrap();
    run(tool("mkfs.btrfs").args(["-q", "-f", "-m", "single", "--rootdir"]).args([tree.path(), image.path()]));
    let mut bytes = fs::read(image.path()).unwrap();
    // An entry: the key of what it leads to (17 bytes), a number (8), the lengths of data and name, the type, the name.
    let entry = |name: &str| [&[0, 0][..], &[u8::try_from(name.len()).unwrap(), 0, 2], name.as_bytes()].concat();
    let top = places(&bytes, &entry("top"))[0] - 25;
    let top: [u8; 8] = bytes[top..top + 8].try_into().unwrap();
    let found = places(&bytes, &entry("loop"));
    assert!(found.len() >= 2, "the entry stands under its hash and under its number");
    for at in found {
        bytes[at - 25..at - 17].copy_from_slice(&top);
        let node = at / 16_384 * 16_384;
        let sum = crc32c::crc32c(&bytes[node + 32..node + 16_384]);
        bytes[node..node + 4].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(image.path(), bytes).unwrap();
    is_told(image.path(), AGAIN);
}

#[test]
fn a_loop_of_fat() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("TOP/LOOP")).unwrap();
    let Some(image) = mkfs_fat(tree.path(), "16") else { return };
    let mut bytes = fs::read(image.path()).unwrap();
    let [top, within] = ["TOP        \x10", "LOOP       \x10"].map(|entry| places(&bytes, entry.as_bytes())[0] + 26);
    bytes.copy_within(top..top + 2, within);
    fs::write(image.path(), bytes).unwrap();
    is_told(image.path(), "claimed");
}

/// A filesystem with a file that is a hole of 10 TiB with some bytes in it.
fn hollow() -> Option<NamedTempFile> {
    let tree = tempfile::tempdir().unwrap();
    let file = fs::File::create(tree.path().join("hollow")).unwrap();
    file.set_len(10 << 40).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    for n in 1..40u64 {
        file.write_all_at(b"island", (n << 37) + 4096).unwrap();
    }
    mkfs_ext4(tree.path(), &["-b", "4096"])
}

#[test]
fn a_hole_is_extracted_as_one() {
    let Some(image) = hollow() else { return };
    let out = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let at = |name: &str| out.path().join(name);
    run(sane_image().arg("extract").arg(image.path()).args(["nix", "--out"]).arg(at("plain")));
    let output = sane_image().arg("extract").arg(image.path()).args(["nix", "--tar"]).output().unwrap();
    assert!(output.stdout.len() < 1 << 20, "{} bytes", output.stdout.len());
    fs::write(at("hollow.tar"), output.stdout).unwrap();
    fs::create_dir(at("tar")).unwrap();
    let mut copies = vec!["plain"];
    if need("tar") {
        run(tool("tar").arg("-xf").arg(at("hollow.tar")).arg("-C").arg(at("tar")));
        copies.push("tar");
    }
    for copy in copies {
        let file = fs::File::open(at(copy).join("hollow")).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 10 << 40, "{copy}");
        assert!(metadata.blocks() < 2048, "{copy}: {} blocks", metadata.blocks());
        let read = |at: u64| {
            let mut bytes = [9; 7];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(&read(0), b"start\0\0", "{copy}");
        (1..40u64).for_each(|n| assert_eq!(&read((n << 37) + 4096), b"island\0", "{copy}: island {n}"));
        assert_eq!(read((5 << 37) + 9000), [0; 7]);
    }
    assert!(started.elapsed() < GUARD, "{:?}", started.elapsed());
}

/// A size that no file can have is damage; with any other name of it nothing is streamed for days.
#[test]
fn a_size_that_cannot_be_is_told() {
    let Some(image) = hollow().filter(|_| need("debugfs")) else { return };
    run(tool("debugfs").args(["-w", "-R", "set_inode_field /hollow size 282000000000000"]).arg(image.path()));
    for arguments in [&["cat", "hollow"][..], &["extract", "--tar"]] {
        let (command, rest) = arguments.split_first().unwrap();
        let output = sane_image().arg(command).arg(image.path()).arg("nix").args(rest).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let why = "has a size of 282000000000000 bytes, but no file has more than 17592186044416";
        assert!(output.status.code() == Some(1) && said.contains(why), "{arguments:?}: {said}");
    }
}

fn started(command: &Command, signals: &str) -> Child {
    let mut command = with_signals(command, signals);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until so many bytes were written.
fn wait_for_work(child: &mut Child, bytes: u64) {
    let written = |child: &Child| {
        let counts = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
        counts.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
    };
    while written(child) < bytes {
        assert_eq!(child.try_wait().unwrap(), None, "ended before it was told to");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends by the signal, and soon.
fn dies_of(signal: Signal, command: &Command) {
    let mut child = started(command, "--default-signal=INT,TERM");
    wait_for_work(&mut child, 4 << 20);
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{command:?}: {status}");
    assert!(asked.elapsed() < GUARD, "{command:?} took {:?} to stop", asked.elapsed());
}

#[test]
fn what_reads_ends_at_a_signal() {
    let Some(image) = hollow() else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let mut cat = sane_image();
        cat.arg("cat").arg(image.path()).args(["nix", "hollow"]);
        dies_of(signal, &cat);
    }
}

/// A filesystem with a file without holes, large enough to be met at work.
fn large() -> Option<NamedTempFile> {
    let tree = tempfile::tempdir().unwrap();
    let mut ones = std::io::repeat(1).take(300 << 20);
    std::io::copy(&mut ones, &mut fs::File::create(tree.path().join("large")).unwrap()).unwrap();
    if !need("mkfs.ext4") {
        return None;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(400 << 20).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-F", "-d"]).args([tree.path(), image.path()]));
    Some(image)
}

/// Nothing half-done stays, and it does not take until the file's end.
#[test]
fn extraction_cleans_up_after_a_signal() {
    let Some(image) = large() else { return };
    let out = tempfile::tempdir().unwrap();
    let mut extract = sane_image();
    extract.arg("extract").arg(image.path()).args(["nix", "large", "--out"]).arg(out.path().join("a/b"));
    dies_of(Signal::INT, &extract);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

/// As `nohup` starts it.
#[test]
fn a_signal_that_was_ignored_stays_so() {
    let Some(image) = large() else { return };
    let out = tempfile::tempdir().unwrap();
    let mut extract = sane_image();
    extract.arg("extract").arg(image.path()).args(["nix", "large", "--out"]).arg(out.path());
    let mut child = started(&extract, "--ignore-signal=HUP");
    wait_for_work(&mut child, 4 << 20);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(out.path().join("large").metadata().unwrap().len(), 300 << 20);
}

/// An ext4 of 1 TiB with next to nothing in it: what a check remembers grows with what is in it, not with its size.
#[test]
fn an_empty_filesystem_of_a_tebibyte() {
    if !need("mke2fs") {
        return;
    }
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 40).unwrap();
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-J", "size=4", "-E", "lazy_itable_init=1"]).arg(image.path()));
    let output = limited(sane_image().arg("verify").arg(image.path())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("right: ext4"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
