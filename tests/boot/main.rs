//! Boot tests: a machine's own firmware boots a whole image in QEMU, and the system in it judges what it runs from.
//!
//! A *row* is an image and a machine: `guest` makes the system, `row` puts it together, `console` waits for the verdict.
//! Nothing here knows KVM: all of it is emulated. A missing QEMU, firmware or kernel skips a row, visibly;
//! SANE_IMAGE_REQUIRE_ORACLES=1 makes that a failure.

#![allow(clippy::print_stdout, reason = "the harness captures it and shows it where a test fails")]

mod agreement;
mod archive;
mod bios;
mod console;
mod damage;
mod disk;
mod extlinux;
mod first_boot;
mod forms;
mod growth;
mod grub;
mod guest;
mod initrd;
mod limine;
mod machine;
mod nix_guest;
mod row;
mod secure_boot;
#[path = "../it/support/mod.rs"]
mod support;
mod systemd_boot;
mod uki;
mod unified;
mod updates;
mod verity;
mod vm;
