//! Swap areas: the first page of a partition, by which `swapon` takes it and udev names it.

use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros};

use self::format::{FirstPage, INFO_OFFSET, Info, LABEL_MAX, MAGIC, PAGE_SIZE, PAGE_SIZES, VERSION};
use crate::read::{Bytes, Fault};
use crate::units::ByteOffset;

pub mod format;

/// The first page of an area of `size` bytes. Of `label`, no more than [`LABEL_MAX`] bytes are written.
pub fn first_page(size: u64, uuid: Uuid, label: &str) -> FirstPage {
    let mut page = FirstPage::new_zeroed();
    let pages = size / PAGE_SIZE as u64;
    page.info.version.set(VERSION);
    // Beyond 16 TiB, the kernel has no numbers for pages.
    page.info.last_page.set(u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX));
    page.info.uuid = uuid.into_bytes();
    let bytes = label.bytes().take(LABEL_MAX);
    page.info.volume.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    page.magic = MAGIC;
    page
}

/// A swap area as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Nil if it has none.
    pub uuid: Uuid,
    /// Empty if it has none. It may hold anything: to be escaped.
    pub label: String,
    /// The size of its pages in bytes: a kernel with others does not take it.
    pub page_size: u64,
    /// Its size in bytes, which need not be that of what it lies in.
    pub size: u64,
    /// That of its layout, which is [`VERSION`] unless it is damaged.
    pub version: u32,
}

impl Area {
    /// What keeps a kernel from taking it in a partition of `size` bytes.
    pub fn faults(&self, size: u64) -> Vec<Fault> {
        let fault = |why| Fault { what: "swap area".to_owned(), why };
        let version = (self.version != VERSION)
            .then(|| fault(format!("is of version {}, but there is only version {VERSION}", self.version)));
        let length =
            (self.size > size).then(|| fault(format!("has {} bytes, but the partition has {size} bytes", self.size)));
        version.into_iter().chain(length).collect()
    }
}

/// The swap area at the start of `bytes`, or `None` if there is none.
pub fn find(bytes: &dyn Bytes) -> Option<Area> {
    let page_size = PAGE_SIZES.into_iter().find(|&page_size| {
        let mut magic = [0; MAGIC.len()];
        let at = page_size.checked_sub(MAGIC.len() as u64);
        at.is_some_and(|at| bytes.read_exact_at(ByteOffset(at), &mut magic).is_ok() && magic == MAGIC)
    })?;
    let mut info = [0; size_of::<Info>()];
    bytes.read_exact_at(ByteOffset(INFO_OFFSET as u64), &mut info).ok()?;
    let info = Info::read_from_bytes(&info).ok()?;
    let label = info.volume.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(Area {
        uuid: Uuid::from_bytes(info.uuid),
        label: String::from_utf8_lossy(label).into_owned(),
        page_size,
        size: (u64::from(info.last_page.get()) + 1) * page_size,
        version: info.version.get(),
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let uuid = Uuid::from_u128(0x0b7ae3ef_c2a1_4cbc_8a9b_6a1ae9a0a001);
        let mut bytes = first_page(1 << 20, uuid, "swäp").as_bytes().to_vec();
        let area = Area { uuid, label: "swäp".to_owned(), page_size: 4096, size: 1 << 20, version: 1 };
        assert_eq!(find(&bytes), Some(area));
        bytes[4095] ^= 1;
        assert_eq!(find(&bytes), None);
        assert_eq!(find(&Vec::new()), None);
    }

    #[test]
    fn areas_that_no_kernel_takes_are_faults() {
        let mut page = first_page(1 << 20, Uuid::max(), "");
        let faults = |page: &FirstPage| {
            let faults = find(&page.as_bytes().to_vec()).unwrap().faults(1 << 20).into_iter();
            faults.map(|fault| fault.why).collect::<Vec<_>>()
        };
        assert_eq!(faults(&page), Vec::<String>::new());
        page.info.last_page.set(256);
        page.info.version.set(2);
        let wanted =
            ["is of version 2, but there is only version 1", "has 1052672 bytes, but the partition has 1048576 bytes"];
        assert_eq!(faults(&page), wanted);
    }

    #[test]
    fn an_area_of_larger_pages_is_found() {
        let mut bytes = first_page(4 << 20, Uuid::max(), "").as_bytes().to_vec();
        bytes.resize(64 << 10, 0);
        bytes[4086..4096].fill(0);
        bytes[(64 << 10) - 10..].copy_from_slice(&MAGIC);
        let found = find(&bytes).unwrap();
        assert_eq!((found.page_size, found.size), (64 << 10, 64 << 20), "1024 pages");
    }

    #[test]
    fn the_largest_area_and_the_longest_label_are_the_formats() {
        let page = first_page(1 << 60, Uuid::nil(), "0123456789abcdef");
        assert_eq!(page.info.last_page.get(), u32::MAX);
        assert_eq!(page.info.volume, *b"0123456789abcde\0");
    }
}
