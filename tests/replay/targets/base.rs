//! A small valid image in memory that inputs patch, and that is whole again afterwards.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use zstd::stream::read::Decoder;

use super::sums::Sums;

/// Bytes before those of a patch: three of its place, one of its length.
pub(crate) const PATCH_HEAD: usize = 4;
/// The bit of a patch's length that leaves its twin alone: a copy that the format keeps.
const ONE_COPY: u8 = 0x80;
/// Places are counted in pieces of the image that are not all zeros.
const PIECE: usize = 256;
const ZEROS: [u8; PIECE] = [0; PIECE];
/// Bytes that are unpacked at once.
const BLOCK: usize = 1 << 18;

/// An image.
pub(crate) struct Base {
    /// For messages.
    #[allow(dead_code, reason = "only the replay has some")]
    pub(crate) name: &'static str,
    file: File,
    /// Held while it is patched: tests run side by side.
    turn: Mutex<()>,
    len: u64,
    /// Where the pieces are.
    pieces: Vec<u64>,
    sums: Sums,
}

impl Base {
    /// Unpacks an image and finds what guards its metadata.
    pub(crate) fn new(name: &'static str, packed: &[u8], sums: fn(&File, &[u64]) -> Sums) -> Self {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC).expect("memory for an image"));
        let mut unpacked = Decoder::new(packed).expect("a base is packed by zstd");
        // No window of a decoder is larger than the image itself.
        unpacked.window_log_max(27).expect("a window of 128 MiB");
        let (mut len, mut pieces) = (0, Vec::new());
        let mut block = vec![0; BLOCK];
        loop {
            let size = fill(&mut unpacked, &mut block);
            for (number, piece) in block[..size].chunks(PIECE).enumerate() {
                if *piece != ZEROS[..piece.len()] {
                    let at = len + (number * PIECE) as u64;
                    file.write_all_at(piece, at).expect("memory for an image");
                    pieces.push(at);
                }
            }
            len += size as u64;
            if size == 0 {
                break;
            }
        }
        file.set_len(len).expect("memory for an image");
        let sums = sums(&file, &pieces);
        Self { name, file, turn: Mutex::new(()), len, pieces, sums }
    }

    /// How many places a patch can have.
    pub(crate) fn places(&self) -> u64 {
        (self.pieces.len() * PIECE) as u64
    }

    /// The offset of a place in the image.
    fn offset(&self, place: u64) -> u64 {
        let place = place % self.places();
        let piece = usize::try_from(place / PIECE as u64).unwrap_or_default();
        self.pieces[piece] + place % PIECE as u64
    }

    /// What is at a place.
    pub(crate) fn at(&self, place: u64, buf: &mut [u8]) {
        let _ = self.file.read_exact_at(buf, self.offset(place));
    }

    /// The image as `input` patches it, for as long as `look` looks.
    pub(crate) fn patched<T>(&self, input: &[u8], look: impl FnOnce(&File, u64) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut undo = Undo { file: &self.file, old: Vec::new() };
        for (offset, bytes, copies) in self.patches(input) {
            undo.write(offset, bytes);
            if copies && let Some(twin) = self.sums.twin(offset) {
                undo.write(twin, bytes);
            }
        }
        let touched: Vec<u64> = undo.old.iter().map(|(offset, _)| *offset).collect();
        self.sums.repair(&self.file, &touched, &mut |offset, bytes| undo.write(offset, bytes));
        look(&self.file, self.len)
    }

    fn patches<'a>(&'a self, mut input: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8], bool)> {
        std::iter::from_fn(move || {
            let (head, rest) = input.split_first_chunk::<PATCH_HEAD>()?;
            let place = u64::from(u32::from_le_bytes([head[0], head[1], head[2], 0]));
            let (bytes, rest) = rest.split_at(rest.len().min(usize::from(head[3] & 15) + 1));
            input = rest;
            let offset = self.offset(place);
            let room = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
            Some((offset, &bytes[..room], head[3] & ONE_COPY == 0))
        })
    }
}

/// Reads as much as there is room for.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> usize {
    let mut size = 0;
    while let Some(rest) = buf.get_mut(size..).filter(|rest| !rest.is_empty()) {
        match from.read(rest).expect("a base is packed by zstd") {
            0 => break,
            len => size += len,
        }
    }
    size
}

/// What was there before.
struct Undo<'a> {
    file: &'a File,
    old: Vec<(u64, Vec<u8>)>,
}

impl Undo<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut old = vec![0; bytes.len()];
        self.file.read_exact_at(&mut old, offset).expect("a patch lies in its image");
        self.file.write_all_at(bytes, offset).expect("memory can be written");
        self.old.push((offset, old));
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for (offset, old) in self.old.iter().rev() {
            self.file.write_all_at(old, *offset).expect("memory can be written");
        }
    }
}
