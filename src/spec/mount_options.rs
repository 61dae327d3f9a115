//! Checks the mount options of the image's filesystems: finds those with which the system could not mount them.
//!
//! A kernel does not mount a filesystem with an option that it does not accept. A system that cannot mount `/boot` or
//! the store ends in its emergency shell. So an option that the kernel is known to refuse is a mistake: an option of
//! another filesystem, a removed option, a wrong value, or one that does not fit the filesystem as it is in the image.
//! A name that is in none of the lists may be new, or from a kernel with patches, so it is only a warning.
//!
//! Sources: the kernel's `Documentation/admin-guide/ext4.rst` and `Documentation/filesystems/vfat.rst`, btrfs(5),
//! the kernel's `Documentation/filesystems/erofs.rst`, mount(8), systemd.mount(5); and what Linux 6.18 does with each, which a test repeats.

mod tables;

use std::path::Path;

use super::btrfs;
use super::fields::{Object, member_path, nearest};
use super::file_system::FsType;

use self::tables::{FOR_ALL, Rule, Takes, rules};

/// One mount option, and where in the spec it stands.
pub(super) struct MountOption<'a> {
    pub(super) path: String,
    pub(super) key: &'a str,
    pub(super) value: Option<&'a str>,
}

/// A mount of one of the image's filesystems.
pub(super) struct Mounted<'a> {
    /// The JSON path of its entry.
    pub(super) path: String,
    pub(super) mount_point: &'a Path,
    /// One by one.
    pub(super) options: Vec<MountOption<'a>>,
}

impl<'a> Mounted<'a> {
    /// The entry at `path`. An element of its list `options` may hold several of them, as in fstab.
    pub(super) fn new(path: String, mount_point: &'a Path, options: &'a [String]) -> Self {
        let list = member_path(&path, "options");
        let single = options.iter().enumerate().flat_map(|(i, element)| {
            let path = format!("{list}[{i}]");
            element.split(',').filter(|option| !option.is_empty()).map(move |option| {
                let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
                MountOption { path: path.clone(), key, value }
            })
        });
        let options = single.collect();
        Self { path, mount_point, options }
    }

    /// The last of the options called one of `keys`, which is the one that counts.
    fn last(&self, keys: &[&str]) -> Option<&MountOption<'a>> {
        self.options.iter().rev().find(|option| keys.contains(&option.key))
    }

    fn has(&self, keys: &[&str]) -> bool {
        self.last(keys).is_some()
    }
}

/// Why an option keeps the kernel from mounting, and what to do.
struct Refusal {
    problem: String,
    remedy: String,
}

impl Refusal {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// Notes what keeps `mounts`, all of one filesystem, from being mounted.
pub(super) fn check(mounts: &[Mounted<'_>], fs_type: FsType, top: &mut Object<'_>, warnings: &mut Vec<String>) {
    // Options for the whole filesystem count only in its first mount; in the others they only have to be understood.
    let first = mounts.iter().map(|mounted| mounted.mount_point).min_by_key(|path| (path.components().count(), *path));
    for mounted in mounts {
        for option in &mounted.options {
            let refusal = match judge(option, fs_type) {
                Judgement::Fine => continue,
                Judgement::Unknown => {
                    warnings.push(unknown(option, fs_type));
                    continue;
                }
                Judgement::Refused(refusal) => refusal,
            };
            note(option, refusal, top);
        }
        if Some(mounted.mount_point) == first {
            for (option, refusal) in conflicts(mounted, fs_type) {
                note(option, refusal, top);
            }
        }
    }
}

fn note(option: &MountOption<'_>, refusal: Refusal, top: &mut Object<'_>) {
    let path = &option.path;
    let remedy = match refusal.remedy.as_str() {
        "" => format!("remove it from {path}"),
        remedy => format!("set {path} to {remedy}"),
    };
    top.note(path.clone(), refusal.problem, remedy);
}

enum Judgement {
    Fine,
    Unknown,
    Refused(Refusal),
}

fn find<'r>(rules: &'r [Rule], key: &str) -> Option<&'r Takes> {
    rules.iter().find(|rule| rule.names.split(' ').any(|name| name == key)).map(|rule| &rule.takes)
}

/// Judges an option by itself.
fn judge(option: &MountOption<'_>, fs_type: FsType) -> Judgement {
    let key = option.key;
    let is_for_all = FOR_ALL.split_whitespace().any(|name| name == key);
    match find(rules(fs_type), key) {
        Some(takes) => judge_value(option, takes, fs_type).map_or(Judgement::Fine, Judgement::Refused),
        None if is_for_all || key.starts_with("x-") || key.starts_with("X-") => Judgement::Fine,
        None => {
            let others = [FsType::Ext4, FsType::Btrfs, FsType::Vfat, FsType::Erofs].into_iter();
            let others: Vec<_> = others.filter(|&other| find(rules(other), key).is_some()).collect();
            match others.first() {
                None => Judgement::Unknown,
                Some(other) => {
                    let problem = format!("{key:?} is an option of {other}, not of {fs_type}");
                    Judgement::Refused(Refusal::new(problem, ""))
                }
            }
        }
    }
}

/// What is wrong with an option's value, or with the option whatever its value.
fn judge_value(option: &MountOption<'_>, takes: &Takes, fs_type: FsType) -> Option<Refusal> {
    let (key, value) = (option.key, option.value);
    let wanted = match (takes, value) {
        (Takes::Never(why), _) => return Some(Refusal::new(format!("{key:?} cannot be used: {why}"), "")),
        (Takes::Unjudged, _) => return None,
        (Takes::Nothing | Takes::MaybeNumber | Takes::MaybeOneOf(_), None) | (Takes::MaybeText, _) => return None,
        (Takes::Text, Some(value)) if !value.is_empty() => return None,
        (Takes::Number(is_good), Some(text)) if number(text).is_some_and(is_good) => return None,
        (Takes::MaybeNumber, Some(text)) if number(text).is_some() => return None,
        (Takes::Octal, Some(text)) if u32::from_str_radix(text, 8).is_ok() => return None,
        (Takes::Minutes, Some(text)) if text.parse::<i32>().is_ok_and(|offset| (-1440..=1440).contains(&offset)) => {
            return None;
        }
        (Takes::OneOf(values) | Takes::MaybeOneOf(values), Some(value)) if values.contains(&value) => return None,
        (Takes::Compression, value) if btrfs::parse_compression(value).is_some() => return None,
        (Takes::Nothing, _) => format!("{key:?}"),
        (Takes::Text, _) => format!("\"{key}=…\""),
        (Takes::Number(_), _) => format!("\"{key}=N\", where N is a number that {fs_type} allows there"),
        (Takes::MaybeNumber, _) => format!("{key:?} or \"{key}=N\", where N is a number"),
        (Takes::Octal, _) => format!("\"{key}=N\", where N is octal, such as 0077"),
        (Takes::Minutes, _) => format!("\"{key}=N\", where N is minutes from -1440 to 1440"),
        (Takes::OneOf(values) | Takes::MaybeOneOf(values), _) => {
            format!("\"{key}=…\" with one of {}", values.join(", "))
        }
        (Takes::Compression, _) => {
            format!("\"{key}=zstd:3\", or another of zstd:-15 to zstd:15, zlib:1 to zlib:9, lzo, no")
        }
    };
    let problem = match value {
        Some(value) => format!("{:?} has a value that {fs_type} does not take", format!("{key}={value}")),
        None => format!("{key:?} has no value"),
    };
    Some(Refusal::new(problem, wanted))
}

/// A number as the kernel reads one: decimal, `0x…`, or octal after a zero; with or without a plus.
fn number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
}

/// A warning of an option that no list has.
fn unknown(option: &MountOption<'_>, fs_type: FsType) -> String {
    let all = rules(fs_type).iter().flat_map(|rule| rule.names.split(' ')).chain(FOR_ALL.split_whitespace());
    let meant = nearest(option.key, all).map_or_else(String::new, |name| format!("; did you mean {name}?"));
    format!(
        "{}: {:?} is not a known mount option of {fs_type}; the system does not start if its kernel does \
         not know it either{meant}",
        option.path, option.key
    )
}

/// The options of a filesystem's first mount that do not go together, or not with the filesystem as the image has it.
fn conflicts<'m, 'a>(mounted: &'m Mounted<'a>, fs_type: FsType) -> Vec<(&'m MountOption<'a>, Refusal)> {
    match fs_type {
        FsType::Vfat | FsType::Erofs => Vec::new(),
        FsType::Ext4 => conflicts_of_ext4(mounted),
        FsType::Btrfs => conflicts_of_btrfs(mounted),
    }
}

fn conflicts_of_ext4<'m, 'a>(mounted: &'m Mounted<'a>) -> Vec<(&'m MountOption<'a>, Refusal)> {
    let mode = mounted.last(&["data"]).and_then(|option| option.value).unwrap_or("ordered");
    let mut found = Vec::new();
    if let Some(option) = mounted.last(&["journal_async_commit"]).filter(|_| mode == "ordered") {
        let problem = "\"journal_async_commit\" cannot be used with data=ordered, which is the default";
        found.push((option, Refusal::new(problem, "")));
    }
    if let Some(option) = mounted.last(&["delalloc"]).filter(|_| mode == "journal") {
        found.push((option, Refusal::new("\"delalloc\" cannot be used with data=journal", "")));
    }
    let of_quota =
        mounted.last(&["usrjquota", "grpjquota"]).filter(|option| option.value.is_some_and(|v| !v.is_empty()));
    if let Some(option) = of_quota.filter(|_| !mounted.has(&["jqfmt"])) {
        let problem = format!("{:?} needs the format of the quotas, too", option.key);
        let (key, value) = (option.key, option.value.unwrap_or_default());
        found.push((option, Refusal::new(problem, format!("\"{key}={value},jqfmt=vfsv1\""))));
    }
    found
}

fn conflicts_of_btrfs<'m, 'a>(mounted: &'m Mounted<'a>) -> Vec<(&'m MountOption<'a>, Refusal)> {
    let mut found = Vec::new();
    let cache = mounted.last(&["space_cache", "nospace_cache"]);
    let is_other = |option: &&MountOption<'_>| option.key == "nospace_cache" || option.value != Some("v2");
    if let Some(option) = cache.filter(is_other).filter(|_| !mounted.has(&["clear_cache"])) {
        let text = option.value.map_or_else(|| option.key.to_owned(), |value| format!("{}={value}", option.key));
        let problem = format!("{text:?} cannot be used with the free space tree, which every btrfs of an image has");
        found.push((option, Refusal::new(problem, "\"space_cache=v2\", or remove it")));
    }
    let is_read_only = mounted.last(&["ro", "rw"]).is_some_and(|option| option.key == "ro");
    let rescuing = mounted.options.iter().filter(|option| match option.key {
        "norecovery" => true,
        "rescue" => option.value != Some("usebackuproot"),
        _ => false,
    });
    for option in rescuing.filter(|_| !is_read_only) {
        let problem = format!("{:?} can be used only with \"ro\"", option.key);
        found.push((option, Refusal::new(problem, "")));
    }
    found
}
