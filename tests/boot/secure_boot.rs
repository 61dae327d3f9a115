//! Secure Boot: firmware that starts only what `sane-image sign` signed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::watch;
use crate::guest::{Arch, Root, Variant, closure_with};
use crate::machine::{Firmware, Machine, Writes};
use crate::row::build;
use crate::support::image::{Built, run, sane_image};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run as run_tool, tool};
use crate::systemd_boot::with_systemd_boot;
use crate::uki::with_uki;

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd";
/// With Debian's key, which everybody has, as the only one.
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";

/// The machine with this disk and firmware that enforces Secure Boot.
fn machine(disk: &Path, scratch: &Path) -> Command {
    let variables = scratch.join("variables.fd");
    fs::copy(VARIABLES, &variables).unwrap();
    let mut command = Machine::new(Arch::X86_64, Firmware::Skipped).command(disk, Writes::Forgotten);
    // Only code in system management mode writes to the variables.
    command.args(["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]);
    command.arg("-drive").arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={CODE}"));
    command.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", variables.display()));
    command
}

/// An image of a unified kernel image behind systemd-boot, and how many paths its store has.
fn image() -> Option<(usize, Built)> {
    let has_firmware = Path::new(CODE).exists() || skip(Lack::other("no OVMF_CODE_4M.snakeoil.fd (ovmf)"));
    let arch = Arch::X86_64;
    if !has_firmware || !["sbsign", "openssl"].iter().all(|program| need(program)) {
        return None;
    }
    let closure = closure_with(arch, Root::Ext4, Variant::default(), |closure| closure);
    let closure = closure.and_then(|closure| with_systemd_boot(closure, arch));
    let closure = with_uki(closure?, arch, None)?;
    if !Machine::new(arch, Firmware::Uefi).need() {
        return None;
    }
    let (closure, built) = build(closure);
    Some((closure.paths.len(), built))
}

fn sign(built: &Built) -> PathBuf {
    let (key, signed) = (built.scratch().join("key"), built.scratch().join("signed.img"));
    run_tool(tool("openssl").args(["rsa", "-in", KEY, "-passin", "pass:snakeoil", "-out"]).arg(&key));
    let mut sign = sane_image();
    sign.arg("sign").arg(&built.image).arg("--key").arg(key).args(["--certificate", CERTIFICATE, "--out"]).arg(&signed);
    let said = run(&mut sign).expect_success().stdout;
    assert!(said.ends_with(": 3 signed, 0 signed before\n"), "{said}");
    signed
}

#[test]
fn what_is_signed_boots() {
    let Some((paths, built)) = image() else { return };
    let signed = sign(&built);
    watch("secure-boot-signed", &mut machine(&signed, built.scratch())).expect_good(paths);
}

#[test]
fn what_is_unsigned_is_refused() {
    let Some((_, built)) = image() else { return };
    watch("secure-boot-unsigned", &mut machine(&built.image, built.scratch())).expect_bad(&["Access Denied"]);
}

/// One parameter more in the signed program: firmware lets systemd-boot start, and that no kernel.
#[test]
fn what_was_altered_after_that_is_refused() {
    let Some((_, built)) = image() else { return };
    let signed = sign(&built);
    let file = fs::File::options().read(true).write(true).open(&signed).unwrap();
    let boot = built.boot();
    let mut bytes = vec![0; usize::try_from(boot.size).unwrap()];
    file.read_exact_at(&mut bytes, boot.offset).unwrap();
    let line = b"loglevel=4 unified=alone";
    let places: Vec<_> = (0..bytes.len() - line.len()).filter(|&at| bytes[at..].starts_with(line)).collect();
    assert_eq!(places.len(), 1);
    file.write_all_at(b"loglevel=7", boot.offset + places[0] as u64).unwrap();
    watch("secure-boot-altered", &mut machine(&signed, built.scratch())).expect_bad(&[]);
}
