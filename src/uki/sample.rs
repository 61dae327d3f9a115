//! A stub for tests.

use zerocopy::{FromZeros, IntoBytes};

use super::format::{DIRECTORIES, DIRECTORY, EFI_APPLICATION, FileHeader, OptionalHeader, PE32_PLUS, SectionHeader};
use crate::pe::HEADER;

/// Where the optional header is.
pub(crate) const TABLE: usize = 0x40 + 4 + 20;

/// A stub: its kind, the room for headers, and its sections with their texts.
pub(crate) fn stub(magic: u16, headers: usize, sections: &[(&str, &str)]) -> Vec<u8> {
    let optional_size = DIRECTORIES[usize::from(magic == PE32_PLUS)] + 16 * DIRECTORY;
    let mut bytes = vec![0; headers];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    let mut file = FileHeader::new_zeroed();
    file.machine = 0x8664.into();
    file.number_of_sections = u16::try_from(sections.len()).unwrap().into();
    file.size_of_optional_header = u16::try_from(optional_size).unwrap().into();
    bytes[0x44..0x44 + 20].copy_from_slice(file.as_bytes());
    let mut optional = OptionalHeader::new_zeroed();
    optional.magic = magic.into();
    optional.section_alignment = 0x1000.into();
    optional.file_alignment = 0x200.into();
    optional.size_of_headers = u32::try_from(headers).unwrap().into();
    optional.check_sum = 7.into();
    optional.subsystem = EFI_APPLICATION.into();
    for (i, (name, text)) in sections.iter().enumerate() {
        let mut section = SectionHeader::new_zeroed();
        section.name[..name.len()].copy_from_slice(name.as_bytes());
        let len = u32::try_from(text.len()).unwrap();
        section.virtual_size = len.into();
        section.virtual_address = (0x1000 * u32::try_from(i + 1).unwrap()).into();
        section.size_of_raw_data = len.next_multiple_of(0x200).into();
        section.pointer_to_raw_data = u32::try_from(bytes.len()).unwrap().into();
        let at = TABLE + optional_size + i * HEADER;
        bytes[at..at + HEADER].copy_from_slice(section.as_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(0x200), 0);
    }
    bytes[TABLE..TABLE + 72].copy_from_slice(optional.as_bytes());
    bytes
}
