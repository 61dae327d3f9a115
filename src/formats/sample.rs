//! A disk for the tests of forms, and the programs that judge the files made of it.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uuid::{Uuid, uuid};

use super::{Existing, Format, FormatError, Making, write};
use crate::container;
use crate::copy::{Engine, Means, Options};
use crate::disk::oracle;
use crate::map::{Held, ImageMap, MapBuilder};
use crate::progress::{Cancel, Silent};
use crate::read::{Bytes, Window};
use crate::samples::noise;
use crate::units::{ByteOffset, SectorSize};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
const IDENTITY: Uuid = uuid!("5c8d1c4e-5f1b-4f0e-9d0a-0e6f1b1f2a3b");

/// A disk in a file, whose free space is full of what nobody may see.
pub(super) struct Sample {
    dir: TempDir,
    /// What each form has to hold.
    pub(super) raw: PathBuf,
    disk: Existing,
    map: ImageMap,
}

impl Sample {
    /// A disk with data in some ranges and zeros that are read in another.
    pub(super) fn new(size: u64, data: &[Range<u64>], zeros: Range<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (raw, dirty) = (path("raw"), path("dirty"));
        let [wanted, given] = [&raw, &dirty].map(|path| File::create_new(path).unwrap());
        let mut map = MapBuilder::default();
        for at in (0..size).step_by(1 << 29) {
            given.write_all_at(&[0x55; 5000], at.min(size.saturating_sub(5000))).unwrap();
        }
        [&wanted, &given].iter().for_each(|file| file.set_len(size).unwrap());
        map.add(zeros.clone(), Held::Zeros);
        given.write_all_at(&vec![0; usize::try_from(zeros.end - zeros.start).unwrap()], zeros.start).unwrap();
        for range in data {
            map.add(range.clone(), Held::Contents);
            let bytes = contents(range);
            [&wanted, &given].iter().for_each(|file| file.write_all_at(&bytes, range.start).unwrap());
        }
        let map = map.finish(size);
        let window = Window::new(File::open(&dirty).unwrap(), size);
        Self { raw, disk: Existing::new(window, map.clone()), map, dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn size(&self) -> u64 {
        self.map.size()
    }

    /// Makes a file of it.
    pub(super) fn make(&self, format: Format, threads: usize) -> Result<PathBuf, FormatError> {
        let path = self.path(&format!("{threads}{}", format.suffix()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        self.write(format, &file, 6, SectorSize::B512, threads).map(|()| path)
    }

    pub(super) fn write(
        &self,
        format: Format,
        to: &File,
        level: i32,
        sector_size: SectorSize,
        threads: usize,
    ) -> Result<(), FormatError> {
        self.with_means(threads, |disk, means| {
            write(format, disk, to, Making { level, identity: IDENTITY, sector_size, means }).map(drop)
        })
    }

    /// Does something with the disk on so many threads.
    pub(super) fn with_means<T>(&self, threads: usize, run: impl FnOnce(&Existing, Means<'_>) -> T) -> T {
        let cancel = Cancel::new();
        let options = Options { threads: NonZeroUsize::new(threads).unwrap(), engine: Engine::Auto };
        run(&self.disk, Means { options, progress: &Silent, cancel: &cancel })
    }

    /// Makes a file, which has to be the same for one thread and for many, and which no full disk may panic over.
    #[track_caller]
    pub(super) fn make_all_ways(&self, format: Format) -> PathBuf {
        let [one, many] = [1, 5].map(|threads| self.make(format, threads).unwrap());
        assert!(fs::read(&one).unwrap() == fs::read(&many).unwrap(), "it depends on the number of threads");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = self.write(format, &full, 6, SectorSize::B512, 2).unwrap_err().to_string();
        assert!(error.starts_with("cannot be written: "), "{error}");
        many
    }

    /// Whether our own reader finds in a file what the disk has, and nothing else.
    pub(super) fn reads_back(&self, path: &Path) -> bool {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let Ok(Some(container)) = container::open(&Window::new(file, len)) else { return false };
        let disk = container.disk;
        let raw = File::open(&self.raw).unwrap();
        let is_same = |at: u64| {
            let len = usize::try_from((self.size() - at).min(64 * KIB)).unwrap();
            let (mut found, mut wanted) = (vec![0; len], vec![0; len]);
            raw.read_exact_at(&mut wanted, at).unwrap();
            disk.read_exact_at(ByteOffset(at), &mut found).is_ok() && found == wanted
        };
        let mut units = self.map.data_units(64 * KIB).into_iter().flat_map(|range| range.step_by(64 << 10));
        disk.len() == self.size() && units.all(is_same) && data(&disk).all(is_same)
    }
}

/// The 64 KiB of a disk in which there may be data.
fn data(disk: &Window) -> impl Iterator<Item = u64> + '_ {
    let next = |at: u64| Some(disk.data_from(at)).filter(|&at| at < disk.len()).map(|at| at - at % (64 * KIB));
    std::iter::successors(next(0), move |at| Some(at + 64 * KIB).filter(|&at| at < disk.len()).and_then(next))
}

/// What a range holds: noise, text, zeros that the map does not know, and noise again.
fn contents(range: &Range<u64>) -> Vec<u8> {
    let len = usize::try_from(range.end - range.start).unwrap();
    let mut bytes = noise(range.start, len);
    if len > 400_000 {
        bytes[100_000..200_000].copy_from_slice(&b"All of it. ".repeat(10_000)[..100_000]);
        bytes[200_000..len - 1000].fill(0);
    }
    bytes
}

/// What a tool says of a file, if it is content.
pub(super) fn judge(command: &mut Command) -> Result<String, String> {
    let output = oracle::run(command);
    let text = oracle::text(&output);
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// `qemu-img compare` with the raw disk, and that the disk has its very size.
pub(super) fn qemu_compare(sample: &Sample, file: &Path, format: &str) -> Result<(), String> {
    let info = judge(Command::new("qemu-img").args(["info", "--output=json", "-f", format]).arg(file))?;
    let info: serde_json::Value = serde_json::from_str(&info).map_err(|error| format!("{error}: {info}"))?;
    if info["virtual-size"] != sample.size() {
        return Err(format!("{} is not {}", info["virtual-size"], sample.size()));
    }
    let mut compare = Command::new("qemu-img");
    judge(compare.args(["compare", "-f", "raw", "-F", format]).args([&sample.raw, file])).map(drop)
}

/// `qemu-img check`.
pub(super) fn qemu_check(file: &Path, format: &str) -> Result<(), String> {
    judge(Command::new("qemu-img").args(["check", "-f", format]).arg(file)).map(drop)
}

/// A copy of a file with some bytes changed.
pub(super) fn broken(file: &Path, at: u64, bytes: &[u8]) -> PathBuf {
    let mut copy = file.as_os_str().to_owned();
    copy.push(".broken");
    let copy = PathBuf::from(copy);
    judge(Command::new("cp").arg("--sparse=always").args([file, &copy])).unwrap();
    File::options().write(true).open(&copy).unwrap().write_all_at(bytes, at).unwrap();
    copy
}

/// Bytes of a file.
pub(super) fn bytes(file: &Path, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(file).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}
