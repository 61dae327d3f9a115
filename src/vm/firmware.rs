//! Finds firmware for QEMU's machines.
//!
//! Descriptors say which UEFI there is: small JSON files that come with QEMU or with the package of a firmware. QEMU's
//! docs/interop/firmware.json defines them. U-Boot has no descriptors. Its packages agree on the names of directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::{Processor, Start};

/// Features of firmware that does not start whatever is on a disk, or that needs more of a machine than ours has.
const UNSUITABLE: [&str; 4] = ["enrolled-keys", "requires-smm", "host-uefi-vars", "intel-tdx"];
/// Firmware whose packages may have no descriptors: its code, and its variables if they are apart.
const UEFI: [(Processor, &str, Option<&str>); 5] = [
    (Processor::X86_64, "/usr/share/OVMF/OVMF_CODE_4M.fd", Some("/usr/share/OVMF/OVMF_VARS_4M.fd")),
    (Processor::X86_64, "/usr/share/ovmf/OVMF.fd", None),
    (Processor::Aarch64, "/usr/share/AAVMF/AAVMF_CODE.fd", Some("/usr/share/AAVMF/AAVMF_VARS.fd")),
    (Processor::Arm, "/usr/share/AAVMF/AAVMF32_CODE.fd", Some("/usr/share/AAVMF/AAVMF32_VARS.fd")),
    (
        Processor::Riscv64,
        "/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd",
        Some("/usr/share/qemu-efi-riscv64/RISCV_VIRT_VARS.fd"),
    ),
];

/// A file of firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The file.
    pub path: PathBuf,
    /// As QEMU names its form: `raw` or `qcow2`.
    pub format: String,
}

/// What a machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// In flash memory; the variables are written to, so that they are a template.
    Flash {
        /// The program.
        code: Blob,
        /// The variables, where they are apart.
        variables: Option<Blob>,
    },
    /// In the place of QEMU's own.
    Bios(PathBuf),
    /// In the place of a kernel, behind QEMU's own.
    Kernel(PathBuf),
    /// QEMU's own.
    BuiltIn,
}

/// There is no firmware that starts a system.
#[derive(Debug, Error)]
#[error(
    "no {} for {processor}: install {} (Debian) or {} (Nix), or name a directory that has it in SANE_IMAGE_FIRMWARE",
    if *.start == Start::Uefi { "UEFI firmware" } else { "U-Boot" },
    in_debian(*.processor, *.start),
    in_nix(*.processor, *.start)
)]
pub struct MissingFirmware {
    processor: Processor,
    start: Start,
}

/// The directories in which firmware is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The user's own, which come before all others.
    pub own: Vec<PathBuf>,
    /// Those for descriptors. What has the same name in several is taken from the first.
    pub descriptors: Vec<PathBuf>,
    /// Those with a directory for each board that U-Boot is for.
    pub u_boot: Vec<PathBuf>,
}

impl Places {
    /// Where packages and administrators put firmware, and what belongs to the QEMU at `qemu`; `own` comes first.
    pub fn usual(own: Vec<PathBuf>, qemu: &Path, home: Option<&Path>) -> Self {
        let of_qemu = qemu.parent().and_then(Path::parent).map(|prefix| prefix.join("share/qemu/firmware"));
        let of_user = home.map(|home| home.join(".config/qemu/firmware"));
        let shared = ["/etc/qemu/firmware", "/usr/share/qemu/firmware", "/run/current-system/sw/share/qemu/firmware"];
        let descriptors = of_user.into_iter().chain(shared.map(PathBuf::from)).chain(of_qemu).collect();
        let u_boot = ["/usr/lib/u-boot", "/usr/share/uboot"].map(PathBuf::from).to_vec();
        Self { own, descriptors, u_boot }
    }

    /// The firmware that starts a system of this kind.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, processor: Processor, start: Start) -> Result<Firmware, MissingFirmware> {
        match start {
            Start::Uefi => self.uefi(processor),
            Start::UBoot => self.u_boot(processor),
            Start::Bios => Some(Firmware::BuiltIn),
        }
        .ok_or(MissingFirmware { processor, start })
    }

    fn uefi(&self, processor: Processor) -> Option<Firmware> {
        described(&self.own, processor).or_else(|| described(&self.descriptors, processor)).or_else(|| {
            let plain = |path: &str| Blob { path: path.into(), format: "raw".to_owned() };
            UEFI.iter().filter(|(other, ..)| *other == processor).find_map(|(_, code, variables)| match variables {
                Some(variables) => existing(Firmware::Flash { code: plain(code), variables: Some(plain(variables)) }),
                None => existing(Firmware::Bios(code.into())),
            })
        })
    }

    fn u_boot(&self, processor: Processor) -> Option<Firmware> {
        let board = match processor {
            Processor::X86_64 => return None,
            Processor::Aarch64 => "qemu_arm64",
            Processor::Arm => "qemu_arm",
            Processor::Riscv64 => "qemu-riscv64_smode",
        };
        let files = self.own.iter().chain(&self.u_boot).map(|directory| directory.join(board).join("u-boot.bin"));
        let file = files.into_iter().find(|file| file.exists())?;
        // On RISC-V, QEMU's own OpenSBI comes first.
        Some(if processor == Processor::Riscv64 { Firmware::Kernel(file) } else { Firmware::Bios(file) })
    }
}

/// The first suitable one of all descriptors, in the order of their names.
fn described(directories: &[PathBuf], processor: Processor) -> Option<Firmware> {
    let mut descriptors = BTreeMap::new();
    for entry in directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "json") {
            descriptors.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    let read = |path: PathBuf| suitable(&fs::read(path).ok()?, processor).and_then(existing);
    descriptors.into_values().find_map(read)
}

/// Only if all of its files are there.
fn existing(firmware: Firmware) -> Option<Firmware> {
    let is_there = match &firmware {
        Firmware::Flash { code, variables } => {
            [Some(code), variables.as_ref()].into_iter().flatten().all(|blob| blob.path.exists())
        }
        Firmware::Bios(path) | Firmware::Kernel(path) => path.exists(),
        Firmware::BuiltIn => true,
    };
    is_there.then_some(firmware)
}

/// What of a descriptor matters here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "device", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Mapping {
    Flash {
        executable: FlashFile,
        nvram_template: Option<FlashFile>,
    },
    Memory {
        filename: PathBuf,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct FlashFile {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The firmware that a descriptor tells of, if our machine starts with it and it starts what it finds on a disk.
fn suitable(descriptor: &[u8], processor: Processor) -> Option<Firmware> {
    let descriptor: Descriptor = serde_json::from_slice(descriptor).ok()?;
    let machine = if processor == Processor::X86_64 { "pc-q35" } else { "virt" };
    let is_for = |target: &Target| {
        // A pattern such as `virt-*`, or a version such as `pc-q35-9.1`.
        let is_ours = |pattern: &String| {
            pattern.split_once('*').map_or(pattern.as_str(), |(start, _)| start).starts_with(machine)
        };
        target.architecture == processor.name() && target.machines.iter().any(is_ours)
    };
    let is_suitable = descriptor.interface_types.iter().any(|kind| kind == "uefi")
        && descriptor.targets.iter().any(is_for)
        && !descriptor.features.iter().any(|feature| UNSUITABLE.contains(&feature.as_str()));
    let blob = |file: FlashFile| Blob { path: file.filename, format: file.format };
    match descriptor.mapping {
        _ if !is_suitable => None,
        Mapping::Flash { executable, nvram_template } => {
            Some(Firmware::Flash { code: blob(executable), variables: nvram_template.map(blob) })
        }
        Mapping::Memory { filename } => Some(Firmware::Bios(filename)),
        Mapping::Other => None,
    }
}

fn in_debian(processor: Processor, start: Start) -> &'static str {
    match (start, processor) {
        (Start::UBoot, _) => "u-boot-qemu",
        (_, Processor::X86_64) => "ovmf",
        (_, Processor::Aarch64) => "qemu-efi-aarch64",
        (_, Processor::Arm) => "qemu-efi-arm",
        (_, Processor::Riscv64) => "qemu-efi-riscv64",
    }
}

fn in_nix(processor: Processor, start: Start) -> &'static str {
    match (start, processor) {
        (Start::UBoot, Processor::Aarch64) => "ubootQemuAarch64",
        (Start::UBoot, Processor::Arm) => "ubootQemuArm",
        (Start::UBoot, Processor::Riscv64) => "ubootQemuRiscv64Smode",
        // Its own directory has descriptors.
        _ => "qemu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{ "interface-types": ["uefi"], "mapping": { "device": "flash", "mode": "split",
        "executable": { "filename": "CODE", "format": "raw" }, "nvram-template": { "filename": "VARS", "format": "raw" } },
        "targets": [{ "architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"] }], "features": ["acpi-s3"], "tags": [] }"#;

    #[test]
    fn firmware_that_asks_for_keys_is_left_out() {
        let blob = |path: &str| Blob { path: path.into(), format: "raw".to_owned() };
        let flash = Firmware::Flash { code: blob("CODE"), variables: Some(blob("VARS")) };
        let found = |from: &str, to: &str| suitable(PLAIN.replace(from, to).as_bytes(), Processor::X86_64);
        assert_eq!(found("", ""), Some(flash));
        for (from, to) in [
            ("acpi-s3", "enrolled-keys"),
            ("acpi-s3", "requires-smm"),
            ("\"uefi\"", "\"bios\""),
            ("x86_64", "i386"),
            ("pc-q35-*", "microvm"),
            ("\"flash\"", "\"igvm\""),
            ("\"features\"", "\"other\""),
            ("{", "["),
        ] {
            assert_eq!(found(from, to), None, "{from} as {to}");
        }
        assert_eq!(suitable(PLAIN.as_bytes(), Processor::Aarch64), None);
        let memory = found("\"flash\"", "\"memory\", \"filename\": \"ALL\"");
        assert_eq!(memory, Some(Firmware::Bios("ALL".into())));
    }

    #[test]
    fn earlier_directories_hide_later_ones_and_missing_files_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        ["one", "two", "own"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        let write = |place: &str, code: &str| {
            let path = |name: &str| at(name).to_str().unwrap().to_owned();
            fs::write(at(place), PLAIN.replace("CODE", &path(code)).replace("VARS", &path("vars"))).unwrap();
        };
        ["vars", "a", "b", "c"].iter().for_each(|name| fs::write(at(name), "").unwrap());
        write("one/50-x.json", "a");
        write("two/50-x.json", "b");
        write("two/40-y.json", "gone");
        write("two/30-z.txt", "c");
        let mut places = Places { descriptors: vec![at("one"), at("nothing"), at("two")], ..Places::default() };
        let code = |places: &Places| match places.find(Processor::X86_64, Start::Uefi).unwrap() {
            Firmware::Flash { code, .. } => code.path,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&places), at("a"));
        places.descriptors.reverse();
        assert_eq!(code(&places), at("b"));
        write("own/90-w.json", "c");
        places.own = vec![at("own")];
        assert_eq!(code(&places), at("c"));
    }

    #[test]
    fn u_boot_is_found_by_its_board() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = Places::default();
        let error = places.find(Processor::Aarch64, Start::UBoot).unwrap_err().to_string();
        assert!(
            error.starts_with("no U-Boot for aarch64: install u-boot-qemu (Debian) or ubootQemuAarch64 (Nix)"),
            "{error}"
        );
        let file = dir.path().join("qemu_arm64/u-boot.bin");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        places.own = vec![dir.path().to_owned()];
        assert_eq!(places.find(Processor::Aarch64, Start::UBoot).unwrap(), Firmware::Bios(file));
        assert!(places.find(Processor::Riscv64, Start::UBoot).is_err());
        assert_eq!(places.find(Processor::X86_64, Start::Bios).unwrap(), Firmware::BuiltIn);
    }
}
