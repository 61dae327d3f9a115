//! What tests leave out for want of something of the machine: one line, when the program that holds the tests ends.
//!
//! The unit tests have this file, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// What the machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// The rights of root.
    Root,
    /// The name of a program.
    Program(String),
    /// A part of the kernel, which a container or a small virtual machine has from others.
    Kernel(String),
    /// What no package registry of .ci/run has.
    Unpackaged(String),
    /// A sentence about anything else.
    Other(String),
}

impl Lack {
    pub(crate) fn program(name: &str) -> Self {
        Self::Program(name.to_owned())
    }

    pub(crate) fn other(sentence: &str) -> Self {
        Self::Other(sentence.to_owned())
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => write!(f, "not root"),
            Self::Program(name) => write!(f, "{name} not installed"),
            Self::Kernel(part) => write!(f, "{part} not in the kernel"),
            Self::Unpackaged(what) => write!(f, "{what} not here, and in no package"),
            Self::Other(sentence) => write!(f, "{sentence}"),
        }
    }
}

/// The names of the tests that lack something.
pub(crate) type Skipped = BTreeMap<Lack, BTreeSet<String>>;

static SKIPPED: Mutex<Skipped> = Mutex::new(BTreeMap::new());

/// Notes that the running test skips what it would do with this; always false.
///
/// # Panics
/// If SANE_IMAGE_REQUIRE_ORACLES=1, unless nobody can install it: a part of the kernel, or what is in no package.
pub(crate) fn skip(lack: Lack) -> bool {
    let is_installable = !matches!(lack, Lack::Kernel(_) | Lack::Unpackaged(_));
    let required = is_installable && std::env::var_os("SANE_IMAGE_REQUIRE_ORACLES").is_some_and(|value| value == "1");
    assert!(!required, "{lack}, and SANE_IMAGE_REQUIRE_ORACLES=1");
    println!("skipped in part: {lack}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).entry(lack).or_default().insert(test);
    false
}

/// What is said of the tests that skipped something, or nothing if none did.
pub(crate) fn summary(skipped: &Skipped) -> Option<String> {
    let tests: BTreeSet<_> = skipped.values().flatten().collect();
    let counts = |of: fn(&Lack) -> bool| {
        let these = skipped.iter().filter(|(lack, _)| of(lack));
        let counts = these.map(|(lack, tests)| match lack {
            Lack::Root => format!("{}", tests.len()),
            Lack::Program(what) | Lack::Kernel(what) | Lack::Unpackaged(what) | Lack::Other(what) => {
                format!("{what} ({})", tests.len())
            }
        });
        counts.collect::<Vec<_>>().join(", ")
    };
    let parts = [
        ("Not root: ", counts(|lack| matches!(lack, Lack::Root))),
        ("Not installed: ", counts(|lack| matches!(lack, Lack::Program(_)))),
        ("Not in the kernel: ", counts(|lack| matches!(lack, Lack::Kernel(_)))),
        ("In no package: ", counts(|lack| matches!(lack, Lack::Unpackaged(_)))),
        ("Else: ", counts(|lack| matches!(lack, Lack::Other(_)))),
    ];
    let parts = parts.iter().filter(|(_, counts)| !counts.is_empty());
    let parts = parts.map(|(title, counts)| format!(" {title}{counts}.")).collect::<String>();
    let plural = if tests.len() == 1 { "" } else { "s" };
    let said = format!("SKIPPED in part or whole: {} test{plural}.{parts} -- --show-output names them.", tests.len());
    (!tests.is_empty()).then_some(said)
}

/// After the harness has said its last word.
#[dtor::dtor(unsafe)]
fn tell() {
    if let Some(summary) = summary(&SKIPPED.lock().unwrap_or_else(PoisonError::into_inner)) {
        writeln!(std::io::stderr(), "{summary}").ok();
    }
}
