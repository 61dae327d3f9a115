//! The files of one version for systemd-sysupdate: what goes into each slot, the unified kernel image, and the list of
//! their checksums.
//!
//! Source: sysupdate.d(5). Where there are hashes, the GUIDs of the partitions are the two halves of the root hash, and the
//! system finds them by these. So the GUID is in the name of the file, for the pattern `@u`, and the partition gets it
//! wherever the file is written. Where there are none, the system finds the store by the name of its partition.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::outputs::Outputs;
use super::{BuildError, Context, Forms, Prepared};
use crate::formats::{self, Format, FormatError, Slice, Source};
use crate::output::Pending;
use crate::plan::{Partition, Role};
use crate::source::tree::{FileTree, NodeIndex, NodeKind};
use crate::spec::Updates;

/// The list of checksums, as sha256sum(1) writes it.
pub(super) const SUMS: &str = "SHA256SUMS";
/// Where unified kernel images are (Boot Loader Specification, type 2).
const UNIFIED: [&str; 2] = ["EFI", "Linux"];
const EFI: &str = ".efi";
/// The bytes that are written at once.
const AT_ONCE: usize = 1 << 20;

/// Makes the files of the version that is on the disk. The list is the last of them.
pub(super) fn make(
    source: &dyn Source,
    prepared: &Prepared,
    outputs: &Outputs,
    forms: &Forms,
    context: Context<'_>,
) -> Result<Vec<Pending>, BuildError> {
    let Some(updates) = &prepared.spec.updates else { return Ok(Vec::new()) };
    let mut split = Split { outputs, files: Vec::new(), sums: BTreeMap::new() };
    let is_sealed = prepared.spec.verity.is_some();
    for (partition, kind, range) in slots(prepared) {
        let ending = format!(".{kind}.raw.zst");
        let name = match is_sealed {
            true => format!("{}_{}{ending}", updates.stem(), partition.guid),
            false => updates.stem() + &ending,
        };
        split.warn_of_others(updates, &name, &ending, context);
        let making = forms.making(Format::Zst, prepared, context);
        split.add(&name, |to| formats::stream(Format::Zst, &Slice::new(source, range.clone()), to, making))?;
    }
    match kernel(prepared, updates)? {
        Some(range) => {
            let slice = Slice::new(source, range);
            let making = forms.making(Format::Raw, prepared, context);
            split.add(&(updates.stem() + EFI), |to| formats::stream(Format::Raw, &slice, to, making))?;
        }
        None => context.progress.warn(
            "updates: EFI/Linux has no unified kernel image, so that there is none among the files of the update",
        ),
    }
    split.finish()
}

/// Whether the files whose names are known beforehand can be made; not those with a hash in their names.
///
/// # Errors
/// If something that is no file is where one goes.
pub(super) fn check(prepared: &Prepared, outputs: &Outputs) -> Result<(), BuildError> {
    let Some(updates) = &prepared.spec.updates else { return Ok(()) };
    let known = [SUMS.to_owned(), updates.stem() + EFI];
    Ok(known.iter().try_for_each(|name| outputs.check_another(name))?)
}

/// The partitions that an update writes, what their files are called, and the bytes of the disk that are in these.
fn slots(prepared: &Prepared) -> impl Iterator<Item = (&Partition, &'static str, Range<u64>)> {
    prepared.plan.partitions.iter().filter_map(|partition| {
        let (kind, size) = match partition.role {
            // What is behind it in its slot is nobody's.
            Role::Nix => ("store", prepared.nix.size()),
            Role::Verity => ("verity", partition.verity.as_ref()?.hash_size),
            _ => return None,
        };
        Some((partition, kind, partition.offset..partition.offset + size))
    })
}

/// The bytes of the disk that are the unified kernel image, if there is one.
fn kernel(prepared: &Prepared, updates: &Updates) -> Result<Option<Range<u64>>, BuildError> {
    let found = prepared.plan.partitions.iter().find_map(|partition| {
        let fat = prepared.fats.of(partition.role)?;
        let kernels = kernels(&fat.tree);
        (!kernels.is_empty()).then_some((partition.offset, fat, kernels))
    });
    let Some((start, fat, kernels)) = found else { return Ok(None) };
    let is_ours = |node: &&NodeIndex| {
        let name = fat.tree.name(**node).to_string_lossy().into_owned();
        let rest = name.strip_prefix(&updates.stem()).unwrap_or_default();
        rest == EFI || rest.starts_with('+')
    };
    match (kernels.as_slice(), kernels.iter().find(is_ours)) {
        (_, Some(&node)) | (&[node], None) => {
            let place = fat.layout.byte_range(&fat.tree, node);
            Ok(Some(start + place.start..start + place.end))
        }
        (others, None) => Err(BuildError::ManyKernels { found: others.len(), wanted: updates.stem() + EFI }),
    }
}

fn kernels(tree: &FileTree) -> Vec<NodeIndex> {
    let directory = tree.find(UNIFIED.iter().map(OsStr::new));
    let is_kernel = |node: &NodeIndex| {
        let name = tree.name(*node).as_encoded_bytes().to_ascii_lowercase();
        matches!(tree.kind(*node), NodeKind::File { .. }) && name.ends_with(EFI.as_bytes())
    };
    directory.into_iter().flat_map(|directory| tree.children(directory)).filter(is_kernel).collect()
}

/// The files that are made so far.
struct Split<'a> {
    outputs: &'a Outputs,
    files: Vec<Pending>,
    sums: BTreeMap<String, String>,
}

impl Split<'_> {
    fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), FormatError>,
    ) -> Result<(), BuildError> {
        let file = self.outputs.another(name)?;
        let sum = write_hashed(file.file(), write);
        let sum = sum.map_err(|error| BuildError::Form { path: file.target().named().to_owned(), error })?;
        self.sums.insert(name.to_owned(), sum);
        self.files.push(file);
        Ok(())
    }

    /// Warns of files of an earlier build of this version: a program that looks at a directory may take them.
    fn warn_of_others(&self, updates: &Updates, name: &str, ending: &str, context: Context<'_>) {
        let start = updates.stem() + "_";
        let entries = fs::read_dir(self.outputs.directory()).into_iter().flatten().flatten();
        for entry in entries {
            let other = entry.file_name().to_string_lossy().into_owned();
            if other != name && other.starts_with(&start) && other.ends_with(ending) {
                let path = entry.path();
                context.progress.warn(&format!(
                    "{}: is of another build of version {}, and systemd-sysupdate might take it; remove it",
                    path.display(),
                    updates.version
                ));
            }
        }
    }

    fn finish(self) -> Result<Vec<Pending>, BuildError> {
        let Self { outputs, mut files, sums } = self;
        let text: String = sums.iter().map(|(name, sum)| format!("{sum} *{name}\n")).collect();
        let mut list = outputs.another(SUMS)?;
        list.write(text.as_bytes())?;
        files.push(list);
        Ok(files)
    }
}

/// Has `write` write a file. Returns the SHA-256 of what it wrote, in hexadecimal.
fn write_hashed(
    to: &File,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), FormatError>,
) -> Result<String, FormatError> {
    let mut to = Hashed { to: BufWriter::with_capacity(AT_ONCE, to), hash: Sha256::new() };
    write(&mut to)?;
    to.flush().map_err(FormatError::Write)?;
    Ok(to.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes, and hashes what is written.
struct Hashed<'a> {
    to: BufWriter<&'a File>,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
