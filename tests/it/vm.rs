//! `sane-image vm` with a make-believe QEMU, which tells what it was started with: what the command line is made of, the
//! disk that QEMU finds, and what goes wrong before. The boot tests have the real one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, run, sane_image, with_signals};
use crate::support::tool::{run as run_tool, script, tool};

/// Prints its arguments, and of a disk without a name, which it can write to, its checksum; its own exit code is one that nobody else has.
const QEMU: &str = "#!/bin/sh
for word; do
  echo \"<$word>\"
  case $word in
  *,file=/proc/self/fd/*) echo \"disk $(sha256sum < /dev/fd/${word##*/})\" ;;
  esac
done
exit 7
";

/// A place with QEMU, a firmware, and room for temporary files.
struct Bench {
    place: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { place: tempfile::tempdir().unwrap() };
        ["bin", "firmware/qemu_arm64", "tmp"].iter().for_each(|name| fs::create_dir_all(bench.at(name)).unwrap());
        for processor in ["x86_64", "aarch64"] {
            script(&bench.at("bin").join(format!("qemu-system-{processor}")), QEMU);
        }
        ["code.fd", "vars.fd", "qemu_arm64/u-boot.bin"]
            .iter()
            .for_each(|name| fs::write(bench.at("firmware").join(name), "").unwrap());
        let file = |name: &str| json!({ "filename": bench.at("firmware").join(name), "format": "raw" });
        let descriptor = json!({
            "interface-types": ["uefi"],
            "mapping": { "device": "flash", "executable": file("code.fd"), "nvram-template": file("vars.fd") },
            "targets": [{ "architecture": "x86_64", "machines": ["pc-q35-*"] }],
            "features": [],
        });
        fs::write(bench.at("firmware/50-test.json"), descriptor.to_string()).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn vm(&self, source: &Path) -> Command {
        let mut command = sane_image();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.at("bin")).chain(std::env::split_paths(&path));
        command.arg("vm").arg(source).env("PATH", std::env::join_paths(path).unwrap());
        command.env("TMPDIR", self.at("tmp")).env("SANE_IMAGE_FIRMWARE", self.at("firmware"));
        command
    }

    fn of_spec(&self, closure: &Closure) -> Command {
        let mut command = self.vm(&closure.spec_path());
        command.arg("--store-root").arg(closure.root());
        command
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.at("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A host whose boot partition is made by this script.
fn host(populate: &str) -> ClosureBuilder {
    let command = format!("f() {{ {populate}\n}}; f");
    ClosureBuilder::new().spec(move |spec| spec["populateCmd"] = json!(command))
}

fn uefi() -> ClosureBuilder {
    host("mkdir -p EFI/BOOT && echo program > EFI/BOOT/BOOTX64.EFI")
}

/// A host that U-Boot starts; its kernel says that it is for 64-bit ARM.
fn u_boot() -> ClosureBuilder {
    host(
        "mkdir extlinux && head -c 56 /dev/zero > kernel && printf 'ARM\\144' >> kernel
        printf 'DEFAULT a\\nLABEL a\\nLINUX ../kernel\\nAPPEND console=ttyS2\\n' > extlinux/extlinux.conf",
    )
}

#[test]
fn qemu_gets_the_very_disk_that_build_makes() {
    gets_the_very_disk(&uefi().write());
}

/// The same of a disk that an installer has written to, or has put in the place of ours.
#[test]
fn qemu_gets_what_the_installer_has_left() {
    for install in [
        "printf loader | dd of=$out/nixos.img bs=64K seek=1 conv=notrunc",
        "printf loader | dd of=$out/nixos.img bs=64K seek=1 conv=notrunc && cp $out/nixos.img $out/new && mv $out/new $out/nixos.img",
    ] {
        gets_the_very_disk(&uefi().spec(move |spec| spec["installBootloader"] = json!(install)).write());
    }
}

fn gets_the_very_disk(closure: &Closure) {
    let bench = Bench::new();
    let built = Built::new(closure, &[]);
    let sum = String::from_utf8(run_tool(tool("sha256sum").stdin(fs::File::open(&built.image).unwrap()))).unwrap();
    let ran = run(bench.of_spec(closure).args(["--forward", "2222:22", "--", "-s", "a b"])).expect_failure(7);
    assert!(ran.stdout.contains(&format!("disk {sum}")), "{sum}{}", ran.stdout);
    let code = bench.at("firmware/code.fd");
    for words in [
        "<q35>\n".to_owned(),
        format!("<if=pflash,unit=0,format=raw,readonly=on,file={}>\n", code.display()),
        "<user,id=net,hostfwd=tcp:127.0.0.1:2222-:22>\n".to_owned(),
        "<-s>\n<a b>\n".to_owned(),
    ] {
        assert!(ran.stdout.contains(&words), "no {words} in {}", ran.stdout);
    }
    bench.assert_nothing_left();
}

#[test]
fn an_image_is_qemus_to_read_and_nobodys_to_write() {
    let (bench, closure) = (Bench::new(), u_boot().write());
    let built = Built::new(&closure, &["--format", "raw,qcow2,vmdk,vhd,vhdx,zst"]);
    let sum = String::from_utf8(run_tool(tool("sha256sum").stdin(fs::File::open(&built.image).unwrap()))).unwrap();
    for (extension, options) in [
        ("img", "format=raw"),
        ("qcow2", "format=qcow2"),
        ("vmdk", "format=vmdk"),
        ("vhd", "format=vpc,force_size_calc=current_size"),
        ("vhdx", "format=vhdx"),
    ] {
        let image = built.scratch().join(format!("a,b.{extension}"));
        fs::rename(built.image.with_extension(extension), &image).unwrap();
        let mut command = bench.vm(Path::new(image.file_name().unwrap()));
        let ran = run(command.current_dir(built.scratch())).expect_failure(7);
        let name = image.to_str().unwrap().replace(',', ",,");
        let drive = format!("<if=none,id=disk,{options},snapshot=on,cache=unsafe,file={name}>\n");
        assert!(ran.stdout.contains(&drive), "no {drive} in {}", ran.stdout);
        let u_boot = format!("<-bios>\n<{}>\n", bench.at("firmware/qemu_arm64/u-boot.bin").display());
        assert!(ran.stdout.contains(&u_boot), "{}", ran.stdout);
        assert!(ran.stderr.contains("no parameter console=ttyAMA0"), "{}", ran.stderr);
    }
    let ran = run(&mut bench.vm(&built.image.with_extension("img.zst"))).expect_failure(7);
    assert!(ran.stdout.contains(&format!("disk {sum}")), "{sum}{}", ran.stdout);
    bench.assert_nothing_left();
}

/// Boot code in the first sector is for a BIOS. Of an image that UEFI starts, too, the user says which.
#[test]
fn a_bios_starts_what_has_boot_code() {
    let code = "printf code | dd of=$out/nixos.img conv=notrunc";
    let bench = Bench::new();
    for (host, arguments, words) in [
        (host("true"), &[][..], "<q35,graphics=off>\n"),
        (host("true"), &["--display"], "<q35>\n"),
        (uefi(), &["--firmware", "bios"], "<q35,graphics=off>\n"),
    ] {
        let closure = host.spec(move |spec| spec["installBootloader"] = json!(code)).write();
        let ran = run(bench.of_spec(&closure).args(arguments)).expect_failure(7);
        assert!(ran.stdout.contains(words) && !ran.stdout.contains("if=pflash"), "{arguments:?}: {}", ran.stdout);
        assert!(ran.stderr.contains("a machine with x86_64, BIOS"), "{}", ran.stderr);
    }
    let closure = uefi().spec(move |spec| spec["installBootloader"] = json!(code)).write();
    for arguments in [&[][..], &["--firmware", "uefi"]] {
        let ran = run(bench.of_spec(&closure).args(arguments)).expect_failure(7);
        assert!(ran.stdout.contains("<q35>\n") && ran.stdout.contains("if=pflash"), "{arguments:?}: {}", ran.stdout);
    }
    bench.assert_nothing_left();
}

#[test]
fn what_is_kept_is_made_once() {
    let (bench, closure) = (Bench::new(), uefi().write());
    let built = Built::new(&closure, &[]);
    let made = fs::read(&built.image).unwrap();
    for (source, name) in [(None, "spec/machine.qcow2"), (Some(&built.image), "image/machine.qcow2")] {
        let kept = bench.at(name);
        let vm = || source.map_or_else(|| bench.of_spec(&closure), |image| bench.vm(image));
        let ran = run(vm().arg("--keep").arg(&kept)).expect_failure(7);
        let drive = format!("<if=none,id=disk,format=qcow2,file={}>\n", kept.display());
        assert!(ran.stdout.contains(&drive), "no {drive} in {}", ran.stdout);
        let raw = kept.with_extension("raw");
        run(sane_image().arg("convert").arg(&kept).args(["--format", "raw", "--out"]).arg(&raw)).expect_success();
        assert!(fs::read(&raw).unwrap() == made, "{name} is not what build makes");
        fs::remove_file(&raw).unwrap();
        let inode = fs::metadata(&kept).unwrap().ino();
        let again = run(vm().arg("--keep").arg(&kept)).expect_failure(7);
        assert!(again.stdout.contains(&drive) && again.stderr.contains("exists: it is booted"), "{}", again.stderr);
        assert_eq!(fs::metadata(&kept).unwrap().ino(), inode, "{name} was made again");
        let names = fs::read_dir(kept.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "{name} is not alone");
    }
    bench.assert_nothing_left();
}

#[test]
fn what_cannot_be_is_told_and_nothing_is_started() {
    let (bench, closure) = (Bench::new(), uefi().write());
    let built = Built::new(&closure, &[]);
    let image = built.image.to_str().unwrap();
    let spec = closure.spec_path();
    let nothing = Built::new(&host("true").write(), &[]);
    let compressed = built.scratch().join("x.zst");
    run(sane_image().args(["convert", image, "--format", "zst", "--out"]).arg(&compressed)).expect_success();
    let rows: [(&Path, &[&str], i32, &str); 18] = [
        (&built.image, &["--forward", "22"], 2, "two ports from 1 to 65535"),
        (&built.image, &["--forward", "2222:22:22"], 2, "two ports from 1 to 65535"),
        (&built.image, &["--forward", "2222-22"], 2, "two ports from 1 to 65535"),
        (&built.image, &["--forward", "0:22"], 2, "two ports from 1 to 65535"),
        (&built.image, &["--memory", "0"], 2, "a number of MiB, at least 1"),
        (&built.image, &["--memory", "2GB"], 2, "a number of MiB, at least 1"),
        (&built.image, &["--cpus", "0"], 2, "a number, at least 1"),
        (&built.image, &["--store-root", "/"], 2, "is for a spec, and this is an image"),
        (&built.image, &["--keep", image], 2, "is SOURCE itself"),
        (&built.image, &["--keep", "/dev/null"], 2, "is a character device"),
        (&built.image, &["--keep", compressed.to_str().unwrap()], 2, "is compressed"),
        (Path::new("-"), &[], 2, "standard input is the machine's serial port"),
        (Path::new("/nowhere"), &[], 1, "/nowhere: cannot be read: No such file"),
        (&spec, &["--store-root", "/nowhere"], 2, "is not a directory"),
        (&nothing.image, &[], 1, "there is nothing in it that boots in a virtual machine: no EFI/BOOT/BOOTX64.EFI"),
        (&built.image, &["--firmware", "bios"], 1, "nothing in it starts by BIOS; leave --firmware out"),
        (&built.image, &["--firmware", "u-boot"], 1, "nothing in it starts by U-Boot; leave --firmware out"),
        (bench.place.path(), &[], 1, "is a directory"),
    ];
    for (source, arguments, code, words) in rows {
        let ran = run(bench.vm(source).args(arguments)).expect_failure(code);
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
    bench.assert_nothing_left();
}

#[test]
fn what_is_missing_is_told_by_its_package() {
    let (bench, built) = (Bench::new(), Built::new(&u_boot().write(), &[]));
    let ran = run(bench.vm(&built.image).env("PATH", "")).expect_failure(1);
    let words = "qemu-system-aarch64: is not on PATH, and nothing else boots aarch64; install qemu-system-arm (Debian) or qemu (Nix)";
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    if !Path::new("/usr/lib/u-boot/qemu_arm64").exists() && !Path::new("/usr/share/uboot/qemu_arm64").exists() {
        let ran = run(bench.vm(&built.image).env("SANE_IMAGE_FIRMWARE", "/nowhere")).expect_failure(1);
        assert!(ran.stderr.contains("install u-boot-qemu (Debian) or ubootQemuAarch64 (Nix)"), "{}", ran.stderr);
    }
}

/// A shell takes what is printed for the very words that QEMU would have got.
#[test]
fn what_is_printed_is_what_would_be_started() {
    let (bench, built) = (Bench::new(), Built::new(&uefi().write(), &[]));
    let arguments = ["--memory", "3G", "--cpus", "2", "--", "-accel", "tcg", "it's", ""];
    let started = run(bench.vm(&built.image).args(arguments)).expect_failure(7);
    let arguments = [&["--print"], arguments.as_slice()].concat();
    let printed = run(bench.vm(&built.image).args(arguments)).expect_success();
    let shell = run(tool("sh").arg("-c").arg(&printed.stdout)).expect_failure(7);
    assert_eq!(shell.stdout, started.stdout);

    let closure = uefi().write();
    let printed = run(bench.of_spec(&closure).arg("--print")).expect_success();
    assert!(printed.stdout.contains("file=nixos.img'"), "{}", printed.stdout);
    bench.assert_nothing_left();
}

#[test]
fn a_signal_before_qemu_starts_leaves_nothing() {
    for keep in [false, true] {
        let (bench, closure) = (Bench::new(), host("echo ready >&2; sleep 60").write());
        let mut command = bench.of_spec(&closure);
        if keep {
            command.arg("--keep").arg(bench.at("tmp/kept.qcow2"));
        }
        let mut child = with_signals(&command, "--default-signal=INT,TERM");
        child.env("TMPDIR", bench.at("tmp")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"), "populateCmd never ran");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
        bench.assert_nothing_left();
    }
}
