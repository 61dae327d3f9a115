//! Programs for UEFI on a filesystem: the contents of their sections.

use std::path::Path;

use super::super::filesystem::read_up_to;
use crate::pe::{HEADER, Section, sections_at};
use crate::read::{Contents, FileSystem, ReadError};

/// As many sections as are looked at: the format allows no more to be loaded.
const MAX_SECTIONS: u16 = 96;
/// As much of a section as is looked at, in bytes.
const MAX_TEXT: usize = 1 << 16;

/// The sections of a program.
pub(super) struct Pe {
    sections: Vec<Section>,
}

impl Pe {
    /// The sections of the file at `path`, or `None` if it is no such program.
    pub(super) fn read(fs: &dyn FileSystem, path: &Path) -> Result<Option<Self>, ReadError> {
        let start = read_up_to(fs, path, 4096)?;
        let Some((at, count)) = sections_at(&start) else { return Ok(None) };
        let mut table = vec![0; HEADER * usize::from(count.min(MAX_SECTIONS))];
        let len = read_full(&mut *fs.open(path)?, at, &mut table)?;
        let headers = table.get(..len).unwrap_or_default().chunks_exact(HEADER);
        Ok(Some(Self { sections: headers.filter_map(Section::parse).collect() }))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.is(name))
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

/// Fills `buf` as far as the file goes.
fn read_full(contents: &mut dyn Contents, at: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
    contents.read_at(at, buf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::program;
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
