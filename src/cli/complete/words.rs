//! The command line as far as it has been typed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory};
use sane_image::image::PartName;

use super::super::args::Cli;

/// What the words before the one at the cursor say.
pub(super) struct Typed {
    pub(super) image: Option<PathBuf>,
    pub(super) part: Option<PartName>,
}

impl Typed {
    /// From this program's own arguments, which a shell's script has made of its line: `sane-image -- WORD…`.
    pub(super) fn from_shell() -> Self {
        let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
        let cursor = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        let cursor = cursor.unwrap_or_else(|| words.len().saturating_sub(1));
        Self::parse(words.iter().take(cursor).map(|word| unquote(word)))
    }

    fn parse(words: impl Iterator<Item = OsString>) -> Self {
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).unwrap_or_default();
        let arguments = matches.subcommand().map(|(_, arguments)| arguments);
        Self {
            image: arguments.and_then(|said| value(said, "image")),
            part: arguments.and_then(|said| value(said, "part")),
        }
    }
}

fn value<T: Clone + Send + Sync + 'static>(said: &ArgMatches, name: &str) -> Option<T> {
    said.try_get_one(name).ok().flatten().cloned()
}

/// A word without its quotes, as the shell would give it to a command: also one whose quote is still open. Variables
/// such as `$IMAGE` stay as they are: nothing is run, and only `~` is looked up.
pub(super) fn unquote(word: &OsStr) -> OsString {
    let Some(text) = word.to_str() else { return word.to_owned() };
    let closed = ["", "'", "\""].iter().find_map(|quote| shlex::split(&format!("{text}{quote}")));
    let plain = match closed.as_deref() {
        Some([one]) => one.as_str(),
        _ => text,
    };
    match (plain.strip_prefix("~/"), std::env::home_dir()) {
        (Some(below), Some(home)) if text.starts_with('~') => home.join(below).into_os_string(),
        _ => plain.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_part_are_found_among_options() {
        for (line, image, part) in [
            ("sane-image ls", None, None),
            ("sane-image ls a.img", Some("a.img"), None),
            ("sane-image ls -l a.img nix", Some("a.img"), Some(PartName::Nix)),
            ("sane-image extract --out there a.img 3", Some("a.img"), Some(PartName::Number(3))),
            ("sane-image extract a.img --links keep boot x y", Some("a.img"), Some(PartName::Boot)),
            ("sane-image cat a.img nothing", Some("a.img"), None),
            ("sane-image nothing a.img boot", None, None),
            ("sane-image build --no-such a.img", None, None),
        ] {
            let typed = Typed::parse(line.split(' ').map(OsString::from));
            assert_eq!((typed.image, typed.part), (image.map(PathBuf::from), part), "{line}");
        }
    }

    #[test]
    fn quotes_are_taken_off() {
        for (word, plain) in [
            ("plain", "plain"),
            (r"My\ Image.img", "My Image.img"),
            ("'My Im", "My Im"),
            ("\"My Im", "My Im"),
            ("'it'\\''s'", "it's"),
            ("$HOME/x", "$HOME/x"),
            ("$(touch x)", "$(touch x)"),
            ("", ""),
        ] {
            assert_eq!(unquote(OsStr::new(word)), plain, "{word}");
        }
    }
}
