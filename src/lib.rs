//! Turns a NixOS system closure into a bootable disk image, without root, a VM, a loop device or mkfs.
//!
//! The list has the modules in the order in which data passes through them. A module uses only modules above it:
//!
//! ```text
//! spec.json ─ spec ─▶ Spec                what the user asked for, typed and checked
//! Spec ─ identity ─▶ Identities           every UUID, label and name, nothing random
//! Spec ─ source ─▶ FileTree (×2)          boot files and store files
//! stub, kernel, initrd ─ uki ─▶ a program    all that boots in one file, with a place for a root hash
//! FileTree ─ {vfat,ext4,btrfs} layout ─▶ Layout  every block decided; pure
//! modules of GRUB ─ grub ─▶ BootCode       core image, and the sectors that a BIOS starts it from
//! Spec + Layouts ─ plan ─▶ ImagePlan      GPT, offsets, sizes; pure
//! data of a partition ─ verity ─▶ hash tree     with the root hash that proves them
//! ImagePlan + Layouts ─ map ─▶ ImageMap   what every byte is: metadata, contents, zeros that somebody reads, free; pure
//! Layouts ─ {vfat,ext4,btrfs} writer, swap, disk ─▶ metadata
//! ImageMap + metadata + files of the closure ─ formats, copy ─▶ <name>.img, .img.zst, .qcow2, … + layout.json
//! ```
//!
//! Other modules look into images. They do not depend on the modules that make images.
//!
//! ```text
//! file ─ container ─▶ the disk in a zst, qcow2, VMDK, VHD or VHDX; a raw image is its own disk
//! disk ─ image ─▶ Table, Partitions      a disk or a bare partition, damaged or not
//! Partition ─ {vfat,ext4,btrfs,erofs} reader ─▶ FileSystem  one trait in front of all formats, see read
//! image ─ inspect ─▶ Report ─▶ text, JSON, a page       what is in it, and what boots
//! FileSystem ─ extract ─▶ a directory, a tar  nothing outside it
//! FileSystem ─ verify ─▶ Report           every store path's NAR hash, every structure
//! FileSystem (×2) ─ diff ─▶ Diff          what changed from one image to the next
//! image ─ add ─▶ image                    with more files, laid out again
//! image ─ sign ─▶ image                  with signed programs for UEFI, by `add`
//! image ─ convert ─▶ image                in another form, see formats
//! image ─ flash ─▶ a device               what somebody reads of it, the table last, read back
//! image ─ vm ─▶ QEMU's command line        that boots it
//! ```
//!
//! The contents of files are written to their final offsets in parallel, once. The metadata of a btrfs depends on the
//! contents. So its raw image is written first, and all other forms are made from that.
//!
//! # From Rust
//!
//! Plan an image: [`build::prepare`] decides where every byte goes, and writes nothing.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::fs;
//! use std::num::NonZeroUsize;
//!
//! use sane_image::build::{self, Context, Options, Proof};
//! use sane_image::copy::{self, Engine};
//! use sane_image::plan::SizeMultiple;
//! use sane_image::progress::{Cancel, Silent};
//! use sane_image::spec;
//! use sane_image::store::StoreRoot;
//!
//! let spec = spec::parse(&fs::read_to_string("tests/fixtures/example/spec.json")?)?;
//! // Where the store is on this machine: `None` for /nix/store itself.
//! let root = fs::canonicalize("tests/fixtures/example")?;
//! let store_root = StoreRoot::new(spec.store_dir.clone(), Some(root));
//! let options = Options {
//!     store_root: &store_root,
//!     copy: copy::Options { threads: NonZeroUsize::MIN, engine: Engine::Auto },
//!     proof: Proof::None,
//!     extra_files: None,
//!     size_multiple: SizeMultiple::default(),
//! };
//! let cancel = Cancel::new();
//! let context = Context { options, progress: &Silent, cancel: &cancel };
//!
//! let prepared = build::prepare(&spec, context)?;
//! for partition in &prepared.plan.partitions {
//!     println!("{}: {} bytes from byte {}", partition.name, partition.size, partition.offset);
//! }
//! # assert_eq!(prepared.plan.partitions.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Build it, in one or more forms, then open it again, read a file of it and verify it. A file gets its final name only
//! when it is complete.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::fs;
//! # use std::num::NonZeroUsize;
//! use std::path::Path;
//!
//! use sane_image::build::{self, Forms, Outputs, Split};
//! use sane_image::formats::Format;
//! use sane_image::image::{Image, PartName};
//! use sane_image::verify;
//! # use sane_image::build::{Context, Options, Proof};
//! # use sane_image::copy::{self, Engine};
//! # use sane_image::plan::SizeMultiple;
//! # use sane_image::progress::{Cancel, Silent};
//! # use sane_image::store::StoreRoot;
//! # let spec = sane_image::spec::parse(&fs::read_to_string("tests/fixtures/example/spec.json")?)?;
//! # let store_root = StoreRoot::new(spec.store_dir.clone(), Some(fs::canonicalize("tests/fixtures/example")?));
//! # let copy = copy::Options { threads: NonZeroUsize::MIN, engine: Engine::Auto };
//! # let size_multiple = SizeMultiple::default();
//! # let options = Options { store_root: &store_root, copy, proof: Proof::None, extra_files: None, size_multiple };
//! # let cancel = Cancel::new();
//! # let context = Context { options, progress: &Silent, cancel: &cancel };
//! # let directory = tempfile::tempdir()?;
//! # let out = directory.path().join("out");
//!
//! // `spec` and `context` as above; `out` is a directory.
//! let forms = Forms::new(&[Format::Raw, Format::Qcow2], None, false, Split::No)?;
//! let outputs = Outputs::open(&out, &spec.name, &forms, context.options.privacy())?;
//! let mut prepared = build::prepare(&spec, context)?;
//! let bootloader = spec.install_bootloader.as_deref();
//! for built in build::build(&mut prepared, outputs, &forms, bootloader, context)? {
//!     println!("{}: {} bytes", built.path.display(), built.size);
//! }
//!
//! // Images of any form, made by any program.
//! let image = Image::open(&out.join("nixos.qcow2"))?;
//! let boot = image.find(&PartName::Boot)?.open()?;
//! let mut text = [0; 100];
//! let len = boot.open(Path::new("extlinux/extlinux.conf"))?.read_at(0, &mut text)?;
//! println!("{}", String::from_utf8_lossy(&text[..len]));
//! # assert!(text[..len].starts_with(b"# Generated file"));
//!
//! let jobs = NonZeroUsize::MIN;
//! let report = verify::verify(&image, verify::Options { jobs, registration: None, progress: &Silent, cancel: &cancel })?;
//! for fault in &report.faults {
//!     println!("{fault}");
//! }
//! assert!(report.is_right());
//! # Ok(())
//! # }
//! ```
//!
//! The stages one by one, for programs that need only some of them: [`spec`], [`source`], [`ext4::layout`], [`plan`],
//! [`formats`]. [`inspect::inspect`], [`extract`], [`diff`], [`convert`], [`add`] and [`sign`] are what the commands of these names do.
//!
//! # The order of the modules
//!
//! [`build`] runs these stages in order. Every module may use [`units`], [`times`], [`progress`], [`output`], [`pe`],
//! [`discoverable`], [`store`], [`mounts`] and [`read`].

pub mod units;

#[cfg(test)]
mod samples;

pub mod times;

pub mod progress;

mod threads;

mod ioctl;

pub mod output;

mod tool;

mod gnu_sparse;

pub mod pe;

pub mod discoverable;

pub mod store;

pub mod mounts;

mod escapes;

pub mod spec;

pub use spec::identity;

pub mod uki;

pub mod source;

pub mod read;

pub mod disk;

pub mod copy;

pub mod container;

pub mod map;

pub mod formats;

pub mod vfat;

pub mod ext4;

pub mod btrfs;

pub mod erofs;

pub mod verity;

pub mod swap;

pub mod grub;

pub mod limine;

pub mod plan;

pub mod image;

pub mod extract;

pub mod inspect;

pub mod verify;

pub mod diff;

pub mod build;

pub mod add;

pub mod sign;

pub mod convert;

pub mod flash;
pub mod vm;

#[doc(hidden)]
pub mod fuzzing;
