//! Writes the image that an input makes, and prints what our readers read of its first filesystem: `patched TARGET INPUT
//! OUT`. A line each: kind, mode, length, CRC-32 of the contents or of a link's target, and the path, escaped.

use std::io::Write;
use std::path::Path;

use sane_image::image::Image;
use sane_image::read::{FileSystem, Kind, ReadError, escape, walk};

/// Files that are larger are left out.
const MAX_BYTES: u64 = 16 << 20;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [target, input, out] = arguments.as_slice() else { panic!("patched TARGET INPUT OUT") };
    let input = std::fs::read(input).expect("an input");
    sane_image_fuzz::write_patched(target, &input, Path::new(out));
    let lines = Image::open(Path::new(out)).and_then(|image| {
        let fs = image.partitions().first().expect("a partition").open()?;
        Ok(lines(fs.as_ref()))
    });
    match lines {
        Ok(lines) => std::io::stdout().write_all(lines.concat().as_bytes()).expect("output"),
        Err(error) => println!("refused {error}"),
    }
}

fn lines(fs: &dyn FileSystem) -> Vec<String> {
    let found = walk(fs, Path::new("")).take(5000).filter_map(Result::ok);
    let line = |found: walk::Found| {
        let (kind, sum) = match found.metadata.kind {
            Kind::File if found.metadata.len <= MAX_BYTES => ("file", contents(fs, &found.path).ok()?),
            Kind::Symlink => ("link", fs.read_link(&found.path).ok()?.into_encoded_bytes()),
            Kind::Directory => ("directory", Vec::new()),
            Kind::File | Kind::Special => return None,
        };
        let (mode, len) = (found.metadata.permissions, sum.len());
        Some(format!("{kind} {mode:o} {len} {:08x} {}\n", crc32fast::hash(&sum), escape::path(&found.path)))
    };
    found.filter_map(line).collect()
}

fn contents(fs: &dyn FileSystem, path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut file = fs.open(path)?;
    let mut all = vec![0; usize::try_from(fs.metadata(path)?.len).expect("a small file")];
    let len = file.read_at(0, &mut all)?;
    all.truncate(len);
    Ok(all)
}
