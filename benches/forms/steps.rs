//! What is measured: how forms are made, and how they are read.

use std::path::Path;
use std::process::Command;

use super::{Places, quiet};

/// Something that is done to a closure or to an image.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The step that the ratio is to.
    pub(super) against: &'static str,
    /// Programs that it runs.
    pub(super) needs: &'static [&'static str],
    /// What it runs, one after the other.
    pub(super) commands: fn(&Places) -> Vec<Command>,
    /// The file that it makes.
    pub(super) made: Option<&'static str>,
    /// Whether it may exit with 1: `verify` of a closure whose hashes are made up.
    pub(super) may_fail: bool,
}

const RAW: &str = "raw";
const ZSTD: &str = "zstd -3 -T0 of a ready raw image";
const UNPACKED: &str = "zstd -d, then verify of the raw image";

const fn ours(name: &'static str, against: &'static str, made: &'static str, commands: Commands) -> Step {
    Step { name, against, needs: &[], commands, made: Some(made), may_fail: false }
}

const fn of_peer(name: &'static str, against: &'static str, made: &'static str, commands: Commands) -> Step {
    Step { name, against, needs: &["qemu-img"], commands, made: Some(made), may_fail: false }
}

type Commands = fn(&Places) -> Vec<Command>;

pub(super) const ALL: [Step; 14] = [
    ours(RAW, RAW, "nixos.img", |p| vec![p.build("raw", &p.out)]),
    ours("zst", ZSTD, "nixos.img.zst", |p| vec![p.build("zst", &p.out)]),
    Step { needs: &["zstd"], ..ours(ZSTD, ZSTD, "nixos.img.zst", |p| vec![zstd(p)]) },
    ours("qcow2", RAW, "nixos.qcow2", |p| vec![p.build("qcow2", &p.out)]),
    of_peer("raw, then qemu-img to qcow2", "qcow2", "converted", |p| raw_then(p, &["-O", "qcow2"])),
    ours("qcow2+zstd", ZSTD, "nixos.qcow2", |p| vec![p.build("qcow2+zstd", &p.out)]),
    of_peer("raw, then qemu-img to qcow2, zstd", "qcow2+zstd", "converted", |p| {
        raw_then(p, &["-c", "-O", "qcow2", "-o", "compression_type=zstd"])
    }),
    ours("vmdk", RAW, "nixos.vmdk", |p| vec![p.build("vmdk", &p.out)]),
    of_peer("raw, then qemu-img to vmdk", "vmdk", "converted", |p| {
        raw_then(p, &["-O", "vmdk", "-o", "subformat=streamOptimized"])
    }),
    ours("vhdx", RAW, "nixos.vhdx", |p| vec![p.build("vhdx", &p.out)]),
    ours("gce", RAW, "nixos.tar.gz", |p| vec![p.build("gce", &p.out)]),
    Step { made: None, ..ours("cat of a small file in a zst", RAW, "", |p| vec![cat(p)]) },
    Step {
        made: None,
        may_fail: true,
        ..ours("verify of a zst", UNPACKED, "", |p| vec![verify(&p.ready.join("nixos.img.zst"))])
    },
    Step { needs: &["zstd"], may_fail: true, ..ours(UNPACKED, UNPACKED, "unpacked", unpack_and_verify) },
];

fn zstd(places: &Places) -> Command {
    let mut command = quiet("zstd");
    command.args(["-q", "-3", "-T0"]).arg(places.ready.join("nixos.img"));
    command.arg("-o").arg(places.out.join("nixos.img.zst"));
    command
}

/// The raw image from the closure, and what qemu-img makes of it.
fn raw_then(places: &Places, arguments: &[&str]) -> Vec<Command> {
    let mut convert = quiet("qemu-img");
    convert.args(["convert", "-f", "raw"]).args(arguments);
    convert.arg(places.out.join("nixos.img")).arg(places.out.join("converted"));
    vec![places.build("raw", &places.out), convert]
}

fn cat(places: &Places) -> Command {
    let mut command = quiet(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("cat").arg(places.ready.join("nixos.img.zst")).args(["nix", &places.small]);
    command
}

fn verify(image: &Path) -> Command {
    let mut command = quiet(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("verify").arg(image);
    command
}

fn unpack_and_verify(places: &Places) -> Vec<Command> {
    let unpacked = places.out.join("unpacked");
    let mut unpack = quiet("zstd");
    unpack.args(["-q", "-d"]).arg(places.ready.join("nixos.img.zst")).arg("-o").arg(&unpacked);
    vec![unpack, verify(&unpacked)]
}
