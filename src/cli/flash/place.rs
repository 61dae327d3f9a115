//! The place that is written to: a device, a file that exists, or a new file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sane_image::flash::device::{Demands, Found, Refusal, Refused};
use sane_image::progress::Cancel;

use super::device::{self, Consent, Input};

/// What the user named.
pub(super) struct Place {
    path: PathBuf,
    /// `None` if it is to be a new file.
    found: Option<Found>,
    demands: Demands,
    consent: Consent,
    input: Input,
}

impl Place {
    /// Looks at what the user named, and refuses what cannot be meant.
    pub(super) fn find(path: &Path, demands: Demands, consent: Consent, input: Input) -> Result<Self> {
        let found = match device::look(path, &demands) {
            Err(error) if is_new_file(path, &error) => None,
            found => Some(found?),
        };
        if let Some(found) = &found {
            device::check_can_ask(found, consent, input)?;
        }
        Ok(Self { path: path.to_owned(), found, demands, consent, input })
    }

    /// As the user named it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The size of what is there, in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        match self.found.as_ref()? {
            Found::Device(device) => Some(device.size),
            Found::File(file) => Some(file.size),
        }
    }

    /// The size of the sectors of a device, in bytes.
    pub(super) fn sector_size(&self) -> Option<u64> {
        match self.found.as_ref()? {
            Found::Device(device) => Some(device.sector_size),
            Found::File(_) => None,
        }
    }

    /// Whether it is a device, which is as large as it is.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.found, Some(Found::Device(_)))
    }

    /// Shows what is there and what will be, asks, and looks once more.
    pub(super) fn agree(&self, to_come: &[String], cancel: &Cancel) -> Result<()> {
        let Some(found) = &self.found else { return Ok(()) };
        device::confirm(found, to_come, self.consent, self.input, cancel)?;
        device::look_again(found, &self.demands)
    }
}

/// Whether a path that leads nowhere is that of a new file, and not of a device that was spelt wrongly.
fn is_new_file(path: &Path, error: &anyhow::Error) -> bool {
    let Some(Refused(refusals)) = error.downcast_ref() else { return false };
    let [Refusal::Missing { near, .. }] = refusals.as_slice() else { return false };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_among_devices = parent.canonicalize().is_ok_and(|parent| parent.starts_with("/dev"));
    near.is_empty() && !is_among_devices && parent.is_dir() && path.symlink_metadata().is_err()
}
