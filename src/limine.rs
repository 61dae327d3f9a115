//! What Limine's own program, `limine`, writes for a BIOS.
//!
//! `limine bios-install DISK NUMBER` writes a stage 1 into the first sector, up to the disk's signature, and a stage 2 into
//! the partition of that number, and puts into the first where on the disk the second is. Here the disk is an empty one, a
//! file with a hole, whose one partition starts where that of the image does. So the bytes are the program's own,
//! whatever its version does, and nothing in the image has to be there yet.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use thiserror::Error;
use uuid::Uuid;

use crate::disk::gpt::{self, GptError, GptLayout, PartitionRequest};
use crate::grub::BootCode;
use crate::output::Scratch;
use crate::source::boot::LimineToolError as ToolError;
use crate::source::boot::run_limine as run;
use crate::units::{Lba, MIB, SectorSize};

/// In bytes; no BIOS starts from disks with others.
const SECTOR: u64 = 512;
/// The MBR, the header of the GPT and 128 entries of 128 bytes, in sectors.
const TABLE: u64 = 34;
/// What of the first sector is boot code, in bytes.
const CODE: usize = 440;

/// Limine's program did not do what it is to do.
#[derive(Debug, Error)]
pub enum LimineError {
    /// The program cannot be started, or fails.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It wrote where nobody asked it to, or nothing.
    #[error("limine bios-install: it {0}; limine.tool has to be of Limine 4 or newer")]
    Unexpected(&'static str),
    /// The partition starts where partitions of an image do not.
    #[error("no BIOS boot partition can start at sector {0}, which is not at a whole MiB")]
    NoPlace(Lba),
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
    if layout.partitions.first().is_none_or(|partition| partition.first != first) {
        return Err(LimineError::NoPlace(first));
    }
    disk.set_len(layout.disk_size)?;
    gpt::write(&layout, &mut disk)?;
    let before = table(&disk)?;
    run(tool, "bios-install", [&path, Path::new("1")], scratch.path())?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// What `limine bios-install` does to a disk, but for its bytes: a stage 2 at the start of the first partition, and a
    /// stage 1 that names its sector.
    const INSTALL: &str = "start=$(od -An -tu8 -j1056 -N8 \"$2\"); at() { dd of=\"$2\" bs=1 seek=\"$1\" conv=notrunc; }
        printf 'stage 1 %d' $start | at 0 \"$2\"; printf 'stage 2' | at $((start * 512 + 600)) \"$2\"";

    /// Runs a script as the program.
    fn install(script: &str, first: u64) -> Result<BootCode, LimineError> {
        let scratch = tempfile::tempdir().unwrap();
        let tool = scratch.path().join("limine");
        // By a shell, so that this process, which may fork at any time, has no such file open to write.
        let write = "printf '%s' \"$2\" > \"$1\"; chmod 755 \"$1\"";
        let script = format!("#!/bin/sh\n{script}");
        let mut shell = Command::new("sh");
        assert!(shell.args(["-c", write, "sh"]).arg(&tool).arg(script).status().unwrap().success());
        bios_install(&tool, Lba(first))
    }

    #[test]
    fn what_the_program_writes_is_taken_from_where_it_wrote_it() {
        for first in [2048, 32768, 0x1_0000_0000] {
            let code = install(INSTALL, first).unwrap();
            let stage_1 = format!("stage 1 {first}");
            assert!(
                code.mbr.starts_with(stage_1.as_bytes()) && code.mbr[stage_1.len()..].iter().all(|byte| *byte == 0)
            );
            let expected = [&[0; 600][..], b"stage 2", &[0; 417]].concat();
            assert_eq!(code.partition, expected, "{first}");
        }
    }

    #[test]
    fn a_program_that_does_something_else_is_told_of() {
        let says = |script: &str, words: &str| {
            let error = install(script, 2048).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says("exit 0", "left the partition or the first sector empty");
        says("printf 'stage 1' | dd of=\"$2\" conv=notrunc", "left the partition or the first sector empty");
        says(&format!("{INSTALL}; printf x | at 1032 \"$2\""), "changed the partition table");
        says("seq 9 >&2; exit 4", "limine bios-install: exit status: 4: 5; 6; 7; 8; 9; look at limine.tool");
        assert!(matches!(install(INSTALL, 2049), Err(LimineError::NoPlace(Lba(2049)))));
        let error = bios_install(Path::new("/nowhere/limine"), Lba(2048)).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/limine: cannot be run: "), "{error}");
    }

    #[test]
    fn the_program_sees_no_environment() {
        let scratch = tempfile::tempdir().unwrap();
        let tool = scratch.path().join("limine");
        let out = scratch.path().join("out");
        fs::write(&out, "").unwrap();
        let script = format!("#!/bin/sh\necho \"$*\" \"$LC_ALL\" \"$HOME\" > {}\n", out.display());
        let write = "printf '%s' \"$2\" > \"$1\"; chmod 755 \"$1\"";
        let mut shell = Command::new("sh");
        assert!(shell.args(["-c", write, "sh"]).arg(&tool).arg(script).status().unwrap().success());
        run(&tool, "enroll-config", ["/efi", "abc"].map(Path::new), scratch.path()).unwrap();
        assert_eq!(fs::read_to_string(out).unwrap(), "enroll-config /efi abc C \n");
    }
}
