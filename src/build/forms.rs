//! What one run makes of a plan: files of one or more forms that all hold the same disk.

use std::io::Write;

use thiserror::Error;

use super::outputs::Outputs;
use super::{BuildError, Context, Prepared};
use crate::formats::{self, Filled, Format, FormatError, Making, Source, bmap};
use crate::output::Pending;
use crate::plan::SizeMultiple;
use crate::spec::Updates;
use crate::units::SectorSize;

/// Which forms are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forms {
    /// In order, each once.
    formats: Vec<Format>,
    level: Option<i32>,
    block_map: bool,
    split: Split,
}

/// Whether the files of an update are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// They are not.
    #[default]
    No,
    /// They are, beside the disk.
    Beside,
    /// They are all that is made.
    Only,
}

/// Forms that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadForms {
    /// The form has others.
    #[error("--level {level}: {format} has levels from {} to {}", levels.start(), levels.end())]
    OutOfRange {
        /// The form.
        format: Format,
        /// What was asked for.
        level: i32,
        /// What there is.
        levels: std::ops::RangeInclusive<i32>,
    },
    /// Two forms whose files would have one name.
    #[error("--format {one},{other}: both files would be called {}; make one of them in another directory", "<name>".to_owned() + one.suffix())]
    OneName {
        /// The first form.
        one: Format,
        /// The second.
        other: Format,
    },
    /// The sectors of the spec are not those of the form.
    #[error(
        "--format {0}: {0} has sectors of 512 bytes only, and the spec's sectorSize is 4096; choose raw, zst, qcow2 or vhdx"
    )]
    Sectors(Format),
    /// No file that a block map is for.
    #[error("--bmap is for raw and zst, and --format names neither; add one of them to --format")]
    NothingToMap,
    /// Nothing is compressed.
    #[error("--level is for forms that are compressed, and --format names none; leave it out, or see --format")]
    NothingCompressed,
    /// Files of an update of something that has none.
    #[error(
        "--split makes the files of an update, and the spec has no updates; set updates to {{ \"name\": …, \"version\": … }}"
    )]
    NoUpdates,
}

/// The raw image.
impl Default for Forms {
    fn default() -> Self {
        Self { formats: vec![Format::Raw], level: None, block_map: false, split: Split::No }
    }
}

impl Forms {
    /// These forms, or the raw image if there are none; what is compressed, at this level if one is given; and a block map
    /// if that is asked for. With [`Split::Only`] there are none.
    ///
    /// # Errors
    /// If a form does not have that level, two of them cannot be in one directory, or none has a block map.
    pub fn new(formats: &[Format], level: Option<i32>, block_map: bool, split: Split) -> Result<Self, BadForms> {
        let mut formats = formats.to_vec();
        if formats.is_empty() && split != Split::Only {
            formats.push(Format::Raw);
        }
        formats.sort_unstable();
        formats.dedup();
        let same = formats.windows(2).find(|two| two[0].suffix() == two[1].suffix());
        if let Some([one, other]) = same.and_then(|two| two.first_chunk().copied()) {
            return Err(BadForms::OneName { one, other });
        }
        if let Some(level) = level {
            let of_update = (split != Split::No).then_some(Format::Zst);
            let compressed = || formats.iter().copied().chain(of_update);
            let with_levels = || compressed().filter_map(|format| Some((format, format.levels()?)));
            if with_levels().next().is_none() {
                return Err(BadForms::NothingCompressed);
            }
            if let Some((format, levels)) = with_levels().find(|(_, levels)| !levels.contains(&level)) {
                return Err(BadForms::OutOfRange { format, level, levels });
            }
        }
        if block_map && !formats.iter().any(|format| format.has_block_map()) {
            return Err(BadForms::NothingToMap);
        }
        Ok(Self { formats, level, block_map, split })
    }

    /// Whether a disk with these sectors can be in all of them.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check_sectors(&self, size: SectorSize) -> Result<(), BadForms> {
        let other = self.formats.iter().find(|format| !format.has_sectors(size));
        other.map_or(Ok(()), |format| Err(BadForms::Sectors(*format)))
    }

    /// The forms, in order.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// Checks that an update can be made of what the spec asks for.
    ///
    /// # Errors
    /// If the files of an update are asked for, and it has no updates.
    pub fn check_updates(&self, updates: Option<&Updates>) -> Result<(), BadForms> {
        if self.split == Split::No || updates.is_some() { Ok(()) } else { Err(BadForms::NoUpdates) }
    }

    /// Whether the files of an update are made.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Whether there is to be a block map.
    pub fn block_map(&self) -> bool {
        self.block_map
    }

    /// Of what the size of the disk is to be a multiple, so that each form can hold it.
    pub fn size_multiple(&self) -> SizeMultiple {
        // Each is a multiple of all smaller ones.
        let largest = self.formats.iter().max_by_key(|format| format.size_multiple());
        largest.map_or_else(SizeMultiple::default, |format| SizeMultiple {
            bytes: format.size_multiple(),
            form: format.name(),
        })
    }

    /// Writes the disk in the one form that there is.
    pub(super) fn stream(
        &self,
        source: &dyn Source,
        prepared: &Prepared,
        to: &mut (dyn Write + Send),
        context: Context<'_>,
    ) -> Result<(), FormatError> {
        let format = self.formats.first().copied().unwrap_or(Format::Raw);
        formats::stream(format, source, to, self.making(format, prepared, context))
    }

    pub(super) fn making<'a>(&self, format: Format, prepared: &Prepared, context: Context<'a>) -> Making<'a> {
        let level = self.level.unwrap_or_else(|| format.default_level());
        let sector_size = prepared.plan.gpt.sector_size;
        Making { level, identity: prepared.plan.disk_guid, sector_size, means: context.means() }
    }
}

/// Makes these forms and the block map. Tells which way the bytes of each took.
pub(super) fn make<'a>(
    source: &dyn Source,
    prepared: &Prepared,
    made: impl Iterator<Item = (Format, &'a Pending)>,
    outputs: &Outputs,
    forms: &Forms,
    context: Context<'_>,
) -> Result<Vec<(Format, Filled)>, BuildError> {
    let failed = |output: &Pending| {
        let path = output.target().named().to_owned();
        move |error| BuildError::Form { path, error }
    };
    let making = |format| forms.making(format, prepared, context);
    let write = |(format, output): (Format, &Pending)| {
        let filled = formats::write(format, source, output.file(), making(format));
        Ok((format, filled.map_err(failed(output))?))
    };
    let filled = made.map(write).collect::<Result<_, BuildError>>()?;
    if let Some(output) = outputs.block_map() {
        bmap::write(source, &mut output.file(), making(Format::Raw)).map_err(failed(output))?;
    }
    Ok(filled)
}
