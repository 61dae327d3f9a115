//! The NAR of one store path, read from a filesystem, and other faults that are seen on the way.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::progress::{Cancel, Cancelled, Progress};
use crate::read::walk::{ENTERED_AGAIN, MAX_DEPTH};
use crate::read::{Entered, FileId, FileSystem, Kind, Metadata, ReadError, escape};
use crate::store::nar::{NarHash, NarHasher, OWNER_EXECUTES};

/// Contents are read in pieces of this many bytes.
const PIECE: usize = 1 << 20;
/// Files of one store path that cannot be read, each reported by itself; the rest are counted.
const MAX_FAULTS: usize = 20;

/// What a store path is in the image.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    /// Its NAR, or `None` if it could not be read to its end; then there are faults, or it is too large.
    pub nar: Option<NarHash>,
    /// Whether it is larger than allowed, so that it was not read any further.
    pub is_too_large: bool,
    /// Regular files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What cannot be read, and why.
    pub faults: Vec<FileFault>,
    /// Further faults that are not among them.
    pub more_faults: usize,
    /// Files whose metadata is not as Nix makes it, and the first of them.
    pub uncanonical: Option<(usize, FileFault)>,
}

/// What is wrong with one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileFault {
    /// The path from the filesystem's root, escaped.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// What hashing needs besides the path.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub fs: &'a dyn FileSystem,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    /// The entries that all paths of the store together have had so far. Where a directory stands in many of them, that
    /// can be more than the image has room for, and the rest is not read.
    pub entries: &'a AtomicU64,
}

impl Surroundings<'_> {
    /// Counts `more` entries; returns whether the image can have so many.
    fn count(&self, more: usize) -> bool {
        let more = more as u64;
        self.entries.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= self.fs.summary().max_entries
    }
}

/// Reads all of `path`. No NAR of more than `limit` bytes is read to its end.
pub(super) fn hash(
    surroundings: Surroundings<'_>,
    path: &Path,
    limit: u64,
    buffer: &mut Vec<u8>,
) -> Result<Hashed, Cancelled> {
    buffer.resize(PIECE, 0);
    let entered = Entered::default();
    let mut reading =
        Reading { surroundings, limit, buffer, nar: NarHasher::new(), entered, hashed: Hashed::default() };
    let found = surroundings.fs.metadata(path).and_then(|metadata| Ok((metadata, surroundings.fs.id(path)?)));
    let went = match found {
        Ok((metadata, id)) => reading.node(path, metadata, id, 0),
        Err(error) => {
            reading.fault(path, error);
            Ok(())
        }
    };
    let Reading { nar, mut hashed, .. } = reading;
    match went {
        Err(Stop::Cancelled(cancelled)) => return Err(cancelled),
        Err(Stop::TooLarge) => hashed.is_too_large = true,
        Err(Stop::Told) => {}
        Ok(()) => hashed.nar = hashed.faults.is_empty().then(|| nar.finish()),
    }
    Ok(hashed)
}

/// Why not to go on.
enum Stop {
    TooLarge,
    /// There is a fault that says it.
    Told,
    Cancelled(Cancelled),
}

impl From<Cancelled> for Stop {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

struct Reading<'a> {
    surroundings: Surroundings<'a>,
    limit: u64,
    buffer: &'a mut Vec<u8>,
    nar: NarHasher,
    entered: Entered,
    hashed: Hashed,
}

impl Reading<'_> {
    fn node(&mut self, path: &Path, metadata: Metadata, id: Option<FileId>, depth: usize) -> Result<(), Stop> {
        self.surroundings.cancel.check()?;
        self.look_at(path, metadata);
        match metadata.kind {
            Kind::File => self.file(path, metadata),
            Kind::Directory => self.directory(path, id, depth),
            Kind::Symlink => {
                match self.surroundings.fs.read_link(path) {
                    Ok(target) => self.nar.symlink(target.as_bytes()),
                    Err(error) => self.fault(path, error),
                }
                self.check_size()
            }
            Kind::Special => {
                self.fault_text(path, "is a device, a socket or a pipe, which no store path can hold");
                Ok(())
            }
        }
    }

    fn directory(&mut self, path: &Path, id: Option<FileId>, depth: usize) -> Result<(), Stop> {
        if depth >= MAX_DEPTH {
            self.fault_text(path, &format!("is deeper than {MAX_DEPTH} directories"));
            return Err(Stop::Told);
        }
        if !self.entered.enter(id) {
            self.fault_text(path, ENTERED_AGAIN);
            return Ok(());
        }
        let entries = match self.surroundings.fs.list(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault(path, error);
                return Ok(());
            }
        };
        if !self.surroundings.count(entries.len()) {
            self.fault_text(path, "is part of a tree with more entries than the image has room for");
            return Err(Stop::Told);
        }
        self.nar.begin_directory();
        for entry in entries {
            self.nar.begin_entry(entry.name.as_bytes());
            self.node(&path.join(&entry.name), entry.metadata, entry.id, depth.saturating_add(1))?;
            self.nar.end_entry();
        }
        self.nar.end_directory();
        self.check_size()
    }

    fn file(&mut self, path: &Path, metadata: Metadata) -> Result<(), Stop> {
        self.hashed.files = self.hashed.files.saturating_add(1);
        self.nar.begin_file(metadata.permissions & OWNER_EXECUTES != 0, metadata.len);
        if self.nar.size().saturating_add(metadata.len) > self.limit {
            return Err(Stop::TooLarge);
        }
        if metadata.len > 0 {
            self.contents(path, metadata.len)?;
        }
        self.nar.end_file(metadata.len);
        Ok(())
    }

    fn contents(&mut self, path: &Path, len: u64) -> Result<(), Stop> {
        let Surroundings { fs, progress, cancel, .. } = self.surroundings;
        let mut file = match fs.open(path) {
            Ok(file) => file,
            Err(error) => {
                self.fault(path, error);
                return Ok(());
            }
        };
        let mut at = 0;
        while at < len {
            cancel.check()?;
            let wanted = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let Some(piece) = self.buffer.get_mut(..wanted) else { break };
            match file.read_at(at, piece) {
                Ok(0) => {
                    self.fault_text(path, &format!("ends after {at} of {len} bytes"));
                    break;
                }
                Ok(got) => {
                    self.nar.contents(piece.get(..got).unwrap_or_default());
                    at = at.saturating_add(got as u64);
                    self.hashed.bytes = self.hashed.bytes.saturating_add(got as u64);
                    progress.advance(0, got as u64);
                }
                Err(error) => {
                    drop(file);
                    self.fault(path, error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// A NAR that has outgrown what is registered cannot become right; in circles of directories it would grow for ever.
    fn check_size(&self) -> Result<(), Stop> {
        if self.nar.size() > self.limit { Err(Stop::TooLarge) } else { Ok(()) }
    }

    /// NAR hashes know nothing of owners, times and most permissions; Nix makes them all the same.
    fn look_at(&mut self, path: &Path, metadata: Metadata) {
        let Some(why) = uncanonical(metadata) else { return };
        match &mut self.hashed.uncanonical {
            Some((count, _)) => *count = count.saturating_add(1),
            none => *none = Some((1, FileFault { file: escape::path(path), why })),
        }
    }

    fn fault(&mut self, path: &Path, error: ReadError) {
        let why = match error {
            ReadError::Corrupt(fault) if fault.what == escape::path(path) => fault.why,
            other => super::describe(&other),
        };
        self.fault_text(path, &why);
    }

    fn fault_text(&mut self, path: &Path, why: &str) {
        if self.hashed.faults.len() < MAX_FAULTS {
            self.hashed.faults.push(FileFault { file: escape::path(path), why: why.to_owned() });
        } else {
            self.hashed.more_faults = self.hashed.more_faults.saturating_add(1);
        }
    }
}

/// The properties of a file of the store that are not as Nix makes them.
fn uncanonical(metadata: Metadata) -> Option<String> {
    let Metadata { kind, permissions, uid, gid, mtime, .. } = metadata;
    let modes: &[u16] = match kind {
        Kind::File => &[0o444, 0o555],
        Kind::Directory => &[0o555],
        // Links have no permissions, and what else there is has no place here anyway.
        Kind::Symlink | Kind::Special => &[],
    };
    let mut said = Vec::new();
    if !modes.is_empty() && !modes.contains(&permissions) {
        let wanted: Vec<_> = modes.iter().map(|mode| format!("{mode:04o}")).collect();
        said.push(format!("mode {permissions:04o}, not {}", wanted.join(" or ")));
    }
    if (uid, gid) != (0, 0) {
        said.push(format!("owner {uid}:{gid}, not 0:0"));
    }
    if mtime != 1 {
        said.push(format!("mtime {mtime}, not 1"));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::read::fake::Fake;

    fn sample() -> Fake {
        let executable = Metadata { kind: Kind::File, permissions: 0o555, uid: 0, gid: 0, len: 3, mtime: 1 };
        Fake::new()
            .entry("store/p/bin/run", executable, b"run")
            .file("store/p/a.b", "x")
            .file("store/p/a/c", vec![7; 3 << 20])
            .file("store/p/empty", "")
            .link("store/p/link", "../target")
            .directory("store/p/none")
    }

    fn run(fs: &Fake, path: &str, limit: u64) -> Hashed {
        let surroundings = Surroundings { fs, progress: &Silent, cancel: &Cancel::new(), entries: &AtomicU64::new(0) };
        hash(surroundings, Path::new(path), limit, &mut Vec::new()).unwrap()
    }

    /// The same tree on this host, serialised by the crate nix-nar, which is not ours.
    fn judge(write: impl FnOnce(&Path)) -> (Vec<u8>, u64) {
        use sha2::{Digest, Sha256};
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        write(&path);
        let mut nar = Vec::new();
        nix_nar::Encoder::new(&path).unwrap().read_to_end(&mut nar).unwrap();
        (Sha256::digest(&nar).to_vec(), nar.len() as u64)
    }

    #[test]
    fn the_hash_is_that_of_the_nar() {
        let (digest, size) = judge(|path| {
            use std::os::unix::fs::{PermissionsExt, symlink};
            for directory in ["bin", "a", "none"] {
                std::fs::create_dir_all(path.join(directory)).unwrap();
            }
            std::fs::write(path.join("bin/run"), "run").unwrap();
            std::fs::set_permissions(path.join("bin/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::write(path.join("a.b"), "x").unwrap();
            std::fs::write(path.join("a/c"), vec![7; 3 << 20]).unwrap();
            std::fs::write(path.join("empty"), "").unwrap();
            symlink("../target", path.join("link")).unwrap();
        });
        let hashed = run(&sample(), "store/p", u64::MAX);
        let nar = hashed.nar.unwrap();
        assert_eq!((nar.digest.to_vec(), nar.size), (digest, size));
        assert_eq!((hashed.files, hashed.bytes), (4, (3 << 20) + 4));
        assert_eq!((hashed.faults, hashed.uncanonical), (vec![], None));
    }

    #[test]
    fn a_path_may_be_a_file_or_a_link() {
        let fs = Fake::new().file("store/f", "text").link("store/l", "f");
        let (digest, size) = judge(|path| std::fs::write(path, "text").unwrap());
        let nar = run(&fs, "store/f", size).nar.unwrap();
        assert_eq!((nar.digest.to_vec(), nar.size), (digest, size));
        let (digest, size) = judge(|path| std::os::unix::fs::symlink("f", path).unwrap());
        let nar = run(&fs, "store/l", size).nar.unwrap();
        assert_eq!((nar.digest.to_vec(), nar.size), (digest, size));
    }

    #[test]
    fn what_is_too_large_is_not_read_to_its_end() {
        let all = run(&sample(), "store/p", u64::MAX).nar.unwrap().size;
        assert!(run(&sample(), "store/p", all).nar.is_some());
        let cut = run(&sample(), "store/p", all - 1);
        assert!(cut.is_too_large && cut.nar.is_none());
        let huge = Metadata { kind: Kind::File, permissions: 0o444, uid: 0, gid: 0, len: u64::MAX, mtime: 1 };
        let cut = run(&Fake::new().entry("store/p", huge, b"not so much"), "store/p", 1 << 40);
        assert!(cut.is_too_large && cut.bytes == 0);
    }

    #[test]
    fn circles_end() {
        let fs = Fake::new().file("store/p/f", "").looping("store/p/self", "store/p");
        let hashed = run(&fs, "store/p", u64::MAX);
        assert_eq!(hashed.faults, [FileFault { file: "store/p/self".to_owned(), why: ENTERED_AGAIN.to_owned() }]);
        assert_eq!((hashed.files, hashed.nar), (1, None));
        let fs = (0..9).fold(Fake::new(), |fs, n| fs.file(format!("store/p/{n}"), "")).max_entries(5);
        assert!(run(&fs, "store/p", u64::MAX).faults[0].why.contains("more entries"));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_read() {
        let short = Metadata { kind: Kind::File, permissions: 0o444, uid: 0, gid: 0, len: 9, mtime: 1 };
        let special = Metadata { kind: Kind::Special, ..short };
        let fs = sample().broken("store/p/a").entry("store/p/s", short, b"four").entry("store/p/\x1b", special, b"");
        let hashed = run(&fs, "store/p", u64::MAX);
        let said: Vec<_> = hashed.faults.iter().map(|fault| format!("{}: {}", fault.file, fault.why)).collect();
        assert_eq!(
            said,
            [
                "store/p/\\u{1b}: is a device, a socket or a pipe, which no store path can hold",
                "store/p/a: corrupt directory store/p/a: broken",
                "store/p/s: ends after 4 of 9 bytes",
            ]
        );
        assert!(hashed.nar.is_none());
        assert_eq!(run(&fs, "store/q", 1).faults[0].why, "store/q: no such file");
    }

    #[test]
    fn metadata_that_nix_would_not_make_is_seen() {
        let odd = |permissions, uid, gid, mtime| Metadata { kind: Kind::File, permissions, uid, gid, len: 0, mtime };
        assert_eq!(uncanonical(odd(0o444, 0, 0, 1)), None);
        assert_eq!(uncanonical(odd(0o555, 0, 0, 1)), None);
        assert_eq!(uncanonical(odd(0o644, 0, 0, 1)).unwrap(), "mode 0644, not 0444 or 0555");
        assert_eq!(
            uncanonical(odd(0o4555, 0, 5, 0)).unwrap(),
            "mode 4555, not 0444 or 0555; owner 0:5, not 0:0; mtime 0, not 1"
        );
        let link = Metadata { kind: Kind::Symlink, ..odd(0o777, 0, 0, 1) };
        assert_eq!(uncanonical(link), None);
        let directory = Metadata { kind: Kind::Directory, ..odd(0o755, 0, 0, 1) };
        assert_eq!(uncanonical(directory).unwrap(), "mode 0755, not 0555");
        let fs = sample().entry("store/p/x", odd(0o644, 0, 0, 1), b"").entry("store/p/y", odd(0o444, 1, 0, 1), b"");
        let (count, first) = run(&fs, "store/p", u64::MAX).uncanonical.unwrap();
        assert_eq!((count, first.file.as_str()), (2, "store/p/x"));
    }
}
