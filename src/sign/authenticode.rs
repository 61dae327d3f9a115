//! What a signature of a program for UEFI is about. Sources: Microsoft's "Windows Authenticode Portable Executable Signature
//! Format" and "PE Format".
//!
//! The digest covers the file but for the checksum, the entry that says where signatures are, and these.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::pe;
use crate::uki::format::{CERTIFICATE_TABLE, DIRECTORIES, DIRECTORY, PE32, PE32_PLUS};

/// The headers of a program are in as many bytes.
const HEADERS: u64 = 1 << 16;
/// Where the checksum is in the optional header, and its length, in bytes.
const CHECKSUM: (usize, usize) = (64, 4);
/// The data that is signed has a multiple of this length, filled with zeros.
const ALIGNMENT: u64 = 8;
/// No signatures are longer, in bytes.
const MOST: u64 = 1 << 20;
/// Bytes that are read at once.
const BLOCK: u64 = 1 << 20;

/// A program, as its signatures see it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// Of all that is signed.
    pub(super) digest: [u8; 32],
    /// The signatures; empty if it has none.
    signatures: Vec<u8>,
}

impl Signed {
    /// Reads a program.
    ///
    /// # Errors
    /// If it cannot be read, its headers are damaged, or its end is missing.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut headers = Vec::new();
        Read::by_ref(&mut &file).take(HEADERS).read_to_end(&mut headers)?;
        let fields = Fields::find(&headers).ok_or_else(damaged)?;
        if let Some(whole) = end_of_sections(&headers).filter(|&end| end > len) {
            let why = format!("is cut off: it has {len} bytes of at least {whole}");
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        let (at, size) = fields.signatures;
        let (end, mut signatures) = if size == 0 { (len, Vec::new()) } else { (at, vec![0; usize_of(size.min(MOST))]) };
        if end > len || end < fields.directory as u64 {
            return Err(damaged());
        }
        file.read_exact_at(&mut signatures, end)?;
        let mut sum = Sha256::new();
        let (checksum, directory) = (fields.checksum as u64, fields.directory as u64);
        hash(&file, &mut sum, 0, checksum)?;
        hash(&file, &mut sum, checksum + CHECKSUM.1 as u64, directory)?;
        hash(&file, &mut sum, directory + DIRECTORY as u64, end)?;
        sum.update(vec![0; usize_of(end.next_multiple_of(ALIGNMENT) - end)]);
        Ok(Self { digest: sum.finalize().into(), signatures })
    }

    /// Whether it has a signature that is of this digest and brings this certificate, in DER.
    pub(super) fn is_by(&self, certificate: &[u8]) -> bool {
        let has = |wanted: &[u8]| self.signatures.windows(wanted.len()).any(|window| window == wanted);
        has(&self.digest) && has(certificate)
    }
}

/// Where in the headers the fields are that no signature is about.
struct Fields {
    checksum: usize,
    directory: usize,
    /// Where the signatures are and how long, as the directory says.
    signatures: (u64, u64),
}

impl Fields {
    fn find(headers: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*headers.get(at..)?.first_chunk()?));
        let pe = usize::try_from(word(0x3c)?).ok()?;
        // The signature and the file header.
        let optional = pe.checked_add(24)?;
        let magic = u16::from_le_bytes(*headers.get(optional..)?.first_chunk()?);
        let directories = match magic {
            PE32 => DIRECTORIES[0],
            PE32_PLUS => DIRECTORIES[1],
            _ => return None,
        };
        let directory = optional + directories + CERTIFICATE_TABLE * DIRECTORY;
        let signatures = (word(directory)?.into(), word(directory + 4)?.into());
        Some(Self { checksum: optional + CHECKSUM.0, directory, signatures })
    }
}

/// The end of what the sections of a program have in the file; zeros at the end may be missing.
fn end_of_sections(headers: &[u8]) -> Option<u64> {
    let (at, count) = pe::sections_at(headers)?;
    let table = headers.get(usize::try_from(at).ok()?..)?;
    let sections = table.chunks_exact(pe::HEADER).take(count.into()).filter_map(pe::Section::parse);
    // What has no bytes in the file may be anywhere.
    sections.filter(|section| section.len > 0).map(|section| section.offset.saturating_add(section.len as u64)).max()
}

fn hash(file: &File, sum: &mut Sha256, mut from: u64, to: u64) -> io::Result<()> {
    let mut block = vec![0; usize_of(BLOCK.min(to.saturating_sub(from)))];
    while from < to {
        let part = block.get_mut(..usize_of(BLOCK.min(to - from))).unwrap_or_default();
        file.read_exact_at(part, from)?;
        sum.update(&*part);
        from += part.len() as u64;
    }
    Ok(())
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "has damaged headers")
}

/// A number of at most a few MiB.
fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uki::sample::{TABLE, stub};

    fn read(bytes: &[u8]) -> io::Result<Signed> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Signed::read(file.path())
    }

    /// A program with something in the place of signatures.
    fn with_signatures(program: &[u8], signatures: &[u8]) -> Vec<u8> {
        let mut bytes = program.to_vec();
        let directory = TABLE + DIRECTORIES[1] + CERTIFICATE_TABLE * DIRECTORY;
        let [at, len] = [program.len(), signatures.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
        bytes[directory..directory + 4].copy_from_slice(&at);
        bytes[directory + 4..directory + 8].copy_from_slice(&len);
        // Tools set the checksum, too.
        bytes[TABLE + 64] = 1;
        bytes.extend(signatures);
        bytes
    }

    #[test]
    fn signatures_are_not_about_themselves() {
        let program = stub(PE32_PLUS, 0x400, &[(".text", "code")]);
        let unsigned = read(&program).unwrap();
        assert!(!unsigned.is_by(b"certificate"));
        let other = read(&with_signatures(&program, b"another certificate")).unwrap();
        assert_eq!(other.digest, unsigned.digest);
        assert!(!other.is_by(b"certificate"));
        let signature = [&unsigned.digest[..], b"certificate"].concat();
        let signed = with_signatures(&program, &signature);
        assert!(read(&signed).unwrap().is_by(b"certificate"));
        for at in [0x10, 0x400, TABLE + 20, program.len() - 1] {
            let mut altered = signed.clone();
            altered[at] ^= 1;
            assert!(!read(&altered).unwrap().is_by(b"certificate"), "{at}");
        }
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let program = stub(PE32_PLUS, 0x400, &[(".text", "code"), (".data", "more")]);
        read(&program).unwrap();
        let needed = 0x400 + 0x200 + "more".len();
        read(&program[..needed]).unwrap();
        let error = read(&program[..needed - 1]).unwrap_err().to_string();
        assert_eq!(error, format!("is cut off: it has {} bytes of at least {needed}", needed - 1));
    }

    #[test]
    fn no_bytes_panic() {
        let program = with_signatures(&stub(PE32_PLUS, 0x400, &[(".text", "code")]), b"signatures");
        for at in 0..0x200 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = program.clone();
                bytes[at] = byte;
                let _ = read(&bytes);
            }
            let _ = read(&program[..at]);
        }
    }
}
