//! `sane-image ls`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use sane_image::read::resolve::Last;
use sane_image::read::{Kind, Metadata, escape, walk};

use super::complete;
use super::look::{self, Opened, Outcome, PartArgs};

/// List files in an image.
///
/// Prints one name per line, sorted by bytes, hidden files too. Control characters, bytes that are not UTF-8 and
/// backslashes in names are written as \n, \xff and \\, so that no name can change a terminal. PATH starts at the
/// partition's root. An absolute PATH that is not found there is looked up as in the running system: /nix/store/… works
/// wherever the partition is mounted.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What is on the boot partition?
    sane-image ls nixos.img boot -R
  How large are the files of a store path?
    sane-image ls nixos.img nix -lR /nix/store/…-hello-2.12.1")]
pub(super) struct LsArgs {
    #[command(flatten)]
    part: PartArgs,
    /// What to list: of a directory, the files in it [default: the root directory]
    #[arg(value_name = "PATH", add = complete::path())]
    paths: Vec<PathBuf>,
    /// Print mode, owner, group, size in bytes, time (UTC) and the targets of links
    #[arg(short, long)]
    long: bool,
    /// List subdirectories, too, each file with its path
    #[arg(short = 'R', long)]
    recursive: bool,
    /// End each name with NUL instead of a newline, and do not escape it
    #[arg(short = '0', long, conflicts_with = "long")]
    null: bool,
}

pub(super) fn run(args: &LsArgs) -> Result<Outcome> {
    let opened = args.part.open()?;
    let root = [PathBuf::new()];
    let paths = if args.paths.is_empty() { &root[..] } else { &args.paths };
    let mut list = List { args, opened: &opened, out: look::stdout(), outcome: opened.outcome };
    for (i, path) in paths.iter().enumerate() {
        list.argument(path, i)?;
    }
    list.out.flush()?;
    Ok(list.outcome)
}

struct List<'a, W> {
    args: &'a LsArgs,
    opened: &'a Opened,
    out: W,
    outcome: Outcome,
}

impl<W: Write> List<'_, W> {
    fn argument(&mut self, path: &Path, index: usize) -> Result<()> {
        let found = match self.find(path) {
            Ok(found) => found,
            Err(error) => return self.complain(&error),
        };
        let (place, metadata) = found;
        if metadata.kind != Kind::Directory {
            return self.line(path, &place, &metadata);
        }
        if self.args.paths.len() > 1 && !self.args.recursive && !self.args.null {
            let gap = if index > 0 { "\n" } else { "" };
            writeln!(self.out, "{gap}{}:", escape::path(path))?;
        }
        let mut walk = walk(self.opened.fs.as_ref(), &place);
        while let Some(found) = walk.next() {
            let found = match found.with_context(|| self.opened.name.clone()) {
                Ok(found) => found,
                Err(error) => {
                    self.complain(&error)?;
                    continue;
                }
            };
            if !self.args.recursive {
                walk.skip_directory();
            }
            let below = found.path.strip_prefix(&place).unwrap_or(&found.path);
            let shown = if self.args.recursive { path.join(below) } else { below.to_owned() };
            self.line(&shown, &found.path, &found.metadata)?;
        }
        Ok(())
    }

    /// A link is what it leads to, unless it is to be described, or leads nowhere.
    fn find(&self, path: &Path) -> Result<(PathBuf, Metadata)> {
        let describes = self.args.long && !path.as_os_str().as_bytes().ends_with(b"/");
        if describes {
            return self.opened.find(path, Last::Keep);
        }
        self.opened.find(path, Last::Follow).or_else(|_| self.opened.find(path, Last::Keep))
    }

    fn complain(&mut self, error: &anyhow::Error) -> Result<()> {
        self.out.flush()?;
        look::complain(error);
        self.outcome = Outcome::Failed;
        Ok(())
    }

    fn line(&mut self, shown: &Path, place: &Path, metadata: &Metadata) -> Result<()> {
        if self.args.null {
            self.out.write_all(shown.as_os_str().as_bytes())?;
            return Ok(self.out.write_all(&[0])?);
        }
        let name = escape::path(shown);
        if !self.args.long {
            return Ok(writeln!(self.out, "{name}")?);
        }
        write_details(&mut self.out, metadata)?;
        write!(self.out, "{name}")?;
        if metadata.kind == Kind::Symlink {
            match self.opened.fs.read_link(place).with_context(|| self.opened.name.clone()) {
                Ok(target) => write!(self.out, " -> {}", escape::name(&target))?,
                Err(error) => self.complain(&error)?,
            }
        }
        Ok(writeln!(self.out)?)
    }
}

fn write_details(out: &mut impl Write, metadata: &Metadata) -> io::Result<()> {
    let Metadata { uid, gid, len, mtime, .. } = metadata;
    write!(out, "{} {uid:>5} {gid:>5} {len:>12} {} ", mode(metadata), look::timestamp(*mtime))
}

/// The mode as `ls` writes it. Special files have a `?`, since their kinds are not known here.
fn mode(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Special => '?',
    };
    let bits = metadata.permissions;
    let has = |bit: u16| bits & bit != 0;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        text.push(if has(4 << shift) { 'r' } else { '-' });
        text.push(if has(2 << shift) { 'w' } else { '-' });
        text.push(match (has(1 << shift), has(special)) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        let mode = |kind, permissions| mode(&Metadata { kind, permissions, uid: 0, gid: 0, len: 0, mtime: 0 });
        for (kind, permissions, text) in [
            (Kind::File, 0o444, "-r--r--r--"),
            (Kind::Directory, 0o1777, "drwxrwxrwt"),
            (Kind::File, 0o6755, "-rwsr-sr-x"),
            (Kind::Symlink, 0o777, "lrwxrwxrwx"),
            (Kind::File, 0o7000, "---S--S--T"),
            (Kind::Special, 0o620, "?rw--w----"),
        ] {
            assert_eq!(mode(kind, permissions), text);
        }
    }
}
