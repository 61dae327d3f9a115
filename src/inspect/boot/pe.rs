//! Programs for UEFI: the sections of a PE file. Facts are from Microsoft's "PE Format".

use std::path::Path;

use super::super::filesystem::read_up_to;
use crate::read::{Contents, FileSystem, ReadError};

/// As many sections as are looked at: the format allows no more to be loaded.
const MAX_SECTIONS: u16 = 96;
/// As much of a section as is looked at, in bytes.
const MAX_TEXT: usize = 1 << 16;
/// Bytes of a section's header.
const SECTION: usize = 40;

/// The sections of a program.
pub(super) struct Pe {
    sections: Vec<Section>,
}

struct Section {
    name: Vec<u8>,
    offset: u64,
    len: usize,
}

impl Pe {
    /// The sections of the file at `path`, or `None` if it is no such program.
    pub(super) fn read(fs: &dyn FileSystem, path: &Path) -> Result<Option<Self>, ReadError> {
        let start = read_up_to(fs, path, 4096)?;
        let Some((at, count)) = sections_at(&start) else { return Ok(None) };
        let mut table = vec![0; SECTION * usize::from(count.min(MAX_SECTIONS))];
        let len = read_full(&mut *fs.open(path)?, at, &mut table)?;
        let headers = table.get(..len).unwrap_or_default().chunks_exact(SECTION);
        Ok(Some(Self { sections: headers.filter_map(Section::parse).collect() }))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    /// The text in a section, without the zeros at its end.
    pub(super) fn text(&self, fs: &dyn FileSystem, path: &Path, name: &str) -> Result<Option<String>, ReadError> {
        let Some(section) = self.section(name) else { return Ok(None) };
        let mut bytes = vec![0; section.len.min(MAX_TEXT)];
        let len = read_full(&mut *fs.open(path)?, section.offset, &mut bytes)?;
        let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
        Ok(Some(text.trim_end_matches('\0').trim().to_owned()))
    }
}

impl Section {
    fn parse(header: &[u8]) -> Option<Self> {
        let name = header.get(..8)?.split(|&byte| byte == 0).next()?.to_vec();
        let (virtual_size, raw_size) = (u32_at(header, 8)?, u32_at(header, 16)?);
        let offset = u64::from(u32_at(header, 20)?);
        Some(Self { name, offset, len: usize::try_from(virtual_size.min(raw_size)).ok()? })
    }
}

/// Where the headers of the sections are, and how many.
fn sections_at(start: &[u8]) -> Option<(u64, u16)> {
    if !start.starts_with(b"MZ") {
        return None;
    }
    let pe = usize::try_from(u32_at(start, 0x3c)?).ok()?;
    let coff = start.get(pe..)?.strip_prefix(b"PE\0\0")?;
    let (count, optional) = (u16_at(coff, 2)?, u16_at(coff, 16)?);
    Some(((pe as u64).checked_add(24)?.checked_add(u64::from(optional))?, count))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Fills `buf` as far as the file goes.
fn read_full(contents: &mut dyn Contents, at: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
    contents.read_at(at, buf)
}

/// A program with these sections, for tests.
#[cfg(test)]
pub(super) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x80];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    bytes.resize(0x80 + 24, 0);
    let mut offset = bytes.len() + SECTION * sections.len();
    for (name, contents) in sections {
        let mut header = [0; SECTION];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let len = u32::try_from(contents.len()).unwrap().to_le_bytes();
        header[8..12].copy_from_slice(&len);
        header[16..20].copy_from_slice(&len);
        header[20..24].copy_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
        bytes.extend(header);
        offset += contents.len();
    }
    sections.iter().for_each(|(_, contents)| bytes.extend(*contents));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::fake::Fake;

    #[test]
    fn sections_are_found() {
        let fs = Fake::new().file("a.efi", program(&[(".osrel", b"ID=x\0"), (".cmdline", b" init=/x quiet\n\0\0")]));
        let path = Path::new("a.efi");
        let pe = Pe::read(&fs, path).unwrap().unwrap();
        assert_eq!(pe.text(&fs, path, ".cmdline").unwrap().as_deref(), Some("init=/x quiet"));
        assert!(pe.has(".osrel") && !pe.has(".linux"));
        assert_eq!(pe.text(&fs, path, ".linux").unwrap(), None);
    }

    #[test]
    fn no_bytes_panic() {
        let whole = program(&[(".cmdline", b"x")]);
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let fs = Fake::new().file("a", &bytes).file("b", &bytes[..at]);
                for path in ["a", "b"].map(Path::new) {
                    if let Some(pe) = Pe::read(&fs, path).unwrap() {
                        let _ = pe.text(&fs, path, ".cmdline").unwrap();
                    }
                }
            }
        }
        assert!(Pe::read(&Fake::new().file("a", ""), Path::new("a")).unwrap().is_none());
    }
}
