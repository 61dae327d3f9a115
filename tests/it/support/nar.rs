//! Nix archives and what Nix derives from them: hashes and store paths.
//!
//! Written anew here and not taken from the program, so that the two can disagree.

use nix_base32::to_nix_base32;
use sha2::{Digest, Sha256};

use super::tree::{Contents, Entry, index};

/// Where all store paths lie.
pub(crate) const STORE_DIR: &str = "/nix/store";

/// The SHA-256 of a tree's NAR and the NAR's length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NarHash {
    pub(crate) digest: [u8; 32],
    pub(crate) size: u64,
}

impl NarHash {
    pub(crate) fn of(entry: &Entry) -> Self {
        let mut nar = Nar { hash: Sha256::new(), size: 0 };
        nar.string(b"nix-archive-1");
        nar.node(entry);
        Self { digest: nar.hash.finalize().into(), size: nar.size }
    }

    /// As in a registration.
    pub(crate) fn base32(&self) -> String {
        to_nix_base32(&self.digest)
    }

    pub(crate) fn hex(&self) -> String {
        hex(&self.digest)
    }
}

/// The store path of a content-addressed source of that hash, as `nix-store --add` names it.
pub(crate) fn source_path(name: &str, hash: &NarHash, references: &[String]) -> String {
    let mut sorted = references.to_vec();
    sorted.sort();
    let kind = std::iter::once("source".to_owned()).chain(sorted).collect::<Vec<_>>().join(":");
    let text = format!("{kind}:sha256:{}:{STORE_DIR}:{name}", hash.hex());
    let mut folded = [0; 20];
    for (i, byte) in Sha256::digest(text).iter().enumerate() {
        folded[i % folded.len()] ^= byte;
    }
    format!("{STORE_DIR}/{}-{name}", to_nix_base32(&folded))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Nar {
    hash: Sha256,
    size: u64,
}

impl Nar {
    fn node(&mut self, entry: &Entry) {
        self.strings(["(", "type"]);
        match entry {
            Entry::Symlink(target) => {
                self.strings(["symlink", "target"]);
                self.string(target);
            }
            Entry::File { contents, executable } => {
                self.string(b"regular");
                if *executable {
                    self.strings(["executable", ""]);
                }
                self.string(b"contents");
                self.contents(contents);
            }
            Entry::Dir(entries) => {
                self.string(b"directory");
                for (name, entry) in entries {
                    self.strings(["entry", "(", "name"]);
                    self.string(name);
                    self.string(b"node");
                    self.node(entry);
                    self.string(b")");
                }
            }
        }
        self.string(b")");
    }

    fn contents(&mut self, contents: &Contents) {
        self.raw(&contents.len().to_le_bytes());
        contents.for_each_block(|_, block| self.raw(block));
        self.pad(contents.len());
    }

    fn strings<'a>(&mut self, strings: impl IntoIterator<Item = &'a str>) {
        strings.into_iter().for_each(|string| self.string(string.as_bytes()));
    }

    fn string(&mut self, bytes: &[u8]) {
        self.raw(&(bytes.len() as u64).to_le_bytes());
        self.raw(bytes);
        self.pad(bytes.len() as u64);
    }

    fn pad(&mut self, len: u64) {
        let padding = len.next_multiple_of(8) - len;
        self.raw(&[0; 8][..index(padding)]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}
