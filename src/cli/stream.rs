//! Writes an image to standard output.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Result;
use sane_image::formats::Format;

use super::input::BadInput;
use super::look;

/// Bytes that are gathered.
const GATHERED: usize = 1 << 20;

/// The reader of the stream is gone before its end.
#[derive(Debug, thiserror::Error)]
#[error("standard output: the reader ended early; it has only a part of the image")]
pub(super) struct BrokenStream;

/// Whether this name of a file means standard output.
pub(super) fn is_meant(out: &Path) -> bool {
    out == Path::new("-")
}

/// Refuses standard output where it cannot be used.
pub(super) fn check(format: Format) -> Result<()> {
    if !format.is_stream() {
        let streams: Vec<_> = Format::ALL.into_iter().filter(|format| format.is_stream()).map(Format::name).collect();
        let can = streams.join(" and ");
        let problem = format!("--out -: {format} cannot be written to a pipe; these can: {can}");
        return Err(BadInput(problem).into());
    }
    if io::stdout().is_terminal() {
        look::bad_usage("--out - writes no image to a terminal; redirect standard output to a file or a pipe");
    }
    Ok(())
}

/// Standard output. The caller flushes it. What is left in it after an error is dropped.
pub(super) fn stdout() -> Result<Stdout> {
    let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok(Stdout(Some(BufWriter::with_capacity(GATHERED, file))))
}

/// See [`stdout`].
pub(super) struct Stdout(Option<BufWriter<File>>);

impl io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        drop(self.0.take().map(BufWriter::into_parts));
    }
}
