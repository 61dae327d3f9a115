//! Threads: never more than there is use for, and fewer, down to none but the first, where no more can be had.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Run, build_command, run, sane_image, with_signals};
use crate::support::tool::{need, need_root, tool};
use crate::support::tree::{Contents, Entry};

/// A closure with many paths, each of them some work.
fn closure(paths: u64, options: &'static [&'static str]) -> Closure {
    let tree = |seed| Entry::dir([("file", Entry::of(Contents::Pattern { seed, len: 20_000 }))]);
    let builder = (0..paths).fold(ClosureBuilder::new(), |builder, n| builder.path(&format!("p{n}"), tree(n)));
    builder
        .spec(move |spec| {
            if !options.is_empty() {
                spec["fileSystems"]["/"]["fsType"] = "btrfs".into();
                spec["fileSystems"]["/"]["options"] = options.into();
            }
        })
        .write()
}

/// Whether a thread is one that has been waited for, and that the kernel is about to forget. Source: proc_pid_stat(5),
/// `flags`, and PF_EXITING in the kernel's `include/linux/sched.h`.
fn is_ending(stat: &str) -> bool {
    const EXITING: u32 = 0x4;
    // After the name in parentheses, which may hold anything: the state is the first field, the flags are the seventh.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

/// The most threads that a command had at once, as far as was seen.
fn most_threads(command: &mut Command) -> usize {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let running = |task: &PathBuf| fs::read_to_string(task.join("stat")).is_ok_and(|stat| !is_ending(&stat));
        let tasks = fs::read_dir(&tasks).into_iter().flatten().filter_map(|task| Some(task.ok()?.path()));
        most = most.max(tasks.filter(running).count());
    }
    assert!(child.wait().unwrap().success());
    most
}

#[test]
fn no_more_threads_than_sense() {
    let closure = closure(600, &[]);
    let built = Built::new(&closure, &[]);
    let cores = std::thread::available_parallelism().unwrap().get();
    for jobs in ["1000", "70000", "18446744073709551615"] {
        let out = built.scratch().join("many");
        let mut verify = sane_image();
        verify.arg("verify").arg(&built.image).args(["--jobs", jobs]);
        let mut diff = sane_image();
        diff.arg("diff").args([&built.image, &built.image]).args(["--files", "--jobs", jobs]);
        for command in
            [&mut build_command(&closure.spec_path(), closure.root(), &out, &["--jobs", jobs]), &mut verify, &mut diff]
        {
            let most = most_threads(command);
            // One more writes metadata beside those that copy.
            assert!((1..=4 * cores + 1).contains(&most), "{command:?}: {most} threads");
        }
        assert!(fs::read(out.join("nixos.img")).unwrap() == fs::read(&built.image).unwrap());
    }
}

#[test]
fn jobs_say_what_is_allowed() {
    for jobs in ["0", "-1", "x", "18446744073709551616"] {
        let told = run(sane_image().args(["verify", "x", &format!("--jobs={jobs}")])).expect_failure(2).stderr;
        assert!(told.contains("'--jobs <N>'") && told.contains("a number, at least 1"), "{told}");
    }
}

#[test]
fn a_signal_ends_many_jobs_soon() {
    let closure = closure(600, &[]);
    let built = Built::new(&closure, &[]);
    let mut verify = sane_image();
    verify.arg("verify").arg(&built.image).args(["--jobs", "70000"]);
    let mut verify = with_signals(&verify, "--default-signal=TERM");
    let mut child = verify.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    // It may have been done before.
    assert!(status.signal() == Some(15) || status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
}

/// A user who can have one thread and no more.
struct Poor {
    dir: tempfile::TempDir,
    /// Nobody else's, so that nobody else's processes count.
    uid: u32,
}

impl Poor {
    fn new() -> Option<Self> {
        if !need_root() || !need("prlimit") || !need("setpriv") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // Where others can reach it.
        let binary = dir.path().join("sane-image");
        fs::copy(env!("CARGO_BIN_EXE_sane-image"), &binary).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self { dir, uid: 1_000_000 + std::process::id() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = tool("prlimit");
        command.args(["--nproc=1", "setpriv", "--clear-groups"]);
        command.args([format!("--reuid={}", self.uid), format!("--regid={}", self.uid)]);
        command.arg(self.path("sane-image")).stdin(Stdio::null()).env("TMPDIR", self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments))
    }
}

/// Lets everybody read a closure or an image.
fn open_to_all(path: &Path) {
    crate::support::tool::run(tool("chmod").args(["-R", "a+rX"]).arg(path));
}

#[test]
fn every_command_does_without_threads() {
    let Some(poor) = Poor::new() else { return };
    // It is as poor as it should be: sh cannot start a process.
    let poverty = poor.command().get_args().take(5).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert!(!tool("prlimit").args(poverty).args(["sh", "-c", "true | true"]).output().unwrap().status.success());
    for options in [&[][..], &["subvol=@"], &["subvol=@", "compress=zstd:1"]] {
        let closure = closure(40, options);
        open_to_all(closure.root());
        let built = Built::new(&closure, &[]);
        let out = poor.path(if options.is_empty() { "ext4" } else { options.last().unwrap() });
        let (spec, root) = (closure.spec_path(), closure.root().to_str().unwrap().to_owned());
        let (spec, out) = (spec.to_str().unwrap(), out.to_str().unwrap());
        let image = format!("{out}/nixos.img");
        let path = &closure.path("p0").path;
        let file = format!("{path}/file");
        poor.run(&["build", spec, "--store-root", &root, "--out", out, "--verify", "--jobs", "7"]).expect_success();
        assert!(fs::read(&image).unwrap() == fs::read(&built.image).unwrap(), "{options:?}");
        for arguments in [
            &["plan", spec, "--store-root", &root][..],
            &["inspect", &image],
            &["ls", "-lR", &image, "nix"],
            &["cat", &image, "nix", &file],
            &["extract", &image, "nix", path, "--out", &format!("{out}/files")],
            &["verify", &image, "--jobs", "9"],
            &["diff", "--files", &image, &image],
            &["completions", "bash"],
            &["man", &format!("{out}/man")],
        ] {
            poor.run(arguments).expect_success();
        }
        let tar = poor.command().args(["extract", &image, "nix", "--tar"]).output().unwrap();
        assert!(tar.status.success());
    }
}

/// The bar of a terminal has a thread of its own.
#[test]
fn a_bar_does_without_threads() {
    let Some(poor) = Poor::new() else { return };
    if !need("script") {
        return;
    }
    let built = Built::new(&closure(3, &[]), &[]);
    open_to_all(built.scratch());
    let mut words = vec!["prlimit".to_owned()];
    words.extend(poor.command().get_args().map(|word| word.to_str().unwrap().to_owned()));
    words.extend(["verify".to_owned(), built.image.to_str().unwrap().to_owned()]);
    let output = tool("script").args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("right: GPT"), "{said}");
}

/// What needs a process says so.
#[test]
fn a_command_that_cannot_start_is_told() {
    let Some(poor) = Poor::new() else { return };
    let closure = ClosureBuilder::new().spec(|spec| spec["populateCmd"] = "f() { true; }; f".into()).write();
    open_to_all(closure.root());
    let (spec, root) = (closure.spec_path(), closure.root().to_str().unwrap().to_owned());
    let run = poor.run(&["plan", spec.to_str().unwrap(), "--store-root", &root]).expect_failure(1);
    assert!(run.stderr.contains("populateCmd") && run.stderr.contains("ulimit -u"), "{}", run.stderr);
}
