#![no_main]
sane_image_fuzz::fuzz!("verity");
