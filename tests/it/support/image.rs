//! Runs the real program and finds its way about what comes out.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::closure::Closure;
use super::tool::tool;

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// # Panics
    /// Unless the program succeeded.
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.status.success(), "sane-image: {}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// # Panics
    /// Unless the program failed with this exit code.
    pub(crate) fn expect_failure(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "sane-image: {}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// The program, ready for arguments, with stdin closed.
pub(crate) fn sane_image() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sane-image"));
    command.stdin(Stdio::null());
    command
}

/// The same command, whose signals are as this option of `env` says. A shell's job in the background has some ignored,
/// and so has what it starts: what is sent signals is started with `--default-signal`.
pub(crate) fn with_signals(command: &Command, option: &str) -> Command {
    let mut env = tool("env");
    env.arg(option).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    env
}

/// Runs the program to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// `sane-image build SPEC --out OUT --store-root ROOT ARGUMENTS`, not yet started.
pub(crate) fn build_command(spec: &Path, root: &Path, out: &Path, arguments: &[&str]) -> Command {
    let mut command = sane_image();
    let paths: [&OsStr; 6] =
        ["build".as_ref(), spec.as_ref(), "--out".as_ref(), out.as_ref(), "--store-root".as_ref(), root.as_ref()];
    command.args(paths).args(arguments);
    command
}

/// A part of an image. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// What `build` made, removed when dropped.
pub(crate) struct Built {
    pub(crate) image: PathBuf,
    /// layout.json.
    pub(crate) layout: Value,
    pub(crate) run: Run,
    dir: TempDir,
}

impl Built {
    /// Builds the image of `closure`.
    ///
    /// # Panics
    /// If the program fails.
    pub(crate) fn new(closure: &Closure, arguments: &[&str]) -> Self {
        Self::from_spec(&closure.spec_path(), closure.root(), arguments)
    }

    /// Builds the image of a spec, with `root` for `/`.
    ///
    /// # Panics
    /// If the program fails.
    pub(crate) fn from_spec(spec: &Path, root: &Path, arguments: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("image-").tempdir().unwrap();
        let out = dir.path().join("out");
        let run = run(&mut build_command(spec, root, &out, arguments)).expect_success();
        let parse = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let name = parse(spec)["name"].as_str().unwrap_or("nixos").to_owned();
        let layout = parse(&out.join("layout.json"));
        Self { image: out.join(format!("{name}.img")), layout, run, dir }
    }

    /// A directory that lives as long as the image.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The ESP.
    pub(crate) fn boot(&self) -> Partition {
        self.partition("boot")
    }

    /// The partition with the store.
    pub(crate) fn nix(&self) -> Partition {
        self.partition("nix")
    }

    /// The first partition with this role.
    pub(crate) fn partition(&self, role: &str) -> Partition {
        let partitions = self.layout["partitions"].as_array().expect("layout.json lists partitions");
        let found = partitions.iter().find(|partition| partition["role"] == role);
        let found = found.unwrap_or_else(|| panic!("layout.json has no partition of role {role}: {}", self.layout));
        let number = |key: &str| found[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {found}"));
        Partition { number: number("number"), offset: number("offset"), size: number("size") }
    }
}
