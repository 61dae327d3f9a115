//! Images of a store that is only read: EROFS, plain and compressed, and with a hash tree that proves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::{Input, closure};
use super::{Candidate, run};

pub(super) const ALL: [Candidate; 8] = [
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
        run: systemd_repart,
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

/// As nixpkgs' image.repart does it for a verified store.
fn systemd_repart(input: &Input, out: &Path) -> PathBuf {
    let definitions = out.join("repart.d");
    fs::create_dir(&definitions).expect("cannot write definitions");
    let [data, tree] = ["data", "hash"].map(|part| format!("Verity={part}\nVerityMatchKey=usr\nMinimize=best\n"));
    let data = format!("[Partition]\nType=usr\nFormat=erofs\nCopyFiles=/nix:/nix\n{data}");
    let tree = format!("[Partition]\nType=usr-verity\n{tree}");
    for (name, text) in [("10-data.conf", data), ("20-hash.conf", tree)] {
        fs::write(definitions.join(name), text).expect("cannot write definitions");
    }
    let image = out.join("image");
    let mut command = Command::new("systemd-repart");
    command.args(["--empty=create", "--size=auto", "--dry-run=no", "--offline=yes", "--root="]);
    command.arg("--copy-source").arg(&input.root).arg("--definitions").arg(&definitions).arg(&image);
    // It keeps the filesystem in a temporary file before it copies it into the image.
    run(command.env("TMPDIR", out));
    image
}
