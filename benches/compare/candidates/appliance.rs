//! Images of a store that is only read: EROFS, plain and compressed, and with a hash tree that proves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::{Input, closure};
use super::{Candidate, run};

/// systemd's own, where Debian has it.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const KERNEL_SIZE: usize = 12 << 20;
const INITRD_SIZE: usize = 40 << 20;

pub(super) const ALL: [Candidate; 10] = [
    Candidate { name: "sane-image, erofs", needs: &[], run: |i, o| sane_image(i, o, &[]) },
    Candidate {
        name: "sane-image, erofs, zstd:3",
        needs: &[],
        run: |i, o| sane_image(i, o, &[("erofsCompression", "zstd:3".into())]),
    },
    Candidate {
        name: "sane-image, erofs, lz4",
        needs: &[],
        run: |i, o| sane_image(i, o, &[("erofsCompression", "lz4".into())]),
    },
    Candidate {
        name: "sane-image, erofs and dm-verity",
        needs: &[],
        run: |i, o| sane_image(i, o, &[("verity", json!({ "architecture": "x86-64" }))]),
    },
    Candidate {
        name: "sane-image, erofs, dm-verity and UKI",
        needs: &[STUB],
        run: |i, o| {
            let uki = uki_parts(o);
            sane_image(i, o, &[("verity", json!({ "architecture": "x86-64" })), ("uki", uki)])
        },
    },
    Candidate { name: "mkfs.erofs", needs: &["mkfs.erofs"], run: |i, o| mkfs_erofs(i, o, &[]) },
    Candidate {
        name: "mkfs.erofs -zzstd,level=3 -C131072",
        needs: &["mkfs.erofs"],
        run: |i, o| mkfs_erofs(i, o, &["-zzstd,level=3", "-C131072"]),
    },
    Candidate {
        name: "mkfs.erofs -zlz4 -C131072",
        needs: &["mkfs.erofs"],
        run: |i, o| mkfs_erofs(i, o, &["-zlz4", "-C131072"]),
    },
    Candidate {
        name: "systemd-repart, erofs and dm-verity",
        needs: &["systemd-repart", "mkfs.erofs"],
        run: |i, o| {
            let image = o.join("image");
            systemd_repart(i, o, &image, &["--empty=create", "--size=auto"]);
            image
        },
    },
    Candidate {
        name: "systemd-repart twice, erofs, dm-verity and UKI",
        needs: &["systemd-repart", "mkfs.erofs", "mkfs.fat", "mcopy", "ukify", STUB],
        run: systemd_repart_and_ukify,
    },
];

/// An image with the closure on an EROFS. `fields` are added to its spec.
fn sane_image(input: &Input, out: &Path, fields: &[(&str, Value)]) -> PathBuf {
    let path = out.with_extension("json");
    closure::write_spec(&input.root, "erofs", &["ro"], &path);
    let text = fs::read_to_string(&path).expect("cannot read the spec");
    let mut spec: Value = serde_json::from_str(&text).expect("the spec is JSON");
    for (field, value) in fields {
        spec[field] = value.clone();
    }
    if !spec["verity"].is_null() {
        spec["fileSystems"]["/"]["device"] = "/dev/mapper/root".into();
    }
    fs::write(&path, spec.to_string()).expect("cannot write the spec");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
    command.arg("build").arg(&path).arg("--store-root").arg(&input.root).arg("--out").arg(out);
    run(&mut command);
    out.join("nixos.img")
}

fn mkfs_erofs(input: &Input, out: &Path, options: &[&str]) -> PathBuf {
    let image = out.join("image");
    run(Command::new("mkfs.erofs").arg("--quiet").args(options).arg(&image).arg(&input.root));
    image
}

/// What a unified kernel image is made of, as the spec has it. The kernel is none, but as long as one.
fn uki_parts(out: &Path) -> Value {
    let noise = |len: usize| -> Vec<u8> {
        (0..len as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
    };
    let part = |name: &str, bytes: &[u8]| {
        let path = out.with_extension(name);
        fs::write(&path, bytes).expect("cannot write parts of a unified kernel image");
        path
    };
    json!({
        "stub": STUB, "kernel": part("linux", &noise(KERNEL_SIZE)), "initrd": part("initrd", &noise(INITRD_SIZE)),
        "osRelease": part("os-release", b"ID=nixos\n"), "cmdline": "init=/sbin/init", "uname": "6.18.1",
        "fileName": "nixos.efi",
    })
}

/// As nixpkgs' image.repart does it for a verified store: the root hash of the first image goes into what the second run
/// adds to it. nixpkgs copies the first image besides.
fn systemd_repart_and_ukify(input: &Input, out: &Path) -> PathBuf {
    let image = out.join("image");
    let definitions = out.join("repart.d");
    fs::create_dir_all(&definitions).expect("cannot write definitions");
    let esp = "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=96M\nSizeMaxBytes=96M\nCopyFiles=/EFI:/EFI\n";
    fs::write(definitions.join("00-esp.conf"), esp).expect("cannot write definitions");
    let deferred = ["--empty=create", "--size=auto", "--defer-partitions=esp", "--json=short"];
    let said = systemd_repart(input, out, &image, &deferred);
    let partitions: Value = serde_json::from_slice(&said).expect("systemd-repart prints JSON");
    let root_hash = partitions.as_array().into_iter().flatten().find_map(|part| part["roothash"].as_str());

    let uki = uki_parts(out);
    let part = |name: &str| uki[name].as_str().expect("a path or a text");
    let tree = out.join("esp/EFI/Linux");
    fs::create_dir_all(&tree).expect("cannot make the tree of the ESP");
    let mut ukify = Command::new("ukify");
    ukify.args(["build", "--stub", STUB, "--linux", part("kernel"), "--initrd", part("initrd")]);
    ukify.args(["--uname", part("uname"), "--os-release", &format!("@{}", part("osRelease"))]);
    ukify.arg(format!("--cmdline={} usrhash={}", part("cmdline"), root_hash.expect("there is a root hash")));
    run(ukify.arg("--output").arg(tree.join("nixos.efi")));

    let mut command = Command::new("systemd-repart");
    command.args(["--dry-run=no", "--offline=yes", "--root="]).arg("--copy-source").arg(out.join("esp"));
    run(command.arg("--definitions").arg(&definitions).arg(&image).env("TMPDIR", out));
    image
}

/// A store and its hash tree. What it prints.
fn systemd_repart(input: &Input, out: &Path, image: &Path, options: &[&str]) -> Vec<u8> {
    let definitions = out.join("repart.d");
    fs::create_dir_all(&definitions).expect("cannot write definitions");
    let [data, tree] = ["data", "hash"].map(|part| format!("Verity={part}\nVerityMatchKey=usr\nMinimize=best\n"));
    let data = format!("[Partition]\nType=usr\nFormat=erofs\nCopyFiles=/nix:/nix\n{data}");
    let tree = format!("[Partition]\nType=usr-verity\n{tree}");
    for (name, text) in [("10-data.conf", data), ("20-hash.conf", tree)] {
        fs::write(definitions.join(name), text).expect("cannot write definitions");
    }
    let mut command = Command::new("systemd-repart");
    command.args(options).args(["--dry-run=no", "--offline=yes", "--root="]);
    command.arg("--copy-source").arg(&input.root).arg("--definitions").arg(&definitions).arg(image);
    // It keeps the filesystem in a temporary file before it copies it into the image.
    run(command.env("TMPDIR", out))
}
