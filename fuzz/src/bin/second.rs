//! Compares all that we read of a sound EROFS with all that the crate erofs-rs reads of it: `second IMAGE`. The image is
//! the bare filesystem, as `sane-image build --only nix` makes it. Prints each difference, and exits 1 if there is one.

use std::fs::File;
use std::path::Path;

use sane_image::image::Image;

fn main() {
    let path = std::env::args_os().nth(1).expect("second IMAGE");
    let image = Image::open(Path::new(&path)).expect("an image");
    let [partition] = image.partitions() else { panic!("not a bare filesystem") };
    let ours = partition.open().expect("an EROFS");
    let (paths, differences) = sane_image_fuzz::second_erofs::whole(ours.as_ref(), &File::open(&path).expect("a file"));
    differences.iter().for_each(|difference| println!("{difference}"));
    println!("{paths} paths, {} differences", differences.len());
    std::process::exit(i32::from(!differences.is_empty()));
}
