//! Programs for UEFI: the headers of a PE file. Source: Microsoft's "PE Format".
//!
//! Every module may use this, so that the code that lays out and the code that reads judge programs by the same rules.

/// Bytes of a section's header.
pub const HEADER: usize = 40;

/// A section of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name without the zeros at its end.
    pub name: Vec<u8>,
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: usize,
}

impl Section {
    /// What a header of [`HEADER`] bytes says, or `None` if it is shorter.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let name = header.get(..8)?.split(|&byte| byte == 0).next()?.to_vec();
        let (virtual_size, raw_size) = (u32_at(header, 8)?, u32_at(header, 16)?);
        let offset = u64::from(u32_at(header, 20)?);
        Some(Self { name, offset, len: usize::try_from(virtual_size.min(raw_size)).ok()? })
    }

    /// Whether it is called `name`.
    pub fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }
}

/// Where the headers of the sections are in the file that starts with `start`, in bytes, and how many they are; `None` if
/// it is no PE file.
pub fn sections_at(start: &[u8]) -> Option<(u64, u16)> {
    if !start.starts_with(b"MZ") {
        return None;
    }
    let pe = usize::try_from(u32_at(start, 0x3c)?).ok()?;
    let coff = start.get(pe..)?.strip_prefix(b"PE\0\0")?;
    let (count, optional) = (u16_at(coff, 2)?, u16_at(coff, 16)?);
    Some(((pe as u64).checked_add(24)?.checked_add(u64::from(optional))?, count))
}

/// Whether a file that starts with `start` is a unified kernel image: a program that has a kernel in a section.
///
/// `start` must hold the headers; those of a program are in its first 4096 bytes.
pub fn is_unified_kernel_image(start: &[u8]) -> bool {
    let headers = sections_at(start).and_then(|(at, count)| Some((start.get(usize::try_from(at).ok()?..)?, count)));
    let Some((headers, count)) = headers else { return false };
    let sections = headers.chunks_exact(HEADER).take(usize::from(count)).filter_map(Section::parse);
    sections.into_iter().any(|section| section.is(".linux"))
}

/// The kind of processor that the file that starts with `start` is for, by its number; `None` if it is no PE file.
pub fn machine(start: &[u8]) -> Option<u16> {
    sections_at(start)?;
    u16_at(start, usize::try_from(u32_at(start, 0x3c)?).ok()?.checked_add(4)?)
}

/// How UEFI and systemd call a kind of processor in the names of programs: `x64` for [`machine`] 8664.
pub fn efi_arch(machine: u16) -> Option<&'static str> {
    match machine {
        0x8664 => Some("x64"),
        0x014c => Some("ia32"),
        0xaa64 => Some("aa64"),
        0x01c0 | 0x01c2 | 0x01c4 => Some("arm"),
        0x5064 => Some("riscv64"),
        0x6264 => Some("loongarch64"),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A program with these sections, for tests.
#[cfg(test)]
pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x80];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    bytes.resize(0x80 + 24, 0);
    let mut offset = bytes.len() + HEADER * sections.len();
    for (name, contents) in sections {
        let mut header = [0; HEADER];
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

    #[test]
    fn a_unified_kernel_image_has_a_kernel() {
        assert!(is_unified_kernel_image(&program(&[(".osrel", b"x"), (".linux", b"kernel")])));
        assert!(!is_unified_kernel_image(&program(&[(".text", b"kernel"), (".linuz", b"")])));
        let whole = program(&[(".linux", b"kernel")]);
        assert!((0..0x80 + 24 + HEADER).all(|len| !is_unified_kernel_image(&whole[..len])));
    }
}
