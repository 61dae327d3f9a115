//! Onto a device: what it is, whether it may be written, and the writing.

pub mod device;
