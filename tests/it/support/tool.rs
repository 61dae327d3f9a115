//! Other people's programs: whether they are here, and how to run them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::image::Partition;
use super::skip::{Lack, skip};
use super::tree::{BLOCK, index};

/// Whether `tool` is installed. If not, the running test skips what it would judge.
///
/// # Panics
/// If it is not while SANE_IMAGE_REQUIRE_ORACLES=1.
pub(crate) fn need(tool: &str) -> bool {
    let found = search_path().iter().any(|directory| directory.join(tool).is_file());
    found || skip(Lack::program(tool))
}

/// Whether the test runs as root. If not, it skips what needs it.
///
/// # Panics
/// If it does not while SANE_IMAGE_REQUIRE_ORACLES=1.
pub(crate) fn need_root() -> bool {
    rustix::process::geteuid().is_root() || skip(Lack::Root)
}

/// A tool that speaks English, found where only root's PATH leads, too.
pub(crate) fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C.UTF-8").env("PATH", std::env::join_paths(search_path()).unwrap());
    command
}

/// Runs a tool whose failure is the test's.
///
/// # Panics
/// If it fails.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    output.stdout
}

/// Makes a program of a shell script.
///
/// Another process writes it. Had this one opened it, a tool that another test starts just then would have it open, too,
/// for a moment, and nobody can run what is open for writing.
pub(crate) fn script(path: &Path, text: &str) {
    let draft = NamedTempFile::new().unwrap();
    fs::write(draft.path(), text).unwrap();
    run(tool("install").arg("--mode=755").arg(draft.path()).arg(path));
}

/// Both of a tool's outputs.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// `systemd-sysupdate update`, which Debian 12 has in no package, and others in nobody's PATH; `None` where it is not here,
/// which has been told. It takes the files of transfers in `definitions`.
pub(crate) fn sysupdate(definitions: &Path) -> Option<Command> {
    const NAME: &str = "systemd-sysupdate";
    let places = search_path()
        .into_iter()
        .chain(["/usr/lib/systemd", "/run/current-system/systemd/lib/systemd"].map(PathBuf::from));
    let Some(program) = places.map(|place| place.join(NAME)).find(|program| program.is_file()) else {
        skip(Lack::Unpackaged(NAME.to_owned()));
        return None;
    };
    let mut command = tool(program.to_str()?);
    command.env("SYSTEMD_LOG_TARGET", "console").arg("--verify=no").arg("--definitions").arg(definitions).arg("update");
    Some(command)
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect()
}

/// `file` with something after its name, as in `disk.img@@1048576`.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> std::ffi::OsString {
    [file.as_os_str(), OsStr::new(suffix)].into_iter().collect()
}

/// The bytes of a partition as a file of their own; holes stay holes.
pub(crate) fn slice(image: &Path, partition: Partition) -> NamedTempFile {
    let from = File::open(image).unwrap();
    let to = NamedTempFile::new().unwrap();
    to.as_file().set_len(partition.size).unwrap();
    let end = partition.offset + partition.size;
    assert!(end <= from.metadata().unwrap().len(), "the partition ends past the image");
    let mut at = partition.offset;
    while let Some(start) = next_data(&from, at).filter(|&start| start < end) {
        at = seek(&from, SeekFrom::Hole(start)).unwrap().min(end);
        copy(&from, start, to.as_file(), start - partition.offset, at - start);
    }
    to
}

fn next_data(file: &File, at: u64) -> Option<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Some(start),
        Err(Errno::NXIO) => None,
        Err(e) => panic!("SEEK_DATA: {e}"),
    }
}

fn copy(from: &File, from_offset: u64, to: &File, to_offset: u64, len: u64) {
    use std::os::unix::fs::FileExt;
    let mut block = vec![0; index(BLOCK.min(len))];
    let mut done = 0;
    while done < len {
        let block = &mut block[..index(BLOCK.min(len - done))];
        from.read_exact_at(block, from_offset + done).unwrap();
        to.write_all_at(block, to_offset + done).unwrap();
        done += block.len() as u64;
    }
}
