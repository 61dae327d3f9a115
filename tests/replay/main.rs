//! What fuzzing found, read again: each input of the corpus by its target. `fuzz/README.md` tells how inputs are found.

#![allow(clippy::print_stdout, reason = "the harness captures it and shows it where a test fails")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sane_image::image::{Image, check_filesystem};

#[allow(dead_code, reason = "fuzz/ uses the rest")]
mod targets;

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let target = targets::target(name);
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "the corpus of {name} is gone");
    for path in inputs {
        println!("{}", path.display());
        (target.run)(&fs::read(&path).unwrap());
    }
}

/// Patches of what is wrong already would find little.
#[test]
fn every_base_is_sound() {
    for target in ["ext4", "btrfs", "erofs", "vfat", "disk", "verity"] {
        for base in targets::images::bases(target) {
            let faults = base.patched(&[], |file, _| {
                let image = Image::from_file(file.try_clone().unwrap()).unwrap();
                assert!(!image.partitions().is_empty(), "{}", base.name);
                let formats = image.partitions().iter().filter_map(|partition| Some((partition.format()?, partition)));
                let faults = formats.flat_map(|(format, partition)| {
                    check_filesystem(format, &partition.bytes(), NonZeroUsize::MIN).unwrap()
                });
                faults.map(|fault| fault.what).collect::<Vec<_>>()
            });
            let waits = if base.name == "ext4-journal" { &["journal"][..] } else { &[] };
            assert_eq!(faults, waits, "{}", base.name);
        }
    }
}

/// The fuzzer's inputs are short. Work that grows faster than a text shows where a word stands in it very often: as minutes
/// that this takes, or as the end of the stack.
#[test]
fn long_texts_take_no_longer_than_they_are() {
    const LONG: usize = 1 << 16;
    let texts = targets::TARGETS.iter().take_while(|target| target.name != "ext4");
    for target in texts {
        let ours = corpus(target.name).into_iter().filter(|path| !path.to_string_lossy().contains("/found-"));
        for path in ours {
            println!("{}", path.display());
            let input = fs::read(&path).unwrap();
            assert!(!input.is_empty(), "nothing to repeat");
            (target.run)(&input.repeat(LONG / input.len()));
            let mut end = 0;
            for word in input.split_inclusive(u8::is_ascii_whitespace) {
                end += word.len();
                let (before, after) = input.split_at(end);
                (target.run)(&[before, &word.repeat(LONG / word.len()), after].concat());
            }
        }
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(targets::TARGETS.map(|target| target.name), replayed);
        }
    };
}

replays!(registration extlinux entries loader_conf grub_cfg limine_conf bootspec pe spec versions names ext4 btrfs erofs vfat disk verity database container);
