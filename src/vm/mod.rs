//! A virtual machine for an image: what the image needs of one, and QEMU's command line for that.
//!
//! [`Guest::of`] looks into an image, [`Places`] tell where firmware is, [`arguments`] puts all together. Nothing is
//! started here.

mod command;
mod firmware;
mod guest;
mod processor;

pub use command::{Accelerator, Bus, Drive, Forward, Options, Screen, Serial, Writes, arguments};
pub use firmware::{Blob, Firmware, MissingFirmware, Places};
pub use guest::{Guest, GuestError, Start};
pub use processor::Processor;
