//! Man pages, made from the same texts as `--help`.

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};
use roff::{Inline, Roff, bold, italic, roman};

use super::args::{Cli, EXIT_CODES};

/// The day of the last change that a reader of the pages would notice.
const DATE: &str = "2026-11-26";
const SECTION: &str = "1";
/// Bytes in a line of text, before what has to be escaped.
const LINE: usize = 60;
const ENVIRONMENT: &[(&str, &str)] = &[
    ("NO_COLOR", "If set to anything, output to a terminal has no colours."),
    (
        "TMPDIR",
        "The directory for temporary files: boot files before they are written into the image, and the raw image that \
         build --out - needs for a btrfs or an installBootloader. The default is /tmp. vm puts the image that it builds \
         there, and QEMU what the machine writes; for these the default is /var/tmp.",
    ),
    (
        "SANE_IMAGE_FIRMWARE",
        "Directories in which vm looks first for firmware, separated by colons: QEMU's descriptors (*.json), and U-Boot \
         as qemu_arm64/u-boot.bin, qemu_arm/u-boot.bin or qemu-riscv64_smode/u-boot.bin.",
    ),
    (
        "SANE_IMAGE_REHEARSAL",
        "Set for the spec's installBootloader: 1 in the first of its two runs, on an image without the store; empty in \
         the second.",
    ),
];
const FILES: &[(&str, &str)] = &[
    ("DIR/<name>.img", "The image that build makes; the spec gives its name. Other forms have other endings."),
    ("DIR/<name>.img.bmap", "With --bmap, the blocks of it that a device needs, for bmaptool copy."),
    ("DIR/layout.json", "Beside the image: where everything is in it, in bytes."),
    (
        "nix-path-registration",
        "In the image, beside the store or at the root of its filesystem: the store paths that the first boot registers.",
    ),
];

/// Every page: its file name and its text.
pub(super) fn pages() -> Vec<(String, String)> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let names: Vec<_> = program.get_subcommands().map(page_name).collect();
    let mut pages = vec![(format!("{}.{SECTION}", page_name(&program)), program_page(&program, &names))];
    for command in program.get_subcommands() {
        pages.push((format!("{}.{SECTION}", page_name(command)), command_page(command, &program)));
    }
    pages
}

/// `sane-image-build`, of `sane-image build`.
fn page_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
}

fn program_page(program: &Command, names: &[String]) -> String {
    let mut page = start(program);
    section(&mut page, "COMMANDS");
    for (command, name) in program.get_subcommands().zip(names) {
        item(&mut page, [bold(format!("{name}({SECTION})"))], &summary(command));
    }
    options(&mut page, program);
    exit_status(&mut page);
    pairs(&mut page, "ENVIRONMENT", ENVIRONMENT);
    pairs(&mut page, "FILES", FILES);
    see_also(&mut page, names);
    page.to_roff()
}

fn command_page(command: &Command, program: &Command) -> String {
    let mut page = start(command);
    options(&mut page, command);
    exit_status(&mut page);
    examples(&mut page, command);
    see_also(&mut page, &[page_name(program)]);
    page.to_roff()
}

/// What is the same on all pages: title and footer, name, synopsis, description.
fn start(command: &Command) -> Roff {
    let mut page = Roff::new();
    let name = page_name(command);
    let source = format!("sane-image {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name.to_uppercase().as_str(), SECTION, DATE, &source, "User Commands"]);
    section(&mut page, "NAME");
    prose(&mut page, &format!("{name} - {}", summary(command)));
    section(&mut page, "SYNOPSIS");
    page.text(synopsis(command));
    section(&mut page, "DESCRIPTION");
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    paragraphs(&mut page, &about);
    page
}

/// What `command` does, in a line without capital and full stop.
fn summary(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut letters = about.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Required arguments come last: options, then operands.
fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" [...]")]);
        return line;
    }
    let choices = || command.get_groups().filter(|group| group.is_required_set());
    let (required, optional): (Vec<_>, Vec<_>) = named(command).partition(|option| option.is_required_set());
    let is_choice = |option: &Arg| choices().any(|group| group.get_args().any(|id| id == option.get_id()));
    for option in optional.into_iter().filter(|option| option.get_id() != "help" && !is_choice(option)) {
        line.push(roman(" ["));
        line.extend(with_value(long_name(option), option));
        line.push(roman("]"));
    }
    for option in required {
        line.push(roman(" "));
        line.extend(with_value(long_name(option), option));
    }
    for group in choices() {
        let options = named(command).filter(|option| group.get_args().any(|id| id == option.get_id()));
        for (i, option) in options.enumerate() {
            line.push(roman(if i == 0 { " {" } else { " | " }));
            line.extend(with_value(long_name(option), option));
        }
        line.push(roman("}"));
    }
    for operand in operands(command) {
        line.push(roman(" "));
        line.extend(operand_name(operand));
    }
    line
}

fn named(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional() && !argument.is_hide_set())
}

fn operands(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_positionals().filter(|argument| !argument.is_hide_set())
}

fn long_name(option: &Arg) -> Inline {
    match (option.get_long(), option.get_short()) {
        (Some(long), _) => bold(format!("--{long}")),
        (None, short) => bold(format!("-{}", short.unwrap_or_default())),
    }
}

fn with_value(name: Inline, option: &Arg) -> Vec<Inline> {
    let mut words = vec![name];
    if option.get_action().takes_values() {
        words.extend([roman(" "), italic(value_name(option))]);
    }
    words
}

fn value_name(argument: &Arg) -> String {
    argument.get_value_names().map_or_else(|| argument.get_id().to_string().to_uppercase(), |names| names.join(" "))
}

fn operand_name(operand: &Arg) -> Vec<Inline> {
    let name = italic(value_name(operand));
    let more = if matches!(operand.get_action(), ArgAction::Append) { " ..." } else { "" };
    if operand.is_required_set() { vec![name, roman(more)] } else { vec![roman("["), name, roman(format!("{more}]"))] }
}

fn options(page: &mut Roff, command: &Command) {
    section(page, "OPTIONS");
    for operand in operands(command) {
        item(page, [italic(value_name(operand))], &help(operand));
        values(page, operand);
    }
    for option in named(command) {
        let mut name: Vec<_> = option.get_short().map(|short| bold(format!("-{short}"))).into_iter().collect();
        if option.get_short().is_some() && option.get_long().is_some() {
            name.push(roman(", "));
        }
        if let Some(long) = option.get_long() {
            name.push(bold(format!("--{long}")));
        }
        if option.get_action().takes_values() {
            name.extend([roman(" "), italic(value_name(option))]);
        }
        item(page, name, &help(option));
        values(page, option);
    }
}

/// Help is a phrase in `--help`, and a sentence here.
fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if default.is_empty() || !argument.get_action().takes_values() {
        String::new()
    } else {
        format!(" [default: {}]", default.join(", "))
    };
    let end = if help.ends_with(['.', ']']) || !default.is_empty() { "" } else { "." };
    format!("{help}{default}{end}")
}

fn values(page: &mut Roff, argument: &Arg) {
    let values: Vec<PossibleValue> = argument.get_possible_values();
    let told = values.iter().filter(|value| !value.is_hide_set() && value.get_help().is_some());
    if !argument.get_action().takes_values() || values.is_empty() {
        return;
    }
    page.control("RS", []);
    if told.clone().next().is_none() {
        let names: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        page.control("PP", []);
        page.text([roman(format!("One of {}.", names.join(", ")))]);
    }
    for value in told {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        item(page, [bold(value.get_name())], &format!("{help}."));
    }
    page.control("RE", []);
}

fn exit_status(page: &mut Roff) {
    section(page, "EXIT STATUS");
    for line in EXIT_CODES.lines().skip(1) {
        match line.strip_prefix("  ").and_then(|line| line.split_once("  ")) {
            Some((code, meaning)) => item(page, [bold(code)], &format!("{meaning}.")),
            None => {
                page.control("PP", []);
                prose(page, line);
            }
        }
    }
}

/// The examples of `--help`: what one wants, indented by two columns, and commands, by four.
fn examples(page: &mut Roff, command: &Command) {
    let Some(text) = command.get_after_long_help().map(ToString::to_string) else { return };
    section(page, "EXAMPLES");
    for (i, line) in text.lines().skip(1).enumerate() {
        if i > 0 {
            page.control("PP", []);
        }
        match line.strip_prefix("    ") {
            Some(command) => {
                page.control("RS", ["4"]);
                page.control("EX", []);
                page.text([roman(command)]);
                page.control("EE", []);
                page.control("RE", []);
            }
            None => prose(page, line),
        }
    }
}

fn see_also(page: &mut Roff, names: &[String]) {
    section(page, "SEE ALSO");
    let others = ["nix-build", "nix-store"].map(str::to_owned);
    for (i, name) in names.iter().chain(&others).enumerate() {
        let comma = if i == names.len() + others.len() - 1 { "" } else { "," };
        page.text([bold(name), roman(format!("({SECTION}){comma}"))]);
    }
}

fn pairs(page: &mut Roff, title: &str, pairs: &[(&str, &str)]) {
    section(page, title);
    for (name, meaning) in pairs {
        item(page, [bold(*name)], meaning);
    }
}

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn item(page: &mut Roff, name: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []);
    page.text(name);
    prose(page, text);
}

fn paragraphs(page: &mut Roff, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            page.control("PP", []);
        }
        prose(page, paragraph);
    }
}

/// Text in lines as short as `mandoc -Tlint` wants them; what shows a page fills its lines anew.
fn prose(page: &mut Roff, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() > LINE {
            page.text([roman(std::mem::take(&mut line))]);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    page.text([roman(line)]);
}
