//! A virtual machine for an image: what machine the image needs, and the command line of QEMU for it.
//!
//! [`Guest::of`] looks into an image, [`Places`] finds firmware, and [`arguments`] makes the command line of both.
//! Nothing here starts a machine.

mod command;
mod firmware;
mod guest;
mod processor;

pub use command::{Accelerator, Bus, Drive, Forward, Options, Screen, Serial, Writes, arguments};
pub use firmware::{Blob, Firmware, MissingFirmware, Places};
pub use guest::{Guest, GuestError, Start};
pub use processor::Processor;
