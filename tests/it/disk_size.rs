//! Disks of a size that is asked for: filled to the last MiB, or refused.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sane_image::build::{self, BuildError, Context, Options, Prepared, Proof};
use sane_image::copy;
use sane_image::plan::SizeMultiple;
use sane_image::progress::{Cancel, Silent};
use sane_image::spec;
use sane_image::store::StoreRoot;
use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Partition, Run, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::slice;
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The filesystem of the store and its mount options.
const FORMATS: [(&str, &str); 3] = [("ext4", "noatime"), ("btrfs", "noatime"), ("btrfs", "compress=zstd:1")];

/// A closure of 48 MiB that compress to next to nothing, and of 8 MiB that do not.
fn closure() -> Closure {
    let zeros = (0..48).map(|i| (format!("text-{i}"), Entry::file("all the same ".repeat(80_000))));
    let noise = Entry::of(Contents::Pattern { seed: 5, len: 8 * MIB });
    ClosureBuilder::new().path("text", Entry::dir(zeros)).path("noise", noise).write()
}

/// The closure's spec with another filesystem and size of the disk.
fn spec(closure: &Closure, (fs_type, options): (&str, &str), change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut spec = closure.spec.clone();
    spec["fileSystems"]["/"]["fsType"] = fs_type.into();
    spec["fileSystems"]["/"]["options"] = json!([options]);
    change(&mut spec);
    let path = closure.root().join("spec-disk-size.json");
    fs::write(&path, spec.to_string()).unwrap();
    path
}

/// Has every oracle judge a disk of `size` bytes.
fn judge(built: &Built, size: u64, fs_type: &str) {
    assert_eq!(fs::metadata(&built.image).unwrap().len(), size);
    assert_eq!(built.layout["size"], size);
    oracle::sgdisk(&built.image, 512).expect_clean();
    let nix = built.nix();
    assert_eq!(nix.offset + nix.size, size - MIB, "the backup of the table has the last MiB");
    match fs_type {
        "ext4" => oracle::e2fsck(&built.image, nix).expect_clean(),
        _ => oracle::btrfs_check(&built.image, nix).expect_clean(),
    };
    run(sane_image().args(["verify"]).arg(&built.image)).expect_success();
}

/// Builds the bare nix filesystem, which is what the image has in its place.
fn assert_slice(built: &Built, spec: &Path, closure: &Closure, arguments: &[&str]) {
    let bare = built.scratch().join("nix.img");
    run(&mut build_command(spec, closure.root(), &bare, &[&["--only", "nix"], arguments].concat())).expect_success();
    assert_eq!(fs::metadata(&bare).unwrap().len(), built.nix().size);
    oracle::qemu_img_compare(slice(&built.image, built.nix()).path(), &bare, "raw").expect_clean();
}

fn free(built: &Built) -> u64 {
    let partitions = built.layout["partitions"].as_array().unwrap();
    let nix = partitions.iter().find(|partition| partition["role"] == "nix").unwrap();
    nix["filesystem"]["free"].as_u64().unwrap()
}

#[test]
fn the_nix_filesystem_fills_the_disk() {
    let closure = closure();
    for format in FORMATS {
        let least = Built::from_spec(&spec(&closure, format, |_| ()), closure.root(), &[]);
        let size = 700 * MIB;
        let spec = spec(&closure, format, |spec| spec["diskSize"] = size.into());
        let built = Built::from_spec(&spec, closure.root(), &[]);
        judge(&built, size, format.0);
        assert_slice(&built, &spec, &closure, &[]);
        let (grown, gained) = (built.nix().size - least.nix().size, free(&built) - free(&least));
        // Bitmaps, inode tables and a larger journal take their part of an ext4.
        assert!(gained <= grown && gained > grown - 32 * MIB, "{format:?}: {gained} of {grown}");
    }
}

/// The form makes the disk larger, and so the slice of it.
#[test]
fn the_nix_filesystem_fills_the_disk_of_a_form() {
    let closure = closure();
    for format in FORMATS {
        let spec = spec(&closure, format, |_| ());
        let built = Built::from_spec(&spec, closure.root(), &["--format", "raw,gce"]);
        judge(&built, 1 << 30, format.0);
        assert_slice(&built, &spec, &closure, &["--format", "gce"]);
    }
}

/// Sixteen groups and a part of one that has no room for more than its own metadata: ext4 leaves it out.
#[test]
fn a_group_that_ext4_leaves_out_is_in_the_partition() {
    let closure = closure();
    let start = Built::new(&closure, &[]).nix().offset;
    let size = start + 16 * 128 * MIB + 2 * MIB;
    let spec = spec(&closure, FORMATS[0], |spec| spec["diskSize"] = size.into());
    let built = Built::from_spec(&spec, closure.root(), &[]);
    judge(&built, size, "ext4");
    assert_slice(&built, &spec, &closure, &[]);
    if let Some(said) = oracle::dumpe2fs(&built.image, built.nix()).expect_clean() {
        assert_eq!(oracle::field(&said, "Block count") * 4096, 16 * 128 * MIB);
    }

    // Nor does it take more when something is added.
    let files = built.scratch().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("motd"), "welcome").unwrap();
    let more = built.scratch().join("more.img");
    let mut add = sane_image();
    run(add.arg("add").arg(&built.image).arg("--extra-files").arg(&files).arg("--out").arg(&more)).expect_success();
    assert_eq!(fs::metadata(&more).unwrap().len(), size);
    oracle::sgdisk(&more, 512).expect_clean();
    oracle::e2fsck(&more, built.nix()).expect_clean();
}

#[test]
fn the_plan_has_the_size() {
    let closure = closure();
    for format in FORMATS {
        for sector_size in [512, 4096] {
            let spec = spec(&closure, format, |spec| {
                spec["diskSize"] = (900 * MIB).into();
                spec["sectorSize"] = sector_size.into();
                spec["bootPartSize"] = (300 * MIB).into();
            });
            let run = plan(&spec, &closure).expect_success();
            assert!(!run.stderr.contains("warning"), "{}", run.stderr);
            let plan: Value = serde_json::from_str(&run.stdout).unwrap();
            assert_eq!(plan["size"], 900 * MIB);
            let built = Built::from_spec(&spec, closure.root(), &[]);
            assert_eq!(built.layout["partitions"][1]["size"], plan["partitions"][1]["size"]);
            oracle::sgdisk(&built.image, sector_size).expect_clean();
        }
    }
}

fn plan(spec: &Path, closure: &Closure) -> Run {
    run(sane_image().arg("plan").arg(spec).arg("--store-root").arg(closure.root()).arg("--json"))
}

/// The least disk is the least `diskSize`, and one MiB less is refused with a word on what is missing.
#[test]
fn the_least_disk_and_one_that_is_too_small() {
    let closure = closure();
    for format in FORMATS {
        let least = Built::from_spec(&spec(&closure, format, |_| ()), closure.root(), &[]);
        let size = least.layout["size"].as_u64().unwrap();
        let spec_of = |size: u64| spec(&closure, format, |spec| spec["diskSize"] = size.into());
        let built = Built::from_spec(&spec_of(size), closure.root(), &[]);
        assert!(fs::read(&built.image).unwrap() == fs::read(&least.image).unwrap(), "{format:?}");
        assert_eq!(built.layout, least.layout);

        let out = closure.root().join("out");
        for (size, missing) in [(size - MIB, MIB), (64 * MIB, size - 64 * MIB)] {
            let spec = spec_of(size);
            let needed = size + missing;
            let run = run(&mut build_command(&spec, closure.root(), &out, &[])).expect_failure(2);
            let told = format!(
                "sane-image: error: {}: diskSize: {size} bytes are too few: the partitions need {needed} with nixFreeSpace \
                 free in the last, so {missing} are missing; set diskSize to {needed} at least\n",
                spec.display()
            );
            // Where nothing of the last partition has room, nothing is compressed first, and more is thought missing.
            if format.1.starts_with("compress") && size == 64 * MIB {
                assert!(run.stderr.contains("diskSize: 67108864 bytes are too few"), "{}", run.stderr);
            } else {
                assert!(run.stderr.ends_with(&told), "{format:?}: {}", run.stderr);
            }
            assert!(!out.exists());
        }
    }
}

/// Compressed, it fits; until it is, nobody can tell.
#[test]
fn a_disk_that_only_compression_makes_large_enough() {
    let closure = closure();
    let least = Built::from_spec(&spec(&closure, FORMATS[2], |_| ()), closure.root(), &[]);
    let size = least.layout["size"].as_u64().unwrap() + 3 * MIB;
    let spec = spec(&closure, FORMATS[2], |spec| spec["diskSize"] = size.into());
    let planned = plan(&spec, &closure).expect_success();
    assert!(planned.stderr.contains("too small, unless compression saves that much"), "{}", planned.stderr);
    assert_eq!(serde_json::from_str::<Value>(&planned.stdout).unwrap()["size"], size);
    let built = Built::from_spec(&spec, closure.root(), &[]);
    judge(&built, size, "btrfs");
    assert_slice(&built, &spec, &closure, &[]);
    assert_eq!(free(&built), free(&least) + 3 * MIB);
}

/// A disk for a form of the image whose size has to be whole GiB, as the library makes it.
#[test]
fn the_next_multiple_is_filled() {
    let closure = closure();
    for format in FORMATS {
        let spec = spec(&closure, format, |_| ());
        let out = closure.root().join("out");
        let built = build_with(&spec, &closure, gib(), |mut prepared, context| {
            let forms = build::Forms::default();
            let outputs = build::Outputs::open(&out, "nixos", &forms, sane_image::output::Privacy::Usual).unwrap();
            build::build(&mut prepared, outputs, &forms, None, context).unwrap();
            prepared.plan
        });
        let plan = built.unwrap();
        assert_eq!((plan.size, fs::metadata(out.join("nixos.img")).unwrap().len()), (GIB, GIB), "{format:?}");
        let nix = &plan.partitions[1];
        assert_eq!(nix.offset + nix.size, GIB - MIB);
        let nix = Partition { number: 2, offset: nix.offset, size: nix.size };
        match format.0 {
            "ext4" => oracle::e2fsck(&out.join("nixos.img"), nix).expect_clean(),
            _ => oracle::btrfs_check(&out.join("nixos.img"), nix).expect_clean(),
        };
    }
}

#[test]
fn a_size_that_a_form_cannot_have() {
    let closure = closure();
    let spec_of = |size: u64| spec(&closure, FORMATS[0], |spec| spec["diskSize"] = size.into());
    let error = build_with(&spec_of(1500 * MIB), &closure, gib(), |_, _| ()).unwrap_err();
    assert!(error.is_bad_spec());
    assert_eq!(
        error.to_string(),
        "diskSize: 1572864000 is not a multiple of 1073741824, as the format gce needs it; set diskSize to 1073741824 or \
         2147483648"
    );
    let size = build_with(&spec_of(2 * GIB), &closure, gib(), |prepared, _| prepared.plan.size);
    assert_eq!(size.unwrap(), 2 * GIB);
}

fn gib() -> SizeMultiple {
    SizeMultiple { bytes: GIB, form: "gce" }
}

/// Prepares an image through the library, and lets `then` go on with it.
fn build_with<T>(
    spec: &Path,
    closure: &Closure,
    size_multiple: SizeMultiple,
    then: impl FnOnce(Prepared, Context<'_>) -> T,
) -> Result<T, BuildError> {
    let spec = spec::parse(&fs::read_to_string(spec).unwrap()).unwrap();
    let store_root = StoreRoot::new(spec.store_dir.clone(), Some(closure.root().to_owned()));
    let copy = copy::Options { threads: NonZeroUsize::MIN, engine: copy::Engine::Auto };
    let options = Options { store_root: &store_root, copy, proof: Proof::None, extra_files: None, size_multiple };
    let cancel = Cancel::new();
    let context = Context { options, progress: &Silent, cancel: &cancel };
    build::prepare(&spec, context).map(|prepared| then(prepared, context))
}
