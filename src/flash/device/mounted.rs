//! Mounted filesystems and active swap areas, as /proc lists them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::host::{Host, Number, unescape};

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The number of a btrfs, an overlay or a tmpfs belongs to no device.
    pub(super) number: Number,
    pub(super) point: PathBuf,
    pub(super) kind: String,
    /// The source as given to mount: a name of a device, or anything else.
    pub(super) source: PathBuf,
    /// Of the filesystem, separated by commas.
    pub(super) options: Vec<u8>,
    /// The process that sees it, if we do not.
    pub(super) process: Option<Process>,
}

/// A process in a mount namespace of its own: a container, or a service with a private view of the files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its name. To be escaped.
    pub name: String,
}

/// The mounts that this program sees, in their order; then those that only other processes see.
pub(super) fn mounts(host: &Host) -> Vec<Mount> {
    let mut mounts = parse(&host.read(Path::new("/proc/self/mountinfo")).unwrap_or_default(), None);
    let mut seen = BTreeSet::from_iter(host.link(Path::new("/proc/self/ns/mnt")));
    for name in host.list(Path::new("/proc")) {
        let Ok(id) = name.parse() else { continue };
        let process = Path::new("/proc").join(&name);
        // A mount namespace is read once, of the first process in it.
        if host.link(&process.join("ns/mnt")).is_some_and(|namespace| seen.insert(namespace)) {
            let name = host.value(&process.join("comm")).unwrap_or_default();
            let told = host.read(&process.join("mountinfo")).unwrap_or_default();
            mounts.extend(parse(&told, Some(&Process { id, name })));
        }
    }
    mounts
}

/// Reads a mountinfo, see proc_pid_mountinfo(5).
fn parse(text: &[u8], process: Option<&Process>) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(|line| parse_line(line, process)).collect()
}

fn parse_line(line: &[u8], process: Option<&Process>) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let number = Number::parse(&String::from_utf8_lossy(fields.nth(2)?))?;
    let point = unescape(fields.nth(1)?);
    // As many optional fields as there are, then a hyphen.
    let mut fields = fields.skip(1).skip_while(|&field| field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    let options = fields.next().unwrap_or_default().to_vec();
    Some(Mount { number, point, kind, source, options, process: process.cloned() })
}

impl Mount {
    /// The names of the block devices that the filesystem is on.
    pub(super) fn blocks(&self, host: &Host) -> BTreeSet<String> {
        let by_number = host.block_of(self.number).filter(|_| self.number.major != 0).map(|block| block.name);
        if let Some(name) = by_number {
            return BTreeSet::from([name]);
        }
        let sources = self.source.to_str().unwrap_or_default().split(':').filter(|source| source.starts_with('/'));
        // bcachefs names all its devices, btrfs one of them.
        let named: BTreeSet<_> = sources.filter_map(|source| Some(host.block_at(Path::new(source))?.name)).collect();
        if self.kind == "btrfs" { btrfs_devices(host, &named) } else { named }
    }

    /// The directories of other filesystems that an overlay shows.
    pub(super) fn layers(&self) -> Vec<PathBuf> {
        if self.kind != "overlay" {
            return Vec::new();
        }
        let options = split(&self.options, b',').into_iter();
        let layers = options.filter_map(|option| {
            let at = option.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (option.get(..at)?, option.get(at.saturating_add(1)..)?);
            matches!(key, b"lowerdir" | b"lowerdir+" | b"datadir+" | b"upperdir").then(|| split(value, b':'))
        });
        layers.flatten().filter(|layer| !layer.is_empty()).map(|layer| unescape(&layer)).collect()
    }
}

/// All devices of the mounted btrfs that have one of these; of every btrfs if it is not known which these are, since
/// an initrd names devices that are not there any more.
fn btrfs_devices(host: &Host, named: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = named.clone();
    for filesystem in host.list(Path::new("/sys/fs/btrfs")) {
        let devices = host.list(&Path::new("/sys/fs/btrfs").join(filesystem).join("devices"));
        if named.is_empty() || devices.iter().any(|device| named.contains(device)) {
            all.extend(devices);
        }
    }
    all
}

/// Parts of an overlay's options: a backslash takes its meaning from a separator.
fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let is_escaped = byte == b'\\' && bytes.peek() == Some(&separator);
        let byte = if is_escaped { bytes.next().unwrap_or(byte) } else { byte };
        match parts.last_mut() {
            Some(part) if is_escaped || byte != separator => part.push(byte),
            _ => parts.push(Vec::new()),
        }
    }
    parts
}

/// The files and devices that are swapped to, without links.
pub(super) fn swaps(host: &Host) -> Vec<PathBuf> {
    let text = host.read(Path::new("/proc/swaps")).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|byte| byte.is_ascii_whitespace()).next());
    let paths = names.filter(|name| !name.is_empty()).map(unescape);
    paths.map(|path| host.resolve(&path).unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:2 - ext3 /dev/root\\040x rw,errors=continue\n\
                     40 35 0:50 / / rw - overlay overlay rw,lowerdir=/a\\:b:/c\\054d,upperdir=/u\\,v,workdir=/w\n\
                     torn 35\n";
        let mounts = parse(text, None);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].number, Number { major: 98, minor: 0 });
        assert_eq!(mounts[0].point, Path::new("/mnt 2\\x"));
        assert_eq!((mounts[0].kind.as_str(), mounts[0].source.as_path()), ("ext3", Path::new("/dev/root x")));
        assert!(mounts[0].layers().is_empty());
        assert_eq!(mounts[1].layers(), ["/a:b", "/c,d", "/u,v"].map(PathBuf::from));
    }
}
