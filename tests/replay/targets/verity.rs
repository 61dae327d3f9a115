//! dm-verity: disks with a hash area, and hash areas alone. Each tree is computed once more, in the plainest way.

use std::num::NonZeroUsize;

use sane_image::copy::{Engine, Means, Options};
use sane_image::image::Partition;
use sane_image::image::sealed::{Sealed, sealed};
use sane_image::progress::{Cancel, Silent};
use sane_image::read::{Bytes, escape};
use sane_image::units::ByteOffset;
use sane_image::verity::{self, Checked, Data, Layout, RootHash};
use sha2::{Digest, Sha256};

use super::commands;
use super::images::{image, patched, verity_bases};

/// Larger data is left to `verify`.
const MAX_BYTES: u64 = 2 << 20;

pub(crate) fn verity(input: &[u8]) {
    patched(verity_bases(), input, |_, file, _| {
        let Some(image) = image(file) else { return };
        commands::all(&image);
        sealed(&image).iter().for_each(check);
    });
}

fn check(sealed: &Sealed<'_>) {
    let Sealed { hashes, area, data, root } = sealed;
    let size = hashes.bytes().len();
    let faults = area.faults(size);
    let told = faults.iter().map(|fault| fault.what.clone() + &fault.why).chain(area.unsupported());
    told.for_each(|text| assert!(!text.chars().any(char::is_control), "{text:?}"));
    assert!(!escape::text(&area.algorithm).chars().any(char::is_control));
    let Some(layout) = area.layout() else {
        assert!(!faults.is_empty() || area.unsupported().is_some(), "a sound area has no layout: {area:?}");
        assert_eq!(*root, None);
        return;
    };
    assert_eq!(layout.data_size(), area.data_size());
    assert_eq!(faults.iter().any(|fault| fault.why.contains("for its tree")), layout.size() > size, "{area:?}");
    if layout.size() > size {
        return;
    }
    assert!(data.is_none_or(|data| data.number != hashes.number && data.bytes().len() >= layout.data_size()));
    if layout.size() + layout.data_size() > MAX_BYTES {
        return;
    }
    let window = data.map(Partition::bytes);
    let options = Options { threads: NonZeroUsize::MIN, engine: Engine::Auto };
    let means = Means { options, progress: &Silent, cancel: &Cancel::new() };
    let hashes = hashes.bytes();
    let checked = verity::check(layout, window.as_ref().map(|data| data as &dyn Data), &hashes, None, means)
        .expect("what is large enough can be read");
    let plain = Plain::of(layout, window.as_ref().map(|data| data as &dyn Bytes), &hashes);
    assert_eq!(checked.root, plain.root, "{area:?}");
    assert_eq!(is_sound(&checked), plain.is_sound, "{area:?}");
    if !layout.levels().is_empty() {
        assert_eq!(*root, plain.root);
    }
}

fn is_sound(checked: &Checked) -> bool {
    let hashes = checked.hashes.iter().chain(&checked.unsure);
    hashes.chain([&checked.data]).all(|runs| runs.blocks == 0) && checked.spare == 0
}

/// What a tree is found to be if each block is looked at by itself.
struct Plain {
    root: Option<RootHash>,
    /// Whether each block has the digest that the level above says, with zeros behind the last one of a level.
    is_sound: bool,
}

impl Plain {
    fn of(layout: &Layout, data: Option<&dyn Bytes>, area: &dyn Bytes) -> Self {
        let shape = layout.shape();
        let hash = |block: &[u8]| Sha256::new().chain_update(shape.salt.as_bytes()).chain_update(block).finalize();
        let data = data.map(|data| read(data, 0, layout.data_size()));
        let size = usize::try_from(shape.hash_block_size.bytes()).expect("a size");
        let levels: Vec<_> =
            layout.levels().iter().map(|level| read(area, level.start.0, level.blocks * size as u64)).collect();
        let digests = |bytes: &[u8], size: usize| bytes.chunks_exact(size).flat_map(hash).collect::<Vec<u8>>();
        let mut below =
            data.map(|data| digests(&data, usize::try_from(shape.data_block_size.bytes()).expect("a size")));
        let mut is_sound = true;
        let mut counts = std::iter::once(shape.data_blocks).chain(layout.levels().iter().map(|level| level.blocks));
        for level in &levels {
            let digests_below = usize::try_from(counts.next().expect("a level below") * 32).expect("it was read");
            if let Some(below) = below {
                let (used, spare) = level.split_at(digests_below);
                is_sound &= used == below && spare.iter().all(|&byte| byte == 0);
            }
            below = Some(digests(level, size));
        }
        let root = below
            .filter(|root| !root.is_empty())
            .map(|root| RootHash::new(root.as_slice().try_into().expect("the top is one block")));
        Self { root, is_sound }
    }
}

fn read(bytes: &dyn Bytes, at: u64, len: u64) -> Vec<u8> {
    let mut read = vec![0; usize::try_from(len).expect("a small area")];
    bytes.read_exact_at(ByteOffset(at), &mut read).expect("it is large enough");
    read
}
