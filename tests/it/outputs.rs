//! Outputs: what is no regular file stays as it is, what is not whole has no name, what a killed run left goes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Run, build_command, run, sane_image};
use crate::support::mount::MountPoint;
use crate::support::tool::{need, need_root, run as run_tool, tool};
use crate::support::tree::{Contents, Entry};

/// A closure whose populateCmd leaves a trace, so that it shows whether anything was done.
fn traced() -> Closure {
    let populate = "f() { touch \"$SANE_IMAGE_STORE_ROOT/ran\"; }; f";
    ClosureBuilder::new().path("data", Entry::file("x")).spec(move |spec| spec["populateCmd"] = json!(populate)).write()
}

fn with_script(seed: u64, script: &str) -> Closure {
    let script = script.to_owned();
    let contents = Contents::Pattern { seed, len: 3 << 20 };
    ClosureBuilder::new()
        .path("data", Entry::dir([("file", Entry::of(contents))]))
        .spec(move |spec| spec["installBootloader"] = json!(script))
        .write()
}

fn build(closure: &Closure, out: &Path, arguments: &[&str]) -> Command {
    build_command(&closure.spec_path(), closure.root(), out, arguments)
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[track_caller]
fn assert_one_error(run: &Run, words: &[&str]) {
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("sane-image: error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    words.iter().for_each(|word| assert!(errors[0].contains(word), "no {word:?} in {}", errors[0]));
}

/// What stands where an output is to go, and the word for it in the error.
type Obstacle = (&'static str, fn(&Path));

fn obstacles() -> Vec<Obstacle> {
    let mut obstacles: Vec<Obstacle> = vec![
        ("is a directory", |path| fs::create_dir(path).unwrap()),
        ("is a named pipe", |path| drop(run_tool(tool("mkfifo").arg(path)))),
        ("is a socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("is a link to nowhere, which is not there", |path| symlink("nowhere", path).unwrap()),
        ("is a character device", |path| symlink("/dev/null", path).unwrap()),
        ("is a directory", |path| symlink("/", path).unwrap()),
    ];
    if need_root() {
        obstacles.push(("is a block device", |path| drop(run_tool(tool("mknod").arg(path).args(["b", "7", "250"])))));
        obstacles.push(("is a character device", |path| drop(run_tool(tool("mknod").arg(path).args(["c", "1", "3"])))));
    }
    obstacles
}

/// What a path is, whatever it leads to.
fn identity(path: &Path) -> (u64, u32, Option<PathBuf>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.ino(), metadata.mode(), fs::read_link(path).ok())
}

#[test]
fn what_is_no_regular_file_is_refused_before_anything_is_done() {
    let closure = traced();
    for (word, make) in obstacles() {
        for (name, arguments) in
            [("nixos.img", &[][..]), ("layout.json", &[]), ("file", &["--only", "boot"]), ("file", &["--only", "nix"])]
        {
            let dir = TempDir::new().unwrap();
            let place = dir.path().join(name);
            make(&place);
            let before = identity(&place);
            let out = if arguments.is_empty() { dir.path() } else { &place };
            let run = run(&mut build(&closure, out, arguments)).expect_failure(1);
            assert_one_error(&run, &[&format!("{}: {word}", place.display())]);
            assert_eq!(identity(&place), before);
            assert_eq!(names(dir.path()), [name]);
            assert!(!closure.root().join("ran").exists(), "{word}: populateCmd ran");
        }
    }
}

/// Who forgets a disk's name, or misspells it, has flashed nothing.
#[test]
fn a_name_in_dev_that_is_no_device_is_refused() {
    let device = |path: &str| fs::metadata(path).unwrap().dev();
    if device("/dev") == device("/") {
        return;
    }
    let closure = traced();
    let before = names(Path::new("/dev"));
    for (out, arguments) in [("/dev/", &[][..]), ("/dev/no-disk", &[]), ("/dev/no-disk", &["--only", "nix"])] {
        let run = run(&mut build(&closure, Path::new(out), arguments)).expect_failure(1);
        assert_one_error(&run, &[&format!("{out}: there is no such device")]);
        assert_eq!(names(Path::new("/dev")), before);
        assert!(!closure.root().join("ran").exists(), "populateCmd ran");
    }
}

#[test]
fn an_output_directory_that_is_none_is_refused() {
    let closure = traced();
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "mine").unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    let image = Built::new(&ClosureBuilder::new().write(), &[]);
    for (name, word) in [("file", "is a regular file; give the name of a directory"), ("link", "is a link to nowhere")]
    {
        let out = dir.path().join(name);
        let mut extract = sane_image();
        extract.arg("extract").arg(&image.image).args(["nix", "--out"]).arg(&out);
        let mut man = sane_image();
        man.arg("man").arg(&out);
        for command in [&mut build(&closure, &out, &[]), &mut extract, &mut man] {
            assert_one_error(&run(command).expect_failure(1), &[&format!("{}: {word}", out.display())]);
        }
    }
    assert!(!closure.root().join("ran").exists());
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"mine");
    assert_eq!(names(dir.path()), ["file", "link"]);
}

#[test]
fn links_to_files_stay() {
    let closure = traced();
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for name in ["nixos.img", "layout.json", "boot"] {
        fs::write(other.path().join(name), "old").unwrap();
        symlink(other.path().join(name), dir.path().join(name)).unwrap();
    }
    run(&mut build(&closure, dir.path(), &[])).expect_success();
    run(&mut build(&closure, &dir.path().join("boot"), &["--only", "boot"])).expect_success();
    let plain = Built::new(&closure, &[]);
    assert!(fs::read(other.path().join("nixos.img")).unwrap() == fs::read(&plain.image).unwrap());
    assert_eq!(fs::metadata(other.path().join("boot")).unwrap().len(), plain.boot().size);
    assert_eq!(
        serde_json::from_slice::<Value>(&fs::read(other.path().join("layout.json")).unwrap()).unwrap(),
        plain.layout
    );
    for name in ["nixos.img", "layout.json", "boot"] {
        assert!(dir.path().join(name).is_symlink(), "{name}");
    }
    assert_eq!([names(dir.path()), names(other.path())].map(|names| names.len()), [3, 3]);
}

#[test]
fn man_pages_go_over_nothing_special() {
    let dir = TempDir::new().unwrap();
    run_tool(tool("mkfifo").arg(dir.path().join("sane-image-build.1")));
    let refused = run(sane_image().arg("man").arg(dir.path())).expect_failure(1);
    assert_one_error(&refused, &["sane-image-build.1: is a named pipe"]);
    assert_eq!(names(dir.path()), ["sane-image-build.1"]);
}

// ---- the page of inspect

fn inspect(image: &Path, page: &Path) -> Command {
    let mut command = sane_image();
    command.arg("inspect").arg(image).arg("--html").arg(page);
    command
}

#[test]
fn a_page_goes_into_whatever_takes_it() {
    let built = Built::new(&traced(), &[]);
    let page = built.scratch().join("page");
    run(&mut inspect(&built.image, &page)).expect_success();
    let wanted = fs::read_to_string(&page).unwrap();
    assert!(wanted.ends_with("</html>\n"), "{wanted}");
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert_eq!(run(&mut inspect(&built.image, Path::new(name))).expect_success().stdout, wanted, "{name}");
    }
    assert_eq!(run(&mut inspect(&built.image, Path::new("/dev/stderr"))).expect_success().stderr, wanted);
    run(&mut inspect(&built.image, Path::new("/dev/null"))).expect_success();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    // What an open file holds already stays before it, and what follows comes behind.
    let log = built.scratch().join("log");
    fs::write(&log, "first\n").unwrap();
    let out = File::options().append(true).open(&log).unwrap();
    let status = inspect(&built.image, Path::new("/dev/stdout")).arg("--json").stdout(out).status().unwrap();
    assert!(status.success());
    let text = fs::read_to_string(&log).unwrap();
    let rest = text.strip_prefix("first\n").and_then(|text| text.strip_prefix(&wanted)).expect("the page");
    assert!(serde_json::from_str::<Value>(rest).is_ok(), "{rest}");
    let pipe = built.scratch().join("pipe");
    run_tool(tool("mkfifo").arg(&pipe));
    let mut child = inspect(&built.image, &pipe).spawn().unwrap();
    assert_eq!(fs::read_to_string(&pipe).unwrap(), wanted);
    assert!(child.wait().unwrap().success());
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn a_page_goes_over_nothing_else() {
    let built = Built::new(&traced(), &[]);
    for (word, make) in obstacles() {
        // These take it.
        if word.contains("pipe") || word.contains("character") {
            continue;
        }
        let dir = TempDir::new().unwrap();
        let place = dir.path().join("page");
        make(&place);
        let before = identity(&place);
        assert_one_error(&run(&mut inspect(&built.image, &place)).expect_failure(1), &[word]);
        assert_eq!(identity(&place), before);
        // Before the image is even looked for.
        assert_one_error(&run(&mut inspect(Path::new("/nowhere"), &place)).expect_failure(1), &[word]);
    }
    run(sane_image().arg("inspect").arg(&built.image).args(["--json", "--html", "-"])).expect_failure(2);
}

/// A disk that is full, and a page that was there before.
#[test]
fn an_old_page_outlives_a_full_disk() {
    if !need_root() || !need("mount") {
        return;
    }
    let built = Built::new(&traced(), &[]);
    let point = TempDir::new().unwrap();
    let mounted = MountPoint::new(["-t", "tmpfs", "-o", "size=64k", "none"], point.path());
    let page = point.path().join("page");
    fs::write(&page, "old").unwrap();
    fs::write(point.path().join("full"), vec![1; 56 << 10]).unwrap();
    let run = run(&mut inspect(&built.image, &page));
    let (left, old) = (names(point.path()), fs::read(&page).unwrap());
    drop(mounted);
    assert_one_error(&run.expect_failure(1), &["page: cannot be written", "No space left on device"]);
    assert_eq!((left, old), (vec!["full".to_owned(), "page".to_owned()], b"old".to_vec()));
}

// ---- killed half-way

/// Runs a build to the point at which it kills itself, with a place of its own for temporary files.
fn assert_is_killed(closure: &Closure, out: &Path, temporary: &Path) {
    let output = build(closure, out, &[]).env("TMPDIR", temporary).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_is_left_of_a_killed_build_after_the_next() {
    let populate = ClosureBuilder::new()
        .path("data", Entry::file("x"))
        .spec(|spec| spec["populateCmd"] = json!("f() { echo x > kernel; kill -9 $PPID; }; f"))
        .write();
    let rehearsal = with_script(1, "kill -9 $PPID");
    let real = with_script(1, "[ -n \"$SANE_IMAGE_REHEARSAL\" ] || kill -9 $PPID");
    let good = with_script(1, "true");
    for killed in [populate, rehearsal, real] {
        let (dir, temporary) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let out = dir.path().join("out");
        assert_is_killed(&killed, &out, temporary.path());
        assert!(!out.join("nixos.img").exists() && !out.join("layout.json").exists());
        // Ours it is not.
        fs::create_dir(out.join(".sane-image-not-ours")).unwrap();
        run(build(&good, &out, &[]).env("TMPDIR", temporary.path())).expect_success();
        // The boot files of the next build need such a place; it has removed the old one.
        assert_eq!(names(&out), [".sane-image-not-ours", "layout.json", "nixos.img"]);
        let plan = traced();
        let mut command = sane_image();
        command.arg("plan").arg(plan.spec_path()).arg("--store-root").arg(plan.root());
        run(command.env("TMPDIR", temporary.path())).expect_success();
        assert_eq!(names(temporary.path()), [""; 0]);
    }
}

/// While the image has no name, not even a hidden one: nothing is left by a kill where the filesystem can do that.
#[test]
fn a_killed_copy_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    if !can_be_nameless(dir.path()) {
        return;
    }
    let closure = ClosureBuilder::new()
        .path("data", Entry::file("x"))
        .spec(|spec| spec["populateCmd"] = json!("f() { kill -9 $PPID; }; f"))
        .write();
    let temporary = TempDir::new().unwrap();
    assert_is_killed(&closure, dir.path(), temporary.path());
    assert_eq!(names(dir.path()), [""; 0]);
}

fn can_be_nameless(dir: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let made = open(dir, OFlags::TMPFILE | OFlags::RDWR, Mode::from(0o600));
    made.is_ok() || crate::support::skip::skip(crate::support::skip::Lack::other("no O_TMPFILE here"))
}

/// Waits until a file is there.
#[track_caller]
fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(closure: &Closure, out: &Path) -> Child {
    build(closure, out, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn finish(mut child: Child) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
}

/// One build waits in its installer while another comes and goes in the same directory: neither takes the other's files.
#[test]
fn the_files_of_a_living_build_stay() {
    let dir = TempDir::new().unwrap();
    let (out, reached, go) = (dir.path().join("out"), dir.path().join("reached"), dir.path().join("go"));
    let wait = format!(
        "if [ -z \"$SANE_IMAGE_REHEARSAL\" ]; then touch '{}'; until [ -e '{}' ]; do sleep 0.01; done; fi; echo x > $out/extra",
        reached.display(),
        go.display()
    );
    let (slow, quick) = (with_script(1, &wait), with_script(2, "true"));
    let waiting = start(&slow, &out);
    wait_for(&reached);
    run(&mut build(&quick, &out, &[])).expect_success();
    assert!(!out.join("extra").exists());
    fs::write(&go, "").unwrap();
    finish(waiting);
    assert_eq!(names(&out), ["extra", "layout.json", "nixos.img"]);
    assert!(
        fs::read(out.join("nixos.img")).unwrap() == fs::read(Built::new(&with_script(1, "true"), &[]).image).unwrap()
    );
}

#[test]
fn builds_into_one_directory_give_one_whole_image() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("new/out");
    let closures: Vec<_> = (0..2).map(|seed| with_script(seed, "true")).collect();
    let layouts: Vec<_> = closures.iter().map(|closure| Built::new(closure, &[]).layout).collect();
    for _ in 0..3 {
        let children: Vec<_> = closures.iter().chain(&closures).map(|closure| start(closure, &out)).collect();
        children.into_iter().for_each(finish);
        assert_eq!(names(&out), ["layout.json", "nixos.img"]);
        let layout: Value = serde_json::from_slice(&fs::read(out.join("layout.json")).unwrap()).unwrap();
        let winner = layouts.iter().position(|known| *known == layout).expect("one of the two");
        let registration = dir.path().join("registration");
        fs::write(&registration, closures[winner].registration()).unwrap();
        let mut verify = sane_image();
        verify.arg("verify").arg(out.join("nixos.img")).arg("--registration").arg(&registration);
        run(&mut verify).expect_success();
    }
}

// ---- extract

#[test]
fn a_tar_does_not_go_to_a_terminal() {
    if !need("script") {
        return;
    }
    let built = Built::new(&traced(), &[]);
    let command = format!("{} extract {} nix --tar", env!("CARGO_BIN_EXE_sane-image"), built.image.display());
    let output = tool("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("redirect standard output") && !said.contains("ustar"), "{said}");
}

#[test]
fn a_destination_is_named_as_one_of_two() {
    let told = run(sane_image().args(["extract", "nixos.img", "nix"])).expect_failure(2).stderr;
    assert!(told.contains("--out <DIR>") && told.contains("--tar"), "{told}");
}
