//! The files of a build, until they get their final names.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Forms, LAYOUT_NAME};
use crate::formats::Format;
use crate::output::{Directory, OutputError, Pending, Privacy, Scratch, Target, publish};

/// What a build of a whole image gives: `<name>.img`, or files of other forms, and `layout.json` in a directory. Dropped
/// before it is published, it takes all that was made with it.
#[derive(Debug)]
pub struct Outputs {
    /// The raw image; without a name in the end if it is only a step to other forms.
    image: Pending,
    /// Whether it is asked for.
    with_image: bool,
    /// All other forms.
    forms: Vec<(Format, Pending)>,
    block_map: Option<Pending>,
    /// The files of an update; the last one lists the others.
    split: Vec<Pending>,
    layout: Pending,
    privacy: Privacy,
    /// The directory that an installer saw, with what it left there.
    scratch: Option<Scratch>,
    // Last: it goes only when it is empty.
    directory: Directory,
}

impl Outputs {
    /// Prepares to put files of these forms and of this name, and their plan, into `out`.
    ///
    /// # Errors
    /// If one of them is something there that is no regular file, or cannot be made.
    pub fn open(out: &Path, name: &str, forms: &Forms, privacy: Privacy) -> Result<Self, OutputError> {
        let directory = Directory::open(out)?;
        let pending = |suffix: &str| Pending::create(directory.target(format!("{name}{suffix}"))?, privacy);
        let with_image = forms.formats().contains(&Format::Raw);
        let block_map = forms.block_map().then(|| pending(".img.bmap")).transpose()?;
        let first = forms.formats().first().copied().unwrap_or(Format::Raw);
        let others = forms.formats().iter().filter(|format| **format != Format::Raw);
        let forms =
            others.map(|&format| Ok((format, pending(format.suffix())?))).collect::<Result<_, OutputError>>()?;
        // Under a name that is not wanted there may be anything.
        let image = pending(if with_image { Format::Raw } else { first }.suffix())?;
        let layout = Pending::create(directory.target(LAYOUT_NAME)?, Privacy::Usual)?;
        Ok(Self { image, with_image, forms, block_map, split: Vec::new(), layout, privacy, scratch: None, directory })
    }

    /// The image.
    pub(super) fn image(&self) -> &Pending {
        &self.image
    }

    /// Where they will be.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Another file beside them, which is published with them if it is given back.
    pub(super) fn another(&self, name: &str) -> Result<Pending, OutputError> {
        Pending::create(self.directory.target(name)?, self.privacy)
    }

    /// Whether that file can be made.
    pub(super) fn check_another(&self, name: &str) -> Result<(), OutputError> {
        self.directory.target(name).map(drop)
    }

    /// Takes the files of an update.
    pub(super) fn add_split(&mut self, files: Vec<Pending>) {
        self.split = files;
    }

    /// The files of an update.
    pub(super) fn split(&self) -> &[Pending] {
        &self.split
    }

    /// The block map, if one is asked for.
    pub(super) fn block_map(&self) -> Option<&Pending> {
        self.block_map.as_ref()
    }

    /// All files with the disk in them.
    pub(super) fn disks(&self) -> impl Iterator<Item = (Format, &Pending)> {
        let image = self.with_image.then_some((Format::Raw, &self.image));
        image.into_iter().chain(self.forms.iter().map(|(format, file)| (*format, file)))
    }

    /// The plan, which is small.
    pub(super) fn write_layout(&mut self, json: &str) -> Result<(), OutputError> {
        self.layout.write(json.as_bytes())
    }

    /// A directory for an installer's rehearsal, beside the image.
    ///
    /// # Errors
    /// If what the installer leaves there could not be moved to where the outputs are.
    pub(super) fn rehearsal(&self) -> Result<Scratch, OutputError> {
        let directories = [&self.image, &self.layout].map(|file| file.target().directory());
        let mut together = directories.into_iter().chain([self.directory.path()]).map(filesystem);
        let first = together.next();
        if !together.all(|other| Some(other) == first) {
            let why = "leads to another filesystem, where installBootloader could not put its files; remove the link";
            return Err(OutputError::refused(self.image.target().named(), why));
        }
        Scratch::beside(self.image.target().directory())
    }

    /// Whether all that a rehearsal has left could be put beside the image.
    pub(super) fn check(&self, rehearsal: &Scratch) -> Result<(), OutputError> {
        self.directory.check(rehearsal)
    }

    /// Shows the image and its plan to an installer, by their names in a directory of their own.
    pub(super) fn show(&mut self, name: &str) -> Result<&Scratch, OutputError> {
        let scratch = Scratch::beside(self.image.target().directory())?;
        self.image.show_as(&scratch.path().join(name))?;
        self.layout.show_as(&scratch.path().join(LAYOUT_NAME))?;
        Ok(self.scratch.insert(scratch))
    }

    /// Takes what an installer may have put in the place of the image and of its plan.
    pub(super) fn look_again(&mut self) -> Result<(), OutputError> {
        self.image.look_again()?;
        self.layout.look_again()
    }

    /// Gives everything its final name, the plan first.
    pub(super) fn publish(self) -> Result<(), OutputError> {
        // What is declared first goes last, should this fail.
        let Self { directory, scratch, image, with_image, forms, block_map, split, layout, privacy: _ } = self;
        if let Some(scratch) = &scratch {
            let shown = [&image, &layout].map(|file| file.shown_as().unwrap_or_default().to_owned());
            directory.adopt(scratch, &shown)?;
        }
        let image = with_image.then_some(image);
        let forms = forms.into_iter().map(|(_, file)| file);
        publish([layout].into_iter().chain(block_map).chain(forms).chain(split).chain(image).collect())?;
        directory.keep()
    }
}

/// The filesystem that a directory is on.
fn filesystem(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

/// A single file on its way to its final name.
#[derive(Debug)]
pub struct OutputFile {
    file: Pending,
    // Last: it goes only when it is empty.
    directory: Directory,
}

impl OutputFile {
    /// Prepares to make the file `out`, with the directories that lead to it.
    ///
    /// # Errors
    /// If there is something that is no regular file, or the file cannot be made.
    pub fn open(out: &Path, privacy: Privacy) -> Result<Self, OutputError> {
        if out == Path::new("-") {
            let why = "is no file, and this cannot go to standard output; give the name of a file, such as ./-";
            return Err(OutputError::refused(out, why));
        }
        let target = Target::find(out)?;
        let directory = Directory::open(target.directory())?;
        Ok(Self { file: Pending::create(target, privacy)?, directory })
    }

    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    pub(crate) fn set_len(&self, size: u64) -> Result<(), OutputError> {
        self.file.set_len(size)
    }

    pub(crate) fn publish(self) -> Result<(), OutputError> {
        let Self { directory, file } = self;
        publish(vec![file])?;
        directory.keep()
    }

    /// Gives both files their final names, this one last.
    pub(crate) fn publish_after(self, first: Self) -> Result<(), OutputError> {
        let (of_first, directory) = (first.directory, self.directory);
        publish(vec![first.file, self.file])?;
        of_first.keep()?;
        directory.keep()
    }
}
