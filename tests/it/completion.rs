//! What Tab gives in real shells, at a real terminal.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::closure::ClosureBuilder;
use crate::support::image::{Built, run, sane_image};
use crate::support::tool::{need, tool};
use serde_json::json;

const PROMPT: &str = "READY>";
/// What makes a shell print the words of its line, as it would give them to a command.
const TO_START_OF_LINE: &str = "\x01";
/// A shell that says nothing for so long will not say anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shell that waits for keys.
struct Terminal {
    shell: Child,
    keys: ChildStdin,
    output: Receiver<Vec<u8>>,
}

impl Terminal {
    /// Starts a shell in `directory` with our completion, or says that there is none.
    fn new(shell: &str, directory: &Path) -> Option<Self> {
        if !need("script") || !need(shell) {
            return None;
        }
        let script = directory.join(format!("completion.{shell}"));
        fs::write(&script, run(sane_image().args(["completions", shell])).expect_success().stdout).unwrap();
        let script = script.display();
        let start = match shell {
            "bash" => {
                let startup = directory.join("startup.bash");
                fs::write(&startup, format!("PS1='{PROMPT}'; bind 'set enable-bracketed-paste off'; . {script}"))
                    .unwrap();
                format!("bash --noprofile --rcfile {} -i", startup.display())
            }
            "zsh" => {
                let startup =
                    "PS1='READY>'; unset zle_bracketed_paste; bindkey -e; autoload -U compinit; compinit -u -D";
                fs::write(directory.join(".zshrc"), format!("{startup}; . {script}")).unwrap();
                "zsh -d -i".to_owned()
            }
            "fish" => {
                let prompt = format!("function fish_prompt; echo -n '{PROMPT}'; end; function fish_greeting; end");
                format!("fish --no-config -i -C \"{prompt}; source {script}\"")
            }
            _ => unreachable!(),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_sane-image")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut command = tool("script");
        command.args(["-qec", &format!("stty cols 500 rows 50; exec {start}"), "/dev/null"]).current_dir(directory);
        command.env("PATH", path).env("TERM", "xterm").env("HOME", directory).env("ZDOTDIR", directory);
        Some(Self::start(&mut command))
    }

    fn start(command: &mut Command) -> Self {
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keys = shell.stdin.take().unwrap();
        let mut stdout = shell.stdout.take().unwrap();
        let (send, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut bytes) {
                if send.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self { shell, keys, output };
        terminal.read_until(|said| said.contains(PROMPT));
        terminal
    }

    /// What the shell says until it `is_enough`.
    fn read_until(&mut self, is_enough: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&said).replace('\r', "");
            if is_enough(&text) {
                return text;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => said.extend(bytes),
                Err(_) => panic!("the shell says no more than {text:?}"),
            }
        }
    }

    /// The words of the line after `typed` and a Tab.
    fn complete(&mut self, typed: &str) -> Vec<String> {
        let keys = format!("{typed}\t{TO_START_OF_LINE}printf '\\n<%s>\\n' \x05 END\r");
        self.keys.write_all(keys.as_bytes()).unwrap();
        let said = self.read_until(|said| said.contains("\n<END>\n"));
        let words = said.split('\n').filter_map(|line| line.strip_prefix('<')?.strip_suffix('>'));
        words.filter(|word| *word != "END").map(str::to_owned).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A directory with an image under names that shells have to quote.
fn directory() -> (TempDir, PathBuf) {
    let boot = "f() { mkdir -p extlinux; echo 'DEFAULT x' > extlinux/extlinux.conf; }; f";
    let closure = ClosureBuilder::new().spec(move |spec| spec["populateCmd"] = json!(boot)).write();
    let built = Built::new(&closure, &[]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["nixos.img", "My Image.img", "usb-0:0-part.img"] {
        fs::copy(&built.image, dir.path().join(name)).unwrap();
    }
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn tab_completes_in(shell: &str) {
    let (_dir, path) = directory();
    let Some(mut terminal) = Terminal::new(shell, &path) else { return };
    for (typed, completed) in [
        ("sane-image insp", &["sane-image", "inspect"][..]),
        ("sane-image build --store-r", &["sane-image", "build", "--store-root"]),
        ("sane-image build --io di", &["sane-image", "build", "--io", "direct"]),
        ("sane-image inspect nix", &["sane-image", "inspect", "nixos.img"]),
        ("sane-image inspect My", &["sane-image", "inspect", "My Image.img"]),
        ("sane-image inspect usb", &["sane-image", "inspect", "usb-0:0-part.img"]),
        ("sane-image sign nixos.img --cert", &["sane-image", "sign", "nixos.img", "--certificate"]),
        ("sane-image sign nixos.img --key My", &["sane-image", "sign", "nixos.img", "--key", "My Image.img"]),
        ("sane-image ls nixos.img n", &["sane-image", "ls", "nixos.img", "nix"]),
        ("sane-image ls -l My\\ Image.img b", &["sane-image", "ls", "-l", "My Image.img", "boot"]),
        ("sane-image ls usb-0:0-part.img b", &["sane-image", "ls", "usb-0:0-part.img", "boot"]),
        ("sane-image cat nixos.img boot ext", &["sane-image", "cat", "nixos.img", "boot", "extlinux/"]),
        (
            "sane-image cat nixos.img boot extlinux/e",
            &["sane-image", "cat", "nixos.img", "boot", "extlinux/extlinux.conf"],
        ),
        (
            "sane-image extract --out x nixos.img nix nix-path-r",
            &["sane-image", "extract", "--out", "x", "nixos.img", "nix", "nix-path-registration"],
        ),
    ] {
        assert_eq!(terminal.complete(typed), completed, "{shell}: {typed}");
    }
    // What nobody could mean stays as it is.
    assert_eq!(terminal.complete("sane-image ls nothing.img q"), ["sane-image", "ls", "nothing.img", "q"]);
}

#[test]
fn tab_completes_in_bash() {
    tab_completes_in("bash");
}

#[test]
fn tab_completes_in_zsh() {
    tab_completes_in("zsh");
}

#[test]
fn tab_completes_in_fish() {
    tab_completes_in("fish");
}
