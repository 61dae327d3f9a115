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
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::tool::{need, run, text, tool};

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
