//! What the commands of a grub.cfg do, as far as they decide what boots.

use std::collections::{BTreeMap, BTreeSet};

use super::super::FileReport;
use super::disk::Disk;
use super::entry::Boot;
use super::lexer::{Piece, Word};
use super::scope::{Scope, Value};
use super::script::Command;
use super::{search, test};
use crate::read::escape;

/// As much as is done for one configuration: bytes of commands with their variables replaced.
const MAX_WORK: usize = 1 << 22;
/// What a look at a file counts as.
pub(super) const LOOK: usize = 1 << 10;
/// As deep as functions call each other.
const MAX_DEPTH: usize = 160;
/// As many parameters as an entry has.
const MAX_PARAMETERS: usize = 8;
/// As long as a word is.
const MAX_WORD: usize = 1 << 14;
/// As many remarks of one kind as are made.
const MAX_REMARKS: usize = 20;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Yes,
    No,
    /// That depends on the machine.
    Unknown,
}

impl Status {
    pub(super) fn of(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }
}

/// A line of a menu.
pub(super) struct Item<'s> {
    /// As the menu shows it.
    pub(super) title: String,
    /// What stands behind the title: the parameters of the block, from the second on.
    pub(super) rest: Vec<Value>,
    /// What follows `--id`.
    pub(super) id: Option<String>,
    /// What is done when it is chosen.
    pub(super) block: &'s [Command<'s>],
    /// Whether it opens another menu.
    pub(super) is_menu: bool,
}

/// What commands add to.
#[derive(Default)]
pub(super) struct Sink<'s> {
    /// The menu.
    pub(super) items: Vec<Item<'s>>,
    /// What is to be booted.
    pub(super) boot: Boot,
    /// Whether the default entry is the one that GRUB saved.
    pub(super) is_saved: bool,
}

/// The running of a configuration.
pub(super) struct Run<'s, 'a> {
    pub(super) disk: &'a Disk<'a>,
    functions: BTreeMap<&'s str, &'s [Command<'s>]>,
    /// What may still be done, in bytes; `None` once there was more to do.
    left: Option<usize>,
    /// What is not followed, and what is hardly meant.
    pub(super) notes: BTreeSet<String>,
    /// What GRUB does not find.
    pub(super) missing: BTreeSet<String>,
}

impl<'s, 'a> Run<'s, 'a> {
    pub(super) fn new(disk: &'a Disk<'a>) -> Self {
        Self {
            disk,
            functions: BTreeMap::new(),
            left: Some(MAX_WORK),
            notes: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Whether all that was to be done was done.
    pub(super) fn is_whole(&self) -> bool {
        self.left.is_some()
    }

    /// Whether there is room for so much more work; the first time that there is none is told.
    pub(super) fn work(&mut self, much: usize) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(much));
        if self.left.is_none() {
            self.notes.insert("it does more than is looked at here".to_owned());
        }
        self.is_whole()
    }

    /// A file that an entry names; `raw` is how it is written. Nothing is found when there is no room for more work.
    pub(super) fn file(&mut self, raw: &str, path: Option<&str>, root: Option<&str>) -> FileReport {
        if !self.work(LOOK) {
            return FileReport { path: escape::text(raw), found: None };
        }
        self.disk.file(raw, path, root)
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < MAX_REMARKS {
            self.notes.insert(note);
        }
    }

    pub(super) fn miss(&mut self, missing: String) {
        if self.missing.len() < MAX_REMARKS {
            self.missing.insert(missing);
        }
    }

    /// Does commands in order; how the last one ended.
    pub(super) fn run(
        &mut self,
        commands: &'s [Command<'s>],
        scope: &mut Scope<'_>,
        sink: &mut Sink<'s>,
        depth: usize,
    ) -> Status {
        let mut status = Status::Yes;
        if depth > MAX_DEPTH {
            self.note("its functions call each other deeper than is looked at here".to_owned());
            return Status::Unknown;
        }
        let depth = depth.saturating_add(1);
        for command in commands {
            if !self.work(1) {
                return Status::Unknown;
            }
            status = match command {
                Command::Simple { words, block } => self.simple(words, block.as_deref(), scope, sink, depth),
                Command::Not(command) => match self.run(command, scope, sink, depth) {
                    Status::Yes => Status::No,
                    Status::No => Status::Yes,
                    Status::Unknown => Status::Unknown,
                },
                Command::If { branches, otherwise } => self.conditional(branches, otherwise, scope, sink, depth),
                Command::For { name, words, body } => {
                    let mut values = Vec::new();
                    words.iter().for_each(|word| self.expand(word, scope, &mut values));
                    for value in values {
                        scope.set(name, value);
                        self.run(body, scope, sink, depth);
                    }
                    Status::Yes
                }
                Command::While { is_until, condition, body } => {
                    let goes_on = if *is_until { Status::No } else { Status::Yes };
                    loop {
                        let met = self.run(condition, scope, sink, depth);
                        if met == goes_on || met == Status::Unknown {
                            self.run(body, scope, sink, depth);
                        }
                        if met != goes_on || !self.work(1) {
                            break Status::Yes;
                        }
                    }
                }
                Command::Function { name, body } => {
                    self.functions.insert(name, body);
                    Status::Yes
                }
            };
        }
        status
    }

    /// What depends on the machine is done in both ways.
    fn conditional(
        &mut self,
        branches: &'s [(Vec<Command<'s>>, Vec<Command<'s>>)],
        otherwise: &'s [Command<'s>],
        scope: &mut Scope<'_>,
        sink: &mut Sink<'s>,
        depth: usize,
    ) -> Status {
        for (condition, body) in branches {
            match self.run(condition, scope, sink, depth) {
                Status::Yes => return self.run(body, scope, sink, depth),
                Status::No => {}
                Status::Unknown => {
                    self.run(body, scope, sink, depth);
                }
            }
        }
        self.run(otherwise, scope, sink, depth)
    }

    fn simple(
        &mut self,
        words: &'s [Word<'s>],
        block: Option<&'s [Command<'s>]>,
        scope: &mut Scope<'_>,
        sink: &mut Sink<'s>,
        depth: usize,
    ) -> Status {
        let mut values = Vec::new();
        words.iter().for_each(|word| self.expand(word, scope, &mut values));
        let mut values = values.into_iter();
        let Some(Some(name)) = values.next() else { return Status::Unknown };
        let args: Vec<Value> = values.collect();
        if let Some((variable, value)) = assignment(&name) {
            scope.set(variable, Some(value.to_owned()));
            return Status::Yes;
        }
        if let Some(body) = self.functions.get(name.as_str()) {
            let body: &'s [Command<'s>] = body;
            return self.run(body, scope, sink, depth);
        }
        match name.as_str() {
            "set" => {
                let saved = |word: &Word<'_>| word.pieces.ends_with(&[SAVED]) || word.pieces.ends_with(&[SAVED_BARE]);
                for (arg, word) in args.iter().zip(words.iter().skip(1)) {
                    match (arg.as_deref().map(assignment), word.pieces.first()) {
                        (Some(Some((variable, value))), _) => {
                            if variable == "default" {
                                sink.is_saved = saved(word);
                            }
                            scope.set(variable, Some(value.to_owned()));
                        }
                        (None, Some(Piece::Text(text))) => {
                            if let Some((variable, _)) = assignment(text) {
                                scope.set(variable, None);
                            }
                        }
                        _ => {}
                    }
                }
                Status::Yes
            }
            "unset" => {
                args.iter().flatten().for_each(|variable| scope.unset(variable));
                Status::Yes
            }
            "export" => {
                for arg in args.iter().flatten() {
                    let variable = assignment(arg).map_or(arg.as_str(), |(variable, value)| {
                        scope.set(variable, Some(value.to_owned()));
                        variable
                    });
                    scope.export(variable);
                }
                Status::Yes
            }
            "true" | "insmod" | "echo" | "save_env" => Status::Yes,
            "false" => Status::No,
            "[" | "test" => test::test(self, &name, &args, scope),
            "load_env" => self.load_env(&args, scope),
            "menuentry" | "submenu" => {
                self.item(&name, args, block, sink);
                Status::Yes
            }
            name if name == "search" || name.starts_with("search.") => search::search(self, name, &args, scope),
            "source"
            | "."
            | "configfile"
            | "extract_entries_source"
            | "extract_entries_configfile"
            | "syslinux_configfile"
            | "legacy_configfile"
            | "normal" => {
                let file = args.iter().flatten().rfind(|arg| !arg.starts_with('-'));
                let file = file.map_or(String::new(), |file| format!(" {}", escape::text(file)));
                self.note(format!("{name}{file} is not followed"));
                Status::Unknown
            }
            "blscfg" => {
                self.note("blscfg makes entries of loader/entries".to_owned());
                Status::Unknown
            }
            name => {
                if !sink.boot.take(self, name, words, &args, scope) {
                    set_by_others(&args, scope);
                }
                Status::Unknown
            }
        }
    }

    /// Adds a line to the menu.
    fn item(&mut self, name: &str, args: Vec<Value>, block: Option<&'s [Command<'s>]>, sink: &mut Sink<'s>) {
        let Some(block) = block else { return };
        let mut titles = Vec::new();
        let mut id = None;
        let mut args = args.into_iter().map(Option::unwrap_or_default);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--id" => id = args.next(),
                "--class" | "--users" | "--hotkey" | "--source" => drop(args.next()),
                arg if arg.starts_with("--") => {
                    if let Some(value) = arg.strip_prefix("--id=") {
                        id = Some(value.to_owned());
                    }
                }
                _ => titles.push(arg),
            }
        }
        let mut titles = titles.into_iter();
        if let Some(title) = titles.next() {
            let rest = titles.take(MAX_PARAMETERS).map(Some).collect();
            sink.items.push(Item { title, rest, id, block, is_menu: name == "submenu" });
        }
    }

    /// Sets what grub-editenv has written.
    fn load_env(&mut self, args: &[Value], scope: &mut Scope<'_>) -> Status {
        let mut file = Some("$prefix/grubenv".replace("$prefix", scope.get("prefix").unwrap_or_default()));
        let mut names = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_deref() {
                Some("-f" | "--file") => file = args.next().cloned().flatten(),
                Some(arg) if arg.starts_with("--file=") => file = arg.strip_prefix("--file=").map(str::to_owned),
                Some(arg) if arg.starts_with('-') => {}
                Some(name) => names.push(name),
                None => {}
            }
        }
        if !self.work(LOOK) {
            return Status::Unknown;
        }
        let Some(text) = file.and_then(|file| self.disk.environment(&file, scope.get("root"))) else {
            return Status::No;
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = assignment(line)
                && (names.is_empty() || names.contains(&name))
            {
                scope.set(name, Some(value.to_owned()));
            }
        }
        Status::Yes
    }

    /// Adds what a word stands for: no word, one or several.
    pub(super) fn expand(&mut self, word: &Word<'_>, scope: &Scope<'_>, out: &mut Vec<Value>) {
        let mut current: Option<Value> = word.is_quoted.then(|| Some(String::new()));
        let add = |current: &mut Option<Value>, text: &str| {
            let value = current.get_or_insert_with(|| Some(String::new()));
            match value {
                Some(so_far) if so_far.len().saturating_add(text.len()) <= MAX_WORD => so_far.push_str(text),
                _ => *value = None,
            }
        };
        // What is too long to be kept is work as well.
        self.work(word.raw.len());
        for piece in &word.pieces {
            match piece {
                Piece::Text(text) => add(&mut current, text),
                Piece::Variable { name, is_quoted } => match scope.get(name) {
                    None => current = Some(None),
                    Some(value) if !self.work(value.len()) => {
                        out.push(None);
                        return;
                    }
                    Some(value) if *is_quoted => add(&mut current, value),
                    Some(value) => {
                        for (i, part) in value.split([' ', '\t', '\n']).enumerate() {
                            if i > 0 {
                                out.extend(current.take());
                            }
                            if !part.is_empty() {
                                add(&mut current, part);
                            }
                        }
                    }
                },
            }
        }
        out.extend(current);
    }
}

const SAVED: Piece<'static> = Piece::Variable { name: "saved_entry", is_quoted: true };
const SAVED_BARE: Piece<'static> = Piece::Variable { name: "saved_entry", is_quoted: false };

/// `name=value`, if it is that.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    is_name.then_some((name, value))
}

/// Forgets the variables that a command sets in a way that is not followed here: `--set=NAME`, `--set NAME`, `-s NAME`.
fn set_by_others(args: &[Value], scope: &mut Scope<'_>) {
    for (i, arg) in args.iter().enumerate() {
        let Some(arg) = arg else { continue };
        let name = match arg.as_str() {
            "--set" | "-s" => args.get(i.saturating_add(1)).and_then(Option::as_deref),
            arg => arg.strip_prefix("--set="),
        };
        // Of regexp, the number of a part comes first.
        if let Some(name) = name.and_then(|name| name.rsplit(':').next()) {
            scope.set(name, None);
        }
    }
}
