//! What goes wrong gives one clear error, the right exit code, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Run, build_command, run, sane_image, with_signals};
use crate::support::mount::MountPoint;
use crate::support::tool::{need, need_root, tool};
use crate::support::tree::{Contents, Entry};

const MIB: u64 = 1 << 20;

/// A closure with one file of 2 MiB, `data/file`, and a populateCmd.
fn closure(populate: &str) -> Closure {
    // The program appends `-c <toplevel> -d .`, which a function swallows.
    let command = format!("f() {{ {populate}\n}}; f");
    builder().spec(move |spec| spec["populateCmd"] = json!(command)).write()
}

/// The closure with a command that runs when all of it is planned, and before it is copied.
fn closure_that_changes(command: &str) -> Closure {
    let script = format!("if [ -n \"$SANE_IMAGE_REHEARSAL\" ]; then {command}; fi");
    builder().spec(move |spec| spec["installBootloader"] = json!(script)).write()
}

fn builder() -> ClosureBuilder {
    let contents = Contents::Pattern { seed: 1, len: 2 * MIB };
    ClosureBuilder::new().path("data", Entry::dir([("file", Entry::of(contents))]))
}

/// Where a build is to put its image: a directory that does not exist yet, in one that is otherwise empty.
struct Out(TempDir);

impl Out {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("a/b")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let left: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Builds, expects this exit code and one error that says all of `words`.
#[track_caller]
fn assert_fails(closure: &Closure, code: i32, words: &[&str]) {
    let out = Out::new();
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out.path(), &[])).expect_failure(code);
    assert_one_error(&run, words);
    out.assert_untouched();
}

#[track_caller]
fn assert_one_error(run: &Run, words: &[&str]) {
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    words.iter().for_each(|word| assert!(errors[0].contains(word), "no {word:?} in {}", errors[0]));
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

fn in_store(closure: &Closure) -> String {
    closure.on_host(&closure.path("data").path).join("file").display().to_string()
}

/// A script that does something to `data/file`, which the store keeps read-only.
fn for_the_file(command: &str) -> String {
    format!("for file in \"$SANE_IMAGE_STORE_ROOT\"/nix/store/*-data/file; do chmod +w \"$file\"; {command}; done")
}

#[test]
fn a_store_file_that_vanishes() {
    let closure = closure_that_changes(&for_the_file("chmod +w \"${file%/*}\"; rm \"$file\""));
    assert_fails(&closure, 1, &[&in_store(&closure), "No such file"]);
}

#[test]
fn a_store_file_that_shrinks() {
    let closure = closure_that_changes(&for_the_file("truncate -s 1M \"$file\""));
    assert_fails(&closure, 1, &[&in_store(&closure), "changed", "1048576"]);
}

#[test]
fn a_store_file_that_grows() {
    let closure = closure_that_changes(&for_the_file("echo more >> \"$file\""));
    assert_fails(&closure, 1, &[&in_store(&closure), "changed"]);
}

#[test]
fn a_store_path_that_is_not_there() {
    let closure = closure("true");
    let path = closure.on_host(&closure.path("data").path);
    // Renamed: what the store holds may not be removed by those who are not root.
    run_ok("mv", &[&path, &path.with_file_name("elsewhere")]);
    assert_fails(&closure, 1, &[&path.display().to_string(), "is not in the store"]);
}

#[test]
fn a_store_path_with_a_named_pipe() {
    let closure = closure("true");
    let path = closure.on_host(&closure.path("data").path);
    run_ok("chmod", &["+w".as_ref(), &path]);
    run_ok("mkfifo", &[&path.join("pipe")]);
    assert_fails(&closure, 1, &["pipe", "is a named pipe"]);
}

#[test]
fn a_populate_command_that_fails() {
    assert_fails(&closure("echo no kernel found >&2; exit 3"), 1, &["populateCmd", "3"]);
}

#[test]
fn a_boot_loader_that_fails() {
    let closure = ClosureBuilder::new()
        .path("data", Entry::file("x"))
        .spec(|spec| spec["installBootloader"] = json!("test -w \"$out/nixos.img\"; exit 7"))
        .write();
    assert_fails(&closure, 1, &["installBootloader", "7"]);
}

/// The classic slip: dd without conv=notrunc cuts the image off behind the boot loader.
#[test]
fn a_boot_loader_that_cuts_the_image_off() {
    let dd = "printf firmware | dd of=\"$out/nixos.img\" bs=1 seek=8192 status=none";
    let closure = ClosureBuilder::new()
        .path("data", Entry::file("x"))
        .spec(move |spec| spec["installBootloader"] = json!(dd))
        .write();
    assert_fails(&closure, 1, &["installBootloader", "8200", "conv=notrunc"]);
}

#[test]
fn boot_files_that_do_not_fit() {
    let closure = closure("truncate -s 100M large; truncate -s 1M small");
    assert_fails(&closure, 2, &["spec.json: /boot: ", "large"]);
}

#[test]
fn every_mistake_of_a_spec_at_once() {
    let closure = ClosureBuilder::new()
        .spec(|spec| {
            spec["sectorSize"] = json!(1000);
            spec["nixFreeSpace"] = json!(-1);
            spec["fileSystems"]["/"]["fsType"] = json!("xfs");
            spec["colour"] = json!("red");
        })
        .write();
    let out = Out::new();
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out.path(), &[])).expect_failure(2);
    for place in ["sectorSize", "nixFreeSpace", "fileSystems.\"/\".fsType", "colour"] {
        let lines: Vec<_> =
            run.stderr.lines().filter(|l| l.starts_with("sane-image: error: ") && l.contains(place)).collect();
        let file = format!("sane-image: error: {}: ", closure.spec_path().display());
        assert!(lines.iter().all(|line| line.starts_with(&file)), "{lines:?}");
        assert!(!lines.is_empty(), "{place}: {}", run.stderr);
    }
    out.assert_untouched();
}

#[test]
fn a_toplevel_outside_the_closure() {
    assert_fails(&ClosureBuilder::new().without_toplevel().write(), 2, &["toplevel", "closure"]);
}

#[test]
fn a_spec_that_is_not_there() {
    let plan = |spec: &Path| run(sane_image().arg("plan").arg(spec)).expect_failure(2);
    let error = |run: &Run| run.stderr.trim_end().strip_prefix("sane-image: error: ").unwrap().to_owned();
    assert_eq!(
        error(&plan("/nowhere/spec.json".as_ref())),
        "/nowhere/spec.json: cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(error(&plan("/".as_ref())), "/: cannot be read: Is a directory (os error 21)");
    let directory = tempfile::tempdir().unwrap();
    let spec = directory.path().join("s.json");
    fs::write(&spec, b"{ \"name\": \"\xff\" }").unwrap();
    assert_eq!(error(&plan(&spec)), format!("{}: is not a spec: from byte 11 on it is not UTF-8", spec.display()));
    fs::write(&spec, "{").unwrap();
    let text = error(&plan(&spec));
    assert!(text.starts_with(&format!("{}: cannot be read: EOF while parsing", spec.display())), "{text}");
}

#[test]
fn a_store_root_that_is_not_there() {
    let closure = closure("true");
    let mut command = sane_image();
    command.arg("plan").arg(closure.spec_path()).args(["--store-root", "/nowhere"]);
    assert_one_error(&run(&mut command).expect_failure(2), &["--store-root /nowhere: "]);
}

/// Each is bad usage, and names the field.
#[test]
fn sizes_that_will_not_do() {
    for (field, size) in [("bootPartSize", 1_u64 << 20), ("bootPartSize", 1 << 40), ("nixFreeSpace", 1 << 60)] {
        let closure =
            ClosureBuilder::new().path("data", Entry::file("x")).spec(move |spec| spec[field] = json!(size)).write();
        assert_fails(&closure, 2, &["spec.json: ", field]);
    }
}

#[test]
fn bad_usage() {
    run(sane_image().arg("build")).expect_failure(2);
    run(sane_image().args(["plan", "x", "--colour"])).expect_failure(2);
}

/// A disk too small for the image: a tmpfs of 1 MiB.
#[test]
fn a_full_disk() {
    if !need_root() || !need("mount") {
        return;
    }
    let closure = closure("true");
    let point = tempfile::tempdir().unwrap();
    let mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=1m", "none"], point.path());
    let out = point.path().join("out");
    let run = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[]));
    let left = fs::read_dir(point.path()).unwrap().count();
    drop(mounted);
    assert_one_error(&run.expect_failure(1), &["No space left on device"]);
    assert_eq!(left, 0);
}

/// Signals, while a command runs that knows nothing of them: in planning, in the rehearsal (which is silent, but for
/// the terminal of whoever asks), and with the whole image written.
#[test]
fn signals() {
    const WAIT: &str = "f() { echo ready; sleep 1000; }; f";
    let rehearsal = "echo ready > /proc/$PPID/fd/2; sleep 1000";
    let real = "if [ -z \"$SANE_IMAGE_REHEARSAL\" ]; then echo ready; sleep 1000; fi";
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        for (field, script) in [("populateCmd", WAIT), ("installBootloader", rehearsal), ("installBootloader", real)] {
            let closure = ClosureBuilder::new()
                .path("data", Entry::file("x"))
                .spec(move |spec| spec[field] = json!(script))
                .write();
            assert_dies_cleanly(&closure, signal);
        }
    }
}

fn assert_dies_cleanly(closure: &Closure, signal: rustix::process::Signal) {
    let out = Out::new();
    let command = build_command(&closure.spec_path(), closure.root(), &out.path(), &[]);
    let mut command = with_signals(&command, "--default-signal=INT,TERM");
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "ready"), "the command never ran");
    let started = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, signal).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?} to stop", started.elapsed());
    let errors: Vec<_> = lines.filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    out.assert_untouched();
}

fn run_ok(name: &str, arguments: &[&Path]) {
    crate::support::tool::run(tool(name).args(arguments));
}
