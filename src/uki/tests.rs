//! Tests of the layout, with stubs that are made here.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::format::{
    CERTIFICATE_TABLE, CNT_CODE, CNT_INITIALIZED_DATA, DIRECTORIES, DIRECTORY, OptionalHeader, PE32, PE32_PLUS,
    SectionHeader,
};
use super::sample::{TABLE, stub};
use super::*;
use crate::pe::{self, HEADER};

const STUB_SBAT: &str = "sbat,1,SBAT Version,sbat,1,x\nsystemd-stub,1,The systemd Developers,systemd,259,x\n";

fn usual() -> Vec<u8> {
    stub(PE32_PLUS, 0x400, &[(".text", "code"), (".sbat", STUB_SBAT), (".sdmagic", "#### LoaderInfo")])
}

const NEW: [NewSection; 3] = [
    NewSection { name: ".osrel", len: 10 },
    NewSection { name: ".cmdline", len: 0x201 },
    NewSection { name: ".linux", len: 0x12345 },
];

/// The headers of the sections of a program.
fn headers(head: &[u8]) -> Vec<SectionHeader> {
    let (at, count) = pe::sections_at(head).unwrap();
    let table = &head[usize::try_from(at).unwrap()..];
    table.chunks(HEADER).take(usize::from(count)).map(|bytes| SectionHeader::read_from_bytes(bytes).unwrap()).collect()
}

fn optional(head: &[u8]) -> OptionalHeader {
    OptionalHeader::read_from_prefix(&head[TABLE..]).unwrap().0
}

/// Sections lie one behind the other, in the file and in memory, and the headers tell where the last one ends.
fn judge(layout: &Layout, stub: &[u8], new: &[NewSection]) {
    let (sections, optional) = (headers(&layout.head), optional(&layout.head));
    let (mut file, mut memory) = (0, 0);
    for section in &sections {
        let at = [section.pointer_to_raw_data.get(), section.virtual_address.get()];
        assert!(at[0] >= file && at[1] >= memory && at[0] % 0x200 == 0 && at[1] % 0x1000 == 0, "{section:?}");
        file = at[0] + section.size_of_raw_data.get();
        memory = at[1] + section.virtual_size.get();
        assert!(section.virtual_size <= section.size_of_raw_data);
    }
    assert_eq!(u64::from(file), layout.size);
    assert_eq!(optional.size_of_image.get(), memory.next_multiple_of(0x1000));
    assert_eq!(optional.check_sum.get(), 0);
    let added = &sections[sections.len() - new.len()..];
    for ((section, wanted), offset) in added.iter().zip(new).zip(&layout.offsets) {
        assert!(section.name.starts_with(wanted.name.as_bytes()));
        assert_eq!(u64::from(section.virtual_size.get()), wanted.len);
        assert_eq!(u64::from(section.pointer_to_raw_data.get()), *offset);
        let kind = if wanted.name == ".linux" { CNT_CODE } else { CNT_INITIALIZED_DATA };
        assert_eq!(section.characteristics.get(), kind | 0x4000_0000);
    }
    assert_eq!(layout.offsets.first().copied().unwrap_or(layout.size), layout.head.len() as u64);
    // What runs is as it was.
    assert_eq!(sections[0].as_bytes(), headers(stub)[0].as_bytes());
}

#[test]
fn sections_follow_those_of_the_stub() {
    for magic in [PE32, PE32_PLUS] {
        let stub = stub(magic, 0x400, &[(".text", "code"), (".sbat", STUB_SBAT)]);
        let layout = Layout::new(&stub, &NEW, "linux,1,Linux,linux,6.18,x\n").unwrap();
        judge(&layout, &stub, &NEW);
        let sbat = format!("{STUB_SBAT}linux,1,Linux,linux,6.18,x\nuki,1,UKI,uki,1,");
        assert!(String::from_utf8_lossy(&layout.head).contains(&sbat));
        assert_eq!(optional(&layout.head).size_of_initialized_data.get(), 10 + 0x201 + 0x12345);
    }
}

#[test]
fn a_stub_without_sbat_gets_it() {
    let stub = stub(PE32_PLUS, 0x400, &[(".text", "code")]);
    let layout = Layout::new(&stub, &NEW, "").unwrap();
    judge(&layout, &stub, &NEW);
    let sections = headers(&layout.head);
    assert_eq!(&sections[1].name, b".sbat\0\0\0");
    let at = sections[1].pointer_to_raw_data.get() as usize;
    assert!(layout.head[at..].starts_with(b"sbat,1,SBAT Version,"));
}

/// That of systemd 252 has room for more in the file, but the next section right behind it in memory.
#[test]
fn sbat_without_room_moves_behind_the_stub() {
    let many: String = (0..100).map(|i| format!("component{i},1\n")).collect();
    let long = format!("{STUB_SBAT}{many}");
    let full = stub(PE32_PLUS, 0x400, &[(".text", "code"), (".sbat", &long[..0x200]), (".sdmagic", "#### LoaderInfo")]);
    let mut narrow = usual();
    let address = usize::try_from(pe::sections_at(&narrow).unwrap().0).unwrap() + 2 * HEADER + 12;
    narrow[address..address + 4].copy_from_slice(&0x2080_u32.to_le_bytes());
    for stub in [full, narrow] {
        let layout = Layout::new(&stub, &NEW, "linux,1,Linux,linux,6.18,x\n").unwrap();
        let sections = headers(&layout.head);
        let end = |section: &SectionHeader| section.virtual_address.get() + section.virtual_size.get();
        assert!(sections.windows(2).all(|pair| end(&pair[0]) <= pair[1].virtual_address.get()), "{sections:?}");
        let names: Vec<_> = sections.iter().map(stub::name_of).collect();
        let wanted: [&[u8]; 6] = [b".text", b".sdmagic", b".sbat", b".osrel", b".cmdline", b".linux"];
        assert_eq!(names, wanted);
        let text = stub::text_of(&layout.head, &sections[2]);
        assert!(text.starts_with(STUB_SBAT) && text.contains("\nlinux,1,") && text.contains("\nuki,1,"), "{text}");
    }
}

/// Old stubs have a table of symbols behind their sections.
#[test]
fn symbols_are_left_out() {
    let mut old = usual();
    let end = old.len();
    old.extend([0xff; 100]);
    old[0x44 + 8..0x44 + 16].copy_from_slice(&[1; 8]);
    let layout = Layout::new(&old, &NEW, "").unwrap();
    judge(&layout, &old, &NEW);
    assert_eq!(layout.head.len(), end);
    assert_eq!(layout.head[0x44 + 8..0x44 + 16], [0; 8]);
}

#[test]
fn what_is_no_stub_is_refused() {
    let error = |stub: &[u8]| Layout::new(stub, &NEW, "").unwrap_err();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut stub = usual();
        change(&mut stub);
        error(&stub)
    };
    assert_eq!(error(b""), UkiError::NotPe);
    assert_eq!(error(b"MZ, but no program"), UkiError::NotPe);
    assert_eq!(changed(&|stub| stub[TABLE] = 7), UkiError::NotPe);
    assert_eq!(changed(&|stub| stub[TABLE + 68] = 3), UkiError::NotEfi { subsystem: 3 });
    let directory = TABLE + DIRECTORIES[1] + CERTIFICATE_TABLE * DIRECTORY;
    assert_eq!(changed(&|stub| stub[directory] = 1), UkiError::Signed);
    let len = usual().len() as u64;
    assert_eq!(changed(&|stub| stub.truncate(stub.len() - 1)), UkiError::Truncated { len: len - 1, end: len });
    let unified = stub(PE32_PLUS, 0x400, &[(".text", "code"), (".linux", "kernel")]);
    assert_eq!(error(&unified), UkiError::HasSection { name: ".linux".to_owned() });
    assert!(matches!(changed(&|stub| stub[TABLE + 36] = 3), UkiError::Damaged { .. }));
}

#[test]
fn headers_must_have_room() {
    let table = TABLE + DIRECTORIES[1] + 16 * DIRECTORY;
    let sections = [(".text", "code"), (".sbat", STUB_SBAT)];
    for room in 0..4 {
        let stub = stub(PE32_PLUS, table + (2 + room) * HEADER + HEADER - 1, &sections);
        let layout = Layout::new(&stub, &NEW, "");
        assert_eq!(layout.err(), (room < 3).then_some(UkiError::NoRoom { room, wanted: 3 }));
    }
    let huge = [NewSection { name: ".initrd", len: 4 << 30 }];
    assert_eq!(Layout::new(&usual(), &huge, "").unwrap_err(), UkiError::TooLarge);
}

proptest! {
    #[test]
    fn no_layout_overlaps(lens in proptest::collection::vec(0_u64..0x20000, 1..4)) {
        let names = [".osrel", ".cmdline", ".initrd"];
        let new: Vec<_> = names.iter().zip(&lens).map(|(name, len)| NewSection { name, len: *len }).collect();
        judge(&Layout::new(&usual(), &new, "").unwrap(), &usual(), &new);
    }

    #[test]
    fn no_bytes_panic(flips in proptest::collection::vec((0_usize..0x240, any::<u8>()), 1..4), len in 0_usize..0xa00) {
        let mut stub = usual();
        flips.iter().for_each(|(at, byte)| stub[*at] = *byte);
        let _ = Layout::new(&stub, &NEW, "");
        stub.truncate(len);
        let _ = Layout::new(&stub, &NEW, "");
    }
}
