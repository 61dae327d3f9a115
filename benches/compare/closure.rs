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

/// Writes `directory`/nix/store and `directory`/closure-info. NAR hashes are made up: no candidate looks at them.
pub(super) fn make(directory: &Path, bytes: u64) {
    let mut numbers = Numbers(1);
    let mut made = 0;
    let mut paths = Vec::new();
    while made < bytes {
        let path = format!("/nix/store/{:032}-package-{}", paths.len(), paths.len());
        made += make_path(&directory.join(path.trim_start_matches('/')), &mut numbers);
        paths.push(path);
    }
    let info = directory.join("closure-info");
    fs::create_dir_all(&info).expect("cannot write the closure");
    let registration = paths.iter().fold(String::new(), |mut text, path| {
        write!(text, "{path}\nsha256:{}\n1\n\n0\n", "0".repeat(52)).expect("strings take all");
        text
    });
    fs::write(info.join("store-paths"), paths.join("\n") + "\n").expect("cannot write the closure");
    fs::write(info.join("registration"), registration).expect("cannot write the closure");
}

fn make_path(path: &Path, numbers: &mut Numbers) -> u64 {
    let mut made = 0;
    for file in 0..FILES_PER_PATH {
        let directory = path.join(format!("share/directory-{}", file / FILES_PER_DIRECTORY));
        fs::create_dir_all(&directory).expect("cannot write the closure");
        let size = numbers.file_size();
        let words = (0..size.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes());
        let contents: Vec<u8> = words.take(usize::try_from(size).expect("under 11 MiB")).collect();
        fs::write(directory.join(format!("file-{file}")), contents).expect("cannot write the closure");
        made += size;
    }
    made
}
