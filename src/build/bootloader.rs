//! Runs the boot loader's installer: in a rehearsal before the store is copied, and on the finished image.
//!
//! The image of the rehearsal is as large as the real one. It has the partition table and the ESP of the real one, and
//! holes everywhere else. A comparison shows what the script writes there. It may write into gaps and boot code;
//! anything else is refused. The rehearsed image is kept to the end, as the record of what the real run must write.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use thiserror::Error;

use super::{Context, LAYOUT_NAME, Outputs};
use crate::disk::gpt::{self, GptError, GptLayout};
use crate::disk::holes::{self, Before};
use crate::disk::protected::{self, Area, Hit, Purpose};
use crate::output::{OutputError, Scratch};
use crate::plan::{ImagePlan, Role};
use crate::progress::{Cancelled, Progress};
use crate::source::command::{self, CommandError};

/// Tells the script that it runs in the rehearsal: "1" there, empty on the finished image.
const REHEARSAL: &str = "SANE_IMAGE_REHEARSAL";
/// The last lines of a rehearsal's output that are kept, should it fail.
const LINES_MAX: usize = 1000;

/// The boot loader cannot be installed.
#[derive(Debug, Error)]
pub enum BootloaderError {
    /// The script did not succeed in the rehearsal.
    #[error(
        "the rehearsal, on an image whose nix filesystem has no contents yet, {0} \
         (a script sees {REHEARSAL}=1 in its environment)"
    )]
    Rehearsal(#[source] CommandError),
    /// The script succeeded in the rehearsal, but not on the finished image.
    #[error("{0}")]
    Run(#[source] CommandError),
    /// The script cut the image off, or made it longer.
    #[error("left the image with {found} bytes instead of {expected}; pass conv=notrunc to dd")]
    Resized {
        /// The image's size before, in bytes.
        expected: u64,
        /// The image's size after, in bytes.
        found: u64,
    },
    /// The script wrote where something is.
    #[error(transparent)]
    Hit(#[from] Hit),
    /// The script wrote to a free place something else than in the rehearsal.
    #[error(
        "wrote different bytes when it ran again, from byte {offset} of the image on; an image must come out the same \
         each time, so leave out what is random or depends on the time"
    )]
    NotTheSame {
        /// The first byte that differs, from the start of the image.
        offset: u64,
    },
    /// The script left its rehearsal as it was, where that is all that there is.
    #[error(
        "wrote nothing in the rehearsal, and there is no image for a second run; build an image, and write that \
         to the device, or let the script write when {REHEARSAL} is 1, too"
    )]
    NothingWritten,
    /// The image that the script left cannot be compared with what it was.
    #[error("the image that it left in $out cannot be compared with what it was before: {0}")]
    Compare(#[source] io::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The rehearsal's image cannot be made, or what the script leaves there cannot be kept.
    #[error("the rehearsal: {0}")]
    Output(#[from] OutputError),
    /// The rehearsal's partition table cannot be written.
    #[error("the rehearsal: {0}")]
    Gpt(#[from] GptError),
}

/// An installer that was rehearsed. What the rehearsal made is removed when this is dropped.
pub(super) struct Installer<'a> {
    script: &'a str,
    /// The image's name.
    name: String,
    /// The rehearsal's image, as the script left it.
    rehearsed: File,
    /// What the script wrote there, in bytes of the disk.
    written: Vec<Range<u64>>,
    /// Holds that image.
    _rehearsal: Scratch,
}

impl<'a> Installer<'a> {
    /// Rehearses `script` on a sparse image with the plan's partition table and the ESP of the image.
    ///
    /// # Errors
    /// If the script fails, writes where something is, or leaves what cannot be kept.
    pub(super) fn rehearse(
        script: &'a str,
        plan: &ImagePlan,
        outputs: &Outputs,
        context: Context<'_>,
    ) -> Result<Self, BootloaderError> {
        context.progress.stage("rehearsing installBootloader", 0, 0);
        let image = outputs.image().file();
        let name = format!("{}.img", plan.name);
        let rehearsal = outputs.rehearsal()?;
        let path = rehearsal.path().join(&name);
        let pristine = rehearsal.create(&name, plan.size)?;
        let json = plan.to_json();
        let layout = rehearsal.create(LAYOUT_NAME, json.len() as u64)?;
        layout.write_all_at(json.as_bytes(), 0).map_err(BootloaderError::Compare)?;
        for area in boot_areas(plan) {
            holes::copy_data(image, &pristine, area.bytes).map_err(BootloaderError::Compare)?;
        }
        gpt::write(&plan.gpt, &mut &pristine)?;
        let tables = Tables::read(&plan.gpt, &pristine).map_err(BootloaderError::Compare)?;
        run_rehearsal(script, &rehearsal, context)?;
        // By its name: a script may put another file in the place of the image.
        let rehearsed = open(&path, plan.size)?;
        let touched = touched(plan, &tables, image, &rehearsed, Free::Looked).map_err(BootloaderError::Compare)?;
        match protected::first_hit(&plan.gpt, &touched) {
            Some(hit) => return Err(hit.into()),
            None => outputs.check(&rehearsal)?,
        }
        Ok(Self { script, name, rehearsed, written: touched, _rehearsal: rehearsal })
    }

    /// The rehearsal's image, as the script left it, and what of it the script wrote: in bytes of the disk, in order, disjoint.
    pub(super) fn rehearsed(&self) -> (&File, &[Range<u64>]) {
        (&self.rehearsed, &self.written)
    }

    /// Runs the script on the finished image, which has the name that it had in the rehearsal.
    ///
    /// # Errors
    /// If the script fails, writes where something is, or other bytes than in the rehearsal.
    pub(super) fn install(
        &self,
        scratch: &Scratch,
        plan: &ImagePlan,
        context: Context<'_>,
    ) -> Result<(), BootloaderError> {
        context.progress.stage("installing the boot loader", 0, 0);
        let path = scratch.path().join(&self.name);
        let tables =
            File::open(&path).and_then(|image| Tables::read(&plan.gpt, &image)).map_err(BootloaderError::Compare)?;
        run(self.script, "", scratch, context.progress, context)
            .map_err(|error| failed(error, BootloaderError::Run))?;
        let image = open(&path, plan.size)?;
        let touched =
            touched(plan, &tables, &self.rehearsed, &image, Free::Skipped).map_err(BootloaderError::Compare)?;
        if let Some(hit) = protected::first_hit(&plan.gpt, &touched) {
            return Err(hit.into());
        }
        self.compare_gaps(plan, &image).map_err(BootloaderError::Compare)?.map_or(Ok(()), Err)
    }

    /// Whether all free places before the first partition are as in the rehearsal. What is behind it moves where
    /// contents are compressed.
    fn compare_gaps(&self, plan: &ImagePlan, image: &File) -> io::Result<Option<BootloaderError>> {
        let end = protected::first_partition(&plan.gpt);
        for area in protected::areas(&plan.gpt) {
            if area.purpose == Purpose::Free && area.bytes.end <= end {
                let found = holes::differences(Before::File(&self.rehearsed), image, area.bytes)?;
                if let Some(first) = found.first() {
                    return Ok(Some(BootloaderError::NotTheSame { offset: first.start }));
                }
            }
        }
        Ok(None)
    }
}

/// The bytes of the partition tables before the script ran.
struct Tables(Vec<(Area, Vec<u8>)>);

impl Tables {
    fn read(layout: &GptLayout, image: &File) -> io::Result<Self> {
        let areas = protected::areas(layout).into_iter().filter(|area| area.purpose.is_table());
        let read = |area: Area| holes::read(image, &area.bytes).map(|bytes| (area, bytes));
        areas.map(read).collect::<io::Result<_>>().map(Self)
    }

    fn find(&self, area: &Area) -> Option<&[u8]> {
        self.0.iter().find(|(table, _)| table == area).map(|(_, bytes)| bytes.as_slice())
    }
}

/// Whether to look at what was a hole before the script ran: free places, and partitions without contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Free {
    Looked,
    Skipped,
}

/// What the script wrote: where `after` differs from the tables, from the ESP in `esp`, and from holes.
fn touched(plan: &ImagePlan, tables: &Tables, esp: &File, after: &File, free: Free) -> io::Result<Vec<Range<u64>>> {
    let boot = boot_areas(plan);
    let mut touched = Vec::new();
    for area in protected::areas(&plan.gpt) {
        let before = match tables.find(&area) {
            Some(bytes) => Before::Bytes(bytes),
            None if boot.contains(&area) => Before::File(esp),
            None if free == Free::Looked => Before::Zeros,
            None => continue,
        };
        touched.extend(holes::differences(before, after, area.bytes)?);
    }
    Ok(touched)
}

/// The partitions that have their contents before the script is rehearsed: the ESP and XBOOTLDR.
fn boot_areas(plan: &ImagePlan) -> Vec<Area> {
    let numbers: Vec<_> = plan
        .partitions
        .iter()
        .filter(|part| matches!(part.role, Role::Boot | Role::Xbootldr))
        .map(|part| part.number)
        .collect();
    let is_boot = |area: &Area| match area.purpose {
        Purpose::Partition { number, .. } => numbers.contains(&number),
        _ => false,
    };
    protected::areas(&plan.gpt).into_iter().filter(is_boot).collect()
}

/// Opens the image that a script left, if it has this many bytes still.
fn open(path: &Path, expected: u64) -> Result<File, BootloaderError> {
    let open = || {
        let file = File::open(path)?;
        let found = file.metadata()?.len();
        Ok((file, found))
    };
    match open().map_err(BootloaderError::Compare)? {
        (file, found) if found == expected => Ok(file),
        (_, found) => Err(BootloaderError::Resized { expected, found }),
    }
}

/// Runs the script; what it says is told only if it fails, as it will be told again when it does its work.
fn run_rehearsal(script: &str, rehearsal: &Scratch, context: Context<'_>) -> Result<(), BootloaderError> {
    let held = Held::default();
    let done = run(script, "1", rehearsal, &held, context);
    done.map_err(|error| {
        held.release(context.progress);
        failed(error, BootloaderError::Rehearsal)
    })
}

/// That a script did not succeed; a user who asked to stop is told no more than that.
fn failed(error: CommandError, otherwise: fn(CommandError) -> BootloaderError) -> BootloaderError {
    match error {
        CommandError::Cancelled(cancelled) => cancelled.into(),
        error => otherwise(error),
    }
}

/// Runs the script with `$out` naming the directory in which `<name>.img` is, writable.
fn run(
    script: &str,
    rehearsal: &str,
    scratch: &Scratch,
    progress: &dyn Progress,
    context: Context<'_>,
) -> Result<(), CommandError> {
    let mut environment = vec![("out", scratch.path().as_os_str()), (REHEARSAL, OsStr::new(rehearsal))];
    environment.extend(context.options.store_root.environment());
    command::run(script, scratch.path(), &environment, progress, context.cancel)
}

/// Keeps the lines that a command prints.
#[derive(Default)]
struct Held(Mutex<VecDeque<String>>);

impl Held {
    fn release(self, progress: &dyn Progress) {
        let lines = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.iter().for_each(|line| progress.relay(line));
    }
}

impl Progress for Held {
    fn stage(&self, _name: &str, _total_files: u64, _total_bytes: u64) {}
    fn advance(&self, _files: u64, _bytes: u64) {}
    fn relay(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.push_back(line.to_owned());
        if lines.len() > LINES_MAX {
            lines.pop_front();
        }
    }
    fn warn(&self, message: &str) {
        self.relay(message);
    }
}
