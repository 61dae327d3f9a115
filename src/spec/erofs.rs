//! `erofsCompression`: how the contents of an erofs are compressed.

use super::FsType;
use super::fields::Object;

/// How an erofs compresses the contents of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErofsCompression {
    /// LZ4, which every kernel with erofs reads.
    Lz4,
    /// zstd at a level from 1 to 22. Kernels from 6.10 on read it.
    Zstd(u8),
}

/// The level of zstd if none is named.
const DEFAULT_LEVEL: u8 = 3;
/// The levels that zstd has, without those below 1.
const LEVELS: std::ops::RangeInclusive<u8> = 1..=22;

/// Reads the field. `fs_type` is the format of the store's filesystem, if that is known.
pub(super) fn read(top: &mut Object<'_>, fs_type: Option<FsType>) -> Option<Option<ErofsCompression>> {
    let wanted = "\"lz4\", \"zstd\", \"zstd:LEVEL\" or null";
    let found = top
        .optional("erofsCompression", wanted, None, |text: Option<String>| text.map(|text| parse(&text)).transpose())?;
    if found.is_some() && fs_type.is_some_and(|fs_type| fs_type != FsType::Erofs) {
        let path = top.member("erofsCompression");
        let remedy = format!("set {path} to null, or fsType of that filesystem to \"erofs\"");
        top.note(path, "the filesystem with the store is no erofs".to_owned(), remedy);
        return None;
    }
    Some(found)
}

fn parse(text: &str) -> Result<ErofsCompression, String> {
    match text.split_once(':') {
        None if text == "lz4" => Ok(ErofsCompression::Lz4),
        None if text == "zstd" => Ok(ErofsCompression::Zstd(DEFAULT_LEVEL)),
        Some(("zstd", level)) => LEVELS
            .into_iter()
            .find(|known| known.to_string() == level)
            .map(ErofsCompression::Zstd)
            .ok_or_else(|| format!("{level:?} is not a level of zstd from {} to {}", LEVELS.start(), LEVELS.end())),
        Some(("lz4", _)) => Err(format!("{text:?} has a level, but lz4 has none")),
        _ => Err(format!("{text:?} is not a compression of erofs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_read() {
        let read = |text| parse(text).map_err(|_| ());
        assert_eq!(read("lz4"), Ok(ErofsCompression::Lz4));
        assert_eq!([read("zstd"), read("zstd:3")], [Ok(ErofsCompression::Zstd(3)); 2]);
        assert_eq!(read("zstd:22"), Ok(ErofsCompression::Zstd(22)));
        for bad in
            ["", "zlib", "zstd:", "zstd:0", "zstd:23", "zstd:-1", "zstd:+3", "zstd:03", "lz4:9", "Zstd", "zstd,3"]
        {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
    }
}
