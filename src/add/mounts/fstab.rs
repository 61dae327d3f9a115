//! A table of mounts as fstab(5) has it. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::escapes::octal;

/// More mounts than any system has.
const MAX_LINES: usize = 4096;

/// A line that mounts something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What is mounted: a device, a tag such as `LABEL=…`, a path that is bound, or any word.
    pub(super) device: OsString,
    /// Where: an absolute path of plain components.
    pub(super) mount_point: PathBuf,
    /// The format; `auto` if it is left out.
    pub(super) fs_type: String,
    /// How, one by one.
    pub(super) options: Vec<String>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// From 1.
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

impl Line {
    /// The value of the last option called `key`, which is the one that counts.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.options.iter().rev().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether it shows at another place what is mounted already.
    pub(super) fn is_bind(&self) -> bool {
        self.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"))
    }
}

/// The lines of a table; swap areas, and what is mounted nowhere, left out.
///
/// # Errors
/// The first line that no system could make use of.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Line>, BadLine> {
    let mut lines = Vec::new();
    for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let bad = |problem| BadLine { line, problem };
        if lines.len() == MAX_LINES {
            return Err(bad("is one line more than sane-image reads"));
        }
        lines.extend(parse_line(text).map_err(bad)?);
    }
    Ok(lines)
}

fn parse_line(line: &[u8]) -> Result<Option<Line>, &'static str> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let Some(device) = fields.next().filter(|field| !field.starts_with(b"#")) else { return Ok(None) };
    let mount_point = fields.next().ok_or("names no mount point")?;
    let mut text = |default: &str| {
        let field = fields.next().map(|field| String::from_utf8_lossy(&octal(field)).into_owned());
        field.unwrap_or_else(|| default.to_owned())
    };
    let (fs_type, options) = (text("auto"), text("defaults"));
    if fs_type == "swap" || matches!(mount_point, b"none" | b"swap") {
        return Ok(None);
    }
    let mount_point = plain(&PathBuf::from(OsString::from_vec(octal(mount_point))));
    Ok(Some(Line {
        device: OsString::from_vec(octal(device)),
        mount_point: mount_point.ok_or("has a mount point that is not an absolute path of plain names")?,
        fs_type,
        options: options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect(),
    }))
}

/// An absolute path without what stands for nothing, or `None` if it is not absolute or goes up.
pub(super) fn plain(path: &Path) -> Option<PathBuf> {
    let is_plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    (path.is_absolute() && path.components().all(is_plain)).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_as_fstab_5_says() {
        let text = "# a comment\n\n  # another one\n\
                    /dev/disk/by-label/MY\\x20ESP /boot vfat umask=0077,nofail 0 2\n\
                    LABEL=my\\040disk\t/with\\040space/\text4\trw,,noatime\t0 1\r\n\
                    /dev/sda3 none swap sw 0 0\nUUID=x swap auto\nproc none proc\n\
                    /persist/x //var/./x none bind\n\
                    tmpfs /tmp";
        let lines = parse(text.as_bytes()).unwrap();
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                let (device, mount_point) = (line.device.to_str().unwrap(), line.mount_point.to_str().unwrap());
                format!("{device}|{mount_point}|{}|{}", line.fs_type, line.options.join(","))
            })
            .collect();
        let wanted = [
            "/dev/disk/by-label/MY\\x20ESP|/boot|vfat|umask=0077,nofail",
            "LABEL=my disk|/with space|ext4|rw,noatime",
            "/persist/x|/var/x|none|bind",
            "tmpfs|/tmp|auto|defaults",
        ];
        assert_eq!(shown, wanted);
        assert!(lines[2].is_bind() && !lines[0].is_bind());
        assert_eq!((lines[0].value("umask"), lines[0].value("nofail")), (Some("0077"), None));
    }

    #[test]
    fn escapes_are_three_octal_digits() {
        for (field, bytes) in [
            ("a\\040b", "a b"),
            ("\\134040", "\\040"),
            ("\\04", "\\04"),
            ("\\x20", "\\x20"),
            ("\\400", "\\400"),
            ("\\+40", "\\+40"),
            ("\\", "\\"),
        ] {
            assert_eq!(octal(field.as_bytes()), bytes.as_bytes(), "{field}");
        }
    }

    #[test]
    fn bad_lines_are_told() {
        let bad = |text: &str| parse(text.as_bytes()).map_err(|bad| (bad.line, bad.problem)).unwrap_err();
        assert_eq!(bad("tmpfs /tmp tmpfs\nalone\n"), (2, "names no mount point"));
        let problem = "has a mount point that is not an absolute path of plain names";
        assert_eq!(bad("a relative"), (1, problem));
        assert_eq!(bad("a /x/../y"), (1, problem));
        assert_eq!(bad(&"a /b\n".repeat(MAX_LINES + 1)).0, MAX_LINES + 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), Just(b'\\'), any::<u8>()], 0..200)) {
            for line in parse(&text).unwrap_or_default() {
                prop_assert!(line.mount_point.is_absolute());
            }
        }
    }
}
