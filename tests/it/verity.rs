//! dm-verity: hash trees equal to the byte to those of veritysetup, which verifies ours.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use proptest::prelude::*;
use sane_image::copy::{Engine, Means, Options};
use sane_image::discoverable::Type;
use sane_image::disk::region::Region;
use sane_image::progress::{Cancel, Silent};
use sane_image::read::Window;
use sane_image::units::ByteOffset;
use sane_image::verity::{self, Identity, Layout, RootHash, Salt};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, run as run_program, sane_image};
use crate::support::skip::{Lack, skip};
use crate::support::tool::{need, run, slice, text, tool};
use crate::support::tree::Entry;

/// Data and the hash area that we make for it.
struct Sealed {
    dir: TempDir,
    layout: Layout,
    root: RootHash,
}

impl Sealed {
    /// Over data of which `bytes` are not zero; the data has as many whole blocks as that takes.
    fn new(bytes: &[u8], blocks: u64, salt: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        let data = File::options().read(true).write(true).create_new(true).open(dir.path().join("data")).unwrap();
        data.set_len(blocks * 4096).unwrap();
        // One piece at the start, one at the end, and nothing between.
        data.write_all_at(bytes, 0).unwrap();
        data.write_all_at(bytes, blocks * 4096 - bytes.len() as u64).unwrap();
        let uuid = Identity::of(Uuid::from_u128(blocks.into())).uuid;
        let layout = Layout::new(blocks * 4096, uuid, Salt::new(salt).unwrap()).unwrap();
        let hashes = File::options().read(true).write(true).create_new(true).open(dir.path().join("hashes")).unwrap();
        hashes.set_len(layout.size()).unwrap();
        let out = Region::new(&hashes, ByteOffset(0), layout.size()).unwrap();
        let options = Options { threads: NonZeroUsize::new(3).unwrap(), engine: Engine::Auto };
        let means = Means { options, progress: &Silent, cancel: &Cancel::new() };
        let root = verity::write(&layout, &Window::new(data, blocks * 4096), &out, means).unwrap();
        Self { dir, layout, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What veritysetup makes of the same data: the root hash and the hash device.
    fn theirs(&self) -> (String, Vec<u8>) {
        let path = self.path("theirs");
        let shape = self.layout.shape();
        let mut format = tool("veritysetup");
        format.arg("format").arg(format!("--uuid={}", shape.uuid)).arg(format!("--salt={}", shape.salt));
        let said = String::from_utf8(run(format.arg(self.path("data")).arg(&path))).unwrap();
        let root = said.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
        (root, fs::read(path).unwrap())
    }

    fn verified(&self, root: &str) -> Output {
        tool("veritysetup").arg("verify").arg(self.path("data")).arg(self.path("hashes")).arg(root).output().unwrap()
    }
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Bytes that are not the same in any two blocks.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 4096 + at) % 251).unwrap()).collect()
}

#[track_caller]
fn expect_theirs(sealed: &Sealed) {
    let (root, area) = sealed.theirs();
    assert_eq!(sealed.root.to_string(), root);
    assert!(fs::read(sealed.path("hashes")).unwrap() == area, "the hash areas differ");
}

#[test]
fn hash_areas_are_those_of_veritysetup() {
    if !need("veritysetup") {
        return;
    }
    for blocks in [1, 2, 127, 128, 129, 255, 256, 257, 16_383, 16_384, 16_385] {
        let sealed = Sealed::new(&bytes(3000), blocks, Identity::of(Uuid::nil()).salt.as_bytes());
        expect_theirs(&sealed);
        let output = sealed.verified(&sealed.root.to_string());
        assert!(output.status.success(), "{blocks} blocks: {}", text(&output));
    }
}

#[test]
fn veritysetup_finds_a_flipped_bit_in_ours() {
    if !need("veritysetup") {
        return;
    }
    let sealed = Sealed::new(&bytes(100_000), 20_000, b"salt");
    let root = sealed.root.to_string();
    assert!(sealed.verified(&root).status.success());
    let last_digest = sealed.layout.levels().first().unwrap().start.0 + 20_000 * 32 - 1;
    for (name, at) in [("data", 0), ("data", 10_000 * 4096), ("hashes", 4096), ("hashes", last_digest)] {
        flip(&sealed.path(name), at);
        assert!(!sealed.verified(&root).status.success(), "byte {at} of {name}");
        flip(&sealed.path(name), at);
    }
    flip(&sealed.path("hashes"), 88);
    assert!(!sealed.verified(&root).status.success(), "the salt is another");
}

#[test]
fn types_are_those_of_systemd() {
    if !need("systemd-id128") {
        return;
    }
    let shown = String::from_utf8(run(tool("systemd-id128").arg("show"))).unwrap();
    let mut known = 0;
    for line in shown.lines().skip(1) {
        let (name, id) = line.split_once(' ').unwrap();
        let Some(kind) = Type::find(id.trim().parse().unwrap()) else { continue };
        // Those of the machine's own architecture have a second name.
        let is_own = name.split('-').all(|part| ["root", "usr", "secondary", "verity", "sig"].contains(&part));
        let is_own = is_own || name.contains("-secondary");
        assert!(is_own || kind.to_string() == name, "{name} is not {kind}");
        known += u32::from(!is_own);
    }
    assert_eq!(known, 21 * 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn hash_areas_of_any_size_are_those_of_veritysetup(
        blocks in 1_u64..40_000,
        len in 0_usize..4096,
        salt in proptest::collection::vec(any::<u8>(), 0..=256),
    ) {
        if need("veritysetup") {
            expect_theirs(&Sealed::new(&bytes(len), blocks, &salt));
        }
    }
}

/// An image whose store has a tree, on an ext4 with free space.
fn sealed_image(change: impl FnOnce(&mut Value) + 'static) -> Built {
    let large: Vec<u8> = (0..500_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let closure = ClosureBuilder::new().path("data", Entry::dir([("large", Entry::file(large))]));
    let closure = closure.spec(move |spec| {
        spec["verity"] = json!({ "architecture": "x86-64" });
        spec["fileSystems"]["/"] = json!({ "fsType": "tmpfs" });
        spec["fileSystems"]["/nix/store"] = json!({ "device": "/dev/mapper/usr", "fsType": "ext4", "options": ["ro"] });
        change(spec);
    });
    Built::new(&closure.write(), &["--verify"])
}

fn verify(image: &Path) -> Value {
    let run = run_program(sane_image().args(["verify", "--json"]).arg(image));
    serde_json::from_str(&run.stdout).unwrap()
}

fn faults(image: &Path) -> Vec<(u64, String, String)> {
    let faults = verify(image)["faults"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    faults.iter().map(|one| (one["partition"].as_u64().unwrap(), text(&one["what"]), text(&one["why"]))).collect()
}

#[test]
fn the_tree_of_an_image_is_shown_and_verified() {
    let built = sealed_image(|_| {});
    let (nix, hashes) = (built.nix(), built.partition("verity"));
    let described = &built.layout["partitions"].as_array().unwrap().last().unwrap()["verity"];
    let inspected = run_program(sane_image().args(["inspect", "--json"]).arg(&built.image)).expect_success();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    let found = inspected["partitions"].as_array().unwrap().iter().find(|one| one["number"] == hashes.number).unwrap();
    assert_eq!(found["typeName"], "Linux /usr verity (x86-64)");
    for key in ["rootHash", "salt", "uuid", "dataSize", "hashSize"] {
        assert_eq!(found["verity"][key], described[key], "{key}");
    }
    assert_eq!(
        (&found["verity"]["dataPartition"], &found["verity"]["namedByGuids"]),
        (&json!(nix.number), &json!(true))
    );
    let root = described["rootHash"].as_str().unwrap();
    let shown = run_program(sane_image().arg("inspect").arg(&built.image)).expect_success().stdout;
    assert!(shown.contains(&format!("root hash {root}, as the GUIDs of both partitions say")), "{shown}");
    let page = built.scratch().join("page.html");
    run_program(sane_image().arg("inspect").arg(&built.image).arg("--html").arg(&page)).expect_success();
    assert!(fs::read_to_string(&page).unwrap().contains(root));
    let report = verify(&built.image);
    let tree = json!({ "partition": hashes.number, "dataPartition": nix.number, "rootHash": root });
    assert_eq!((&report["right"], &report["trees"]), (&json!(true), &json!([tree])));
    let said =
        run_program(sane_image().args(["ls"]).arg(&built.image).arg(hashes.number.to_string())).expect_failure(1);
    assert!(said.stderr.contains("has the dm-verity hashes of another partition, and no files"), "{}", said.stderr);
}

#[test]
fn verify_tells_what_is_at_fault() {
    let built = sealed_image(|_| {});
    let (nix, hashes) = (built.nix(), built.partition("verity"));
    let at_fault = |at: u64| {
        flip(&built.image, at);
        let found = faults(&built.image);
        flip(&built.image, at);
        found
    };
    // In the middle of the large file, which is most of the filesystem's contents.
    let bytes = fs::read(&built.image).unwrap();
    let part: Vec<u8> = (250_000..250_008_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap() as u64;
    let found = at_fault(at);
    let tree = hashes.number;
    let (_, what, why) = found.iter().find(|(_, what, _)| what.starts_with("data block")).unwrap();
    assert_eq!(*what, format!("data block {}", (at - nix.offset) / 4096));
    assert!(why.starts_with(&format!("does not match the dm-verity tree in partition {tree} (byte ")), "{why}");
    assert!(why.ends_with("-data/large)"), "{why}");

    let blocks = nix.size / 4096;
    let lowest = hashes.offset + 4096 * (1 + 1);
    assert!(blocks > 128 && blocks <= 16_384, "two levels");
    let found = at_fault(lowest + 4096);
    assert_eq!(found.len(), 1, "{found:?}");
    let (partition, what, why) = &found[0];
    assert_eq!((*partition, what.as_str()), (tree, "hash block 1 of level 0"));
    assert!(why.ends_with("; all that it is for is right"), "{why}");
    let found = at_fault(hashes.offset + 4096);
    assert_eq!((found.len(), found[0].1.as_str()), (1, "top hash block"), "{found:?}");
    // The salt is hashed everywhere.
    assert!(at_fault(hashes.offset + 88).iter().any(|(_, what, _)| what == "GUID"));
    assert_eq!(
        at_fault(hashes.offset),
        [(
            tree,
            "dm-verity superblock".to_owned(),
            "holds no dm-verity superblock, though the partition is of that type".to_owned()
        )]
    );
    assert_eq!(verify(&built.image)["right"], true);
}

#[test]
fn other_forms_keep_what_the_tree_proves() {
    let built = sealed_image(|_| {});
    let (nix, hashes) = (built.nix(), built.partition("verity"));
    let again = built.scratch().join("again.img");
    run_program(sane_image().arg("convert").arg(&built.image).args(["--format", "raw", "--out"]).arg(&again))
        .expect_success();
    assert!(verify(&again)["right"] == true);
    // All of the data is data, the free space of its filesystem, too.
    let slices = [slice(&again, nix), slice(&again, hashes)];
    let bare = run_program(sane_image().args(["inspect", "--json"]).arg(slices[1].path())).expect_success();
    let bare: Value = serde_json::from_str(&bare.stdout).unwrap();
    assert_eq!(bare["partitions"][0]["verity"]["dataPartition"], Value::Null);
    let report = verify(slices[1].path());
    assert_eq!(
        (&report["right"], &report["notes"]),
        (&json!(true), &json!(["the data of this dm-verity tree is in another file"]))
    );
    flip(slices[1].path(), 2 * 4096 + 5);
    assert_eq!(verify(slices[1].path())["right"], false);

    let same = run_program(sane_image().arg("diff").arg(&built.image).arg(&again)).expect_success();
    assert!(!same.stdout.contains("rootHash"), "{}", same.stdout);
}

#[test]
fn trees_of_others_are_read() {
    if !need("veritysetup") {
        return;
    }
    let sealed = Sealed::new(&bytes(4000), 300, b"");
    let path = sealed.path("other");
    for (arguments, is_checked) in
        [(["--hash=sha256", "--hash-block-size=1024"], true), (["--hash=sha512", "--format=1"], false)]
    {
        run(tool("veritysetup").arg("format").args(arguments).arg(sealed.path("data")).arg(&path));
        let report = verify(&path);
        assert_eq!(report["right"], true, "{report}");
        assert_eq!(report["trees"].as_array().unwrap().len(), usize::from(is_checked));
        let shown = run_program(sane_image().arg("inspect").arg(&path)).expect_success().stdout;
        assert!(shown.contains(&format!("  {}, salt", arguments[0].trim_start_matches("--hash="))), "{shown}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn boot_entries_have_to_ask_for_the_tree() {
    let stub = Path::new("/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    if !stub.exists() {
        skip(Lack::other("no linuxx64.efi.stub (systemd-boot-efi)"));
        return;
    }
    let inputs = TempDir::new().unwrap();
    let input = |name: &str| {
        fs::write(inputs.path().join(name), name.repeat(1000)).unwrap();
        inputs.path().join(name)
    };
    let uki = json!({
        "stub": stub, "kernel": input("kernel"), "initrd": input("initrd"), "cmdline": "quiet",
        "osRelease": input("os-release"), "uname": "6.18.1", "fileName": "box_7.efi",
    });
    let built = sealed_image(move |spec| {
        spec["uki"] = uki;
        spec["populateCmd"] = Value::Null;
    });
    assert_eq!(verify(&built.image)["right"], true);
    let root = built.layout["partitions"].as_array().unwrap().last().unwrap()["verity"]["rootHash"].clone();
    let asked = format!("usrhash={}", root.as_str().unwrap());
    let image = fs::read(&built.image).unwrap();
    let at = image.windows(asked.len()).position(|window| window == asked.as_bytes()).unwrap();
    flip(&built.image, (at + asked.len() - 1) as u64);
    let found = faults(&built.image);
    assert!(!found.is_empty() && found.iter().all(|(_, what, _)| what.starts_with("boot entry ")), "{found:?}");
    assert!(
        found[0].2.ends_with(&format!("but the root hash of the image is {}", root.as_str().unwrap())),
        "{found:?}"
    );
}

#[test]
fn nothing_is_added_to_what_is_proved() {
    let built = sealed_image(|_| {});
    let extra = built.scratch().join("extra/nix/store");
    fs::create_dir_all(&extra).unwrap();
    fs::write(extra.join(".note"), "x").unwrap();
    let extra = built.scratch().join("extra");
    let out = built.scratch().join("added.img");
    let mut add = sane_image();
    add.arg("add").arg(&built.image).arg("--extra-files").arg(extra).arg("--out").arg(&out);
    let said = run_program(&mut add).expect_failure(1).stderr;
    assert!(said.contains("the dm-verity tree in partition 3, which new files would break"), "{said}");
    assert!(!out.exists());
}
