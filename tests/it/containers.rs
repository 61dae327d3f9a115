//! Images in qcow2, VMDK, VHD, VHDX and zst files: what the commands say of them is what they say of the raw image.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::image::{Built, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{need, run as run_tool, tool};

/// Arguments of `qemu-img convert`, QEMU's name of the format, and ours with its variant.
pub(crate) const FORMS: [(&[&str], &str, &str, &str); 14] = [
    (&["-O", "qcow2"], "qcow2", "qcow2", "version 3"),
    (&["-O", "qcow2", "-c"], "qcow2", "qcow2", "version 3"),
    (&["-O", "qcow2", "-c", "-o", "compat=0.10"], "qcow2", "qcow2", "version 2"),
    (&["-O", "qcow2", "-c", "-o", "compression_type=zstd"], "qcow2", "qcow2", "version 3"),
    (&["-O", "qcow2", "-o", "cluster_size=512"], "qcow2", "qcow2", "version 3"),
    (&["-O", "qcow2", "-c", "-o", "cluster_size=2M"], "qcow2", "qcow2", "version 3"),
    (&["-O", "qcow2", "-o", "extended_l2=on"], "qcow2", "qcow2", "version 3"),
    (&["-O", "vmdk", "-o", "subformat=monolithicSparse"], "vmdk", "VMDK", "monolithicSparse"),
    (&["-O", "vmdk", "-o", "subformat=streamOptimized"], "vmdk", "VMDK", "streamOptimized"),
    (&["-O", "vpc", "-o", "subformat=fixed,force_size=on"], "vpc", "VHD", "fixed"),
    (&["-O", "vpc", "-o", "subformat=dynamic,force_size=on"], "vpc", "VHD", "dynamic"),
    (&["-O", "vhdx", "-o", "subformat=dynamic"], "vhdx", "VHDX", "dynamic"),
    (&["-O", "vhdx", "-o", "subformat=fixed"], "vhdx", "VHDX", "fixed"),
    (&["-O", "vhdx", "-o", "block_size=1M"], "vhdx", "VHDX", "dynamic"),
];

/// A file of the system's top level in the example.
const ETC: &str = "/nix/store/slsdgsvg4546q02is22pr0nxna3l2qsn-etc";

pub(crate) fn example() -> Built {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/example");
    Built::from_spec(&example.join("spec.json"), &example, &[])
}

fn convert(raw: &Path, to: &Path, arguments: &[&str]) {
    run_tool(tool("qemu-img").args(["convert", "-f", "raw"]).args(arguments).args([raw, to]));
}

/// A zst whose frames have this many bytes of the image, with a seek table.
fn seekable(raw: &Path, to: &Path, frame: usize, with_sums: bool) {
    let (mut image, mut file, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    File::open(raw).unwrap().read_to_end(&mut image).unwrap();
    for frame in image.chunks(frame) {
        let packed = zstd::bulk::compress(frame, 3).unwrap();
        file.extend_from_slice(&packed);
        entries.extend([packed.len(), frame.len()].map(|len| u32::try_from(len).unwrap().to_le_bytes()).concat());
        entries.extend(if with_sums { &[0xaa; 4][..] } else { &[] });
    }
    let frames = u32::try_from(image.len().div_ceil(frame)).unwrap();
    let contents = u32::try_from(entries.len() + 9).unwrap();
    file.extend([0x184d_2a5e_u32, contents].map(u32::to_le_bytes).concat());
    file.extend(entries);
    file.extend(frames.to_le_bytes());
    file.push(if with_sums { 0x80 } else { 0 });
    file.extend(0x8f92_eab1_u32.to_le_bytes());
    fs::write(to, file).unwrap();
}

/// Commands that look into images.
const LOOKS: [&[&str]; 8] = [
    &["ls", "boot", "-lR"],
    &["ls", "nix", "-lR"],
    &["cat", "boot", "extlinux/extlinux.conf"],
    &["cat", "nix", "nix-path-registration"],
    &["ls", "nix", "-l", ETC],
    &["extract", "nix", "--tar"],
    &["verify", "--json"],
    &["inspect", "--json"],
];

/// What they say of an image, but for its name, its container, and the time that it took.
fn said(image: &Path) -> Vec<String> {
    let say = |arguments: &&[&str]| {
        let run = run(sane_image().arg(arguments[0]).arg(image).args(&arguments[1..])).expect_success();
        let said = run.stdout.replace(image.to_str().unwrap(), "IMAGE");
        match serde_json::from_str::<Value>(&said) {
            Ok(Value::Object(mut report)) => {
                ["container", "seconds"].iter().for_each(|key| drop(report.remove(*key)));
                Value::Object(report).to_string()
            }
            _ => said,
        }
    };
    LOOKS.iter().map(say).collect()
}

/// That an image holds what another does, of which this was said.
#[track_caller]
fn assert_says(image: &Path, wanted: &[String], what: &str) {
    for ((said, wanted), look) in said(image).iter().zip(wanted).zip(LOOKS) {
        // An archive is too long to be shown.
        assert!(said == wanted, "{what}: {look:?} says something else of it");
    }
}

#[track_caller]
fn assert_container(image: &Path, format: &str, variant: &str, raw: &Path) {
    let run = run(sane_image().arg("inspect").arg(image).arg("--json")).expect_success();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["container"]["format"], format);
    assert_eq!(report["container"]["variant"], variant);
    assert_eq!(report["container"]["fileSize"], fs::metadata(image).unwrap().len());
    assert_eq!(report["size"], fs::metadata(raw).unwrap().len());
}

#[test]
fn every_form_says_what_the_raw_image_says() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let wanted = said(&built.image);
    let file = built.scratch().join("disk.img");
    for (arguments, theirs, format, variant) in FORMS {
        convert(&built.image, &file, arguments);
        oracle::qemu_img_compare(&built.image, &file, theirs).expect_clean();
        assert_says(&file, &wanted, &format!("{arguments:?}"));
        assert_container(&file, format, variant, &built.image);
    }
    let text = run(sane_image().arg("inspect").arg(&file)).expect_success().stdout;
    assert!(text.lines().nth(1).unwrap().starts_with("VHDX (dynamic) in a file of "), "{text}");
    run(sane_image().arg("diff").args([&built.image, &file])).expect_success();
}

#[test]
fn a_zst_with_a_seek_table_says_what_the_raw_image_says() {
    let built = example();
    let wanted = said(&built.image);
    let file = built.scratch().join("disk");
    for (frame, with_sums) in [(1 << 20, false), (100_000, true), (16 << 20, true)] {
        seekable(&built.image, &file, frame, with_sums);
        assert_says(&file, &wanted, &format!("frames of {frame}"));
        let frames = fs::metadata(&built.image).unwrap().len().div_ceil(frame as u64);
        assert_container(&file, "zst", &format!("seekable, frames: {frames}"), &built.image);
        if need("zstd") {
            let unpacked = run_tool(tool("zstd").args(["-q", "-d", "-c"]).arg(&file));
            assert!(unpacked == fs::read(&built.image).unwrap(), "zstd unpacks something else");
        }
    }
    seekable(&built.image, &file, 17 << 20, false);
    assert_refused(&file, &["frame of 17825792 bytes", "zstd -d"]);
}

/// As VMware writes it in one go: only the footer knows where the directory is.
#[test]
fn a_vmdk_may_have_its_directory_at_the_end() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let path = built.scratch().join("disk");
    convert(&built.image, &path, &["-O", "vmdk", "-o", "subformat=streamOptimized"]);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let header = bytes[..512].to_vec();
    bytes[56..64].fill(0xff);
    let mut marker = [0; 512];
    (marker[0], marker[12]) = (1, 3);
    bytes.extend([marker.as_slice(), &header, &[0; 512]].concat());
    fs::write(&path, &bytes).unwrap();
    oracle::qemu_img_compare(&built.image, &path, "vmdk").expect_clean();
    assert_says(&path, &said(&built.image), "a VMDK with a footer");
    bytes.truncate(bytes.len() - 512);
    fs::write(&path, &bytes).unwrap();
    assert_refused(&path, &["VMDK footer", "cut short"]);
}

/// That all commands refuse a file in one line with these parts.
#[track_caller]
fn assert_refused(image: &Path, parts: &[&str]) {
    for arguments in [&["inspect"][..], &["ls", "nix"], &["cat", "boot", "x"], &["verify"], &["extract", "1", "--tar"]]
    {
        let run = run(sane_image().arg(arguments[0]).arg(image).args(&arguments[1..])).expect_failure(1);
        let lines: Vec<_> = run.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{}", run.stderr);
        assert!(parts.iter().all(|part| lines[0].contains(part)), "{parts:?}: {}", run.stderr);
    }
}

/// A place for files, and a raw image of a megabyte without anything in it.
fn blank() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    (dir, raw)
}

#[test]
fn a_zst_without_a_seek_table_is_refused() {
    let (dir, _) = blank();
    let file = dir.path().join("disk.img");
    for packed in
        [zstd::bulk::compress(&[0; 100_000], 3).unwrap(), b"\x50\x2a\x4d\x18\0\0\0\0\x28\xb5\x2f\xfd".to_vec()]
    {
        fs::write(&file, packed).unwrap();
        assert_refused(&file, &["the zst has no seek table", "unpack it with `zstd -d`"]);
    }
}

#[test]
fn what_is_not_all_in_one_file_is_refused() {
    if !need("qemu-img") {
        return;
    }
    let (dir, raw) = blank();
    let at = |name: &str| dir.path().join(name);
    let create = |name: &str, arguments: &[&str]| {
        run_tool(tool("qemu-img").current_dir(dir.path()).args(["create", "-q"]).args(arguments).args([name, "1M"]));
        at(name)
    };
    let raw_name = raw.to_str().unwrap();
    let backed = create("backed", &["-f", "qcow2", "-F", "raw", "-b", raw_name]);
    assert_refused(&backed, &["backing file", raw_name, "qemu-img convert -O raw"]);
    let external = create("external", &["-f", "qcow2", "-o", "data_file=data,data_file_raw=on"]);
    assert_refused(&external, &["external data file", "qemu-img convert -O raw"]);
    for (kind, told) in [("monolithicFlat", "monolithicFlat"), ("twoGbMaxExtentSparse", "twoGbMaxExtentSparse")] {
        let descriptor = create(kind, &["-f", "vmdk", "-o", &format!("subformat={kind}")]);
        assert_refused(&descriptor, &["the VMDK is only the descriptor", told, "qemu-img convert -O raw"]);
    }
    assert_refused(&at("twoGbMaxExtentSparse-s001"), &["one extent of a split disk"]);
    create("parent", &["-f", "vmdk"]);
    let link = create("link", &["-f", "vmdk", "-F", "vmdk", "-b", "parent"]);
    assert_refused(&link, &["delta link", "parent"]);
}

#[test]
fn bits_that_forbid_reading_are_told() {
    if !need("qemu-img") {
        return;
    }
    let (dir, raw) = blank();
    let file = dir.path().join("disk");
    let patched = |form: &str, at: u64, bytes: &[u8]| {
        convert(&raw, &file, &["-O", form]);
        File::options().write(true).open(&file).unwrap().write_all_at(bytes, at).unwrap();
    };
    // The last byte of the incompatible features.
    for (bit, told) in [(1, "dirty"), (2, "corrupt"), (0x80, "unknown: bit 7")] {
        patched("qcow2", 79, &[bit]);
        assert_refused(&file, &["the qcow2", told, "qemu-img"]);
    }
    // The last byte of the method of encryption. qemu-img cannot be asked for an encrypted image: it measures how fast keys
    // are derived, and gives up if the kernel counts no time for that, as it may on a busy machine.
    for (method, told) in [(1, "encrypted (AES)"), (2, "encrypted (LUKS)"), (3, "method 3")] {
        patched("qcow2", 35, &[method]);
        assert_refused(&file, &[told, "qemu-img convert -O raw"]);
    }
    patched("qcow2", 7, &[1]);
    assert_refused(&file, &["version 1"]);
    patched("vmdk", 73, b"\r\n");
    assert_refused(&file, &["copied as if it were text"]);
    // The checksums of a footer and its copy.
    convert(&raw, &file, &["-O", "vpc"]);
    let len = fs::metadata(&file).unwrap().len();
    let written = File::options().write(true).open(&file).unwrap();
    [0, len - 512].iter().for_each(|&at| written.write_all_at(b"\xff\xff\xff\xff", at + 64).unwrap());
    assert_refused(&file, &["VHD footer", "checksum"]);
    // Both headers of a VHDX, whose sums are no more right.
    convert(&raw, &file, &["-O", "vhdx"]);
    let written = File::options().write(true).open(&file).unwrap();
    [64 << 10, 128 << 10].iter().for_each(|&at| written.write_all_at(b"\xff", at + 48).unwrap());
    assert_refused(&file, &["VHDX header", "checksum"]);
    // And right again: a log that waits.
    let mut header = vec![0; 4096];
    for at in [64 << 10, 128 << 10] {
        let file = File::options().read(true).write(true).open(&file).unwrap();
        file.read_exact_at(&mut header, at).unwrap();
        header[4..8].fill(0);
        let sum = crc32c::crc32c(&header).to_le_bytes();
        file.write_all_at(&sum, at + 4).unwrap();
    }
    assert_refused(&file, &["changes in its log", "qemu-img check -r all"]);
}

#[test]
fn names_do_not_tell_the_form() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let raw = built.scratch().join("raw.qcow2");
    fs::copy(&built.image, &raw).unwrap();
    assert_says(&raw, &said(&built.image), "a raw image called qcow2");
    let file = built.scratch().join("qcow2.img");
    convert(&built.image, &file, &["-O", "qcow2"]);
    assert_container(&file, "qcow2", "version 3", &built.image);
}

/// Every kind of container, cut short and with bytes changed all over it, is read or refused, and never more.
#[test]
fn damage_is_told() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let file = built.scratch().join("disk");
    let mut seen = 0;
    for (arguments, ..) in FORMS.iter().filter(|(arguments, ..)| !arguments.iter().any(|part| part.contains("fixed"))) {
        convert(&built.image, &file, arguments);
        let good = fs::read(&file).unwrap();
        let used = good.chunks(512).enumerate().filter(|(_, sector)| sector.iter().any(|&byte| byte != 0));
        let used: Vec<_> = used.map(|(number, _)| number * 512).collect();
        // The first sectors have the tables.
        let step = used.len().div_ceil(4).max(1);
        let places = used.iter().take(4).chain(used.iter().step_by(step));
        for at in places {
            let mut bad = good.clone();
            bad[at + 8..at + 48].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(&file, bad).unwrap();
            seen += usize::from(verify(&file) != 0);
        }
        fs::write(&file, &good[..good.len() / 2]).unwrap();
        assert_eq!(verify(&file), 1, "{arguments:?} cut short");
    }
    assert!(seen > 10, "{seen}");
}

/// The exit code of `verify`.
fn verify(image: &Path) -> i32 {
    let run = run(sane_image().arg("verify").arg(image));
    let code = run.status.code().expect("no signal ends it");
    assert!(code == 0 || code == 1, "{code}: {}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    code
}

#[test]
fn disks_of_10_tib_take_no_memory() {
    if !need("qemu-img") {
        return;
    }
    let built = example();
    let files = said(&built.image);
    let large = built.scratch().join("large");
    fs::copy(&built.image, &large).unwrap();
    File::options().write(true).open(&large).unwrap().set_len(10 << 40).unwrap();
    let file = built.scratch().join("disk");
    for form in ["qcow2", "vmdk", "vhdx"] {
        convert(&large, &file, &["-O", form]);
        // 200 MB of address space, the program's own included.
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -v 200000; exec \"$@\"", "sh"]).arg(env!("CARGO_BIN_EXE_sane-image"));
        let listed =
            run(limited.args(["ls".as_ref(), file.as_os_str(), "nix".as_ref(), "-lR".as_ref()])).expect_success();
        assert_eq!(listed.stdout, files[1], "{form}");
        let inspected = run(sane_image().arg("inspect").arg(&file).arg("--json"));
        let report: Value = serde_json::from_str(&inspected.stdout).unwrap();
        assert_eq!(report["size"], 10_u64 << 40);
    }
}
