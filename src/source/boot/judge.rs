//! Checks what the files of a boot tree say to boot loaders.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::error::{PopulateError, io_error};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};

/// The seed of random numbers that systemd-boot hands to the kernel; `bootctl install` makes one.
const RANDOM_SEED: [&str; 2] = ["loader", "random-seed"];
/// What U-Boot reads.
const EXTLINUX_CONF: [&str; 2] = ["extlinux", "extlinux.conf"];
/// Where systemd-boot has its entries.
const ENTRIES: [&str; 2] = ["loader", "entries"];
/// The most bytes of a command line that U-Boot takes from extlinux.conf, but for boards that set CONFIG_SYS_CBSIZE
/// to another number than 1,024; with more it says "bootarg overflow" and does not boot the entry.
const U_BOOT_MAX: usize = 1023;
/// The same for boards that set it to 512, such as QEMU's arm64 and those of i.MX.
const SMALL_U_BOOT_MAX: usize = 511;
/// The most bytes of a command line that Linux takes on x86 and arm64 (COMMAND_LINE_SIZE); it drops the rest.
pub(super) const LINUX_MAX: usize = 2047;
/// Longer files are nobody's configuration.
const CONF_MAX: u64 = 1 << 20;

/// Refuses what must not be the same on all machines.
pub(super) fn check(tree: &FileTree, mount_point: &Path) -> Result<(), PopulateError> {
    match find(tree, RANDOM_SEED) {
        Some(node) if matches!(tree.kind(node), NodeKind::File { .. }) => Err(PopulateError::RandomSeed {
            path: mount_point.join(tree.path(node)),
            source_path: tree.source_path(node).unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// What may keep a machine from booting, a line each.
pub(super) fn warnings(tree: &FileTree, mount_point: &Path) -> Result<Vec<String>, PopulateError> {
    let mut warnings = Vec::new();
    let mut judge = |node, key: &str, most, up_to, whose: &str| {
        for (number, len) in long_lines(tree, node, key, most)?.into_iter().filter(|(_, len)| *len <= up_to) {
            warnings.push(format!(
                "{}, line {number}: the command line has {len} bytes, and {whose} takes {most}; shorten \
                 boot.kernelParams",
                mount_point.join(tree.path(node)).display()
            ));
        }
        Ok::<_, PopulateError>(())
    };
    if let Some(node) = find(tree, EXTLINUX_CONF) {
        judge(node, "append", U_BOOT_MAX, usize::MAX, "U-Boot with the usual CONFIG_SYS_CBSIZE")?;
        judge(node, "append", SMALL_U_BOOT_MAX, U_BOOT_MAX, "U-Boot with a CONFIG_SYS_CBSIZE of 512")?;
    }
    let entries = find(tree, ENTRIES).filter(|&node| matches!(tree.kind(node), NodeKind::Directory));
    for node in entries.iter().flat_map(|&entries| tree.children(entries)) {
        judge(node, "options", LINUX_MAX, usize::MAX, "Linux")?;
    }
    Ok(warnings)
}

/// The lines of a file that give `key` more than `most` bytes, and how many.
fn long_lines(tree: &FileTree, node: NodeIndex, key: &str, most: usize) -> Result<Vec<(usize, usize)>, PopulateError> {
    let source = match tree.kind(node) {
        NodeKind::File { size } if size <= CONF_MAX => tree.source_path(node),
        _ => None,
    };
    let Some(source) = source else { return Ok(Vec::new()) };
    let text = fs::read(&source).map_err(io_error(&source))?;
    let lines = text.split(|&byte| byte == b'\n').zip(1..).filter_map(|(line, number)| {
        let line = line.trim_ascii();
        let (name, value) = line.split_at(line.iter().position(u8::is_ascii_whitespace)?);
        let len = value.trim_ascii().len();
        (name.eq_ignore_ascii_case(key.as_bytes()) && len > most).then_some((number, len))
    });
    Ok(lines.collect())
}

/// The node at a path of two names, in whatever case.
fn find(tree: &FileTree, path: [&str; 2]) -> Option<NodeIndex> {
    let is_called = |node: &NodeIndex, name: &str| tree.name(*node).eq_ignore_ascii_case(OsStr::new(name));
    path.iter().try_fold(NodeIndex::ROOT, |directory, name| match tree.kind(directory) {
        NodeKind::Directory => tree.children(directory).find(|node| is_called(node, name)),
        _ => None,
    })
}
