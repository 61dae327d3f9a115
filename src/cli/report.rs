//! Prints results to standard output.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use indicatif::{BinaryBytes, HumanCount};
use sane_image::build::Built;
use sane_image::convert::Converted;
use sane_image::flash::Flashed;
use sane_image::formats::Format;
use sane_image::plan::{ImagePlan, Partition, Role};

use super::verify;

/// A line about each file, and one about each partition.
pub(super) fn images(built: &[Built], plan: &ImagePlan, elapsed: Duration) -> Result<()> {
    let mut out = io::stdout().lock();
    built.iter().try_for_each(|built| partition_line(&mut out, built, elapsed))?;
    partitions(plan).try_for_each(|line| Ok(writeln!(out, "{line}")?))
}

/// A line about each partition.
pub(super) fn partitions(plan: &ImagePlan) -> impl Iterator<Item = String> + '_ {
    plan.partitions.iter().map(|partition| describe(partition, plan))
}

/// One line about a finished bare partition.
pub(super) fn partition(built: &Built, elapsed: Duration) -> Result<()> {
    partition_line(&mut io::stdout().lock(), built, elapsed)
}

/// One line about an image in a new form.
pub(super) fn converted(out: &Path, format: Format, converted: &Converted, elapsed: Duration) -> Result<()> {
    writeln!(
        io::stdout().lock(),
        "{}: {format}, {} ({} on this disk) of a disk of {}, converted in {:.1} s",
        out.display(),
        BinaryBytes(converted.size),
        BinaryBytes(converted.allocated),
        BinaryBytes(converted.disk),
        elapsed.as_secs_f64(),
    )?;
    if let Some((path, mapped)) = &converted.block_map {
        writeln!(io::stdout().lock(), "{}: block map, {} of the disk", path.display(), BinaryBytes(*mapped))?;
    }
    Ok(())
}

/// One line about a device that was written.
pub(super) fn flashed(device: &str, flashed: &Flashed, elapsed: Duration) -> Result<()> {
    let Flashed { written, zeros, free, discarded, writing, is_compared, .. } = *flashed;
    let seconds = elapsed.as_secs_f64();
    let free = match free {
        0 => String::new(),
        _ if discarded == 0 => format!(", {} of free space left as it was", BinaryBytes(free)),
        _ => format!(", {} of free space discarded", BinaryBytes(discarded)),
    };
    let rate = written.saturating_mul(1000).checked_div(u64::try_from(writing.as_millis())?).unwrap_or(written);
    let compared = if is_compared { "read back and compared" } else { "not read back" };
    writeln!(
        io::stdout().lock(),
        "{device}: {} written at {}/s ({} of it zeros){free}, {compared}, in {seconds:.1} s",
        BinaryBytes(written),
        BinaryBytes(rate),
        BinaryBytes(zeros),
    )?;
    Ok(())
}

/// The plan as `layout.json` has it.
pub(super) fn json(plan: &ImagePlan) -> Result<()> {
    Ok(io::stdout().lock().write_all(plan.to_json().as_bytes())?)
}

/// The plan for people: the disk from its first byte to its last.
pub(super) fn plan(plan: &ImagePlan) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}.img: {} ({} bytes), sectors of {} bytes, GPT {}",
        plan.name,
        BinaryBytes(plan.size),
        plan.size,
        plan.sector_size,
        plan.disk_guid
    )?;
    for partition in &plan.partitions {
        writeln!(out, "{}", describe(partition, plan))?;
        writeln!(
            out,
            "      at byte {}, {} bytes; name {:?}, GUID {}",
            partition.offset, partition.size, partition.name, partition.guid
        )?;
    }
    writeln!(out, "store: {} paths", HumanCount(plan.store_paths.len() as u64))?;
    Ok(())
}

fn partition_line(out: &mut impl Write, built: &Built, elapsed: Duration) -> Result<()> {
    let copied = built.copied.map_or(String::new(), |copied| format!(" ({copied})"));
    writeln!(
        out,
        "{}: {} ({} on this disk), built in {:.1} s{copied}",
        built.path.display(),
        BinaryBytes(built.size),
        BinaryBytes(built.allocated),
        elapsed.as_secs_f64(),
    )?;
    if let Some(report) = &built.proved {
        writeln!(out, "verified: {}", verify::summary(report, None))?;
    }
    Ok(())
}

fn describe(partition: &Partition, plan: &ImagePlan) -> String {
    let role = match partition.role {
        Role::BiosBoot => "bios:",
        Role::Boot => "boot:",
        Role::Xbootldr => "xbootldr:",
        Role::Nix => "nix: ",
        Role::Verity => "verity:",
        Role::Slot(_) => "slot:",
        Role::Extra(_) => "also:",
    };
    let start = format!("{role} partition {}, {}", partition.number, BinaryBytes(partition.size));
    let Some(fs) = &partition.filesystem else {
        let swap = partition.swap.as_ref().map(|swap| format!(" swap, label {:?}, UUID {}", swap.label, swap.uuid));
        return format!("{start}{}, {:?}", swap.unwrap_or_default(), partition.name);
    };
    let has_xbootldr = plan.partitions.iter().any(|partition| partition.role == Role::Xbootldr);
    let kernels = if has_xbootldr { Role::Xbootldr } else { Role::Boot };
    let room = match plan.boot.and_then(|boot| boot.for_people()) {
        Some(generations) if partition.role == kernels => {
            format!(" (room for {} more generations)", HumanCount(generations))
        }
        _ => String::new(),
    };
    format!(
        "{start} {} on {}, label {:?}, UUID {}: {} files of {}, {} free{room}",
        fs.fs_type,
        fs.mount_point,
        fs.label,
        fs.uuid,
        HumanCount(fs.files),
        BinaryBytes(fs.file_bytes),
        BinaryBytes(fs.free),
    )
}
