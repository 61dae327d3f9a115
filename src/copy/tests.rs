use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::progress::Silent;
use crate::source::tree::Origin;

const PAGE: u64 = 4096;

/// Files with the pieces they go to.
#[derive(Default)]
struct Host {
    files: Vec<(tempfile::NamedTempFile, u64, Vec<Piece>)>,
    watch: Option<Watch>,
    kept: Mutex<BTreeMap<usize, Vec<u8>>>,
    /// Where the next unit goes, and what was placed: each with its form and its length as it is stored.
    placed: Mutex<(u64, Vec<Placed>)>,
}

type Placed = (Unit, Form, usize);

/// Remembers the pages that land.
#[derive(Default)]
struct Watch(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Observer for Watch {
    fn landed(&self, at: ByteOffset, pages: &[u8]) {
        let mut seen = self.0.lock().unwrap();
        for (number, page) in (0..).zip(pages.chunks(4096)) {
            assert_eq!(seen.insert(at.0 + number * PAGE, page.to_owned()), None, "a page landed twice");
        }
    }
}

impl Files for Host {
    fn len(&self) -> usize {
        self.files.len()
    }
    fn size(&self, index: usize) -> u64 {
        self.files[index].1
    }
    fn source(&self, index: usize) -> Origin {
        Origin::Host(self.files[index].0.path().to_owned())
    }
    fn total_bytes(&self) -> u64 {
        self.files.iter().map(|(_, size, _)| size).sum()
    }
    fn observer(&self) -> Option<&dyn Observer> {
        self.watch.as_ref().map(|watch| watch as &dyn Observer)
    }
}

impl CopyJobs for Host {
    fn pieces(&self, index: usize) -> Vec<Piece> {
        self.files[index].2.clone()
    }
    fn keep(&self, index: usize, contents: Vec<u8>) -> Result<(), CopyError> {
        assert_eq!(self.kept.lock().unwrap().insert(index, contents), None);
        Ok(())
    }
}

/// Stores a unit of one byte repeated as that byte, and keeps units that are stored in less than 100 bytes of files
/// with an even number.
impl PackJobs for Host {
    fn unit_bytes(&self) -> usize {
        32 << 10
    }
    fn packer(&self) -> Box<dyn Packer + '_> {
        Box::new(OneByte)
    }
    fn place(&self, unit: Unit, form: Form, stored: &[u8]) -> Option<ByteOffset> {
        let mut placed = self.placed.lock().unwrap();
        placed.1.push((unit, form, stored.len()));
        if unit.file.is_multiple_of(2) && stored.len() < 100 {
            return None;
        }
        let at = placed.0;
        // A gap now and then.
        placed.0 += stored.len().next_multiple_of(4096) as u64 + if unit.file.is_multiple_of(3) { PAGE } else { 0 };
        Some(ByteOffset(at))
    }
}

struct OneByte;

impl Packer for OneByte {
    fn pack(&mut self, _unit: Unit, bytes: &[u8], output: &mut Vec<u8>) -> Form {
        if bytes.iter().any(|byte| *byte != bytes[0]) {
            return Form::Raw;
        }
        output.push(bytes[0]);
        Form::Packed
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

/// One file, laid out with `size` bytes at the start of the image.
fn one(source: tempfile::NamedTempFile, size: u64) -> Host {
    let pieces = vec![Piece { destination: ByteOffset(0), len: size.next_multiple_of(PAGE) }];
    Host { files: vec![(source, size, pieces)], ..Host::default() }
}

/// The most bytes of an image that a file of `size` bytes is given, gaps between its pieces included.
fn room(size: u64) -> u64 {
    2 * size.next_multiple_of(PAGE) + PAGE
}

impl Host {
    fn image_bytes(&self) -> u64 {
        self.files.iter().map(|(_, size, _)| room(*size)).sum()
    }
}

fn image_and_options(files: &Host, engine: Engine, threads: usize) -> (File, Options) {
    let image = tempfile::tempfile().unwrap();
    image.set_len(files.image_bytes()).unwrap();
    (image, Options { threads: NonZeroUsize::new(threads).unwrap(), engine })
}

fn copy(files: &Host, engine: Engine, threads: usize) -> Result<File, CopyError> {
    let (image, options) = image_and_options(files, engine, threads);
    run(files, &image, options, &Silent, &Cancel::new()).map(|_| image)
}

fn contents(mut image: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Contents of pages that are zero or not, and not a whole number of pages long. A failed test prints these few
/// numbers, not megabytes.
#[derive(Clone, Debug)]
struct Contents {
    runs: Vec<(bool, usize)>,
    cut: usize,
}

impl Contents {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (zero, pages) in &self.runs {
            bytes.resize(bytes.len() + pages * 4096, if *zero { 0 } else { 0xa5 });
        }
        bytes.truncate(bytes.len() - self.cut);
        bytes
    }
}

fn some_contents() -> impl Strategy<Value = Contents> {
    (prop::collection::vec((any::<bool>(), 1usize..700), 1..5), 0usize..4096)
        .prop_map(|(runs, cut)| Contents { runs, cut })
}

/// What the image should be, and the files that should come to it: each in two pieces or, if small, in none.
fn lay_out(all: Vec<(Vec<u8>, u64)>) -> (Vec<u8>, Host) {
    let sizes = all.iter().map(|(bytes, _)| bytes.len() as u64);
    let mut wanted = vec![0; index(sizes.map(room).sum())];
    let mut at = 0;
    let mut host = Host { watch: Some(Watch::default()), ..Host::default() };
    for (bytes, first_pages) in all {
        let size = bytes.len() as u64;
        let mut pieces = Vec::new();
        if size > PAGE {
            let first = (first_pages * PAGE).min(size.next_multiple_of(PAGE));
            let rest = size.next_multiple_of(PAGE) - first;
            let head = index(first.min(size));
            wanted[index(at)..][..head].copy_from_slice(&bytes[..head]);
            // A gap of a page between the pieces, as metadata makes it.
            wanted[index(at + first + PAGE)..][..bytes.len() - head].copy_from_slice(&bytes[head..]);
            let both = [(at, first), (at + first + PAGE, rest)].into_iter().filter(|&(_, len)| len > 0);
            pieces.extend(both.map(|(start, len)| Piece { destination: ByteOffset(start), len }));
            at += first + PAGE + rest;
        }
        host.files.push((file(&bytes), size, pieces));
    }
    (wanted, host)
}

/// The pages of an image that are not zero.
fn data_pages(image: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let pages = (0..).zip(image.chunks(4096)).filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    pages.map(|(number, page)| (number * PAGE, page.to_owned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the sizes, the pieces, the zeros, the engine and the threads: the bytes arrive, and only they, and
    /// each page is shown once.
    #[test]
    fn bytes_arrive(all in prop::collection::vec((some_contents(), 1u64..900), 0..8), threads in 1usize..4) {
        let all: Vec<_> = all.into_iter().map(|(contents, first_pages)| (contents.bytes(), first_pages)).collect();
        let (wanted, mut host) = lay_out(all.clone());
        for engine in [Engine::Auto, Engine::Direct, Engine::CopyFileRange, Engine::Buffered] {
            host.kept = Mutex::default();
            host.watch = Some(Watch::default());
            let image = match copy(&host, engine, threads) {
                Err(CopyError::Unavailable { .. }) => continue,
                image => contents(&image.unwrap()),
            };
            prop_assert!(image == wanted, "{engine}");
            let kept = (0..).zip(&all).filter(|(_, (bytes, _))| bytes.len() <= 4096 && !bytes.is_empty());
            let kept: BTreeMap<_, _> = kept.map(|(number, (bytes, _))| (number, bytes.clone())).collect();
            prop_assert!(*host.kept.lock().unwrap() == kept);
            let seen = host.watch.take().unwrap().0.into_inner().unwrap();
            prop_assert!(seen == data_pages(&wanted), "{engine}");
        }
    }

    /// Packed files land where they are placed, are placed in order, and look the same whatever the threads.
    #[test]
    fn packed_bytes_arrive(all in prop::collection::vec((some_contents(), 1u64..2), 0..8)) {
        let all: Vec<_> = all.into_iter().map(|(contents, first_pages)| (contents.bytes(), first_pages)).collect();
        let (_, mut host) = lay_out(all.clone());
        let mut results = Vec::new();
        for threads in [1, 3] {
            host.placed = Mutex::default();
            host.watch = Some(Watch::default());
            let (image, options) = image_and_options(&host, Engine::Auto, threads);
            pack(&host, &image, options, &Silent, &Cancel::new()).unwrap();
            let image = contents(&image);
            let seen = host.watch.take().unwrap().0.into_inner().unwrap();
            prop_assert!(seen == data_pages(&image));
            results.push((image, host.placed.lock().unwrap().1.clone()));
        }
        prop_assert!(results[0] == results[1]);
        let wanted = pack_by_hand(&all.into_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>(), &host);
        prop_assert!(results.pop().unwrap().0 == wanted);
    }
}

/// What packing should make of the files, by the simplest way.
fn pack_by_hand(files: &[Vec<u8>], host: &Host) -> Vec<u8> {
    let mut image = vec![0; index(host.image_bytes())];
    *host.placed.lock().unwrap() = Default::default();
    for (file, bytes) in files.iter().enumerate() {
        for (number, bytes) in (0..).zip(bytes.chunks(host.unit_bytes())) {
            let unit = Unit { file, offset: number * host.unit_bytes() as u64, len: bytes.len() };
            let mut packed = Vec::new();
            let form = OneByte.pack(unit, bytes, &mut packed);
            let stored = if form == Form::Packed && bytes.len() > 1 { &packed } else { bytes };
            let form = if bytes.len() > 1 { form } else { Form::Raw };
            if let Some(at) = host.place(unit, form, stored) {
                image[index(at.0)..][..stored.len()].copy_from_slice(stored);
            }
        }
    }
    image
}

#[test]
fn an_error_while_packing_stops_all_threads() {
    let (_, mut host) = lay_out((0..200).map(|_| (vec![1; 100_000], 1)).collect());
    host.files[150].1 += 1;
    let (image, options) = image_and_options(&host, Engine::Auto, 4);
    let result = pack(&host, &image, options, &Silent, &Cancel::new());
    assert!(matches!(result, Err(CopyError::Changed { path, .. }) if path == host.files[150].0.path()));
}

#[test]
fn a_file_that_is_not_as_laid_out_is_an_error() {
    for real in [5u64, 100_000, 20 << 20] {
        for laid_out in [real - 1, real + 1, real + 5000] {
            let source = file(b"x");
            source.as_file().set_len(real).unwrap();
            let files = one(source, laid_out);
            let result = copy(&files, Engine::Auto, 1);
            assert!(matches!(result, Err(CopyError::Changed { .. })), "{real} {laid_out}");
        }
    }
}

#[test]
fn a_file_that_is_gone_is_an_error() {
    let source = file(b"x");
    let gone = source.path().to_owned();
    let files = one(source, 1);
    std::fs::remove_file(&gone).unwrap();
    assert!(matches!(copy(&files, Engine::Auto, 1), Err(CopyError::Read { path, .. }) if path == gone));
}

#[test]
fn holes_stay_holes() {
    let source = file(b"start");
    let size = 30 << 20;
    source.as_file().set_len(size).unwrap();
    source.as_file().write_all_at(b"end", size - 3).unwrap();
    let files = one(source, size);
    for engine in [Engine::Auto, Engine::Buffered, Engine::CopyFileRange] {
        let image = copy(&files, engine, 2).unwrap();
        assert!(image.metadata().unwrap().blocks() * 512 <= 64 << 10, "{engine}");
    }
}
