//! systemd's stub: the program that a unified kernel image is made of. Pure.

use std::ops::Range;

use zerocopy::FromBytes;

use super::error::UkiError;
use super::format::{
    CERTIFICATE_TABLE, DIRECTORIES, DIRECTORY, EFI_APPLICATION, FileHeader, OptionalHeader, PE32, PE32_PLUS, SIGNATURE,
    SectionHeader,
};
use crate::pe::{self, HEADER, Section};

/// The headers of a stub, checked, and where they are.
#[derive(Clone, Debug)]
pub(super) struct Stub<'a> {
    /// Up to the end of its last section. Symbols for linkers, which old stubs have behind it, are left out.
    pub(super) bytes: &'a [u8],
    pub(super) file_header: (usize, FileHeader),
    pub(super) optional_header: (usize, OptionalHeader),
    pub(super) sections: Vec<SectionHeader>,
    /// Where the headers of sections are, and where further ones can be.
    pub(super) table: Range<usize>,
}

impl<'a> Stub<'a> {
    /// Finds and checks the headers of a stub.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let (table, count) = pe::sections_at(bytes).ok_or(UkiError::NotPe)?;
        let start = usize::try_from(table).map_err(|_| UkiError::NotPe)?;
        let optional_size =
            usize::from(header_at::<FileHeader>(bytes, file_header_at(bytes)?)?.size_of_optional_header);
        let at = start.checked_sub(optional_size).ok_or(UkiError::NotPe)?;
        let optional: OptionalHeader = header_at(bytes, at)?;
        let directories = match optional.magic.get() {
            PE32 => DIRECTORIES[0],
            PE32_PLUS => DIRECTORIES[1],
            _ => return Err(UkiError::NotPe),
        };
        if optional_size < size_of::<OptionalHeader>() {
            return Err(UkiError::Damaged { problem: "the optional header is too short" });
        }
        if optional.subsystem.get() != EFI_APPLICATION {
            return Err(UkiError::NotEfi { subsystem: optional.subsystem.get() });
        }
        let certificates = directories + CERTIFICATE_TABLE * DIRECTORY;
        let has_certificates = optional_size >= certificates + DIRECTORY
            && bytes.get(at + certificates..at + certificates + DIRECTORY).is_some_and(|entry| entry != [0; DIRECTORY]);
        if has_certificates {
            return Err(UkiError::Signed);
        }
        let sections = (0..usize::from(count))
            .map(|i| header_at(bytes, start + i * HEADER))
            .collect::<Result<Vec<SectionHeader>, _>>()?;
        let (data, end) = data(&sections, bytes.len())?;
        check(&optional, &sections)?;
        let room = u64::from(optional.size_of_headers.get()).min(data).min(bytes.len() as u64);
        let room = usize::try_from(room).unwrap_or(bytes.len());
        Ok(Self {
            bytes: bytes.get(..end).unwrap_or(bytes),
            file_header: (file_header_at(bytes)?, header_at(bytes, file_header_at(bytes)?)?),
            optional_header: (at, optional),
            sections,
            table: start..room.max(start + usize::from(count) * HEADER),
        })
    }

    /// How many sections it can have, with those that it has.
    pub(super) fn most_sections(&self) -> usize {
        (self.table.len() / HEADER).min(usize::from(u16::MAX))
    }

    /// Which of its sections is called so.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|section| name_of(section) == name.as_bytes())
    }
}

/// A section's name without the zeros behind it.
pub(super) fn name_of(section: &SectionHeader) -> &[u8] {
    section.name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The text in a section of a program, of which `start` has at least that section.
pub(super) fn text_of<'a>(bytes: &'a [u8], section: &SectionHeader) -> &'a str {
    let parsed = Section::parse(zerocopy::IntoBytes::as_bytes(section));
    let text = parsed.and_then(|section| {
        let start = usize::try_from(section.offset).ok()?;
        std::str::from_utf8(bytes.get(start..start.checked_add(section.len)?)?).ok()
    });
    text.unwrap_or_default()
}

fn file_header_at(bytes: &[u8]) -> Result<usize, UkiError> {
    let field = bytes.get(0x3c..).and_then(|rest| rest.first_chunk()).ok_or(UkiError::NotPe)?;
    let at = usize::try_from(u32::from_le_bytes(*field)).map_err(|_| UkiError::NotPe)?;
    at.checked_add(SIGNATURE.len()).ok_or(UkiError::NotPe)
}

/// The header at byte `at`.
fn header_at<T: FromBytes>(bytes: &[u8], at: usize) -> Result<T, UkiError> {
    let rest = bytes.get(at..).ok_or(UkiError::NotPe)?;
    T::read_from_prefix(rest).map(|(header, _)| header).map_err(|_| UkiError::NotPe)
}

/// Where the contents of sections start in the file, and where they end.
fn data(sections: &[SectionHeader], len: usize) -> Result<(u64, usize), UkiError> {
    let ranges = sections.iter().filter(|section| section.size_of_raw_data.get() > 0).map(|section| {
        let start = u64::from(section.pointer_to_raw_data.get());
        (start, start + u64::from(section.size_of_raw_data.get()))
    });
    let (start, end) = ranges.fold((u64::MAX, 0), |(start, end), (a, b)| (start.min(a), end.max(b)));
    match usize::try_from(end) {
        Ok(0) => Err(UkiError::Damaged { problem: "it has no sections" }),
        Ok(end) if end <= len => Ok((start, end)),
        _ => Err(UkiError::Truncated { len: len as u64, end }),
    }
}

/// Refuses what no linker makes: sections are placed by these fields.
fn check(optional: &OptionalHeader, sections: &[SectionHeader]) -> Result<(), UkiError> {
    let damaged = |problem| Err(UkiError::Damaged { problem });
    let [in_memory, in_file] = [optional.section_alignment, optional.file_alignment].map(|field| field.get());
    if !in_memory.is_power_of_two() || !in_file.is_power_of_two() {
        return damaged("the alignment of sections is no power of two");
    }
    if !sections.is_sorted_by_key(|section| section.virtual_address.get()) {
        return damaged("the sections are not sorted by address");
    }
    Ok(())
}
