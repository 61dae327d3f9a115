//! Of a filesystem and the store in it.

use serde::Serialize;

/// A filesystem.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesystemReport {
    /// vfat, ext4, btrfs or erofs.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// Its label.
    pub label: String,
    /// Its UUID as in /dev/disk/by-uuid.
    pub uuid: String,
    /// Its size.
    pub size: u64,
    /// Not free.
    pub used: u64,
    /// Free for more files.
    pub free: u64,
    /// The unit of allocation.
    pub block_size: u32,
    /// By their usual names.
    pub features: Vec<String>,
    /// Regular files.
    pub files: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Devices, sockets and pipes.
    pub special: u64,
    /// The sum of the sizes of all regular files.
    pub file_bytes: u64,
    /// What takes the space: store paths, or else directories; largest first.
    pub contents: Vec<Usage>,
    /// The store in it.
    pub store: Option<StoreReport>,
    /// What is outside the store; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_store: Option<OutsideReport>,
}

/// The files beside a store: all but directories, those of boot loaders, and the registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideReport {
    /// How many files, links and special files.
    pub files: u64,
    /// The sum of the sizes of the regular ones.
    pub size: u64,
}

/// A file or directory with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// From the filesystem's root.
    pub path: String,
    /// The sum of the sizes of its files.
    pub size: u64,
    /// How many files it has.
    pub files: u64,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    /// The directory in the filesystem.
    pub path: String,
    /// The same directory in the running system.
    pub store_dir: String,
    /// Where the running system mounts the filesystem.
    pub mount_point: String,
    /// How many paths are in it.
    pub paths: u64,
    /// The sum of the sizes of their files.
    pub size: u64,
    /// The registration for the first boot, if it can be read.
    pub registration: Option<RegistrationReport>,
    /// Why it cannot.
    pub registration_problem: Option<String>,
    /// The database of the Nix that ran on it.
    pub database: Option<DatabaseReport>,
}

/// A nix-path-registration, compared with the store beside it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationReport {
    /// The file.
    pub path: String,
    /// How many paths are registered.
    pub paths: u64,
    /// Registered, but not in the store.
    pub missing: Vec<String>,
    /// In the store, but not registered.
    pub unregistered: Vec<String>,
}

/// A database of Nix, compared with the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// The partition that has it.
    pub partition: u32,
    /// The file.
    pub path: String,
    /// What could be read of it.
    #[serde(flatten)]
    pub valid: ValidPaths,
    /// Journals and logs with changes that are not in the file yet.
    pub waiting: Vec<Waiting>,
}

/// What a database knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidPaths {
    /// How many paths are valid; `None` if it cannot be read.
    pub paths: Option<u64>,
    /// Valid, but not in the store.
    pub missing: Vec<String>,
    /// In the store, but not valid.
    pub unregistered: Vec<String>,
}

/// A file with changes that are not in a database yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The file.
    pub path: String,
    /// Its size.
    pub size: u64,
}
