//! What changed from one image to the next, or from a closure to an image.

pub mod packages;
pub mod version;
