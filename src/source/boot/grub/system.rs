//! What nixpkgs' installer reads of a toplevel.
//!
//! Not its boot.json: `install-grub.pl` follows the links `kernel`, `initrd`, `init` and `xen.gz` and reads the files
//! `kernel-params`, `xen-params`, `nixos-version` and `configuration-name`, and so does this.
//!
//! Secrets of `boot.initrd.secrets` are left out, since anyone can read an image: the installer has them in a second
//! initrd, which the first `nixos-rebuild` on the machine makes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::config::entries::DATE;
use super::error::GrubError;
use crate::source::boot::error::{PopulateError, io_error};
use crate::source::boot::links::Store;
use crate::spec::is_words;

/// Where the installer copies kernels to.
const KERNELS: &str = "kernels";
const SECRETS: &str = "append-initrd-secrets";

/// A generation of the system.
#[derive(Debug)]
pub(super) struct Generation {
    /// What `nixos-version` says.
    pub(super) version: Option<String>,
    pub(super) system: Bootable,
    /// By name.
    pub(super) specialisations: Vec<Specialisation>,
}

#[derive(Debug)]
pub(super) struct Specialisation {
    /// The end of its entry's title.
    pub(super) title: String,
    /// Its name.
    pub(super) name: String,
    /// Nothing, if it has no kernel or no initrd: it has no entry then.
    pub(super) system: Option<Bootable>,
}

/// What an entry tells.
#[derive(Debug)]
pub(super) struct Bootable {
    pub(super) kernel: StoreFile,
    pub(super) initrd: StoreFile,
    /// Xen, under which the kernel runs.
    pub(super) xen: Option<Xen>,
    /// The path of the first program.
    pub(super) init: String,
    /// The kernel's command line without the first program.
    pub(super) params: String,
    /// Whether the host has secrets for its initrd.
    pub(super) has_secrets: bool,
}

#[derive(Debug)]
pub(super) struct Xen {
    pub(super) file: StoreFile,
    pub(super) params: String,
}

/// A file of the store that GRUB is to read.
#[derive(Debug)]
pub(super) struct StoreFile {
    /// Its path from the store directory, free of symbolic links.
    pub(super) in_store: String,
    /// Where it is on the host.
    pub(super) source: PathBuf,
    /// In bytes.
    pub(super) size: u64,
}

impl StoreFile {
    /// Its path in `/boot`, if it is copied.
    pub(super) fn copy_path(&self) -> String {
        format!("{KERNELS}/{}", self.in_store.replace('/', "-"))
    }
}

impl Bootable {
    /// The files that GRUB reads.
    pub(super) fn files(&self) -> impl Iterator<Item = &StoreFile> {
        [&self.kernel, &self.initrd].into_iter().chain(self.xen.iter().map(|xen| &xen.file))
    }
}

impl Generation {
    /// All that can be booted of it.
    pub(super) fn systems(&self) -> impl Iterator<Item = &Bootable> {
        let specialisations = self.specialisations.iter().filter_map(|specialisation| specialisation.system.as_ref());
        [&self.system].into_iter().chain(specialisations)
    }
}

/// Reads a toplevel and its specialisations.
pub(super) fn read(toplevel: &Path, store: Store<'_>) -> Result<Generation, PopulateError> {
    let reader = Reader { store };
    let system = reader.bootable(toplevel)?.map_err(|missing| {
        let toplevel = toplevel.to_owned();
        GrubError::NoEntry { toplevel, missing }
    })?;
    let directory = toplevel.join("specialisation");
    let names = match store.exists(&directory) {
        true => names(&store.find_directory(&directory)?)?,
        false => Vec::new(),
    };
    let specialisations = names.into_iter().map(|name| reader.specialisation(&directory.join(&name), name));
    Ok(Generation {
        version: reader.title(&toplevel.join("nixos-version"), VERSION_REMEDY)?,
        system,
        specialisations: specialisations.collect::<Result<_, _>>()?,
    })
}

const VERSION_REMEDY: &str = "set system.nixos.label to letters and digits";
const NAME_REMEDY: &str = "set boot.loader.grub.configurationName to letters and digits";

struct Reader<'a> {
    store: Store<'a>,
}

impl Reader<'_> {
    fn specialisation(&self, path: &Path, name: String) -> Result<Specialisation, PopulateError> {
        check_title(path, &name, "rename the specialisation")?;
        let own_name = self.title(&path.join("configuration-name"), NAME_REMEDY)?;
        let version = match self.title(&path.join("nixos-version"), VERSION_REMEDY)? {
            Some(version) => version,
            None => self.kernel_version(path)?,
        };
        let title = own_name.filter(|name| super::config::is_true(name));
        let title = title.unwrap_or_else(|| format!("({name} - {DATE} - {version})"));
        Ok(Specialisation { title, name, system: self.bootable(path)?.ok() })
    }

    /// The first directory of modules beside the kernel.
    fn kernel_version(&self, system: &Path) -> Result<String, PopulateError> {
        let first = || {
            let (kernel, _) = self.store.find_file(&system.join("kernel")).ok()?;
            names(&kernel.parent()?.join("lib/modules")).ok()?.into_iter().next()
        };
        Ok(first().ok_or_else(|| GrubError::NoVersion { system: system.to_owned() })?)
    }

    /// What an entry tells of a system, or what it lacks.
    fn bootable(&self, system: &Path) -> Result<Result<Bootable, &'static str>, PopulateError> {
        for name in ["kernel", "initrd"] {
            if !self.store.exists(&system.join(name)) {
                return Ok(Err(name));
            }
        }
        let xen = system.join("xen.gz");
        let xen = self.store.exists(&xen).then(|| {
            let params = self.command_line(&system.join("xen-params"))?;
            Ok::<_, PopulateError>(Xen { file: self.store_file(&xen)?, params })
        });
        let init = self.store_file(&system.join("init"))?;
        Ok(Ok(Bootable {
            kernel: self.store_file(&system.join("kernel"))?,
            initrd: self.store_file(&system.join("initrd"))?,
            xen: xen.transpose()?,
            init: self.store.directory().join(&init.in_store).display().to_string(),
            params: self.command_line(&system.join("kernel-params"))?,
            has_secrets: self.is_executable(&system.join(SECRETS))?,
        }))
    }

    fn is_executable(&self, path: &Path) -> Result<bool, PopulateError> {
        if !self.store.exists(path) {
            return Ok(false);
        }
        let (found, _) = self.store.find_file(path)?;
        let mode = fs::metadata(&found).map_err(io_error(&found))?.permissions().mode();
        Ok(mode & 0o111 != 0)
    }

    fn store_file(&self, path: &Path) -> Result<StoreFile, PopulateError> {
        let (source, size) = self.store.find_file(path)?;
        match self.store.in_store(&source).and_then(Path::to_str) {
            Some(in_store) => Ok(StoreFile { in_store: in_store.to_owned(), source, size }),
            None => Err(GrubError::OutsideStore { path: path.to_owned(), target: source }.into()),
        }
    }

    /// A file's text without the line break at its end, if there is the file.
    fn text(&self, path: &Path) -> Result<Option<String>, PopulateError> {
        if !self.store.exists(path) {
            return Ok(None);
        }
        let (found, _) = self.store.find_file(path)?;
        let text = fs::read(&found).map_err(io_error(path))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Some(text.strip_suffix('\n').map_or(text.clone(), str::to_owned)))
    }

    /// A text that is to stand between double quotes, in which GRUB takes more than one line.
    fn title(&self, path: &Path, remedy: &'static str) -> Result<Option<String>, PopulateError> {
        let text = self.text(path)?;
        text.iter().try_for_each(|text| check_title(path, text, remedy))?;
        Ok(text)
    }

    /// A text that is to stand at the end of a line; empty if there is no such file.
    ///
    /// The installer writes it as it is. What ends a command of GRUB would make the rest another command, and an open
    /// quote would take all that follows.
    fn command_line(&self, path: &Path) -> Result<String, PopulateError> {
        let text = self.text(path)?.unwrap_or_default();
        let what = match text.contains(['\n', '\0']) {
            true => "a line break or a NUL character",
            false if is_words(&text) => return Ok(text),
            false => "a quote without its other half, or one of {}|&;<>$ outside quotes",
        };
        let remedy = "write it otherwise in boot.kernelParams, or put a backslash before it";
        Err(GrubError::Text { path: path.to_owned(), text, what, remedy }.into())
    }
}

/// Refuses what would end the quotes of a title.
fn check_title(path: &Path, text: &str, remedy: &'static str) -> Result<(), GrubError> {
    let what = [('"', "a quotation mark"), ('\\', "a backslash"), ('$', "a dollar sign"), ('\0', "a NUL character")];
    match what.into_iter().find(|(c, _)| text.contains(*c)) {
        Some((_, what)) => Err(GrubError::Text { path: path.to_owned(), text: text.to_owned(), what, remedy }),
        None => Ok(()),
    }
}

/// What is in a directory, sorted, without names that begin with a dot.
fn names(directory: &Path) -> Result<Vec<String>, PopulateError> {
    let names = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<BTreeSet<_>>>()
    });
    Ok(names.map_err(io_error(directory))?.into_iter().filter(|name| !name.starts_with('.')).collect())
}
