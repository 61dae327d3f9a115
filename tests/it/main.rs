//! Integration tests: the real program on real closures, judged by tools that are not ours.
//!
//! `support` makes closures, runs the program and asks the oracles; `kit` tests the support itself; every other module
//! is a scenario. A missing tool skips what it would judge, visibly; SANE_IMAGE_REQUIRE_ORACLES=1 makes that a failure.

#![allow(clippy::print_stdout, reason = "the harness captures it and shows it where a test fails")]

mod add;
mod boot_layouts;
mod bootloader;
mod bounds;
mod btrfs;
mod command_line;
mod completion;
mod containers;
mod convert;
mod damage;
mod database;
mod determinism;
mod devices;
mod diff;
mod disk_size;
mod edge_cases;
mod erofs;
mod erofs_packed;
mod example;
mod extract;
mod failures;
mod files;
mod flash;
mod flash_spec;
mod forms;
mod free;
mod growth;
mod grub;
mod grub_embedding;
mod grub_image;
mod grub_read;
mod host_mounts;
mod inspect;
mod judge;
mod kit;
mod labels;
mod limine;
mod ls;
mod mbr;
mod mount_options;
mod nix_database;
mod outputs;
mod own_property;
mod partitions;
mod property;
mod purity;
mod read_btrfs;
mod read_erofs;
mod read_ext4;
mod read_vfat;
mod resize;
mod rest;
mod sign;
mod support;
mod swap;
mod systemd_boot;
mod threads;
mod uki;
mod updates;
mod verify;
mod verity;
mod verity_image;
mod vm;
mod waiting;
