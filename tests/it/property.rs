//! Random trees: e2fsck finds nothing to say, and a reader that is not ours reads the same tree back.

use std::collections::BTreeMap;
use std::path::Path;

use ext4_view::{Ext4, FileType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::closure::ClosureBuilder;
use crate::support::image::{build_command, run};
use crate::support::oracle;
use crate::support::tool::need;
use crate::support::tree::{Contents, Entries, Entry};

/// Names that differ in length and in bytes, but in nothing that a filesystem forbids.
pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => b'a'..=b'z', 1 => any::<u8>().prop_filter("legal", |&b| b != 0 && b != b'/')];
    let len = prop_oneof![8 => 1usize..20, 1 => 200usize..=255];
    len.prop_flat_map(move |len| prop::collection::vec(byte.clone(), len))
        .prop_filter("not a dot", |name| name != b"." && name != b"..")
}

fn contents() -> impl Strategy<Value = Contents> {
    let len = prop_oneof![Just(0u64), 1u64..5_000, 4_095u64..=4_097, 1u64..300_000];
    prop_oneof![
        3 => (any::<u64>(), len.clone()).prop_map(|(seed, len)| Contents::Pattern { seed, len }),
        1 => len.prop_map(Contents::zeros),
    ]
}

fn leaf() -> impl Strategy<Value = Entry> {
    let len = prop_oneof![1usize..70, Just(59), Just(60), 1usize..4_096];
    // No name in the target is too long: ext4-view would not read such a link.
    let target = len.prop_map(|len| (0..len).map(|i| if i % 200 == 199 { b'/' } else { b'a' }).collect());
    prop_oneof![
        4 => (contents(), any::<bool>()).prop_map(|(contents, executable)| Entry::File { contents, executable }),
        1 => target.prop_map(Entry::Symlink),
    ]
}

pub(crate) fn tree() -> impl Strategy<Value = Entry> {
    leaf().prop_recursive(6, 400, 60, |inner| {
        prop_oneof![
            4 => prop::collection::btree_map(name(), inner.clone(), 0..20).prop_map(Entry::Dir),
            // Enough entries for an htree.
            1 => (prop::collection::btree_map(name(), inner, 0..20), 0usize..600).prop_map(|(mut entries, more)| {
                entries.extend((0..more).map(|i| (format!("filler-{i}").into_bytes(), Entry::file(""))));
                Entry::Dir(entries)
            }),
        ]
    })
}

#[test]
fn random_trees() {
    let e2fsck = need("e2fsck") && need("dumpe2fs");
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    runner.run(&prop::collection::vec(tree(), 0..4), |trees| check(trees, e2fsck)).unwrap();
}

fn check(trees: Vec<Entry>, e2fsck: bool) -> Result<(), TestCaseError> {
    let builder =
        trees.into_iter().zip(0..).fold(ClosureBuilder::new(), |b, (tree, i)| b.path(&format!("path-{i}"), tree));
    let closure = builder.write();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("nix.img");
    run(&mut build_command(&closure.spec_path(), closure.root(), &image, &["--only", "nix"])).expect_success();
    if e2fsck {
        oracle::e2fsck(&image, oracle::whole(&image)).expect_clean();
    }
    let ext4 = Ext4::load_from_path(&image).unwrap();
    let paths: Entries =
        closure.paths.iter().map(|path| (path.base_name().as_bytes().to_vec(), path.tree.clone())).collect();
    compare(&ext4, b"/nix/store", &Entry::Dir(paths), 0o755)
}

/// Compares what ext4-view reads at `path` with what should be there.
fn compare(ext4: &Ext4, path: &[u8], wanted: &Entry, directory_mode: u16) -> Result<(), TestCaseError> {
    let at = ext4_view::Path::try_from(path).unwrap();
    let metadata = ext4.symlink_metadata(at).unwrap();
    prop_assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
    match wanted {
        Entry::File { contents, executable } => {
            prop_assert_eq!(metadata.file_type(), FileType::Regular);
            prop_assert_eq!(metadata.mode(), if *executable { 0o555 } else { 0o444 });
            let mut bytes = vec![0; usize::try_from(contents.len()).unwrap()];
            contents.fill(0, &mut bytes);
            prop_assert!(ext4.read(at).unwrap() == bytes, "contents differ: {}", path.escape_ascii());
        }
        Entry::Symlink(target) => {
            prop_assert_eq!(metadata.file_type(), FileType::Symlink);
            let link = ext4.read_link(at).unwrap();
            prop_assert_eq!(link.as_ref(), &target[..]);
        }
        Entry::Dir(entries) => {
            prop_assert_eq!(metadata.file_type(), FileType::Directory);
            prop_assert_eq!(metadata.mode(), directory_mode);
            let found: BTreeMap<Vec<u8>, ()> = ext4
                .read_dir(at)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().as_ref().to_vec())
                .filter(|name| name != b"." && name != b"..")
                .map(|name| (name, ()))
                .collect();
            prop_assert!(found.keys().eq(entries.keys()), "entries differ: {}", path.escape_ascii());
            for (name, entry) in entries {
                compare(ext4, &[path, b"/", name].concat(), entry, 0o555)?;
            }
        }
    }
    Ok(())
}

/// No store path at all: the library may be asked for that, though a spec cannot, which has a toplevel.
#[test]
fn an_empty_tree() {
    use sane_image::disk::region::Region;
    use sane_image::ext4::{layout, writer};
    use sane_image::progress::Cancel;
    use sane_image::source::tree::{DirectoryMode, TreeBuilder};
    use sane_image::units::ByteOffset;

    let tree = TreeBuilder::new(DirectoryMode::Writable).finish();
    for free_bytes in [0, 1 << 20, 300 << 20] {
        let uuid = uuid::Uuid::from_u128(0x6a1f_0d0e_5f0b_4b52_9a0e_3c7f_1d2e_4b60);
        let parameters = layout::Parameters { uuid, label: String::new(), free_bytes };
        let layout = layout::Layout::new(&tree, parameters).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(layout.size()).unwrap();
        let region = Region::new(file.as_file(), ByteOffset(0), layout.size()).unwrap();
        writer::write(&layout, &tree, &region, &Cancel::new()).unwrap();
        judge_empty(file.path(), free_bytes);
    }
}

fn judge_empty(image: &Path, free_bytes: u64) {
    use crate::support::mount::{Access, Mount};
    use crate::support::walk::Expected;

    let whole = oracle::whole(image);
    oracle::e2fsck(image, whole).expect_clean();
    if let Some(said) = oracle::dumpe2fs(image, whole).expect_clean() {
        assert!(oracle::field(&said, "Free blocks") * 4096 >= free_bytes);
    }
    if let Some(mount) = Mount::new(image, whole, "ext4", Access::ReadOnly) {
        Expected::ext4().assert_equals(mount.path());
    }
}
