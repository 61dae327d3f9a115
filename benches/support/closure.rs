//! Makes a closure with the file sizes of a real system: 68 % of its files are under 4 KiB, and those of 64 KiB and
//! more hold 90 % of its bytes.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Files in a store path, and in each of its directories.
const FILES_PER_PATH: u64 = 128;
const FILES_PER_DIRECTORY: u64 = 5;

/// The same numbers for the same seed, on every machine (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The size of a file in bytes; 48 KiB on average.
    fn file_size(&mut self) -> u64 {
        match self.below(1000) {
            0..680 => self.below(4 << 10),
            680..910 => (4 << 10) + self.below(16 << 10),
            910..960 => (20 << 10) + self.below(44 << 10),
            960..995 => (64 << 10) + self.below(700 << 10),
            _ => (1 << 20) + self.below(10 << 20),
        }
    }
}

/// What to make.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    /// Files of all sizes, about this many bytes together.
    #[allow(dead_code, reason = "each bench makes closures of its own kind")]
    Bytes(u64),
    /// So many files, each under 4 KiB.
    #[allow(dead_code, reason = "as above")]
    SmallFiles(u64),
}

impl Amount {
    fn is_reached(self, files: u64, bytes: u64) -> bool {
        match self {
            Self::Bytes(wanted) => bytes >= wanted,
            Self::SmallFiles(wanted) => files >= wanted,
        }
    }

    fn file_size(self, numbers: &mut Numbers) -> u64 {
        match self {
            Self::Bytes(_) => numbers.file_size(),
            Self::SmallFiles(_) => numbers.below(4 << 10),
        }
    }
}

/// Writes `directory`/nix/store and `directory`/closure-info. NAR hashes are made up: no candidate looks at them.
pub(crate) fn make(directory: &Path, amount: Amount) {
    let mut numbers = Numbers(1);
    let (mut files, mut bytes) = (0, 0);
    let mut paths = Vec::new();
    while !amount.is_reached(files, bytes) {
        let path = format!("/nix/store/{:032}-package-{}", paths.len(), paths.len());
        bytes += make_path(&directory.join(path.trim_start_matches('/')), amount, &mut numbers);
        files += FILES_PER_PATH;
        paths.push(path);
    }
    register(directory, &paths);
}

/// Writes `directory`/closure-info for these store paths.
pub(crate) fn register(directory: &Path, paths: &[String]) {
    let info = directory.join("closure-info");
    fs::create_dir_all(&info).expect("cannot write the closure");
    let registration = paths.iter().fold(String::new(), |mut text, path| {
        write!(text, "{path}\nsha256:{}\n1\n\n0\n", "0".repeat(52)).expect("strings take all");
        text
    });
    fs::write(info.join("store-paths"), paths.join("\n") + "\n").expect("cannot write the closure");
    fs::write(info.join("registration"), registration).expect("cannot write the closure");
}

/// Writes a spec for the closure in `root`, on a filesystem with these mount options, to the file `to`.
pub(crate) fn write_spec(root: &Path, fs_type: &str, options: &[&str], to: &Path) {
    let info = root.join("closure-info");
    let paths = fs::read_to_string(info.join("store-paths")).expect("no closure-info/store-paths");
    let spec = serde_json::json!({
        "version": 1,
        "toplevel": paths.lines().next().expect("an empty closure"),
        "closureInfo": info,
        "fileSystems": {
            "/boot": { "device": "/dev/disk/by-uuid/1234-ABCD", "fsType": "vfat" },
            "/": { "device": "/dev/disk/by-label/BENCH", "fsType": fs_type, "options": options },
        },
    });
    fs::write(to, spec.to_string()).expect("cannot write the spec");
}

fn make_path(path: &Path, amount: Amount, numbers: &mut Numbers) -> u64 {
    let mut made = 0;
    for file in 0..FILES_PER_PATH {
        let directory = path.join(format!("share/directory-{}", file / FILES_PER_DIRECTORY));
        fs::create_dir_all(&directory).expect("cannot write the closure");
        let size = amount.file_size(numbers);
        let words = (0..size.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes());
        let contents: Vec<u8> = words.take(usize::try_from(size).expect("under 11 MiB")).collect();
        fs::write(directory.join(format!("file-{file}")), contents).expect("cannot write the closure");
        made += size;
    }
    made
}
