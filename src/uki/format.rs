//! The headers of a PE file that a unified kernel image changes. Source: Microsoft's "PE Format".
//!
//! All numbers are little-endian. Addresses are from the start of the program in memory.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes before [`FileHeader`], from the place that the DOS header names.
pub const SIGNATURE: &[u8] = b"PE\0\0";
/// [`OptionalHeader::magic`] of a program with addresses of 32 bits.
pub const PE32: u16 = 0x10b;
/// [`OptionalHeader::magic`] of a program with addresses of 64 bits.
pub const PE32_PLUS: u16 = 0x20b;
/// Where the list of data directories starts after the start of the optional header: of PE32 and PE32+.
pub const DIRECTORIES: [usize; 2] = [96, 112];
/// The number of the directory that says where signatures are.
pub const CERTIFICATE_TABLE: usize = 4;
/// Bytes of an entry of the list of data directories: an address or an offset, and a length.
pub const DIRECTORY: usize = 8;
/// [`OptionalHeader::subsystem`] of a program for UEFI.
pub const EFI_APPLICATION: u16 = 10;

/// The section holds code. So ukify marks `.linux`.
pub const CNT_CODE: u32 = 0x20;
/// The section holds data.
pub const CNT_INITIALIZED_DATA: u32 = 0x40;
/// The section may be read.
pub const MEM_READ: u32 = 0x4000_0000;

/// The header of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileHeader {
    /// The kind of processor.
    pub machine: U16,
    /// How many [`SectionHeader`]s follow the optional header.
    pub number_of_sections: U16,
    /// When it was made; kept.
    pub time_date_stamp: U32,
    /// Where symbols for linkers are; zero in a finished program.
    pub pointer_to_symbol_table: U32,
    /// How many these are.
    pub number_of_symbols: U32,
    /// Bytes of the optional header.
    pub size_of_optional_header: U16,
    /// Flags; kept.
    pub characteristics: U16,
}

/// The start of the optional header, as far as PE32 and PE32+ have fields of the same length.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OptionalHeader {
    /// [`PE32`] or [`PE32_PLUS`].
    pub magic: U16,
    /// Kept.
    pub linker_version: [u8; 2],
    /// Bytes of code; kept, as ukify does.
    pub size_of_code: U32,
    /// Bytes of data.
    pub size_of_initialized_data: U32,
    /// Bytes that are zero at first; kept.
    pub size_of_uninitialized_data: U32,
    /// Where it starts; kept.
    pub address_of_entry_point: U32,
    /// Kept.
    pub base_of_code: U32,
    /// Kept: two numbers of 32 bits, or one of 64.
    pub base: [u8; 8],
    /// Sections start at multiples of it in memory.
    pub section_alignment: U32,
    /// Sections start at multiples of it in the file.
    pub file_alignment: U32,
    /// Kept.
    pub versions: [u8; 16],
    /// Bytes of the whole program in memory.
    pub size_of_image: U32,
    /// Bytes of all headers in the file.
    pub size_of_headers: U32,
    /// The sum of the file, or zero for none.
    pub check_sum: U32,
    /// What it runs on.
    pub subsystem: U16,
    /// Flags; kept.
    pub dll_characteristics: U16,
}

/// The header of a section.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SectionHeader {
    /// Zeros fill it up.
    pub name: [u8; 8],
    /// Bytes in memory.
    pub virtual_size: U32,
    /// Where it is in memory.
    pub virtual_address: U32,
    /// Bytes in the file.
    pub size_of_raw_data: U32,
    /// Where it is in the file.
    pub pointer_to_raw_data: U32,
    /// For linkers: zero in a finished program.
    pub pointer_to_relocations: U32,
    /// For debuggers: zero here.
    pub pointer_to_linenumbers: U32,
    /// For linkers: zero in a finished program.
    pub number_of_relocations: U16,
    /// For debuggers: zero here.
    pub number_of_linenumbers: U16,
    /// What it holds, and what may be done with it.
    pub characteristics: U32,
}

const _: () = assert!(size_of::<FileHeader>() == 20);
const _: () = assert!(size_of::<OptionalHeader>() == 72);
const _: () = assert!(size_of::<SectionHeader>() == crate::pe::HEADER);
