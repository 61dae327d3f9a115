//! The block map of a disk: the blocks that a device needs, and their checksums. With it, a card writer copies no free
//! space and finds errors on the way.
//!
//! This is version 2.0 of bmaptool's format, an XML text. A block map that is made from the holes of a sparse file
//! treats zeros that somebody reads as free space. This one has them, because the map of the disk knows the difference.
//! It is right for any form of the disk: a program that writes a compressed form unpacks it first.

use std::fmt::Write as _;
use std::io::Write;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{FormatError, Making, Reader, Source};
use crate::copy::Means;
use crate::map::ImageMap;
use crate::threads;

/// The bytes of a block.
const BLOCK: u64 = 4096;
/// The most bytes of a range. Each range is summed by one thread, and a writer has to write all of it before it knows
/// whether it was right.
const RANGE: u64 = 64 << 20;
/// The bytes that are read at once.
const AT_ONCE: usize = 4 << 20;
/// The placeholder for the checksum of the map while that is computed.
const NO_SUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes the block map of a disk.
///
/// # Errors
/// If the disk cannot be read or the map cannot be written.
pub fn write(source: &dyn Source, to: &mut dyn Write, making: Making<'_>) -> Result<(), FormatError> {
    let ranges = ranges(source);
    let sums = sums(source, &ranges, making.means)?;
    to.write_all(text(source.map().size(), &ranges, &sums).as_bytes()).map_err(FormatError::Write)
}

/// The bytes of a disk that its block map has.
pub fn mapped_bytes(map: &ImageMap) -> u64 {
    map.read_units(BLOCK).iter().map(|range| range.end.min(map.size()) - range.start).sum()
}

/// Everything that is not free, in whole blocks, cut at multiples of [`RANGE`].
fn ranges(source: &dyn Source) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for units in source.map().read_units(BLOCK) {
        let mut at = units.start;
        while at < units.end {
            let end = units.end.min((at / RANGE + 1).saturating_mul(RANGE));
            ranges.push(at..end);
            at = end;
        }
    }
    ranges
}

/// The checksum of each range, in hex.
fn sums(source: &dyn Source, ranges: &[Range<u64>], means: Means<'_>) -> Result<Vec<String>, FormatError> {
    means.progress.stage(
        "computing checksums for the block map",
        0,
        ranges.iter().map(|range| range.end - range.start).sum(),
    );
    let sums = Mutex::new(vec![String::new(); ranges.len()]);
    let worker = || (None, Vec::new());
    threads::share_out(ranges.iter().enumerate(), means.options.threads, worker, |worker, (number, range)| {
        let sum = sum(source, worker, range.start..range.end.min(source.map().size()), means)?;
        if let Some(place) = sums.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
            *place = sum;
        }
        Ok::<_, FormatError>(())
    })?;
    Ok(sums.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The checksum of a range, by a reader and a buffer that last for others.
fn sum<'a>(
    source: &'a dyn Source,
    (reader, buffer): &mut (Option<Box<dyn Reader + 'a>>, Vec<u8>),
    range: Range<u64>,
    means: Means<'_>,
) -> Result<String, FormatError> {
    let reader = match reader {
        Some(reader) => reader,
        none => none.insert(source.reader()?),
    };
    buffer.resize(AT_ONCE + 1, 0);
    let mut sum = Sha256::new();
    let mut at = range.start;
    while at < range.end {
        means.cancel.check()?;
        let len = usize::try_from(range.end - at).map_or(AT_ONCE, |left| left.min(AT_ONCE));
        reader.read(at..at + len as u64, &mut buffer[..=len])?;
        sum.update(&buffer[..len]);
        means.progress.advance(0, len as u64);
        at += len as u64;
    }
    Ok(hex(&sum.finalize()))
}

/// The map as a text, with its own checksum in it: that of the text with zeros in its place.
fn text(size: u64, ranges: &[Range<u64>], sums: &[String]) -> String {
    let blocks: u64 = ranges.iter().map(|range| (range.end - range.start) / BLOCK).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" ?>\n\
         <bmap version=\"2.0\">\n    \
         <ImageSize> {size} </ImageSize>\n    \
         <BlockSize> {BLOCK} </BlockSize>\n    \
         <BlocksCount> {} </BlocksCount>\n    \
         <MappedBlocksCount> {blocks} </MappedBlocksCount>\n    \
         <ChecksumType> sha256 </ChecksumType>\n    \
         <BmapFileChecksum> {NO_SUM} </BmapFileChecksum>\n    \
         <BlockMap>\n",
        size.div_ceil(BLOCK)
    );
    for (range, sum) in ranges.iter().zip(sums) {
        let (first, last) = (range.start / BLOCK, range.end / BLOCK - 1);
        let blocks = if first == last { first.to_string() } else { format!("{first}-{last}") };
        writeln!(text, "        <Range chksum=\"{sum}\"> {blocks} </Range>").expect("a text takes all");
    }
    text.push_str("    </BlockMap>\n</bmap>\n");
    let sum = hex(&Sha256::digest(text.as_bytes()));
    text.replacen(NO_SUM, &sum, 1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Existing;
    use crate::map::{Held, MapBuilder};
    use crate::read::Window;

    #[test]
    fn ranges_are_blocks_and_not_too_long() {
        let mut builder = MapBuilder::default();
        builder.add(5000..5001, Held::Contents);
        builder.add(RANGE - 1..3 * RANGE + 1, Held::Zeros);
        let size = 4 * RANGE + 5;
        builder.add(size - 1..size, Held::Metadata);
        let disk = Existing::new(Window::new(tempfile::tempfile().unwrap(), size), builder.finish(size));
        let wanted = [4096..8192, RANGE - BLOCK..RANGE, RANGE..2 * RANGE, 2 * RANGE..3 * RANGE];
        let ends = [3 * RANGE..3 * RANGE + BLOCK, 4 * RANGE..4 * RANGE + BLOCK];
        assert_eq!(ranges(&disk), wanted.into_iter().chain(ends).collect::<Vec<_>>());
    }
}
