//! A make-believe NixOS: Debian's kernel and busybox, and a stage 1 and 2 that do what matters to an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::initrd::initrd;
use crate::support::closure::{BOOT_ID, ClosureBuilder, NIX_UUID};
use crate::support::machine::{find_kernel, kernel_below};
use crate::support::skip::{Lack, skip};
use crate::support::tree::{Contents, Entry};

/// What stage 2 runs of busybox.
const APPLETS: [&str; 16] = [
    "cat",
    "find",
    "findfs",
    "grep",
    "ln",
    "mkdir",
    "mount",
    "poweroff",
    "readlink",
    "sh",
    "sha256sum",
    "sort",
    "stat",
    "sync",
    "touch",
    "umount",
];
/// Room for two kernels, in bytes.
const BOOT_SIZE: u64 = 96 << 20;
/// The volume id of the XBOOTLDR partition.
const XBOOTLDR_ID: &str = "1BC1-3C2F";
/// The names of the store paths that `closure` makes.
pub(crate) const KERNEL: &str = "linux-6.1";
pub(crate) const INITRD: &str = "initrd-linux-6.1";
pub(crate) const SYSTEM: &str = "nixos-system-boot-test-26.05";
/// The name of the system's specialisation.
pub(crate) const SPECIALISATION: &str = "calm";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// As Nix names it.
    pub(crate) fn system(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux",
            Self::Aarch64 => "aarch64-linux",
        }
    }

    /// The file of the kernel in its store path.
    pub(crate) fn kernel_file(self) -> &'static str {
        match self {
            Self::X86_64 => "bzImage",
            Self::Aarch64 => "Image",
        }
    }

    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0,115200",
            Self::Aarch64 => "ttyAMA0,115200",
        }
    }

    /// The kernel, its modules and a static busybox, or `None` where they are not here, which has been told.
    pub(crate) fn parts(self) -> Option<(PathBuf, PathBuf, PathBuf)> {
        let (kernel, busybox) = match self {
            Self::X86_64 => (find_kernel(), PathBuf::from("/bin/busybox")),
            Self::Aarch64 => (kernel_below(&arm64()), arm64().join("bin/busybox")),
        };
        let Some((kernel, modules)) = kernel else {
            skip(Lack::Other(format!("no kernel for {} (.ci/run fetches it)", self.system())));
            return None;
        };
        (busybox.exists() || skip(Lack::Other(format!("no {}", busybox.display()))))
            .then_some((kernel, modules, busybox))
    }
}

/// Where .ci/run unpacks packages of the other architecture.
pub(crate) fn arm64() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracles/arm64")
}

/// What the store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// An ext4 that is `/`.
    Ext4,
    /// The subvolume @nix of a compressed btrfs, on /nix; `/` is a tmpfs.
    Btrfs,
    /// The same btrfs; `/` is another of its subvolumes.
    Subvolumes,
}

/// Where the ESP is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Esp {
    #[default]
    Boot,
    BootEfi,
    /// At /efi, and XBOOTLDR at /boot.
    Xbootldr,
    /// There is none.
    Nowhere,
}

impl Esp {
    pub(crate) fn mount_point(self) -> Option<&'static str> {
        match self {
            Self::Boot => Some("/boot"),
            Self::BootEfi => Some("/boot/efi"),
            Self::Xbootldr => Some("/efi"),
            Self::Nowhere => None,
        }
    }
}

impl Root {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Subvolumes => "subvolumes",
        }
    }

    /// As in `config.fileSystems`, with the ESP at /boot.
    pub(crate) fn file_systems(self) -> Value {
        self.file_systems_with(Esp::Boot)
    }

    /// The same with the ESP elsewhere.
    pub(crate) fn file_systems_with(self, esp: Esp) -> Value {
        let nix = format!("/dev/disk/by-uuid/{NIX_UUID}");
        let mut systems = match self {
            Self::Ext4 => json!({ "/": { "device": nix, "fsType": "ext4", "options": ["noatime"] } }),
            Self::Btrfs => json!({
                "/": { "device": "none", "fsType": "tmpfs", "options": ["size=64M", "mode=755"] },
                "/nix": { "device": nix, "fsType": "btrfs", "options": ["subvol=@nix", "compress=zstd"] },
            }),
            Self::Subvolumes => json!({
                "/": { "device": nix, "fsType": "btrfs", "options": ["subvol=@", "compress=zstd"] },
                "/nix": { "device": nix, "fsType": "btrfs", "options": ["subvol=@nix", "compress=zstd"] },
            }),
        };
        if esp == Esp::Xbootldr {
            let device = format!("/dev/disk/by-uuid/{XBOOTLDR_ID}");
            systems["/boot"] = json!({ "device": device, "fsType": "vfat", "options": ["umask=0077"] });
        }
        if let Some(mount_point) = esp.mount_point() {
            systems[mount_point] = json!({
                "device": format!("/dev/disk/by-uuid/{BOOT_ID}"), "fsType": "vfat", "options": ["umask=0077"],
            });
        }
        systems
    }
}

/// The closure of a system whose boot loader is still to be chosen, or `None` where its parts are not here, which has
/// been told.
pub(crate) fn closure(arch: Arch, root: Root) -> Option<ClosureBuilder> {
    closure_with(arch, root, Variant::default(), |closure| closure)
}

/// What makes one program of a kernel, an initrd and a command line.
pub(crate) type Unify = fn(&[u8], &[u8], &str) -> Vec<u8>;

/// What else a toplevel holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variant<'a> {
    /// The store path, by name, of a program that stage 2 runs at the first boot.
    pub(crate) first_boot: Option<&'a str>,
    /// Makes its unified kernel image, nixos.efi.
    pub(crate) unify: Option<Unify>,
    /// Where the ESP is mounted.
    pub(crate) esp: Esp,
}

/// The same of another variant, with more store paths.
pub(crate) fn closure_with(
    arch: Arch,
    root: Root,
    variant: Variant<'_>,
    more: impl FnOnce(ClosureBuilder) -> ClosureBuilder,
) -> Option<ClosureBuilder> {
    let (kernel, modules, busybox) = arch.parts()?;
    let (busybox, kernel) = (fs::read(busybox).unwrap(), fs::read(kernel).unwrap());
    let file_systems = root.file_systems_with(variant.esp);
    let (esp, variant_esp) = (variant.esp.mount_point(), variant.esp);
    let initrd = initrd(&busybox, &modules, &fstab(&file_systems, &["/", "/nix"]));
    let builder = ClosureBuilder::new()
        .path("busybox", Entry::dir([("bin", busybox_files(&busybox, &APPLETS))]))
        .path(KERNEL, Entry::dir([(arch.kernel_file(), Entry::file(&kernel))]))
        .path(INITRD, Entry::dir([("initrd", Entry::file(&initrd))]))
        .path("etc", Entry::dir([("fstab", Entry::file(fstab(&file_systems, &["/", "/nix", "/boot"])))]));
    let unified = |line: &str| variant.unify.map(|unify| unify(&kernel, &initrd, line));
    Some(systems(more(packages(builder)), arch, variant.first_boot, unified).spec(move |spec| {
        spec["fileSystems"] = file_systems;
        spec["efiSysMountPoint"] = esp.into();
        spec["bootPartSize"] = BOOT_SIZE.into();
        if variant_esp == Esp::Xbootldr {
            spec["xbootldrMountPoint"] = "/boot".into();
        }
    }))
}

/// A directory of busybox and its applets.
pub(crate) fn busybox_files(busybox: &[u8], applets: &[&str]) -> Entry {
    let applets = applets.iter().map(|applet| (*applet, Entry::symlink("busybox")));
    Entry::dir(applets.chain([("busybox", Entry::executable(busybox))]))
}

/// The table's lines for these mount points, in their order.
pub(crate) fn fstab(file_systems: &Value, points: &[&str]) -> String {
    let line = |point: &&str| {
        let system = file_systems.get(point)?;
        let text = |key: &str| system[key].as_str().unwrap();
        let options: Vec<_> = system["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        Some(format!("{} {point} {} {} 0 0\n", text("device"), text("fsType"), options.join(",")))
    };
    points.iter().filter_map(line).collect()
}

/// A few packages that are odd in what stores allow.
fn packages(builder: ClosureBuilder) -> ClosureBuilder {
    let long = [b'n'; 255];
    let text = "Contents that compress well. ".repeat(40_000);
    let names: [(&[u8], Entry); 8] = [
        (b" ", Entry::file("a space")),
        (b"$(reboot)", Entry::symlink("*")),
        (b"*", Entry::file("a star")),
        (b"-n", Entry::file("an option")),
        (b".hidden", Entry::symlink(".")),
        (b"back\\slash", Entry::file("\\0")),
        (b"new\nline", Entry::file("\n")),
        (b"not UTF-8: \xff\xfe\x81", Entry::file(b"\xff\0\xfe")),
    ];
    let names = names.into_iter().chain([(long.as_slice(), Entry::symlink([b't'; 1000]))]);
    let hello = Entry::executable("#!/bin/sh\necho hello\n");
    builder
        .path("hello", Entry::dir([("bin", Entry::dir([("hello", hello), ("hi", Entry::symlink("hello"))]))]))
        .path("names", Entry::dir(names))
        .path("nothing", Entry::dir([("directory", Entry::Dir(BTreeMap::new())), ("file", Entry::file(""))]))
        .path("plain-file", Entry::executable("#!/bin/sh\n"))
        .path(
            "sizes",
            Entry::dir([
                // On btrfs, an extent each 128 KiB, plain and compressed in turn.
                ("noise", Entry::of(Contents::Pattern { seed: 7, len: (2 << 20) + 1 })),
                ("text", Entry::file(text)),
                ("zeros", Entry::of(Contents::zeros(3 << 20))),
            ]),
        )
}

/// The toplevel and, in it, that of a specialisation. `unified` makes the one program, if there is to be one.
fn systems(
    builder: ClosureBuilder,
    arch: Arch,
    first_boot: Option<&str>,
    unified: impl Fn(&str) -> Option<Vec<u8>>,
) -> ClosureBuilder {
    let system = System {
        arch,
        busybox: builder.store_path("busybox").to_owned(),
        kernel: format!("{}/{}", builder.store_path(KERNEL), arch.kernel_file()),
        initrd: format!("{}/initrd", builder.store_path(INITRD)),
        etc: builder.store_path("etc").to_owned(),
        first_boot: first_boot.map(|name| builder.store_path(name).to_owned()),
    };
    let calm = format!("{SYSTEM}-{SPECIALISATION}");
    let names = ["busybox", KERNEL, INITRD, "etc", "hello", "names", "nothing", "plain-file", "sizes"];
    let builder = builder.derived(&calm, |path| Entry::dir(system.files(path, "calm=1", None)), &names);
    let specialisation = builder.store_path(&calm).to_owned();
    let tree = |path: &str| {
        let line = format!("init={path}/init {}", system.parameters("calm=0").join(" "));
        let program = unified(&line).map(|program| ("nixos.efi", Entry::file(program)));
        Entry::dir(system.files(path, "calm=0", Some(&specialisation)).into_iter().chain(program))
    };
    let names: Vec<&str> = names.into_iter().chain([calm.as_str()]).chain(first_boot).collect();
    builder.derived(SYSTEM, tree, &names).toplevel(SYSTEM)
}

struct System {
    arch: Arch,
    busybox: String,
    kernel: String,
    initrd: String,
    etc: String,
    first_boot: Option<String>,
}

impl System {
    /// What a toplevel at `path` holds.
    fn files(&self, path: &str, parameter: &str, specialisation: Option<&str>) -> Vec<(&'static str, Entry)> {
        let parameters = self.parameters(parameter);
        let stage_2 = fixture("stage-2").replace("@busybox@", &self.busybox).replace("@toplevel@", path);
        let mut boot = self.document(path, parameter);
        if let Some(specialisation) = specialisation {
            let document = self.document(specialisation, "calm=1");
            boot["org.nixos.specialisation.v1"] = json!({ SPECIALISATION: document });
        }
        let links = specialisation.map(|path| (SPECIALISATION, Entry::symlink(path)));
        let mut files = vec![
            ("boot.json", Entry::file(serde_json::to_vec(&boot).unwrap())),
            ("etc", Entry::symlink(&self.etc)),
            ("init", Entry::executable(stage_2)),
            ("initrd", Entry::symlink(&self.initrd)),
            ("kernel", Entry::symlink(&self.kernel)),
            ("kernel-params", Entry::file(parameters.join(" "))),
            ("nixos-version", Entry::file("26.05.boot-test")),
            ("specialisation", Entry::dir(links)),
            ("system", Entry::file(self.arch.system())),
        ];
        let first_boot = self.first_boot.as_ref().filter(|_| specialisation.is_some());
        files.extend(first_boot.map(|program| ("first-boot", Entry::symlink(program))));
        files
    }

    fn parameters(&self, parameter: &str) -> [String; 4] {
        // A panic ends QEMU, which is told not to reboot.
        [format!("console={}", self.arch.console()), "panic=-1".into(), "loglevel=4".into(), parameter.to_owned()]
    }

    /// What is in boot.json without specialisations.
    fn document(&self, path: &str, parameter: &str) -> Value {
        json!({
            "org.nixos.bootspec.v1": {
                "system": self.arch.system(),
                "init": format!("{path}/init"),
                "initrd": self.initrd,
                "kernel": self.kernel,
                "kernelParams": self.parameters(parameter),
                "label": "NixOS boot test 26.05",
                "toplevel": path,
            },
            "org.nixos.systemd-boot": { "sortKey": "nixos" },
        })
    }
}

/// The text of a file of tests/fixtures/boot.
pub(crate) fn fixture(name: &str) -> String {
    fs::read_to_string(fixture_path(name)).unwrap()
}

pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boot").join(name)
}
