//! The Nix archive (NAR): the serialisation of a store path. Its SHA-256 is registered for the path.
//!
//! Every token is a string: its length in 64 bits, little-endian, its bytes, and zeros up to a multiple of 8. A node is
//! `( type regular [executable ""] contents … )`, `( type symlink target … )` or `( type directory` with, sorted by
//! name, an `entry ( name … node … )` for each entry and a last `)`. Source: the Nix manual, "Nix Archive (NAR)
//! format".

use sha2::{Digest, Sha256};

/// Nix only looks at whether the owner may execute a file.
pub const OWNER_EXECUTES: u16 = 0o100;

/// What is registered of a NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarHash {
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}

/// Serialises one store path and hashes what comes out, which is never in memory as a whole.
///
/// Whoever calls has to do so in the order of the format.
#[derive(Clone)]
pub struct NarHasher {
    sha256: Sha256,
    size: u64,
}

impl Default for NarHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl NarHasher {
    /// The start of an archive.
    pub fn new() -> Self {
        let mut nar = Self { sha256: Sha256::new(), size: 0 };
        nar.string(b"nix-archive-1");
        nar
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A symbolic link.
    pub fn symlink(&mut self, target: &[u8]) {
        self.strings(&["(", "type", "symlink", "target"]);
        self.string(target);
        self.string(b")");
    }

    /// A regular file of `len` bytes, which [`contents`](Self::contents) then gives.
    pub fn begin_file(&mut self, is_executable: bool, len: u64) {
        self.strings(&["(", "type", "regular"]);
        if is_executable {
            self.strings(&["executable", ""]);
        }
        self.string(b"contents");
        self.raw(&len.to_le_bytes());
    }

    /// More of a file's contents.
    pub fn contents(&mut self, bytes: &[u8]) {
        self.raw(bytes);
    }

    /// The end of a regular file of `len` bytes.
    pub fn end_file(&mut self, len: u64) {
        self.pad(len);
        self.string(b")");
    }

    /// A directory.
    pub fn begin_directory(&mut self) {
        self.strings(&["(", "type", "directory"]);
    }

    /// An entry of a directory; its node follows.
    pub fn begin_entry(&mut self, name: &[u8]) {
        self.strings(&["entry", "(", "name"]);
        self.string(name);
        self.string(b"node");
    }

    /// After an entry's node.
    pub fn end_entry(&mut self) {
        self.string(b")");
    }

    /// After the last entry of a directory.
    pub fn end_directory(&mut self) {
        self.string(b")");
    }

    /// The hash and the size of all.
    pub fn finish(self) -> NarHash {
        NarHash { digest: self.sha256.finalize().into(), size: self.size }
    }

    fn strings(&mut self, strings: &[&str]) {
        strings.iter().for_each(|string| self.string(string.as_bytes()));
    }

    fn string(&mut self, bytes: &[u8]) {
        self.raw(&(bytes.len() as u64).to_le_bytes());
        self.raw(bytes);
        self.pad(bytes.len() as u64);
    }

    fn pad(&mut self, len: u64) {
        self.raw(match len % 8 {
            0 => &[],
            1 => &[0; 7],
            2 => &[0; 6],
            3 => &[0; 5],
            4 => &[0; 4],
            5 => &[0; 3],
            6 => &[0; 2],
            _ => &[0; 1],
        });
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
    }
}

/// The sizes that NARs have, for those who need not read any contents.
pub mod size {
    /// Of the start of an archive.
    pub const MAGIC: u64 = string(13);

    /// Of a string of `len` bytes.
    pub const fn string(len: u64) -> u64 {
        len.saturating_add(8).saturating_add((8 - len % 8) % 8)
    }

    /// Of a symbolic link.
    pub const fn symlink(target_len: u64) -> u64 {
        // ( type symlink target … )
        (16 + 16 + 16 + 16 + 16u64).saturating_add(string(target_len))
    }

    /// Of a regular file.
    pub const fn file(is_executable: bool, len: u64) -> u64 {
        // ( type regular contents … ), and: executable ""
        let executable = if is_executable { 24 + 8 } else { 0 };
        (16 + 16 + 16 + 16 + 16u64).saturating_add(executable).saturating_add(string(len))
    }

    /// Of a directory without its entries.
    pub const DIRECTORY: u64 = 16 + 16 + 24 + 16;

    /// Of an entry of a directory without its node.
    pub const fn entry(name_len: u64) -> u64 {
        // entry ( name … node … )
        (16 + 16 + 16 + 16 + 16u64).saturating_add(string(name_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: [u8; 32]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As `nix-hash --type sha256` has it of an empty file, which is well known.
    #[test]
    fn the_empty_file_has_its_hash() {
        let mut nar = NarHasher::new();
        nar.begin_file(false, 0);
        nar.end_file(0);
        let NarHash { digest, size } = nar.finish();
        assert_eq!(size, 112);
        assert_eq!(size, size::MAGIC + size::file(false, 0));
        assert_eq!(hex(digest), hex(Sha256::digest(empty_file()).into()));
    }

    /// The same, written down by hand.
    fn empty_file() -> Vec<u8> {
        let mut nar = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0".to_vec();
        nar.extend(b"\x04\0\0\0\0\0\0\0type\0\0\0\0\x07\0\0\0\0\0\0\0regular\0");
        nar.extend(b"\x08\0\0\0\0\0\0\0contents\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0");
        nar
    }

    #[test]
    fn sizes_are_those_of_what_is_written() {
        for len in 0..20u8 {
            let bytes = vec![b'x'; len.into()];
            let mut nar = NarHasher::new();
            nar.begin_directory();
            nar.begin_entry(&bytes);
            nar.symlink(&bytes);
            nar.end_entry();
            nar.begin_entry(b"y");
            nar.begin_file(true, len.into());
            nar.contents(&bytes);
            nar.end_file(len.into());
            nar.end_entry();
            nar.end_directory();
            let len = u64::from(len);
            let link = size::entry(len) + size::symlink(len);
            let file = size::entry(1) + size::file(true, len);
            assert_eq!(nar.finish().size, size::MAGIC + size::DIRECTORY + link + file);
        }
    }
}
