use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::*;
use crate::progress::Silent;

const PAGE: u64 = 4096;
const IMAGE_BYTES: u64 = 40 << 20;

struct Files(Vec<(tempfile::NamedTempFile, Target)>);

impl CopyJobs for Files {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn target(&self, index: usize) -> Target {
        self.0[index].1.clone()
    }
    fn source(&self, index: usize) -> PathBuf {
        self.0[index].0.path().to_owned()
    }
    fn total_bytes(&self) -> u64 {
        self.0.iter().map(|(_, target)| target.size).sum()
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn target(size: u64, pieces: &[(u64, u64)]) -> Target {
    let piece = |&(start, len): &(u64, u64)| Piece { destination: ByteOffset(start), len };
    Target { size, pieces: pieces.iter().map(piece).collect() }
}

fn copy(files: &Files, engine: Engine, threads: usize) -> Result<File, CopyError> {
    let image = tempfile::tempfile().unwrap();
    image.set_len(IMAGE_BYTES).unwrap();
    let options = Options { threads: NonZeroUsize::new(threads).unwrap(), engine };
    run(files, &image, options, &Silent, &Cancel::new()).map(|_| image)
}

fn contents(mut image: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Contents of pages that are zero or not, and not a whole number of pages long.
fn some_contents() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec((any::<bool>(), 1usize..700), 1..5), 0usize..4096).prop_map(|(runs, cut)| {
        let mut bytes = Vec::new();
        for (zero, pages) in runs {
            bytes.resize(bytes.len() + pages * 4096, if zero { 0 } else { 0xa5 });
        }
        bytes.truncate(bytes.len() - cut);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the sizes, the pieces, the zeros, the engine and the threads: the bytes arrive, and only they.
    #[test]
    fn bytes_arrive(all in prop::collection::vec((some_contents(), 1u64..900), 0..8), threads in 1usize..4) {
        let mut wanted = vec![0; index(IMAGE_BYTES)];
        let mut at = 0;
        let mut files = Vec::new();
        for (bytes, first_pages) in all {
            let size = bytes.len() as u64;
            let first = (first_pages * PAGE).min(size.next_multiple_of(PAGE));
            let rest = size.next_multiple_of(PAGE) - first;
            // A gap of a page between the pieces, as metadata makes it.
            let pieces = [(at, first), (at + first + PAGE, rest)];
            let head = index(first.min(size));
            wanted[index(at)..][..head].copy_from_slice(&bytes[..head]);
            wanted[index(at + first + PAGE)..][..bytes.len() - head].copy_from_slice(&bytes[head..]);
            at += first + PAGE + rest;
            let pieces: Vec<_> = pieces.into_iter().filter(|&(_, len)| len > 0).collect();
            files.push((file(&bytes), target(size, &pieces)));
        }
        let files = Files(files);
        for engine in [Engine::Auto, Engine::Direct, Engine::Buffered] {
            let image = copy(&files, engine, threads);
            match image {
                Err(CopyError::Unavailable { .. }) => {}
                image => prop_assert!(contents(&image.unwrap()) == wanted, "{engine}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_not_as_laid_out_is_an_error() {
    for real in [5u64, 100_000, 20 << 20] {
        for laid_out in [real - 1, real + 1, real + 5000] {
            let source = file(b"x");
            source.as_file().set_len(real).unwrap();
            let files = Files(vec![(source, target(laid_out, &[(0, laid_out.next_multiple_of(PAGE))]))]);
            let result = copy(&files, Engine::Auto, 1);
            assert!(matches!(result, Err(CopyError::Changed { .. })), "{real} {laid_out}");
        }
    }
}

#[test]
fn a_file_that_is_gone_is_an_error() {
    let source = file(b"x");
    let gone = source.path().to_owned();
    let files = Files(vec![(source, target(1, &[(0, PAGE)]))]);
    std::fs::remove_file(&gone).unwrap();
    assert!(matches!(copy(&files, Engine::Auto, 1), Err(CopyError::Read { path, .. }) if path == gone));
}

#[test]
fn holes_stay_holes() {
    let source = file(b"start");
    let size = 30 << 20;
    source.as_file().set_len(size).unwrap();
    source.as_file().write_all_at(b"end", size - 3).unwrap();
    let files = Files(vec![(source, target(size, &[(0, size)]))]);
    for engine in [Engine::Auto, Engine::Buffered] {
        let image = copy(&files, engine, 2).unwrap();
        assert!(image.metadata().unwrap().blocks() * 512 <= 64 << 10, "{engine}");
    }
}
