//! Recomputes the dm-verity trees, and compares each root hash with the GUIDs and with what the boot entries ask for.

use std::ops::Range;

use super::{Fault, Options, Place, Report};
use crate::copy::{Engine, Means};
use crate::discoverable::Tree;
use crate::formats::FormatError;
use crate::image::sealed::{Sealed, sealed};
use crate::image::{Image, Partition, file_at};
use crate::inspect;
use crate::progress::Cancelled;
use crate::read::{self, Bytes};
use crate::verity::{self, Checked, Data, Layout, RootHash, Runs};

/// As many runs of blocks of one kind are told one by one.
const TOLD: usize = 20;
/// For as many runs of blocks, the file is looked for.
const NAMED: usize = 3;

/// A tree that was recomputed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeReport {
    /// The partition with the hashes.
    pub partition: u32,
    /// The partition with the data, if it was compared.
    pub data: Option<u32>,
    /// The hash of the top block.
    pub root_hash: Option<RootHash>,
}

/// Checks all trees of an image.
pub(super) fn check(image: &Image, options: Options<'_>, report: &mut Report) -> Result<(), Cancelled> {
    let sealed = sealed(image);
    for one in &sealed {
        check_one(one, image, options, report)?;
    }
    let roots: Vec<_> = report.trees.iter().filter_map(|tree| tree.root_hash).collect();
    if !roots.is_empty() && roots.len() == sealed.len() {
        check_entries(image, &roots, report);
    }
    Ok(())
}

fn check_one(sealed: &Sealed<'_>, image: &Image, options: Options<'_>, report: &mut Report) -> Result<(), Cancelled> {
    let Sealed { hashes, area, data, .. } = sealed;
    let (place, number) = (Place::Partition(hashes.number), hashes.number);
    let faults = area.faults(hashes.bytes().len()).into_iter();
    report.faults.extend(faults.map(|fault| Fault::structure(place, fault)));
    if let Some(why) = area.unsupported() {
        report.notes.push(format!("the dm-verity tree in partition {number} cannot be recomputed here: {why}"));
    }
    let Some(layout) = area.layout().filter(|layout| layout.size() <= hashes.bytes().len()) else { return Ok(()) };
    match data {
        Some(_) => {}
        None if image.is_bare() => report.notes.push("the data of this dm-verity tree is in another file".to_owned()),
        None => {
            let why = format!("is for {} bytes of data, and no partition that could have them", layout.data_size());
            report.add_fault(place, "dm-verity tree", why);
        }
    }
    let bytes = data.map(Partition::bytes);
    let means = Means {
        options: crate::copy::Options { threads: options.jobs, engine: Engine::Auto },
        progress: options.progress,
        cancel: options.cancel,
    };
    let wanted = sealed.by_guids();
    let checked = verity::check(layout, bytes.as_ref().map(|bytes| bytes as &dyn Data), &hashes.bytes(), wanted, means);
    let checked = match checked {
        Ok(checked) => checked,
        Err(FormatError::Cancelled(cancelled)) => return Err(cancelled),
        Err(FormatError::Read(error)) => {
            report.faults.push(Fault::of_error(place, "dm-verity tree", error));
            return Ok(());
        }
        Err(error) => {
            report.add_fault(place, "dm-verity tree", error.to_string());
            return Ok(());
        }
    };
    report.add_data(sealed, layout, &checked.data);
    report.add_hashes(sealed, layout, &checked);
    if let Some((root, wanted)) = checked.root.zip(wanted).filter(|(root, wanted)| root != wanted) {
        report.add_root(sealed, root, wanted, checked.is_top_damaged);
    }
    report.trees.push(TreeReport { partition: number, data: data.map(|data| data.number), root_hash: checked.root });
    Ok(())
}

impl Report {
    fn add_fault(&mut self, place: Place, what: &str, why: String) {
        self.faults.push(Fault::structure(place, read::Fault { what: what.to_owned(), why }));
    }

    /// Tells of data blocks whose digest is another, and which file has them.
    fn add_data(&mut self, sealed: &Sealed<'_>, layout: &Layout, runs: &Runs) {
        let Some(data) = sealed.data else { return };
        let place = Place::Partition(data.number);
        let size = layout.shape().data_block_size.bytes();
        let mut told = 0;
        for (index, run) in runs.first.iter().take(TOLD).enumerate() {
            let at = run.start.saturating_mul(size);
            let file = if index < NAMED { file_at(data, at).or_else(|| file_in(data, at, size)) } else { None };
            let file = file.map_or(String::new(), |path| format!(", in {path}"));
            let (what, verb) = named("data block", run);
            let tree = sealed.hashes.number;
            self.add_fault(place, &what, format!("{verb} the dm-verity tree in partition {tree} (byte {at}{file})"));
            told += run.end - run.start;
        }
        self.add_rest(place, "data blocks", runs.blocks - told);
    }

    /// Tells of hash blocks whose digest is another.
    fn add_hashes(&mut self, sealed: &Sealed<'_>, layout: &Layout, checked: &Checked) {
        let place = Place::Partition(sealed.hashes.number);
        let size = layout.shape().hash_block_size.bytes();
        let alone = checked.hashes.iter().map(|runs| (runs, "; all that it is for is right"));
        let unsure = checked.unsure.iter().map(|runs| (runs, ", and what is below it differs, too"));
        let levels = layout.levels().len();
        for (level, found) in (0..levels).zip(alone).chain((0..levels).zip(unsure)) {
            let (runs, rest) = found;
            // Faults of the top are those of the root hash.
            let Some(start) = layout.levels().get(level).map(|level| level.start.0) else { continue };
            if level + 1 == levels {
                continue;
            }
            let mut told = 0;
            for run in runs.first.iter().take(TOLD) {
                let at = start.saturating_add(run.start.saturating_mul(size));
                let (what, verb) = named("hash block", run);
                let what = format!("{what} of level {level}");
                self.add_fault(place, &what, format!("{verb} the level above (byte {at}){rest}"));
                told += run.end - run.start;
            }
            self.add_rest(place, &format!("hash blocks of level {level}"), runs.blocks - told);
        }
        if checked.spare > 0 {
            let why = format!("{} of them have something behind their last digest", checked.spare);
            self.add_fault(place, "hash blocks", why);
        }
    }

    fn add_rest(&mut self, place: Place, what: &str, blocks: u64) {
        if blocks > 0 {
            self.add_fault(place, what, format!("{blocks} more of them do not match the dm-verity tree"));
        }
    }

    /// Tells of a root hash that is not that of the GUIDs.
    fn add_root(&mut self, sealed: &Sealed<'_>, root: RootHash, wanted: RootHash, is_top_damaged: bool) {
        let Some(data) = sealed.data else { return };
        let (hashes, number) = (sealed.hashes, sealed.hashes.number);
        if is_top_damaged {
            let why = format!("hashes to {root}, but that over the blocks below it is {wanted}, as the GUIDs say");
            return self.add_fault(Place::Partition(number), "top hash block", why);
        }
        for (partition, is, half, which) in [
            (data, wanted.data_guid(), root.data_guid(), "first"),
            (hashes, wanted.hash_guid(), root.hash_guid(), "last"),
        ] {
            if is != half {
                let why = format!("is {is}, but the {which} half of the root hash in partition {number} is {half}");
                self.add_fault(Place::Partition(partition.number), "GUID", why);
            }
        }
    }
}

/// The file that has any byte of a block: its first ones may be metadata.
fn file_in(data: &Partition, at: u64, size: u64) -> Option<String> {
    // Other formats have to be read for that, whole.
    matches!(data.format(), Some(crate::read::Format::Ext4 | crate::read::Format::Erofs))
        .then(|| file_at(data, at.saturating_add(size - 1)))
        .flatten()
}

/// A run of blocks, and what is wrong with it.
fn named(what: &str, run: &Range<u64>) -> (String, &'static str) {
    if run.end - run.start == 1 {
        (format!("{what} {}", run.start), "does not match")
    } else {
        (format!("{what}s {} to {}", run.start, run.end - 1), "do not match")
    }
}

/// Looks for boot entries that ask for a tree which is not here.
fn check_entries(image: &Image, roots: &[RootHash], report: &mut Report) {
    let Some(boot) = inspect::boot(image) else { return };
    for entry in &boot.entries {
        let words = entry.options.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        for (name, value) in words.filter(|(name, _)| Tree::ALL.iter().any(|tree| tree.hash_parameter() == *name)) {
            if !value.parse().is_ok_and(|root: RootHash| roots.contains(&root)) {
                let there = roots.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
                let why = format!("asks for {name}={value}, but the root hash of the image is {there}");
                report.add_fault(Place::Partition(boot.partition), &format!("boot entry {}", entry.id), why);
            }
        }
    }
}
