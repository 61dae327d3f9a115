//! `sign`: what sbverify says of it, and that nothing else changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::foreign::mkfs_fat;
use crate::support::image::{Built, Partition, Run, run, sane_image};
use crate::support::mount::MountPoint;
use crate::support::oracle;
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, need_root, run as run_tool, script, tool, with_suffix};
use crate::systemd_boot::{closure, with_xbootldr};

const SYSTEMD: &str = "/usr/lib/systemd/boot/efi";

/// Keys with their certificates, `a` and `b`; or `None` where the tools are not here, which has been told.
fn keys() -> Option<TempDir> {
    let has_stub = Path::new(SYSTEMD).join("linuxx64.efi.stub").exists();
    let here = has_stub || skip(Lack::other("no linuxx64.efi.stub (systemd-boot-efi)"));
    if !here || !["sbsign", "sbverify", "openssl", "mcopy"].iter().all(|program| need(program)) {
        return None;
    }
    let keys = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let [key, certificate] = ["key", "pem"].map(|kind| keys.path().join(format!("{name}.{kind}")));
        let mut openssl = tool("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj"]);
        openssl.arg(format!("/CN={name}")).arg("-keyout").arg(key).arg("-out").arg(certificate);
        run_tool(&mut openssl);
    }
    Some(keys)
}

fn sign(image: &Path, keys: &TempDir, [key, certificate]: [&str; 2], out: &Path) -> Run {
    let [key, certificate] = [key, certificate].map(|name| keys.path().join(name));
    let mut command = sane_image();
    command.arg("sign").arg(image).arg("--key").arg(key).arg("--certificate").arg(certificate).arg("--out").arg(out);
    run(&mut command)
}

const A: [&str; 2] = ["a.key", "a.pem"];

/// Whether sbverify finds a good signature by this certificate.
fn is_signed(program: &[u8], keys: &TempDir, certificate: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), program).unwrap();
    let certificate = keys.path().join(certificate);
    tool("sbverify").arg("--cert").arg(certificate).arg(file.path()).output().unwrap().status.success()
}

fn with_uki(spec: &mut Value) {
    let stub = Path::new(SYSTEMD).join("linuxx64.efi.stub");
    // Any file will do for a kernel that nobody starts.
    spec["uki"] = json!({ "stub": stub, "kernel": stub, "initrd": stub, "cmdline": "init=/x", "osRelease": stub });
}

fn files(image: &Path, partition: Partition) -> BTreeMap<PathBuf, Vec<u8>> {
    oracle::fat_files(image, partition).unwrap()
}

fn bytes(image: &Path, partition: Partition) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(partition.size).unwrap()];
    fs::File::open(image).unwrap().read_exact_at(&mut bytes, partition.offset).unwrap();
    bytes
}

#[test]
fn programs_of_an_image_are_signed_once() {
    let Some(keys) = keys() else { return };
    let built = Built::new(
        &closure(|spec| {
            with_uki(spec);
            spec["systemdBoot"] = Value::Null;
            // A program by another name is none for firmware, and an initrd has such a name.
            let [stub, text] = ["linuxx64.efi.stub", "systemd-bootx64.efi"].map(|name| Path::new(SYSTEMD).join(name));
            let names = json!([
                { "target": "/boot/EFI/other/program.EFI", "source": text },
                { "target": "/boot/EFI/other/stub", "source": stub },
                { "target": "/boot/EFI/nixos/initrd.efi", "text": "no program" },
            ]);
            spec["files"] = names;
            spec["bootPartSize"] = (64 << 20).into();
        }),
        &[],
    );
    fs::set_permissions(&built.image, fs::Permissions::from_mode(0o640)).unwrap();
    let signed = built.scratch().join("signed.img");
    let said = sign(&built.image, &keys, A, &signed).expect_success().stdout;
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.ends_with("signed.img: 2 signed, 0 signed before\n"), "{said}");
    let (old, new) = (files(&built.image, built.boot()), files(&signed, built.boot()));
    assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    for (path, contents) in &new {
        let is_program = ["EFI/BOOT/BOOTX64.EFI", "EFI/other/program.EFI"].map(Path::new);
        assert_eq!(is_signed(contents, &keys, "a.pem"), is_program.contains(&path.as_path()), "{path:?}");
        assert!(!is_signed(contents, &keys, "b.pem") && !is_signed(&old[path], &keys, "a.pem"), "{path:?}");
        assert!(is_program.contains(&path.as_path()) || *contents == old[path], "{path:?}");
    }
    assert!(bytes(&built.image, built.nix()) == bytes(&signed, built.nix()));
    assert_eq!(fs::metadata(&signed).unwrap().permissions().mode() & 0o777, 0o600);
    oracle::fsck_fat(&signed, built.boot()).expect_clean();
    oracle::sgdisk(&signed, 512).expect_clean();
    run(sane_image().arg("verify").arg(&signed)).expect_success();

    let again = built.scratch().join("again.img");
    let said = sign(&signed, &keys, A, &again).expect_success().stdout;
    assert!(said.ends_with("again.img: 0 signed, 2 signed before\n"), "{said}");
    assert!(fs::read(&again).unwrap() == fs::read(&signed).unwrap());
    // Another certificate's signature comes beside it.
    sign(&signed, &keys, ["b.key", "b.pem"], &again).expect_success();
    let uki = &files(&again, built.boot())[Path::new("EFI/BOOT/BOOTX64.EFI")];
    assert!(is_signed(uki, &keys, "a.pem") && is_signed(uki, &keys, "b.pem"));
}

#[test]
fn xbootldr_and_files_of_their_own_are_signed() {
    let Some(keys) = keys() else { return };
    let built = Built::new(&with_xbootldr("/boot", with_uki), &[]);
    let signed = built.scratch().join("signed.img");
    let said = sign(&built.image, &keys, A, &signed).expect_success().stdout;
    assert!(said.starts_with("partition 2: /EFI/Linux/nixos.efi: signed\n"), "{said}");
    let uki = files(&built.image, built.partition("xbootldr")).remove(Path::new("EFI/Linux/nixos.efi")).unwrap();
    let program = built.scratch().join("box_2.efi");
    fs::write(&program, &uki).unwrap();
    sign(&program, &keys, A, &program).expect_success();
    let signed = fs::read(&program).unwrap();
    assert!(is_signed(&signed, &keys, "a.pem") && signed.len() > uki.len());
    sign(&program, &keys, A, &program).expect_success();
    assert!(fs::read(&program).unwrap() == signed);
}

/// A passphrase is asked for without an echo; who stops that sees again what is typed.
#[test]
fn a_stop_leaves_the_terminal_as_it_was() {
    let Some(keys) = keys().filter(|_| need("script")) else { return };
    let directory = keys.path().display();
    let asks = keys.path().join("sbsign");
    script(&asks, "#!/bin/sh\nstty -echo </dev/tty\ntouch \"${0}.runs\"\nexec sleep 60\n");
    let program = sane_image().get_program().to_owned().into_string().unwrap();
    // Not among what the program draws meanwhile.
    let echo = "stty -a | tr ' ' '\\n' | grep -x -e -echo -e echo >> echoes";
    let session = format!(
        "cd {directory}; {program} sign {SYSTEMD}/linuxx64.efi.stub --key a.key --certificate a.pem --tool ./sbsign \
         --out signed.efi & while [ ! -e sbsign.runs ]; do sleep 0.1; done; {echo}; kill $!; wait $!; {echo}"
    );
    let said = tool("script").args(["-qec", &session, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let echoes = fs::read_to_string(keys.path().join("echoes")).unwrap_or_default();
    assert_eq!(echoes, "-echo\necho\n", "{said}");
}

/// sbsign says nothing of a full disk; and who asks for a passphrase waits until the user stops.
#[test]
fn a_full_disk_and_a_stop_leave_nothing() {
    let Some(keys) = keys() else { return };
    let out = tempfile::tempdir().unwrap();
    let stub = Path::new(SYSTEMD).join("linuxx64.efi.stub");
    let [key, certificate] = A.map(|name| keys.path().join(name));
    let start = |tool: &Path| {
        let mut command = sane_image();
        command
            .arg("sign")
            .arg(&stub)
            .arg("--key")
            .arg(&key)
            .arg("--certificate")
            .arg(&certificate)
            .arg("--tool")
            .arg(tool);
        command.arg("--out").arg(out.path().join("signed.efi"));
        command
    };
    let waits = keys.path().join("sbsign");
    script(&waits, "#!/bin/sh\ntrap '' INT TERM\ntouch \"${0}.runs\"\nexec sleep 60\n");
    let mut waiting = start(&waits).spawn().unwrap();
    while !keys.path().join("sbsign.runs").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let id = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    // The tool would go on for a minute, and the name that it is known by is a test's.
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&waiting.wait().unwrap()), Some(15));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);

    let small = tempfile::tempdir().unwrap();
    if !need_root() {
        return;
    }
    let mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=64k", "none"], small.path());
    let failed = run(start(Path::new("sbsign")).env("TMPDIR", small.path()));
    drop(mounted);
    let failed = failed.expect_failure(1);
    assert!(failed.stderr.contains("No space left on device (os error 28); set TMPDIR to one"), "{}", failed.stderr);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_signed_is_told_and_leaves_nothing() {
    let Some(keys) = keys() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let refused = |image: &Path, pair: [&str; 2], wanted: &[&str]| {
        let failed = sign(image, &keys, pair, &out).expect_failure(1);
        assert!(wanted.iter().all(|wanted| failed.stderr.contains(wanted)), "{wanted:?}: {}", failed.stderr);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    };
    let esp = tempfile::tempdir().unwrap();
    let stub = Path::new(SYSTEMD).join("linuxx64.efi.stub");
    fs::create_dir_all(esp.path().join("EFI/BOOT")).unwrap();
    fs::copy(&stub, esp.path().join("EFI/BOOT/BOOTX64.EFI")).unwrap();
    let Some(image) = mkfs_fat(esp.path(), "32") else { return };
    refused(image.path(), ["a.key", "b.pem"], &["--key ", "a.key: is not the key of ", "b.pem; "]);
    refused(image.path(), ["none", "a.pem"], &["--key ", "none: cannot be read: No such file"]);
    refused(image.path(), ["a.key", "a.key"], &["--certificate ", "a.key: is no certificate"]);
    refused(image.path(), ["a.pem", "a.pem"], &["--key ", "a.pem: holds no private key"]);
    let stdout = sign(image.path(), &keys, A, Path::new("-")).expect_failure(1).stderr;
    assert!(stdout.contains("cannot go to standard output; give the name of a file"), "{stdout}");
    let broken = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n";
    fs::write(keys.path().join("broken.key"), broken).unwrap();
    refused(image.path(), ["broken.key", "a.pem"], &["/EFI/BOOT/BOOTX64.EFI: ", "/sbsign did not sign it: "]);
    refused(&stub, ["broken.key", "a.pem"], &["linuxx64.efi.stub: ", "/sbsign did not sign it: "]);
    // Nobody is there to be asked for a passphrase.
    let locked = keys.path().join("locked.key");
    let mut lock = tool("openssl");
    lock.args(["pkcs8", "-topk8", "-passout", "pass:x", "-in"]).arg(keys.path().join("a.key")).arg("-out").arg(locked);
    run_tool(&mut lock);
    refused(&stub, ["locked.key", "a.pem"], &["; the key has a passphrase, which is asked for on a terminal"]);
    // What can be read only once, or waits for a writer.
    let fifo = keys.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&stub, ["fifo", "a.pem"], &["--key ", "fifo: is no regular file"]);
    refused(&stub, ["a.key", "fifo"], &["--certificate ", "fifo: is no regular file"]);
    let cut = keys.path().join("cut.efi");
    fs::write(&cut, &fs::read(&stub).unwrap()[..3000]).unwrap();
    refused(&cut, A, &["cut.efi: is cut off: it has 3000 bytes of at least ", "; get it once more"]);
    refused(&fifo, A, &["fifo: cannot be read: is a named pipe; name a file or a block device"]);

    // Not a cluster is free.
    let built = Built::new(&closure(with_uki), &[]);
    let report = run(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success().stdout;
    let free = serde_json::from_str::<Value>(&report).unwrap()["partitions"][0]["filesystem"]["free"].as_u64().unwrap();
    let rest = tempfile::NamedTempFile::new().unwrap();
    rest.as_file().set_len(free).unwrap();
    let drive = with_suffix(&built.image, &format!("@@{}", built.boot().offset));
    run_tool(tool("mcopy").arg("-i").arg(drive).arg(rest.path()).arg("::/rest"));
    let wanted = ["partition 1 has no room for the files: ", "; remove files from it", "\n", "  /rest"];
    refused(&built.image, A, &wanted);
    let packed = tempfile::tempdir().unwrap();
    let packed = packed.path().join("nixos.zst");
    run(sane_image().arg("convert").arg(&built.image).args(["--format", "zst", "--out"]).arg(&packed)).expect_success();
    refused(&packed, A, &["nixos.zst: is in a zst container, and only a raw image can be changed; "]);

    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("program.efi"), "none").unwrap();
    let Some(image) = mkfs_fat(empty.path(), "32") else { return };
    refused(image.path(), A, &["has no programs for UEFI"]);
}
