//! Turns a NixOS system closure into a bootable disk image, without root, a VM, a loop device or mkfs.
//!
//! The modules stand in the order in which data passes through them; a module uses only what stands
//! above it:
//!
//! ```text
//! spec.json ─ spec ─▶ Spec                what the user asked for, typed and checked
//! Spec ─ identity ─▶ Identities           every UUID, label and name, nothing random
//! Spec ─ source ─▶ FileTree (×2)          boot files and store files
//! FileTree ─ {vfat,ext4,btrfs} layout ─▶ Layout  every block decided; pure
//! Spec + Layouts ─ plan ─▶ ImagePlan      GPT, offsets, sizes; pure
//! ImagePlan + Layouts ─ map ─▶ ImageMap   what every byte is: metadata, contents, zeros that somebody reads, free; pure
//! Layouts ─ {vfat,ext4,btrfs} writer, swap, disk ─▶ metadata
//! ImageMap + metadata + files of the closure ─ formats, copy ─▶ <name>.img, .img.zst, .qcow2, … + layout.json
//! ```
//!
//! The way back has its own modules: whoever looks into an image needs nothing of how it was made.
//!
//! ```text
//! file ─ container ─▶ the disk in a zst, qcow2, VMDK, VHD or VHDX; a raw image is its own disk
//! disk ─ image ─▶ Table, Partitions      a disk or a bare partition, damaged or not
//! Partition ─ {vfat,ext4,btrfs} reader ─▶ FileSystem  one trait in front of all formats, see read
//! image ─ inspect ─▶ Report ─▶ text, JSON, a page       what is in it, and what boots
//! FileSystem ─ extract ─▶ a directory, a tar  nothing outside it
//! FileSystem ─ verify ─▶ Report           every store path's NAR hash, every structure
//! FileSystem (×2) ─ diff ─▶ Diff          what changed from one image to the next
//! image ─ add ─▶ image                    with more files, laid out again
//! image ─ convert ─▶ image                in another form, see formats
//! image ─ flash ─▶ a device               what somebody reads of it, the table last, read back
//! image ─ vm ─▶ QEMU's command line        that boots it
//! ```
//!
//! Contents of files go to their final offsets in parallel, once. What a btrfs writes of its metadata depends on them, so
//! that its raw image is written first, and is the source of all other forms.
//!
//! [`build`] runs these stages in order. [`units`], [`times`], [`progress`], [`output`], [`pe`], [`store`], [`mounts`] and
//! [`read`] are the vocabulary of all.

pub mod units;

pub mod times;

pub mod progress;

mod threads;

mod ioctl;

pub mod output;

mod gnu_sparse;

pub mod pe;

pub mod store;

pub mod mounts;

pub mod spec;

pub use spec::identity;

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

pub mod swap;

pub mod plan;

pub mod image;

pub mod extract;

pub mod inspect;

pub mod verify;

pub mod diff;

pub mod build;

pub mod add;

pub mod convert;

pub mod flash;
pub mod vm;

#[doc(hidden)]
pub mod fuzzing;
