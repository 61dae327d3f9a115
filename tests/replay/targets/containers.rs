//! The target of files that a disk is in.

use std::fs::File;

use sane_image::container;
use sane_image::image::Image;
use sane_image::read::{Bytes, Window};
use sane_image::units::ByteOffset;

use super::{commands, images};

/// Bytes that are read at once, at each of [`PLACES`] places.
const READ: u64 = 70_000;
const PLACES: u64 = 40;

/// Opens a file as whatever it looks like and reads parts of the disk.
pub(crate) fn container(input: &[u8]) {
    images::patched(images::container_bases(), input, |_, file, len| look(file, len));
}

fn look(file: &File, len: u64) {
    let window = Window::new(file.try_clone().expect("one more descriptor"), len);
    let disk = match container::open(&window) {
        Ok(Some(container)) => {
            assert!(!container.variant.chars().any(char::is_control), "{:?}", container.variant);
            container.disk
        }
        Ok(None) => return,
        Err(error) => return commands::tell(&error),
    };
    let (mut whole, mut halves) = (vec![0; 70_000], vec![0; 70_000]);
    for number in 0..PLACES {
        let start = u64::try_from(u128::from(disk.len()) * u128::from(number) / u128::from(PLACES)).expect("less");
        let len = READ.min(disk.len() - start);
        let size = usize::try_from(len).expect("it is small");
        if let Err(error) = disk.read_exact_at(ByteOffset(start), &mut whole[..size]) {
            commands::tell(&error);
            continue;
        }
        // Read in two parts it is the same, and what is known to be zeros is zeros.
        let (first, second) = halves[..size].split_at_mut(size / 3);
        disk.read_exact_at(ByteOffset(start), first).expect("it could be read");
        disk.read_exact_at(ByteOffset(start + first.len() as u64), second).expect("it could be read");
        assert_eq!(whole[..size], halves[..size], "at byte {start}");
        let part = disk.slice(ByteOffset(start), len).expect("it is within the disk");
        assert_eq!(part.is_zero().expect("it could be read"), whole[..size].iter().all(|&byte| byte == 0));
    }
    if let Err(error) = disk.read_exact_at(ByteOffset(disk.len()), &mut [0]) {
        commands::tell(&error);
    }
    drop(Image::of_disk(disk));
}
