//! More files for an image that exists: what has to be known of it for that.

pub mod mounts;
