//! Archives that Linux unpacks as an initrd: cpio of the kind "newc", compressed as is usual: by that the kernel sees where
//! one is cut off.
//!
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::tree::{Contents, Entry};

/// The file type and mode bits of each kind.
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// The archive of what is in a directory, the same bytes each time.
pub(crate) fn archive(root: &BTreeMap<Vec<u8>, Entry>) -> Vec<u8> {
    let mut archive = Archive { bytes: Vec::new(), inode: 0 };
    archive.directory(b"", root);
    archive.record(b"TRAILER!!!", 0, b"");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&archive.bytes).unwrap();
    gzip.finish().unwrap()
}

struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn directory(&mut self, path: &[u8], entries: &BTreeMap<Vec<u8>, Entry>) {
        for (name, entry) in entries {
            let path = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            match entry {
                Entry::Symlink(target) => self.record(&path, LINK, target),
                Entry::File { contents: Contents::Bytes(bytes), executable } => {
                    self.record(&path, if *executable { EXECUTABLE } else { FILE }, bytes);
                }
                Entry::File { .. } => panic!("only plain bytes go into an initrd"),
                Entry::Dir(entries) => {
                    self.record(&path, DIRECTORY, b"");
                    self.directory(&path, entries);
                }
            }
        }
    }

    fn record(&mut self, path: &[u8], mode: u32, contents: &[u8]) {
        self.inode += 1;
        let [size, name_size] = [contents.len(), path.len() + 1].map(|len| u32::try_from(len).unwrap());
        // Inode, mode, uid, gid, links, mtime, size, device (2), device it stands for (2), size of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 1, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08X}").as_bytes()));
        self.bytes.extend(path);
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
