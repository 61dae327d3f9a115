//! Places the sections of a unified kernel image in its file and in memory. Pure.
//!
//! The fields are those that ukify(1) of systemd 262 sets, to the byte; found by comparing its files with their stubs. A
//! new section follows the last one, in the file as in memory. `CheckSum` is zero, which means none: no firmware looks at
//! it, and the root hash comes into the file later.

use zerocopy::IntoBytes;

use super::error::UkiError;
use super::format::{CNT_CODE, CNT_INITIALIZED_DATA, MEM_READ, SectionHeader};
use super::sbat;
use super::stub::{Stub, text_of};
use crate::pe::HEADER;

const SBAT: &str = ".sbat";

/// A section that is to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSection {
    /// Its name, at most 8 bytes, such as `.linux`.
    pub name: &'static str,
    /// Its length in bytes.
    pub len: u64,
}

/// A unified kernel image, every byte placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The first bytes of the file: the stub with its new headers, up to where the first new section is.
    pub head: Vec<u8>,
    /// Where the new sections are in the file, in bytes, in their order. What is between them is zero.
    pub offsets: Vec<u64>,
    /// The length of the file in bytes.
    pub size: u64,
}

impl Layout {
    /// Adds sections to a stub, and the SBAT of a unified kernel image and of the kernel, if that has one, to its own.
    ///
    /// # Errors
    /// If the stub is no program for UEFI, or has no room for the headers.
    pub fn new(stub: &[u8], sections: &[NewSection], kernel_sbat: &str) -> Result<Self, UkiError> {
        let stub = Stub::parse(stub)?;
        if let Some(there) = sections.iter().find(|section| stub.position(section.name).is_some()) {
            return Err(UkiError::HasSection { name: there.name.to_owned() });
        }
        let mut growing = Growing::new(&stub)?;
        let sbat = growing.merge_sbat(kernel_sbat)?;
        let own_sbat = sbat.as_ref().map(|text| NewSection { name: SBAT, len: text.len() as u64 });
        let wanted = sections.len() + usize::from(own_sbat.is_some());
        let room = stub.most_sections().saturating_sub(growing.sections.len());
        if wanted > room {
            return Err(UkiError::NoRoom { room, wanted });
        }
        if let Some((section, text)) = own_sbat.zip(sbat) {
            // It is the first, so that its text is in the head.
            let at = growing.add(section)?;
            growing.head.resize(usize::try_from(at).map_err(|_| UkiError::TooLarge)?, 0);
            growing.head.extend(text.as_bytes());
        }
        let head = growing.file;
        let offsets = sections.iter().map(|section| growing.add(*section)).collect::<Result<_, _>>()?;
        growing.finish(head, offsets)
    }
}

/// A stub that gets sections.
struct Growing<'s, 'a> {
    stub: &'s Stub<'a>,
    head: Vec<u8>,
    sections: Vec<SectionHeader>,
    /// The end of the last section in the file.
    file: u64,
    /// The same in memory.
    memory: u64,
    /// Bytes of the new sections.
    added: u64,
}

impl<'s, 'a> Growing<'s, 'a> {
    fn new(stub: &'s Stub<'a>) -> Result<Self, UkiError> {
        let optional = &stub.optional_header.1;
        let file = (stub.bytes.len() as u64).next_multiple_of(u64::from(optional.file_alignment.get()));
        let ends = stub
            .sections
            .iter()
            .map(|section| u64::from(section.virtual_address.get()) + u64::from(section.virtual_size.get()));
        let memory = ends.max().unwrap_or(0).next_multiple_of(u64::from(optional.section_alignment.get()));
        let head = stub.bytes.to_vec();
        Ok(Self { stub, head, sections: stub.sections.clone(), file, memory, added: 0 })
    }

    /// Puts the merged SBAT in the place of the stub's own. Returns it if the stub has none, or has had one without room for
    /// it: that of systemd 252 has the next section right behind it in memory.
    fn merge_sbat(&mut self, kernel_sbat: &str) -> Result<Option<String>, UkiError> {
        let at = self.stub.position(SBAT);
        let room = at.and_then(|at| self.room(at));
        let section = at.and_then(|at| self.sections.get_mut(at));
        let (Some(at), Some(room), Some(section)) = (at, room, section) else {
            return Ok(Some(sbat::merge(&[kernel_sbat])));
        };
        let text = sbat::merge(&[text_of(&self.head, section), kernel_sbat]);
        if text.len() as u64 > room {
            self.take_out(at)?;
            return Ok(Some(text));
        }
        section.virtual_size = field(text.len() as u64)?;
        let place = [section.pointer_to_raw_data, section.size_of_raw_data].map(|number| usize::try_from(number.get()));
        let [Ok(start), Ok(len)] = place else { return Err(UkiError::TooLarge) };
        let mut bytes = text.into_bytes();
        bytes.resize(len, 0);
        put(&mut self.head, start, &bytes)?;
        Ok(None)
    }

    /// The most bytes that a section of the stub can have: in the file, and in memory before the next one.
    fn room(&self, at: usize) -> Option<u64> {
        let section = self.sections.get(at)?;
        let next = self.sections.get(at + 1).map_or(self.memory, |next| next.virtual_address.get().into());
        let in_memory = next.saturating_sub(section.virtual_address.get().into());
        Some(in_memory.min(section.size_of_raw_data.get().into()))
    }

    /// Takes a section out of the stub. Those behind it in the file move up: programs that sign do not agree on gaps.
    fn take_out(&mut self, at: usize) -> Result<(), UkiError> {
        let damaged = UkiError::Damaged { problem: "its sections overlap" };
        let section = self.sections.remove(at);
        let (start, len) = (section.pointer_to_raw_data.get(), section.size_of_raw_data.get());
        let [from, count] = [start, len].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let end = from.checked_add(count).filter(|&end| end <= self.head.len()).ok_or(damaged.clone())?;
        self.head.drain(from..end);
        for other in self.sections.iter_mut().filter(|other| other.pointer_to_raw_data.get() > start) {
            let moved = other.pointer_to_raw_data.get().checked_sub(len).ok_or(damaged.clone())?;
            other.pointer_to_raw_data = moved.into();
        }
        let alignment = u64::from(self.stub.optional_header.1.file_alignment.get());
        self.file = (self.head.len() as u64).next_multiple_of(alignment);
        Ok(())
    }

    /// Places a section after all others. Returns where it is in the file.
    fn add(&mut self, section: NewSection) -> Result<u64, UkiError> {
        let optional = &self.stub.optional_header.1;
        let raw = section.len.next_multiple_of(u64::from(optional.file_alignment.get()));
        let mut name = [0; 8];
        name.iter_mut().zip(section.name.bytes()).for_each(|(to, from)| *to = from);
        let kind = if section.name == ".linux" { CNT_CODE } else { CNT_INITIALIZED_DATA };
        let at = self.file;
        self.sections.push(SectionHeader {
            name,
            virtual_size: field(section.len)?,
            virtual_address: field(self.memory)?,
            size_of_raw_data: field(raw)?,
            pointer_to_raw_data: field(at)?,
            pointer_to_relocations: 0.into(),
            pointer_to_linenumbers: 0.into(),
            number_of_relocations: 0.into(),
            number_of_linenumbers: 0.into(),
            characteristics: (kind | MEM_READ).into(),
        });
        self.file += raw;
        self.memory = (self.memory + section.len).next_multiple_of(u64::from(optional.section_alignment.get()));
        self.added += section.len;
        Ok(at)
    }

    /// Writes the headers. `head` is how long the stub's part of the file is.
    fn finish(mut self, head: u64, offsets: Vec<u64>) -> Result<Layout, UkiError> {
        let (at, mut header) = self.stub.file_header;
        header.number_of_sections = u16::try_from(self.sections.len()).map_err(|_| UkiError::TooLarge)?.into();
        header.pointer_to_symbol_table = 0.into();
        header.number_of_symbols = 0.into();
        put(&mut self.head, at, header.as_bytes())?;
        let (at, mut optional) = self.stub.optional_header;
        optional.size_of_initialized_data = field(u64::from(optional.size_of_initialized_data.get()) + self.added)?;
        optional.size_of_image = field(self.memory)?;
        optional.check_sum = 0.into();
        put(&mut self.head, at, optional.as_bytes())?;
        for (i, section) in self.sections.iter().enumerate() {
            put(&mut self.head, self.stub.table.start + i * HEADER, section.as_bytes())?;
        }
        self.head.resize(usize::try_from(head).map_err(|_| UkiError::TooLarge)?, 0);
        field(self.file)?;
        Ok(Layout { head: self.head, offsets, size: self.file })
    }
}

/// A number as a field of 32 bits.
fn field(number: u64) -> Result<zerocopy::byteorder::little_endian::U32, UkiError> {
    u32::try_from(number).map(Into::into).map_err(|_| UkiError::TooLarge)
}

fn put(head: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), UkiError> {
    let place = head.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
    place.ok_or(UkiError::Damaged { problem: "its headers overlap its sections" })?.copy_from_slice(bytes);
    Ok(())
}
