//! What the commands that look into images have in common.

use std::cell::OnceCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use sane_image::image::store::{self, StoreLocation};
use sane_image::image::{Image, PartName};
use sane_image::read::resolve::{AtRoot, Last, Mounted};
use sane_image::read::{FileSystem, Metadata, ReadError, escape, resolve};

use super::complete;

/// A partition of an image.
#[derive(Debug, Args)]
pub(super) struct PartArgs {
    /// A disk image (raw, qcow2, VMDK, VHD, VHDX or seekable zst), a bare partition image, or a block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The partition: `boot` (the ESP), `nix` (the one with the store), or its number
    #[arg(value_name = "PART", add = complete::part())]
    part: PartName,
}

impl PartArgs {
    /// The filesystem that the arguments name.
    pub(super) fn open(&self) -> Result<Opened> {
        let opened = Opened::new(&self.image, &self.part)?;
        let outcome = tell_waiting(opened.fs.as_ref(), &opened.name);
        Ok(Opened { outcome, ..opened })
    }
}

/// A filesystem and what it takes to find one's way in it.
pub(super) struct Opened {
    pub(super) fs: Box<dyn FileSystem>,
    /// For messages: the image and the partition.
    pub(super) name: String,
    /// Failed if a journal waits to be replayed.
    pub(super) outcome: Outcome,
    location: OnceCell<Option<StoreLocation>>,
}

impl Opened {
    /// A partition's filesystem, by the name that a user gives it. Prints nothing.
    pub(super) fn new(image: &Path, part: &PartName) -> Result<Self> {
        let name = format!("{}: partition {part}", escape::path(image));
        let opened = Image::open(image).with_context(|| escape::path(image))?;
        let partition = opened.find(part).with_context(|| escape::path(image))?;
        let fs = partition.open().with_context(|| name.clone())?;
        Ok(Self { fs, name, outcome: Outcome::Done, location: OnceCell::new() })
    }

    /// The file that a user means: by its path from the filesystem's root, or by its path in the running system.
    pub(super) fn find(&self, path: &Path, last: Last) -> Result<(PathBuf, Metadata)> {
        let found = resolve(self.fs.as_ref(), self, path, last);
        let found = match found {
            Err(ReadError::NotFound(_)) if path.is_absolute() => match self.inside(path) {
                Some(inside) => resolve(self.fs.as_ref(), self, &inside, last).or(found),
                None => found,
            },
            found => found,
        };
        found.map_err(|error| {
            let place =
                if names(&error, path) { self.name.clone() } else { format!("{}: {}", self.name, escape::path(path)) };
            anyhow::Error::new(error).context(place)
        })
    }
}

/// Whether an error has the path that the user gave. If only a directory on the way or the target of a link is missing,
/// it names that instead.
fn names(error: &ReadError, path: &Path) -> bool {
    let path = escape::path(path.strip_prefix("/").unwrap_or(path));
    match error {
        ReadError::NotFound(missing) | ReadError::NotADirectory(missing) => missing.contains(&path),
        _ => true,
    }
}

impl Mounted for Opened {
    fn inside(&self, absolute: &Path) -> Option<PathBuf> {
        let location = self.location.get_or_init(|| store::locate(self.fs.as_ref()).ok().flatten());
        location.as_ref().map_or_else(|| AtRoot.inside(absolute), |location| location.inside(absolute))
    }
}

/// Ends the program as clap does when it is used wrongly.
pub(super) fn bad_usage(why: &str) -> ! {
    super::args::Cli::command().error(ErrorKind::ArgumentConflict, why).exit()
}

/// Standard output with room to gather.
pub(super) fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Prints an error and lets the work go on.
pub(super) fn complain(error: &anyhow::Error) {
    let _ = writeln!(io::stderr().lock(), "sane-image: error: {}", super::describe(error));
}

/// The outcome of a command that printed its failures one by one.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
}

impl Outcome {
    pub(super) fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// Prints what a reader cannot see of a filesystem.
pub(super) fn tell_waiting(fs: &dyn FileSystem, name: &str) -> Outcome {
    let Some(waiting) = fs.waiting() else { return Outcome::Done };
    complain(&anyhow!("{name}: {waiting}"));
    Outcome::Failed
}

/// Seconds since 1970 as a date and a time of day, UTC.
pub(super) fn timestamp(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The day of the Gregorian calendar that comes `days` after 1970-01-01. Years start in March here, so that the day that
/// some years lack comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (1, "1970-01-01 00:00:01"),
            (-1, "1969-12-31 23:59:59"),
            (951_826_554, "2000-02-29 12:15:54"),
            (1_795_391_999, "2026-11-22 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
