//! Swap areas: the first page of a partition. By this page, `swapon` accepts the partition and udev names it.

use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use self::format::{INFO_OFFSET, Info, LABEL_MAX, MAGIC, VERSION};
use crate::read::{Bytes, Fault};
use crate::units::{ByteOffset, PageSize};

pub mod format;

/// The first page of an area of `size` bytes. Of `label`, no more than [`LABEL_MAX`] bytes are written.
pub fn first_page(size: u64, page_size: PageSize, uuid: Uuid, label: &str) -> Vec<u8> {
    let mut info = Info::new_zeroed();
    let pages = size / page_size.bytes();
    info.version.set(VERSION);
    // With pages of 4 KiB, the kernel has no numbers for pages beyond 16 TiB.
    info.last_page.set(u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX));
    info.uuid = uuid.into_bytes();
    let bytes = label.bytes().take(LABEL_MAX);
    info.volume.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    let mut page = vec![0; page_size.as_usize()];
    page[INFO_OFFSET..][..size_of::<Info>()].copy_from_slice(info.as_bytes());
    let end = page.len() - MAGIC.len();
    page[end..].copy_from_slice(&MAGIC);
    page
}

/// A swap area as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Nil if it has none.
    pub uuid: Uuid,
    /// Empty if it has none. It may hold anything: to be escaped.
    pub label: String,
    /// The size of its pages: a kernel with others does not take it.
    pub page_size: PageSize,
    /// Its size in bytes, which need not be that of what it lies in.
    pub size: u64,
    /// The version of its layout, which is [`VERSION`] unless it is damaged.
    pub version: u32,
}

impl Area {
    /// Why a kernel would refuse it in a partition of `size` bytes.
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
    let page_size = PageSize::ALL.into_iter().find(|page_size| {
        let mut magic = [0; MAGIC.len()];
        let at = page_size.bytes() - MAGIC.len() as u64;
        bytes.read_exact_at(ByteOffset(at), &mut magic).is_ok() && magic == MAGIC
    })?;
    let mut info = [0; size_of::<Info>()];
    bytes.read_exact_at(ByteOffset(INFO_OFFSET as u64), &mut info).ok()?;
    let info = Info::read_from_bytes(&info).ok()?;
    let label = info.volume.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(Area {
        uuid: Uuid::from_bytes(info.uuid),
        label: String::from_utf8_lossy(label).into_owned(),
        page_size,
        size: (u64::from(info.last_page.get()) + 1) * page_size.bytes(),
        version: info.version.get(),
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let uuid = Uuid::from_u128(0x0b7ae3ef_c2a1_4cbc_8a9b_6a1ae9a0a001);
        for page_size in PageSize::ALL {
            let mut bytes = first_page(1 << 20, page_size, uuid, "swäp");
            let area = Area { uuid, label: "swäp".to_owned(), page_size, size: 1 << 20, version: 1 };
            assert_eq!(find(&bytes), Some(area));
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(find(&bytes), None);
        }
        assert_eq!(find(&Vec::new()), None);
    }

    #[test]
    fn areas_that_no_kernel_takes_are_faults() {
        let mut page = first_page(1 << 20, PageSize::default(), Uuid::max(), "");
        let faults = |page: &Vec<u8>| {
            let faults = find(page).unwrap().faults(1 << 20).into_iter();
            faults.map(|fault| fault.why).collect::<Vec<_>>()
        };
        assert_eq!(faults(&page), Vec::<String>::new());
        page[offset_of!(Info, last_page) + INFO_OFFSET..][..4].copy_from_slice(&256_u32.to_le_bytes());
        page[offset_of!(Info, version) + INFO_OFFSET] = 2;
        let wanted =
            ["is of version 2, but there is only version 1", "has 1052672 bytes, but the partition has 1048576 bytes"];
        assert_eq!(faults(&page), wanted);
    }

    #[test]
    fn the_largest_area_and_the_longest_label_are_the_formats() {
        let page = first_page(1 << 60, PageSize::default(), Uuid::nil(), "0123456789abcdef");
        let (info, _) = Info::ref_from_prefix(&page[INFO_OFFSET..]).unwrap();
        assert_eq!(info.last_page.get(), u32::MAX);
        assert_eq!(info.volume, *b"0123456789abcde\0");
    }
}
