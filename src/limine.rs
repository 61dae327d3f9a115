//! Limine's own program, `limine`: what it writes for a BIOS, and the checksum that it puts into the program for UEFI.
//!
//! `limine bios-install DISK NUMBER` writes a stage 1 into the first sector, up to the disk's signature, and a stage 2 into
//! the partition of that number, and puts into the first where on the disk the second is. Here the disk is an empty one, a
//! file with a hole, whose one partition starts where that of the image does. So the bytes are the program's own,
//! whatever its version does, and nothing in the image has to be there yet.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;
use uuid::Uuid;

use crate::disk::gpt::{self, GptError, GptLayout, PartitionRequest};
use crate::grub::BootCode;
use crate::output::Scratch;
use crate::units::{Lba, MIB, SectorSize};

/// In bytes; no BIOS starts from disks with others.
const SECTOR: u64 = 512;
/// The MBR, the header of the GPT and 128 entries of 128 bytes, in sectors.
const TABLE: u64 = 34;
/// What of the first sector is boot code, in bytes.
const CODE: usize = 440;
/// As many of the last lines of the program's output as an error tells.
const LINES: usize = 5;

/// Limine's program did not do what it is to do.
#[derive(Debug, Error)]
pub enum LimineError {
    /// It cannot be started.
    #[error("{}: cannot be run: {source}; set limine.tool to bin/limine of a package for this machine", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It failed.
    #[error(
        "limine {command}: {status}:{output}\nlook at limine.tool, which has to be of the version of limine.package"
    )]
    Failed {
        /// The command.
        command: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// It wrote where nobody asked it to, or nothing.
    #[error("limine bios-install: it {0}; limine.tool has to be of Limine 4 or newer")]
    Unexpected(&'static str),
    /// The scratch disk cannot be made.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// There is no room to work in.
    #[error("cannot work in a temporary directory: {0}; set TMPDIR to one that can be written to")]
    Scratch(#[from] io::Error),
}

/// What `limine bios-install` puts onto a disk whose BIOS boot partition, of 1 MiB, starts at `first`, in sectors of 512
/// bytes.
///
/// # Errors
/// If the program fails or cannot be run, or writes elsewhere.
pub fn bios_install(tool: &Path, first: Lba) -> Result<BootCode, LimineError> {
    let scratch = Scratch::temporary()?;
    let path = scratch.path().join("disk");
    let mut disk = File::options().read(true).write(true).create_new(true).open(&path)?;
    let layout = scratch_disk(first)?;
    disk.set_len(layout.disk_size)?;
    gpt::write(&layout, &mut disk)?;
    let before = table(&disk)?;
    run(tool, "bios-install", &[path.as_os_str().as_ref(), Path::new("1")])?;
    let after = table(&disk)?;
    let ((mbr, rest), (_, rest_before)) = (after.split_at(CODE), before.split_at(CODE));
    if rest != rest_before {
        return Err(LimineError::Unexpected("changed the partition table"));
    }
    let mut partition = vec![0; usize::try_from(MIB).unwrap_or_default()];
    disk.read_exact_at(&mut partition, first.0 * SECTOR)?;
    let used = partition.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    partition.truncate(used.next_multiple_of(512));
    match <[u8; CODE]>::try_from(mbr) {
        Ok(mbr) if !partition.is_empty() && mbr != [0; CODE] => Ok(BootCode { mbr, partition }),
        _ => Err(LimineError::Unexpected("left the partition or the first sector empty")),
    }
}

/// A disk with that one partition.
fn scratch_disk(first: Lba) -> Result<GptLayout, GptError> {
    let request = PartitionRequest {
        name: "limine".to_owned(),
        type_guid: Uuid::from_u128(1),
        guid: Uuid::from_u128(2),
        size: MIB,
        attributes: 0,
    };
    let gap = first.0.saturating_sub(TABLE) * SECTOR;
    GptLayout::new(SectorSize::B512, 0, gap, Uuid::from_u128(3), &[request])
}

fn table(disk: &File) -> io::Result<Vec<u8>> {
    let mut table = vec![0; usize::try_from(TABLE * SECTOR).unwrap_or_default()];
    disk.read_exact_at(&mut table, 0)?;
    Ok(table)
}

/// Puts the checksum of a configuration into the copy `program` of Limine's program for UEFI, which then takes no other.
///
/// # Errors
/// If `tool` fails or cannot be run.
pub fn enroll_config(tool: &Path, program: &Path, checksum: &str) -> Result<(), LimineError> {
    run(tool, "enroll-config", &[program, Path::new(checksum)])
}

fn run(tool: &Path, command: &'static str, arguments: &[&Path]) -> Result<(), LimineError> {
    let output = Command::new(tool)
        .arg(command)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LimineError::Start { program: tool.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    let last = last.map(|line| format!("\n{line}")).collect();
    Err(LimineError::Failed { command, status: output.status, output: last })
}
