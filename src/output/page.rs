//! A text that is written from its first byte to its last: to a file, or to anything that takes bytes in order.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::target::{self, Found};
use super::{OutputError, Pending, Privacy, Target, publish};

/// Where a text goes.
#[derive(Debug)]
pub enum Page {
    /// A file, which appears when it is whole.
    File(Pending),
    /// A terminal, a pipe, /dev/null or anything that is open already: it is written through.
    Stream(PathBuf),
}

impl Page {
    /// Judges where a text is to go; `-` is standard output.
    ///
    /// # Errors
    /// If it is a directory, a disk, a socket or a link that leads nowhere, or a file that cannot be made.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        if path == Path::new("-") {
            return Ok(Self::Stream("/dev/stdout".into()));
        }
        match target::look(path)? {
            Found::Nothing | Found::File => Pending::create(Target::find(path)?, Privacy::Usual).map(Self::File),
            Found::Descriptor(_) => Ok(Self::Stream(path.to_owned())),
            Found::Special(kind) if kind.is_fifo() || kind.is_char_device() => Ok(Self::Stream(path.to_owned())),
            Found::Special(kind) => Err(target::refuse(path, kind)),
        }
    }

    /// Writes all of the text.
    pub fn write(self, text: &[u8]) -> Result<(), OutputError> {
        match self {
            Self::File(mut file) => {
                file.write(text)?;
                publish(vec![file])
            }
            Self::Stream(path) => {
                let written = stream(&path).and_then(|mut stream| stream.write_all(text));
                written.map_err(OutputError::io(&path, "cannot be written"))
            }
        }
    }
}

/// Opens what is written through. Our own outputs are not opened again: other programs that write to them go on after
/// our text.
fn stream(path: &Path) -> io::Result<File> {
    let own = |number: u32| Path::new("/proc").join(std::process::id().to_string()).join(format!("fd/{number}"));
    let descriptor = match target::look(path) {
        Ok(Found::Descriptor(descriptor)) => Some(descriptor),
        _ => None,
    };
    match descriptor {
        _ if path == Path::new("/dev/stdout") => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Some(descriptor) if descriptor == own(1) => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Some(descriptor) if descriptor == own(2) => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        Some(descriptor) => OpenOptions::new().append(true).open(descriptor),
        None => OpenOptions::new().write(true).open(path),
    }
}
