//! GRUB on a disk: its core image, made by the host's own `grub-mkimage`; the sectors that a BIOS starts it from; and the
//! way back, from a disk to whose boot code it has.
//!
//! ```text
//! modules ─ mkimage ─▶ core.img, <name>.efi      the one step that runs a program
//! boot.img + core.img ─ embed ─▶ BootCode        what sector 0 and the BIOS boot partition hold; pure
//! disk ─ embedded ─▶ Embedded                    whose boot code it is, what it loads, and what is wrong with that
//! ```
//!
//! Facts are those of the GRUB manual (chapters "BIOS installation", "Images" and "Embedding") and of what
//! `grub-install` 2.06 and 2.14 leave on a disk; tests/it/grub_embedding.rs compares with it.

mod embed;
pub mod embedded;
pub mod format;
pub mod mkimage;
#[cfg(test)]
mod sample;

pub use embed::{BootCode, EmbedError, embed};
pub use mkimage::{Boot, Core, CoreError, Request, bios_core, efi_core};
