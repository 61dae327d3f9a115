//! Of what boots.

use serde::Serialize;

/// What a booting system finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootReport {
    /// The partition that firmware looks at.
    pub partition: u32,
    /// The extended boot loader partition, if it has entries for the same menu.
    pub extended: Option<u32>,
    /// What UEFI starts from a disk that it does not know: EFI/BOOT/BOOT*.EFI.
    pub firmware: Vec<EfiProgram>,
    /// loader/loader.conf, extlinux/extlinux.conf, grub/grub.cfg, limine/limine.conf.
    pub configurations: Vec<Configuration>,
    /// What can be booted, in the order of the menu.
    pub entries: Vec<BootEntry>,
    /// What systemd-stub hands to the system that it starts: loader/credentials/*.cred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Place>,
    /// What a configuration says that is not followed here, and what is not looked at: one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What in a configuration is hardly meant: one line each, to become [`super::Report::warnings`].
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// A program for UEFI.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EfiProgram {
    /// Its place.
    pub path: String,
    /// Its size.
    pub size: u64,
    /// What it says that it is.
    pub what: Option<String>,
}

/// The configuration of a boot loader.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Who reads it.
    pub loader: Loader,
    /// The partition that has it, if it is not the one that firmware looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its place.
    pub path: String,
    /// The entry to boot, as it is written there; of GRUB, `saved` where that is the one that was chosen last.
    pub default: Option<String>,
    /// The entry to boot unless its tries are used up, as it is written there.
    pub preferred: Option<String>,
    /// Seconds, or tenths of them (extlinux), until then, as it is written there.
    pub timeout: Option<String>,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Loader {
    /// systemd-boot and whatever else reads loader/entries.
    #[serde(rename = "systemd-boot")]
    SystemdBoot,
    /// U-Boot and whatever else reads extlinux.conf.
    #[serde(rename = "extlinux")]
    Extlinux,
    /// A unified kernel image, which systemd-boot or firmware starts.
    #[serde(rename = "uki")]
    Uki,
    /// GRUB, by grub.cfg.
    #[serde(rename = "grub")]
    Grub,
    /// Limine, by limine.conf.
    #[serde(rename = "limine")]
    Limine,
}

impl Loader {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SystemdBoot => "systemd-boot",
            Self::Extlinux => "extlinux",
            Self::Uki => "uki",
            Self::Grub => "grub",
            Self::Limine => "limine",
        }
    }
}

/// Something that can be booted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootEntry {
    /// Who boots it.
    pub loader: Loader,
    /// Its file's name, its label, or its title behind those of the menus that lead to it, with `>` between them.
    pub id: String,
    /// As the menu shows it.
    pub title: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How often it may still be tried, where that is counted.
    pub tries_left: Option<u32>,
    /// Whether it boots if nobody chooses.
    pub default: bool,
    /// The kernel, or the EFI program.
    pub kernel: Option<FileReport>,
    /// The initrds in order.
    pub initrds: Vec<FileReport>,
    /// The device tree, or the directory of them.
    pub device_tree: Option<FileReport>,
    /// What is laid over the device tree, in order.
    pub device_tree_overlays: Vec<FileReport>,
    /// The program that init= names.
    pub init: Option<FileReport>,
    /// The kernel's parameters.
    pub options: String,
}

impl BootEntry {
    /// The files that it needs: what each is, and the file.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileReport)> {
        let kernel = self.kernel.iter().map(|file| ("kernel", file));
        let initrds = self.initrds.iter().map(|file| ("initrd", file));
        let tree = self.device_tree.iter().map(|file| ("device tree", file));
        let overlays = self.device_tree_overlays.iter().map(|file| ("device tree overlay", file));
        let init = self.init.iter().map(|file| ("init", file));
        kernel.chain(initrds).chain(tree).chain(overlays).chain(init)
    }
}

/// A file that something refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// As it is written there.
    pub path: String,
    /// Where it is, if it is there.
    pub found: Option<Place>,
}

/// A file in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The partition's number.
    pub partition: u32,
    /// From the filesystem's root, links followed.
    pub path: String,
    /// Its size.
    pub size: u64,
}
